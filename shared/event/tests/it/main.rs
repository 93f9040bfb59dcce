//! The contract at its boundary: committed schemas, examples, decoding, derivation, encoding.

mod canonical;
mod decode;
mod never_panics;
mod schemas;

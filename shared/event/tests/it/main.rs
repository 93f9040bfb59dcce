//! The contract at its boundary: committed schemas, examples, decoding, derivation, encoding.

mod batch;
mod canonical;
mod decode;
mod glimpse;
mod limits;
mod never_panics;
mod schemas;
mod sources;

//! The client against servers that behave as badly as real ones, byte by byte.

#![allow(clippy::unwrap_used)]

mod calls;
mod guards;
mod lent;
mod partner;

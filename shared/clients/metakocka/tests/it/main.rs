//! The client against Metakocka's simulator in every reading of its contract, and against single odd answers.

#![allow(clippy::unwrap_used)]

mod answers;
mod citations;
#[path = "../../../../outbound/tests/it/lent.rs"]
mod lent;
mod readings;
mod setup;
mod writes;

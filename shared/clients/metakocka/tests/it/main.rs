//! The client against Metakocka's simulator in every reading of its contract, and against single odd answers.

#![allow(clippy::unwrap_used)]

mod answers;
mod citations;
mod readings;
mod setup;
mod writes;

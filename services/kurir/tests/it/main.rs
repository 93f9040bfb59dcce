//! The binary as a person and as a script use it, and the rules of the house that only a look at the whole shows.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod cli;
mod config;
mod edges;
mod fleet;
mod roles;
mod run;
mod stories;

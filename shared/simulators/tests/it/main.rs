//! The Metakocka simulator against its contract: the examples, every reading, every fault on the wire, state and control.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod control;
mod desk;
mod examples;
mod faults;
mod late;
mod people;
mod readings;
mod readme;
mod refusals;
mod state;

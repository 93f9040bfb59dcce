//! The Metakocka simulator against its contract: the examples, every reading, every fault on the wire, state and control. What all
//! simulators have in common is shown with an invented system, too (`neutral`).

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod caller;
mod control;
mod examples;
mod faults;
mod late;
mod neutral;
mod notebook;
mod people;
mod readings;
mod readme;
mod refusals;
mod state;

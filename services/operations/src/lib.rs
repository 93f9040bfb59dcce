//! What people do with a fleet, as typed results: records and their histories in words, conflicts and what helps, held
//! events, dead letters with their advice, connection tests, and what a doctor finds. Whoever shows it (command line, API,
//! console) renders the results.
//! Knows no way to show anything, and neither AMQP nor HTTP: what only these can tell is found by the caller.
//! The surprising part: advice names commands of `kurir`. They are the words in which all of Kurir says what to do next.

mod awaited;
pub mod conflicts;
pub mod connections;
pub mod dead_letters;
pub mod doctor;
pub mod held;
pub mod history;
pub mod links;
pub mod waiting;

mod failed;
mod words;

pub use failed::{Failed, Kind};
pub use words::{at, count, render_detail};

/// What an operation answers.
pub type Done<T = ()> = Result<T, Failed>;

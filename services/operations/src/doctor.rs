//! What a doctor finds with the database and the partner systems. Changes nothing, and no finding holds a secret. What only
//! the broker or another process can tell is found by the caller, in the same form.

pub mod clock;
pub mod credentials;
pub mod database;
pub mod held;
pub mod partners;

mod finding;

pub use finding::{Finding, Subject, Verdict, listed, summary};

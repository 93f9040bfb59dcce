//! Carries contacts of the CRM to Metakocka: what a contact means there, how a partner is found again, and one handling
//! from the grant to its end. Knows Metakocka through its client and the record's story through the link engine;
//! deliberately knows no AMQP and no SQL, and nothing of how its process is put together.
//!
//! The surprising part: one mapping serves two directions. What an event wants and what a partner shows become the same
//! normalised text (`contact`, `record`), so that "is it there?" is an equality; a lost answer, a repeat and an adopted
//! partner are all decided by it.

mod accounts;
mod connection_test;
mod contact;
mod failure;
mod handler;
mod keys;
mod parts;
mod planner;
mod record;
mod sending;
mod settings;
mod target;

pub use connection_test::{TestError, Tested, connection_test};
pub use contact::content;
pub use handler::{CONSUMES, Deps, MetakockaSync, NAME, SYSTEM};
pub use planner::ContactPlanner;
pub use record::View;
pub use settings::{People, Settings};
pub use target::{LOOKUPS, LOOKUPS_WITH_NAME, PartnerTarget};

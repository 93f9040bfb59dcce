//! Carries contacts of the CRM to Metakocka: what a contact means there and how a partner is found again. Knows Metakocka
//! through its client; deliberately knows no AMQP and no SQL, and nothing of how a handling runs or how its process is
//! put together (`sync::LinkWorker` and the registry do).
//!
//! The surprising part: one mapping serves two directions. What an event wants and what a partner shows become the same
//! normalised text (`contact/content`, `contact/record`), so that "is it there?" is an equality; a lost answer, a repeat
//! and an adopted partner are all decided by it.

mod account;
mod connection_test;
mod contact;
mod failure;
mod planner;
mod registration;
mod settings;

pub use contact::{LOOKUPS, LOOKUPS_WITH_NAME, PartnerTarget, View, content};
pub use planner::MetakockaSync;
pub use registration::{METAKOCKA, WORKER};
pub use settings::Settings;

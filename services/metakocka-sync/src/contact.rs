//! Contacts of the CRM as business partners: what an event wants (`content`), what a partner shows (`record`), by what it
//! is found again (`keys`), and the calls (`target`, `sending`).

mod content;
mod keys;
mod parts;
mod record;
mod sending;
mod target;

pub use content::content;
pub use record::View;
pub use target::{LOOKUPS, LOOKUPS_WITH_NAME, PartnerTarget};

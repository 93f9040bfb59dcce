//! Metakocka's HTTP API as typed calls: its paths, its value encodings, what its errors mean, how a partner is found
//! again by what identifies it. Doesn't know events, links or when to call what. Sections named in the docs are those
//! of docs/partners/metakocka.md, and so are those that comments cite.
//!
//! The surprising part: Metakocka answers 200 to nearly everything and says nothing on success of partner calls, so a
//! write counts as done only when its expected payload is there. Every other answer to a write that isn't a listed
//! refusal is [`Error::Ambiguous`]: it may have been stored, now or up to the settle time later.

mod client;
mod decode;
mod envelope;
mod error;
mod key;
mod number;
pub mod official_number;
mod operation;
mod partner;
mod tax;
mod write;

pub use client::{
    DEVELOPMENT_ROOT, Metakocka, PAGE, PAGES_LIMIT, PRODUCTION_ROOT, SYSTEM, Settings, Settle,
};
pub use error::{Code, Doubt, Error, Stored};
pub use key::{Filter, FilterText, PartnerKey};
pub use number::{Marks, parse as parse_number};
pub use operation::Operation;
pub use partner::{AddedAddress, AddedPartner, Address, AddressKind, Contact, MkId, Partner};
pub use tax::{Compared, TAX_SPELLINGS, TaxNumber};
pub use write::{
    AddressFields, ContactFields, MainAddress, MainFields, NewPartner, PartnerUpdate, length,
};

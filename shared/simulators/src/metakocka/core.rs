//! One Metakocka company in memory: state and calls, no I/O. Time is an argument, so a schedule simulation can use it as it is.
//!
//! A call has two halves: [`Company::admit`] (credentials, address, quota, strict check) and [`Company::execute`]. Keeping them
//! apart is what lets a commit happen long after its caller has given up: [`Company::schedule`] puts the second half off.

mod add_partner;
mod call;
mod company;
mod encode;
mod get_partner;
mod halves;
mod index;
mod operator_actions;
mod partner;
mod readings;
mod reply;
mod request;
mod update_partner;

pub use self::call::Call;
pub use self::company::{Company, CompanyOptions, CompanyState, Finished, Quota, Violation};
pub use self::halves::MAX_SCHEDULED;
pub(crate) use self::halves::{ip_not_allowed, quota_exceeded, wrong_credentials};
pub use self::operator_actions::{PartnerEdit, PersonAddress, PersonContact};
pub use self::partner::{
    Address, AddressType, Contact, MAX_ENTRIES_PER_PARTNER, MAX_PARTNERS, MkId, Partner,
};
pub use self::readings::{
    ChangedInIndex, Clearing, Code1OnWrite, DeletedInIndex, EmptyAddress, EmptyFilter, Extent,
    KeptForm, Lane, Matching, Native, OverLong, PartnerListCount, PastEnd, ProvinceKey,
    QuotaAnswer, ReadById, Readings, SeveralFilters, TopLevelAddress, UpdateAnswer,
};
pub use self::reply::{Body, Reply, Seen};
pub(crate) use self::request::Ordered;
pub use self::request::{Request, Ticket};

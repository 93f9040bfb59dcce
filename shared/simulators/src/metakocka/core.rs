//! One Metakocka company in memory: state and calls, no I/O. Time is an argument, so a schedule simulation can use it as it is.
//!
//! A call has two halves: [`Company::admit`] (credentials, address, quota, strict check) and [`Company::execute`]. Keeping them
//! apart is what lets a commit happen long after its caller has given up: [`Company::schedule`] puts the second half off.

mod add_partner;
mod back_office;
mod call;
mod company;
mod encode;
mod get_partner;
mod index;
mod partner;
mod readings;
mod reply;
mod request;
mod update_partner;

pub use self::back_office::{PartnerEdit, PersonAddress, PersonContact};
pub use self::call::Call;
pub use self::company::{Company, CompanyOptions, CompanyState, Finished, Quota, Violation};
pub(crate) use self::company::{ip_not_allowed, quota_exceeded, wrong_credentials};
pub use self::partner::{Address, AddressType, Contact, MkId, Partner};
pub use self::readings::{
    ChangedInIndex, Clearing, Code1OnWrite, DeletedInIndex, EmptyAddress, EmptyFilter, Extent,
    KeptForm, Lane, Matching, Native, OverLong, PartnerListCount, PastEnd, ProvinceKey,
    QuotaAnswer, ReadById, Readings, SeveralFilters, TopLevelAddress, UpdateAnswer,
};
pub use self::reply::{Body, Reply, Seen};
pub(crate) use self::request::Ordered;
pub use self::request::{Request, Ticket};

/// Most partners of one company; one more is refused by the simulator with code 6.
pub const MAX_PARTNERS: usize = 200_000;
/// Most contacts, and most addresses, of one partner.
pub const MAX_ENTRIES_PER_PARTNER: usize = 1_000;
/// Most writes of one company that may wait for their time ([`Company::schedule`]).
pub const MAX_SCHEDULED: usize = 10_000;

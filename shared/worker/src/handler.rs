//! A capability as the consumer loop sees it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;

use crate::delivery::Job;
use crate::facets::Facets;
use crate::failure::Failure;
use crate::outcome::AckReason;
use crate::policy::RetryPolicy;

/// Why an event must come back although nothing failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitCause {
    /// Another worker has the link's lease.
    Lease,
    /// An effect whose outcome is open may still commit.
    Settle,
    /// A look at the partner may not show yet what was written.
    Lag,
    /// A record that the content names moved at the partner while we worked.
    Reference,
    /// Ours was taken while we worked.
    TokenLost,
    /// Too much of the send window or of the handler's deadline is gone.
    TooLate,
    /// Claimed only alone in its process, and that is not possible now.
    Exclusive,
    /// The partner's in-process limits.
    Limited,
    /// The database did not answer; what was called is in the effect row.
    Store,
}

impl WaitCause {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lease => "another worker holds the record's lease",
            Self::Settle => "an earlier call may still take effect at the partner",
            Self::Lag => "the partner does not show the record now; its look-ups may lag",
            Self::Reference => "a record that it names has become another one at the partner",
            Self::TokenLost => "the record's lease was taken meanwhile",
            Self::TooLate => "too little time left for the call",
            Self::Exclusive => "must run alone in its process",
            Self::Limited => "the partner's limits leave no room now",
            Self::Store => "the database did not answer",
        }
    }
}

/// The event is finished, for this reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done(pub AckReason);

/// What a handler says when nothing failed.
#[derive(Clone, Debug, PartialEq)]
pub enum Handled {
    Done(Done),
    /// Comes back when the cause can be gone; counts as no attempt.
    Wait {
        until: DateTime<Utc>,
        cause: WaitCause,
    },
}

/// One capability: a list of event types and what to do with a claimed event.
///
/// `handle` may be dropped at any await (deadline, drain): what it leaves behind is a lease that expires.
pub trait Handler: Send + Sync + 'static {
    /// What a claim grants: the state that handling starts from.
    type Grant: Send + 'static;

    /// Also the queue's name: `kurir.<name>`. Never reused for something else.
    fn name(&self) -> &'static str;

    /// Event types routed to it.
    fn consumes(&self) -> &'static [event::EventType];

    /// What it makes of them.
    fn facets(&self) -> Facets {
        Facets::ENTITY
    }

    /// Partner system whose connection an event of this worker needs.
    fn target_system(&self) -> &'static str;

    fn policy(&self) -> &RetryPolicy;

    fn handle<'a>(
        &'a self,
        job: &'a Job,
        grant: Self::Grant,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Handled, Failure>>;
}

//! What the log says of a call of Metakocka beside what it says of every system's.

use serde::Serialize;

use super::core::{Call, MkId};
use crate::log;

/// One call and what became of it; `company_id` and `mk_id` can be read as its own.
pub type LogEntry = log::LogEntry<Call, Noted>;

/// Whom and what a call was about.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Noted {
    /// As sent, known or not; `None` when the body named none.
    pub company_id: Option<String>,
    /// The partner made or changed, or the only one found.
    pub mk_id: Option<MkId>,
}

/// Which entries to show; all that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFilter {
    pub company: Option<String>,
    pub call: Option<Call>,
    /// Only entries with a larger `seq`.
    pub since: Option<u64>,
    /// At most so many, the oldest first.
    pub limit: Option<usize>,
}

impl LogFilter {
    pub fn call(call: Call) -> Self {
        LogFilter {
            call: Some(call),
            ..LogFilter::default()
        }
    }
}

impl From<&LogFilter> for log::LogFilter<Call> {
    fn from(filter: &LogFilter) -> Self {
        log::LogFilter {
            account: filter.company.clone(),
            call: filter.call,
            since: filter.since,
            limit: filter.limit,
        }
    }
}

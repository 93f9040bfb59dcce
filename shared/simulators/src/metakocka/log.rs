//! The log of calls: a ring, without secrets.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::core::{Call, MkId};

/// Calls that are kept; older ones fall out.
const MAX_ENTRIES: usize = 20_000;
/// Longest body that is kept as it is, in bytes of compact JSON.
const MAX_LOGGED_BODY: usize = 4 * 1024;

/// One call and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogEntry {
    /// Counts from 1, without gaps; a reset doesn't begin it anew.
    pub seq: u64,
    pub at: DateTime<Utc>,
    /// As sent, known or not; `None` when the body named none.
    pub company_id: Option<String>,
    /// Below the root, e.g. `v1/add_partner`.
    pub path: String,
    /// `None` for a path that isn't there.
    pub call: Option<Call>,
    /// Without `secret_key` and `company_id`; a long or unreadable one is described instead.
    pub body: Value,
    /// The name of the fault that happened.
    pub fault: Option<&'static str>,
    pub outcome: Outcome,
    /// HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// The code of a refusal that was sent.
    pub refused: Option<u16>,
    /// Whether the call changed the company's state (so far: a late commit may still come).
    pub stored: bool,
    pub stored_at: Option<DateTime<Utc>>,
    pub answered_at: Option<DateTime<Utc>>,
    /// The partner made or changed, or the only one found.
    pub mk_id: Option<MkId>,
}

/// What the caller got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing yet.
    Pending,
    /// A success.
    Answered,
    /// An error code of Metakocka.
    Refused,
    /// An HTML page.
    Page,
    Garbled,
    /// Half of an answer.
    Cut,
    Dropped,
    Reset,
    /// The caller went before the answer was there.
    CallerLeft,
}

/// Which entries to show; all that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
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

#[derive(Debug, Default)]
pub(super) struct Log {
    entries: VecDeque<LogEntry>,
    last_seq: u64,
}

impl Log {
    pub(super) fn push(&mut self, mut entry: LogEntry) -> u64 {
        self.last_seq += 1;
        entry.seq = self.last_seq;
        if self.entries.len() >= MAX_ENTRIES {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
        self.last_seq
    }

    /// Changes an entry, unless it has fallen out.
    pub(super) fn tell(&mut self, seq: u64, change: impl FnOnce(&mut LogEntry)) {
        let first = self.entries.front().map_or(u64::MAX, |entry| entry.seq);
        let at = seq
            .checked_sub(first)
            .and_then(|at| usize::try_from(at).ok());
        if let Some(entry) = at.and_then(|at| self.entries.get_mut(at)) {
            change(entry);
        }
    }

    pub(super) fn show(&self, filter: &LogFilter) -> Vec<LogEntry> {
        let wanted = |entry: &&LogEntry| {
            filter.call.is_none_or(|call| entry.call == Some(call))
                && filter.since.is_none_or(|since| entry.seq > since)
                && filter
                    .company
                    .as_ref()
                    .is_none_or(|company| entry.company_id.as_ref() == Some(company))
        };
        self.entries
            .iter()
            .filter(wanted)
            .take(filter.limit.unwrap_or(MAX_ENTRIES))
            .cloned()
            .collect()
    }

    pub(super) fn last_seq(&self) -> u64 {
        self.last_seq
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }
}

/// A body as it may be kept.
pub(super) fn kept_body(body: Value) -> Value {
    let length = body.to_string().len();
    if length <= MAX_LOGGED_BODY {
        body
    } else {
        json!({"too_long_for_the_log": length})
    }
}

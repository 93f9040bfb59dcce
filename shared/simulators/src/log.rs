//! The log of calls: a ring, without secrets.

use std::collections::VecDeque;
use std::ops::Deref;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::plan::{Heard, Says, Sending};

/// Calls that are kept; older ones fall out.
const MAX_ENTRIES: usize = 20_000;
/// Longest body that is kept as it is, in bytes of compact JSON.
const MAX_LOGGED_BODY: usize = 4 * 1024;
/// Characters of a path that are kept.
const MAX_LOGGED_PATH: usize = 200;

/// One call and what became of it. `C` are the calls; `N` is what the system notes of its own, and can be read as if it stood here.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogEntry<C, N> {
    /// Counts from 1, without gaps; a reset doesn't begin it anew.
    pub seq: u64,
    pub at: DateTime<Utc>,
    /// Below the root.
    pub path: String,
    /// `None` for a path that isn't there.
    pub call: Option<C>,
    /// Without credentials; a long or unreadable one is described instead.
    pub body: Value,
    /// The name of the fault that happened.
    pub fault: Option<&'static str>,
    pub outcome: Outcome,
    /// HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// The code of a refusal that was sent.
    pub refused: Option<u16>,
    /// Whether the call changed what the account holds (so far: a late commit may still come).
    pub stored: bool,
    pub stored_at: Option<DateTime<Utc>>,
    pub answered_at: Option<DateTime<Utc>>,
    #[serde(flatten)]
    pub noted: N,
}

impl<C, N> Deref for LogEntry<C, N> {
    type Target = N;

    fn deref(&self) -> &N {
        &self.noted
    }
}

impl<C, N> LogEntry<C, N> {
    /// A call that has just come.
    pub(crate) fn new(at: DateTime<Utc>, path: &str, heard: Heard<C, N>) -> Self {
        LogEntry {
            seq: 0,
            at,
            path: path.chars().take(MAX_LOGGED_PATH).collect(),
            call: heard.call,
            body: kept_body(heard.body),
            fault: None,
            outcome: Outcome::Pending,
            status: None,
            refused: None,
            stored: false,
            stored_at: None,
            answered_at: None,
            noted: heard.noted,
        }
    }

    /// What its caller is about to get.
    pub(crate) fn answered(&mut self, sending: &Sending, now: DateTime<Utc>) {
        let (outcome, answer) = match sending {
            Sending::Whole(answer) => {
                let outcome = match answer.says {
                    Says::Success => Outcome::Answered,
                    Says::Refusal(_) => Outcome::Refused,
                    Says::Page => Outcome::Page,
                };
                (outcome, Some(answer))
            }
            Sending::Garbled(answer) => (Outcome::Garbled, Some(answer)),
            Sending::Cut(answer) => (Outcome::Cut, Some(answer)),
            Sending::Drop => (Outcome::Dropped, None),
            Sending::Reset => (Outcome::Reset, None),
            Sending::Never => (Outcome::Pending, None),
        };
        self.outcome = outcome;
        self.status = answer.map(|answer| answer.status);
        self.refused = match (outcome, answer.map(|answer| answer.says)) {
            (Outcome::Refused, Some(Says::Refusal(code))) => Some(code),
            _ => None,
        };
        self.answered_at = Some(now);
    }
}

/// What the caller got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing yet.
    Pending,
    /// A success.
    Answered,
    /// A refusal of the system itself.
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
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogFilter<C> {
    /// The id of the account. Metakocka's word for it is understood, too.
    #[serde(alias = "company")]
    pub account: Option<String>,
    pub call: Option<C>,
    /// Only entries with a larger `seq`.
    pub since: Option<u64>,
    /// At most so many, the oldest first.
    pub limit: Option<usize>,
}

impl<C> Default for LogFilter<C> {
    fn default() -> Self {
        LogFilter {
            account: None,
            call: None,
            since: None,
            limit: None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Log<C, N> {
    entries: VecDeque<LogEntry<C, N>>,
    last_seq: u64,
}

impl<C: Copy + Eq, N: Clone> Log<C, N> {
    pub(crate) fn new() -> Self {
        Log {
            entries: VecDeque::new(),
            last_seq: 0,
        }
    }

    pub(crate) fn push(&mut self, mut entry: LogEntry<C, N>) -> u64 {
        self.last_seq += 1;
        entry.seq = self.last_seq;
        if self.entries.len() >= MAX_ENTRIES {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
        self.last_seq
    }

    /// Changes an entry, unless it has fallen out.
    pub(crate) fn tell(&mut self, seq: u64, change: impl FnOnce(&mut LogEntry<C, N>)) {
        let first = self.entries.front().map_or(u64::MAX, |entry| entry.seq);
        let at = seq
            .checked_sub(first)
            .and_then(|at| usize::try_from(at).ok());
        if let Some(entry) = at.and_then(|at| self.entries.get_mut(at)) {
            change(entry);
        }
    }

    /// The entries that are wanted; `account_of` knows where the account stands in what was noted.
    pub(crate) fn show(
        &self,
        filter: &LogFilter<C>,
        account_of: impl Fn(&N) -> Option<&str>,
    ) -> Vec<LogEntry<C, N>> {
        let wanted = |entry: &&LogEntry<C, N>| {
            filter.call.is_none_or(|call| entry.call == Some(call))
                && filter.since.is_none_or(|since| entry.seq > since)
                && filter
                    .account
                    .as_deref()
                    .is_none_or(|account| account_of(&entry.noted) == Some(account))
        };
        self.entries
            .iter()
            .filter(wanted)
            .take(filter.limit.unwrap_or(MAX_ENTRIES))
            .cloned()
            .collect()
    }

    pub(crate) fn last_seq(&self) -> u64 {
        self.last_seq
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }
}

/// A body as it may be kept.
fn kept_body(body: Value) -> Value {
    let length = body.to_string().len();
    if length <= MAX_LOGGED_BODY {
        body
    } else {
        json!({"too_long_for_the_log": length})
    }
}

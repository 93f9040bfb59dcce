//! What a step depends on, and what it can be.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use event::{Cause, OrderKey};
use store::links::{ConflictCause, SentReference};

use crate::content::{Content, NaturalKey, Parts, Record};
use crate::effect::{Effect, Request};
use crate::link::Link;
use crate::target::Call;

/// What the claimed delivery is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    pub source: String,
    pub event_id: String,
    pub generation: u32,
    pub intent: Intent,
    /// The links whose records the content names.
    pub refers: Vec<SentReference>,
    /// What an outcome follows from. None: a request of ours.
    pub cause: Option<Cause>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Intent {
    /// A state event: the record shall be this.
    Content { k: OrderKey, content: Content },
    /// A tombstone.
    Deleted { k: OrderKey },
    /// A request: settle the open effect, nothing else.
    Resolve,
    /// A request: look for a second record, a lost one, or older content of ours.
    Recheck { keys: Vec<NaturalKey> },
}

impl Intent {
    pub fn k(&self) -> Option<&OrderKey> {
        match self {
            Self::Content { k, .. } | Self::Deleted { k } => Some(k),
            Self::Resolve | Self::Recheck { .. } => None,
        }
    }
}

/// What was learned at the partner under this lease. Every look began at or after the claim.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observations {
    /// Hits of keys that were asked for together.
    pub found: Vec<(Vec<NaturalKey>, Vec<Record>)>,
    /// Record by id; `None` is "no such record".
    pub read: BTreeMap<String, Option<Record>>,
    /// The former target was read and is gone, or is another link's.
    pub former_gone: bool,
}

impl Observations {
    pub(crate) fn hits(&self, keys: &[NaturalKey]) -> Option<&[Record]> {
        self.found
            .iter()
            .find(|(asked, _)| asked == keys)
            .map(|(_, hits)| hits.as_slice())
    }

    /// Outer `None`: not read yet. Inner `None`: gone.
    pub(crate) fn record(&self, id: &str) -> Option<Option<&Record>> {
        self.read.get(id).map(Option::as_ref)
    }
}

/// Everything a step depends on.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub link: &'a Link,
    pub open: Option<&'a Effect>,
    pub work: &'a Work,
    pub observations: &'a Observations,
    /// The database's clock at the claim: the earliest beginning of any look in `seen`.
    pub claimed_at: DateTime<Utc>,
    /// `key → record` of other links that own one of our natural keys.
    pub keys_taken: &'a [(String, String)],
    /// Calls that were given up or refused and may have happened all the same; for a request, or while nothing is linked.
    pub abandoned_effects: &'a [Effect],
    /// Keys of those calls that are another link's by now.
    pub keys_of_others: &'a [String],
}

#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Find(Vec<NaturalKey>),
    Read(String),
    /// The open effect is proven by this record.
    Confirm(Box<Record>),
    /// Not there, and the look began after the settle time.
    Abandon,
    /// A record of the partner becomes the target; beside an open effect where `despite_open`.
    Adopt {
        record: Box<Record>,
        despite_open: bool,
    },
    /// The former target no longer exists: look by key.
    FormerGone,
    /// Parts learned from the record.
    Note(Parts),
    /// Reserve and send.
    Call {
        call: Box<Call>,
        request: Box<Request>,
        last: bool,
    },
    /// `applied_k := k`, no call.
    Unchanged,
    /// Tombstone: `applied_k := k`, state deleted, no call.
    Deleted,
    /// Covered meanwhile: give the lease back.
    AlreadyDone,
    /// A request has nothing more to do.
    Resolved,
    Rechecked,
    /// A person must decide: the link says why from now on.
    Conflict(ConflictCause, String),
    /// The linked record is not shown, and this is the first look that counts; the next one is then.
    Missed(DateTime<Utc>),
    /// A look does not show what it should, and says nothing by itself; the next one is then.
    LookAgain(DateTime<Utc>),
    /// The linked record is shown again: what was concluded from looks that did not show it is over.
    Seen,
    /// In conflict because the record is gone, and it still is.
    StillGone,
    /// The link is in conflict already.
    InConflict,
    /// An earlier call may still take effect.
    WaitUntil(DateTime<Utc>),
}

pub(crate) fn gone(id: &str) -> Step {
    Step::Conflict(
        ConflictCause::Gone,
        format!("the linked record {id} no longer exists at the partner"),
    )
}

pub(crate) fn several_records(records: &[&Record]) -> Step {
    Step::Conflict(ConflictCause::SeveralRecords, several_in_words(records))
}

pub(crate) fn several_in_words(records: &[&Record]) -> String {
    const SHOWN: usize = 5;
    let ids: Vec<&str> = records
        .iter()
        .take(SHOWN)
        .map(|record| record.id.as_str())
        .collect();
    format!(
        "{} records of the partner carry its key: {}",
        records.len(),
        ids.join(", ")
    )
}

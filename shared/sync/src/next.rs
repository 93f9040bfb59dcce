//! What to do next about a link: pure. It hands one step to the driver (`drive.rs`), which does it on the store or at
//! the partner and asks again. The order of the questions is the algorithm: an open effect first, whoever wrote it; then
//! whether the event is covered; then compare; then look before create; then the missing calls, one at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use event::OrderKey;
use store::links::ConflictCause;

use crate::absence::look_again;
use crate::content::{Content, NaturalKey, Parts, Record};
use crate::effect::{Effect, Operation, Request};
use crate::link::{Link, LinkState};
use crate::lost_create::{Lost, lost_create};
use crate::missing::{Missing, missing, wanted};
use crate::proof;
use crate::recheck;
use crate::target::{Call, Target};

/// What the claimed delivery is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    pub source: String,
    pub event_id: String,
    pub generation: u32,
    pub wish: Wish,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
    /// A state event: the record shall be this.
    Content { k: OrderKey, content: Content },
    /// A tombstone.
    Deleted { k: OrderKey },
    /// A request: settle the open effect, nothing else.
    Resolve,
    /// A request: look for a second record, a lost one, or older content of ours.
    Recheck { keys: Vec<NaturalKey> },
}

impl Wish {
    pub fn k(&self) -> Option<&OrderKey> {
        match self {
            Self::Content { k, .. } | Self::Deleted { k } => Some(k),
            Self::Resolve | Self::Recheck { .. } => None,
        }
    }
}

/// What was learned at the partner under this lease. Every look began at or after the claim.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Hits of keys that were asked for together.
    pub found: Vec<(Vec<NaturalKey>, Vec<Record>)>,
    /// Record by id; `None` is "no such record".
    pub read: BTreeMap<String, Option<Record>>,
    /// The former target was read and is gone, or is another link's.
    pub former_gone: bool,
}

impl Seen {
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
    pub seen: &'a Seen,
    /// The database's clock at the claim: the earliest beginning of any look in `seen`.
    pub claimed_at: DateTime<Utc>,
    /// `key → record` of other links that own one of our natural keys.
    pub keys_taken: &'a [(String, String)],
    /// Calls that were given up or refused and may have happened all the same; for a request, or while nothing is linked.
    pub given_up: &'a [Effect],
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

pub fn next(view: View<'_>, target: &dyn Target) -> Step {
    if view.shown_again() {
        return Step::Seen;
    }
    if view.link.state == LinkState::Conflict {
        return match (&view.work.wish, view.link.conflict) {
            (Wish::Recheck { .. }, Some(ConflictCause::Gone)) => recheck::of_a_gone_record(view),
            _ => Step::InConflict,
        };
    }
    if let Some(effect) = view.open {
        return resolve(view, effect, target);
    }
    match &view.work.wish {
        Wish::Resolve => Step::Resolved,
        Wish::Recheck { keys } => recheck::next(view, keys, target.lag()),
        wish if wish.k().is_some_and(|k| view.link.covers(k)) => Step::AlreadyDone,
        Wish::Deleted { .. } => delete(view, target),
        Wish::Content { content, .. } => match view.keys_taken.first() {
            Some((key, record)) => Step::Conflict(
                ConflictCause::KeyTaken,
                format!("its key {key} belongs to record {record}: two records, one key"),
            ),
            None => save(view, content, target),
        },
    }
}

/// The look-up rule: found as sent is proof, absent is believed only after the settle time, other content proves nothing.
fn resolve(view: View<'_>, effect: &Effect, target: &dyn Target) -> Step {
    let lag = target.lag();
    let id = match effect.operation {
        Operation::Create if effect.request.keys.is_empty() => {
            return Step::Conflict(
                ConflictCause::UnclearCreate,
                "a create without a key may have happened: it cannot be looked up".to_owned(),
            );
        }
        Operation::Create => {
            let Some(hits) = view.seen.hits(&effect.request.keys) else {
                return Step::Find(effect.request.keys.clone());
            };
            match hits {
                [] => return absent(view, effect, lag),
                [one] => one.id.clone(),
                several => match view.living(several, lag) {
                    Err(step) => return step,
                    Ok(living) => match living.as_slice() {
                        [] => return absent(view, effect, lag),
                        [one] => one.id.clone(),
                        several => return several_records(several),
                    },
                },
            }
        }
        _ => effect.target_id.clone().unwrap_or_default(),
    };
    match view.seen.record(&id) {
        None => Step::Read(id),
        Some(None) => hidden(view, effect, id, lag),
        Some(Some(record)) if proof::shows(effect, view.link, record) => {
            Step::Confirm(Box::new(record.clone()))
        }
        Some(Some(record)) => {
            let unknown = effect.operation == Operation::Create
                && view.link.target_id.as_deref() != Some(record.id.as_str());
            if unknown {
                Step::Adopt {
                    record: Box::new(record.clone()),
                    despite_open: true,
                }
            } else {
                absent(view, effect, lag)
            }
        }
    }
}

/// The record does not show what was sent.
fn absent(view: View<'_>, effect: &Effect, lag: Duration) -> Step {
    match effect.settle_at {
        Some(settle_at) if view.claimed_at < settle_at => {
            let again = look_again(effect.sent_at, settle_at, view.claimed_at, lag);
            Step::WaitUntil(again)
        }
        _ => Step::Abandon,
    }
}

/// The record itself is not shown: that says nothing about the call before it is known to be gone. What a deletion leaves
/// is nothing.
fn hidden(view: View<'_>, effect: &Effect, id: String, lag: Duration) -> Step {
    let delete = effect.operation == Operation::Delete;
    match absent(view, effect, lag) {
        Step::Abandon => {}
        early if !delete => return early,
        _ => {}
    }
    match view.not_shown(lag) {
        Some(first) => first,
        None if delete => Step::Confirm(Box::new(Record {
            id,
            ..Record::default()
        })),
        None => Step::Abandon,
    }
}

fn delete(view: View<'_>, target: &dyn Target) -> Step {
    match &view.link.target_id {
        Some(id) if target.deletes() => Step::Call {
            call: Box::new(Call::Delete { id: id.clone() }),
            request: Box::default(),
            last: true,
        },
        _ => Step::Deleted,
    }
}

fn save(view: View<'_>, content: &Content, target: &dyn Target) -> Step {
    let Some(id) = view.link.target_id.as_deref() else {
        return find_or_create(view, content, target);
    };
    let read = view.seen.record(id).flatten();
    if view.seen.record(id) == Some(None) {
        return view.not_shown(target.lag()).unwrap_or_else(|| gone(id));
    }
    match missing(view.link, id, content, read, view.is_fresh(target.lag())) {
        Missing::Nothing => Step::Unchanged,
        Missing::Look => Step::Read(id.to_owned()),
        Missing::Note(parts) => Step::Note(parts),
        Missing::Call {
            call,
            request,
            last,
        } => Step::Call {
            call: Box::new(call),
            request: Box::new(request),
            last,
        },
    }
}

pub(crate) fn gone(id: &str) -> Step {
    Step::Conflict(
        ConflictCause::Gone,
        format!("the linked record {id} no longer exists at the partner"),
    )
}

/// Look up before every first create, not only after faults.
fn find_or_create(view: View<'_>, content: &Content, target: &dyn Target) -> Step {
    let lag = target.lag();
    // A record that we made and let go is known by its id, whatever the index shows.
    if let Some(former) = view
        .link
        .former_target_id
        .as_ref()
        .filter(|_| !view.seen.former_gone)
    {
        match view.seen.record(former) {
            None => return Step::Read(former.clone()),
            Some(Some(record)) => {
                return Step::Adopt {
                    record: Box::new(record.clone()),
                    despite_open: false,
                };
            }
            // Where we delete records, it is away because we deleted it.
            Some(None) if target.deletes() => return Step::FormerGone,
            Some(None) => return view.not_shown(lag).unwrap_or(Step::FormerGone),
        }
    }
    let Some(hits) = view.seen.hits(&content.keys) else {
        return Step::Find(content.keys.clone());
    };
    let create = || match lost_create(view, &content.keys, lag) {
        Lost::Look(step) => step,
        Lost::Found(record) => Step::Adopt {
            record: Box::new(record.clone()),
            despite_open: false,
        },
        Lost::Nothing => create(content, target),
    };
    match view.living(hits, lag) {
        Err(step) => step,
        Ok(living) => match living.as_slice() {
            [] => create(),
            [record] => Step::Adopt {
                record: Box::new((*record).clone()),
                despite_open: false,
            },
            several => several_records(several),
        },
    }
}

fn create(content: &Content, target: &dyn Target) -> Step {
    let fields: crate::Fields = content
        .fields
        .iter()
        .filter(|(_, value)| value.is_some())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let parts = target.parts_in_create(content);
    let last = wanted(content).iter().all(|part| parts.contains(part));
    let request = Request {
        fields: fields.clone(),
        parts: parts.clone(),
        part_id: None,
        keys: content.keys.clone(),
    };
    Step::Call {
        call: Box::new(Call::Create { fields, parts }),
        request: Box::new(request),
        last,
    }
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

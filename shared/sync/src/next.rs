//! What to do next about a link: pure. It hands one step to the driver (`drive.rs`), which does it on the store or at
//! the partner and asks again. The order of the questions is the algorithm: an open effect first, whoever wrote it; then
//! whether the event is covered; then compare; then look before create; then the missing calls, one at a time.

use std::time::Duration;

use store::links::ConflictCause;

use crate::absence::look_again;
use crate::content::{Content, Record};
use crate::effect::{Effect, Operation, Request};
use crate::link::LinkState;
use crate::next_call::{NextCall, next_call, wanted};
use crate::orphaned_create::{Orphaned, orphaned_create};
use crate::proof;
use crate::recheck;
use crate::step::{Intent, Step, View, gone, several_records};
use crate::target::{Call, Target};

pub fn next(view: View<'_>, target: &dyn Target) -> Step {
    if view.shown_again() {
        return Step::Seen;
    }
    if view.link.state == LinkState::Conflict {
        return match (&view.work.intent, view.link.conflict) {
            (Intent::Recheck { .. }, Some(ConflictCause::Gone)) => recheck::of_a_gone_record(view),
            _ => Step::InConflict,
        };
    }
    if let Some(effect) = view.open {
        return resolve(view, effect, target);
    }
    match &view.work.intent {
        Intent::Resolve => Step::Resolved,
        Intent::Recheck { keys } => recheck::next(view, keys, target.lag()),
        intent if intent.k().is_some_and(|k| view.link.covers(k)) => Step::AlreadyDone,
        Intent::Deleted { .. } => delete(view, target),
        Intent::Content { content, .. } => match view.keys_taken.first() {
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
            let Some(hits) = view.observations.hits(&effect.request.keys) else {
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
    match view.observations.record(&id) {
        None => Step::Read(id),
        Some(None) => hidden(view, effect, id, lag),
        Some(Some(record)) if proof::shows(effect, view.link, record) => {
            // A record, or a part, that we made is known by an id that nobody knew before. What we changed may look as it did
            // two changes ago, and a look that lags may show just that.
            let made = matches!(effect.operation, Operation::Create | Operation::AppendPart);
            match view.before_our_last_write(lag).filter(|_| !made) {
                Some(clear) => Step::LookAgain(clear),
                None => Step::Confirm(Box::new(record.clone())),
            }
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
    let read = view.observations.record(id).flatten();
    if view.observations.record(id) == Some(None) {
        return view.not_shown(target.lag()).unwrap_or_else(|| gone(id));
    }
    match next_call(view.link, id, content, read, view.is_fresh(target.lag())) {
        NextCall::Nothing => Step::Unchanged,
        NextCall::Look => Step::Read(id.to_owned()),
        NextCall::Note(parts) => Step::Note(parts),
        NextCall::Call {
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

/// Look up before every first create, not only after faults.
fn find_or_create(view: View<'_>, content: &Content, target: &dyn Target) -> Step {
    let lag = target.lag();
    // A record that we made and let go is known by its id, whatever the index shows.
    if let Some(former) = view
        .link
        .former_target_id
        .as_ref()
        .filter(|_| !view.observations.former_gone)
    {
        match view.observations.record(former) {
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
    let Some(hits) = view.observations.hits(&content.keys) else {
        return Step::Find(content.keys.clone());
    };
    let create = || match orphaned_create(view, &content.keys, lag) {
        Orphaned::Look(step) => step,
        Orphaned::Found(record) => Step::Adopt {
            record: Box::new(record.clone()),
            despite_open: false,
        },
        Orphaned::Nothing => create(content, target),
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
        refers: Vec::new(),
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

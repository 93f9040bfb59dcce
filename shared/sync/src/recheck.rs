//! Looks once more after an abandoned effect or a refused create (docs/architecture.md, "Re-checks"): a second record, a
//! record without a link, older content of ours, a part twice. What it concludes is guarded like an ending.

use std::collections::BTreeSet;
use std::time::Duration;

use store::links::ConflictCause;

use crate::content::{Fields, NaturalKey, Record};
use crate::effect::{Effect, EffectState, Operation, Request};
use crate::link::LinkState;
use crate::orphaned_create::{Orphaned, orphaned_create};
use crate::step::{Step, View, gone, several_in_words, several_records};
use crate::target::Call;

pub(crate) fn next(view: View<'_>, keys: &[NaturalKey], lag: Duration) -> Step {
    if view.link.state == LinkState::Deleted {
        // Its keys are free and may belong to somebody else by now.
        return Step::Rechecked;
    }
    if !keys.is_empty() {
        let Some(hits) = view.observations.hits(keys) else {
            return Step::Find(keys.to_vec());
        };
        if let Some(step) = by_key(view, hits, lag) {
            return step;
        }
    }
    match (
        orphaned_create(view, keys, lag),
        view.link.target_id.as_deref(),
    ) {
        (Orphaned::Look(step), _) => return step,
        (Orphaned::Found(record), Some(target)) => {
            let text = format!(
                "two records: {target} is linked, {} is what an earlier create made that was refused or given up",
                record.id
            );
            return Step::Conflict(ConflictCause::SecondRecord, text);
        }
        (Orphaned::Found(record), None) if nothing_to_come(view) => return orphan(record),
        (Orphaned::Found(_), None) | (Orphaned::Nothing, _) => {}
    }
    let Some(id) = view.link.target_id.as_deref() else {
        return Step::Rechecked;
    };
    match view.observations.record(id) {
        None => Step::Read(id.to_owned()),
        Some(None) => view.not_shown(lag).unwrap_or_else(|| gone(id)),
        Some(Some(record)) => judge(view, id, record, view.abandoned_effects),
    }
}

/// Of a link in conflict because its record is gone. When it is shown again, `next` says so and comes back here no more.
pub(crate) fn of_a_gone_record(view: View<'_>) -> Step {
    match view.link.target_id.as_deref() {
        Some(id) if view.observations.record(id).is_none() => Step::Read(id.to_owned()),
        _ => Step::StillGone,
    }
}

/// What the records say that carry its keys now. `None`: nothing.
fn by_key(view: View<'_>, hits: &[Record], lag: Duration) -> Option<Step> {
    let target = view.link.target_id.as_deref();
    let alone = matches!(hits, [one] if target == Some(one.id.as_str()));
    // An event that is still to come finds the one record and adopts it.
    let left_to_it = target.is_none() && hits.len() == 1 && !nothing_to_come(view);
    if hits.is_empty() || alone || left_to_it {
        return None;
    }
    let living = match view.living(hits, lag) {
        Ok(living) => living,
        Err(step) => return Some(step),
    };
    match (living.as_slice(), target) {
        ([], _) => None,
        ([one], Some(target)) if one.id == target => None,
        ([one], Some(target)) => {
            let text = format!(
                "two records, one key: {target} is linked, {} carries its key too",
                one.id
            );
            Some(Step::Conflict(ConflictCause::SecondRecord, text))
        }
        ([one], None) => nothing_to_come(view).then(|| orphan(one)),
        (several, None) => Some(several_records(several)),
        (several, Some(_)) => {
            let text = several_in_words(several);
            Some(Step::Conflict(ConflictCause::SecondRecord, text))
        }
    }
}

fn nothing_to_come(view: View<'_>) -> bool {
    view.link.desired_k == view.link.applied_k
}

fn orphan(record: &Record) -> Step {
    let text = format!(
        "orphan: the partner has record {} although nothing was confirmed",
        record.id
    );
    Step::Conflict(ConflictCause::Orphan, text)
}

fn judge(view: View<'_>, id: &str, record: &Record, abandoned_effects: &[Effect]) -> Step {
    if let Some(signature) = doubled_part(record, abandoned_effects) {
        let text = format!(
            "part twice: record {id} has two equal parts ({signature}), one of a call that was given up"
        );
        return Step::Conflict(ConflictCause::PartTwice, text);
    }
    let older = older_content(view, record, abandoned_effects);
    if older.is_empty() {
        return Step::Rechecked;
    }
    let request = Request {
        fields: older.clone(),
        ..Request::default()
    };
    let call = Call::Update {
        id: id.to_owned(),
        changed: older,
        whole: view.link.base.fields(),
        part: None,
    };
    Step::Call {
        call: Box::new(call),
        request: Box::new(request),
        last: true,
    }
}

/// Fields whose value at the partner is what an abandoned update of ours sent, and not what both sides agreed on since.
fn older_content(view: View<'_>, record: &Record, abandoned_effects: &[Effect]) -> Fields {
    let mut older = Fields::new();
    for effect in abandoned_effects.iter().filter(|effect| {
        effect.state == EffectState::Abandoned && effect.operation == Operation::Update
    }) {
        for (name, sent) in &effect.request.fields {
            let shown = record.fields.get(name);
            let agreed = view.link.base.0.get(name);
            let late = shown == sent.as_ref()
                && agreed.is_some_and(|agreed| {
                    agreed.sent != *sent && agreed.stored.as_ref() != sent.as_ref()
                });
            if let (true, Some(agreed)) = (late, agreed) {
                older.insert(name.clone(), agreed.sent.clone());
            }
        }
    }
    older
}

fn doubled_part(record: &Record, abandoned_effects: &[Effect]) -> Option<String> {
    let appended = abandoned_effects.iter().filter(|effect| {
        effect.operation == Operation::AppendPart && effect.state == EffectState::Abandoned
    });
    let signatures: BTreeSet<String> = appended
        .flat_map(|effect| &effect.request.parts)
        .map(crate::Part::signature)
        .collect();
    signatures.into_iter().find(|signature| {
        record
            .parts
            .iter()
            .filter(|shown| shown.part.signature() == *signature)
            .count()
            > 1
    })
}

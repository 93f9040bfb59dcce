//! Looks once more after an abandoned effect or a refused create (delivery-model 1.9): a second record, a record without
//! a link, older content of ours, a part twice. What it concludes is guarded like an ending.

use std::collections::BTreeSet;

use crate::content::{Fields, NaturalKey, Record};
use crate::effect::{Effect, EffectState, Operation, Request};
use crate::link::LinkState;
use crate::lost_create::{Lost, lost_create};
use crate::next::{Step, View, several_records};
use crate::target::Call;

pub(crate) fn next(view: View<'_>, keys: &[NaturalKey]) -> Step {
    if view.link.state == LinkState::Deleted {
        // Its keys are free and may belong to somebody else by now.
        return Step::Rechecked;
    }
    if !keys.is_empty() {
        let Some(hits) = view.seen.hits(keys) else {
            return Step::Find(keys.to_vec());
        };
        match (hits, view.link.target_id.as_deref()) {
            ([], _) => {}
            ([one], Some(target)) if one.id == target => {}
            ([one], Some(target)) => {
                return Step::Conflict(format!(
                    "two records, one key: {target} is linked, {} carries its key too",
                    one.id
                ));
            }
            ([one], None) if nothing_to_come(view) => return Step::Conflict(orphan(one)),
            // An event is still to come: it finds the record and adopts it.
            ([_], None) => {}
            (several, _) => return Step::Conflict(several_records(several)),
        }
    }
    match (lost_create(view, keys), view.link.target_id.as_deref()) {
        (Lost::Look(step), _) => return step,
        (Lost::Found(record), Some(target)) => {
            return Step::Conflict(format!(
                "two records: {target} is linked, {} is what an earlier create made that was refused or given up",
                record.id
            ));
        }
        (Lost::Found(record), None) if nothing_to_come(view) => {
            return Step::Conflict(orphan(record));
        }
        (Lost::Found(_), None) | (Lost::Nothing, _) => {}
    }
    let Some(id) = view.link.target_id.as_deref() else {
        return Step::Rechecked;
    };
    match view.seen.record(id) {
        None => Step::Read(id.to_owned()),
        Some(None) => Step::Conflict(format!(
            "the linked record {id} no longer exists at the partner"
        )),
        Some(Some(record)) => judge(view, id, record, view.given_up),
    }
}

fn nothing_to_come(view: View<'_>) -> bool {
    view.link.desired_k == view.link.applied_k
}

fn orphan(record: &Record) -> String {
    format!(
        "orphan: the partner has record {} although nothing was confirmed",
        record.id
    )
}

fn judge(view: View<'_>, id: &str, record: &Record, given_up: &[Effect]) -> Step {
    if let Some(signature) = doubled_part(record, given_up) {
        return Step::Conflict(format!(
            "part twice: record {id} has two equal parts ({signature}), one of a call that was given up"
        ));
    }
    let older = older_content(view, record, given_up);
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
fn older_content(view: View<'_>, record: &Record, given_up: &[Effect]) -> Fields {
    let mut older = Fields::new();
    for effect in given_up.iter().filter(|effect| {
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

fn doubled_part(record: &Record, given_up: &[Effect]) -> Option<String> {
    let appended = given_up.iter().filter(|effect| {
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

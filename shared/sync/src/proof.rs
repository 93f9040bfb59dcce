//! What a look-up proves about an effect whose outcome is open (docs/architecture.md, "Effects"), and how a link moves
//! when one is confirmed.

use crate::content::{Base, Owner, Parts, Record};
use crate::effect::{Effect, Operation, Request};
use crate::link::Link;
use crate::target::Answer;

/// Whether the record, read by id, shows what this call sent.
pub(crate) fn shows(effect: &Effect, link: &Link, record: &Record) -> bool {
    let request = &effect.request;
    match effect.operation {
        Operation::Create => {
            record.shows(&request.fields)
                && request.parts.iter().all(|part| {
                    record
                        .parts
                        .iter()
                        .any(|shown| shown.part.signature() == part.signature())
                })
        }
        Operation::Update => record.shows(&request.fields) && changed(request, record),
        // An append is known by its signature among the ids that were not known before.
        Operation::AppendPart => appended(effect, link, record).is_some(),
        Operation::ChangePart => changed(request, record),
        Operation::Delete => false,
    }
}

/// The part with that id has the new content. True where no part was to be changed.
fn changed(request: &Request, record: &Record) -> bool {
    request.parts.iter().all(|part| {
        record.parts.iter().any(|shown| {
            Some(&shown.id) == request.part_id.as_ref()
                && shown.part.signature() == part.signature()
        })
    })
}

fn appended(effect: &Effect, link: &Link, record: &Record) -> Option<String> {
    let signature = effect.request.parts.first()?.signature();
    let unknown = |shown: &&crate::content::RecordPart| {
        !link.parts.0.contains_key(&shown.id) && shown.part.signature() == signature
    };
    record
        .parts
        .iter()
        .find(unknown)
        .map(|shown| shown.id.clone())
}

/// The link's share of a confirmed effect.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LinkChange {
    pub target_id: String,
    pub base: Base,
    pub parts: Parts,
}

/// Confirmed by a clear answer.
pub(crate) fn change_by_answer(effect: &Effect, link: &Link, answer: &Answer) -> LinkChange {
    let mut base = if effect.operation == Operation::Create {
        Base::default()
    } else {
        link.base.clone()
    };
    base.agree(&effect.request.fields, answer.record.as_ref());
    let mut parts = if effect.operation == Operation::Create {
        Parts::default()
    } else {
        link.parts.clone()
    };
    for (id, part) in &answer.part_ids {
        parts.set(id, part, Owner::Ours);
    }
    LinkChange {
        target_id: answer.target_id.clone(),
        base,
        parts,
    }
}

/// Confirmed by a look-up that shows what was sent.
pub(crate) fn change_by_record(effect: &Effect, link: &Link, record: &Record) -> LinkChange {
    let create = effect.operation == Operation::Create;
    let mut base = if create {
        Base::default()
    } else {
        link.base.clone()
    };
    base.agree(&effect.request.fields, None);
    let mut parts = if create {
        Parts::default()
    } else {
        link.parts.clone()
    };
    match effect.operation {
        Operation::Create => {
            for part in &effect.request.parts {
                let signature = part.signature();
                let shown = record.parts.iter().find(|shown| {
                    shown.part.signature() == signature && !parts.0.contains_key(&shown.id)
                });
                if let Some(shown) = shown {
                    parts.set(&shown.id, part, Owner::Ours);
                }
            }
        }
        Operation::AppendPart => {
            if let (Some(id), Some(part)) =
                (appended(effect, link, record), effect.request.parts.first())
            {
                parts.set(&id, part, Owner::Ours);
            }
        }
        Operation::Update | Operation::ChangePart => {
            if let (Some(id), Some(part)) = (&effect.request.part_id, effect.request.parts.first())
            {
                parts.set(id, part, Owner::Ours);
            }
        }
        Operation::Delete => {}
    }
    LinkChange {
        target_id: record.id.clone(),
        base,
        parts,
    }
}

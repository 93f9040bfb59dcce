//! The calls that are still missing, made anew from the link before every call.

use std::collections::BTreeSet;

use crate::content::{Content, Owner, Part, Parts, Record};
use crate::effect::Request;
use crate::link::Link;
use crate::target::Call;

/// What comes first.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Missing {
    Nothing,
    /// Parts are in question: the record must have been read under this lease first.
    Look,
    /// The record shows parts that we did not know (or no longer shows ones we knew).
    Note(Parts),
    Call {
        call: Call,
        request: Request,
        /// The only call left.
        last: bool,
    },
}

/// The record exists at the partner: `id`. `read` is what it showed last under this lease.
pub(crate) fn missing(link: &Link, id: &str, content: &Content, read: Option<&Record>) -> Missing {
    let changed = link.base.changes(&content.fields);
    let pairing = Pairing::new(&link.parts, content);
    let part_calls = pairing.unmet.len();
    if !changed.is_empty() {
        let mut whole = link.base.fields();
        whole.extend(content.fields.clone());
        let request = Request {
            fields: changed.clone(),
            ..Request::default()
        };
        return Missing::Call {
            call: Call::Update {
                id: id.to_owned(),
                changed,
                whole,
            },
            request,
            last: part_calls == 0,
        };
    }
    if part_calls == 0 {
        return Missing::Nothing;
    }
    let Some(record) = read else {
        return Missing::Look;
    };
    let noted = note(&link.parts, content, record);
    if noted != link.parts {
        return Missing::Note(noted);
    }
    let part = pairing.unmet[0].clone();
    let request = Request {
        parts: vec![part.clone()],
        ..Request::default()
    };
    let last = part_calls == 1;
    match pairing.free_of_kind(&part.kind) {
        Some(part_id) => {
            let request = Request {
                part_id: Some(part_id.clone()),
                ..request
            };
            Missing::Call {
                call: Call::ChangePart {
                    id: id.to_owned(),
                    part_id,
                    part,
                },
                request,
                last,
            }
        }
        None => Missing::Call {
            call: Call::AppendPart {
                id: id.to_owned(),
                part,
            },
            request,
            last,
        },
    }
}

/// Which part is which: known id and equal signature first; position proves nothing.
struct Pairing {
    /// Wanted parts that no known part stands for; equal ones counted once.
    unmet: Vec<Part>,
    /// Parts of ours that nothing wants any more: they may become another part of their kind.
    free: Vec<(String, String)>,
}

impl Pairing {
    fn new(known: &Parts, content: &Content) -> Self {
        let mut used = BTreeSet::new();
        let mut unmet = Vec::new();
        for part in wanted(content) {
            let signature = part.signature();
            match known
                .0
                .iter()
                .find(|(_, known)| known.signature == signature)
            {
                Some((id, _)) => {
                    used.insert(id.clone());
                }
                None => unmet.push(part),
            }
        }
        let free = known
            .0
            .iter()
            .filter(|(id, known)| {
                known.owner == Owner::Ours
                    && !used.contains(*id)
                    && content.parts.contains_key(&known.kind)
            })
            .map(|(id, known)| (known.kind.clone(), id.clone()))
            .collect();
        Self { unmet, free }
    }

    fn free_of_kind(&self, kind: &str) -> Option<String> {
        self.free
            .iter()
            .find(|(free, _)| free == kind)
            .map(|(_, id)| id.clone())
    }
}

/// All managed parts, equal signatures once.
pub(crate) fn wanted(content: &Content) -> Vec<Part> {
    let mut seen = BTreeSet::new();
    content
        .parts
        .values()
        .flatten()
        .filter(|part| seen.insert(part.signature()))
        .cloned()
        .collect()
}

/// What the record that was read says about parts: unknown ones with a wanted signature are found; ones that are gone
/// at the partner are forgotten.
pub(crate) fn note(known: &Parts, content: &Content, record: &Record) -> Parts {
    let mut parts = known.clone();
    parts
        .0
        .retain(|id, _| record.parts.iter().any(|shown| shown.id == *id));
    let wanted: BTreeSet<String> = wanted(content).iter().map(Part::signature).collect();
    for shown in &record.parts {
        if !parts.0.contains_key(&shown.id) && wanted.contains(&shown.part.signature()) {
            parts.set(&shown.id, &shown.part, Owner::Found);
        }
    }
    parts
}

//! The calls that are still missing, made anew from the link before every call.
//!
//! An append carries one part and nothing else, because repeating it adds it again. A change of a part that we made may
//! be repeated like an update, so the first one rides with the record's fields: one call instead of two.

use std::collections::BTreeSet;

use crate::content::{Content, Fields, KnownPart, Owner, Part, Parts, Record};
use crate::effect::Request;
use crate::link::Link;
use crate::target::Call;

/// What comes first.
#[expect(
    clippy::large_enum_variant,
    reason = "one is made per step, and taken apart at once"
)]
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum NextCall {
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

/// The record exists at the partner: `id`. `read` is what it showed last under this lease, `fresh` whether that can't be
/// from before our last write.
pub(crate) fn next_call(
    link: &Link,
    id: &str,
    content: &Content,
    read: Option<&Record>,
    fresh: bool,
) -> NextCall {
    let changed = link.base.changes(&content.fields);
    let pairing = Pairing::new(&link.parts, content);
    let part_calls = pairing.calls.len();
    let riding = pairing.changeable();
    if !changed.is_empty() && riding.is_none() {
        return update(link, id, content, changed, None, part_calls == 0);
    }
    if part_calls == 0 {
        return NextCall::Nothing;
    }
    let Some(record) = read else {
        return NextCall::Look;
    };
    let noted = note(&link.parts, content, record, fresh);
    if noted != link.parts {
        return NextCall::Note(noted);
    }
    if !changed.is_empty() {
        return update(link, id, content, changed, riding, part_calls == 1);
    }
    let last = part_calls == 1;
    let (part_id, part) = pairing.calls[0].clone();
    let request = Request {
        parts: vec![part.clone()],
        part_id: part_id.clone(),
        ..Request::default()
    };
    let id = id.to_owned();
    let call = match part_id {
        Some(part_id) => Call::ChangePart { id, part_id, part },
        None => Call::AppendPart { id, part },
    };
    NextCall::Call {
        call,
        request,
        last,
    }
}

fn update(
    link: &Link,
    id: &str,
    content: &Content,
    changed: Fields,
    part: Option<(String, Part)>,
    last: bool,
) -> NextCall {
    let mut whole = link.base.fields();
    whole.extend(content.fields.clone());
    let request = Request {
        fields: changed.clone(),
        parts: part.iter().map(|(_, part)| part.clone()).collect(),
        part_id: part.as_ref().map(|(part_id, _)| part_id.clone()),
        ..Request::default()
    };
    NextCall::Call {
        call: Call::Update {
            id: id.to_owned(),
            changed,
            whole,
            part,
        },
        request,
        last,
    }
}

/// Which part is which: known id and equal signature first, ours before others; position proves nothing.
struct Pairing {
    /// Parts to be made, or with an id: what that part of ours becomes. Wanted ones that no known part stands for
    /// (equal ones counted once), then those that nothing wants any more.
    calls: Vec<(Option<String>, Part)>,
}

impl Pairing {
    fn new(known: &Parts, content: &Content) -> Self {
        let mut used = BTreeSet::new();
        let mut unmet = Vec::new();
        for part in wanted(content) {
            let signature = part.signature();
            let standing = known
                .0
                .iter()
                .filter(|(_, known)| known.signature == signature)
                .min_by_key(|(_, known)| known.owner != Owner::Ours);
            match standing {
                Some((id, _)) => {
                    used.insert(id.clone());
                }
                None => unmet.push(part),
            }
        }
        let mut free: Vec<(&String, &KnownPart)> = known
            .0
            .iter()
            .filter(|(id, known)| {
                known.owner == Owner::Ours
                    && !used.contains(*id)
                    && content.parts.contains_key(&known.part_type)
            })
            .collect();
        let mut calls: Vec<(Option<String>, Part)> = Vec::new();
        for part in unmet {
            let at = free
                .iter()
                .position(|(_, known)| known.part_type == part.part_type);
            let id = at.map(|at| free.remove(at).0.clone());
            calls.push((id, part));
        }
        for (id, known) in free {
            let emptied = content.emptied.get(&known.part_type);
            if let Some(part) = emptied.filter(|part| part.signature() != known.signature) {
                calls.push((Some(id.clone()), part.clone()));
            }
        }
        Self { calls }
    }

    /// The first part of ours that becomes another one, by its id.
    fn changeable(&self) -> Option<(String, Part)> {
        self.calls
            .iter()
            .find_map(|(id, part)| Some((id.clone()?, part.clone())))
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

/// What the record that was read says about parts: ones with a wanted signature that we did not make are found; ones
/// that are gone at the partner are forgotten, unless a look that lags may only not show them yet.
pub(crate) fn note(known: &Parts, content: &Content, record: &Record, fresh: bool) -> Parts {
    let mut parts = known.clone();
    if fresh {
        parts
            .0
            .retain(|id, _| record.parts.iter().any(|shown| shown.id == *id));
    }
    let wanted: BTreeSet<String> = wanted(content).iter().map(Part::signature).collect();
    for shown in &record.parts {
        let ours = parts
            .0
            .get(&shown.id)
            .is_some_and(|known| known.owner == Owner::Ours);
        if !ours && wanted.contains(&shown.part.signature()) {
            parts.set(&shown.id, &shown.part, Owner::Found);
        }
    }
    parts
}

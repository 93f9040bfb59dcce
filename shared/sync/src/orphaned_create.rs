//! A create that was refused or given up and happened all the same (R1 and R5 of docs/tests.md), where the record's keys
//! have changed since: nothing but the keys of that call finds what it made.

use std::time::Duration;

use crate::content::{NaturalKey, Record};
use crate::effect::{Effect, Operation};
use crate::proof;
use crate::step::{Step, View};

pub(crate) enum Orphaned<'a> {
    /// Not known yet.
    Look(Step),
    /// Carries an earlier key of ours, and shows what was sent. The linked record is never it.
    Found(&'a Record),
    Nothing,
}

/// `asked`: keys that were looked up already. A key that another link has taken over finds that link's record, so it is not
/// asked; a record with other content is somebody's.
pub(crate) fn orphaned_create<'a>(
    view: View<'a>,
    asked: &[NaturalKey],
    lag: Duration,
) -> Orphaned<'a> {
    let creates = view
        .abandoned_effects
        .iter()
        .filter(|effect| effect.operation == Operation::Create);
    for effect in creates {
        for key in &effect.request.keys {
            if asked.contains(key) || view.keys_of_others.contains(&key.0) {
                continue;
            }
            match shown(view, effect, key, lag) {
                Orphaned::Nothing => {}
                known => return known,
            }
        }
    }
    Orphaned::Nothing
}

fn shown<'a>(view: View<'a>, effect: &Effect, key: &NaturalKey, lag: Duration) -> Orphaned<'a> {
    let one = std::slice::from_ref(key);
    let Some(hits) = view.observations.hits(one) else {
        return Orphaned::Look(Step::Find(one.to_vec()));
    };
    for hit in hits {
        if view.link.target_id.as_deref() == Some(hit.id.as_str()) {
            continue;
        }
        match view.observations.record(&hit.id) {
            None => return Orphaned::Look(Step::Read(hit.id.clone())),
            Some(Some(record)) if proof::shows(effect, view.link, record) => {
                return Orphaned::Found(record);
            }
            Some(Some(_)) => {}
            Some(None) => {
                if let Some(first) = view.not_shown(lag) {
                    return Orphaned::Look(first);
                }
            }
        }
    }
    Orphaned::Nothing
}

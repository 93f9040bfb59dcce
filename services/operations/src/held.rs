//! Held events: shown with what lets them go, released, given up.

use std::collections::BTreeMap;

use serde::Serialize;
use store::held::{Awaited, Count, Filter, Held, HeldMessage, Released};
use store::links::{ConflictCause, Links};
use store::{Pool, QueuePrefix, Scope};
use worker::HoldCause;

use crate::awaited::why;
use crate::{Done, Failed, Kind, conflicts, count};

/// One held event and its message.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    pub held: Held,
    pub message: HeldMessage,
    /// Of its record, where that is in conflict.
    pub conflict: Option<ConflictCause>,
    /// The record that it waits for, and why that is not there.
    pub awaited: Option<Awaited>,
}

/// # Errors
/// There is none of this number in the scope.
pub async fn show(pool: &Pool, scope: Scope<'_>, id: i64) -> Done<Shown> {
    let (held, message) = store::held::get(pool, scope, id).await?;
    let link = match held.link_id {
        Some(link) => store::links_read::summary(pool, scope, link).await?,
        None => None,
    };
    let conflict = link.and_then(|link| ConflictCause::parse(&link.conflict_cause?));
    let awaited = store::held::awaited(pool, scope, id).await?;
    Ok(Shown {
        held,
        message,
        conflict,
        awaited,
    })
}

/// What lets a held event go.
pub fn next(shown: &Shown) -> String {
    let row = &shown.held;
    let id = row.id;
    match HoldCause::parse(&row.reason) {
        Some(HoldCause::NoConnection) => format!(
            "`kurir connection add --tenant {} --system {}`; then it leaves by itself",
            row.tenant, row.target_system
        ),
        Some(HoldCause::Suspended) => format!(
            "`kurir connection test {}` once the credentials are repaired; then it leaves by itself",
            row.connection_id
                .map(|connection| connection.to_string())
                .unwrap_or_default()
        ),
        Some(HoldCause::Budget | HoldCause::Circuit) => {
            "nothing to do: it leaves by itself".to_owned()
        }
        Some(HoldCause::Prerequisite) => match &shown.awaited {
            Some(awaited) => format!(
                "it leaves by itself once {} is at the partner; {}",
                awaited.record,
                why(awaited, id)
            ),
            None => "nothing to do: it leaves by itself".to_owned(),
        },
        Some(HoldCause::Conflict) => {
            conflicts::helps(shown.conflict, &format!("kurir held release {id}"))
        }
        Some(
            HoldCause::Poison
            | HoldCause::Panic
            | HoldCause::WaitExpired
            | HoldCause::AppendUnknown,
        )
        | None => format!("`kurir held release {id}` or `kurir held discard {id} --note ...`"),
    }
}

/// Which held events an operation is for, and how many of them wait for which cause.
#[derive(Clone, Debug)]
pub struct Meant {
    pub filter: Filter,
    pub by_cause: BTreeMap<String, u64>,
}

impl Meant {
    /// How many they are.
    pub fn events(&self) -> u64 {
        self.by_cause.values().sum()
    }
}

/// # Errors
/// The filter names one event, and there is none of this number in the scope.
pub async fn meant(pool: &Pool, scope: Scope<'_>, filter: Filter) -> Done<Meant> {
    if let Some(id) = filter.id {
        // Tells a wrong number, or another tenant's, from a row that leaves just now.
        store::held::get(pool, scope, id).await?;
    }
    let mut by_cause = BTreeMap::new();
    for Count { reason, rows, .. } in store::held::counts(pool, scope, &filter).await? {
        *by_cause.entry(reason).or_insert(0) += rows.unsigned_abs();
    }
    Ok(Meant { filter, by_cause })
}

/// What became of a release.
#[derive(Clone, Debug)]
pub struct Release {
    pub released: Released,
    /// Of those that were released.
    pub by_cause: BTreeMap<String, u64>,
    /// What stays, because it would be held again at once, and what helps instead.
    pub stays: Option<Stays>,
}

/// Events that a release does not help.
#[derive(Clone, Debug)]
pub struct Stays {
    pub why: String,
    pub instead: String,
}

/// Sends held events back to their workers.
///
/// # Errors
/// Refused where all that is meant would be held again at once.
pub async fn release(
    pool: &Pool,
    prefix: &QueuePrefix,
    scope: Scope<'_>,
    meant: Meant,
    actor: &str,
) -> Done<Release> {
    let released = store::held::release(pool, prefix, scope, &meant.filter, actor).await?;
    let mut by_cause = meant.by_cause;
    let Some(first) = released.in_vain.first() else {
        return Ok(Release {
            released,
            by_cause,
            stays: None,
        });
    };
    let conflict = HoldCause::Conflict.as_str();
    let conflicts = by_cause.remove(conflict).unwrap_or_default();
    if let Some(left) = conflicts
        .checked_sub(released.left)
        .filter(|left| *left > 0)
    {
        by_cause.insert(conflict.to_owned(), left);
    }
    let stays = Stays {
        why: in_vain(&released),
        instead: conflicts::instead(first),
    };
    if released.events == 0 {
        let refused = format!("nothing was released; {}", stays.why);
        return Err(Failed::new(Kind::Refused, refused).next(stays.instead));
    }
    Ok(Release {
        released,
        by_cause,
        stays: Some(stays),
    })
}

fn in_vain(released: &Released) -> String {
    let mut stays: Vec<String> = released.in_vain.iter().map(conflicts::in_vain).collect();
    let unnamed = released.left.saturating_sub(stays.len() as u64);
    if unnamed > 0 {
        stays.push(format!("and {unnamed} more"));
    }
    format!(
        "{} would be held again at once:\n  {}",
        count(released.left, "event"),
        stays.join("\n  ")
    )
}

/// Gives held events up, with a note; answers how many they were.
///
/// # Errors
/// Refused where the one that is meant has changed meanwhile.
pub async fn discard(
    links: &Links,
    scope: Scope<'_>,
    meant: &Meant,
    actor: &str,
    note: &str,
) -> Done<u64> {
    let Some(id) = meant.filter.id else {
        let discarded = store::held::discard(links, scope, &meant.filter, actor, note).await?;
        return Ok(discarded.events);
    };
    if store::held::discard_one(links, scope, id, actor, note).await? {
        return Ok(1);
    }
    let changed = format!("{id} has changed meanwhile; nothing was discarded");
    Err(Failed::new(Kind::Refused, changed)
        .next(format!("`kurir held show {id}` shows what it is now")))
}

/// ` (10 suspended, 2 poison)`
pub fn in_words(causes: &BTreeMap<String, u64>) -> String {
    if causes.is_empty() {
        return String::new();
    }
    let words: Vec<String> = causes
        .iter()
        .map(|(cause, rows)| format!("{rows} {cause}"))
        .collect();
    format!(" ({})", words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::in_words;

    #[test]
    fn counts_are_told_by_cause() {
        let causes = [("suspended", 10), ("poison", 2)].map(|(name, n)| (name.to_owned(), n));
        assert_eq!(in_words(&causes.into()), " (2 poison, 10 suspended)");
        assert_eq!(in_words(&[].into()), "");
    }
}

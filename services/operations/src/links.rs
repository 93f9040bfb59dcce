//! Records and their copies at partners.

use store::held::{self, Settled};
use store::links::ConflictCause;
use store::links_read::{Filter, LinkSummary, Timeline};
use store::{Pool, Scope};

use crate::{Done, Failed, Kind, conflicts, waiting};

/// Enough to tell that a record is not named clearly.
const NAMESAKES: i64 = 10;

/// The number of the link that is meant by its number or by kind/id.
///
/// # Errors
/// There is none of that name, or there are several: the message names them.
pub async fn find(pool: &Pool, scope: Scope<'_>, record: &str) -> Done<i64> {
    if let Ok(id) = record.parse() {
        return Ok(id);
    }
    let Some((kind, source_id)) = record.split_once('/') else {
        return Err(Failed::new(
            Kind::Usage,
            format!("`{record}` is neither a link's number nor kind/id, for example contact/512"),
        ));
    };
    let filter = Filter {
        kind: Some(kind.to_owned()),
        source_id: Some(source_id.to_owned()),
        ..Filter::default()
    };
    let found = store::links_read::list(pool, scope, &filter, None, NAMESAKES).await?;
    match found.as_slice() {
        [one] => Ok(one.id),
        [] => {
            let waits = held::Filter {
                record: Some(record.to_owned()),
                ..held::Filter::default()
            };
            let mut next = waiting::render(pool, scope, &waits).await?;
            if next.is_empty() {
                next.push_str("`kurir links list` shows what there is");
            }
            Err(Failed::new(Kind::NotFound, format!("no link of {record}")).next(next))
        }
        several => {
            let rows = several.iter().map(|link| {
                let (tenant, target) = (&link.tenant, &link.target_system);
                format!(
                    "  {} ({tenant} at {target}, account {})",
                    link.id,
                    account(link)
                )
            });
            let message = format!(
                "several links of {record}:\n{}",
                rows.collect::<Vec<_>>().join("\n")
            );
            Err(Failed::new(Kind::Refused, message).next("name one by its number"))
        }
    }
}

/// Says that the conflict of a record is settled; answers the link's number.
///
/// # Errors
/// It is in no conflict, or it would be one again at once.
pub async fn settle(pool: &Pool, scope: Scope<'_>, record: &str, actor: &str) -> Done<i64> {
    let id = find(pool, scope, record).await?;
    match held::settle_conflict(pool, scope, id, actor).await? {
        Settled::Done => Ok(id),
        Settled::NotInConflict => Err(Failed::new(
            Kind::Refused,
            format!("link {id} is in no conflict"),
        )),
        Settled::UnclearUntil(until) => {
            let why = format!("nothing was settled: {}", conflicts::still_unclear(until));
            Err(Failed::new(Kind::Refused, why)
                .next("look at the partner after that time, then settle it"))
        }
        Settled::InVain(row) => {
            let again = format!(
                "it would be a conflict again at once: {}",
                conflicts::in_vain(&row)
            );
            Err(Failed::new(Kind::Refused, again).next(conflicts::instead(&row)))
        }
    }
}

/// The name of the account at the target.
pub fn account(link: &LinkSummary) -> &str {
    link.account.as_deref().unwrap_or("unknown")
}

/// Whether the target holds the newest version that is known.
pub fn agreement(link: &LinkSummary) -> &'static str {
    match (&link.desired_k, &link.applied_k) {
        (None, None) => "none",
        (desired, applied) if desired <= applied => "current",
        (_, None) => "not there yet",
        (_, Some(_)) => "behind",
    }
}

/// What a link's state means.
pub fn state_in_words(link: &LinkSummary) -> &'static str {
    match link.state.as_str() {
        "pending" => "known, not at the target yet",
        "linked" => "both sides are joined",
        "conflict" => conflicts::means(conflict(link)),
        "deleted" => "gone at its source",
        "alias" => "merged into another record",
        _ => "unknown to this build",
    }
}

/// What a person does about a conflict: by its held event, if there is one.
pub fn what_helps(timeline: &Timeline) -> String {
    if timeline.link.state != "conflict" {
        return String::new();
    }
    let held = timeline.held.iter().find(|held| held.reason == "conflict");
    let done = match held {
        Some(held) => format!("kurir held release {}", held.id),
        None => format!("kurir links settle {}", timeline.link.id),
    };
    conflicts::helps(conflict(&timeline.link), &done)
}

fn conflict(link: &LinkSummary) -> Option<ConflictCause> {
    link.conflict_cause
        .as_deref()
        .and_then(ConflictCause::parse)
}

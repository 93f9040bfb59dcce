//! `kurir held`: events that wait until their cause is gone.

use std::collections::BTreeMap;

use serde_json::json;
use store::Pool;
use store::held::{Count, Filter, Held as Row, HeldMessage, Released};
use store::links::{ConflictCause, Links};
use worker::HoldCause;

use crate::cli::held::{Held, HeldFilter, Which};
use crate::conflicts;
use crate::context::{Context, scope};
use crate::exit::{Done, Exit, Failed};
use crate::output::{Output, Page, at, at_both, at_or_empty, count, facts, one_more, short, table};

const DETAIL_WIDTH: usize = 60;

fn filter(given: &HeldFilter, id: Option<i64>) -> Filter {
    Filter {
        id,
        worker: given.worker.clone(),
        cause: given.cause,
        event_type: given.event_type.clone(),
        record: given.record.clone(),
        connection: given.connection,
        text: given.text.clone(),
        ..Filter::default()
    }
}

pub(crate) async fn run(context: &Context, command: Held) -> Done {
    let pool = context.pool().await?;
    match command {
        Held::List {
            filter: given,
            after,
            limit,
            output,
        } => {
            let rows = store::held::list(
                &pool,
                scope(given.tenant.as_ref()),
                &filter(&given, None),
                after,
                one_more(limit),
            )
            .await?;
            let page = Page::new(rows, limit, |last| format!("--after {}", last.id));
            output.page(&page, |rows| {
                let heads = [
                    "id", "tenant", "worker", "cause", "event", "subject", "since", "detail",
                ];
                table(&heads, rows.iter().map(row).collect(), "nothing is held")
            })
        }
        Held::Show { id, tenant, output } => {
            let (row, message) = store::held::get(&pool, scope(tenant.as_ref()), id).await?;
            let link = match row.link_id {
                Some(link) => {
                    store::links_read::summary(&pool, scope(tenant.as_ref()), link).await?
                }
                None => None,
            };
            let conflict = link.and_then(|link| ConflictCause::parse(&link.conflict_cause?));
            output.show(
                &json!({ "held": row, "message": message, "conflict": conflict }),
                |_| tell(&row, &message, conflict),
            )
        }
        Held::Release { which, output } => {
            let (filter, causes) = meant(&pool, &which).await?;
            let scope = scope(which.filter.tenant.as_ref());
            let released =
                store::held::release(&pool, &context.prefix(), scope, &filter, &which.actor)
                    .await?;
            told(&released, causes, output)
        }
        Held::Discard {
            which,
            note,
            yes,
            output,
        } => {
            let (filter, causes) = meant(&pool, &which).await?;
            let scope = scope(which.filter.tenant.as_ref());
            let links = Links::new(
                pool.clone(),
                context.prefix().as_str(),
                context.settings().sync.lease,
            );
            let events = match which.id {
                Some(id) => {
                    let done =
                        store::held::discard_one(&links, scope, id, &which.actor, &note).await?;
                    if !done {
                        return Err(Failed::new(
                            Exit::Refused,
                            format!("{id} has changed meanwhile; nothing was discarded"),
                        )
                        .next(format!("`kurir held show {id}` shows what it is now")));
                    }
                    1
                }
                None => {
                    let total = causes.values().sum::<u64>();
                    if total > 1 && !yes {
                        return Err(Failed::new(
                            Exit::Refused,
                            format!(
                                "this gives up {}{}",
                                count(total, "event"),
                                in_words(&causes)
                            ),
                        )
                        .next("look at them with `kurir held list`, then repeat with --yes"));
                    }
                    store::held::discard(&links, scope, &filter, &which.actor, &note)
                        .await?
                        .events
                }
            };
            output.show(&json!({ "discarded": events, "by_cause": causes }), |_| {
                format!(
                    "discarded {}{}; `kurir dead-letters list --state discarded` shows them",
                    count(events, "event"),
                    in_words(&causes)
                )
            })
        }
    }
}

/// How a release ended. Refused where all that is meant would be held again at once.
fn told(released: &Released, mut causes: BTreeMap<String, u64>, output: Output) -> Done {
    let Some(first) = released.in_vain.first() else {
        let by_cause = json!({ "released": released.events, "by_cause": causes });
        return output.show(&by_cause, |_| let_go(released.events, &causes));
    };
    let conflict = HoldCause::Conflict.as_str();
    let conflicts = causes.remove(conflict).unwrap_or_default();
    if let Some(left) = conflicts
        .checked_sub(released.left)
        .filter(|left| *left > 0)
    {
        causes.insert(conflict.to_owned(), left);
    }
    let mut stays: Vec<String> = released.in_vain.iter().map(conflicts::in_vain).collect();
    let unnamed = released.left.saturating_sub(stays.len() as u64);
    if unnamed > 0 {
        stays.push(format!("and {unnamed} more"));
    }
    let why = format!(
        "{} would be held again at once:\n  {}",
        count(released.left, "event"),
        stays.join("\n  ")
    );
    if released.events == 0 {
        return Err(
            Failed::new(Exit::Refused, format!("nothing was released; {why}"))
                .next(conflicts::instead(first)),
        );
    }
    let all = json!({ "released": released.events, "by_cause": causes, "left": released.left, "in_vain": released.in_vain });
    output.show(&all, |_| {
        let gone = let_go(released.events, &causes);
        format!("{gone}\n{why}\n next: {}", conflicts::instead(first))
    })
}

fn let_go(events: u64, causes: &BTreeMap<String, u64>) -> String {
    format!(
        "released {}{}; the keeper sends them to their workers",
        count(events, "event"),
        in_words(causes)
    )
}

/// What is meant, and how many of it wait for which cause.
async fn meant(pool: &Pool, which: &Which) -> Done<(Filter, BTreeMap<String, u64>)> {
    let given = &which.filter;
    if which.id.is_none() && !which.all && given.tenant.is_none() && !given.names_something() {
        return Err(Failed::new(Exit::Usage, "which held events?")
            .next("name an id or a filter; --all means every one"));
    }
    let scope = scope(given.tenant.as_ref());
    if let Some(id) = which.id {
        // Tells a wrong number, or another tenant's, from a row that leaves just now.
        store::held::get(pool, scope, id).await?;
    }
    let filter = filter(given, which.id);
    let mut causes = BTreeMap::new();
    for Count { reason, rows, .. } in store::held::counts(pool, scope, &filter).await? {
        *causes.entry(reason).or_insert(0) += rows.unsigned_abs();
    }
    Ok((filter, causes))
}

/// ` (10 suspended, 2 poison)`
fn in_words(causes: &BTreeMap<String, u64>) -> String {
    if causes.is_empty() {
        return String::new();
    }
    let words: Vec<String> = causes
        .iter()
        .map(|(cause, rows)| format!("{rows} {cause}"))
        .collect();
    format!(" ({})", words.join(", "))
}

fn row(row: &Row) -> Vec<String> {
    vec![
        row.id.to_string(),
        row.tenant.clone(),
        row.worker.clone(),
        row.reason.clone(),
        row.event_id.clone(),
        row.subject.clone(),
        at(row.held_at),
        short(row.detail.as_deref().unwrap_or_default(), DETAIL_WIDTH),
    ]
}

fn tell(row: &Row, message: &HeldMessage, conflict: Option<ConflictCause>) -> String {
    let known = facts(&[
        ("held event", row.id.to_string()),
        ("cause", row.reason.clone()),
        ("detail", row.detail.clone().unwrap_or_default()),
        (
            "waits for",
            row.waits_for_key
                .as_ref()
                .map(|key| format!("the key {key} to be free"))
                .or_else(|| {
                    row.waits_for_record
                        .as_ref()
                        .map(|record| format!("{record} to be linked"))
                })
                .unwrap_or_default(),
        ),
        ("not before", at_or_empty(row.release_at)),
        ("tenant", row.tenant.clone()),
        ("worker", row.worker.clone()),
        (
            "connection",
            row.connection_id
                .map(|id| id.to_string())
                .unwrap_or_default(),
        ),
        ("event", format!("{} of {}", row.event_id, row.source)),
        ("type", row.event_type.clone()),
        ("subject", row.subject.clone()),
        (
            "link",
            row.link_id
                .map(|link| format!("{link} (`kurir links show {link}`)"))
                .unwrap_or_default(),
        ),
        ("since", at_both(row.held_at)),
    ]);
    let body = serde_json::to_string_pretty(&message.body).unwrap_or_default();
    format!(
        "{known}\n\nMessage\n{body}\n\nNext: {}",
        next(row, conflict)
    )
}

/// What lets it go.
fn next(row: &Row, conflict: Option<ConflictCause>) -> String {
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
        Some(HoldCause::Budget | HoldCause::Circuit | HoldCause::Prerequisite) => {
            "nothing to do: it leaves by itself".to_owned()
        }
        Some(HoldCause::Conflict) => {
            conflicts::helps(conflict, &format!("kurir held release {id}"))
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

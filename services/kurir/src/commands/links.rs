//! `kurir links`: records, their copies at partners, and their whole story.

mod words;

use serde_json::{Value, json};
use store::held::Settled;
use store::links::ConflictCause;
use store::links_read::{Change, Effect, Filter, LinkSummary, Story};
use store::{Scope, held};

use crate::cli::Links;
use crate::commands::dead_letters::said;
use crate::commands::waiting;
use crate::conflicts;
use crate::context::{Context, scope};
use crate::exit::{Done, Exit, Failed};
use crate::output::{Page, at, at_both, at_or_empty, facts, one_more, short, table};

const ERROR_WIDTH: usize = 50;
const DETAIL_WIDTH: usize = 90;
/// Enough to tell that a record is not named clearly.
const NAMESAKES: i64 = 10;

pub(crate) async fn run(context: &Context, command: Links) -> Done {
    let pool = context.pool().await?;
    match command {
        Links::List {
            tenant,
            state,
            record,
            target,
            after,
            limit,
            output,
        } => {
            let held = held::Filter {
                record: record.clone(),
                ..held::Filter::default()
            };
            let filter = Filter {
                state,
                source_id: record,
                target_id: target,
                ..Filter::default()
            };
            let scope = scope(tenant.as_ref());
            let asked = one_more(limit);
            let links = store::links_read::list(&pool, scope, &filter, after, asked).await?;
            let page = Page::new(links, limit, |last| format!("--after {}", last.id));
            // A link's state or its id there is nothing that a held event has.
            let held = match filter.state.is_none() && filter.target_id.is_none() {
                true => waiting::told(&pool, scope, &held).await?,
                false => String::new(),
            };
            output.page(&page, |links| {
                let heads = [
                    "link",
                    "tenant",
                    "record",
                    "target",
                    "account",
                    "its id there",
                    "state",
                    "version",
                    "changed",
                    "last error",
                ];
                let list = table(&heads, links.iter().map(row).collect(), "no links");
                waiting::below(list, &held)
            })
        }
        Links::Show {
            record,
            tenant,
            output,
        } => {
            let scope = scope(tenant.as_ref());
            let id = match record.parse() {
                Ok(id) => id,
                Err(_) => find(&pool, scope, &record).await?,
            };
            let story = store::links_read::story(&pool, scope, id).await?;
            output.show(&story, tell)
        }
        Links::Settle {
            record,
            tenant,
            actor,
            output,
        } => {
            let scope = scope(tenant.as_ref());
            let id = match record.parse() {
                Ok(id) => id,
                Err(_) => find(&pool, scope, &record).await?,
            };
            match held::settle_conflict(&pool, scope, id, &actor).await? {
                Settled::Done => output.show(&json!({ "settled": id }), |_| {
                    format!(
                        "link {id} is in conflict no more; what was held for that leaves by itself"
                    )
                }),
                Settled::NotInConflict => Err(Failed::new(
                    Exit::Refused,
                    format!("link {id} is in no conflict"),
                )),
                Settled::UnclearUntil(until) => Err(Failed::new(
                    Exit::Refused,
                    format!("nothing was settled: {}", conflicts::still_unclear(until)),
                )
                .next("look at the partner after that time, then settle it")),
                Settled::InVain(row) => Err(Failed::new(
                    Exit::Refused,
                    format!(
                        "it would be a conflict again at once: {}",
                        conflicts::in_vain(&row)
                    ),
                )
                .next(conflicts::instead(&row))),
            }
        }
    }
}

async fn find(pool: &store::Pool, scope: Scope<'_>, record: &str) -> Done<i64> {
    let Some((kind, source_id)) = record.split_once('/') else {
        return Err(Failed::new(
            Exit::Usage,
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
            let mut next = waiting::told(pool, scope, &waits).await?;
            if next.is_empty() {
                next.push_str("`kurir links list` shows what there is");
            }
            Err(Failed::new(Exit::NotFound, format!("no link of {record}")).next(next))
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
            Err(Failed::new(Exit::Refused, message).next("name one by its number"))
        }
    }
}

fn row(link: &LinkSummary) -> Vec<String> {
    vec![
        link.id.to_string(),
        link.tenant.clone(),
        format!("{}/{}", link.kind, link.source_id),
        link.target_system.clone(),
        account(link).to_owned(),
        link.target_id.clone().unwrap_or_default(),
        link.state.clone(),
        agreement(link),
        at(link.updated_at),
        short(link.last_error.as_deref().unwrap_or_default(), ERROR_WIDTH),
    ]
}

fn account(link: &LinkSummary) -> &str {
    link.account.as_deref().unwrap_or("unknown")
}

fn agreement(link: &LinkSummary) -> String {
    match (&link.desired_k, &link.applied_k) {
        (None, None) => "none".to_owned(),
        (desired, applied) if desired <= applied => "current".to_owned(),
        (_, None) => "not there yet".to_owned(),
        (_, Some(_)) => "behind".to_owned(),
    }
}

fn tell(story: &Story) -> String {
    let link = &story.link;
    let version = |key: &Option<store::StoredKey>| {
        key.as_ref()
            .map_or_else(|| "none".to_owned(), ToString::to_string)
    };
    let working = story
        .content
        .lease_until
        .filter(|until| *until > chrono::Utc::now());
    let mut parts = vec![facts(&[
        ("link", link.id.to_string()),
        (
            "record",
            format!(
                "{}/{} of {} ({} {})",
                link.kind, link.source_id, link.tenant, link.source_system, link.source_account
            ),
        ),
        (
            "target",
            format!(
                "{}, account {} (connection {})",
                link.target_system,
                account(link),
                link.connection_id
            ),
        ),
        (
            "its id there",
            link.target_id.clone().unwrap_or_else(|| "none".to_owned()),
        ),
        ("state", format!("{}: {}", link.state, state_in_words(link))),
        ("newest seen", version(&link.desired_k)),
        ("target holds", version(&link.applied_k)),
        (
            "at work",
            working
                .map(|until| {
                    format!(
                        "event {} until {}",
                        story.content.claim_event.as_deref().unwrap_or("?"),
                        at(until)
                    )
                })
                .unwrap_or_default(),
        ),
        ("look again", at_or_empty(link.recheck_at)),
        ("last error", link.last_error.clone().unwrap_or_default()),
        ("what helps", what_helps(story)),
        ("keys", story.natural_keys.join(", ")),
        ("since", at_both(link.created_at)),
    ])];
    let content: Vec<Vec<String>> = story
        .content
        .base
        .as_object()
        .into_iter()
        .flatten()
        .map(|(field, value)| {
            let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
            vec![field.clone(), text("sent"), text("stored")]
        })
        .collect();
    if !content.is_empty() {
        parts.push(format!(
            "Content that both sides agreed on\n{}",
            table(&["field", "sent", "stored as"], content, "")
        ));
    }
    parts.push(format!(
        "Calls to the partner\n{}",
        table(
            &["booked", "what", "for event", "ended", "outcome"],
            story.effects.iter().map(effect).collect(),
            "none yet",
        )
    ));
    if !story.kept.is_empty() {
        let rows = story
            .kept
            .iter()
            .map(|one| vec![one.k.to_string(), at(one.kept_at)])
            .collect();
        parts.push(format!(
            "Older versions kept until a newer one is there\n{}",
            table(&["version", "since"], rows, "")
        ));
    }
    if !story.unsettled.is_empty() {
        let rows = story
            .unsettled
            .iter()
            .map(|one| vec![one.event_id.clone(), at(one.taken_over_at)])
            .collect();
        parts.push(format!(
            "Handlings that never came back\n{}",
            table(&["event", "taken over"], rows, "")
        ));
    }
    if !story.held.is_empty() {
        let rows = story
            .held
            .iter()
            .map(|one| {
                vec![
                    one.id.to_string(),
                    one.event_id.clone(),
                    one.reason.clone(),
                    at(one.held_at),
                ]
            })
            .collect();
        parts.push(format!(
            "Held\n{}",
            table(&["id", "event", "cause", "since"], rows, "")
        ));
    }
    if !story.dead_letters.is_empty() {
        let rows = story.dead_letters.iter().map(|one| {
            vec![
                one.id.to_string(),
                one.event_id.clone().unwrap_or_default(),
                one.state.clone(),
                one.class.clone(),
                at(one.last_at),
            ]
        });
        parts.push(format!(
            "Dead letters\n{}",
            table(
                &["id", "event", "state", "class", "last died"],
                rows.collect(),
                ""
            )
        ));
    }
    parts.push(format!(
        "What happened\n{}",
        table(
            &["at", "what", "event", "id there", "detail"],
            story.history.iter().map(change).collect(),
            "nothing yet",
        )
    ));
    parts.join("\n\n")
}

fn conflict(link: &LinkSummary) -> Option<ConflictCause> {
    link.conflict_cause
        .as_deref()
        .and_then(ConflictCause::parse)
}

/// Of a conflict: by its held event, if there is one.
fn what_helps(story: &Story) -> String {
    if story.link.state != "conflict" {
        return String::new();
    }
    let held = story.held.iter().find(|held| held.reason == "conflict");
    let done = match held {
        Some(held) => format!("kurir held release {}", held.id),
        None => format!("kurir links settle {}", story.link.id),
    };
    conflicts::helps(conflict(&story.link), &done)
}

fn state_in_words(link: &LinkSummary) -> &'static str {
    match link.state.as_str() {
        "pending" => "known, not at the target yet",
        "linked" => "both sides are joined",
        "conflict" => conflicts::means(conflict(link)),
        "deleted" => "gone at its source",
        "alias" => "merged into another record",
        _ => "unknown to this build",
    }
}

fn effect(effect: &Effect) -> Vec<String> {
    let ended = match (effect.state.as_str(), effect.resolved_at, effect.settle_at) {
        ("sent" | "unknown", None, Some(settle)) => format!("open, clear by {}", at(settle)),
        (state, Some(resolved), _) => format!("{state} {}", at(resolved)),
        (state, ..) => state.to_owned(),
    };
    let last = if effect.last { "" } else { ", more to come" };
    vec![
        at(effect.sent_at.unwrap_or(effect.created_at)),
        format!("{}{last}", effect.operation.replace('_', " ")),
        format!("{}{}", effect.event_id, life(effect.generation)),
        ended,
        short(
            &[effect.target_id.clone(), effect.outcome.clone()]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" "),
            DETAIL_WIDTH,
        ),
    ]
}

fn change(change: &Change) -> Vec<String> {
    vec![
        at(change.at),
        words::happened(&change.what).to_owned(),
        format!(
            "{}{}",
            change.event_id.as_deref().unwrap_or_default(),
            life(change.generation.unwrap_or(0))
        ),
        change.target_id.clone().unwrap_or_default(),
        match change.what.as_str() {
            "same_version" => same_version(&change.detail),
            _ => short(&said(&change.detail), DETAIL_WIDTH),
        },
    ]
}

/// Two changes with one version.
fn same_version(detail: &Value) -> String {
    let text = |name: &str| detail[name].as_str().unwrap_or("?");
    let content = match detail["content"].as_str() {
        Some("same") => "the same content",
        Some("other") => "other content",
        _ => "its own content",
    };
    format!(
        "{} has this version, too, with {content}: the higher event id wins, {}",
        text("other"),
        text("wins")
    )
}

fn life(generation: i32) -> String {
    if generation > 0 {
        format!(" (replay {generation})")
    } else {
        String::new()
    }
}

//! One record's whole timeline in words.

use operations::history;
use operations::links::{account, state_in_words, what_helps};
use store::links_read::{Change, Effect, Named, Timeline};

use crate::output::{at, at_both, at_or_empty, facts, short, table};

const DETAIL_WIDTH: usize = 90;

pub(super) fn render(timeline: &Timeline) -> String {
    let mut parts = vec![about(timeline)];
    parts.extend(content(timeline));
    parts.extend(names(timeline));
    parts.push(format!(
        "Calls to the partner\n{}",
        table(
            &["booked", "what", "for event", "ended", "outcome"],
            timeline.effects.iter().map(effect).collect(),
            "none yet",
        )
    ));
    parts.extend(waiting(timeline));
    parts.push(format!(
        "What happened\n{}",
        table(
            &["at", "what", "event", "id there", "detail"],
            timeline.history.iter().map(change).collect(),
            "nothing yet",
        )
    ));
    parts.join("\n\n")
}

fn about(timeline: &Timeline) -> String {
    let link = &timeline.link;
    let version = |key: &Option<store::StoredKey>| {
        key.as_ref()
            .map_or_else(|| "none".to_owned(), ToString::to_string)
    };
    let working = timeline
        .content
        .lease_until
        .filter(|until| *until > chrono::Utc::now());
    facts(&[
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
                        timeline.content.claim_event.as_deref().unwrap_or("?"),
                        at(until)
                    )
                })
                .unwrap_or_default(),
        ),
        ("look again", at_or_empty(link.recheck_at)),
        ("last error", link.last_error.clone().unwrap_or_default()),
        ("what helps", what_helps(timeline)),
        ("keys", timeline.natural_keys.join(", ")),
        ("since", at_both(link.created_at)),
    ])
}

/// Nothing before both sides have agreed on anything.
fn content(timeline: &Timeline) -> Option<String> {
    let fields: Vec<Vec<String>> = timeline
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
    below(
        "Content that both sides agreed on",
        &["field", "sent", "stored as"],
        fields,
    )
}

/// The records that it names at the partner.
fn names(timeline: &Timeline) -> Option<String> {
    let row = |named: &Named| {
        let now = match &named.target_id {
            Some(now) if *now == named.sent_id => String::new(),
            Some(now) => format!("{now}; its next event takes it along"),
            None => "not to be named now".to_owned(),
        };
        vec![
            format!("{}/{}", named.kind, named.source_id),
            named.id.to_string(),
            named.sent_id.clone(),
            now,
        ]
    };
    below(
        "Records that it names",
        &["record", "link", "sent as", "is now"],
        timeline.names.iter().map(row).collect(),
    )
}

/// What of the record is kept, was never answered for, waits or has died: a table for each that there is.
fn waiting(timeline: &Timeline) -> Vec<String> {
    let kept = timeline
        .kept
        .iter()
        .map(|one| vec![one.k.to_string(), at(one.kept_at)]);
    let unsettled = timeline
        .unsettled
        .iter()
        .map(|one| vec![one.event_id.clone(), at(one.taken_over_at)]);
    let held = timeline.held.iter().map(|one| {
        let (id, cause) = (one.id.to_string(), one.reason.clone());
        vec![id, one.event_id.clone(), cause, at(one.held_at)]
    });
    let dead = timeline.dead_letters.iter().map(|one| {
        vec![
            one.id.to_string(),
            one.event_id.clone().unwrap_or_default(),
            one.state.clone(),
            one.class.clone(),
            at(one.last_at),
        ]
    });
    let tables = [
        below(
            "Older versions kept until a newer one is there",
            &["version", "since"],
            kept.collect(),
        ),
        below(
            "Handlings that never came back",
            &["event", "taken over"],
            unsettled.collect(),
        ),
        below("Held", &["id", "event", "cause", "since"], held.collect()),
        below(
            "Dead letters",
            &["id", "event", "state", "class", "last died"],
            dead.collect(),
        ),
    ];
    tables.into_iter().flatten().collect()
}

/// A table below its title; none without rows.
fn below(title: &str, heads: &[&str], rows: Vec<Vec<String>>) -> Option<String> {
    (!rows.is_empty()).then(|| format!("{title}\n{}", table(heads, rows, "")))
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
        history::happened(&change.what).to_owned(),
        format!(
            "{}{}",
            change.event_id.as_deref().unwrap_or_default(),
            life(change.generation.unwrap_or(0))
        ),
        change.target_id.clone().unwrap_or_default(),
        match change.what.as_str() {
            history::SAME_VERSION => history::detail(change),
            _ => short(&history::detail(change), DETAIL_WIDTH),
        },
    ]
}

fn life(generation: i32) -> String {
    if generation > 0 {
        format!(" (replay {generation})")
    } else {
        String::new()
    }
}

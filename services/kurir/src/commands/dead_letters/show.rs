//! One dead letter's whole timeline in words.

use clap::Args;
use event::TenantId;
use operations::dead_letters::{self, AdvisedTimeline, Step};
use operations::render_detail;
use runtime::visible;
use store::dead_letters::Timeline;
use store::{Body, Pool};
use uuid::Uuid;

use super::dead_letter;
use super::json_text::pretty;
use crate::context::scope;
use crate::exit::Done;
use crate::fleet::workers;
use crate::output::{Output, at, at_both, facts, table};
use crate::values::tenant;

#[derive(Debug, Args)]
pub(crate) struct One {
    /// Id of the dead letter
    #[arg(value_parser = dead_letter)]
    pub(crate) id: Uuid,
    /// Whose it must be
    #[arg(long, value_parser = tenant)]
    pub(crate) tenant: Option<TenantId>,
    #[command(flatten)]
    pub(crate) output: Output,
}

pub(super) async fn run(pool: &Pool, given: One) -> Done {
    let scope = scope(given.tenant.as_ref());
    let told = dead_letters::timeline(pool, scope, given.id, workers()).await?;
    given.output.show(&told, render)
}

fn render(view: &AdvisedTimeline) -> String {
    let timeline = &view.timeline;
    let mut parts = vec![about(timeline)];
    parts.push(tried(view));
    if let Some(partly) = timeline
        .message
        .partly_applied
        .as_ref()
        .filter(|partly| !partly.is_null())
    {
        parts.push(format!("Partly applied before it died\n{partly}"));
    }
    parts.push(record(timeline));
    if !timeline.replays.is_empty() {
        parts.push(replays(timeline));
    }
    if !timeline.history.is_empty() {
        parts.push(history(timeline));
    }
    parts.push(event(timeline));
    parts.push(help(&view.next));
    parts.join("\n\n")
}

fn about(timeline: &Timeline) -> String {
    let dead_letter = &timeline.dead_letter;
    let optional = |text: &Option<String>| text.clone().unwrap_or_default();
    let closed = match (&dead_letter.resolved_by, dead_letter.resolved_at) {
        (Some(by), Some(when)) => format!(" by {by}, {}", at(when)),
        _ => String::new(),
    };
    facts(&[
        ("dead letter", dead_letter.id.to_string()),
        ("state", format!("{}{closed}", dead_letter.state)),
        ("note", optional(&dead_letter.note)),
        ("class", dead_letter.class.clone()),
        ("message", optional(&dead_letter.message)),
        ("tenant", optional(&dead_letter.tenant)),
        ("worker", dead_letter.worker.clone()),
        ("record", optional(&dead_letter.subject)),
        ("facet", optional(&dead_letter.facet)),
        ("type", optional(&dead_letter.event_type)),
        (
            "event",
            format!(
                "{} of {}",
                optional(&dead_letter.event_id),
                optional(&dead_letter.source)
            ),
        ),
        (
            "version",
            dead_letter
                .k
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
        ),
        ("first died", at_both(dead_letter.first_at)),
        ("last died", at_both(dead_letter.last_at)),
        ("deaths", dead_letter.deaths.to_string()),
        ("replays", dead_letter.generation.to_string()),
        ("fingerprint", dead_letter.fingerprint.clone()),
        ("trace", optional(&dead_letter.trace_id)),
    ])
}

fn tried(view: &AdvisedTimeline) -> String {
    let rows: Vec<Vec<String>> = view
        .attempts
        .iter()
        .map(|one| {
            vec![
                at(one.at),
                one.class.clone(),
                one.code.clone(),
                format!("{} ms", one.ms),
            ]
        })
        .collect();
    let nothing = "nothing: it died before any attempt, or the broker gave it up";
    format!(
        "What was tried before it died\n{}",
        table(&["at", "class", "said", "took"], rows, nothing)
    )
}

/// What the link looks like now, in one or two sentences.
fn record(timeline: &Timeline) -> String {
    let mut lines = vec!["Its record now".to_owned()];
    match &timeline.link {
        None => {
            lines.push("nothing is known of it: no version of it was ever worked on".to_owned())
        }
        Some(link) => {
            let target = match &link.target_id {
                Some(target) => format!("is {target} at {}", link.target_system),
                None => format!("is not at {}", link.target_system),
            };
            lines.push(format!(
                "{}/{} {target}; link {} is {} (`kurir links show {}`)",
                link.kind, link.source_id, link.id, link.state, link.id
            ));
            lines.push(match (&link.applied_k, &link.desired_k) {
                (None, None) => "the partner has no version of it".to_owned(),
                (None, Some(wanted)) => {
                    format!("the partner has no version of it; {wanted} is to come")
                }
                (Some(there), Some(wanted)) if there < wanted => {
                    format!("the partner has {there}; {wanted} is to come")
                }
                (Some(there), _) => {
                    format!("the partner has {there}, and nothing newer is to come")
                }
            });
            if let Some(error) = &link.last_error {
                lines.push(format!("last said: {}", error));
            }
        }
    }
    for connection in &timeline.connections {
        lines.push(format!(
            "connection to {} ({}): {}{}",
            connection.system,
            connection.account,
            if connection.enabled {
                connection.state.as_str()
            } else {
                "off"
            },
            connection
                .state_reason
                .as_ref()
                .map(|reason| format!(", {}", reason))
                .unwrap_or_default()
        ));
    }
    // Each is one line, whoever its words come from.
    let lines = lines.iter().map(|line| visible::line(line));
    lines.collect::<Vec<_>>().join("\n")
}

fn replays(timeline: &Timeline) -> String {
    let rows = timeline.replays.iter().map(|one| {
        vec![
            at(one.at),
            one.replay_id.to_string(),
            one.state.clone(),
            one.detail.clone().unwrap_or_default(),
            one.requested_by.clone(),
        ]
    });
    format!(
        "Replays\n{}",
        table(&["at", "replay", "became", "why", "by"], rows.collect(), "")
    )
}

fn history(timeline: &Timeline) -> String {
    let rows = timeline.history.iter().map(|one| {
        let detail = one.detail.as_ref().map(render_detail).unwrap_or_default();
        vec![
            at(one.at),
            one.kind.clone(),
            one.generation.to_string(),
            one.actor.clone().unwrap_or_default(),
            detail,
        ]
    });
    format!(
        "What happened\n{}",
        table(&["at", "what", "life", "by", "detail"], rows.collect(), "")
    )
}

fn event(timeline: &Timeline) -> String {
    let message = &timeline.message;
    match (&message.edited_body, &message.edited_by, message.edited_at) {
        (Some(body), by, when) => format!(
            "The event, edited by {}{}\n{}",
            by.as_deref().unwrap_or("nobody"),
            when.map(|when| format!(", {}", at(when)))
                .unwrap_or_default(),
            laid_out(body)
        ),
        (None, ..) => format!("The event\n{}", laid_out(&message.body)),
    }
}

fn laid_out(body: &Body) -> String {
    match std::str::from_utf8(event::unmarked(&body.0)) {
        Ok(text) if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => pretty(text),
        // Marked, so that its lines are not taken for ours.
        Ok(text) => text
            .lines()
            .map(|line| format!("| {line}"))
            .collect::<Vec<_>>()
            .join("\n"),
        Err(_) => format!("{} bytes that are no text", body.0.len()),
    }
}

fn help(steps: &[Step]) -> String {
    let mut lines = vec!["What would help".to_owned()];
    for step in steps {
        lines.push(format!("- {}", visible::line(&step.why)));
        if let Some(command) = &step.command {
            lines.push(format!("    {}", visible::line(command)));
        }
    }
    lines.join("\n")
}

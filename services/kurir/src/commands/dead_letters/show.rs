//! One dead letter's whole story in words.

use clap::Args;
use event::TenantId;
use operations::dead_letters::{self, Step, Told};
use operations::said;
use runtime::visible;
use store::dead_letters::Story;
use store::{Body, Pool};
use uuid::Uuid;

use super::json_text::pretty;
use super::letter;
use crate::context::scope;
use crate::exit::Done;
use crate::fleet::workers;
use crate::output::{Output, at, at_both, facts, table};
use crate::values::tenant;

#[derive(Debug, Args)]
pub(crate) struct One {
    /// Id of the dead letter
    #[arg(value_parser = letter)]
    pub(crate) id: Uuid,
    /// Whose it must be
    #[arg(long, value_parser = tenant)]
    pub(crate) tenant: Option<TenantId>,
    #[command(flatten)]
    pub(crate) output: Output,
}

pub(super) async fn run(pool: &Pool, given: One) -> Done {
    let scope = scope(given.tenant.as_ref());
    let told = dead_letters::tell(pool, scope, given.id, workers()).await?;
    given.output.show(&told, tell)
}

fn tell(view: &Told) -> String {
    let story = &view.story;
    let mut parts = vec![about(story)];
    parts.push(tried(view));
    if let Some(partly) = story
        .message
        .partly_applied
        .as_ref()
        .filter(|partly| !partly.is_null())
    {
        parts.push(format!("Partly applied before it died\n{partly}"));
    }
    parts.push(record(story));
    if !story.replays.is_empty() {
        parts.push(replays(story));
    }
    if !story.history.is_empty() {
        parts.push(history(story));
    }
    parts.push(event(story));
    parts.push(help(&view.next));
    parts.join("\n\n")
}

fn about(story: &Story) -> String {
    let letter = &story.letter;
    let optional = |text: &Option<String>| text.clone().unwrap_or_default();
    let closed = match (&letter.resolved_by, letter.resolved_at) {
        (Some(by), Some(when)) => format!(" by {by}, {}", at(when)),
        _ => String::new(),
    };
    facts(&[
        ("dead letter", letter.id.to_string()),
        ("state", format!("{}{closed}", letter.state)),
        ("note", optional(&letter.note)),
        ("class", letter.class.clone()),
        ("message", optional(&letter.message)),
        ("tenant", optional(&letter.tenant)),
        ("worker", letter.worker.clone()),
        ("record", optional(&letter.subject)),
        ("facet", optional(&letter.facet)),
        ("type", optional(&letter.event_type)),
        (
            "event",
            format!(
                "{} of {}",
                optional(&letter.event_id),
                optional(&letter.source)
            ),
        ),
        (
            "version",
            letter
                .k
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
        ),
        ("first died", at_both(letter.first_at)),
        ("last died", at_both(letter.last_at)),
        ("deaths", letter.deaths.to_string()),
        ("replays", letter.generation.to_string()),
        ("fingerprint", letter.fingerprint.clone()),
        ("trace", optional(&letter.trace_id)),
    ])
}

fn tried(view: &Told) -> String {
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
fn record(story: &Story) -> String {
    let mut lines = vec!["Its record now".to_owned()];
    match &story.link {
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
    for connection in &story.connections {
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

fn replays(story: &Story) -> String {
    let rows = story.replays.iter().map(|one| {
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

fn history(story: &Story) -> String {
    let rows = story.history.iter().map(|one| {
        let detail = one.detail.as_ref().map(said).unwrap_or_default();
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

fn event(story: &Story) -> String {
    let message = &story.message;
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

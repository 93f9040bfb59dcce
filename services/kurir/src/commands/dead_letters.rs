//! `kurir dead-letters`: found, read, replayed.

use serde_json::Value;
use store::Scope;
use store::dead_letters::{DeadLetter, Filter, Story, replay_one, replay_restamped};

use crate::cli::DeadLetters;
use crate::context::{Context, scope};
use crate::exit::Done;
use crate::fleet::worker_name;
use crate::output::{at, at_both, facts, short, table};

const MESSAGE_WIDTH: usize = 70;
const ATTEMPTS: &str = "x-history";

pub(crate) async fn run(context: &Context, command: DeadLetters) -> Done {
    let pool = context.pool().await?;
    match command {
        DeadLetters::List {
            tenant,
            state,
            worker,
            class,
            text,
            limit,
            output,
        } => {
            let filter = Filter {
                worker: worker.map(|name| worker_name(name).to_owned()),
                state: Some(state).filter(|state| state != "any"),
                class,
                text,
                ..Filter::default()
            };
            let rows =
                store::dead_letters::list(&pool, scope(tenant.as_ref()), &filter, None, limit)
                    .await?;
            output.show(&rows, |rows| {
                let heads = [
                    "id",
                    "tenant",
                    "worker",
                    "state",
                    "class",
                    "subject",
                    "last died",
                    "message",
                ];
                table(&heads, rows.iter().map(row).collect(), "no dead letters")
            })
        }
        DeadLetters::Show { id, output } => {
            let story = store::dead_letters::show(&pool, Scope::Everything, id).await?;
            output.show(&story, tell)
        }
        DeadLetters::Replay {
            id,
            actor,
            restamp,
            output,
        } => {
            let prefix = context.prefix();
            let replayed = if restamp {
                replay_restamped(&pool, &prefix, Scope::Everything, id, &actor).await?
            } else {
                replay_one(&pool, &prefix, Scope::Everything, id, &actor).await?
            };
            output.show(&replayed, |replayed| {
                format!(
                    "replayed as generation {} into {}; `kurir dead-letters show {id}` tells how it went",
                    replayed.generation, replayed.queue
                )
            })
        }
    }
}

fn row(row: &DeadLetter) -> Vec<String> {
    vec![
        row.id.to_string(),
        row.tenant.clone().unwrap_or_default(),
        row.worker.clone(),
        row.state.clone(),
        row.class.clone(),
        row.subject.clone().unwrap_or_default(),
        at(row.last_at),
        short(row.message.as_deref().unwrap_or_default(), MESSAGE_WIDTH),
    ]
}

fn tell(story: &Story) -> String {
    let letter = &story.letter;
    let optional = |text: &Option<String>| text.clone().unwrap_or_default();
    let mut parts = vec![facts(&[
        ("dead letter", letter.id.to_string()),
        ("state", letter.state.clone()),
        ("class", letter.class.clone()),
        ("message", optional(&letter.message)),
        ("tenant", optional(&letter.tenant)),
        ("worker", letter.worker.clone()),
        (
            "event",
            format!(
                "{} of {}",
                optional(&letter.event_id),
                optional(&letter.source)
            ),
        ),
        ("type", optional(&letter.event_type)),
        ("subject", optional(&letter.subject)),
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
        (
            "link",
            letter
                .link_id
                .map(|link| format!("{link} (`kurir links show {link}`)"))
                .unwrap_or_default(),
        ),
        ("trace", optional(&letter.trace_id)),
        ("note", optional(&letter.note)),
    ])];
    if let Some(partly) = story
        .message
        .partly_applied
        .as_ref()
        .filter(|partly| !partly.is_null())
    {
        parts.push(format!("partly applied: {partly}"));
    }
    let attempts = attempts(&story.message.headers);
    if !attempts.is_empty() {
        parts.push(format!(
            "Attempts of its last life\n{}",
            table(&["at", "class", "said", "took"], attempts, "")
        ));
    }
    let history = story.history.iter().map(|one| {
        let detail = one.detail.as_ref().map(said).unwrap_or_default();
        vec![
            at(one.at),
            one.kind.clone(),
            format!("generation {}", one.generation),
            one.actor.clone().unwrap_or_default(),
            detail,
        ]
    });
    parts.push(format!(
        "History\n{}",
        table(
            &["at", "what", "life", "by", "detail"],
            history.collect(),
            "nothing yet"
        )
    ));
    let body = story
        .message
        .edited_body
        .as_ref()
        .unwrap_or(&story.message.body);
    let body = serde_json::to_string_pretty(body).unwrap_or_default();
    parts.push(format!("Message\n{body}"));
    if letter.state == "open" {
        parts.push(format!(
            "Next: repair the cause, then `kurir dead-letters replay {}`",
            letter.id
        ));
    }
    parts.join("\n\n")
}

/// `x-history`: JSON in a header, written by the consumer loop.
fn attempts(headers: &Value) -> Vec<Vec<String>> {
    let Some(attempts) = headers[ATTEMPTS].as_str() else {
        return Vec::new();
    };
    let attempts: Vec<worker::Attempt> = serde_json::from_str(attempts).unwrap_or_default();
    attempts
        .into_iter()
        .map(|one| vec![at(one.at), one.class, one.code, format!("{} ms", one.ms)])
        .collect()
}

/// A small JSON object in one line of words.
pub(crate) fn said(detail: &Value) -> String {
    let Value::Object(fields) = detail else {
        return detail.to_string();
    };
    let word = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let filled = fields.iter().filter(|(_, value)| !value.is_null());
    filled
        .map(|(name, value)| format!("{name}: {}", word(value)))
        .collect::<Vec<_>>()
        .join(", ")
}

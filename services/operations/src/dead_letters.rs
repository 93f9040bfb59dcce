//! Dead letters: one's whole timeline with what would help, and why an edit or a replay is refused.

mod advice;

pub use advice::{Step, advice};

use registry::Worker;
use serde::Serialize;
use serde_json::Value;
use store::dead_letters::replay::Plan;
use store::dead_letters::{Edit, Edited, Timeline};
use store::{Pool, Scope};
use uuid::Uuid;

use crate::{Done, Failed, Kind, count};

/// The header with what was tried: JSON, written by the consumer loop.
const ATTEMPTS: &str = "x-history";

/// The timeline, and what would help.
#[derive(Clone, Debug, Serialize)]
pub struct AdvisedTimeline {
    #[serde(flatten)]
    pub timeline: Timeline,
    pub attempts: Vec<worker::Attempt>,
    pub next: Vec<Step>,
}

/// The workers are those of this build.
///
/// # Errors
/// There is none of this id in the scope.
pub async fn timeline(
    pool: &Pool,
    scope: Scope<'_>,
    id: Uuid,
    workers: &[&Worker],
) -> Done<AdvisedTimeline> {
    let timeline = store::dead_letters::show(pool, scope, id).await?;
    Ok(AdvisedTimeline {
        attempts: attempts(&timeline.message.headers),
        next: advice(&timeline, workers),
        timeline,
    })
}

fn attempts(headers: &Value) -> Vec<worker::Attempt> {
    headers[ATTEMPTS]
        .as_str()
        .and_then(|attempts| serde_json::from_str(attempts).ok())
        .unwrap_or_default()
}

/// # Errors
/// Refused: only an open dead letter can be edited.
pub fn check_open(timeline: &Timeline) -> Done {
    let dead_letter = &timeline.dead_letter;
    if dead_letter.state == "open" {
        return Ok(());
    }
    let message = format!(
        "it is {}, only an open dead letter can be edited",
        dead_letter.state
    );
    Err(Failed::new(Kind::Refused, message).next(format!(
        "`kurir dead-letters reopen {}` opens a closed one again",
        dead_letter.id
    )))
}

/// Stores a repaired event.
///
/// # Errors
/// It is no event of this dead letter, or somebody else was faster.
pub async fn edit(pool: &Pool, scope: Scope<'_>, id: Uuid, edit: Edit<'_>) -> Done<Edited> {
    store::dead_letters::edit(pool, scope, id, edit)
        .await
        .map_err(|error| match error {
            store::Error::Conflict(message) if message.contains("restamp") => {
                Failed::new(Kind::Refused, message).next(format!(
                    "add --restamp, or close it: `kurir dead-letters resolve {id} --note ...`"
                ))
            }
            other => other.into(),
        })
}

/// Why a plan has nothing to replay; `named` are the dead letters that it was made for by their ids.
pub fn nothing(plan: &Plan, named: &[Uuid]) -> Failed {
    let failed = Failed::new(
        Kind::Refused,
        match (named, plan.waiting_elsewhere, plan.not_open) {
            (_, 1.., _) => format!(
                "{} waits in another replay already",
                count(plan.waiting_elsewhere, "dead letter")
            ),
            ([_], _, 1..) => "it is not open: only an open dead letter can be replayed".to_owned(),
            (_, _, 1..) => format!(
                "{} match, and none of them is open",
                count(plan.not_open, "dead letter")
            ),
            _ => "no dead letter matches".to_owned(),
        },
    );
    match (plan.elsewhere, named) {
        (Some(replay), _) => failed.next(format!(
            "`kurir dead-letters replays show {replay}`, then resume or cancel that one"
        )),
        (None, [id]) => failed.next(format!(
            "`kurir dead-letters show {id}` tells what became of it; `kurir dead-letters reopen {id}` opens it again"
        )),
        (None, _) => failed.next("`kurir dead-letters list --state any` shows what there is"),
    }
}

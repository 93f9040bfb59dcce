//! Replays that run or have run.

use serde_json::json;
use store::Pool;
use store::dead_letters::replay::{self, Progress};

use super::follow::{follow, tell};
use super::said;
use crate::cli::dead_letters::Replays;
use crate::context::scope;
use crate::exit::Done;
use crate::output::{Page, at, count, one_more, short, table};

const SELECTION_WIDTH: usize = 50;

pub(super) async fn run(pool: &Pool, command: Replays) -> Done {
    match command {
        Replays::List {
            tenant,
            state,
            after,
            limit,
            output,
        } => {
            let scope = scope(tenant.as_ref());
            let rows = replay::list(pool, scope, state.as_deref(), after, one_more(limit)).await?;
            let page = Page::new(rows, limit, |last| format!("--after {}", last.replay.id));
            output.page(&page, |rows| {
                let heads = [
                    "id", "state", "tenant", "ordered", "by", "letters", "ended", "failed", "held",
                    "of",
                ];
                table(&heads, rows.iter().map(row).collect(), "no replays")
            })
        }
        Replays::Show {
            which,
            follow: wait,
        } => {
            let scope = scope(which.tenant.as_ref());
            if wait {
                return follow(pool, scope, which.id, which.output).await;
            }
            let progress = replay::show(pool, scope, which.id).await?;
            which.output.show(&progress, tell)
        }
        Replays::Pause(which) => {
            replay::pause(pool, scope(which.tenant.as_ref()), which.id).await?;
            which.output.show(&json!({ "paused": which.id }), |_| {
                format!(
                    "nothing more is sent until `kurir dead-letters replays resume {}`",
                    which.id
                )
            })
        }
        Replays::Resume(which) => {
            let resumed = replay::resume(pool, scope(which.tenant.as_ref()), which.id).await?;
            let view = json!({ "resumed": which.id, "again": resumed.again });
            which.output.show(&view, |_| {
                let again = match resumed.again {
                    0 => String::new(),
                    letters => format!(", with {} that had failed", count(letters, "dead letter")),
                };
                format!(
                    "it goes on at one per second{again}; `kurir dead-letters replays show {} --follow` waits for the end",
                    which.id
                )
            })
        }
        Replays::Cancel(which) => {
            let left = replay::cancel(pool, scope(which.tenant.as_ref()), which.id).await?;
            let view = json!({ "cancelled": which.id, "left": left });
            which.output.show(&view, |_| {
                format!("cancelled; {} stay open", count(left, "dead letter"))
            })
        }
    }
}

fn row(row: &Progress) -> Vec<String> {
    let (replay, counts) = (&row.replay, &row.counts);
    vec![
        replay.id.to_string(),
        replay.state.clone(),
        replay.tenant.clone().unwrap_or_default(),
        at(replay.created_at),
        replay.requested_by.clone(),
        counts.all().to_string(),
        counts.ended().to_string(),
        counts.failed.to_string(),
        counts.held.to_string(),
        short(&said(&replay.selection), SELECTION_WIDTH),
    ]
}

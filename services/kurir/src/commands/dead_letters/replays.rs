//! Replays that run or have run.

use clap::{Args, Subcommand};
use event::TenantId;
use operations::count;
use operations::render_detail;
use serde_json::json;
use store::Pool;
use store::dead_letters::replay::{self, Progress};
use uuid::Uuid;

use super::follow::{follow, render};
use crate::context::scope;
use crate::exit::Done;
use crate::output::{Output, Page, at, one_more, short, table};
use crate::values::{LIST_LIMIT, limit, number, tenant};

/// One replay, by its id.
#[derive(Debug, Args)]
pub(crate) struct OneReplay {
    /// Id of the replay
    #[arg(value_parser = replay_id)]
    pub(crate) id: Uuid,
    /// Whose it must be
    #[arg(long, value_parser = tenant)]
    pub(crate) tenant: Option<TenantId>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Replays {
    /// Lists replays, latest first
    #[command(after_help = "Example:\n  kurir dead-letters replays list --state stopped")]
    List {
        /// Only those that belong to this tenant
        #[arg(long, value_parser = tenant)]
        tenant: Option<TenantId>,
        /// running, paused, stopped, done or cancelled
        #[arg(long, value_parser = ["running", "paused", "stopped", "done", "cancelled"])]
        state: Option<String>,
        /// Begins after this replay
        #[arg(long, value_name = "ID", value_parser = replay_id)]
        after: Option<Uuid>,
        /// At most so many
        #[arg(long, default_value = LIST_LIMIT, value_parser = limit)]
        limit: i64,
        #[command(flatten)]
        output: Output,
    },
    /// Shows how a replay stands
    #[command(
        after_help = "Example:\n  kurir dead-letters replays show 0192f0c1-7a4e-4b1f-9d3e-5f0a1b2c3d4e --follow"
    )]
    Show {
        #[command(flatten)]
        which: OneReplay,
        /// Waits for the end
        #[arg(long)]
        follow: bool,
    },
    /// Sends nothing more until it is resumed
    #[command(
        after_help = "Example:\n  kurir dead-letters replays pause 0192f0c1-7a4e-4b1f-9d3e-5f0a1b2c3d4e"
    )]
    Pause(OneReplay),
    /// Goes on, at one dead letter per second; where it had stopped itself, what failed is tried again
    #[command(
        after_help = "Repair the cause first.\n\nExample:\n  kurir dead-letters replays resume 0192f0c1-7a4e-4b1f-9d3e-5f0a1b2c3d4e"
    )]
    Resume(OneReplay),
    /// Ends a replay: what it has not sent stays open
    #[command(
        after_help = "Example:\n  kurir dead-letters replays cancel 0192f0c1-7a4e-4b1f-9d3e-5f0a1b2c3d4e"
    )]
    Cancel(OneReplay),
}

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
                    "id",
                    "state",
                    "tenant",
                    "ordered",
                    "by",
                    "dead letters",
                    "ended",
                    "failed",
                    "held",
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
            which.output.show(&progress, render)
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
                    dead_letters => format!(", with {} that had failed", count(dead_letters, "dead letter")),
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
        short(&render_detail(&replay.selection), SELECTION_WIDTH),
    ]
}

fn replay_id(text: &str) -> Result<Uuid, String> {
    number(text, "a replay's id", "kurir dead-letters replays list")
}

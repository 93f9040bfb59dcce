//! Closed with a note, opened again.

use clap::Args;
use event::TenantId;
use operations::count;
use serde_json::json;
use store::Pool;
use store::dead_letters::{Change, Filter, matching};
use uuid::Uuid;

use super::chosen;
use super::confirm::confirm;
use super::{Actor, Filters, dead_letter};
use crate::context::scope;
use crate::exit::Done;
use crate::output::Output;
use crate::values::tenant;

#[derive(Debug, Args)]
pub(crate) struct Resolve {
    /// Ids of dead letters
    #[arg(value_name = "ID", value_parser = dead_letter, conflicts_with_all = ["worker", "event_type", "class", "fingerprint", "since", "until", "record", "text", "all"])]
    pub(crate) ids: Vec<Uuid>,
    #[command(flatten)]
    pub(crate) filter: Filters,
    /// Every open dead letter, of every tenant unless --tenant is given
    #[arg(long)]
    pub(crate) all: bool,
    /// Why nothing more is to be done
    #[arg(long)]
    pub(crate) note: String,
    /// Does not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) actor: Actor,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Reopen {
    /// Ids of dead letters
    #[arg(value_name = "ID", required = true, value_parser = dead_letter)]
    pub(crate) ids: Vec<Uuid>,
    /// Whose they must be
    #[arg(long, value_parser = tenant)]
    pub(crate) tenant: Option<TenantId>,
    /// Why
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) note: String,
    #[command(flatten)]
    pub(crate) actor: Actor,
    #[command(flatten)]
    pub(crate) output: Output,
}

pub(super) async fn resolve(pool: &Pool, given: Resolve) -> Done {
    let one = given.ids.len() == 1;
    let filter = chosen(given.ids, &given.filter, given.all)?;
    let scope = scope(given.filter.tenant.as_ref());
    if !one {
        let open = Filter {
            state: Some("open".to_owned()),
            ..filter.clone()
        };
        let dead_letters = matching(pool, scope, &open).await?;
        let question = format!(
            "Close {} with this note?",
            count(dead_letters, "dead letter")
        );
        confirm(&question, given.yes || dead_letters == 0, dead_letters <= 1)?;
    }
    let change = Change {
        actor: &given.actor.actor,
        note: &given.note,
    };
    let resolved = store::dead_letters::resolve(pool, scope, &filter, change).await?;
    given.output.show(&resolved, |resolved| {
        format!("closed {}", count(resolved.dead_letters, "dead letter"))
    })
}

pub(super) async fn reopen(pool: &Pool, given: Reopen) -> Done {
    let scope = scope(given.tenant.as_ref());
    let change = Change {
        actor: &given.actor.actor,
        note: &given.note,
    };
    for id in &given.ids {
        store::dead_letters::reopen(pool, scope, *id, change).await?;
    }
    given.output.show(&json!({ "reopened": given.ids }), |_| {
        format!(
            "opened {} again; `kurir dead-letters replay {}` sends it to its worker",
            count(given.ids.len() as u64, "dead letter"),
            given.ids[0]
        )
    })
}

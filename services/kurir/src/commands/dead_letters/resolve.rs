//! Closed with a note, opened again.

use serde_json::json;
use store::Pool;
use store::dead_letters::{Change, Filter, matching};

use super::chosen;
use super::confirm::confirm;
use crate::cli::dead_letters::{Reopen, Resolve};
use crate::context::scope;
use crate::exit::Done;
use crate::output::count;

pub(super) async fn resolve(pool: &Pool, given: Resolve) -> Done {
    let one = given.ids.len() == 1;
    let filter = chosen(given.ids, &given.filter, given.all)?;
    let scope = scope(given.filter.tenant.as_ref());
    if !one {
        let open = Filter {
            state: Some("open".to_owned()),
            ..filter.clone()
        };
        let letters = matching(pool, scope, &open).await?;
        let question = format!("Close {} with this note?", count(letters, "dead letter"));
        confirm(&question, given.yes || letters == 0, letters <= 1)?;
    }
    let change = Change {
        actor: &given.actor.actor,
        note: &given.note,
    };
    let resolved = store::dead_letters::resolve(pool, scope, &filter, change).await?;
    given.output.show(&resolved, |resolved| {
        format!("closed {}", count(resolved.letters, "dead letter"))
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

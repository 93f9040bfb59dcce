//! `kurir held`: events that wait until their cause is gone.

use serde_json::json;
use store::Scope;
use store::held::{Filter, Held as Row};

use crate::cli::{Held, HeldFilter};
use crate::context::{Context, scope};
use crate::exit::{Done, Exit, Failed};
use crate::fleet::worker_name;
use crate::output::{at, count, short, table};

const DETAIL_WIDTH: usize = 60;

fn filter(given: &HeldFilter, id: Option<i64>) -> Filter {
    Filter {
        id,
        worker: given.worker.map(|name| worker_name(name).to_owned()),
        cause: given.cause,
        text: given.text.clone(),
        ..Filter::default()
    }
}

pub(crate) async fn run(context: &Context, command: Held) -> Done {
    let pool = context.pool().await?;
    match command {
        Held::List {
            filter: given,
            after,
            limit,
            output,
        } => {
            let rows = store::held::list(
                &pool,
                scope(given.tenant.as_ref()),
                &filter(&given, None),
                after,
                limit,
            )
            .await?;
            output.show(&rows, |rows| {
                let heads = [
                    "id", "tenant", "worker", "cause", "event", "subject", "since", "detail",
                ];
                table(&heads, rows.iter().map(row).collect(), "nothing is held")
            })
        }
        Held::Release {
            id,
            filter: given,
            all,
            output,
        } => {
            let named = id.is_some()
                || given.tenant.is_some()
                || given.worker.is_some()
                || given.cause.is_some()
                || given.text.is_some();
            if !named && !all {
                return Err(Failed::new(Exit::Usage, "which held events?")
                    .next("name an id or a filter; --all means every one"));
            }
            let filter = filter(&given, id);
            let released = store::held::release(
                &pool,
                &context.prefix(),
                scope(given.tenant.as_ref()),
                &filter,
            )
            .await?;
            if let (Some(id), 0) = (id, released.events) {
                // Tells a wrong number from a row that another release has just taken.
                store::held::get(&pool, Scope::Everything, id).await?;
            }
            output.show(&json!({ "released": released.events }), |_| {
                format!(
                    "released {}; the keeper sends them to their workers",
                    count(released.events, "event")
                )
            })
        }
    }
}

fn row(row: &Row) -> Vec<String> {
    vec![
        row.id.to_string(),
        row.tenant.clone(),
        row.worker.clone(),
        row.reason.clone(),
        row.event_id.clone(),
        row.subject.clone(),
        at(row.held_at),
        short(row.detail.as_deref().unwrap_or_default(), DETAIL_WIDTH),
    ]
}

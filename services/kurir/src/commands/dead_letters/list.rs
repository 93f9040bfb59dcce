//! Lists and groups.

use store::Pool;
use store::dead_letters::{After, DeadLetter, Group};

use super::in_state;
use crate::cli::dead_letters::{Groups, List};
use crate::context::scope;
use crate::exit::Done;
use crate::output::{at, short, table};

const MESSAGE_WIDTH: usize = 70;

pub(super) async fn list(pool: &Pool, given: List) -> Done {
    let filter = in_state(&given.filter, given.state.state);
    let scope = scope(given.filter.tenant.as_ref());
    let after = given.after.map(After::Id);
    let rows = store::dead_letters::list(pool, scope, &filter, after, given.limit).await?;
    given.output.show(&rows, |rows| {
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
        let shown = table(&heads, rows.iter().map(row).collect(), "no dead letters");
        more(
            shown,
            rows.len(),
            given.limit,
            rows.last().map(|last| last.id.to_string()),
        )
    })
}

pub(super) async fn groups(pool: &Pool, given: Groups) -> Done {
    let filter = in_state(&given.filter, given.state.state);
    let scope = scope(given.filter.tenant.as_ref());
    let after = given.after.as_deref();
    let rows = store::dead_letters::groups(pool, scope, &filter, after, given.limit).await?;
    given.output.show(&rows, |rows| {
        let heads = [
            "letters",
            "tenants",
            "fingerprint",
            "first died",
            "last died",
            "example",
            "worker",
        ];
        let shown = table(&heads, rows.iter().map(group).collect(), "no dead letters");
        more(
            shown,
            rows.len(),
            given.limit,
            rows.last().map(|last| format!("'{}'", last.fingerprint)),
        )
    })
}

/// A full page says how to see the next one.
fn more(shown: String, rows: usize, limit: i64, last: Option<String>) -> String {
    match last {
        Some(last) if i64::try_from(rows).is_ok_and(|rows| rows >= limit) => {
            format!("{shown}\n\nthere may be more: --after {last}")
        }
        _ => shown,
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

fn group(group: &Group) -> Vec<String> {
    vec![
        group.letters.to_string(),
        group.tenants.to_string(),
        group.fingerprint.clone(),
        at(group.first_at),
        at(group.last_at),
        group.example.to_string(),
        group.worker.clone(),
    ]
}

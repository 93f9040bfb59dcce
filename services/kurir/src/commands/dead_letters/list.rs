//! Lists and groups.

use clap::Args;
use store::Pool;
use store::dead_letters::{After, DeadLetter, Group};
use uuid::Uuid;

use super::in_state;
use super::{Filters, State, dead_letter};
use crate::context::scope;
use crate::exit::Done;
use crate::output::{Output, Page, at, one_more, short, table};
use crate::values::{LIST_LIMIT, limit};

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) filter: Filters,
    #[command(flatten)]
    pub(crate) state: State,
    /// Begins after this dead letter
    #[arg(long, value_name = "ID", value_parser = dead_letter)]
    pub(crate) after: Option<Uuid>,
    /// At most so many
    #[arg(long, default_value = LIST_LIMIT, value_parser = limit)]
    pub(crate) limit: i64,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Groups {
    #[command(flatten)]
    pub(crate) filter: Filters,
    #[command(flatten)]
    pub(crate) state: State,
    /// Begins after this fingerprint
    #[arg(long, value_name = "FINGERPRINT")]
    pub(crate) after: Option<String>,
    /// At most so many
    #[arg(long, default_value = LIST_LIMIT, value_parser = limit)]
    pub(crate) limit: i64,
    #[command(flatten)]
    pub(crate) output: Output,
}

const MESSAGE_WIDTH: usize = 70;

pub(super) async fn list(pool: &Pool, given: List) -> Done {
    let filter = in_state(&given.filter, given.state.state);
    let scope = scope(given.filter.tenant.as_ref());
    let after = given.after.map(After::Id);
    let rows =
        store::dead_letters::list(pool, scope, &filter, after, one_more(given.limit)).await?;
    let page = Page::new(rows, given.limit, |last| format!("--after {}", last.id));
    given.output.page(&page, |rows| {
        let heads = [
            "id",
            "tenant",
            "worker",
            "state",
            "class",
            "subject",
            "facet",
            "last died",
            "message",
        ];
        table(&heads, rows.iter().map(row).collect(), "no dead letters")
    })
}

pub(super) async fn groups(pool: &Pool, given: Groups) -> Done {
    let filter = in_state(&given.filter, given.state.state);
    let scope = scope(given.filter.tenant.as_ref());
    let after = given.after.as_deref();
    let rows =
        store::dead_letters::groups(pool, scope, &filter, after, one_more(given.limit)).await?;
    let page = Page::new(rows, given.limit, |last| {
        format!("--after {}", quoted(&last.fingerprint))
    });
    given.output.page(&page, |rows| {
        let heads = [
            "dead letters",
            "tenants",
            "fingerprint",
            "first died",
            "last died",
            "example",
            "worker",
        ];
        table(&heads, rows.iter().map(group).collect(), "no dead letters")
    })
}

/// As a shell reads it back.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn row(row: &DeadLetter) -> Vec<String> {
    vec![
        row.id.to_string(),
        row.tenant.clone().unwrap_or_default(),
        row.worker.clone(),
        row.state.clone(),
        row.class.clone(),
        row.subject.clone().unwrap_or_default(),
        row.facet.clone().unwrap_or_default(),
        at(row.last_at),
        short(row.message.as_deref().unwrap_or_default(), MESSAGE_WIDTH),
    ]
}

fn group(group: &Group) -> Vec<String> {
    vec![
        group.dead_letters.to_string(),
        group.tenants.to_string(),
        group.fingerprint.clone(),
        at(group.first_at),
        at(group.last_at),
        group.example.to_string(),
        group.worker.clone(),
    ]
}

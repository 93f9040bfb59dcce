//! Where held events are, for whoever looks for one elsewhere: a record without a link yet, a tenant without a connection.

use store::held::{Filter, Group};
use store::{Pool, Scope};
use worker::HoldCause;

use crate::exit::Done;
use crate::output::count;

/// Tenants and causes that are named; the others are counted by `kurir held list`.
const NAMED: i64 = 5;

/// What is held, in a few lines; empty where nothing is.
pub(super) async fn told(pool: &Pool, scope: Scope<'_>, filter: &Filter) -> Done<String> {
    let mut groups = store::held::waiting(pool, scope, filter, NAMED + 1).await?;
    let more = groups.len() as i64 > NAMED;
    groups.truncate(NAMED as usize);
    let mut lines: Vec<String> = groups
        .iter()
        .map(|group| format!("{}; {}", what(group), next(group)))
        .collect();
    if more {
        lines.push("more is held: `kurir held list` shows all".to_owned());
    }
    Ok(lines.join("\n"))
}

/// `2 events of demo are held: no_connection`
pub(crate) fn what(group: &Group) -> String {
    let are = if group.rows == 1 { "is" } else { "are" };
    format!(
        "{} of {} {are} held: {}",
        count(group.rows.unsigned_abs(), "event"),
        group.tenant,
        group.reason
    )
}

/// What lets them go, or shows it.
pub(crate) fn next(group: &Group) -> String {
    let (tenant, cause) = (&group.tenant, &group.reason);
    match HoldCause::parse(cause) {
        Some(HoldCause::NoConnection) => format!(
            "`kurir connection add --tenant {tenant} --system {} < credentials.json` lets them go",
            group.target_system
        ),
        _ => format!("`kurir held list --tenant {tenant} --cause {cause}` says more"),
    }
}

/// A list, and below it what is held; a list of nothing alone would look as if nothing had come.
pub(super) fn below(list: String, held: &str) -> String {
    if held.is_empty() {
        list
    } else {
        format!("{list}\n\n{held}")
    }
}

//! Where held events are, for whoever looks for one elsewhere: a record without a link yet, a tenant without a connection.

use store::held::{Filter, Group};
use store::{Pool, Scope};
use worker::HoldCause;

use crate::{Done, count};

/// Tenants and causes that are named in words; the others are counted by `kurir held list`.
const NAMED: i64 = 5;

/// What is held, by tenant and cause.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub groups: Vec<Group>,
    /// Whether there are more groups than these.
    pub more: bool,
}

/// At most `limit` groups.
///
/// # Errors
/// The database's.
pub async fn groups(pool: &Pool, scope: Scope<'_>, filter: &Filter, limit: i64) -> Done<Waiting> {
    let mut groups = store::held::waiting(pool, scope, filter, limit.saturating_add(1)).await?;
    let more = groups.len() as i64 > limit;
    groups.truncate(usize::try_from(limit).unwrap_or_default());
    Ok(Waiting { groups, more })
}

/// What is held, in a few lines; empty where nothing is.
///
/// # Errors
/// The database's.
pub async fn render(pool: &Pool, scope: Scope<'_>, filter: &Filter) -> Done<String> {
    let waiting = groups(pool, scope, filter, NAMED).await?;
    let mut lines: Vec<String> = waiting
        .groups
        .iter()
        .map(|group| format!("{}; {}", what(group), next(group)))
        .collect();
    if waiting.more {
        lines.push("more is held: `kurir held list` shows all".to_owned());
    }
    Ok(lines.join("\n"))
}

/// `2 events of demo are held: no_connection`
pub fn what(group: &Group) -> String {
    let are = if group.rows == 1 { "is" } else { "are" };
    format!(
        "{} of {} {are} held: {}",
        count(group.rows.unsigned_abs(), "event"),
        group.tenant,
        group.reason
    )
}

/// What lets them go, or shows it.
pub fn next(group: &Group) -> String {
    let (tenant, cause) = (&group.tenant, &group.reason);
    match HoldCause::parse(cause) {
        Some(HoldCause::NoConnection) => format!(
            "`kurir connection add --tenant {tenant} --system {} < credentials.json` lets them go",
            group.target_system
        ),
        _ => format!("`kurir held list --tenant {tenant} --cause {cause}` says more"),
    }
}

//! Partner systems: one harmless look with the credentials of each connection that is on, as `connection test` does, but
//! without suspending or resuming anything.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use store::connections::{self, Connection};
use store::sealing::KeyRing;
use store::{Pool, Scope};
use tokio::time::{Instant, timeout_at};

use super::credentials::{enabled, named, unlisted};
use super::finding::{Finding, Subject};
use crate::connections::{Answer, Partners};
use crate::{Failed, Kind};

const SUBJECT: Subject = Subject::Partners;
/// Partners that one run asks; `--tenant` reaches the others.
const LOOKS_LIMIT: usize = 50;
/// Asked at the same time.
const SIDE_BY_SIDE: usize = 8;
/// One answer.
const LOOK_LIMIT: Duration = Duration::from_secs(10);
/// All of them, below what a subject may take.
const ALL_LIMIT: Duration = Duration::from_secs(30);

/// `ring`: the configured keys, or why they cannot be had.
pub async fn check(
    pool: &Pool,
    scope: Scope<'_>,
    partners: &Partners<'_>,
    ring: &Result<KeyRing, Failed>,
) -> Vec<Finding> {
    let on = match enabled(pool, scope).await {
        Ok(on) => on,
        Err(error) => return vec![Finding::not_checked(SUBJECT, "all", unlisted(&error))],
    };
    if on.is_empty() {
        return vec![Finding::ok(SUBJECT, "all", "no connection is on")];
    }
    let over = Instant::now() + ALL_LIMIT;
    let mut looks = Vec::new();
    for one in on.iter().take(LOOKS_LIMIT) {
        looks.push(look(pool, partners, ring, one, over));
    }
    // In the order of the list, whoever answers first.
    let found = stream::iter(looks).buffered(SIDE_BY_SIDE);
    let found: Vec<Vec<Finding>> = found.collect().await;
    let mut findings: Vec<Finding> = found.into_iter().flatten().collect();
    if let Some(more) = on.len().checked_sub(LOOKS_LIMIT).filter(|more| *more > 0) {
        let because = format!("one run asks {LOOKS_LIMIT} connections; {more} more are on");
        findings.push(
            Finding::not_checked(SUBJECT, "more", because).next("kurir doctor --tenant <id>"),
        );
    }
    findings
}

async fn look(
    pool: &Pool,
    partners: &Partners<'_>,
    ring: &Result<KeyRing, Failed>,
    connection: &Connection,
    over: Instant,
) -> Vec<Finding> {
    let name = named(connection);
    if connection.state != "ok" {
        let reason = connection.state_reason.as_deref().unwrap_or("no reason");
        return vec![Finding::problem(
            SUBJECT,
            name,
            format!("suspended, its events are held: {reason}"),
            format!(
                "`kurir connection update {0} < credentials.json`, then `kurir connection test {0}`",
                connection.id
            ),
        )];
    }
    let asked = async {
        let ring = ring.as_ref().map_err(Clone::clone)?;
        let (credentials, _epoch) =
            connections::credentials(pool, ring, Scope::Everything, connection.id).await?;
        partners.test(connection, &credentials).await
    };
    let limit = over.min(Instant::now() + LOOK_LIMIT);
    match timeout_at(limit, asked).await {
        Err(_late) => vec![Finding::problem(
            SUBJECT,
            name,
            format!("no answer within {} s", LOOK_LIMIT.as_secs()),
            format!("kurir connection test {}", connection.id),
        )],
        Ok(Ok(Answer::Accepted(warnings))) if warnings.is_empty() => {
            vec![Finding::ok(SUBJECT, name, "accepts the credentials")]
        }
        Ok(Ok(Answer::Accepted(warnings))) => warnings
            .into_iter()
            .map(|warning| {
                let next = format!(
                    "`kurir connection list --tenant {}` shows its settings",
                    connection.tenant
                );
                Finding::warning(SUBJECT, name.clone(), warning, next)
            })
            .collect(),
        Ok(Ok(Answer::Refused(text))) => vec![Finding::problem(
            SUBJECT,
            name,
            format!("refuses the credentials: {text}"),
            format!(
                "`kurir connection update {0} < credentials.json`, then `kurir connection test {0}`",
                connection.id
            ),
        )],
        // Its credentials do not open: that is told where it belongs.
        Ok(Err(failed)) if failed.kind == Kind::Configuration && failed.next.is_some() => {
            vec![
                Finding::not_checked(SUBJECT, name, failed.message)
                    .next(failed.next.unwrap_or_default()),
            ]
        }
        Ok(Err(failed)) => vec![Finding::failed(SUBJECT, name, failed)],
    }
}

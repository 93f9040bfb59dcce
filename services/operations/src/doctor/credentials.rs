//! Sealed credentials: whether the configured keys open those of every connection that is on.

use store::connections::{self, Connection};
use store::sealing::KeyRing;
use store::{Pool, Scope};

use super::finding::{Finding, Subject};
use crate::{Failed, count};

const SUBJECT: Subject = Subject::Credentials;
/// Connections that one run looks at; `--tenant` reaches the others.
const CONNECTIONS_LIMIT: i64 = 1000;

/// `ring`: the configured keys; `None` if there are none.
pub async fn check(
    pool: &Pool,
    scope: Scope<'_>,
    ring: Result<Option<KeyRing>, Failed>,
) -> Vec<Finding> {
    let ring = match ring {
        Ok(Some(ring)) => ring,
        Ok(None) => {
            return vec![Finding::not_checked(
                SUBJECT,
                "all",
                "keys.current is not set",
            )];
        }
        Err(failed) => return vec![Finding::failed(SUBJECT, "keys", failed)],
    };
    let on = match enabled(pool, scope).await {
        Ok(on) => on,
        Err(error) => return vec![Finding::not_checked(SUBJECT, "all", unlisted(&error))],
    };
    let mut findings = Vec::new();
    for one in &on {
        if let Err(error) = connections::credentials(pool, &ring, Scope::Everything, one.id).await {
            findings.push(Finding::problem(
                SUBJECT,
                named(one),
                error.with_causes(),
                format!(
                    "put the key back into keys.ring, or seal anew: `kurir connection update {} < credentials.json`",
                    one.id
                ),
            ));
        }
    }
    if on.len() as i64 == CONNECTIONS_LIMIT {
        let because = format!("only the first {CONNECTIONS_LIMIT} connections are looked at");
        findings.push(
            Finding::not_checked(SUBJECT, "more", because).next("kurir doctor --tenant <id>"),
        );
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            SUBJECT,
            "all",
            format!("those of {} open", count(on.len() as u64, "connection")),
        ));
    }
    findings
}

/// Connections that are on, of this tenant or of all.
pub(super) async fn enabled(
    pool: &Pool,
    scope: Scope<'_>,
) -> Result<Vec<Connection>, store::Error> {
    let mut all = connections::list(pool, scope, CONNECTIONS_LIMIT).await?;
    all.retain(|one| one.enabled);
    Ok(all)
}

/// Mostly the schema, which the subject "database" tells in full.
pub(super) fn unlisted(error: &store::Error) -> String {
    format!("the connections cannot be listed: {}", error.with_causes())
}

pub(super) fn named(connection: &Connection) -> String {
    format!(
        "{} {} {}",
        connection.tenant, connection.system, connection.account
    )
}

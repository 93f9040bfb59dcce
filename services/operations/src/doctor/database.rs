//! Postgres: reachable, recent enough, with this build's schema and settings under which a commit is one.

use store::Pool;
use store::diagnostics::Server;

use super::finding::{Finding, Subject};
use crate::{Failed, count};

const SUBJECT: Subject = Subject::Database;
/// As `server_version_num`.
const OLDEST: i32 = 140_000;

/// If the database cannot be reached: that, and what is not known for it.
pub fn unreachable(failed: impl Into<Failed>, because: &str) -> Vec<Finding> {
    let mut findings = vec![Finding::failed(SUBJECT, "reachable", failed)];
    let others = ["migrations", "settings", "connections"];
    findings.extend(others.map(|check| Finding::not_checked(SUBJECT, check, because)));
    findings
}

/// `own`: connections that a process of ours may open.
pub async fn check(pool: &Pool, own: u32) -> Vec<Finding> {
    let mut findings = Vec::new();
    match store::diagnostics::server(pool).await {
        Ok(server) => {
            findings.extend(reachable(&server));
            findings.extend(settings(&server));
            findings.push(connections(&server, own.into()));
        }
        Err(error) => findings.push(Finding::failed(SUBJECT, "reachable", error)),
    }
    findings.extend(migrations(pool).await);
    findings
}

fn reachable(server: &Server) -> Vec<Finding> {
    // Without the packager's own version after it.
    let version = server.version.split(' ').next().unwrap_or_default();
    let mut findings = vec![Finding::ok(
        SUBJECT,
        "reachable",
        format!(
            "Postgres {version}, database {} as {}",
            server.database, server.role
        ),
    )];
    if server.version_number < OLDEST {
        findings.push(Finding::problem(
            SUBJECT,
            "version",
            "older than 14",
            "upgrade Postgres to 14 or newer",
        ));
    }
    if server.recovering || server.read_only {
        let why = if server.recovering {
            "it is a standby, or being recovered"
        } else {
            "default_transaction_read_only is on"
        };
        findings.push(Finding::problem(
            SUBJECT,
            "writable",
            format!("nothing can be written: {why}"),
            "point KURIR_DATABASE_URL to the primary",
        ));
    }
    findings
}

fn settings(server: &Server) -> Vec<Finding> {
    let mut findings = Vec::new();
    if server.synchronous_commit == "off" {
        findings.push(Finding::problem(
            SUBJECT,
            "synchronous_commit",
            "off: events that were acknowledged are lost when the server is killed",
            format!(
                "alter database \"{}\" set synchronous_commit = on; then restart the roles",
                server.database
            ),
        ));
    }
    for (name, on) in [
        ("fsync", server.fsync),
        ("full_page_writes", server.full_page_writes),
    ] {
        if !on {
            findings.push(Finding::warning(
                SUBJECT,
                name,
                "off: a power cut can destroy the database; good for tests only",
                format!("alter system set {name} = on; select pg_reload_conf();"),
            ));
        }
    }
    if server.isolation != "read committed" {
        findings.push(Finding::problem(
            SUBJECT,
            "isolation",
            format!(
                "default_transaction_isolation is {}; statements are written for read committed",
                server.isolation
            ),
            format!(
                "alter database \"{}\" set default_transaction_isolation = 'read committed'; then restart the roles",
                server.database
            ),
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(SUBJECT, "settings", "a commit is one"));
    }
    findings
}

/// Enough for one more process.
fn connections(server: &Server, own: i64) -> Finding {
    let limit = i64::from(server.connections);
    let free = limit - server.connections_used;
    if free >= own {
        return Finding::ok(
            SUBJECT,
            "connections",
            "enough are free for another process",
        );
    }
    Finding::warning(
        SUBJECT,
        "connections",
        format!(
            "{} of {limit} are free; a process of ours may open {own}",
            free.max(0)
        ),
        "lower database.max_connections, or raise max_connections of Postgres (docs/operations.md, \"Connections\")",
    )
}

async fn migrations(pool: &Pool) -> Vec<Finding> {
    let looked = tokio::try_join!(
        store::migrate::pending(pool),
        store::migrate::unknown_versions(pool)
    );
    let (pending, (newer, failed)) = match looked {
        Ok(looked) => looked,
        Err(error) => return vec![Finding::failed(SUBJECT, "migrations", error)],
    };
    let mut findings = Vec::new();
    if !failed.is_empty() {
        findings.push(Finding::problem(
            SUBJECT,
            "migrations",
            format!("begun and not ended well: {failed:?}"),
            "kurir migrate",
        ));
    }
    if !pending.is_empty() {
        findings.push(Finding::problem(
            SUBJECT,
            "migrations",
            format!(
                "{} of this build not applied: {}",
                count(pending.len() as u64, "migration"),
                pending.join(", ")
            ),
            "kurir migrate",
        ));
    }
    if !newer.is_empty() {
        findings.push(Finding::warning(
            SUBJECT,
            "migrations",
            format!("a newer build has been here: this one does not know {newer:?}"),
            "run the newest build everywhere",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(SUBJECT, "migrations", "up to date"));
    }
    findings
}

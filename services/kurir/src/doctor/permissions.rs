//! What the broker's user and the database's role may do, beside what each role of the fleet needs.

use operations::count;
use operations::doctor::{Finding, Subject, listed};
use regex::Regex;
use serde_json::Value;
use worker::RETRY_TIERS;

use super::Ground;
use crate::exit::Failed;
use crate::fleet::{self, queues};
use crate::management::Management;

const SUBJECT: Subject = Subject::Permissions;
/// The default exchange's name in permissions.
const DEFAULT_EXCHANGE: &str = "amq.default";
const AS_WRITTEN: &str = "docs/operations.md, \"Rights\", has the statements";

pub(super) async fn check(ground: &Ground<'_>) -> Vec<Finding> {
    let (mut findings, role) = tokio::join!(of_user(ground), of_role(ground));
    findings.push(role);
    findings
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    Configure,
    Write,
    Read,
}

impl Right {
    fn as_str(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

/// What declaring the exchanges and their queue asks for, and publishing to them. An alternate exchange is written to
/// and its exchange read; a binding reads its exchange and writes its queue; a queue that dead-letters is read, and the
/// exchange that it does it to written.
fn of_publishers(topology: &broker::Topology) -> Vec<(Right, String)> {
    let mut needed = Vec::new();
    for name in [
        topology.events(),
        topology.unrouted(),
        topology.unrouted_entry(),
        topology.unrouted_kept(),
    ] {
        let rights = [Right::Configure, Right::Write, Right::Read];
        needed.extend(rights.map(|right| (right, name.clone())));
    }
    needed
}

/// And what its queues ask for: their dead letters go through the default exchange, as copies do.
fn of_consumer(topology: &broker::Topology, worker: &str) -> Vec<(Right, String)> {
    let mut needed = of_publishers(topology);
    let retry_tiers = RETRY_TIERS.map(|retry_tier| topology.retry_tier(worker, retry_tier));
    let queues = retry_tiers
        .into_iter()
        .chain([topology.queue(worker), topology.dead(worker)]);
    for queue in queues {
        needed.push((Right::Configure, queue.clone()));
        needed.push((Right::Read, queue));
    }
    needed.push((Right::Write, topology.queue(worker)));
    needed.push((Right::Write, DEFAULT_EXCHANGE.to_owned()));
    needed
}

async fn of_user(ground: &Ground<'_>) -> Vec<Finding> {
    let management = match &ground.management {
        Ok(management) => management,
        Err(because) => return vec![Finding::not_checked(SUBJECT, "broker user", because)],
    };
    let Some(address) = ground.context.broker_address() else {
        let because = "amqp.url is not set";
        return vec![Finding::not_checked(SUBJECT, "broker user", because)];
    };
    let user = address.user();
    match given(management, user).await {
        Err(finding) => vec![finding],
        Ok(given) => {
            let topology = fleet::topology(ground.context);
            let workers = queues()
                .into_iter()
                .map(|(worker, _)| (worker.to_owned(), of_consumer(&topology, worker)));
            let every: Vec<(Right, String)> = queues()
                .into_iter()
                .flat_map(|(worker, _)| of_consumer(&topology, worker))
                .collect();
            [
                ("gateway".to_owned(), of_publishers(&topology)),
                ("keeper".to_owned(), every),
            ]
            .into_iter()
            .chain(workers)
            .map(|(role, needed)| compare(user, &role, &needed, &given))
            .collect()
        }
    }
}

/// Patterns of configure, write and read.
type Given = [(Right, Regex); 3];

async fn given(management: &Management, user: &str) -> Result<Given, Finding> {
    let not_checked = |because: &str| Finding::not_checked(SUBJECT, "broker user", because);
    let answer = management.permissions(user).await;
    let answer = answer.map_err(|_told| not_checked("the management API does not answer"))?;
    match answer.status {
        200 => {}
        404 => {
            return Err(Finding::problem(
                SUBJECT,
                "broker user",
                format!("{user} has no rights in this virtual host"),
                AS_WRITTEN,
            ));
        }
        _ => {
            return Err(
                not_checked("only an administrator of the management API may see that")
                    .next(format!("rabbitmqctl list_user_permissions {user}")),
            );
        }
    }
    let pattern = |right: Right| read(&answer.body, right).map(|pattern| (right, pattern));
    match (
        pattern(Right::Configure),
        pattern(Right::Write),
        pattern(Right::Read),
    ) {
        (Some(configure), Some(write), Some(given)) => Ok([configure, write, given]),
        _ => Err(not_checked("a pattern of the user cannot be read here")
            .next(format!("rabbitmqctl list_user_permissions {user}"))),
    }
}

/// An empty pattern matches nothing but the empty name, unlike everywhere else.
fn read(body: &Value, right: Right) -> Option<Regex> {
    let pattern = body[right.as_str()].as_str()?;
    Regex::new(if pattern.is_empty() { "^$" } else { pattern }).ok()
}

fn compare(user: &str, role: &str, needed: &[(Right, String)], given: &Given) -> Finding {
    let lacking: Vec<String> = needed
        .iter()
        .filter(|(right, name)| {
            let pattern = given.iter().find(|(known, _)| known == right);
            !pattern.is_some_and(|(_, pattern)| pattern.is_match(name))
        })
        .map(|(right, name)| format!("{} on {name}", right.as_str()))
        .collect();
    let check = format!("broker, {role}");
    if lacking.is_empty() {
        return Finding::ok(SUBJECT, check, format!("{user} may do all that it needs"));
    }
    Finding::problem(
        SUBJECT,
        check,
        format!("{user} lacks {}", listed(&lacking)),
        AS_WRITTEN,
    )
}

async fn of_role(ground: &Ground<'_>) -> Finding {
    const CHECK: &str = "database role";
    let pool = match ground.pool() {
        Ok(pool) => pool,
        Err(because) => return Finding::not_checked(SUBJECT, CHECK, because),
    };
    let looked = tokio::try_join!(
        store::diagnostics::server(pool),
        store::diagnostics::lacking(pool)
    );
    match looked {
        Err(error) => Finding::failed(SUBJECT, CHECK, &Failed::from(error)),
        Ok((server, lacking)) if lacking.is_empty() => Finding::ok(
            SUBJECT,
            CHECK,
            if server.superuser {
                format!("{} is a superuser: more than a role needs", server.role)
            } else {
                format!("{} may do all that a role needs", server.role)
            },
        ),
        Ok((server, lacking)) => {
            let all = lacking
                .iter()
                .map(|one| format!("{} on {}", one.right, one.object));
            let all: Vec<String> = all.collect();
            Finding::problem(
                SUBJECT,
                CHECK,
                format!(
                    "{} lacks {}: {}",
                    server.role,
                    count(all.len() as u64, "right"),
                    listed(&all)
                ),
                AS_WRITTEN,
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_rights_suffice_and_narrower_ones_are_named() {
        let topology = broker::Topology::new("kurir");
        let given = |configure: &str, write: &str, reading: &str| -> Given {
            let body =
                serde_json::json!({ "configure": configure, "write": write, "read": reading });
            [Right::Configure, Right::Write, Right::Read]
                .map(|right| (right, read(&body, right).expect("a pattern")))
        };
        let needed = of_consumer(&topology, "w");
        let all = given(r"^kurir\.", r"^(kurir\..*|amq\.default)$", r"^kurir\.");
        assert_eq!(
            compare("u", "worker", &needed, &all).verdict,
            operations::doctor::Verdict::Ok
        );
        let narrow = given("", r"^kurir\.", r"^kurir\.");
        let found = compare("u", "worker", &needed, &narrow);
        assert_eq!(
            found.detail,
            "u lacks configure on kurir.events, configure on kurir.unrouted, configure on kurir.unrouted.in, \
             configure on kurir.unrouted.kept and 9 more"
        );
    }
}

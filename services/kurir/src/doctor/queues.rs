//! Exchanges and queues: there as this build needs them, taken from, nothing stuck in them.

use std::time::Duration;

use broker::Finding as Seen;
use operations::count;
use operations::doctor::{Finding, Subject, listed};
use tokio::time::sleep;
use worker::RETRY_TIERS;

use super::Ground;
use crate::exit::Failed;
use crate::fleet::{self, queues};
use crate::management::Management;

const SUBJECT: Subject = Subject::Queues;
/// The broker renews the numbers of its management API each 5 s: what is seen twice at this distance stands still.
const BETWEEN_LOOKS: Duration = Duration::from_secs(6);

pub(super) async fn check(ground: &Ground<'_>) -> Vec<Finding> {
    let broker = match ground.broker() {
        Ok(broker) => broker,
        Err(because) => {
            return ["declared", "consumers", "unrouted", "stuck"]
                .map(|check| Finding::not_checked(SUBJECT, check, because))
                .into();
        }
    };
    let mut findings = declared(ground, broker).await;
    findings.extend(taken_from(ground, broker).await);
    findings.push(stuck(ground).await);
    findings
}

/// Policies have a subject of their own.
async fn declared(ground: &Ground<'_>, broker: &broker::Broker) -> Vec<Finding> {
    let topology = fleet::topology(ground.context);
    let mut seen = match topology.check(broker, &queues()).await {
        Ok(seen) => seen,
        Err(error) => {
            return vec![Finding::failed(SUBJECT, "declared", &Failed::from(error))];
        }
    };
    let mut bindings_seen = false;
    if let Ok(management) = &ground.management
        && let (Ok(there), Ok(bindings)) = tokio::join!(management.queues(), management.bindings())
    {
        bindings_seen = true;
        seen.extend(topology.check_management(&there, &bindings, &queues()));
    }
    let mut findings: Vec<Finding> = seen.iter().filter_map(differs).collect();
    findings.extend(absent(&seen));
    if findings.is_empty() {
        let detail = if bindings_seen {
            "exchanges, queues and bindings are as this build needs them"
        } else {
            "exchanges and queues are as this build needs them; bindings cannot be seen without the management API"
        };
        findings.push(Finding::ok(SUBJECT, "declared", detail));
    }
    findings
}

fn differs(seen: &Seen) -> Option<Finding> {
    let Seen::Differs(mismatch) = seen else {
        return None;
    };
    let detail = format!(
        "{} exists with {} = {}, this build needs {}",
        mismatch.object, mismatch.argument, mismatch.there, mismatch.here
    );
    Some(Finding::problem(
        SUBJECT,
        "declared",
        detail,
        &mismatch.command,
    ))
}

/// One command puts up everything that is missing, so one line tells it.
fn absent(seen: &[Seen]) -> Option<Finding> {
    let absent: Vec<String> = seen
        .iter()
        .filter_map(|seen| match seen {
            Seen::Missing { object } => Some(object.clone()),
            Seen::Unbound {
                queue,
                exchange,
                key,
            } => Some(format!(
                "the binding of queue {queue} to {exchange} with '{key}'"
            )),
            Seen::Differs(_) | Seen::Policy { .. } => None,
        })
        .collect();
    (!absent.is_empty()).then(|| {
        let detail = format!("missing: {}", listed(&absent));
        Finding::problem(SUBJECT, "declared", detail, "kurir topology declare")
    })
}

/// Consumers, dead letters that the ledger has not taken, and what nobody is bound for: by the queues' own counts.
async fn taken_from(ground: &Ground<'_>, broker: &broker::Broker) -> Vec<Finding> {
    let topology = fleet::topology(ground.context);
    let mut findings = Vec::new();
    for (worker, _) in queues() {
        findings.push(match broker::depth(broker, &topology.queue(worker)).await {
            Ok(Some((ready, 0))) if ready > 0 => Finding::problem(
                SUBJECT,
                format!("{worker} consumers"),
                format!("none; {} ready", count(ready.into(), "event")),
                format!("start one: `kurir worker {worker}`"),
            ),
            Ok(Some((_, 0))) => Finding::warning(
                SUBJECT,
                format!("{worker} consumers"),
                "none; nothing waits either",
                format!("start one: `kurir worker {worker}`"),
            ),
            Ok(Some((ready, consumers))) => Finding::ok(
                SUBJECT,
                format!("{worker} consumers"),
                format!(
                    "{}, {} ready",
                    count(consumers.into(), "consumer"),
                    count(ready.into(), "event")
                ),
            ),
            other => unseen(format!("{worker} consumers"), other.err()),
        });
        findings.push(dead(broker, worker, &topology.dead(worker)).await);
    }
    findings.push(match unrouted(broker, &topology).await {
        Ok(Some(0)) => Finding::ok(SUBJECT, "unrouted", "none"),
        Ok(Some(ready)) => Finding::problem(
            SUBJECT,
            "unrouted",
            format!("{} that no worker's queue took", count(ready.into(), "event")),
            "`kurir unrouted list` says why; `kurir unrouted route` sends on what can be routed now",
        ),
        other => unseen("unrouted".to_owned(), other.err()),
    });
    findings
}

/// Those that are kept, with those on their way there.
async fn unrouted(
    broker: &broker::Broker,
    topology: &broker::Topology,
) -> Result<Option<u32>, broker::Error> {
    let kept = broker::depth(broker, &topology.unrouted()).await?;
    let coming = broker::depth(broker, &topology.unrouted_entry()).await?;
    Ok(kept.map(|(kept, _)| kept + coming.map_or(0, |(coming, _)| coming)))
}

/// The ledger takes a dead letter within moments: what is there at both looks has been left.
async fn dead(broker: &broker::Broker, worker: &str, queue: &str) -> Finding {
    let check = format!("{worker} ledger");
    let looked = match broker::depth(broker, queue).await {
        Ok(Some((ready, consumers))) if ready > 0 && consumers > 0 => {
            sleep(BETWEEN_LOOKS).await;
            broker::depth(broker, queue).await
        }
        looked => looked,
    };
    match looked {
        Ok(Some((0, 0))) => Finding::warning(
            SUBJECT,
            check,
            "no keeper takes dead letters into the database; there are none",
            "start one: `kurir keeper` (keeper.ledger = true)",
        ),
        Ok(Some((ready, 0))) => Finding::problem(
            SUBJECT,
            check,
            format!(
                "{} in the queue and no keeper takes them",
                count(ready.into(), "dead letter")
            ),
            "start one: `kurir keeper` (keeper.ledger = true)",
        ),
        Ok(Some((0, _))) => Finding::ok(SUBJECT, check, "takes dead letters; none waits"),
        Ok(Some((ready, _))) => Finding::problem(
            SUBJECT,
            check,
            format!(
                "{} in the queue: the ledger is behind",
                count(ready.into(), "dead letter")
            ),
            "look into the keeper's log for `ledger`; is the database slow or full?",
        ),
        other => unseen(check, other.err()),
    }
}

fn unseen(check: String, error: Option<broker::Error>) -> Finding {
    match error {
        None => Finding::not_checked(SUBJECT, check, "its queue is missing"),
        Some(error) => Finding::failed(SUBJECT, check, &Failed::from(error)),
    }
}

/// Messages that are neither ready nor with a consumer: dead-lettered at least once to a queue that does not take them.
async fn stuck(ground: &Ground<'_>) -> Finding {
    let management = match &ground.management {
        Ok(management) => management,
        Err(because) => return Finding::not_checked(SUBJECT, "stuck", because),
    };
    let topology = fleet::topology(ground.context);
    let names: Vec<String> = queues()
        .into_iter()
        .flat_map(|(worker, _)| {
            let retry_tiers = RETRY_TIERS.map(|retry_tier| topology.retry_tier(worker, retry_tier));
            retry_tiers.into_iter().chain([topology.queue(worker)])
        })
        .collect();
    let looked = match neither(management, &names).await {
        Ok(found) if !found.is_empty() => {
            sleep(BETWEEN_LOOKS).await;
            let again = neither(management, &names).await;
            again.map(|again| {
                let first = found.into_iter();
                first
                    .filter(|(queue, _)| again.iter().any(|(other, _)| other == queue))
                    .collect()
            })
        }
        looked => looked,
    };
    match looked {
        Err(_) => Finding::not_checked(SUBJECT, "stuck", "the management API does not answer"),
        Ok(found) if found.is_empty() => {
            Finding::ok(SUBJECT, "stuck", "no message is stuck in dead-lettering")
        }
        Ok(found) => {
            let named: Vec<String> = found
                .iter()
                .map(|(queue, stuck)| format!("{stuck} in {queue}"))
                .collect();
            Finding::problem(
                SUBJECT,
                "stuck",
                format!("neither ready nor with a consumer: {}", named.join(", ")),
                "`kurir topology check` shows whether the queue they lead to is missing or differs; they move on by themselves once it is there",
            )
        }
    }
}

async fn neither(management: &Management, names: &[String]) -> Result<Vec<(String, i64)>, ()> {
    let found = management.queues().await.map_err(|_told_elsewhere| ())?;
    let rows = found.as_array().cloned().unwrap_or_default();
    let stuck = rows.iter().filter_map(|row| {
        let name = row["name"].as_str()?;
        let number = |member: &str| row[member].as_i64();
        let stuck =
            number("messages")? - number("messages_ready")? - number("messages_unacknowledged")?;
        (stuck > 0 && names.iter().any(|known| known == name)).then(|| (name.to_owned(), stuck))
    });
    Ok(stuck.collect())
}

//! The broker itself: reachable, recent enough, not out of memory or disk.

use operations::doctor::{Finding, Subject, listed};
use serde_json::Value;

use super::Ground;
use crate::management::no_answer;

const SUBJECT: Subject = Subject::Broker;
/// The oldest version whose quorum queues dead-letter at least once.
const OLDEST: (u32, u32) = (3, 10);

pub(super) async fn check(ground: &Ground<'_>) -> Vec<Finding> {
    let mut findings = vec![match &ground.broker {
        Ok(_) => Finding::ok(SUBJECT, "reachable", reached(ground)),
        Err(failed) => Finding::failed(SUBJECT, "reachable", failed),
    }];
    let management = match &ground.management {
        Ok(management) => management,
        Err(because) => {
            findings.push(Finding::not_checked(SUBJECT, "version, alarms", because));
            return findings;
        }
    };
    match management.ask("overview").await {
        Ok(answer) if answer.status == 200 => {
            let version = answer.body["rabbitmq_version"].as_str().unwrap_or_default();
            findings.push(recent(version));
        }
        Ok(answer) => findings.push(refused(
            "version",
            answer.status,
            "rabbitmqctl set_user_tags <user> monitoring",
        )),
        Err(failed) => findings.push(Finding::failed(SUBJECT, "management API", &failed)),
    }
    match management.ask("health/checks/alarms").await {
        Ok(answer) if answer.status == 200 => {
            findings.push(Finding::ok(SUBJECT, "alarms", "none"));
        }
        Ok(answer) if answer.status == 503 => findings.push(Finding::problem(
            SUBJECT,
            "alarms",
            format!("{}: publishers wait, nothing is lost", alarms(&answer.body)),
            "`rabbitmqctl status` shows memory and free disk beside their limits; make room, or raise the limit",
        )),
        Ok(answer) => findings.push(refused(
            "alarms",
            answer.status,
            "rabbitmqctl set_user_tags <user> monitoring",
        )),
        // Told above: the same server did not answer.
        Err(_) => findings.push(Finding::not_checked(
            SUBJECT,
            "alarms",
            "the management API does not answer",
        )),
    }
    findings
}

fn reached(ground: &Ground<'_>) -> String {
    let Some(address) = ground.context.broker_address() else {
        return "connected".to_owned();
    };
    format!(
        "connected as {}, virtual host {}",
        address.user(),
        address.virtual_host()
    )
}

/// `memory at rabbit@one, disk at rabbit@two`
fn alarms(body: &Value) -> String {
    let rows = body["alarms"].as_array().cloned().unwrap_or_default();
    let named = rows.iter().filter_map(|row| {
        Some(format!(
            "{} at {}",
            row["resource"].as_str()?,
            row["node"].as_str()?
        ))
    });
    let named: Vec<String> = named.collect();
    if named.is_empty() {
        "an alarm is in effect".to_owned()
    } else {
        format!("out of {}", listed(&named))
    }
}

fn recent(version: &str) -> Finding {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    let (Some(Some(major)), Some(Some(minor))) = (parts.next(), parts.next()) else {
        let because = format!("the broker calls its version '{version}'");
        return Finding::not_checked(SUBJECT, "version", because);
    };
    if (major, minor) >= OLDEST {
        return Finding::ok(SUBJECT, "version", format!("RabbitMQ {version}"));
    }
    let (least, minor) = OLDEST;
    Finding::problem(
        SUBJECT,
        "version",
        format!(
            "RabbitMQ {version}; retries need at-least-once dead-lettering, which came with {least}.{minor}"
        ),
        format!("upgrade the broker to {least}.{minor} or newer"),
    )
}

fn refused(check: &str, status: u16, next: &str) -> Finding {
    Finding::not_checked(SUBJECT, check, no_answer(status)).next(next)
}

#[cfg(test)]
mod tests {
    use super::recent;
    use operations::doctor::Verdict;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (version, verdict) in [
            ("3.9.29", Verdict::Problem),
            ("3.10.8", Verdict::Ok),
            ("4.0.2-rc.1", Verdict::Ok),
            ("nightly", Verdict::NotChecked),
        ] {
            assert_eq!(recent(version).verdict, verdict, "{version}");
        }
    }
}

//! Policies that match objects of ours: all meaning is in arguments, and of argument and policy the smaller value counts.

use operations::doctor::{Finding, Subject};
use regex::Regex;
use serde_json::Value;
use worker::RETRY_TIERS;

use super::Ground;
use crate::fleet::{self, queues};
use crate::management::no_answer;

const SUBJECT: Subject = Subject::Policies;

pub(super) async fn check(ground: &Ground<'_>) -> Vec<Finding> {
    let management = match &ground.management {
        Ok(management) => management,
        Err(because) => return vec![Finding::not_checked(SUBJECT, "all", because)],
    };
    let (queues, exchanges) = names(ground);
    let mut findings = Vec::new();
    for (kind, clear) in [
        ("policies", "clear_policy"),
        ("operator-policies", "clear_operator_policy"),
    ] {
        match management.ask_of_host(kind).await {
            Ok(answer) if answer.status == 200 => {
                let rows = answer.body.as_array().cloned().unwrap_or_default();
                findings.extend(
                    rows.iter()
                        .filter_map(|row| matches(row, clear, &queues, &exchanges)),
                );
            }
            Ok(answer) => {
                findings.push(
                    Finding::not_checked(SUBJECT, kind, no_answer(answer.status))
                        .next(format!("rabbitmqctl list_{}", kind.replace('-', "_"))),
                );
            }
            Err(_) => findings.push(Finding::not_checked(
                SUBJECT,
                kind,
                "the management API does not answer",
            )),
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            SUBJECT,
            "all",
            "none matches an object of ours",
        ));
    }
    findings
}

/// Names of our queues, and of our exchanges.
fn names(ground: &Ground<'_>) -> (Vec<String>, Vec<String>) {
    let topology = fleet::topology(ground.context);
    let of_workers = queues().into_iter().flat_map(|(worker, _)| {
        let retry_tiers = RETRY_TIERS.map(|retry_tier| topology.retry_tier(worker, retry_tier));
        retry_tiers
            .into_iter()
            .chain([topology.queue(worker), topology.dead(worker)])
    });
    let all = of_workers
        .chain([topology.unrouted(), topology.unrouted_entry()])
        .collect();
    let exchanges = vec![
        topology.events(),
        topology.unrouted(),
        topology.unrouted_kept(),
    ];
    (all, exchanges)
}

fn matches(row: &Value, clear: &str, queues: &[String], exchanges: &[String]) -> Option<Finding> {
    let text = |member: &str| row[member].as_str().unwrap_or_default();
    let (name, pattern, host) = (text("name"), text("pattern"), text("vhost"));
    let next = format!("rabbitmqctl {clear} -p '{host}' '{name}'");
    let Ok(expression) = Regex::new(pattern) else {
        return Some(Finding::warning(
            SUBJECT,
            name,
            format!("its pattern '{pattern}' cannot be read here; it may match ours"),
            "kurir topology check",
        ));
    };
    let applies = text("apply-to");
    let count = |kind: &str, names: &[String]| {
        let applies = applies == "all" || applies.contains(kind);
        let matching = names.iter().filter(|name| expression.is_match(name));
        if applies { matching.count() } else { 0 }
    };
    let (queues, exchanges) = (count("queues", queues), count("exchanges", exchanges));
    (queues + exchanges > 0).then(|| {
        Finding::warning(
            SUBJECT,
            name,
            format!(
                "its pattern '{pattern}' matches {queues} of our queues and {exchanges} of our exchanges and sets {}",
                row["definition"]
            ),
            next,
        )
    })
}

//! Held events: most leave by themselves, the others wait for something that a person does.

use store::held::{Filter, Group};
use store::{Pool, Scope};
use worker::HoldCause;

use super::finding::{Finding, Subject};
use crate::{count, waiting};

const SUBJECT: Subject = Subject::Events;
/// Tenants and causes that one run names.
const NAMED: i64 = 20;

/// Of this tenant, or of all.
pub async fn check(pool: &Pool, scope: Scope<'_>) -> Vec<Finding> {
    let asked = waiting::groups(pool, scope, &Filter::default(), NAMED).await;
    let waiting = match asked {
        Ok(waiting) => waiting,
        Err(failed) => {
            let because = format!("they cannot be counted: {}", failed.message);
            return vec![Finding::not_checked(SUBJECT, "held", because)];
        }
    };
    let (stay, leave): (Vec<&Group>, Vec<&Group>) =
        waiting.groups.iter().partition(|group| stays(group));
    let mut findings: Vec<Finding> = stay
        .into_iter()
        .map(|group| Finding::warning(SUBJECT, "held", waiting::what(group), waiting::next(group)))
        .collect();
    for group in leave.iter().filter(|group| group.overdue > 0) {
        let detail = format!(
            "{} of {} {} waited for another record for more than a day",
            count(group.overdue.unsigned_abs(), "event"),
            group.tenant,
            if group.overdue == 1 { "has" } else { "have" },
        );
        findings.push(Finding::warning(
            SUBJECT,
            "held",
            detail,
            waiting::next(group),
        ));
    }
    let leaving: u64 = leave.iter().map(|group| group.rows.unsigned_abs()).sum();
    if leaving > 0 {
        let detail = format!(
            "{} leave by themselves, at the pace of the budgets or when their prerequisite is there",
            count(leaving, "event")
        );
        findings.push(Finding::ok(SUBJECT, "held", detail));
    }
    if waiting.more {
        let because = format!("one run names {NAMED} tenants and causes");
        findings.push(Finding::not_checked(SUBJECT, "more", because).next("kurir held list"));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(SUBJECT, "held", "none"));
    }
    findings
}

fn stays(group: &Group) -> bool {
    !matches!(
        HoldCause::parse(&group.reason),
        Some(HoldCause::Budget | HoldCause::Circuit | HoldCause::Prerequisite)
    )
}

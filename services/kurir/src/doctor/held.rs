//! Held events: most leave by themselves, the others wait for something that a person does.

use event::TenantId;
use store::held::{Filter, Group};
use worker::HoldCause;

use super::Ground;
use super::finding::{Finding, Subject};
use crate::commands::waiting;
use crate::context::scope;
use crate::output::count;

const SUBJECT: Subject = Subject::Events;
/// Tenants and causes that one run names.
const NAMED: i64 = 20;

pub(super) async fn check(ground: &Ground<'_>, tenant: Option<&TenantId>) -> Vec<Finding> {
    let pool = match ground.pool() {
        Ok(pool) => pool,
        Err(because) => return vec![Finding::not_checked(SUBJECT, "held", because)],
    };
    let asked = store::held::waiting(pool, scope(tenant), &Filter::default(), NAMED + 1).await;
    let groups = match asked {
        Ok(groups) => groups,
        Err(error) => {
            let because = format!("they cannot be counted: {}", error.with_causes());
            return vec![Finding::not_checked(SUBJECT, "held", because)];
        }
    };
    let (stay, leave): (Vec<&Group>, Vec<&Group>) = groups
        .iter()
        .take(NAMED as usize)
        .partition(|group| stays(group));
    let mut findings: Vec<Finding> = stay
        .into_iter()
        .map(|group| Finding::warning(SUBJECT, "held", waiting::what(group), waiting::next(group)))
        .collect();
    let leaving: u64 = leave.iter().map(|group| group.rows.unsigned_abs()).sum();
    if leaving > 0 {
        let detail = format!(
            "{} leave by themselves, at the pace of the budgets or when their prerequisite is there",
            count(leaving, "event")
        );
        findings.push(Finding::ok(SUBJECT, "held", detail));
    }
    if groups.len() as i64 > NAMED {
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

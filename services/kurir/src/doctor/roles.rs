//! The roles themselves, where their health addresses were given.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use crate::http;
use operations::doctor::{Finding, Subject};

const SUBJECT: Subject = Subject::Roles;
/// One answer of a role.
const LIMIT: Duration = Duration::from_secs(5);
const ANSWER_LIMIT: usize = 1024 * 1024;

/// The body of `/readyz`.
#[derive(Deserialize)]
struct Report {
    ready: bool,
    draining: bool,
    checks: BTreeMap<String, Check>,
}

#[derive(Deserialize)]
struct Check {
    ok: bool,
    detail: String,
}

pub(super) async fn check(urls: &[String]) -> Vec<Finding> {
    if urls.is_empty() {
        let because = "no --role-url was given";
        return vec![Finding::not_checked(SUBJECT, "all", because)];
    }
    let mut findings = Vec::new();
    for url in urls {
        findings.push(of(url).await);
    }
    findings
}

async fn of(url: &str) -> Finding {
    let shown = runtime::hide_password(url);
    let shown = shown.trim_end_matches('/');
    let report = match ask(url).await {
        Ok(report) => report,
        Err(why) => {
            return Finding::problem(
                SUBJECT,
                shown,
                why,
                "look whether the process runs there (setting health.<role>), and into its log",
            );
        }
    };
    let failing: Vec<String> = report
        .checks
        .iter()
        .filter(|(_, check)| !check.ok)
        .map(|(name, check)| format!("{name}: {}", check.detail))
        .collect();
    if report.draining {
        return Finding::warning(
            SUBJECT,
            shown,
            "draining: it was asked to stop",
            "wait until its successor is ready",
        );
    }
    if report.ready {
        return Finding::ok(SUBJECT, shown, "ready");
    }
    Finding::problem(
        SUBJECT,
        shown,
        format!("not ready: {}", failing.join(", ")),
        "its own log says more; what it stands on is told above",
    )
}

async fn ask(url: &str) -> Result<Report, String> {
    let client = http::client(LIMIT).map_err(|failed| failed.message)?;
    let url = format!("{}/readyz", url.trim_end_matches('/'));
    let answer = client
        .get(url)
        .send()
        .await
        .map_err(http::without_address)?;
    let status = answer.status();
    let body = http::body(answer, ANSWER_LIMIT).await?;
    serde_json::from_slice(&body)
        .map_err(|_not_ours| format!("answered {status}, and not as a role does"))
}

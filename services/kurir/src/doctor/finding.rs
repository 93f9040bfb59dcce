//! What a check found, and how a person and a script read it.

use std::fmt::Write as _;

use runtime::visible;
use serde::Serialize;

use crate::exit::Failed;
use crate::output::count;

/// What checks are about, in the order in which they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Subject {
    Configuration,
    Broker,
    Queues,
    Policies,
    Permissions,
    Database,
    Clock,
    Credentials,
    Partners,
    Events,
    Roles,
}

impl Subject {
    fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Broker => "broker",
            Self::Queues => "queues",
            Self::Policies => "policies",
            Self::Permissions => "permissions",
            Self::Database => "database",
            Self::Clock => "clock",
            Self::Credentials => "credentials",
            Self::Partners => "partners",
            Self::Events => "events",
            Self::Roles => "roles",
        }
    }
}

/// The worst of a run is its verdict; what was not checked is neither good nor bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Ok,
    NotChecked,
    Warning,
    Problem,
}

impl Verdict {
    pub(super) const ALL: [Self; 4] = [Self::Problem, Self::Warning, Self::NotChecked, Self::Ok];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotChecked => "not checked",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) subject: Subject,
    /// What was looked at, in a word or two.
    pub(super) check: String,
    pub(super) verdict: Verdict,
    /// What was seen, or why it could not be looked at.
    pub(super) detail: String,
    /// What to do about it.
    pub(super) next: Option<String>,
}

impl Finding {
    fn new(
        subject: Subject,
        check: impl Into<String>,
        verdict: Verdict,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            subject,
            check: check.into(),
            verdict,
            detail: detail.into(),
            next: None,
        }
    }

    pub(super) fn ok(
        subject: Subject,
        check: impl Into<String>,
        detail: impl Into<String>,
    ) -> Self {
        Self::new(subject, check, Verdict::Ok, detail)
    }

    pub(super) fn warning(
        subject: Subject,
        check: impl Into<String>,
        detail: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self::new(subject, check, Verdict::Warning, detail).next(next)
    }

    pub(super) fn problem(
        subject: Subject,
        check: impl Into<String>,
        detail: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self::new(subject, check, Verdict::Problem, detail).next(next)
    }

    /// What a command would have failed with.
    pub(super) fn failed(subject: Subject, check: impl Into<String>, failed: &Failed) -> Self {
        let mut finding = Self::new(subject, check, Verdict::Problem, failed.message.clone());
        finding.next.clone_from(&failed.next);
        finding
    }

    /// Nothing is known: something else has to be repaired first.
    pub(super) fn not_checked(
        subject: Subject,
        check: impl Into<String>,
        because: impl AsRef<str>,
    ) -> Self {
        let detail = format!("because {}", because.as_ref());
        Self::new(subject, check, Verdict::NotChecked, detail)
    }

    pub(super) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

/// Things that one line names; it counts the others.
const LISTED_LIMIT: usize = 4;

/// `a, b, c, d and 7 more`
pub(super) fn listed(things: &[String]) -> String {
    let shown: Vec<&str> = things
        .iter()
        .take(LISTED_LIMIT)
        .map(String::as_str)
        .collect();
    match things.len().saturating_sub(LISTED_LIMIT) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Grouped by subject; below each line that is not well, what to do.
pub(super) fn told(findings: &[Finding]) -> String {
    let width = |of: fn(&Finding) -> usize| findings.iter().map(of).max().unwrap_or_default();
    let verdicts = width(|one| one.verdict.as_str().len());
    let checks = width(|one| one.check.chars().count());
    let mut out = String::new();
    let mut subject = None;
    for finding in findings {
        if subject != Some(finding.subject) {
            let _ = writeln!(out, "{}", finding.subject.as_str());
            subject = Some(finding.subject);
        }
        let (verdict, check) = (finding.verdict.as_str(), visible::line(&finding.check));
        let _ = writeln!(
            out,
            "  {verdict:verdicts$}  {check:checks$}  {}",
            visible::line(&finding.detail)
        );
        if let Some(next) = &finding.next {
            let _ = writeln!(out, "  {:verdicts$}  next: {}", "", visible::line(next));
        }
    }
    let _ = write!(out, "\n{}", summary(findings));
    out
}

/// `2 problems, 1 warning, 3 not checked, 20 ok`; kinds that there are none of are left out.
pub(super) fn summary(findings: &[Finding]) -> String {
    let kinds = Verdict::ALL.map(|verdict| {
        let found = findings.iter().filter(|one| one.verdict == verdict).count() as u64;
        let said = match verdict {
            Verdict::Problem | Verdict::Warning => count(found, verdict.as_str()),
            Verdict::NotChecked | Verdict::Ok => format!("{found} {}", verdict.as_str()),
        };
        (found > 0).then_some(said)
    });
    kinds.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

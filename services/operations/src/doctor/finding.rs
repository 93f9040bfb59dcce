//! What a check found.

use serde::Serialize;

use crate::{Failed, count};

/// What checks are about, in the order in which they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
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
    pub fn as_str(self) -> &'static str {
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
pub enum Verdict {
    Ok,
    NotChecked,
    Warning,
    Problem,
}

impl Verdict {
    pub const ALL: [Self; 4] = [Self::Problem, Self::Warning, Self::NotChecked, Self::Ok];

    pub fn as_str(self) -> &'static str {
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
pub struct Finding {
    pub subject: Subject,
    /// What was looked at, in a word or two.
    pub check: String,
    pub verdict: Verdict,
    /// What was seen, or why it could not be looked at.
    pub detail: String,
    /// What to do about it.
    pub next: Option<String>,
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

    pub fn ok(subject: Subject, check: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(subject, check, Verdict::Ok, detail)
    }

    pub fn warning(
        subject: Subject,
        check: impl Into<String>,
        detail: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self::new(subject, check, Verdict::Warning, detail).next(next)
    }

    pub fn problem(
        subject: Subject,
        check: impl Into<String>,
        detail: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self::new(subject, check, Verdict::Problem, detail).next(next)
    }

    /// What a command would have failed with.
    pub fn failed(subject: Subject, check: impl Into<String>, failed: impl Into<Failed>) -> Self {
        let Failed { message, next, .. } = failed.into();
        Self {
            next,
            ..Self::new(subject, check, Verdict::Problem, message)
        }
    }

    /// Nothing is known: something else has to be repaired first.
    pub fn not_checked(
        subject: Subject,
        check: impl Into<String>,
        because: impl AsRef<str>,
    ) -> Self {
        let detail = format!("because {}", because.as_ref());
        Self::new(subject, check, Verdict::NotChecked, detail)
    }

    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

/// Things that one line names; it counts the others.
const LISTED_LIMIT: usize = 4;

/// `a, b, c, d and 7 more`
pub fn listed(things: &[String]) -> String {
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

/// `2 problems, 1 warning, 3 not checked, 20 ok`; kinds that there are none of are left out.
pub fn summary(findings: &[Finding]) -> String {
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

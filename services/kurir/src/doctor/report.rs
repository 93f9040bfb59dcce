//! Findings as a person reads them.

use std::fmt::Write as _;

use operations::doctor::{Finding, summary};
use runtime::visible;

/// Grouped by subject; below each line that is not well, what to do.
pub(super) fn render(findings: &[Finding]) -> String {
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

//! Why a body is no event that Kurir can work with: every problem at once, each with a JSON pointer.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Problems kept of one event; a body with more of them is told the first ones.
pub const MAX_PROBLEMS: usize = 32;
/// Characters kept of one problem's text, and of each recovered part of an identity.
pub const MAX_TEXT: usize = 300;

/// The class of a refusal. The names are stable: they are error classes of the dead-letter ledger and
/// types of the gateway's problem documents. Where an event has problems of several classes, the first in
/// this order is its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecodeClass {
    /// No JSON, no UTF-8, or no JSON object.
    Malformed,
    /// More than 256 KiB, as it came or with what has to be added to it.
    TooLarge,
    /// `specversion` is missing or not `1.0`.
    SpecVersion,
    /// A later major version of a known type: a deploy helps.
    NewerMajor,
    /// Not in the catalogue.
    UnknownType,
    /// `source` or the routing key names another tenant than `tenantid`.
    TenantMismatch,
    /// `causationdepth` above 16: workers are answering each other in a loop.
    #[serde(rename = "loop")]
    TooDeep,
    /// An attribute or a field of `data` breaks its schema.
    Schema,
}

impl DecodeClass {
    pub const ALL: [Self; 8] = [
        Self::Malformed,
        Self::TooLarge,
        Self::SpecVersion,
        Self::NewerMajor,
        Self::UnknownType,
        Self::TenantMismatch,
        Self::TooDeep,
        Self::Schema,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::SpecVersion => "spec_version",
            Self::NewerMajor => "newer_major",
            Self::UnknownType => "unknown_type",
            Self::TenantMismatch => "tenant_mismatch",
            Self::TooDeep => "loop",
            Self::Schema => "schema",
        }
    }
}

impl fmt::Display for DecodeClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that is wrong. The text never quotes the value: it may be personal data, and it ends in logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// JSON pointer (RFC 6901) to the member; empty for the body as a whole.
    pub pointer: String,
    pub detail: String,
}

impl Problem {
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            pointer: bounded(&pointer.into()),
            detail: bounded(&detail.into()),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pointer.as_str() {
            "" => write!(f, "{}", self.detail),
            pointer => write!(f, "{pointer} {}", self.detail),
        }
    }
}

/// What could be read of a refused body, so that its dead letter can be found: each part bounded, none checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub id: Option<String>,
    pub source: Option<String>,
    /// The text of `type`, known or not.
    pub event_type: Option<String>,
    pub tenant: Option<String>,
    pub subject: Option<String>,
}

/// A refused body: its class, all its problems (at most [`MAX_PROBLEMS`], in the order of their pointers) and
/// what was readable of its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    pub class: DecodeClass,
    pub problems: Vec<Problem>,
    pub identity: Box<Identity>,
}

impl DecodeError {
    pub fn new(class: DecodeClass, pointer: &str, detail: impl Into<String>) -> Self {
        Self {
            class,
            problems: vec![Problem::new(pointer, detail)],
            identity: Box::default(),
        }
    }

    /// `None` without a finding.
    pub(crate) fn from_findings(mut findings: Vec<Finding>) -> Option<Self> {
        let class = findings.iter().map(|finding| finding.class).min()?;
        findings.sort_by(|a, b| a.problem.pointer.cmp(&b.problem.pointer));
        findings.dedup_by(|a, b| a.problem == b.problem);
        findings.truncate(MAX_PROBLEMS);
        Some(Self {
            class,
            problems: findings
                .into_iter()
                .map(|finding| finding.problem)
                .collect(),
            identity: Box::default(),
        })
    }

    pub(crate) fn with_identity(mut self, identity: Identity) -> Self {
        self.identity = Box::new(identity);
        self
    }
}

/// `schema: /data/contact/name is required (and 2 more)`.
impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.class)?;
        if let Some(first) = self.problems.first() {
            write!(f, ": {first}")?;
        }
        match self.problems.len() {
            0 | 1 => Ok(()),
            several => write!(f, " (and {} more)", several - 1),
        }
    }
}

impl std::error::Error for DecodeError {}

/// A problem with its class, while an event is still being looked through.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) class: DecodeClass,
    pub(crate) problem: Problem,
}

/// At most [`MAX_TEXT`] characters, control characters replaced.
pub(crate) fn bounded(text: &str) -> String {
    text.chars()
        .take(MAX_TEXT)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

//! What can go wrong with a call, when it does, and how it is chosen.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use super::Error;
use super::core::{Call, Request};

/// Longest delay of a fault.
const MAX_DELAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// One thing that goes wrong, after credentials, address and quota were found right. In JSON: `{"kind": "slow", "ms": 48000}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// A gateway's HTML page with this status; nothing stored.
    Error {
        #[serde(default = "bad_gateway")]
        status: u16,
    },
    /// Code 1; whether a write is stored is the reading `code_1_on_write`.
    Code1,
    Code1Stored,
    Code1NotStored,
    /// TCP reset, nothing stored.
    Reset,
    /// Connection closed without an answer, nothing stored.
    Drop,
    /// Stored, then the connection is closed without an answer.
    CommitThenDrop,
    /// Stored, then TCP reset.
    CommitThenReset,
    /// Stored, then half of the answer, then the connection is closed.
    CutAnswer,
    /// An answer that says nothing now, and stored only after a while.
    CommitLate {
        after_ms: u64,
        #[serde(default)]
        answer: LateAnswer,
    },
    /// The right answer, after a while.
    Slow {
        ms: u64,
        #[serde(default)]
        commit: CommitPoint,
    },
    /// Stored, and a whole HTTP answer with half of the JSON.
    Garbled,
    GarbledNotStored,
    /// As an exhausted quota is answered; nothing stored.
    Quota,
    /// Code 3 (credentials) or 4 (address); nothing stored.
    Auth {
        #[serde(default = "wrong_credentials")]
        code: u16,
    },
    /// HTTP 503 with a page; nothing stored.
    Maintenance,
    /// A refusal with this text; nothing stored.
    Refuse {
        #[serde(default = "not_acceptable")]
        code: u16,
        #[serde(default = "refusal_text")]
        text: String,
    },
    /// A refusal with this text, and stored all the same.
    LyingRefusal {
        #[serde(default = "not_acceptable")]
        code: u16,
        #[serde(default = "refusal_text")]
        text: String,
    },
}

fn bad_gateway() -> u16 {
    502
}
fn wrong_credentials() -> u16 {
    3
}
fn not_acceptable() -> u16 {
    2
}
fn refusal_text() -> String {
    "simulator: refused".to_owned()
}

/// What a caller gets whose write is stored later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LateAnswer {
    /// HTTP 504 with a page.
    #[default]
    Error,
    Code1,
    Drop,
    Reset,
    /// Nothing at all: the connection stays open until the caller goes.
    Nothing,
}

/// When a slow call is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommitPoint {
    /// At the end, directly before the answer: who gives up and looks too early finds nothing.
    #[default]
    AtEnd,
    AtOnce,
}

impl Fault {
    /// The name it is counted and logged under; the `kind` of its JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Fault::Error { .. } => "error",
            Fault::Code1 => "code1",
            Fault::Code1Stored => "code1_stored",
            Fault::Code1NotStored => "code1_not_stored",
            Fault::Reset => "reset",
            Fault::Drop => "drop",
            Fault::CommitThenDrop => "commit_then_drop",
            Fault::CommitThenReset => "commit_then_reset",
            Fault::CutAnswer => "cut_answer",
            Fault::CommitLate { .. } => "commit_late",
            Fault::Slow { .. } => "slow",
            Fault::Garbled => "garbled",
            Fault::GarbledNotStored => "garbled_not_stored",
            Fault::Quota => "quota",
            Fault::Auth { .. } => "auth",
            Fault::Maintenance => "maintenance",
            Fault::Refuse { .. } => "refuse",
            Fault::LyingRefusal { .. } => "lying_refusal",
        }
    }

    pub(super) fn delay(&mut self) -> Option<&mut u64> {
        match self {
            Fault::CommitLate {
                after_ms: delay, ..
            }
            | Fault::Slow { ms: delay, .. } => Some(delay),
            _ => None,
        }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let wrong = match self {
            Fault::Error { status } if !(400..600).contains(status) => {
                "the status of an error must be 400 to 599"
            }
            Fault::Auth { code } if !matches!(code, 3 | 4) => "the code of auth must be 3 or 4",
            Fault::Refuse { code: 0, .. } | Fault::LyingRefusal { code: 0, .. } => {
                "code 0 is not a refusal"
            }
            Fault::CommitLate {
                after_ms: delay, ..
            }
            | Fault::Slow { ms: delay, .. }
                if *delay > MAX_DELAY_MS =>
            {
                "a delay must be at most a day"
            }
            _ => return Ok(()),
        };
        Err(Error::Invalid(wrong.into()))
    }
}

pub(super) fn delay(ms: u64) -> TimeDelta {
    TimeDelta::milliseconds(i64::try_from(ms).unwrap_or(i64::MAX))
}

/// A fault for the calls it matches. Faults wait in a queue; for each call the first that matches and is due happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptedFault {
    pub fault: Fault,
    /// `None`: every call.
    #[serde(default)]
    pub call: Option<Call>,
    /// The `company_id`; `None`: every company.
    #[serde(default)]
    pub company: Option<String>,
    /// Must occur in the body, written as compact JSON with sorted keys and without credentials.
    #[serde(default)]
    pub contains: Option<String>,
    /// Happens from the nth matching call on; the first is 1.
    #[serde(default = "once")]
    pub nth: u32,
    /// How often it happens; 0 is always.
    #[serde(default = "once")]
    pub times: u32,
}

fn once() -> u32 {
    1
}

impl ScriptedFault {
    /// Happens to the next call, once.
    pub fn new(fault: Fault) -> Self {
        ScriptedFault {
            fault,
            call: None,
            company: None,
            contains: None,
            nth: 1,
            times: 1,
        }
    }

    /// Only to this call.
    pub fn on(mut self, call: Call) -> Self {
        self.call = Some(call);
        self
    }

    /// Only to this company.
    pub fn of_company(mut self, company_id: impl Into<String>) -> Self {
        self.company = Some(company_id.into());
        self
    }

    /// Only to calls with this text in the body.
    pub fn containing(mut self, text: impl Into<String>) -> Self {
        self.contains = Some(text.into());
        self
    }

    /// From the nth matching call on; the first is 1.
    pub fn nth(mut self, nth: u32) -> Self {
        self.nth = nth;
        self
    }

    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// Until it is cleared.
    pub fn always(self) -> Self {
        self.times(0)
    }

    pub(super) fn matches(&self, company: &str, request: &Request, body: &str) -> bool {
        self.call.is_none_or(|call| call == request.call())
            && self
                .company
                .as_deref()
                .is_none_or(|wanted| wanted == company)
            && self
                .contains
                .as_deref()
                .is_none_or(|text| body.contains(text))
    }
}

/// A fault that happens by chance, to calls that no scripted fault takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomFault {
    pub fault: Fault,
    /// Share of the calls, 0 to 1; all rates together at most 1.
    pub rate: f64,
    /// `None`: every call.
    #[serde(default)]
    pub call: Option<Call>,
    /// Each delay is drawn between 0 and the one given.
    #[serde(default)]
    pub vary: bool,
}

impl RandomFault {
    /// Every fault after which a later attempt can succeed, each with this rate; delays vary up to `longest_ms`.
    /// Not among them: `auth`, `refuse` and `lying_refusal`, which need a person.
    pub fn every_passing_kind(rate: f64, longest_ms: u64) -> Vec<RandomFault> {
        [
            Fault::Error { status: 502 },
            Fault::Code1Stored,
            Fault::Code1NotStored,
            Fault::Reset,
            Fault::Drop,
            Fault::CommitThenDrop,
            Fault::CommitThenReset,
            Fault::CutAnswer,
            Fault::CommitLate {
                after_ms: longest_ms,
                answer: LateAnswer::Error,
            },
            Fault::Slow {
                ms: longest_ms,
                commit: CommitPoint::AtEnd,
            },
            Fault::Garbled,
            Fault::GarbledNotStored,
            Fault::Quota,
            Fault::Maintenance,
        ]
        .into_iter()
        .map(|fault| RandomFault {
            fault,
            rate,
            call: None,
            vary: true,
        })
        .collect()
    }
}

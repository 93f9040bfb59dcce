//! What can go wrong with a call of Metakocka. How faults are chosen for a call is the same for every simulator.
//!
//! The kinds are Metakocka's own, and when each commits with them: code 1 may or may not have stored, a refusal may lie, and the
//! sources speak of commits 40 to 48 seconds late. Another system has other words for them, so it has a list of its own.

use serde::{Deserialize, Serialize};

use super::core::Call;
use crate::error::Error;
use crate::{fault, fault_queue};

/// A fault for the calls it matches.
pub type ScriptedFault = fault::ScriptedFault<Fault, Call>;
/// A fault that happens by chance.
pub type RandomFault = fault::RandomFault<Fault, Call>;
/// A scripted fault and how far it is.
pub type Script = fault_queue::Script<Fault, Call>;

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
}

impl fault::Fault for Fault {
    fn name(&self) -> &'static str {
        Fault::name(self)
    }

    fn delay(&mut self) -> Option<&mut u64> {
        match self {
            Fault::CommitLate {
                after_ms: delay, ..
            }
            | Fault::Slow { ms: delay, .. } => Some(delay),
            _ => None,
        }
    }

    fn check(&self) -> Result<(), Error> {
        let wrong = match self {
            Fault::Error { status } if !(400..600).contains(status) => {
                "the status of an error must be 400 to 599"
            }
            Fault::Auth { code } if !matches!(code, 3 | 4) => "the code of auth must be 3 or 4",
            Fault::Refuse { code: 0, .. } | Fault::LyingRefusal { code: 0, .. } => {
                "code 0 is not a refusal"
            }
            _ => return Ok(()),
        };
        Err(Error::Invalid(wrong.into()))
    }
}

impl ScriptedFault {
    /// Only to this company.
    pub fn of_company(self, company_id: impl Into<String>) -> Self {
        self.of_account(company_id)
    }
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

//! Faults: how they are chosen for a call. What can go wrong is the business of the system that is simulated.

use std::fmt::Debug;

use chrono::TimeDelta;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Longest delay of a fault.
const MAX_DELAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// One thing that goes wrong with a call that was let in. In JSON it has a `kind`: `{"kind": "slow", "ms": 48000}`.
pub trait Fault: Clone + Debug + Serialize + DeserializeOwned + Send + 'static {
    /// The name it is counted and logged under; the `kind` of its JSON.
    fn name(&self) -> &'static str;

    /// Its delay in milliseconds, if it has one.
    fn delay(&mut self) -> Option<&mut u64> {
        None
    }

    /// [`Error::Invalid`] for one that makes no sense.
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// What every fault must hold.
pub(crate) fn check(fault: &impl Fault) -> Result<(), Error> {
    let delay = fault.clone().delay().map_or(0, |delay| *delay);
    if delay > MAX_DELAY_MS {
        return Err(Error::Invalid("a delay must be at most a day".into()));
    }
    fault.check()
}

/// A delay of a fault as a span of time.
pub fn delay(ms: u64) -> TimeDelta {
    TimeDelta::milliseconds(i64::try_from(ms).unwrap_or(i64::MAX))
}

/// A fault for the calls it matches. Faults wait in a queue; for each call the first that matches and is due happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptedFault<F, C> {
    pub fault: F,
    /// `None`: every call.
    pub call: Option<C>,
    /// The id of the account; `None`: every account. Metakocka's word for it is understood, too.
    #[serde(alias = "company")]
    pub account: Option<String>,
    /// Must occur in the body, written as compact JSON with sorted keys and without credentials.
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

impl<F, C: Eq> ScriptedFault<F, C> {
    /// Happens to the next call, once.
    pub fn new(fault: F) -> Self {
        ScriptedFault {
            fault,
            call: None,
            account: None,
            contains: None,
            nth: 1,
            times: 1,
        }
    }

    /// Only to this call.
    pub fn on(mut self, call: C) -> Self {
        self.call = Some(call);
        self
    }

    /// Only to this account.
    pub fn of_account(mut self, account: impl Into<String>) -> Self {
        self.account = Some(account.into());
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

    pub(crate) fn matches(&self, account: Option<&str>, call: C, body: &str) -> bool {
        self.call.as_ref().is_none_or(|wanted| *wanted == call)
            && (self.account.is_none() || self.account.as_deref() == account)
            && self
                .contains
                .as_deref()
                .is_none_or(|text| body.contains(text))
    }
}

/// A fault that happens by chance, to calls that no scripted fault takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomFault<F, C> {
    pub fault: F,
    /// Share of the calls, 0 to 1; all rates together at most 1.
    pub rate: f64,
    /// `None`: every call.
    pub call: Option<C>,
    /// Each delay is drawn between 0 and the one given.
    #[serde(default)]
    pub vary: bool,
}

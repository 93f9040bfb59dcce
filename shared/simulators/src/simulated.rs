//! The one trait between a system that is simulated and everything that simulators have in common.

use std::fmt::Debug;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::Error;
use crate::fault::Fault;
use crate::plan::{Answer, Heard, Plan, Request, Settled};
use crate::readings::Preset;

/// A system at the other end: what it holds, and how it answers. It does no I/O, and its time is an argument.
///
/// A request goes through [`hear`](Simulated::hear) (what is it about?), [`admit`](Simulated::admit) (may it come in?) and
/// [`perform`](Simulated::perform) (what does it do, with the fault that hit it?). Each change is complete or doesn't happen.
pub trait Simulated: Send + Sized + 'static {
    /// As on the command line, e.g. `metakocka`.
    const NAME: &'static str;
    /// Where the calls begin, with a `/` at both ends.
    const ROOT: &'static str;
    /// What the system calls an account, in the list of faults.
    const ACCOUNT: &'static str;

    /// The calls by name.
    type Call: Copy
        + Eq
        + Debug
        + Into<&'static str>
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static;
    /// What can go wrong with one.
    type Fault: Fault;
    /// What the log says of a call beside what it says of every system's: the account, the record.
    type Noted: Clone + Debug + Serialize + Send + 'static;
    /// A request that was let in.
    type Admitted;
    /// The switches; an object in JSON. A system without any says `()`, and leaves what is about them as it is.
    type Readings: Default + Serialize + DeserializeOwned + Send + 'static;
    /// What every account holds, writes that were put off included. No secret in it.
    type Snapshot: Clone + Debug + Serialize + DeserializeOwned + Send + 'static;

    /// What a request is about. Whatever comes is heard, a path that isn't there too.
    fn hear(request: &Request) -> Heard<Self::Call, Self::Noted>;

    /// The account a call is for, as sent, known or not.
    fn account(noted: &Self::Noted) -> Option<&str>;

    /// Calls with the same lane are done one after another; without one they run freely.
    fn lane(&self, _heard: &Heard<Self::Call, Self::Noted>) -> Option<String> {
        None
    }

    /// The first half of a call: path, credentials, limits, strict check. An error is the answer.
    fn admit(
        &mut self,
        request: &Request,
        heard: &Heard<Self::Call, Self::Noted>,
        now: DateTime<Utc>,
    ) -> Result<Self::Admitted, Answer>;

    /// The second half: does the call, or puts it off, as the fault wants it.
    fn perform(
        &mut self,
        admitted: Self::Admitted,
        fault: Option<Self::Fault>,
        now: DateTime<Utc>,
    ) -> Plan<Self::Noted>;

    /// Does every write that was put off and is due; returns those done since this was last asked.
    fn settle(&mut self, _now: DateTime<Utc>) -> Vec<Settled<Self::Noted>> {
        Vec::new()
    }

    fn snapshot(&self) -> Self::Snapshot;

    /// Becomes what was saved; who is let in stays as it is. An error changes nothing.
    fn restore(&mut self, snapshot: Self::Snapshot) -> Result<(), Error>;

    /// Empty again; readings, strictness and access stay.
    fn clear(&mut self);

    /// Lets the ids go on at numbers that no simulator gave that was started before.
    fn begin_ids(&mut self, _now: DateTime<Utc>) {}

    fn preset(_preset: Preset) -> Self::Readings {
        Self::Readings::default()
    }

    fn readings(&self) -> Self::Readings {
        Self::Readings::default()
    }

    /// Holds from the next call on, for every account.
    fn set_readings(&mut self, _readings: Self::Readings) {}

    fn set_strict(&mut self, _strict: bool) {}

    /// What strict mode refused, in JSON.
    fn strict_violations(&self) -> Vec<Value> {
        Vec::new()
    }

    /// The ids of the accounts.
    fn accounts(&self) -> Vec<String>;

    /// What the overview says beside what it says of every simulator.
    fn overview(&self) -> Map<String, Value> {
        Map::new()
    }

    /// The system's own control routes: `path` is below `/_sim/`, decoded. `None`: there is no such route.
    fn control(
        &mut self,
        _method: &str,
        _path: &[&str],
        _body: &[u8],
        _now: DateTime<Utc>,
    ) -> Option<Result<Value, Error>> {
        None
    }
}

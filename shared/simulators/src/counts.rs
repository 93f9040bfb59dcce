//! How often things happened.

use std::collections::BTreeMap;

use serde::Serialize;

/// How often things happened since the start or the last reset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Calls that reached the simulator, by name, whatever became of them.
    pub calls: BTreeMap<&'static str, u64>,
    /// Calls that changed what an account holds, by name.
    pub stored: BTreeMap<&'static str, u64>,
    /// Faults that happened, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Unknown fields in strict mode.
    pub strict_violations: u64,
    /// Reads that found their lane taken and waited.
    pub queued_reads: u64,
}

impl Counts {
    /// How often a fault of this kind happened.
    pub fn fault(&self, name: &str) -> u64 {
        self.faults.get(name).copied().unwrap_or(0)
    }

    /// How often this call came.
    pub fn calls(&self, call: impl Into<&'static str>) -> u64 {
        self.calls.get(call.into()).copied().unwrap_or(0)
    }

    /// How often this call changed something.
    pub fn stored(&self, call: impl Into<&'static str>) -> u64 {
        self.stored.get(call.into()).copied().unwrap_or(0)
    }
}

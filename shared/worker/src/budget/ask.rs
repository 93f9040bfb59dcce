//! What a process asks of the fleet-wide account, and what it is told.

use std::time::Duration;

use uuid::Uuid;

use super::{Bucket, BudgetSpec};

/// One connection's part of the question.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    pub connection: Uuid,
    pub tenant: String,
    pub spec: BudgetSpec,
    pub buckets: Vec<Bucket>,
    /// Permits, and how many that were leased and never used go back.
    pub want: u32,
    pub back: u32,
    /// Calls at once; `used` are under way and can't be given back.
    pub slots_want: u32,
    pub slots_used: u32,
    pub searches_want: u32,
    pub searches_used: u32,
    /// Since the last question: released events that arrived, and whether a call was answered well.
    pub begun: u32,
    pub fine: bool,
    /// Calls that an event needs, on average.
    pub cost: f64,
    pub cool: Option<CoolNews>,
    pub circuits: Vec<CircuitNews>,
    /// Others want its account too: who asks for it may wait for them.
    pub contended: bool,
}

/// The partner said that its quota is used up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoolNews {
    pub least: Duration,
    /// The partner named the time itself; else each repetition doubles it.
    pub named: bool,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CircuitNews {
    Opened {
        operation: &'static str,
        reason: String,
        first: Duration,
    },
    Closed {
        operation: &'static str,
    },
    /// May this process try? One in the fleet may.
    Probe {
        operation: &'static str,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub connection: Uuid,
    pub granted: u32,
    /// Until a permit can be there again.
    pub wait: Duration,
    /// In all, not in addition.
    pub slots: u32,
    pub searches: u32,
    pub cooldown: Option<Duration>,
    pub reason: Option<String>,
    /// Older events of this connection wait in the store: new ones go behind them.
    pub backlog: bool,
    pub circuits: Vec<CircuitAnswer>,
    /// Other processes that want calls of this connection now.
    pub rivals: u32,
}

/// A circuit that is not closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CircuitAnswer {
    pub operation: String,
    /// Zero: half open.
    pub left: Duration,
    /// This process may try.
    pub probe: bool,
    /// Another one tries.
    pub taken: bool,
    pub reason: String,
}

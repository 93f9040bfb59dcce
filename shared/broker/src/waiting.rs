//! Events that wait in memory for permits of their connections.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;
use worker::budget::PermitPool;

use crate::parse::InFlight;

/// The longest that one waits, unless all of them begin within such a time. Those that the keeper let go wait until
/// their permission lapses.
pub(crate) const WAIT: Duration = Duration::from_secs(1);
/// Between two looks at events that may wait longer.
const LOOK: Duration = Duration::from_millis(50);

/// Events of one connection that wait for permits, in the order in which they came.
pub(crate) struct Queue {
    pub(crate) permit_pool: Arc<PermitPool>,
    pub(crate) deliveries: VecDeque<(InFlight, Instant)>,
    pub(crate) pace: Recent,
}

/// How many events began within the last [`WAIT`], nearly.
pub(crate) struct Recent {
    since: Instant,
    now: usize,
    before: usize,
}

impl Recent {
    pub(crate) fn new() -> Self {
        Self {
            since: Instant::now(),
            now: 0,
            before: 0,
        }
    }

    pub(crate) fn add(&mut self) {
        self.turn();
        self.now += 1;
    }

    pub(crate) fn count(&mut self) -> usize {
        self.turn();
        self.now.max(self.before)
    }

    fn turn(&mut self) {
        let passed = self.since.elapsed();
        if passed >= WAIT {
            self.before = if passed < WAIT * 2 { self.now } else { 0 };
            self.now = 0;
            self.since = Instant::now();
        }
    }
}

/// By connection. Together at most as many as are prefetched.
#[derive(Default)]
pub(crate) struct Waiting(pub(crate) HashMap<Uuid, Queue>);

impl Waiting {
    pub(crate) fn len(&self) -> usize {
        self.0.values().map(|queue| queue.deliveries.len()).sum()
    }

    pub(crate) fn clear(&mut self) {
        for (_, queue) in self.0.drain() {
            queue.permit_pool.waiting(0);
        }
    }

    /// When to look whether the first of them has waited long enough. Those that may wait longer are looked at again.
    pub(crate) fn next(&self) -> Option<Instant> {
        let oldest = self.0.values().filter_map(|queue| queue.deliveries.front());
        let first = oldest.map(|(_, since)| *since + WAIT).min();
        first.map(|moment| moment.max(Instant::now() + LOOK))
    }
}

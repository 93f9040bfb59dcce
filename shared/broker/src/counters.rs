//! What one worker has done since its start, as plain atomics: read by metrics, never reset.

use std::sync::atomic::{AtomicU64, Ordering};

use worker::{AckReason, DeadClass, HoldCause, Outcome};

/// Names are those of the lists in `worker`.
#[derive(Debug)]
pub struct Counters {
    pub received: AtomicU64,
    pub redelivered: AtomicU64,
    acked: [AtomicU64; AckReason::ALL.len()],
    pub retried: AtomicU64,
    pub waited: AtomicU64,
    held: [AtomicU64; HoldCause::ALL.len()],
    dead: [AtomicU64; DeadClass::ALL.len()],
    /// Holds whose cause was gone when they were to be written.
    pub cause_gone: AtomicU64,
    /// Handled, but the acknowledgement could not be sent: the broker delivers it again.
    pub settle_lost: AtomicU64,
    /// Settle steps that failed and were repeated.
    pub settle_repeated: AtomicU64,
    /// Given up after the limit: the channel was closed and everything on it came back.
    pub settle_abandoned: AtomicU64,
    pub claim_calls: AtomicU64,
    pub claimed_events: AtomicU64,
    pub claim_failures: AtomicU64,
    pub hold_calls: AtomicU64,
    pub panics: AtomicU64,
    pub timeouts: AtomicU64,
    /// Handlers stopped by the drain.
    pub aborted: AtomicU64,
    pub ran_alone: AtomicU64,
    /// Consumers opened: 1 more than those that vanished.
    pub consumers_opened: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            received: zero(),
            redelivered: zero(),
            acked: std::array::from_fn(|_| zero()),
            retried: zero(),
            waited: zero(),
            held: std::array::from_fn(|_| zero()),
            dead: std::array::from_fn(|_| zero()),
            cause_gone: zero(),
            settle_lost: zero(),
            settle_repeated: zero(),
            settle_abandoned: zero(),
            claim_calls: zero(),
            claimed_events: zero(),
            claim_failures: zero(),
            hold_calls: zero(),
            panics: zero(),
            timeouts: zero(),
            aborted: zero(),
            ran_alone: zero(),
            consumers_opened: zero(),
        }
    }
}

pub(crate) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    pub fn acked(&self, reason: AckReason) -> u64 {
        self.acked[reason as usize].load(Ordering::Relaxed)
    }

    pub fn held(&self, cause: HoldCause) -> u64 {
        self.held[cause as usize].load(Ordering::Relaxed)
    }

    pub fn dead(&self, class: DeadClass) -> u64 {
        self.dead[class as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn claimed(&self, events: usize) {
        self.claimed_events
            .fetch_add(u64::try_from(events).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Counted when the outcome is carried out, not when it is decided.
    pub(crate) fn settled(&self, outcome: &Outcome) {
        add(match outcome {
            Outcome::Ack(reason) => &self.acked[*reason as usize],
            Outcome::RetryLater { counted: true, .. } => &self.retried,
            Outcome::RetryLater { counted: false, .. } => &self.waited,
            Outcome::Hold { cause, .. } => &self.held[*cause as usize],
            Outcome::DeadLetter { class, .. } => &self.dead[*class as usize],
        });
    }
}

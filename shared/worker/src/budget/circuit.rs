//! One operation at one connection: closed, open, or half open with one canary in the fleet.

use std::time::{Duration, Instant};

use super::CircuitAnswer;

/// Consecutive failures that open it.
pub(super) const THRESHOLD: u32 = 5;
/// A canary that was promised and not heard of again.
const CANARY_LOST: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, Default)]
pub(super) struct Circuit {
    failures: u32,
    open_until: Option<Instant>,
    pub(super) reason: String,
    /// Ours to send.
    canary: bool,
    canary_wanted: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Clear,
    /// Ask whether this process may try.
    AskForCanary,
    Shut {
        until: Instant,
    },
}

impl Circuit {
    /// May a call go? Takes the canary if there is one.
    pub(super) fn way(&mut self, now: Instant) -> Way {
        let Some(until) = self.open_until else {
            return Way::Clear;
        };
        if now < until {
            return Way::Shut { until };
        }
        if std::mem::take(&mut self.canary) {
            self.open_until = Some(now + CANARY_LOST);
            return Way::Clear;
        }
        if self.canary_wanted.is_none() {
            self.canary_wanted = Some(now);
        }
        Way::AskForCanary
    }

    pub(super) fn is_shut(&self, now: Instant) -> Option<Instant> {
        self.open_until.filter(|until| now < *until)
    }

    pub(super) fn wants_canary(&self) -> bool {
        self.canary_wanted.is_some()
    }

    /// True: it was open.
    pub(super) fn fine(&mut self) -> bool {
        self.failures = 0;
        self.canary_wanted = None;
        self.open_until.take().is_some()
    }

    /// True: it opens with this failure, or its canary failed.
    pub(super) fn failing(&mut self, now: Instant, first: Duration, reason: &str) -> bool {
        self.failures += 1;
        if self.open_until.is_none() && self.failures < THRESHOLD {
            return false;
        }
        // Until the store has said for how long.
        self.open_until = Some(now + first);
        reason.clone_into(&mut self.reason);
        true
    }

    /// As the store knows it.
    pub(super) fn told(&mut self, now: Instant, told: &CircuitAnswer) {
        // The canary is ours and has not been sent yet: that is who has taken it.
        if self.canary && told.taken && !told.canary {
            return;
        }
        // While somebody else tries, it is looked at again soon.
        let left = if told.taken {
            told.left.max(CANARY_LOST / 2)
        } else {
            told.left
        };
        self.open_until = Some(now + left);
        self.canary = told.canary;
        if told.canary || told.taken || !left.is_zero() {
            self.canary_wanted = None;
        }
        told.reason.clone_into(&mut self.reason);
    }

    /// The store knows of no open circuit.
    pub(super) fn told_closed(&mut self) {
        if self.open_until.take().is_some() {
            self.failures = 0;
        }
        self.canary = false;
        self.canary_wanted = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(canary: bool, taken: bool, left: u64) -> CircuitAnswer {
        CircuitAnswer {
            operation: "add".to_owned(),
            left: Duration::from_secs(left),
            canary,
            taken,
            reason: "down".to_owned(),
        }
    }

    #[test]
    fn a_canary_stays_ours_until_it_is_sent() {
        let now = Instant::now();
        let mut circuit = Circuit::default();
        circuit.told(now, &told(true, false, 0));
        // The next answer knows that somebody has it.
        circuit.told(now, &told(false, true, 60));
        assert_eq!(circuit.way(now), Way::Clear);
        // One only.
        assert!(matches!(circuit.way(now), Way::Shut { .. }));
        circuit.told(now, &told(false, true, 60));
        assert!(matches!(circuit.way(now), Way::Shut { .. }));
    }
}

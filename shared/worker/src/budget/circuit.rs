//! One operation at one connection: closed, open, or half open with one probe in the fleet.

use std::time::{Duration, Instant};

use super::CircuitAnswer;

/// Consecutive failures that open it.
pub(super) const THRESHOLD: u32 = 5;
/// A half-open probe that was reserved and not heard of again.
const PROBE_LOST: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, Default)]
pub(super) struct Circuit {
    failures: u32,
    open_until: Option<Instant>,
    pub(super) reason: String,
    /// Ours to send.
    probe: bool,
    probe_wanted: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Clear,
    /// Ask whether this process may try.
    AskForProbe,
    Shut {
        until: Instant,
    },
}

impl Circuit {
    /// May a call go? Takes the half-open probe if there is one.
    pub(super) fn way(&mut self, now: Instant) -> Way {
        let Some(until) = self.open_until else {
            return Way::Clear;
        };
        if now < until {
            return Way::Shut { until };
        }
        if std::mem::take(&mut self.probe) {
            self.open_until = Some(now + PROBE_LOST);
            return Way::Clear;
        }
        if self.probe_wanted.is_none() {
            self.probe_wanted = Some(now);
        }
        Way::AskForProbe
    }

    pub(super) fn is_shut(&self, now: Instant) -> Option<Instant> {
        self.open_until.filter(|until| now < *until)
    }

    pub(super) fn wants_probe(&self) -> bool {
        self.probe_wanted.is_some()
    }

    /// True: it was open.
    pub(super) fn fine(&mut self) -> bool {
        self.failures = 0;
        self.probe_wanted = None;
        self.open_until.take().is_some()
    }

    /// True: it opens with this failure, or its half-open probe failed.
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
    pub(super) fn answered(&mut self, now: Instant, answer: &CircuitAnswer) {
        // The half-open probe is ours and has not been sent yet: that is who has taken it.
        if self.probe && answer.taken && !answer.probe {
            return;
        }
        // While somebody else tries, it is looked at again soon.
        let left = if answer.taken {
            answer.left.max(PROBE_LOST / 2)
        } else {
            answer.left
        };
        self.open_until = Some(now + left);
        self.probe = answer.probe;
        if answer.probe || answer.taken || !left.is_zero() {
            self.probe_wanted = None;
        }
        answer.reason.clone_into(&mut self.reason);
    }

    /// The store knows of no open circuit.
    pub(super) fn closed_elsewhere(&mut self) {
        if self.open_until.take().is_some() {
            self.failures = 0;
        }
        self.probe = false;
        self.probe_wanted = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(probe: bool, taken: bool, left: u64) -> CircuitAnswer {
        CircuitAnswer {
            operation: "add".to_owned(),
            left: Duration::from_secs(left),
            probe,
            taken,
            reason: "down".to_owned(),
        }
    }

    #[test]
    fn a_probe_stays_ours_until_it_is_sent() {
        let now = Instant::now();
        let mut circuit = Circuit::default();
        circuit.answered(now, &answer(true, false, 0));
        // The next answer knows that somebody has it.
        circuit.answered(now, &answer(false, true, 60));
        assert_eq!(circuit.way(now), Way::Clear);
        // One only.
        assert!(matches!(circuit.way(now), Way::Shut { .. }));
        circuit.answered(now, &answer(false, true, 60));
        assert!(matches!(circuit.way(now), Way::Shut { .. }));
    }
}

//! Growing pauses between tries that never end: reconnecting, and asking a store that is away.

use std::time::Duration;

/// Shortest pause, and the longest between two openings of a connection.
const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(30);

/// Growing pauses with jitter, so that a fleet does not come back to a restarted server at once.
pub(crate) struct Pauses {
    bound: Duration,
    longest: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self::up_to(LONGEST)
    }
}

impl Pauses {
    pub(crate) fn up_to(longest: Duration) -> Self {
        Self {
            bound: SHORTEST * 2,
            longest,
        }
    }

    pub(crate) fn next(&mut self) -> Duration {
        let pause = SHORTEST + (self.bound - SHORTEST).mul_f64(rand::random::<f64>());
        self.bound = (self.bound * 2).min(self.longest);
        pause
    }

    /// From the shortest again.
    pub(crate) fn reset(&mut self) {
        *self = Self::up_to(self.longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_within_their_bounds() {
        let mut pauses = Pauses::default();
        let drawn: Vec<Duration> = (0..20).map(|_| pauses.next()).collect();
        assert!(
            drawn
                .iter()
                .all(|pause| (SHORTEST..=LONGEST).contains(pause)),
            "{drawn:?}"
        );
        assert!(drawn[0] <= SHORTEST * 2 && pauses.bound == LONGEST);
    }
}

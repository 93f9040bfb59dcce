//! Whose turn it is to be asked: with ten thousand connections, those who want nothing cost nothing at each wake-up.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use uuid::Uuid;

/// One turn per connection.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    turns: BTreeSet<(Instant, Uuid)>,
    by_connection: HashMap<Uuid, Instant>,
}

impl Schedule {
    /// Its next turn, instead of any other.
    pub(super) fn at(&mut self, connection: Uuid, turn: Instant) {
        if let Some(former) = self.by_connection.insert(connection, turn) {
            self.turns.remove(&(former, connection));
        }
        self.turns.insert((turn, connection));
    }

    /// Takes out one whose turn has come, the longest overdue first.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<Uuid> {
        let (turn, connection) = self.turns.first().copied()?;
        if turn > now {
            return None;
        }
        self.turns.pop_first();
        self.by_connection.remove(&connection);
        Some(connection)
    }

    pub(super) fn first(&self) -> Option<Instant> {
        self.turns.first().map(|(turn, _)| *turn)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_has_one_turn_and_the_longest_overdue_is_first() {
        let now = Instant::now();
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut schedule = Schedule::default();
        schedule.at(one, now + Duration::from_secs(9));
        schedule.at(two, now);
        schedule.at(one, now - Duration::from_secs(1));
        assert_eq!(schedule.next_due(now), Some(one));
        assert_eq!(schedule.next_due(now), Some(two));
        assert_eq!(schedule.next_due(now), None);
        schedule.at(two, now + Duration::from_secs(1));
        assert_eq!(schedule.next_due(now), None);
        assert_eq!(schedule.first(), Some(now + Duration::from_secs(1)));
    }
}

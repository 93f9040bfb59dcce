//! When this process last learned that its sessions are no good any more.
//!
//! After a fail-over the pool's sessions may lead to a server that is read-only, or to none. An error says so of one
//! session, and what is true of it is true of all that are older: those are closed, not given out again. A session itself
//! keeps no trace of a statement that failed, and asking each one would cost a round trip per statement; so the moment is
//! remembered, once per process like the database itself.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Between two moments that are remembered: while a server stays read-only, each statement finds a new session unfit, and
/// opening sessions is the dearest thing one can ask of a database.
pub(super) const AT_MOST_EVERY: Duration = Duration::from_millis(250);

/// A line in the log is due for the first one after so long; readiness says that it lasts.
const TELL_AFTER: Duration = Duration::from_secs(10);

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
static READ_ONLY: Moment = Moment::never();
static LOST: Moment = Moment::never();

/// A statement was refused because its session may only read.
pub(crate) fn saw_read_only() {
    if READ_ONLY.is_now().is_some_and(|quiet| quiet >= TELL_AFTER) {
        tracing::warn!("the database is read-only: sessions that were open until now are closed");
    }
}

/// A session ended under a statement.
pub(crate) fn saw_lost() {
    let _ = LOST.is_now();
}

/// Whether a session that was opened so long ago must be closed.
pub(super) fn is_unfit(age: Duration) -> bool {
    READ_ONLY.was_within(age)
}

/// Whether a session that was used so long ago may have been lost since.
pub(super) fn is_doubtful(idle_for: Duration) -> bool {
    LOST.was_within(idle_for)
}

/// Microseconds since `BEGAN`; 0 is never.
struct Moment(AtomicU64);

impl Moment {
    const fn never() -> Self {
        Self(AtomicU64::new(0))
    }

    /// How long ago it was remembered before; `None`: a moment ago, so that it is not remembered again.
    fn is_now(&self) -> Option<Duration> {
        let now = micros(BEGAN.elapsed()).max(1);
        let ago = |last: u64| match last {
            0 => u64::MAX,
            last => now.saturating_sub(last),
        };
        let due = |last: u64| (ago(last) >= micros(AT_MOST_EVERY)).then_some(now);
        let before = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, due);
        before.ok().map(|last| Duration::from_micros(ago(last)))
    }

    fn was_within(&self, last: Duration) -> bool {
        let then = self.0.load(Ordering::Relaxed);
        then != 0 && micros(BEGAN.elapsed()).saturating_sub(then) < micros(last)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_unfit_if_it_is_older_than_the_last_moment() {
        let moment = Moment::never();
        assert!(!moment.was_within(Duration::from_secs(3600)), "never");
        assert!(moment.is_now().is_some_and(|quiet| quiet > TELL_AFTER));
        assert_eq!(moment.is_now(), None, "a moment ago");
        std::thread::sleep(Duration::from_millis(20));
        assert!(moment.was_within(Duration::from_secs(60)));
        assert!(!moment.was_within(Duration::from_millis(10)));
    }
}

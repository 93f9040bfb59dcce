//! Waiting for a condition, with a name and the last thing seen in the message of the failure.

use std::fmt::Debug;
use std::future::Future;
use std::panic::Location;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(150);

/// Multiplies every time-out, for a machine that is much slower than the one they were chosen on.
const PATIENCE: &str = "KURIR_TEST_PATIENCE";

/// Looks until `look` answers `Ok`, and panics after `limit` with the name and the last `Err`, the state that was
/// not yet the wanted one. A look that hangs counts as not yet.
#[track_caller]
pub fn wait_for<T, S: Debug>(
    what: &str,
    limit: Duration,
    look: impl AsyncFnMut() -> Result<T, S>,
) -> impl Future<Output = T> {
    let (caller, limit) = (Location::caller(), patient(limit));
    async move {
        match poll(limit, look).await {
            Ok(value) => value,
            Err(Some(state)) => {
                panic!("{what}: not within {limit:?} ({caller}); last seen: {state:#?}")
            }
            Err(None) => panic!("{what}: not within {limit:?} ({caller}); no look came to an end"),
        }
    }
}

/// Looks until `holds` says yes of what `look` sees, and answers with that; panics after `limit` with the last
/// thing seen.
#[track_caller]
pub fn wait_until<T: Debug>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> T,
    holds: impl Fn(&T) -> bool,
) -> impl Future<Output = T> {
    wait_for(what, limit, async move || {
        let seen = look().await;
        if holds(&seen) { Ok(seen) } else { Err(seen) }
    })
}

/// The opposite: what `look` sees satisfies `holds` now and at every look of the whole `period`. For "nothing
/// more is sent": choose a period in which the mistake would have shown.
#[track_caller]
pub fn stays<T: Debug>(
    what: &str,
    period: Duration,
    mut look: impl AsyncFnMut() -> T,
    holds: impl Fn(&T) -> bool,
) -> impl Future<Output = ()> {
    let caller = Location::caller();
    async move {
        let begin = Instant::now();
        loop {
            let seen = look().await;
            assert!(
                holds(&seen),
                "{what}: no longer after {:?} ({caller}): {seen:#?}",
                begin.elapsed()
            );
            if begin.elapsed() >= period {
                return;
            }
            sleep(LONGEST_PAUSE.min(period)).await;
        }
    }
}

async fn poll<T, S>(
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<T, S>,
) -> Result<T, Option<S>> {
    let deadline = Instant::now() + limit;
    let (mut pause, mut last) = (FIRST_PAUSE, None);
    loop {
        match timeout_at(deadline, look()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(state)) => last = Some(state),
            Err(_elapsed) => return Err(last),
        }
        if Instant::now() + pause >= deadline {
            return Err(last);
        }
        sleep(pause).await;
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

/// The limit, times `KURIR_TEST_PATIENCE` where that is set.
pub(crate) fn patient(limit: Duration) -> Duration {
    let factor = std::env::var(PATIENCE)
        .ok()
        .and_then(|text| text.parse().ok());
    limit.mul_f64(factor.filter(|factor| *factor > 0.0).unwrap_or(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_with_what_it_waited_for() {
        let mut looks = 0;
        let seen = wait_until(
            "three looks",
            Duration::from_secs(5),
            async || {
                looks += 1;
                looks
            },
            |looks| *looks == 3,
        )
        .await;
        assert_eq!(seen, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "the moon: not within 20ms")]
    async fn names_what_never_came() {
        wait_for("the moon", Duration::from_millis(20), async || {
            Err::<(), _>("a cloud")
        })
        .await;
    }

    #[tokio::test]
    #[should_panic(expected = "last seen: \"a cloud\"")]
    async fn tells_the_last_thing_seen() {
        wait_for("the moon", Duration::from_millis(20), async || {
            Err::<(), _>("a cloud")
        })
        .await;
    }

    #[tokio::test]
    #[should_panic(expected = "no look came to an end")]
    async fn a_look_that_hangs_ends_too() {
        wait_for("the moon", Duration::from_millis(20), async || {
            std::future::pending::<Result<(), ()>>().await
        })
        .await;
    }

    #[tokio::test]
    #[should_panic(expected = "quiet: no longer")]
    async fn stays_notices_a_change() {
        let mut looks = 0;
        stays(
            "quiet",
            Duration::from_secs(5),
            async || {
                looks += 1;
                looks
            },
            |looks| *looks < 2,
        )
        .await;
    }
}

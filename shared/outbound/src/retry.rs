//! The only retry inside a call: of attempts that provably never left, within the send window. Everything longer is
//! the queue's business, because a sleeping task holds a prefetch slot. The growing interval is `worker::backoff`'s.

use std::future::Future;
use std::time::{Duration, Instant};

use worker::RetryPolicy;
use worker::backoff::full_jitter;

use crate::call::Reply;
use crate::error::CallError;

/// Attempts of one call, the first included.
pub const TRIES: u32 = 3;

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Repeats `attempt` while its error is a proof that nothing left and another attempt could still leave by `leave_by`.
pub(crate) async fn while_unsent<F, Attempt>(
    leave_by: Instant,
    mut attempt: F,
) -> Result<Reply, CallError>
where
    F: FnMut() -> Attempt,
    Attempt: Future<Output = Result<Reply, CallError>>,
{
    let policy = RetryPolicy {
        initial: FIRST_PAUSE,
        max: LONGEST_PAUSE,
        ..RetryPolicy::default()
    };
    let mut failures = 0;
    loop {
        let error = match attempt().await {
            Ok(reply) => return Ok(reply),
            Err(error) => error,
        };
        failures += 1;
        if failures >= TRIES || !passes(&error) {
            return Err(error);
        }
        let pause = full_jitter(&policy, failures, rand::random());
        if Instant::now() + pause >= leave_by {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
    }
}

fn passes(error: &CallError) -> bool {
    match error {
        CallError::NotSent { kind, .. } => kind.passes(),
        CallError::Limited { .. } | CallError::Unknown { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::WINDOW;
    use crate::error::{NotSent, Unknown};
    use std::cell::Cell;

    async fn tries_of(error: CallError, leave_by: Instant) -> (u32, CallError) {
        let tries = Cell::new(0);
        let outcome = while_unsent(leave_by, || {
            tries.set(tries.get() + 1);
            std::future::ready(Err(error.clone()))
        })
        .await;
        (tries.get(), outcome.unwrap_err())
    }

    fn not_sent(kind: NotSent) -> CallError {
        CallError::NotSent {
            kind,
            detail: String::new(),
        }
    }

    #[tokio::test]
    async fn only_what_never_left_and_may_pass_is_tried_again() {
        let until = Instant::now() + WINDOW;
        for (error, expected) in [
            (not_sent(NotSent::Connect), TRIES),
            (not_sent(NotSent::Dns), TRIES),
            (not_sent(NotSent::Dropped), TRIES),
            (not_sent(NotSent::Tls), 1),
            (not_sent(NotSent::Address), 1),
            (not_sent(NotSent::TooLate), 1),
            (not_sent(NotSent::Request), 1),
            (
                CallError::Limited {
                    until,
                    reason: String::new(),
                },
                1,
            ),
            (
                CallError::Unknown {
                    kind: Unknown::Lost,
                    status: None,
                    detail: String::new(),
                },
                1,
            ),
        ] {
            let (tries, last) = tries_of(error.clone(), until).await;
            assert_eq!(tries, expected, "{error}");
            assert_eq!(last, error);
        }
    }

    #[tokio::test]
    async fn no_attempt_starts_after_the_window() {
        let (tries, _) = tries_of(not_sent(NotSent::Connect), Instant::now()).await;
        assert_eq!(tries, 1);
    }
}

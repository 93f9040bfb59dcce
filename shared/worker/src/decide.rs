//! What now? Pure: the handler's answer, the delivery metadata and the policy go in, an outcome comes out.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::backoff::full_jitter;
use crate::delivery::{DeliveryMetadata, Job};
use crate::failure::{Failure, bounded};
use crate::fingerprint::fingerprint;
use crate::handler::{Done, Handled, WaitCause};
use crate::outcome::{AckReason, DeadClass, HoldCause, Outcome};
use crate::policy::{RetryPolicy, RetryTier};

/// Everything a decision depends on besides the answer.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub metadata: &'a DeliveryMetadata,
    pub policy: &'a RetryPolicy,
    pub now: DateTime<Utc>,
    /// When this event was received for the first time since its publication, replay or release.
    pub first_received: DateTime<Utc>,
    /// Drawn once per decision, `0.0..=1.0`.
    pub jitter: f64,
}

impl<'a> Context<'a> {
    pub fn of(job: &'a Job, policy: &'a RetryPolicy, now: DateTime<Utc>, jitter: f64) -> Self {
        let metadata = &job.delivery.metadata;
        Self {
            metadata,
            policy,
            now,
            first_received: metadata.first_received.unwrap_or(job.delivery.received_at),
            jitter,
        }
    }
}

pub fn decide(answer: Result<Handled, Failure>, context: Context<'_>) -> Outcome {
    match answer {
        Ok(Handled::Done(Done(reason))) => Outcome::Ack(reason),
        // Never a retry tier for a budget: it would come back at the wrong moment, again and again (rabbitmq.md 6.2).
        Ok(Handled::Wait {
            cause: WaitCause::Limited,
            ..
        }) => over_budget(WaitCause::Limited.as_str().to_owned()),
        Ok(Handled::Wait { until, cause }) => wait(until, cause.as_str(), context),
        // The connection cools down for all of its events; this one is no worse than the others.
        Err(Failure::Transient {
            class: DeadClass::RateLimited,
            message,
            ..
        }) => over_budget(message),
        Err(Failure::Transient {
            retry_after,
            class,
            message,
        }) => retry(retry_after, class, message, context),
        Err(Failure::Permanent { class, message }) => dead(class, message),
        Err(Failure::Blocked { what, message }) => Outcome::Hold {
            cause: what.cause,
            epoch: what.epoch,
            reason: bounded(message),
            release_at: None,
            waits_for: what.waits_for,
        },
    }
}

/// Comes back when the cause can be gone; after `max_wait` a person must look.
pub fn wait(until: DateTime<Utc>, why: &str, context: Context<'_>) -> Outcome {
    let age = (context.now - context.first_received)
        .to_std()
        .unwrap_or_default();
    if age >= context.policy.max_wait {
        let reason = format!("waited {} h: {why}", age.as_secs() / 3600);
        return Outcome::Hold {
            cause: HoldCause::WaitExpired,
            epoch: None,
            reason,
            release_at: None,
            waits_for: None,
        };
    }
    let left = (until - context.now).to_std().unwrap_or_default();
    Outcome::RetryLater {
        retry_tier: RetryTier::that_fits(left),
        counted: false,
        due: Some(until),
        class: DeadClass::Unavailable,
        reason: why.to_owned(),
    }
}

/// A busy lease: 1 s at first, 5 s from the tenth wait, 30 s from the thirtieth, never past the lease's end by a retry tier.
pub fn busy(left: Duration, context: Context<'_>) -> Outcome {
    let pace = match context.metadata.waits {
        0..10 => Duration::from_secs(1),
        10..30 => Duration::from_secs(5),
        _ => Duration::from_secs(30),
    };
    let until = context.now
        + TimeDelta::from_std(pace.min(left.max(Duration::from_secs(1)))).unwrap_or_default();
    wait(until, WaitCause::Lease.as_str(), context)
}

fn retry(
    retry_after: Option<Duration>,
    class: DeadClass,
    message: String,
    context: Context<'_>,
) -> Outcome {
    let failures = context.metadata.attempt;
    if failures >= context.policy.max_attempts {
        let reason = format!("gave up after {failures} attempts; the last one: {message}");
        return Outcome::DeadLetter {
            class: DeadClass::Exhausted,
            fingerprint: fingerprint(DeadClass::Exhausted, &message),
            reason: bounded(reason),
        };
    }
    let drawn = full_jitter(context.policy, failures, context.jitter);
    let delay = retry_after.map_or(drawn, |asked| drawn.max(asked));
    let retry_tier = RetryTier::at_least(delay);
    let due = (delay > retry_tier.delay)
        .then(|| context.now + TimeDelta::from_std(delay).unwrap_or_default());
    Outcome::RetryLater {
        retry_tier,
        counted: true,
        due,
        class,
        reason: bounded(message),
    }
}

pub fn dead(class: DeadClass, message: String) -> Outcome {
    Outcome::DeadLetter {
        class,
        fingerprint: fingerprint(class, &message),
        reason: bounded(message),
    }
}

/// Released at the budget's rate; counts as no attempt.
fn over_budget(why: String) -> Outcome {
    Outcome::Hold {
        cause: HoldCause::Budget,
        epoch: None,
        reason: bounded(why),
        release_at: None,
        waits_for: None,
    }
}

/// A panic is a bug: the event is held for a person, with the panic's text.
pub fn panicked(text: &str) -> Outcome {
    Outcome::Hold {
        cause: HoldCause::Panic,
        epoch: None,
        reason: bounded(format!("the handler panicked: {text}")),
        release_at: None,
        waits_for: None,
    }
}

/// Where the connection turned out disabled between gate and claim.
pub fn disabled() -> Outcome {
    Outcome::Ack(AckReason::Disabled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Blocked;

    fn context<'a>(metadata: &'a DeliveryMetadata, policy: &'a RetryPolicy) -> Context<'a> {
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a valid instant");
        Context {
            metadata,
            policy,
            now,
            first_received: now,
            jitter: 1.0,
        }
    }

    fn outcome(answer: Result<Handled, Failure>, attempt: u32, age_hours: i64) -> String {
        let metadata = DeliveryMetadata {
            attempt,
            ..DeliveryMetadata::default()
        };
        let policy = RetryPolicy::default();
        let mut context = context(&metadata, &policy);
        context.first_received = context.now - TimeDelta::hours(age_hours);
        match decide(answer, context) {
            Outcome::Ack(reason) => format!("ack {reason}"),
            Outcome::RetryLater {
                retry_tier,
                counted,
                due,
                ..
            } => {
                let due = due
                    .map(|due| format!(" due {}s", (due - context.now).num_seconds()))
                    .unwrap_or_default();
                format!(
                    "retry {}{}{due}",
                    retry_tier.name,
                    if counted { " counted" } else { "" }
                )
            }
            Outcome::Hold { cause, .. } => format!("hold {cause}"),
            Outcome::DeadLetter { class, .. } => format!("dead {class}"),
        }
    }

    fn transient(retry_after: Option<u64>) -> Result<Handled, Failure> {
        Err(Failure::Transient {
            retry_after: retry_after.map(Duration::from_secs),
            class: DeadClass::Unavailable,
            message: "503".into(),
        })
    }

    fn waiting(seconds: i64) -> Result<Handled, Failure> {
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a valid instant");
        Ok(Handled::Wait {
            until: now + TimeDelta::seconds(seconds),
            cause: WaitCause::Settle,
        })
    }

    #[test]
    fn decides_by_what_would_help() {
        let blocked = || {
            Err(Failure::Blocked {
                what: Blocked {
                    cause: HoldCause::Suspended,
                    epoch: Some(3),
                    waits_for: None,
                },
                message: "401".into(),
            })
        };
        let cases = [
            (
                Ok(Handled::Done(Done(AckReason::Applied))),
                1,
                0,
                "ack applied",
            ),
            (transient(None), 1, 0, "retry 1s counted"),
            (transient(None), 4, 0, "retry 30s counted"),
            (transient(None), 11, 0, "retry 1h counted"),
            (transient(None), 12, 0, "dead exhausted"),
            (transient(Some(42)), 1, 0, "retry 2m counted"),
            (transient(Some(7200)), 1, 0, "retry 1h counted due 7200s"),
            // Retry-After may ask for more time, never for less.
            (transient(Some(1)), 6, 0, "retry 2m counted"),
            (waiting(20), 12, 0, "retry 5s due 20s"),
            (waiting(-5), 1, 0, "retry 1s due -5s"),
            (waiting(20), 1, 24, "hold wait_expired"),
            (
                Err(Failure::permanent(DeadClass::Refused, "no")),
                1,
                0,
                "dead refused",
            ),
            (blocked(), 12, 0, "hold suspended"),
        ];
        for (answer, attempt, age, expected) in cases {
            let shown = format!("{answer:?} attempt {attempt} age {age} h");
            assert_eq!(outcome(answer, attempt, age), expected, "{shown}");
        }
    }

    #[test]
    fn a_busy_lease_is_asked_less_often_the_longer_it_lasts() {
        let policy = RetryPolicy::default();
        for (waits, left, expected) in [
            (0, 29, "1s"),
            (10, 29, "5s"),
            (10, 3, "1s"),
            (30, 120, "30s"),
        ] {
            let metadata = DeliveryMetadata {
                waits,
                ..DeliveryMetadata::default()
            };
            let Outcome::RetryLater {
                retry_tier,
                counted,
                ..
            } = busy(Duration::from_secs(left), context(&metadata, &policy))
            else {
                panic!("a busy lease is a wait");
            };
            assert_eq!(
                (retry_tier.name, counted),
                (expected, false),
                "{waits} waits, {left} s left"
            );
        }
    }

    #[test]
    fn one_cause_has_one_fingerprint() {
        let first = fingerprint(
            DeadClass::Refused,
            "Profit center 'A12' doesnt exist (code 6, 48 ms)",
        );
        let second = fingerprint(
            DeadClass::Refused,
            "Profit center 'B' doesnt exist (code 6, 9 ms)",
        );
        assert_eq!(first, second);
        insta::assert_snapshot!(first, @"refused:Profit center … doesnt exist (code #, # ms)");
    }
}

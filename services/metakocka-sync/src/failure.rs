//! What an error of the Metakocka client means for the event (contract §1.5).

use std::time::Instant;

use metakocka::Error;
use sync::{LookError, SendError};
use worker::{DeadClass, Failure, HoldCause};

/// A look-up changes nothing, whatever became of it.
pub(crate) fn look(error: Error, epoch: i64) -> LookError {
    LookError(failure(error, epoch))
}

/// A write.
pub(crate) fn send(error: Error, epoch: i64) -> SendError {
    match error {
        Error::Ambiguous { .. } => SendError::Unknown(error.to_string()),
        Error::NotSent { .. } | Error::Limited { .. } | Error::Invalid { .. } => {
            SendError::NotSent(failure(error, epoch))
        }
        Error::Refused { .. }
        | Error::NoSuchCall { .. }
        | Error::Credentials { .. }
        | Error::Quota { .. } => SendError::Refused(failure(error, epoch)),
        // Only reads end like this; of a write nothing would be known.
        Error::Transient { .. } | Error::Unlisted { .. } | Error::TooManyHits { .. } => {
            SendError::Unknown(error.to_string())
        }
    }
}

fn failure(error: Error, epoch: i64) -> Failure {
    let text = error.to_string();
    match error {
        // Even a mistake in the settings or a wrong root: it is mended for all events at once, so none is given up
        // for it at the first look.
        Error::NotSent { .. } | Error::NoSuchCall { .. } | Error::Ambiguous { .. } => {
            Failure::transient(DeadClass::Unavailable, text)
        }
        Error::Transient { retry_after, .. } => Failure::Transient {
            retry_after,
            class: DeadClass::Unavailable,
            message: text,
        },
        Error::Limited { until, .. } => Failure::Transient {
            retry_after: Some(until.saturating_duration_since(Instant::now())),
            class: DeadClass::RateLimited,
            message: text,
        },
        Error::Quota { retry_after, .. } => Failure::Transient {
            retry_after: Some(retry_after),
            class: DeadClass::RateLimited,
            message: text,
        },
        Error::Invalid { .. } => Failure::permanent(DeadClass::Unmappable, text),
        Error::Refused { .. } | Error::Unlisted { .. } | Error::TooManyHits { .. } => {
            Failure::permanent(DeadClass::Refused, text)
        }
        Error::Credentials { .. } => Failure::blocked(HoldCause::Suspended, Some(epoch), text),
    }
}

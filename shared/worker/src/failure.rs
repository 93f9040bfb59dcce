//! Why a handler could not finish: said by what would help, never by where it came from.

use std::time::Duration;

use crate::outcome::{DeadClass, HoldCause, WaitsFor};

/// What a person or another system must do before the event can go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    pub cause: HoldCause,
    /// Epoch of the connection seen before the call: held only if it is still the same (docs/holds.md).
    pub epoch: Option<i64>,
    pub waits_for: Option<Box<WaitsFor>>,
}

/// A failed handling. Messages are redacted by whoever builds them and at most `Failure::MESSAGE_LIMIT` long.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Waiting helps; counts as an attempt.
    #[error("{message}")]
    Transient {
        retry_after: Option<Duration>,
        class: DeadClass,
        message: String,
    },
    /// Nothing but an edit helps.
    #[error("{message}")]
    Permanent { class: DeadClass, message: String },
    /// A person, a credential or a deploy helps.
    #[error("{message}")]
    Blocked { what: Blocked, message: String },
}

impl Failure {
    pub const MESSAGE_LIMIT: usize = 1024;

    pub fn transient(class: DeadClass, message: impl Into<String>) -> Self {
        Self::Transient {
            retry_after: None,
            class,
            message: bounded(message.into()),
        }
    }

    pub fn permanent(class: DeadClass, message: impl Into<String>) -> Self {
        Self::Permanent {
            class,
            message: bounded(message.into()),
        }
    }

    pub fn blocked(cause: HoldCause, epoch: Option<i64>, message: impl Into<String>) -> Self {
        Self::Blocked {
            what: Blocked {
                cause,
                epoch,
                waits_for: None,
            },
            message: bounded(message.into()),
        }
    }

    /// Blocked until `what` is so; then it comes back by itself.
    pub fn waits_for(cause: HoldCause, what: WaitsFor, message: impl Into<String>) -> Self {
        Self::Blocked {
            what: Blocked {
                cause,
                epoch: None,
                waits_for: Some(Box::new(what)),
            },
            message: bounded(message.into()),
        }
    }
}

/// Cut at a character boundary.
pub(crate) fn bounded(mut text: String) -> String {
    if text.len() > Failure::MESSAGE_LIMIT {
        let mut end = Failure::MESSAGE_LIMIT;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}

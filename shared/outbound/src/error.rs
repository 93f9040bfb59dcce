//! What is known about a call that brought no reply.

use std::time::Instant;

use reqwest::StatusCode;

/// The client could not be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the http client cannot be built")]
    Build(#[source] reqwest::Error),
}

/// A call without a usable reply. The texts are redacted and at most `TEXT_LIMIT` long; the cause is part of the text
/// and not a `source`, because a cause would bring the unredacted text along.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Proven: the partner can't have acted on it.
    #[error("not sent, {kind}: {detail}")]
    NotSent { kind: NotSent, detail: String },
    /// The limits of this connection had no room within the bounded wait; not sent. Try again at `until`.
    #[error("not sent, {reason}")]
    Limited { until: Instant, reason: String },
    /// It left, at least in part; whether the partner acted is unknown.
    #[error("outcome unknown, {kind}: {detail}")]
    Unknown {
        kind: Unknown,
        /// Where the reply had begun.
        status: Option<StatusCode>,
        detail: String,
    },
}

impl CallError {
    /// Whether it is proven that the partner never saw a whole request.
    pub fn never_left(&self) -> bool {
        match self {
            Self::NotSent { .. } | Self::Limited { .. } => true,
            Self::Unknown { .. } => false,
        }
    }
}

/// Why a call never left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// The address is one that customers' URLs may not reach (`address.rs`).
    #[error("address refused")]
    Address,
    #[error("name not resolved")]
    Dns,
    #[error("no connection")]
    Connect,
    #[error("no connection in time")]
    ConnectTimeout,
    #[error("no trusted encryption")]
    Tls,
    /// `Call::leave_by` passed first.
    #[error("too late to send")]
    TooLate,
    /// The call itself can't be put on the wire (scheme, header).
    #[error("not a valid request")]
    Request,
    /// The connection broke before any of the request was handed to it.
    #[error("connection lost before sending")]
    Dropped,
}

impl NotSent {
    /// Whether another attempt inside the window can help.
    pub(crate) fn passes(self) -> bool {
        match self {
            Self::Dns | Self::Connect | Self::ConnectTimeout | Self::Dropped => true,
            Self::Address | Self::Tls | Self::TooLate | Self::Request => false,
        }
    }
}

/// How a call that left came to have no usable reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    #[error("no whole reply in time")]
    Timeout,
    #[error("connection lost")]
    Lost,
    #[error("reply broken off or malformed")]
    BrokenReply,
    #[error("reply too large")]
    TooLarge,
}

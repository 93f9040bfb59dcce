//! Owns the way out: the one HTTP client for partners, with its time-outs, bounded replies, redaction,
//! address guard and the retry of calls that never left. Doesn't know what any partner means by an answer,
//! nor anything about events, queues or handlers.
//!
//! The surprising part: [`CallError::NotSent`] is a proof and not a guess. A call with a body leaves only through a
//! gate (`gate.rs`) that opens at most once, never after `Call::leave_by`; an error with the gate unopened means that
//! the partner can't have acted. Everything else is [`CallError::Unknown`], and only a look-up at the partner settles it.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]

pub mod address;
mod call;
mod client;
mod connection;
mod error;
mod gate;
mod metrics;
mod redact;
mod retry;
mod status;

pub use call::{Call, Reply, WINDOW};
pub use client::{Client, Policy, Settings};
pub use connection::Connection;
pub use error::{CallError, Error, NotSent, Unknown};
pub use redact::{Redactor, TEXT_LIMIT, safe_url};
pub use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
pub use reqwest::{Method, StatusCode};
pub use retry::TRIES;
pub use status::{RETRY_AFTER_LIMIT, StatusClass, retry_after};
pub use url::Url;
pub use worker::budget::{Observation, PermitPool};

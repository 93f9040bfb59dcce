//! What goes out and what comes back.

use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use url::Url;

use crate::redact::safe_url;
use crate::status::StatusClass;

/// The longest from handing a call over to the last instant it may leave: W of docs/architecture.md, "Effects".
pub const WINDOW: Duration = Duration::from_secs(5);

/// One request to a partner. Its `Debug` shows neither query, headers nor body.
#[derive(Clone)]
pub struct Call {
    pub method: Method,
    pub url: Url,
    /// Headers that carry a secret should be marked sensitive; none of them is ever logged.
    pub headers: HeaderMap,
    pub body: Bytes,
    /// From the start of an attempt to the last byte of its reply.
    pub timeout: Duration,
    /// After this instant nothing leaves any more; what hasn't left by then is [`crate::NotSent::TooLate`].
    /// For the call of an effect: `sent_at` + W. Never later than [`WINDOW`] after the call was handed over.
    pub leave_by: Instant,
    /// One of those that the partner handles one after another.
    pub one_at_a_time: bool,
    /// The partner's name of it, for its circuit.
    pub operation: &'static str,
}

impl Call {
    /// A `POST` of JSON that may leave within [`WINDOW`] from now.
    pub fn post_json(url: Url, body: impl Into<Bytes>, timeout: Duration) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Self {
            method: Method::POST,
            url,
            headers,
            body: body.into(),
            timeout,
            leave_by: Instant::now() + WINDOW,
            one_at_a_time: false,
            operation: "",
        }
    }

    /// A `GET` that may leave within [`WINDOW`] from now.
    pub fn get(url: Url, timeout: Duration) -> Self {
        Self {
            method: Method::GET,
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            timeout,
            leave_by: Instant::now() + WINDOW,
            one_at_a_time: false,
            operation: "",
        }
    }

    pub fn leaving_by(self, leave_by: Instant) -> Self {
        Self { leave_by, ..self }
    }

    pub fn one_at_a_time(self, one_at_a_time: bool) -> Self {
        Self {
            one_at_a_time,
            ..self
        }
    }

    pub fn named(self, operation: &'static str) -> Self {
        Self { operation, ..self }
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("method", &self.method)
            .field("url", &safe_url(&self.url))
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// A whole reply, of whatever status. Its `Debug` doesn't show the body.
#[derive(Clone)]
pub struct Reply {
    pub status: StatusCode,
    /// Lower case, without parameters: `application/json`.
    pub content_type: Option<String>,
    /// How long the partner asks us to stay away, counted from the reply; at most `RETRY_AFTER_LIMIT`.
    pub retry_after: Option<Duration>,
    /// Where a redirect points: redirects are never followed.
    pub location: Option<String>,
    pub body: Bytes,
    /// From the start of the attempt to the last byte.
    pub elapsed: Duration,
}

impl Reply {
    pub fn class(&self) -> StatusClass {
        StatusClass::of(self.status)
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("status", &self.status.as_u16())
            .field("content_type", &self.content_type)
            .field("retry_after", &self.retry_after)
            .field("body_bytes", &self.body.len())
            .field("elapsed", &self.elapsed)
            .finish_non_exhaustive()
    }
}

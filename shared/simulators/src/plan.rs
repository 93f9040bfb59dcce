//! What is between the wire and a simulated system: the request as it came, what it is about, and the plan of its answer.

use std::net::IpAddr;

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use chrono::{DateTime, Utc};
use hyper::body::Bytes;
use serde_json::Value;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub from: IpAddr,
}

impl Request {
    /// The path below the root of the calls; empty if it is elsewhere.
    pub fn below(&self, root: &str) -> &str {
        self.uri.path().strip_prefix(root).unwrap_or("")
    }
}

/// What a request is about: what the log shows, and what faults and looks at the log are narrowed by.
#[derive(Clone, Debug)]
pub struct Heard<C, N> {
    /// `None` when there is no such call; it is logged, but neither counted nor hit by faults.
    pub call: Option<C>,
    /// Without secrets. Faults look for their text in it, written as compact JSON with sorted keys; a system whose calls say
    /// something in the query has it here, too.
    pub body: Value,
    /// What else the system's log says of a call; the account is in it.
    pub noted: N,
}

/// An HTTP answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: String,
    pub says: Says,
}

/// What the log makes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    Success,
    /// With the system's own code.
    Refusal(u16),
    /// A page that isn't the system's own.
    Page,
}

impl Answer {
    pub fn new(status: u16, content_type: &'static str, body: String, says: Says) -> Self {
        Answer {
            status,
            headers: vec![(CONTENT_TYPE, HeaderValue::from_static(content_type))],
            body,
            says,
        }
    }

    /// An answer in JSON; from status 400 on it is a refusal with the status as its code.
    pub fn json(status: u16, body: &Value) -> Self {
        let says = if status < 400 {
            Says::Success
        } else {
            Says::Refusal(status)
        };
        Answer::new(status, "application/json", body.to_string(), says)
    }

    /// An HTML page that isn't the system's own: a gateway, a wrong path, maintenance.
    pub fn page(status: u16) -> Self {
        let body = format!("<html><body>{status}</body></html>");
        Answer::new(status, "text/html", body, Says::Page)
    }
}

/// What goes onto the wire.
#[derive(Clone, Debug)]
pub enum Sending {
    Whole(Answer),
    /// A whole HTTP answer with half of the text.
    Garbled(Answer),
    /// Half of an HTTP answer, then the end.
    Cut(Answer),
    /// The connection is closed.
    Drop,
    /// The connection is reset.
    Reset,
    /// Nothing, for as long as the caller waits.
    Never,
}

/// When it goes.
#[derive(Clone, Debug)]
pub enum Step {
    Now(Sending),
    At(DateTime<Utc>, Sending),
    /// At this time, what became of the write that was put off until then.
    WhenDone(DateTime<Utc>, Ticket),
}

/// Names one write that was put off: an account, and a number that the account never gives twice.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub account: String,
    pub number: u64,
}

/// What a call did when it was done.
#[derive(Clone, Debug)]
pub struct Done<N> {
    /// Whether it changed what the account holds.
    pub stored: bool,
    /// Takes the place of what was noted when the call came.
    pub noted: N,
}

/// How a request is answered, and when it commits: now (`done`), later (`put_off`), or not at all.
#[derive(Clone, Debug)]
pub struct Plan<N> {
    pub step: Step,
    pub done: Option<Done<N>>,
    pub put_off: Option<Ticket>,
}

/// A write that was put off, at the moment it happened.
#[derive(Clone, Debug)]
pub struct Settled<N> {
    pub ticket: Ticket,
    pub at: DateTime<Utc>,
    /// For whoever still waits for it.
    pub answer: Answer,
    pub done: Done<N>,
}

//! What a call answers, before it is put on a wire.

use serde_json::{Value, json};

use super::partner::MkId;

/// An answer, and what really happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Seconds for a `Retry-After` header.
    pub retry_after: Option<u32>,
    pub body: Body,
    pub seen: Seen,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Json(Value),
    Html(String),
}

/// What the simulator knows about a call and its caller may not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// `opr_code` of a refusal; `None` for a success and for answers that are not Metakocka's.
    pub refused: Option<u16>,
    /// Whether the company's state changed.
    pub stored: bool,
    /// The partner that was made or changed, or the only one found.
    pub mk_id: Option<MkId>,
}

impl Reply {
    /// HTTP 200 with an error code, as Metakocka refuses (§1.5).
    pub fn refused(code: u16, text: &str) -> Self {
        Reply {
            status: 200,
            retry_after: None,
            body: Body::Json(
                json!({"opr_code": code.to_string(), "opr_desc": text, "opr_time_ms": "5"}),
            ),
            seen: Seen {
                refused: Some(code),
                ..Seen::default()
            },
        }
    }

    pub(super) fn done(body: Value, seen: Seen) -> Self {
        Reply {
            status: 200,
            retry_after: None,
            body: Body::Json(body),
            seen,
        }
    }

    /// An answer that isn't Metakocka's own: a gateway, a wrong path, maintenance.
    pub(crate) fn page(status: u16) -> Self {
        Reply {
            status,
            retry_after: None,
            body: Body::Html(html(status)),
            seen: Seen::default(),
        }
    }

    /// The JSON body, if it is one.
    pub fn json(&self) -> Option<&Value> {
        match &self.body {
            Body::Json(value) => Some(value),
            Body::Html(_) => None,
        }
    }
}

/// The page for a status (contract §10.3, example B).
fn html(status: u16) -> String {
    format!("<html><body>{status}</body></html>")
}

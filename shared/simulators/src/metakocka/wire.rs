//! An answer on its way to the caller: whole, cut, garbled, or none at all.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body as HttpBody;
use hyper::body::{Bytes, Frame};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};

use super::core::{Body, Reply};
use super::log::Outcome;
use super::socket::Ending;

/// Ends a connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection ends here on purpose")]
pub(super) struct NoAnswer;

/// What the caller of a call gets.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) reply: Reply,
    pub(super) manner: Manner,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    Whole,
    /// A whole HTTP answer with half of the text.
    Garbled,
    /// Half of an HTTP answer, then the end.
    Cut,
    Drop,
    Reset,
    /// Nothing, for as long as the caller waits.
    Never,
}

impl Wire {
    pub(super) fn whole(reply: Reply) -> Self {
        Wire {
            reply,
            manner: Manner::Whole,
        }
    }

    /// No answer; the reply is only what would have been said.
    pub(super) fn lost(reply: Reply, manner: Manner) -> Self {
        Wire { reply, manner }
    }
}

/// How the log names it, and the HTTP status if there is one.
pub(super) fn what_is_sent(wire: &Wire) -> (Outcome, Option<u16>) {
    let status = Some(wire.reply.status);
    match (wire.manner, &wire.reply.body, wire.reply.seen.refused) {
        (Manner::Whole, Body::Html(_), _) => (Outcome::Page, status),
        (Manner::Whole, Body::Json(_), Some(_)) => (Outcome::Refused, status),
        (Manner::Whole, Body::Json(_), None) => (Outcome::Answered, status),
        (Manner::Garbled, _, _) => (Outcome::Garbled, status),
        (Manner::Cut, _, _) => (Outcome::Cut, status),
        (Manner::Drop, _, _) => (Outcome::Dropped, None),
        (Manner::Reset, _, _) => (Outcome::Reset, None),
        (Manner::Never, _, _) => (Outcome::Pending, None),
    }
}

/// Puts it on the wire, or ends the connection.
pub(super) fn respond(wire: Wire, ending: &Ending) -> Result<Response<HttpBody>, NoAnswer> {
    let (content_type, mut text) = match wire.reply.body {
        Body::Json(body) => ("application/json;charset=UTF-8", body.to_string()),
        Body::Html(page) => ("text/html", page),
    };
    let whole = text.len();
    let body = match wire.manner {
        Manner::Drop | Manner::Never => return Err(NoAnswer),
        Manner::Reset => {
            ending.reset();
            return Err(NoAnswer);
        }
        Manner::Whole => HttpBody::from(text),
        Manner::Garbled => {
            text.truncate(text.floor_char_boundary(whole / 2));
            HttpBody::from(text)
        }
        Manner::Cut => HttpBody::new(Half::of(text.into_bytes())),
    };
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(wire.reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if wire.manner == Manner::Cut {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(whole));
    }
    if let Some(seconds) = wire.reply.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    Ok(response)
}

/// The first half of a body, then the end of the connection.
struct Half {
    first: Option<Bytes>,
    flushed: bool,
}

impl Half {
    fn of(mut whole: Vec<u8>) -> Self {
        whole.truncate(whole.len() / 2);
        Half {
            first: Some(Bytes::from(whole)),
            flushed: false,
        }
    }
}

impl hyper::body::Body for Half {
    type Data = Bytes;
    type Error = NoAnswer;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, NoAnswer>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if !self.flushed {
            // One round without data: the first half is written out before the connection goes.
            self.flushed = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(NoAnswer)))
    }
}

//! An answer on its way to the caller: whole, cut, garbled, or none at all.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body as HttpBody;
use hyper::body::{Bytes, Frame};
use hyper::header::{CONTENT_LENGTH, HeaderValue};
use hyper::{Response, StatusCode};

use crate::plan::{Answer, Sending};
use crate::socket::Ending;

/// Ends a connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection ends here on purpose")]
pub(crate) struct NoAnswer;

/// Puts it on the wire, or ends the connection.
pub(crate) fn respond(sending: Sending, ending: &Ending) -> Result<Response<HttpBody>, NoAnswer> {
    match sending {
        Sending::Drop | Sending::Never => Err(NoAnswer),
        Sending::Reset => {
            ending.reset();
            Err(NoAnswer)
        }
        Sending::Whole(answer) => Ok(response(answer, HttpBody::from)),
        Sending::Garbled(answer) => Ok(response(answer, |mut text| {
            text.truncate(text.floor_char_boundary(text.len() / 2));
            HttpBody::from(text)
        })),
        Sending::Cut(answer) => {
            let whole = HeaderValue::from(answer.body.len());
            let mut response = response(answer, |text| HttpBody::new(Half::of(text.into_bytes())));
            response.headers_mut().insert(CONTENT_LENGTH, whole);
            Ok(response)
        }
    }
}

fn response(answer: Answer, body: impl FnOnce(String) -> HttpBody) -> Response<HttpBody> {
    let mut response = Response::new(body(answer.body));
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().extend(answer.headers);
    response
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

//! One id per request: the client's own if it is a plain one, else ours; in the answer and in every log line.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use event::headers::{TRACEPARENT, TRACESTATE};
use tracing::{Instrument as _, Span};
use uuid::Uuid;
use worker::trace::{self, Relation, spans};

pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A longer id of a client is replaced by ours.
pub const MAX_REQUEST_ID_BYTES: usize = 100;

/// The id of this request; an extension of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(pub String);

/// Middleware (`axum::middleware::from_fn`): gives the request its id and a span, and logs one line per answer.
pub async fn with_request_id(mut request: Request, next: Next) -> Response {
    let id = given(request.headers()).unwrap_or_else(|| Uuid::now_v7().to_string());
    let value = HeaderValue::from_str(&id).expect("a checked id is a header value");
    // The route, not the path: a path may hold ids.
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(String::new, |path| path.as_str().to_owned());
    let lines = tracing::info_span!("request", request.id = %id, http.method = %request.method(), http.route = %route);
    let span = spans::request(request.method().as_str(), &route, &id);
    follow(&span, request.headers());
    request.extensions_mut().insert(RequestId(id));
    let begin = Instant::now();
    let response = async move {
        let mut response = next.run(request).await;
        response.headers_mut().insert(REQUEST_ID, value);
        let ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(http.status = response.status().as_u16(), ms, "answered");
        response
    }
    .instrument(lines)
    .instrument(span.clone())
    .await;
    spans::answered(&span, response.status().as_u16());
    response
}

/// A sender is a stranger: its trace is named, and ours begins here.
fn follow(span: &Span, headers: &HeaderMap) {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(traceparent) = text(TRACEPARENT) {
        trace::join(span, traceparent, text(TRACESTATE), Relation::Link);
    }
}

fn given(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(REQUEST_ID)?.to_str().ok()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte);
    ((1..=MAX_REQUEST_ID_BYTES).contains(&id.len()) && id.bytes().all(plain)).then(|| id.to_owned())
}

//! Reading a body without trusting its length or its pace.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;

use crate::problem::Problem;

/// Longest time a body may take from its first to its last byte.
pub const BODY_TIME_LIMIT: Duration = Duration::from_secs(20);
/// How much of an unwanted body is still taken off the wire, and how long: a client that is refused while it sends
/// would else see a reset connection instead of the answer.
const DRAIN_BYTES: usize = 4 * 1024 * 1024;
const DRAIN_TIME_LIMIT: Duration = Duration::from_secs(5);

/// Why there is no whole body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("the body is longer than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the body took longer than {} s", BODY_TIME_LIMIT.as_secs())]
    TooSlow,
    #[error("the body broke off")]
    Broken,
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        let (status, name) = match error {
            BodyError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            BodyError::TooSlow => (StatusCode::REQUEST_TIMEOUT, "too_slow"),
            BodyError::Broken => (StatusCode::BAD_REQUEST, "malformed"),
        };
        Self::new(status, name, error.to_string())
    }
}

/// The whole body, at most `limit` bytes. What is longer is taken off the wire, as far as [`discard`] does, and refused.
///
/// # Errors
/// Longer, slower than [`BODY_TIME_LIMIT`], or cut off.
pub async fn read_body(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, BodyError> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|announced| announced > limit) {
        discard(headers, body).await;
        return Err(BodyError::TooLarge { limit });
    }
    let mut stream = body.into_data_stream();
    let read = async {
        let mut whole = BytesMut::with_capacity(announced.unwrap_or_default());
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|_broken| BodyError::Broken)?;
            if whole.len() + chunk.len() > limit {
                return Err(BodyError::TooLarge { limit });
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    };
    let read = tokio::time::timeout(BODY_TIME_LIMIT, read)
        .await
        .unwrap_or(Err(BodyError::TooSlow));
    if matches!(read, Err(BodyError::TooLarge { .. })) {
        take_off(stream).await;
    }
    read
}

/// Takes a body that nobody wants off the wire, up to 4 MiB and 5 s; not one whose sender waits to be asked for it.
pub async fn discard(headers: &HeaderMap, body: Body) {
    if !headers.contains_key(header::EXPECT) {
        take_off(body.into_data_stream()).await;
    }
}

async fn take_off(mut stream: BodyDataStream) {
    let taken = async {
        let mut bytes = 0;
        while let Some(Ok(chunk)) = stream.next().await {
            bytes += chunk.len();
            if bytes > DRAIN_BYTES {
                break;
            }
        }
    };
    // Late or not: the answer goes out now.
    let _ = tokio::time::timeout(DRAIN_TIME_LIMIT, taken).await;
}

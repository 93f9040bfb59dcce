//! Reading a body without trusting its length or its pace.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;

use crate::problem::Problem;

/// Longest time a body may take from its first to its last byte.
pub const BODY_TIME_LIMIT: Duration = Duration::from_secs(20);

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

/// The whole body, at most `limit` bytes. One that announces more is refused before it is read.
///
/// # Errors
/// Longer, slower than [`BODY_TIME_LIMIT`], or cut off.
pub async fn read_body(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, BodyError> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|announced| announced > limit) {
        return Err(BodyError::TooLarge { limit });
    }
    let read = async {
        let mut stream = body.into_data_stream();
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
    tokio::time::timeout(BODY_TIME_LIMIT, read)
        .await
        .unwrap_or(Err(BodyError::TooSlow))
}

//! The token of a request: `Authorization: Bearer <token>` (RFC 6750).

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use secrecy::SecretString;

use crate::problem::Problem;

/// A longer token is nobody's and is not looked up.
pub const MAX_TOKEN_BYTES: usize = 1024;

/// Why a request has no usable token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BearerError {
    #[error("a bearer token is required: Authorization: Bearer <token>")]
    Missing,
    #[error("the Authorization header must read: Bearer <token>")]
    Malformed,
    /// Said by whoever looked the token up.
    #[error("the token is not known or has been revoked")]
    Unknown,
}

impl From<BearerError> for Problem {
    fn from(error: BearerError) -> Self {
        let challenge = match error {
            BearerError::Missing => r#"Bearer realm="kurir""#,
            BearerError::Malformed => r#"Bearer realm="kurir", error="invalid_request""#,
            BearerError::Unknown => r#"Bearer realm="kurir", error="invalid_token""#,
        };
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", error.to_string()).header(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static(challenge),
        )
    }
}

/// The token, unchecked.
///
/// # Errors
/// There is none, or the header is not one bearer token of printable ASCII.
pub fn bearer(headers: &HeaderMap) -> Result<SecretString, BearerError> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let value = given.next().ok_or(BearerError::Missing)?;
    let text = value
        .to_str()
        .map_err(|_not_ascii| BearerError::Malformed)?;
    let (scheme, token) = text.split_once(' ').ok_or(BearerError::Malformed)?;
    let token = token.trim();
    let fits = (1..=MAX_TOKEN_BYTES).contains(&token.len())
        && token.bytes().all(|byte| byte.is_ascii_graphic());
    if !scheme.eq_ignore_ascii_case("bearer") || !fits || given.next().is_some() {
        return Err(BearerError::Malformed);
    }
    Ok(SecretString::from(token))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[track_caller]
    fn check(values: &[&'static [u8]], expected: Result<&str, BearerError>) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(
                header::AUTHORIZATION,
                HeaderValue::from_bytes(value).expect("header"),
            );
        }
        let token = bearer(&headers);
        assert_eq!(
            token
                .as_ref()
                .map(ExposeSecret::expose_secret)
                .map_err(|error| *error),
            expected
        );
    }

    #[test]
    fn only_one_clean_bearer_token_is_taken() {
        check(&[b"Bearer kurir_abc"], Ok("kurir_abc"));
        check(&[b"bearer  kurir_abc "], Ok("kurir_abc"));
        check(&[], Err(BearerError::Missing));
        check(&[b"Basic bWFqYTprb3M="], Err(BearerError::Malformed));
        check(&[b"Bearer"], Err(BearerError::Malformed));
        check(&[b"Bearer "], Err(BearerError::Malformed));
        check(&[b"Bearer a b"], Err(BearerError::Malformed));
        check(&[b"Bearer \xc4\x8d"], Err(BearerError::Malformed));
        check(&[b"Bearer a", b"Bearer b"], Err(BearerError::Malformed));
    }
}

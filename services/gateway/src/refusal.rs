//! Each refusal as a problem document. Names (the last part of `type`) are stable; docs/events.md lists them.

use std::time::Duration;

use axum::http::StatusCode;
use event::{DecodeClass, DecodeError};
use inbound::{FieldError, Problem};

use crate::{AWAY_RETRY_AFTER, IN_FLIGHT_WAIT};

/// Problems told of one request; a batch of broken events would else answer with a body larger than its own.
const MAX_ERRORS: usize = 100;

/// Something wrong with one event, found before anything was published.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) kind: Kind,
    pub(crate) errors: Vec<FieldError>,
}

/// Why an event is refused. Of several the first in this order gives the answer its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The token is not for this tenant or source.
    Forbidden,
    Decode(DecodeClass),
    /// A type that only Kurir itself publishes.
    NotPublishable,
}

impl Refused {
    /// `at` is where in the body the event is: empty, or `/<index>` in a batch.
    pub(crate) fn new(kind: Kind, at: &str, pointer: &str, detail: impl Into<String>) -> Self {
        let errors = vec![FieldError {
            pointer: format!("{at}{pointer}"),
            detail: detail.into(),
        }];
        Self { kind, errors }
    }

    pub(crate) fn decode(at: &str, error: DecodeError) -> Self {
        let field = |problem: event::Problem| FieldError {
            pointer: format!("{at}{}", problem.pointer),
            detail: problem.detail,
        };
        Self {
            kind: Kind::Decode(error.class),
            errors: error.problems.into_iter().map(field).collect(),
        }
    }
}

impl Kind {
    fn status(self) -> StatusCode {
        match self {
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::Decode(DecodeClass::Malformed) => StatusCode::BAD_REQUEST,
            Self::Decode(DecodeClass::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Decode(_) | Self::NotPublishable => StatusCode::UNPROCESSABLE_ENTITY,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Forbidden => "forbidden",
            Self::Decode(class) => class.as_str(),
            Self::NotPublishable => "not_publishable",
        }
    }

    fn detail(self) -> &'static str {
        match self {
            Self::Forbidden => "the token may not publish this",
            Self::Decode(DecodeClass::Malformed) => "the body is not a CloudEvent in JSON",
            Self::Decode(DecodeClass::TooLarge) => "the request is too large",
            Self::Decode(DecodeClass::SpecVersion) => "only CloudEvents 1.0 is understood",
            Self::Decode(DecodeClass::NewerMajor) => {
                "the type's version is newer than this build; a deploy helps"
            }
            Self::Decode(DecodeClass::UnknownType) => {
                "the type is not in the catalogue (docs/events.md)"
            }
            Self::Decode(DecodeClass::TenantMismatch) => "the event names two tenants",
            Self::Decode(DecodeClass::TooDeep) => "events are causing each other in a loop",
            Self::Decode(DecodeClass::Schema) => {
                "the event breaks its schema (schemas/<type>.json)"
            }
            Self::NotPublishable => "events of this type are written by Kurir alone",
        }
    }
}

/// One answer for all refused events of a request. `None` if there are none.
pub(crate) fn refusal(refused: Vec<Refused>, events: usize) -> Option<Problem> {
    let kind = refused.iter().map(|refused| refused.kind).min()?;
    let mut detail = kind.detail().to_owned();
    if events > 1 {
        detail = format!(
            "{detail}; {} of {events} events are refused and none was published",
            refused.len()
        );
    }
    let total: usize = refused.iter().map(|refused| refused.errors.len()).sum();
    if total > MAX_ERRORS {
        detail = format!("{detail}; the first {MAX_ERRORS} of {total} errors are listed");
    }
    let errors = refused
        .into_iter()
        .flat_map(|refused| refused.errors)
        .take(MAX_ERRORS);
    Some(Problem::new(kind.status(), kind.name(), detail).errors(errors))
}

pub(crate) fn unsupported(detail: &str) -> Problem {
    Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        detail,
    )
}

pub(crate) fn too_many(wait: Duration) -> Problem {
    let detail =
        "the tenant has sent more events than its rate allows; none of this request was published";
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail).retry_after(wait)
}

pub(crate) fn overloaded() -> Problem {
    let detail = "too many requests are being worked on";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", detail).retry_after(IN_FLIGHT_WAIT)
}

pub(crate) fn tokens_away() -> Problem {
    let detail = "tokens cannot be checked now; send the same events again";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
        .retry_after(AWAY_RETRY_AFTER)
}

pub(crate) fn not_confirmed(detail: &str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
        .retry_after(AWAY_RETRY_AFTER)
}

/// A mistake of ours, because what can't be published is to be refused before. A repeat would only repeat it, and
/// publish its neighbours once more each time.
pub(crate) fn unpublishable() -> Problem {
    let detail = "Kurir cannot publish what is marked as unpublishable, now or later: do not send it again, and tell who \
                  runs Kurir; what is marked as accepted is safe, send the rest without it";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "unpublishable", detail)
}

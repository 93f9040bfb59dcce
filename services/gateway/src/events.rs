//! `POST /v1/events`: who is it, read, check everything, publish everything, answer.
//!
//! A batch is checked as a whole before any of it is published. Hands on: messages for `kurir.events`, each confirmed
//! by the broker before the sender hears 202.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use event::headers::{CE_PREFIX, CE_SPECVERSION};
use event::{Canonical, DecodeError, EventType, Publisher};
use futures_util::future::join_all;
use inbound::{BearerError, Problem, bearer, discard, read_body};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::metrics::Metrics;
use crate::outcome::Outcome;
use crate::ports::{Message, Principal, PublishError};
use crate::refusal::{
    Kind, Refused, not_confirmed, overloaded, refusal, tokens_away, too_many, unpublishable,
    unsupported,
};
use crate::{Gateway, MAX_BATCH_BYTES, MAX_BATCH_EVENTS, PUBLISH_LIMIT};

/// The body of a 202.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// In the order in which they were sent.
    pub events: Vec<EventStatus>,
}

/// What became of one event. A 503 carries the same list as a member of its problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventStatus {
    pub id: String,
    pub source: String,
    pub status: Outcome,
}

/// How a request carries its events.
enum Mode {
    Structured,
    Batch,
    Binary,
}

pub(crate) async fn receive(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let mut body = Some(body);
    let taken = take(&gateway, &head.headers, &mut body).await;
    if let Some(unread) = body {
        discard(&head.headers, unread).await;
    }
    match taken {
        Ok(accepted) => (StatusCode::ACCEPTED, Json(accepted)).into_response(),
        Err(problem) => {
            tracing::info!(
                problem = problem.name(),
                errors = problem.errors.len(),
                "refused"
            );
            problem.into_response()
        }
    }
}

async fn take(
    gateway: &Gateway,
    headers: &HeaderMap,
    body: &mut Option<Body>,
) -> Result<Accepted, Problem> {
    let _place = gateway.limits.place().await.ok_or_else(overloaded)?;
    let principal = authenticate(gateway, headers).await?;
    let mode = mode(headers)?;
    // One before the body is read: a tenant over its rate costs no more than a header. The rest once it is counted.
    gateway
        .limits
        .admit(&principal.tenant, 1)
        .map_err(too_many)?;
    let limit = match mode {
        Mode::Batch => MAX_BATCH_BYTES,
        Mode::Structured | Mode::Binary => event::MAX_EVENT_BYTES,
    };
    let body = read_body(headers, body.take().unwrap_or_default(), limit).await?;
    let read = read(&mode, headers, &body)?;
    gateway
        .limits
        .admit(&principal.tenant, read.len().saturating_sub(1))
        .map_err(too_many)?;
    let events = check(&gateway.metrics, &principal, &mode, read)?;
    publish(gateway, events).await
}

async fn authenticate(gateway: &Gateway, headers: &HeaderMap) -> Result<Principal, Problem> {
    let token = bearer(headers)?;
    match gateway.tokens.principal(&token).await {
        Ok(Some(principal)) => Ok(principal),
        Ok(None) => Err(BearerError::Unknown.into()),
        Err(away) => {
            tracing::error!(error = %away, "a token could not be checked");
            Err(tokens_away())
        }
    }
}

/// CloudEvents HTTP binding 3: `application/cloudevents…` is structured or a batch, all else is binary mode.
fn mode(headers: &HeaderMap) -> Result<Mode, Problem> {
    const ACCEPTED: &str = "send application/cloudevents+json, application/cloudevents-batch+json, or JSON with ce-* headers";
    let content_type = content_type(headers).unwrap_or_default();
    let essence = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if is_encoded(headers) {
        return Err(unsupported("compressed bodies are not taken"));
    }
    match essence.as_str() {
        "application/cloudevents+json" => Ok(Mode::Structured),
        "application/cloudevents-batch+json" => Ok(Mode::Batch),
        other if other.starts_with("application/cloudevents") => Err(unsupported(ACCEPTED)),
        _ if !headers.contains_key(CE_SPECVERSION) => Err(unsupported(ACCEPTED)),
        "" | "application/json" | "text/json" => Ok(Mode::Binary),
        other if other.ends_with("+json") => Ok(Mode::Binary),
        _ => Err(unsupported(ACCEPTED)),
    }
}

/// `identity` says that nothing was done to the body; an empty list says the same.
fn is_encoded(headers: &HeaderMap) -> bool {
    let says_nothing = |value: &HeaderValue| {
        value.as_bytes().split(|&byte| byte == b',').all(|coding| {
            let coding = coding.trim_ascii();
            coding.is_empty() || coding.eq_ignore_ascii_case(b"identity")
        })
    };
    !headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .all(says_nothing)
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::CONTENT_TYPE)?.to_str().ok()
}

fn read(
    mode: &Mode,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Vec<Result<Canonical, DecodeError>>, Problem> {
    match mode {
        Mode::Structured => Ok(vec![event::canonical(body)]),
        Mode::Batch => event::canonical_batch(body, MAX_BATCH_EVENTS)
            .map_err(|error| refusal(vec![Refused::decode("", error)], 1).expect("one is refused")),
        Mode::Binary => {
            let attributes = headers.iter().filter_map(|(name, value)| {
                Some((name.as_str().strip_prefix(CE_PREFIX)?, value.as_bytes()))
            });
            Ok(vec![event::canonical_binary(
                attributes,
                content_type(headers),
                body,
            )])
        }
    }
}

/// All of them, or the answer that lists what is wrong with each.
fn check(
    metrics: &Metrics,
    principal: &Principal,
    mode: &Mode,
    read: Vec<Result<Canonical, DecodeError>>,
) -> Result<Vec<Canonical>, Problem> {
    let sent = read.len();
    let (mut events, mut refused) = (Vec::with_capacity(sent), Vec::new());
    for (index, read) in read.into_iter().enumerate() {
        let at = if matches!(mode, Mode::Batch) {
            format!("/{index}")
        } else {
            String::new()
        };
        match read {
            Ok(canonical) => match objection(principal, &canonical, &at) {
                None => events.push(canonical),
                Some(objection) => {
                    metrics.refused(Some(canonical.event.event_type));
                    refused.push(objection);
                }
            },
            Err(error) => {
                let kind = error.identity.event_type.as_deref();
                metrics.refused(kind.and_then(EventType::parse));
                refused.push(Refused::decode(&at, error));
            }
        }
    }
    match refusal(refused, sent) {
        None => Ok(events),
        Some(problem) => Err(problem),
    }
}

fn objection(principal: &Principal, canonical: &Canonical, at: &str) -> Option<Refused> {
    let event = &canonical.event;
    if event.tenant != principal.tenant {
        return Some(Refused::new(
            Kind::Forbidden,
            at,
            "/tenantid",
            "the token is of another tenant",
        ));
    }
    if principal
        .source
        .as_ref()
        .is_some_and(|only| *only != event.source)
    {
        return Some(Refused::new(
            Kind::Forbidden,
            at,
            "/source",
            "the token is for another source",
        ));
    }
    if event.event_type.publisher() != Publisher::App {
        return Some(Refused::new(
            Kind::NotPublishable,
            at,
            "/type",
            "is written by Kurir alone",
        ));
    }
    None
}

async fn publish(gateway: &Gateway, events: Vec<Canonical>) -> Result<Accepted, Problem> {
    let identities: Vec<(String, String)> = events
        .iter()
        .map(|canonical| (canonical.event.id.clone(), canonical.event.source.clone()))
        .collect();
    let sent = events.into_iter().map(|Canonical { event, body }| {
        let message = Message::new(&event, body);
        async move {
            let outcome = match timeout(PUBLISH_LIMIT, gateway.publisher.publish(message)).await {
                Ok(Ok(())) => Outcome::Accepted,
                Ok(Err(PublishError::NotPublished)) => Outcome::NotPublished,
                Ok(Err(PublishError::Never)) => Outcome::Unpublishable,
                Ok(Err(PublishError::Unknown)) | Err(_) => Outcome::Unknown,
            };
            gateway.metrics.published(event.event_type, outcome);
            outcome
        }
    });
    let outcomes = join_all(sent).await;
    worker::failpoint::hit("gateway_after_publish");
    let events: Vec<EventStatus> = identities
        .into_iter()
        .zip(&outcomes)
        .map(|((id, source), status)| EventStatus {
            id,
            source,
            status: *status,
        })
        .collect();
    if outcomes.iter().all(|outcome| *outcome == Outcome::Accepted) {
        return Ok(Accepted { events });
    }
    if outcomes.contains(&Outcome::Unpublishable) {
        let listed = serde_json::to_value(events).expect("text always serialises");
        return Err(unpublishable().extension("events", listed));
    }
    let confirmed = outcomes
        .iter()
        .filter(|outcome| **outcome == Outcome::Accepted)
        .count();
    let detail = format!(
        "the broker confirmed {confirmed} of {} events; send the whole request again, with the same ids",
        outcomes.len()
    );
    let listed = serde_json::to_value(events).expect("text always serialises");
    Err(not_confirmed(&detail).extension("events", listed))
}

//! Owns the parts that every HTTP entrance of Kurir is made of: problem documents, bearer tokens, bounded bodies,
//! request ids, health and metrics routes and the serving loop. Knows no handlers, no events and no broker.
//!
//! What may surprise: every refusal, 404 and 405 included, is an RFC 9457 problem document.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]

mod bearer;
mod body;
mod health;
mod metrics;
mod problem;
mod request;
mod serve;

pub use bearer::{BearerError, MAX_TOKEN_BYTES, bearer};
pub use body::{BODY_TIME_LIMIT, BodyError, discard, read_body};
pub use health::{Check, CheckState, Readiness, ReadinessReport, health_routes};
pub use metrics::{HttpMetrics, measured, metrics_routes};
pub use problem::{FieldError, PROBLEM_JSON, Problem, fallbacks};
pub use request::{MAX_REQUEST_ID_BYTES, REQUEST_ID, RequestId, with_request_id};
pub use serve::{HEADER_TIME_LIMIT, MAX_CONNECTIONS, Served, serve};

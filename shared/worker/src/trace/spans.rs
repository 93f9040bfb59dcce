//! Every span that Kurir records, by the names of OpenTelemetry's semantic conventions 1.44 (messaging and HTTP; the
//! messaging ones are still in development, so this is the one place to follow them) and our own under `kurir.`.
//!
//! They are of level DEBUG and of one target, [`TARGET`], so that log lines do not repeat them and a process without a
//! collector never builds one: its arguments are not even looked at.

use std::fmt;

use event::{EventType, TenantId};
use tracing::field::Empty;
use tracing::{Span, debug_span};
use uuid::Uuid;

/// Of all spans here and of nothing else; what is recorded is chosen by it.
pub const TARGET: &str = module_path!();

/// Methods that are named; a sender can make up any others.
const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
];

/// A request of a sender, from its head to the answer. A trace begins here whatever the sender says.
pub fn request(method: &str, route: &str, request_id: &str) -> Span {
    let method = METHODS.into_iter().find(|known| *known == method);
    let method = method.unwrap_or("_OTHER");
    debug_span!(
        parent: None,
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
        error.r#type = Empty,
        kurir.request.id = request_id,
    )
}

/// The end of a request: only an answer of 5xx is a failure of ours.
pub fn answered(span: &Span, status: u16) {
    span.record("http.response.status_code", status);
    if status >= 500 {
        failed(span, status);
    }
}

/// A message on its way to the broker, until it is confirmed. `exchange` is empty for a queue.
pub fn publish(
    exchange: &str,
    routing_key: &str,
    message_id: Option<&str>,
    conversation_id: Option<&str>,
    bytes: usize,
) -> Span {
    debug_span!(
        "publish",
        otel.name = format!("publish {}", if exchange.is_empty() { routing_key } else { exchange }),
        otel.kind = "producer",
        otel.status_code = Empty,
        messaging.system = "rabbitmq",
        messaging.operation.name = "publish",
        messaging.operation.r#type = "send",
        messaging.destination.name = %Destination(exchange, routing_key),
        messaging.rabbitmq.destination.routing_key = routing_key,
        messaging.message.id = message_id,
        messaging.message.conversation_id = conversation_id,
        messaging.message.body.size = bytes,
        error.r#type = Empty,
    )
}

/// What a delivery is known by.
#[derive(Clone, Copy, Debug)]
pub struct Processed<'a> {
    pub queue: &'a str,
    pub worker: &'a str,
    /// Empty where the bytes are no event.
    pub event_id: &'a str,
    pub event_type: Option<EventType>,
    pub tenant: Option<&'a TenantId>,
    pub subject: Option<&'a str>,
    pub conversation_id: Option<&'a str>,
    pub attempt: u32,
    pub generation: u32,
}

/// A delivery from its hand-over (the claim) to its acknowledgement; the time that it lay prefetched is not in it.
pub fn process(of: Processed<'_>) -> Span {
    debug_span!(
        parent: None,
        "process",
        otel.name = format!("process {}", of.queue),
        otel.kind = "consumer",
        otel.status_code = Empty,
        messaging.system = "rabbitmq",
        messaging.operation.name = "process",
        messaging.operation.r#type = "process",
        messaging.destination.name = of.queue,
        messaging.message.id = of.event_id,
        messaging.message.conversation_id = of.conversation_id,
        kurir.worker = of.worker,
        kurir.event.r#type = of.event_type.map(EventType::as_str),
        kurir.tenant.id = of.tenant.map(TenantId::as_str),
        kurir.subject = of.subject,
        kurir.attempt = of.attempt,
        kurir.generation = of.generation,
        kurir.connection.id = Empty,
        kurir.outcome = Empty,
        kurir.outcome.detail = Empty,
        error.r#type = Empty,
    )
}

/// The partner account that a delivery is for, as soon as it is known.
pub fn of_connection(span: &Span, connection: Uuid) {
    span.record("kurir.connection.id", tracing::field::display(connection));
}

/// What was decided about a delivery; the words are those of the log line `settling`.
/// `failure`: the class of what went wrong, where something did.
pub fn decided(span: &Span, outcome: &str, detail: &str, failure: Option<&str>) {
    span.record("kurir.outcome", outcome);
    span.record("kurir.outcome.detail", detail);
    if let Some(class) = failure {
        failed(span, class);
    }
}

/// The claim of an event's link, as a child of its `process` span. Others were claimed in the same statement.
pub fn claim(process: &Span, events: usize) -> Span {
    debug_span!(
        parent: process,
        "claim",
        otel.kind = "client",
        db.system.name = "postgresql",
        messaging.batch.message_count = events,
    )
}

/// An effect that is written down before its call leaves.
pub fn reserve(link: i64, operation: &str) -> Span {
    debug_span!(
        "reserve",
        otel.kind = "client",
        db.system.name = "postgresql",
        kurir.link.id = link,
        kurir.operation = operation,
    )
}

/// The end of a handling, or of one effect of it, that is written down.
pub fn complete(link: i64) -> Span {
    debug_span!(
        "complete",
        otel.kind = "client",
        db.system.name = "postgresql",
        kurir.link.id = link,
    )
}

/// One call to a partner with all its attempts that provably did not leave. Never a path, a query, a header or a body:
/// any of them may hold a secret. Nothing of the trace is sent along: it is none of a partner's business.
pub fn call(
    system: &str,
    operation: &str,
    method: &str,
    host: Option<&str>,
    port: Option<u16>,
) -> Span {
    debug_span!(
        "call",
        otel.name = format!("{method} {operation}"),
        otel.kind = "client",
        otel.status_code = Empty,
        http.request.method = method,
        http.response.status_code = Empty,
        server.address = host,
        server.port = port,
        kurir.system = system,
        kurir.operation = operation,
        error.r#type = Empty,
    )
}

/// A partner's answer: 4xx and 5xx are failures of a call.
pub fn replied(span: &Span, status: u16) {
    span.record("http.response.status_code", status);
    if status >= 400 {
        failed(span, status);
    }
}

/// Why a row of the outbox is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relayed {
    /// It follows from something a moment ago: a copy for one of several accounts, a request of the janitor's.
    Row,
    /// It was held, or stood back behind a newer one.
    Release,
    /// A dead letter that goes back to its worker.
    Replay,
}

/// A row of the outbox, from its turn to the broker's confirm.
pub fn relay(
    why: Relayed,
    to: &str,
    seq: i64,
    replay: Option<&str>,
    dead_letter: Option<&str>,
) -> Span {
    let name = match why {
        Relayed::Row => "relay",
        Relayed::Release => "release",
        Relayed::Replay => "replay",
    };
    debug_span!(
        parent: None,
        "relay",
        otel.name = format!("{name} {to}"),
        otel.status_code = Empty,
        kurir.outbox.seq = seq,
        kurir.replay.id = replay,
        kurir.dead_letter.id = dead_letter,
        error.r#type = Empty,
    )
}

/// Dead letters on their way from a queue into the database, with a link to each.
pub fn record_dead_letters(queue: &str, dead_letters: usize) -> Span {
    debug_span!(
        parent: None,
        "record_dead_letters",
        otel.name = format!("process {queue}"),
        otel.kind = "consumer",
        otel.status_code = Empty,
        messaging.system = "rabbitmq",
        messaging.operation.name = "process",
        messaging.operation.r#type = "process",
        messaging.destination.name = queue,
        messaging.batch.message_count = dead_letters,
        error.r#type = Empty,
    )
}

/// `error`: one of few words, never a text with data in it.
pub fn failed(span: &Span, error: impl fmt::Display) {
    if !span.is_disabled() {
        span.record("error.type", tracing::field::display(error));
        span.record("otel.status_code", "ERROR");
    }
}

/// `{exchange}:{routing key}`, without what is empty.
struct Destination<'a>(&'a str, &'a str);

impl fmt::Display for Destination<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => f.write_str(self.1),
            exchange => write!(f, "{exchange}:{}", self.1),
        }
    }
}

//! A collector of traces: takes OTLP as http/protobuf on a port of its own and remembers what it was sent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1 as otlp;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What the OTLP specification prescribes for binary bodies.
const PROTOBUF: &str = "application/x-protobuf";

/// Serves until it is dropped.
pub struct Collector {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    server: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    spans: Vec<TracedSpan>,
    bodies: Vec<Bytes>,
    refused: Vec<String>,
}

/// A span as it came, with ids as hexadecimal text.
#[derive(Clone, Debug)]
pub struct TracedSpan {
    /// `service.name` of its process.
    pub service: String,
    pub resource: BTreeMap<String, String>,
    pub name: String,
    pub trace: String,
    pub id: String,
    /// Empty for the first of its trace.
    pub parent: String,
    /// Trace and span of each.
    pub links: Vec<(String, String)>,
    pub kind: otlp::span::SpanKind,
    /// Values as text.
    pub attributes: BTreeMap<String, String>,
    pub failed: bool,
}

impl TracedSpan {
    /// Empty where there is none.
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    /// Whether it goes on from that one, as its child or by a link.
    pub fn follows(&self, other: &Self) -> bool {
        self.is_child_of(other) || self.links_to(other)
    }

    pub fn is_child_of(&self, other: &Self) -> bool {
        self.trace == other.trace && self.parent == other.id
    }

    pub fn links_to(&self, other: &Self) -> bool {
        let linked = |(trace, id): &(String, String)| *trace == other.trace && *id == other.id;
        self.links.iter().any(linked)
    }
}

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener");
        let seen = Arc::<Mutex<Seen>>::default();
        let routes = Router::new()
            .route("/v1/traces", post(take))
            .with_state(Arc::clone(&seen));
        let server = tokio::spawn(async move {
            axum::serve(listener, routes)
                .await
                .expect("serving goes on");
        });
        Self {
            address,
            seen,
            server,
        }
    }

    /// For `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All spans so far, in the order in which they came.
    pub fn spans(&self) -> Vec<TracedSpan> {
        self.seen().spans.clone()
    }

    /// Whether any body so far has these bytes in it, before it was decoded.
    pub fn has_bytes(&self, needle: &str) -> bool {
        let needle = needle.as_bytes();
        let holds = |body: &Bytes| body.windows(needle.len()).any(|part| part == needle);
        self.seen().bodies.iter().any(holds)
    }

    /// Why requests were refused: another content type, or bytes that are no spans.
    pub fn refused(&self) -> Vec<String> {
        self.seen().refused.clone()
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn take(State(seen): State<Arc<Mutex<Seen>>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let content_type = headers.get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    if content_type != Some(PROTOBUF) {
        seen.refused.push(format!(
            "content type {content_type:?} instead of {PROTOBUF}"
        ));
        return StatusCode::UNSUPPORTED_MEDIA_TYPE;
    }
    match ExportTraceServiceRequest::decode(body.clone()) {
        Ok(request) => seen.spans.extend(spans(request)),
        Err(error) => {
            seen.refused.push(error.to_string());
            return StatusCode::BAD_REQUEST;
        }
    }
    seen.bodies.push(body);
    StatusCode::OK
}

fn spans(request: ExportTraceServiceRequest) -> Vec<TracedSpan> {
    let mut spans = Vec::new();
    for of_resource in request.resource_spans {
        let resource = of_resource.resource.map(|resource| resource.attributes);
        let resource = texts(resource.unwrap_or_default());
        for of_scope in of_resource.scope_spans {
            spans.extend(of_scope.spans.into_iter().map(|span| read(span, &resource)));
        }
    }
    spans
}

fn read(span: otlp::Span, resource: &BTreeMap<String, String>) -> TracedSpan {
    let failed = span
        .status
        .as_ref()
        .is_some_and(|status| status.code() == otlp::status::StatusCode::Error);
    TracedSpan {
        service: resource.get("service.name").cloned().unwrap_or_default(),
        resource: resource.clone(),
        kind: span.kind(),
        name: span.name,
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        links: span
            .links
            .into_iter()
            .map(|link| (hex(&link.trace_id), hex(&link.span_id)))
            .collect(),
        attributes: texts(span.attributes),
        failed,
    }
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    attributes
        .into_iter()
        .map(|attribute| (attribute.key, text(attribute.value)))
        .collect()
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::BoolValue(yes)) => yes.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

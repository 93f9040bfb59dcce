//! How work that leaves a process and comes back to another one stays one story: W3C trace context in headers, and the
//! spans that carry it ([`spans`]). Who records them is not known here: the process says it once ([`install`]), and a
//! process that never does pays nothing.

pub mod spans;

use std::sync::OnceLock;

use event::headers::{TRACEPARENT, TRACESTATE};
use tracing::Span;

/// W3C trace context of a span, as it is written into a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    pub traceparent: String,
    pub tracestate: Option<String>,
}

impl TraceContext {
    /// The first 32 hexadecimal digits: the same in all spans of a trace.
    fn trace_id(traceparent: &str) -> Option<&str> {
        traceparent.split('-').nth(1)
    }

    /// Whether this text names a span of the same trace.
    pub fn is_of_the_trace_of(&self, traceparent: &str) -> bool {
        Self::trace_id(&self.traceparent) == Self::trace_id(traceparent)
    }
}

/// What a span is to the one whose context it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// Its child, in the same trace; it names it as a link too, as the messaging conventions want.
    Child,
    /// In a trace of its own, or of its own parent, with a link to it: where the other one is a stranger's, or so long ago
    /// that one trace would last hours.
    Link,
}

/// Whoever records spans.
pub trait Traces: Send + Sync + 'static {
    /// Joins a span that nothing has entered yet. What can't be read is ignored.
    fn join(&self, span: &Span, traceparent: &str, tracestate: Option<&str>, relation: Relation);
    /// What a message must carry to go on from this span. `None` for a span that is not recorded by anybody.
    fn context_of(&self, span: &Span) -> Option<TraceContext>;
}

static TRACES: OnceLock<Box<dyn Traces>> = OnceLock::new();

/// Once per process, before its first span; a second call changes nothing.
pub fn install(traces: Box<dyn Traces>) {
    let _ = TRACES.set(traces);
}

/// As [`Traces::join`]; without a recorder, or for a disabled span, nothing.
pub fn join(span: &Span, traceparent: &str, tracestate: Option<&str>, relation: Relation) {
    if !span.is_disabled()
        && let Some(traces) = TRACES.get()
    {
        traces.join(span, traceparent, tracestate, relation);
    }
}

/// As [`join`], with the context in a row's or a message's headers, if there is one.
pub fn join_headers(span: &Span, headers: &serde_json::Value, relation: Relation) {
    let text = |name: &str| headers.get(name).and_then(serde_json::Value::as_str);
    if !span.is_disabled()
        && let Some(traceparent) = text(TRACEPARENT)
    {
        join(span, traceparent, text(TRACESTATE), relation);
    }
}

/// As [`Traces::context_of`]; without a recorder `None`.
pub fn context_of(span: &Span) -> Option<TraceContext> {
    if span.is_disabled() {
        return None;
    }
    TRACES.get()?.context_of(span)
}

/// Writes the context of this span over the one in a row's headers, so that whoever goes on from the row goes on from it.
/// Without a recorder the headers stay as they are.
pub fn write_headers(span: &Span, headers: &mut serde_json::Value) {
    let (Some(context), Some(headers)) = (context_of(span), headers.as_object_mut()) else {
        return;
    };
    headers.insert(TRACEPARENT.to_owned(), context.traceparent.into());
    match context.tracestate {
        Some(state) => headers.insert(TRACESTATE.to_owned(), state.into()),
        None => headers.remove(TRACESTATE),
    };
}

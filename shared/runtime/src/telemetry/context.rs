//! W3C trace context in and out of spans. Who carries it, in which headers, is the callers' business.

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// The two headers of a span.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub traceparent: String,
    /// Only where other vendors wrote something into it.
    pub tracestate: Option<String>,
}

/// Gives a span that nothing has entered yet a link to the context in these headers, and makes it its child if
/// `as_child`. What cannot be read is ignored.
pub fn join(span: &Span, traceparent: &str, tracestate: Option<&str>, as_child: bool) {
    let carrier = Carrier {
        traceparent,
        tracestate,
    };
    let remote = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    let context = remote.span().span_context().clone();
    if !context.is_valid() {
        return;
    }
    if as_child {
        // Refused only where it has begun, and then it has its parent already.
        let _ = span.set_parent(remote);
    }
    span.add_link(context);
}

/// The headers that lead on from a span. `None` where none is recorded; one that is not sampled leads on too.
pub fn written(span: &Span) -> Option<Written> {
    let mut headers = Headers::default();
    TraceContextPropagator::new().inject_context(&span.context(), &mut headers);
    let Headers(written) = headers;
    (!written.traceparent.is_empty()).then_some(written)
}

struct Carrier<'a> {
    traceparent: &'a str,
    tracestate: Option<&'a str>,
}

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            TRACEPARENT => Some(self.traceparent),
            TRACESTATE => self.tracestate,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT, TRACESTATE]
    }
}

#[derive(Default)]
struct Headers(Written);

impl Injector for Headers {
    fn set(&mut self, key: &str, value: String) {
        match key {
            TRACEPARENT => self.0.traceparent = value,
            TRACESTATE => self.0.tracestate = Some(value).filter(|state| !state.is_empty()),
            _ => {}
        }
    }
}

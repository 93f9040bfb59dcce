//! Traces of a role: joins the words of `worker::trace` with the recorder of `runtime::telemetry`, which do not know each
//! other. Commands record nothing; what they publish begins its trace where it is handled.

use runtime::telemetry::{self, Service};
use tracing::Span;
use worker::trace::{self, Relation, TraceContext, spans};

use crate::context::Context;
use crate::exit::{Done, Exit, Failed};

/// Log lines, and traces if the environment names a collector. `name`: as at the broker, without `kurir-`.
pub(crate) fn start(context: &Context, name: &str) -> Done<telemetry::Traces> {
    let name = format!("kurir-{name}");
    let service = Service {
        name: &name,
        version: env!("CARGO_PKG_VERSION"),
        spans: spans::TARGET,
    };
    let traces = telemetry::start_with_traces(&context.settings().log, service)
        .map_err(|error| Failed::new(Exit::Configuration, error.to_string()))?;
    if traces.are_exported() {
        trace::install(Box::new(Recorder));
    }
    Ok(traces)
}

struct Recorder;

impl trace::Traces for Recorder {
    fn join(&self, span: &Span, traceparent: &str, tracestate: Option<&str>, relation: Relation) {
        telemetry::join(span, traceparent, tracestate, relation == Relation::Child);
    }

    fn context_of(&self, span: &Span) -> Option<TraceContext> {
        let written = telemetry::written(span)?;
        Some(TraceContext {
            traceparent: written.traceparent,
            tracestate: written.tracestate,
        })
    }
}

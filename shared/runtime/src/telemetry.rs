//! What a process tells of itself while it runs: log lines to standard error (`lines.rs`, `stderr.rs`) and, where a
//! collector is named in the environment, traces to it (`settings.rs`). Standard output belongs to what a command was
//! asked for.
//!
//! Without a collector nothing of the second half exists: no layer, no thread, no allocation.

mod client;
mod context;
mod counts;
mod export;
mod lines;
mod sampling;
mod settings;
mod stderr;
mod variables;

use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry};

pub use context::{Written, join, written};
pub use counts::log_lines;
pub use export::export_failures;
pub use stderr::flush;

use crate::settings::Log;

/// Longest flush of the last spans at the end of a process; what a slow collector has not taken by then is lost.
pub const FLUSH_LIMIT: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("log.filter `{filter}` cannot be read: {source}")]
    Filter {
        filter: String,
        source: tracing_subscriber::filter::ParseError,
    },
    #[error("log lines are already being written")]
    Twice,
    /// A variable of the OpenTelemetry environment that this build cannot follow.
    #[error("{variable} is `{value}`: {expected}")]
    Variable {
        variable: &'static str,
        value: String,
        expected: &'static str,
    },
    /// The address of the collector, most likely. Never with its text: it may hold a password.
    #[error("the exporter of traces could not be built: see OTEL_EXPORTER_OTLP_ENDPOINT")]
    Exporter,
}

/// Who tells it.
#[derive(Clone, Copy, Debug)]
pub struct Service<'a> {
    /// `service.name` unless `OTEL_SERVICE_NAME` says otherwise: `kurir-<role>`.
    pub name: &'a str,
    pub version: &'a str,
    /// Spans of this tracing target are exported, and no others: what libraries trace stays here.
    pub spans: &'static str,
}

/// Starts writing log lines. Once per process; whoever ends the process calls [`flush`] last.
///
/// # Errors
/// `Filter` where `log.filter` is no filter, `Twice` on a second call.
pub fn start(log: &Log) -> Result<(), Error> {
    Registry::default()
        .with(lines::layer(log, false)?)
        .try_init()
        .map_err(|_set_before| Error::Twice)
}

/// As [`start`]; also exports spans if the environment names a collector. Lines carry `trace_id` and `span_id` then.
///
/// # Errors
/// As [`start`]; `Variable` and `Exporter` where the environment asks for what this build cannot do.
pub fn start_with_traces(log: &Log, service: Service<'_>) -> Result<Traces, Error> {
    let Some(provider) = settings::provider(service)? else {
        start(log)?;
        return Ok(Traces(None));
    };
    let target = service.spans;
    let spans = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(env!("CARGO_PKG_NAME")))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        // Log lines are not repeated in spans.
        .with_filter(
            filter_fn(move |metadata| metadata.is_span() && metadata.target() == target)
                .with_max_level_hint(LevelFilter::DEBUG),
        );
    Registry::default()
        .with(spans)
        .with(lines::layer(log, true)?)
        .try_init()
        .map_err(|_set_before| Error::Twice)?;
    Ok(Traces(Some(provider)))
}

/// The export of this process's spans.
#[derive(Debug)]
pub struct Traces(Option<SdkTracerProvider>);

impl Traces {
    /// Whether a collector was named.
    pub fn are_exported(&self) -> bool {
        self.0.is_some()
    }

    /// Sends what is left, for [`FLUSH_LIMIT`] at most. Last, when the work has ended.
    pub async fn end(self) {
        let Some(provider) = self.0 else { return };
        // It blocks, and is bounded itself: the runtime waits for it when it ends.
        let ended =
            tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_LIMIT)).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::warn!(limit = ?FLUSH_LIMIT, "the last traces could not be delivered in time");
        }
    }
}

fn filter(log: &Log) -> Result<EnvFilter, Error> {
    EnvFilter::try_new(&log.filter).map_err(|source| Error::Filter {
        filter: log.filter.clone(),
        source,
    })
}

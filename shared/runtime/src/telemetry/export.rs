//! The way out for spans. A collector that is away costs a counter and a line a minute, never the work: spans wait in a
//! bounded queue, a thread of their own carries them, and what does not fit is dropped.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

/// Between two lines about a collector that takes nothing.
const TELL_EVERY: Duration = Duration::from_secs(60);

static FAILURES: AtomicU64 = AtomicU64::new(0);

/// Batches of spans that the collector did not take since the start of the process, after their repeats; their spans are
/// lost.
pub fn export_failures() -> u64 {
    FAILURES.load(Ordering::Relaxed)
}

/// Counts what fails.
#[derive(Debug)]
pub(super) struct Counted<E> {
    inner: E,
    told: Mutex<Option<Instant>>,
}

impl<E> Counted<E> {
    pub(super) fn new(inner: E) -> Self {
        Self {
            inner,
            told: Mutex::new(None),
        }
    }

    /// Whether a line is due.
    fn tells(&self) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let due = told.is_none_or(|last| last.elapsed() >= TELL_EVERY);
        if due {
            *told = Some(Instant::now());
        }
        due
    }
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.inner.export(batch).await;
        if let Err(error) = &result {
            let failures = FAILURES.fetch_add(1, Ordering::Relaxed) + 1;
            if self.tells() {
                tracing::warn!(spans, failures, %error, "the collector took no traces; the work goes on without them");
            }
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.inner.shutdown()
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

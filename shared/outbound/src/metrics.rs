//! Calls to partners as Prometheus metrics, by system and the partner's own name of the operation.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts};

use crate::call::Reply;
use crate::error::CallError;
use crate::status::StatusClass;

/// Upper bounds in seconds; partners have been seen to answer after 48 s.
const CALL_BUCKETS: [f64; 12] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0,
];
const WAIT_BUCKETS: [f64; 8] = [0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// Clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    wait_seconds: HistogramVec,
}

fn made<T>(metric: prometheus::Result<T>) -> T {
    metric.expect("a metric's name, labels and help are well formed")
}

fn histogram(name: &str, help: &str, buckets: &[f64], labels: &[&str]) -> HistogramVec {
    let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    made(HistogramVec::new(opts, labels))
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: made(IntCounterVec::new(
                Opts::new(
                    "kurir_external_requests_total",
                    "Calls to partners, by what came of them: ok, client_error (4xx), server_error (5xx), limited (our own limits had no room; not sent), not_sent (never left, or refused by us), unknown (left, no usable answer: it may have happened). A partner that reports errors inside a 200 counts as ok here.",
                ),
                &["system", "operation", "outcome"],
            )),
            seconds: histogram(
                "kurir_external_request_duration_seconds",
                "How long partners took to answer, without the wait for our own limits.",
                &CALL_BUCKETS,
                &["system", "operation"],
            ),
            wait_seconds: histogram(
                "kurir_external_permit_wait_seconds",
                "How long a call waited for our own limits (calls in flight, budget) before it left or was given up.",
                &WAIT_BUCKETS,
                &["system"],
            ),
        }
    }
}

impl Metrics {
    pub(crate) fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![
            Box::new(self.requests.clone()),
            Box::new(self.seconds.clone()),
            Box::new(self.wait_seconds.clone()),
        ]
    }

    /// All of an operation's series, so that its first failure is seen as an increase.
    pub(crate) fn expect(&self, system: &str, operation: &str) {
        for outcome in [
            "ok",
            "client_error",
            "server_error",
            "limited",
            "not_sent",
            "unknown",
        ] {
            self.requests
                .with_label_values(&[system, operation, outcome]);
        }
        self.seconds.with_label_values(&[system, operation]);
        self.wait_seconds.with_label_values(&[system]);
    }

    pub(crate) fn waited(&self, system: &str, waited: Duration) {
        self.wait_seconds
            .with_label_values(&[system])
            .observe(waited.as_secs_f64());
    }

    pub(crate) fn called(
        &self,
        system: &str,
        operation: &str,
        outcome: &Result<Reply, CallError>,
        took: Duration,
    ) {
        let word = match outcome {
            Ok(reply) => match reply.class() {
                StatusClass::Success | StatusClass::Redirect => "ok",
                StatusClass::Server => "server_error",
                _ => "client_error",
            },
            Err(CallError::Limited { .. }) => "limited",
            Err(CallError::NotSent { .. }) => "not_sent",
            Err(CallError::Unknown { .. }) => "unknown",
        };
        self.requests
            .with_label_values(&[system, operation, word])
            .inc();
        if let Ok(_) | Err(CallError::Unknown { .. }) = outcome {
            self.seconds
                .with_label_values(&[system, operation])
                .observe(took.as_secs_f64());
        }
    }
}

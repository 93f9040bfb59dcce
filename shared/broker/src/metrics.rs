//! What the process's two connections and its publishing do, as Prometheus metrics.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts};

use crate::error::PublishError;

/// Upper bounds in seconds; a confirm is waited for ten.
const CONFIRM_BUCKETS: [f64; 11] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0,
];
/// `exchange`: the events exchange, or a queue by name (copies for retry tiers and dead letters, released and replayed events).
const EXCHANGES: [&str; 2] = ["events", "queue"];
const OUTCOMES: [&str; 5] = ["confirmed", "nacked", "returned", "unknown", "not_sent"];

/// Which of the two connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Consume,
    Publish,
}

impl Line {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Consume => "consume",
            Self::Publish => "publish",
        }
    }
}

/// Clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    up: IntGaugeVec,
    blocked: IntGaugeVec,
    connects: IntCounterVec,
    published: IntCounterVec,
    confirm_seconds: HistogramVec,
}

fn made<T>(metric: prometheus::Result<T>) -> T {
    metric.expect("a metric's name, labels and help are well formed")
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            up: made(IntGaugeVec::new(
                Opts::new(
                    "kurir_amqp_connection_up",
                    "1 while the connection to the broker is open, else 0.",
                ),
                &["line"],
            )),
            blocked: made(IntGaugeVec::new(
                Opts::new(
                    "kurir_amqp_blocked",
                    "1 while the broker takes no messages on this connection (memory or disk alarm), else 0.",
                ),
                &["line"],
            )),
            connects: made(IntCounterVec::new(
                Opts::new(
                    "kurir_amqp_connects_total",
                    "Connections opened: one more than those that were lost.",
                ),
                &["line"],
            )),
            published: made(IntCounterVec::new(
                Opts::new(
                    "kurir_publish_total",
                    "Messages published, by what became of them: confirmed, nacked (refused), returned (no queue takes it), unknown (no confirm in time; repeated by its owner), not_sent (no connection, or blocked).",
                ),
                &["exchange", "outcome"],
            )),
            confirm_seconds: made(HistogramVec::new(
                HistogramOpts {
                    common_opts: Opts::new(
                        "kurir_publish_confirm_duration_seconds",
                        "How long the broker took to confirm a message, waiting for a place in the window included.",
                    ),
                    buckets: CONFIRM_BUCKETS.to_vec(),
                },
                &["exchange"],
            )),
        };
        for line in [Line::Consume, Line::Publish] {
            metrics.up.with_label_values(&[line.as_str()]);
            metrics.blocked.with_label_values(&[line.as_str()]);
            metrics.connects.with_label_values(&[line.as_str()]);
        }
        for exchange in EXCHANGES {
            metrics.confirm_seconds.with_label_values(&[exchange]);
            for outcome in OUTCOMES {
                metrics.published.with_label_values(&[exchange, outcome]);
            }
        }
        metrics
    }
}

impl Metrics {
    pub(crate) fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![
            Box::new(self.up.clone()),
            Box::new(self.blocked.clone()),
            Box::new(self.connects.clone()),
            Box::new(self.published.clone()),
            Box::new(self.confirm_seconds.clone()),
        ]
    }

    pub(crate) fn connected(&self, line: Line) {
        self.connects.with_label_values(&[line.as_str()]).inc();
    }

    pub(crate) fn is(&self, line: Line, up: bool, blocked: bool) {
        self.up.with_label_values(&[line.as_str()]).set(up.into());
        self.blocked
            .with_label_values(&[line.as_str()])
            .set(blocked.into());
    }

    pub(crate) fn published(
        &self,
        exchange: &str,
        result: &Result<(), PublishError>,
        took: Duration,
    ) {
        let exchange = EXCHANGES[usize::from(exchange.is_empty())];
        let outcome = match result {
            Ok(()) => "confirmed",
            Err(PublishError::Nacked) => "nacked",
            Err(PublishError::Returned { .. }) => "returned",
            Err(PublishError::Unknown) => "unknown",
            Err(PublishError::Closed(_) | PublishError::Invalid(_)) => "not_sent",
        };
        self.published.with_label_values(&[exchange, outcome]).inc();
        if result.is_ok() {
            self.confirm_seconds
                .with_label_values(&[exchange])
                .observe(took.as_secs_f64());
        }
    }
}

//! What the gateway counts: requests, and events by type and by what became of them.

use event::{EventType, Publisher};
use inbound::HttpMetrics;
use prometheus::core::Collector;
use prometheus::{IntCounterVec, Opts};

use crate::outcome::Outcome;

/// `message_type` of what could not be read or is not in the catalogue.
const UNKNOWN: &str = "unknown";
/// The sender's mistake: no [`Outcome`], because it was never tried.
const REFUSED: &str = "refused";

/// Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) http: HttpMetrics,
    events: IntCounterVec,
}

impl Default for Metrics {
    fn default() -> Self {
        let http = HttpMetrics::default();
        http.expect("POST", crate::EVENTS);
        let events = IntCounterVec::new(
            Opts::new("kurir_events_received_total", "Events sent to the gateway, by what became of them: accepted (confirmed by the broker), refused (the sender's mistake, told with its place), not_published or unknown (the broker did not confirm; the sender repeats), unpublishable (a mistake of Kurir's; no repeat helps)."),
            &["message_type", "outcome"],
        )
        .expect("a metric's name, labels and help are well formed");
        let metrics = Self { http, events };
        for known in EventType::ALL
            .iter()
            .filter(|known| known.publisher() == Publisher::App)
        {
            for word in Outcome::ALL
                .map(Outcome::as_str)
                .into_iter()
                .chain([REFUSED])
            {
                metrics.events.with_label_values(&[known.as_str(), word]);
            }
        }
        metrics.events.with_label_values(&[UNKNOWN, REFUSED]);
        metrics
    }
}

impl Metrics {
    /// Everything, to be registered once per process.
    pub fn collectors(&self) -> Vec<Box<dyn Collector>> {
        let mut all = self.http.collectors();
        all.push(Box::new(self.events.clone()));
        all
    }

    pub(crate) fn published(&self, known: EventType, outcome: Outcome) {
        self.events
            .with_label_values(&[known.as_str(), outcome.as_str()])
            .inc();
    }

    /// `None`: what kind of event it was to be could not be read.
    pub(crate) fn refused(&self, known: Option<EventType>) {
        let kind = known.map_or(UNKNOWN, EventType::as_str);
        self.events.with_label_values(&[kind, REFUSED]).inc();
    }
}

//! What a keeper has done, and what waits in the database, as Prometheus metrics.
//!
//! Every replica counts the database by itself and shows the same numbers: take the greatest, never the sum.

mod gauges;
mod partners;
mod waiting;

use chrono::{DateTime, Utc};
use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, Opts};
use store::backlog_statistics::BacklogStatistics;

use gauges::{counter, made};
use partners::Partners;
use waiting::Waiting;

/// Of all metrics; counters are never reset.
#[derive(Debug)]
pub struct Metrics {
    /// Outbox rows that were confirmed by the broker and deleted.
    pub relayed: IntCounter,
    /// Publishes that were refused or unconfirmed; their rows come back.
    pub relay_failures: IntCounter,
    recorded: IntCounterVec,
    pub overtaken: IntCounter,
    /// Requests written for workers.
    pub requested: IntCounter,
    /// Held events that went back to their workers because nothing holds them any more.
    pub released: IntCounter,
    /// Dead letters handed to the outbox by replays.
    pub replayed: IntCounter,
    /// Rows removed because they had served their time.
    pub pruned: IntCounter,
    /// Suspensions that people were told of.
    pub suspensions: IntCounter,
    waiting: Waiting,
    partners: Partners,
}

impl Default for Metrics {
    fn default() -> Self {
        let recorded = made(IntCounterVec::new(
            Opts::new(
                "kurir_dead_letters_committed_total",
                "Dead copies taken from the broker into the database, repeats included: whole, or bare (without their link, because that could not be stored).",
            ),
            &["kind"],
        ));
        for kind in ["whole", "bare"] {
            recorded.with_label_values(&[kind]);
        }
        Self {
            relayed: counter(
                "kurir_outbox_dispatched_total",
                "Messages of the outbox that the broker has confirmed.",
            ),
            relay_failures: counter(
                "kurir_outbox_failures_total",
                "Messages of the outbox that the broker refused or did not confirm; they are sent again.",
            ),
            recorded,
            overtaken: counter(
                "kurir_dead_letters_overtaken_total",
                "Dead letters whose record had got this or newer content by then: nobody needs to look at them.",
            ),
            requested: counter(
                "kurir_requests_written_total",
                "Requests to workers to look at a link again, because a call's outcome was open or a re-check was due.",
            ),
            released: counter(
                "kurir_held_released_total",
                "Held events that went back to their workers because their cause had ended.",
            ),
            replayed: counter(
                "kurir_dead_letters_replayed_total",
                "Dead letters sent to their workers once more by replays.",
            ),
            pruned: counter(
                "kurir_rows_pruned_total",
                "Rows removed because they had served their time.",
            ),
            suspensions: counter(
                "kurir_connection_suspensions_total",
                "Connections suspended because the partner refused their credentials, told to people once.",
            ),
            waiting: Waiting::default(),
            partners: Partners::default(),
        }
    }
}

impl Metrics {
    pub(crate) fn collectors(&self) -> Vec<Box<dyn Collector>> {
        let mut all: Vec<Box<dyn Collector>> = Vec::new();
        for metric in [
            &self.relayed,
            &self.relay_failures,
            &self.overtaken,
            &self.requested,
            &self.released,
            &self.replayed,
            &self.pruned,
            &self.suspensions,
        ] {
            all.push(Box::new(metric.clone()));
        }
        all.push(Box::new(self.recorded.clone()));
        all.extend(self.waiting.collectors());
        all.extend(self.partners.collectors());
        all
    }

    /// Dead copies committed, repeats included.
    pub fn recorded_in_all(&self) -> u64 {
        let of = |kind: &str| self.recorded.with_label_values(&[kind]).get();
        of("whole") + of("bare")
    }

    pub(crate) fn recorded(&self, whole: usize, bare: usize) {
        for (kind, copies) in [("whole", whole), ("bare", bare)] {
            self.recorded
                .with_label_values(&[kind])
                .inc_by(copies as u64);
        }
    }

    /// Series for these workers, by name and partner system, exist from the start.
    pub(crate) fn expect_workers<'a>(&self, workers: impl IntoIterator<Item = (&'a str, &'a str)>) {
        for (worker, system) in workers {
            self.waiting.expect(worker);
            self.partners.expect(system);
        }
    }

    /// Shows backlog statistics; what it does not name any more is 0.
    pub(crate) fn show(&self, backlog_statistics: &BacklogStatistics, at: DateTime<Utc>) {
        self.waiting.show(backlog_statistics, at);
        self.partners.show(backlog_statistics);
    }
}

//! What waits in the database: the outbox, held events, dead letters and replays.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use prometheus::core::Collector;
use prometheus::{IntGauge, IntGaugeVec};
use store::backlog_statistics::BacklogStatistics;
use worker::{DeadClass, HoldCause};

use super::gauges::{gauge, gauges, show};

#[derive(Debug)]
pub(super) struct Waiting {
    outbox: IntGauge,
    outbox_oldest: IntGauge,
    held: IntGaugeVec,
    held_oldest: IntGaugeVec,
    held_without_cause: IntGauge,
    dead: IntGaugeVec,
    dead_oldest: IntGaugeVec,
    replays: IntGaugeVec,
    counted_at: IntGauge,
}

impl Default for Waiting {
    fn default() -> Self {
        let waiting = Self {
            outbox: gauge(
                "kurir_outbox_pending",
                "Messages that wait in the outbox, also those whose turn is later.",
            ),
            outbox_oldest: gauge(
                "kurir_outbox_oldest_timestamp_seconds",
                "When the oldest message of the outbox whose turn has come was written, Unix time; 0: there is none.",
            ),
            held: gauges(
                "kurir_held_events",
                "Events that wait in the database for the end of a cause.",
                &["worker", "cause"],
            ),
            held_oldest: gauges(
                "kurir_held_oldest_timestamp_seconds",
                "Since when the oldest of them waits, Unix time; 0: there is none.",
                &["worker", "cause"],
            ),
            held_without_cause: gauge(
                "kurir_held_without_cause",
                "Held events that nothing holds any more (up to 1000 of each cause are looked at). Above 0 for minutes: no keeper releases.",
            ),
            dead: gauges(
                "kurir_dead_letters",
                "Dead letters that are open (a person must look) or replaying.",
                &["worker", "class", "state"],
            ),
            dead_oldest: gauges(
                "kurir_dead_letters_oldest_timestamp_seconds",
                "When the oldest open dead letter died, Unix time; 0: there is none.",
                &["worker"],
            ),
            replays: gauges(
                "kurir_replays",
                "Replays of dead letters that have not ended: running, paused, or stopped (by itself, too many failed).",
                &["state"],
            ),
            counted_at: gauge(
                "kurir_backlog_statistics_timestamp_seconds",
                "When the numbers from the database were last counted, Unix time; 0: not yet.",
            ),
        };
        for state in ["running", "paused", "stopped"] {
            waiting.replays.with_label_values(&[state]);
        }
        waiting
    }
}

impl Waiting {
    /// Series for this worker exist from the start.
    pub(super) fn expect(&self, worker: &str) {
        for cause in HoldCause::ALL {
            self.held.with_label_values(&[worker, cause.as_str()]);
            self.held_oldest
                .with_label_values(&[worker, cause.as_str()]);
        }
        for class in DeadClass::ALL {
            self.dead
                .with_label_values(&[worker, class.as_str(), "open"]);
        }
        self.dead_oldest.with_label_values(&[worker]);
    }

    pub(super) fn collectors(&self) -> Vec<Box<dyn Collector>> {
        let mut all: Vec<Box<dyn Collector>> = Vec::new();
        for metric in [
            &self.outbox,
            &self.outbox_oldest,
            &self.held_without_cause,
            &self.counted_at,
        ] {
            all.push(Box::new(metric.clone()));
        }
        for metric in [
            &self.held,
            &self.held_oldest,
            &self.dead,
            &self.dead_oldest,
            &self.replays,
        ] {
            all.push(Box::new(metric.clone()));
        }
        all
    }

    pub(super) fn show(&self, backlog_statistics: &BacklogStatistics, at: DateTime<Utc>) {
        self.outbox.set(backlog_statistics.outbox.rows);
        self.outbox_oldest.set(
            backlog_statistics
                .outbox
                .oldest
                .map_or(0, |at| at.timestamp()),
        );
        self.held_without_cause
            .set(backlog_statistics.held_without_cause);
        let held = || backlog_statistics.held.iter();
        show(
            &self.held,
            held().map(|row| ([row.worker.as_str(), &row.cause], row.events)),
        );
        show(
            &self.held_oldest,
            held().map(|row| ([row.worker.as_str(), &row.cause], row.oldest.timestamp())),
        );
        let dead = || backlog_statistics.dead_letters.iter();
        show(
            &self.dead,
            dead().map(|row| {
                (
                    [row.worker.as_str(), &row.class, &row.state],
                    row.dead_letters,
                )
            }),
        );
        let mut oldest: HashMap<&str, i64> = HashMap::new();
        for row in dead().filter(|row| row.state == "open") {
            let since = oldest.entry(&row.worker).or_insert(i64::MAX);
            *since = (*since).min(row.oldest.timestamp());
        }
        show(
            &self.dead_oldest,
            oldest.iter().map(|(worker, since)| ([*worker], *since)),
        );
        show(
            &self.replays,
            backlog_statistics
                .replays
                .iter()
                .map(|row| ([row.what.as_str()], row.count)),
        );
        self.counted_at.set(at.timestamp());
    }
}

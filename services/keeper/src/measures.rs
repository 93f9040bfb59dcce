//! What a keeper has done, and what waits in the database, as Prometheus metrics.
//!
//! Every replica counts the database by itself and shows the same numbers: take the greatest, never the sum.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use prometheus::core::Collector;
use prometheus::{GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};
use store::census::{Census, SystemCount};
use worker::{DeadClass, HoldCause};

/// Of all metrics; counters are never reset.
#[derive(Debug)]
pub struct Measures {
    /// Outbox rows that were confirmed by the broker and deleted.
    pub relayed: IntCounter,
    /// Publishes that were refused or unconfirmed; their rows come back.
    pub relay_failures: IntCounter,
    buried: IntCounterVec,
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
    outbox: IntGauge,
    outbox_oldest: IntGauge,
    held: IntGaugeVec,
    held_oldest: IntGaugeVec,
    held_without_cause: IntGauge,
    dead: IntGaugeVec,
    dead_oldest: IntGaugeVec,
    connections: IntGaugeVec,
    circuits: IntGaugeVec,
    links_conflict: IntGaugeVec,
    effects_open: IntGaugeVec,
    budget_accounts: IntGaugeVec,
    budget_used: GaugeVec,
    replays: IntGaugeVec,
    counted_at: IntGauge,
}

fn made<T>(metric: prometheus::Result<T>) -> T {
    metric.expect("a metric's name, labels and help are well formed")
}

fn counter(name: &str, help: &str) -> IntCounter {
    made(IntCounter::new(name, help))
}

fn gauge(name: &str, help: &str) -> IntGauge {
    made(IntGauge::new(name, help))
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    made(IntGaugeVec::new(Opts::new(name, help), labels))
}

impl Default for Measures {
    fn default() -> Self {
        let buried = made(IntCounterVec::new(
            Opts::new(
                "kurir_dead_letters_committed_total",
                "Dead copies taken from the broker into the database, repeats included: whole, or bare (without their link, because that could not be stored).",
            ),
            &["kind"],
        ));
        for kind in ["whole", "bare"] {
            buried.with_label_values(&[kind]);
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
            buried,
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
            connections: gauges(
                "kurir_connections",
                "Connections of tenants to partners, by state.",
                &["system", "state"],
            ),
            circuits: gauges(
                "kurir_circuits_open",
                "Connections whose circuit for an operation is not closed: its calls kept failing.",
                &["system", "operation"],
            ),
            links_conflict: gauges(
                "kurir_links_conflict",
                "Records that a person must settle: two records with one key, or the like.",
                &["system"],
            ),
            effects_open: gauges(
                "kurir_effects_open",
                "Calls that write at a partner whose outcome is not known yet.",
                &["system", "operation"],
            ),
            budget_accounts: gauges(
                "kurir_budget_accounts",
                "Accounts at partners: ok, exhausted (nothing may be asked at this moment) or cooling (the partner has asked for silence).",
                &["system", "state"],
            ),
            budget_used: made(GaugeVec::new(
                Opts::new(
                    "kurir_budget_used_ratio",
                    "How much of its budget the most used account has used: 0 nothing, 1 nothing may be asked at this moment.",
                ),
                &["system"],
            )),
            replays: gauges(
                "kurir_replays",
                "Replays of dead letters that have not ended: running, paused, or stopped (by itself, too many failed).",
                &["state"],
            ),
            counted_at: gauge(
                "kurir_census_timestamp_seconds",
                "When the numbers from the database were last counted, Unix time; 0: not yet.",
            ),
        }
    }
}

impl Measures {
    /// Series for these workers exist from the start.
    pub(crate) fn expect_workers<'a>(&self, workers: impl IntoIterator<Item = (&'a str, &'a str)>) {
        for (worker, system) in workers {
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
            for state in ["ok", "suspended", "disabled"] {
                self.connections.with_label_values(&[system, state]);
            }
            for state in ["ok", "exhausted", "cooling"] {
                self.budget_accounts.with_label_values(&[system, state]);
            }
            self.budget_used.with_label_values(&[system]);
            self.links_conflict.with_label_values(&[system]);
        }
        for state in ["running", "paused", "stopped"] {
            self.replays.with_label_values(&[state]);
        }
    }

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
            &self.connections,
            &self.circuits,
            &self.links_conflict,
            &self.effects_open,
            &self.budget_accounts,
            &self.replays,
        ] {
            all.push(Box::new(metric.clone()));
        }
        all.push(Box::new(self.buried.clone()));
        all.push(Box::new(self.budget_used.clone()));
        all
    }

    /// Dead copies committed, repeats included.
    pub fn buried_in_all(&self) -> u64 {
        let of = |kind: &str| self.buried.with_label_values(&[kind]).get();
        of("whole") + of("bare")
    }

    pub(crate) fn buried(&self, whole: usize, bare: usize) {
        for (kind, copies) in [("whole", whole), ("bare", bare)] {
            self.buried.with_label_values(&[kind]).inc_by(copies as u64);
        }
    }

    /// Shows a census; what it does not name any more is 0.
    pub(crate) fn show(&self, census: &Census, at: DateTime<Utc>) {
        self.outbox.set(census.outbox.rows);
        self.outbox_oldest
            .set(census.outbox.oldest.map_or(0, |at| at.timestamp()));
        self.held_without_cause.set(census.held_without_cause);
        let held = || census.held.iter();
        show(
            &self.held,
            held().map(|row| ([row.worker.as_str(), &row.cause], row.events)),
        );
        show(
            &self.held_oldest,
            held().map(|row| ([row.worker.as_str(), &row.cause], row.oldest.timestamp())),
        );
        let dead = || census.dead_letters.iter();
        show(
            &self.dead,
            dead().map(|row| ([row.worker.as_str(), &row.class, &row.state], row.letters)),
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
        fn pairs(rows: &[SystemCount]) -> impl Iterator<Item = ([&str; 2], i64)> {
            rows.iter()
                .map(|row| ([row.system.as_str(), row.what.as_str()], row.count))
        }
        show(&self.connections, pairs(&census.connections));
        show(&self.circuits, pairs(&census.circuits));
        show(&self.effects_open, pairs(&census.effects));
        show(
            &self.links_conflict,
            census
                .links
                .iter()
                .map(|row| ([row.system.as_str()], row.count)),
        );
        show(
            &self.replays,
            census
                .replays
                .iter()
                .map(|row| ([row.what.as_str()], row.count)),
        );
        let accounts = census.budgets.iter().flat_map(|row| {
            let system = row.system.as_str();
            [
                ([system, "ok"], row.ok),
                ([system, "exhausted"], row.exhausted),
                ([system, "cooling"], row.cooling),
            ]
        });
        show(&self.budget_accounts, accounts);
        for row in &census.budgets {
            self.budget_used
                .with_label_values(&[&row.system])
                .set(row.most_used);
        }
        self.counted_at.set(at.timestamp());
    }
}

/// Sets what is named and puts every other known series to 0, without ever taking one away: a scrape in between sees
/// no gap.
fn show<'a, const N: usize>(gauges: &IntGaugeVec, rows: impl Iterator<Item = ([&'a str; N], i64)>) {
    let rows: HashMap<Vec<&str>, i64> = rows
        .map(|(labels, value)| (labels.to_vec(), value))
        .collect();
    for family in gauges.collect() {
        for metric in family.get_metric() {
            let known = values(&gauges.desc()[0].variable_labels, metric);
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            if !rows.contains_key(&known) {
                gauges.with_label_values(&known).set(0);
            }
        }
    }
    for (labels, value) in rows {
        gauges.with_label_values(&labels).set(value);
    }
}

/// In the order in which the labels were declared: what is collected is sorted by name.
fn values(order: &[String], metric: &prometheus::proto::Metric) -> Vec<String> {
    let of: HashMap<&str, &str> = metric
        .get_label()
        .iter()
        .map(|pair| (pair.name(), pair.value()))
        .collect();
    order
        .iter()
        .map(|name| {
            of.get(name.as_str())
                .copied()
                .unwrap_or_default()
                .to_owned()
        })
        .collect()
}

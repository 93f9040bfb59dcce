//! How metrics are made, and gauges set from a whole count.

use std::collections::HashMap;

use prometheus::core::Collector as _;
use prometheus::{IntCounter, IntGauge, IntGaugeVec, Opts};

pub(super) fn made<T>(metric: prometheus::Result<T>) -> T {
    metric.expect("a metric's name, labels and help are well formed")
}

pub(super) fn counter(name: &str, help: &str) -> IntCounter {
    made(IntCounter::new(name, help))
}

pub(super) fn gauge(name: &str, help: &str) -> IntGauge {
    made(IntGauge::new(name, help))
}

pub(super) fn gauges(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    made(IntGaugeVec::new(Opts::new(name, help), labels))
}

/// Sets what is named and puts every other known series to 0, without ever taking one away: a scrape in between sees
/// no gap.
pub(super) fn show<'a, const N: usize>(
    gauges: &IntGaugeVec,
    rows: impl Iterator<Item = ([&'a str; N], i64)>,
) {
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

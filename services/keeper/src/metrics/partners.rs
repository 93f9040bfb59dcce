//! How connections, their budgets and the calls of each partner system stand.

use prometheus::core::Collector;
use prometheus::{GaugeVec, IntGaugeVec, Opts};
use store::backlog_statistics::{BacklogStatistics, SystemCount};

use super::gauges::{gauges, made, show};

#[derive(Debug)]
pub(super) struct Partners {
    connections: IntGaugeVec,
    circuits: IntGaugeVec,
    links_conflict: IntGaugeVec,
    effects_open: IntGaugeVec,
    budget_accounts: IntGaugeVec,
    budget_used: GaugeVec,
}

impl Default for Partners {
    fn default() -> Self {
        Self {
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
        }
    }
}

impl Partners {
    /// Series for this system exist from the start.
    pub(super) fn expect(&self, system: &str) {
        for state in ["ok", "suspended", "disabled"] {
            self.connections.with_label_values(&[system, state]);
        }
        for state in ["ok", "exhausted", "cooling"] {
            self.budget_accounts.with_label_values(&[system, state]);
        }
        self.budget_used.with_label_values(&[system]);
        self.links_conflict.with_label_values(&[system]);
    }

    pub(super) fn collectors(&self) -> Vec<Box<dyn Collector>> {
        let mut all: Vec<Box<dyn Collector>> = vec![Box::new(self.budget_used.clone())];
        for metric in [
            &self.connections,
            &self.circuits,
            &self.links_conflict,
            &self.effects_open,
            &self.budget_accounts,
        ] {
            all.push(Box::new(metric.clone()));
        }
        all
    }

    pub(super) fn show(&self, backlog_statistics: &BacklogStatistics) {
        fn pairs(rows: &[SystemCount]) -> impl Iterator<Item = ([&str; 2], i64)> {
            rows.iter()
                .map(|row| ([row.system.as_str(), row.what.as_str()], row.count))
        }
        show(&self.connections, pairs(&backlog_statistics.connections));
        show(&self.circuits, pairs(&backlog_statistics.circuits));
        show(&self.effects_open, pairs(&backlog_statistics.effects));
        show(
            &self.links_conflict,
            backlog_statistics
                .links
                .iter()
                .map(|row| ([row.system.as_str()], row.count)),
        );
        let accounts = backlog_statistics.budgets.iter().flat_map(|row| {
            let system = row.system.as_str();
            [
                ([system, "ok"], row.ok),
                ([system, "exhausted"], row.exhausted),
                ([system, "cooling"], row.cooling),
            ]
        });
        show(&self.budget_accounts, accounts);
        for row in &backlog_statistics.budgets {
            self.budget_used
                .with_label_values(&[&row.system])
                .set(row.most_used);
        }
    }
}

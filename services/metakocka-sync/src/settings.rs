//! What an operator may set: the table `[metakocka]`.

use std::time::Duration;

use outbound::address::Private;
use outbound::{Policy, Url};
use runtime::{ConfigurationError, Kind, Rule, Section};
use serde::Deserialize;
use serde_json::Value;
use worker::budget::{BudgetSpec, Window};

/// Its defaults stand in `settings.toml`.
pub(crate) static SECTION: Section = Section {
    name: metakocka::SYSTEM,
    defaults: include_str!("settings.toml"),
    rules: &[
        Rule::new("metakocka.url", Kind::Url(&["http", "https"])),
        Rule::whole("metakocka.connect_timeout_seconds", 1, 60),
        Rule::whole("metakocka.write_timeout_seconds", 1, 600),
        Rule::whole("metakocka.read_timeout_seconds", 1, 600),
        Rule::whole("metakocka.create_settle_seconds", 1, 3600),
        Rule::whole("metakocka.update_settle_seconds", 1, 3600),
        Rule::whole("metakocka.lookup_lag_seconds", 0, 600),
        Rule::whole("metakocka.in_flight", 1, 64),
        Rule::whole("metakocka.calls_per_second", 0, 1000),
        Rule::whole("metakocka.call_burst", 1, 1000),
        Rule::whole("metakocka.quota_backoff_seconds", 1, 3600),
        Rule::new("metakocka.allow_private_addresses", Kind::Switch),
    ],
    between,
};

/// The table as it is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    url: String,
    connect_timeout_seconds: u64,
    write_timeout_seconds: u64,
    read_timeout_seconds: u64,
    create_settle_seconds: u64,
    update_settle_seconds: u64,
    lookup_lag_seconds: u64,
    in_flight: u32,
    /// 0 = no limit.
    calls_per_second: u32,
    call_burst: u32,
    quota_backoff_seconds: u64,
    allow_private_addresses: bool,
}

impl Table {
    fn read(table: &Value) -> Result<Self, String> {
        Self::deserialize(table).map_err(|error| format!("[metakocka]: {error}"))
    }
}

/// How contacts are carried.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Used by connections that name no `url` of their own.
    pub root: Url,
    /// Time-outs and settle times.
    pub client: metakocka::Settings,
}

impl Settings {
    /// Defaults for a root; [`metakocka::PRODUCTION_ROOT`] is the vendor's.
    pub fn new(root: Url) -> Self {
        Self {
            root,
            client: metakocka::Settings::default(),
        }
    }

    /// From the table `[metakocka]`.
    ///
    /// # Errors
    /// It is not that table.
    pub fn read(table: &Value) -> Result<Self, String> {
        let given = Table::read(table)?;
        let seconds = Duration::from_secs;
        let client = metakocka::Settings {
            read_timeout: seconds(given.read_timeout_seconds),
            write_timeout: seconds(given.write_timeout_seconds),
            quota_backoff: seconds(given.quota_backoff_seconds),
            settle: metakocka::Settle {
                add_partner: seconds(given.create_settle_seconds),
                update_partner: seconds(given.update_settle_seconds),
            },
            lookup_lag: seconds(given.lookup_lag_seconds),
            ..metakocka::Settings::default()
        };
        let root = Url::parse(&given.url)
            .map_err(|error| format!("metakocka.url is no address: {error}"))?;
        Ok(Self { root, client })
    }
}

pub(crate) fn policy(table: &Value) -> Result<Policy, String> {
    let given = Table::read(table)?;
    Ok(Policy {
        connect_timeout: Duration::from_secs(given.connect_timeout_seconds),
        private: match given.allow_private_addresses {
            true => Private::Allow,
            false => Private::Refuse,
        },
    })
}

pub(crate) fn budget(table: &Value) -> Result<BudgetSpec, String> {
    let given = Table::read(table)?;
    let window = (given.calls_per_second > 0).then(|| Window {
        requests: given.calls_per_second,
        per: Duration::from_secs(1),
        burst: Some(given.call_burst),
    });
    Ok(BudgetSpec {
        windows: window.into_iter().collect(),
        in_flight: given.in_flight,
        // Metakocka answers the searches of one company one after another (contract §1.7).
        searches: 1,
    })
}

fn between(table: &Value) -> Vec<ConfigurationError> {
    const TIMEOUT: &str = "write_timeout_seconds";
    let number = |name: &str| table[name].as_u64().unwrap_or_default();
    ["create_settle_seconds", "update_settle_seconds"]
        .into_iter()
        .filter(|settle| number(settle) <= number(TIMEOUT))
        .map(|settle| ConfigurationError {
            path: format!("metakocka.{settle}"),
            problem: format!(
                "must be longer than metakocka.{TIMEOUT}: a call that is still waiting cannot be settled"
            ),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_has_a_rule_and_is_read() {
        assert_eq!(SECTION.check(), Ok(()));
        let defaults: toml::Table = toml::from_str(SECTION.defaults).expect("valid TOML");
        let table = serde_json::to_value(&defaults["metakocka"]).expect("plain");
        assert!(Settings::read(&table).is_ok() && policy(&table).is_ok() && budget(&table).is_ok());
        assert_eq!(between(&table), []);
    }
}

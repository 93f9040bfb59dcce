//! What each setting may be. One row per leaf of `defaults.toml`, or of a section's own defaults; tests hold the two
//! equal.

use super::rule::{Kind, Need, Rule};
use super::section::Section;

const fn rule(path: &'static str, kind: Kind) -> Rule {
    Rule::new(path, kind)
}

const fn whole(path: &'static str, min: u64, max: u64) -> Rule {
    Rule::whole(path, min, max)
}

/// All rules in the order of the settings: ours, then those of each section.
pub(super) struct Rules(Vec<&'static Rule>);

impl Rules {
    pub(super) fn with(sections: &[&'static Section]) -> Self {
        let of_sections = sections.iter().flat_map(|section| section.rules);
        Self(RULES.iter().chain(of_sections).collect())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &'static Rule> {
        self.0.iter().copied()
    }

    pub(super) fn of(&self, path: &str) -> Option<&'static Rule> {
        self.iter().find(|rule| rule.path == path)
    }

    /// Where a setting stands in their order; what is none comes last.
    pub(super) fn position(&self, path: &str) -> usize {
        let found = self.iter().position(|rule| rule.path == path);
        found.unwrap_or(self.0.len())
    }
}

pub(super) const RULES: &[Rule] = &[
    Rule {
        path: "amqp.url",
        kind: Kind::UrlOrNone(&["amqp", "amqps"]),
        needed: Some(Need::Amqp),
    },
    rule("amqp.management_url", Kind::UrlOrNone(&["http", "https"])),
    rule("amqp.ca_file", Kind::Text),
    rule("amqp.prefix", Kind::Name { max: 60 }),
    Rule {
        path: "database.url",
        kind: Kind::UrlOrNone(&["postgres", "postgresql"]),
        needed: Some(Need::Database),
    },
    whole("database.max_connections", 2, 1000),
    rule("gateway.listen", Kind::Address),
    whole("gateway.events_per_second", 1, 1_000_000),
    whole("gateway.burst", 1, 1_000_000),
    whole("gateway.token_cache_seconds", 0, 3600),
    whole("worker.slots", 1, 1024),
    whole("worker.prefetch", 1, 2000),
    whole("worker.circuit_open_seconds", 1, 600),
    rule("health.gateway", Kind::AddressOrNone),
    rule("health.worker", Kind::AddressOrNone),
    rule("health.keeper", Kind::AddressOrNone),
    rule("health.up", Kind::AddressOrNone),
    rule("keeper.outbox", Kind::Switch),
    rule("keeper.ledger", Kind::Switch),
    rule("keeper.janitor", Kind::Switch),
    whole("keeper.janitor_seconds", 1, 3600),
    rule("keeper.release", Kind::Switch),
    whole("keeper.release_seconds", 1, 3600),
    rule("keeper.replay", Kind::Switch),
    whole("sync.lease_seconds", 1, 3600),
    whole("sync.send_window_seconds", 1, 60),
    rule(
        "sync.recheck_minutes",
        Kind::WholeList { min: 1, max: 1440 },
    ),
    Rule {
        path: "keys.current",
        kind: Kind::NameOrNone { max: 60 },
        needed: Some(Need::Keys),
    },
    rule("keys.ring", Kind::KeyRing),
    rule("log.format", Kind::Choice(&["auto", "human", "json"])),
    rule("log.filter", Kind::Text),
];

#[cfg(test)]
mod tests {

    use super::*;

    fn leaves(value: &toml::Value, path: &str, found: &mut Vec<String>) {
        match value {
            toml::Value::Table(table) if path != "keys.ring" => {
                for (name, inner) in table {
                    let path = if path.is_empty() {
                        name.clone()
                    } else {
                        format!("{path}.{name}")
                    };
                    leaves(inner, &path, found);
                }
            }
            _ => found.push(path.to_owned()),
        }
    }

    #[test]
    fn every_default_has_a_rule_and_keeps_it() {
        let defaults: toml::Table = toml::from_str(super::super::DEFAULTS).expect("valid TOML");
        let mut found = Vec::new();
        leaves(&toml::Value::Table(defaults.clone()), "", &mut found);
        let mut known: Vec<String> = RULES.iter().map(|rule| rule.path.to_owned()).collect();
        found.sort();
        known.sort();
        assert_eq!(found, known);
        for rule in RULES {
            let value = rule.path.split('.').fold(
                serde_json::to_value(&defaults).expect("plain"),
                |at, name| at[name].clone(),
            );
            assert!(rule.kind.read(&value).is_ok(), "{} = {value}", rule.path);
        }
    }
}

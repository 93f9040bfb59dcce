//! All settings at once: the layers, checked whole, all configuration errors named together.

use std::collections::BTreeMap;

use serde::Deserialize as _;
use serde_json::{Map, Value};

use super::Settings;
use super::configuration_error::{ConfigurationError, ConfigurationErrors};
use super::layers::{Leaf, PREFIX, Sources, flatten, layered, name_of, named};
use super::rule::{Kind, Need, Rule};
use super::rules::Rules;
use super::section::Section;
use super::show::{Shown, shown};

/// A configuration error quotes at most this much of what was given.
const QUOTE_LIMIT: usize = 60;
/// What only whoever uses a setting can know of its value, such as what an address may hold. Asked for text that is not
/// empty, before the setting's own rule: it knows better words.
#[derive(Clone, Copy)]
pub struct Check {
    /// The setting.
    pub path: &'static str,
    /// Errs with what it "must" be, without the value where that may be a secret.
    pub check: fn(&str) -> Result<(), String>,
}

/// Settings in force, and how they may be shown.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub settings: Settings,
    /// Every setting in the order of `defaults.toml`, secrets hidden, with its origin.
    pub shown: Vec<Shown>,
}

/// Reads all settings, those of these sections included. Opens nothing but the settings file, and the files that a check looks into.
///
/// # Errors
/// Every configuration error at once: unknown names, wrong values, missing settings that `needs` asks for, an unreadable file, and what
/// `checks` object to.
pub fn load(
    sources: &Sources,
    needs: &[Need],
    checks: &[Check],
    sections: &[&'static Section],
) -> Result<Loaded, ConfigurationErrors> {
    let rules = Rules::with(sections);
    let mut configuration_errors = Vec::new();
    let tree = layered(sources, sections, &rules, &mut configuration_errors)?;
    let mut leaves = Vec::new();
    flatten(&tree, String::new(), &rules, &mut leaves);
    for (path, leaf) in &mut leaves {
        leaf.origin = named(&leaf.origin, path, sources);
    }

    let mut clean = Value::Object(Map::new());
    let mut shown_settings = Vec::new();
    for rule in rules.iter() {
        let Some((_, leaf)) = leaves.iter().find(|(path, _)| path == rule.path) else {
            configuration_errors.push(ConfigurationError {
                path: rule.path.to_owned(),
                problem: "must not be a section".to_owned(),
            });
            continue;
        };
        let read = checked(rule, &leaf.value, checks).and_then(|()| rule.kind.read(&leaf.value));
        match read {
            Ok(value) => {
                if needs.iter().any(|need| rule.needed == Some(*need)) && value.as_str() == Some("")
                {
                    configuration_errors.push(missing(rule));
                }
                put(&mut clean, rule.path, value.clone());
                shown_settings.push(shown(rule, &value, &leaf.origin));
            }
            Err(problem) => configuration_errors.push(ConfigurationError {
                path: rule.path.to_owned(),
                problem: said(rule.kind, leaf, &problem),
            }),
        }
    }
    configuration_errors.extend(without_a_rule(&leaves, &rules));
    configuration_errors
        .sort_by_key(|configuration_error| rules.position(&configuration_error.path));
    if configuration_errors.is_empty() {
        cross_check(&clean, &mut configuration_errors);
        let of = |section: &&'static Section| (section.between)(&clean[section.name]);
        configuration_errors.extend(sections.iter().flat_map(of));
    }
    if !configuration_errors.is_empty() {
        return Err(ConfigurationErrors(configuration_errors));
    }
    let mut owned = BTreeMap::new();
    for section in sections {
        let table = clean
            .as_object_mut()
            .and_then(|all| all.remove(section.name));
        owned.insert(section.name, table.unwrap_or_default());
    }
    let mut settings = Settings::deserialize(clean).map_err(|error| {
        ConfigurationErrors(vec![ConfigurationError {
            path: "settings".to_owned(),
            problem: error.to_string(),
        }])
    })?;
    settings.sections = owned;
    Ok(Loaded {
        settings,
        shown: shown_settings,
    })
}

/// What the layers name and no rule knows.
fn without_a_rule<'a>(
    leaves: &'a [(String, Leaf)],
    rules: &'a Rules,
) -> impl Iterator<Item = ConfigurationError> + 'a {
    let strangers = leaves.iter().filter(|(path, _)| rules.of(path).is_none());
    strangers.map(|(path, leaf)| {
        let is_section = rules.iter().any(|rule| {
            rule.path
                .strip_prefix(path.as_str())
                .is_some_and(|rest| rest.starts_with('.'))
        });
        let problem = if is_section {
            "is a section and holds settings of its own".to_owned()
        } else {
            unknown(path, rules)
        };
        ConfigurationError {
            path: path.clone(),
            problem: format!("{problem} (from {})", leaf.origin),
        }
    })
}

fn checked(rule: &Rule, value: &Value, checks: &[Check]) -> Result<(), String> {
    let Some(text) = value.as_str().filter(|text| !text.is_empty()) else {
        return Ok(());
    };
    checks
        .iter()
        .filter(|check| check.path == rule.path)
        .try_for_each(|check| (check.check)(text))
}

fn put(tree: &mut Value, path: &str, value: Value) {
    let mut at = tree;
    for name in path.split('.') {
        let Value::Object(fields) = at else { return };
        at = fields
            .entry(name)
            .or_insert_with(|| Value::Object(Map::new()));
    }
    *at = value;
}

fn said(kind: Kind, leaf: &Leaf, problem: &str) -> String {
    if kind.is_secret() {
        return format!(
            "{problem}; the value (from {}) is not shown here",
            leaf.origin
        );
    }
    // A file shows its quotes; a variable has none.
    let given = match &leaf.value {
        Value::String(text) if leaf.origin.starts_with(PREFIX) => text.clone(),
        other => other.to_string(),
    };
    let quoted: String = given.chars().take(QUOTE_LIMIT).collect();
    format!("{problem}, not {quoted} (from {})", leaf.origin)
}

fn missing(rule: &Rule) -> ConfigurationError {
    let variable = name_of(rule.path);
    let hint = match rule.needed {
        Some(Need::Keys) => "; `kurir keys new` makes a key and prints its settings",
        Some(Need::Amqp | Need::Database) | None => "; `make dev` starts a local one",
    };
    ConfigurationError {
        path: rule.path.to_owned(),
        problem: format!("is missing: set {variable}{hint}"),
    }
}

/// What the setting may have been meant to be.
fn unknown(path: &str, rules: &Rules) -> String {
    let near = rules
        .iter()
        .map(|rule| (distance(path, rule.path), rule.path))
        .filter(|(far, _)| *far <= 3)
        .min()
        .map(|(_, near)| format!("; did you mean {near}?"));
    format!("is no setting{}", near.unwrap_or_default())
}

/// Edits between two short texts.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

/// Rules between settings.
fn cross_check(clean: &Value, configuration_errors: &mut Vec<ConfigurationError>) {
    let number = |section: &str, name: &str| clean[section][name].as_u64().unwrap_or_default();
    if number("worker", "prefetch") < number("worker", "slots") {
        let problem = "must be at least worker.slots, else slots stay empty".to_owned();
        configuration_errors.push(ConfigurationError {
            path: "worker.prefetch".to_owned(),
            problem,
        });
    }
    let current = clean["keys"]["current"].as_str().unwrap_or_default();
    if !current.is_empty() && clean["keys"]["ring"].get(current).is_none() {
        let problem = format!("names key `{current}`, which is not in keys.ring");
        configuration_errors.push(ConfigurationError {
            path: "keys.current".to_owned(),
            problem,
        });
    }
}

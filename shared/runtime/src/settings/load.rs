//! Defaults, file, environment: laid over each other, checked whole, all mistakes named together.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use config::{Config, Environment, File, FileFormat, ValueKind};
use serde::Deserialize as _;
use serde_json::{Map, Value};

use super::rules::{Kind, Rule, Rules};
use super::section::Section;
use super::show::{Shown, shown};
use super::{DEFAULTS, Settings};

const PREFIX: &str = "KURIR_";
const SEPARATOR: &str = "__";
/// Names that were there before the general form, and that other tools know.
const PLAIN: [(&str, &str); 4] = [
    ("KURIR_AMQP_URL", "amqp.url"),
    ("KURIR_RABBITMQ_MANAGEMENT_URL", "amqp.management_url"),
    ("KURIR_DATABASE_URL", "database.url"),
    ("KURIR_LOG_FORMAT", "log.format"),
];
/// A mistake quotes at most this much of what was given.
const QUOTE_LIMIT: usize = 60;
/// Largest settings file that is read.
const FILE_LIMIT: u64 = 1024 * 1024;

/// What a command cannot do without. Settings that no command of this process needs may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    Amqp,
    Database,
    /// The key ring: whoever seals or opens credentials.
    Keys,
}

/// What only whoever uses a setting can know of its value, such as what an address may hold. Asked for text that is not
/// empty, before the setting's own rule: it knows better words.
#[derive(Clone, Copy)]
pub struct Check {
    /// The setting.
    pub path: &'static str,
    /// Errs with what it "must" be, without the value where that may be a secret.
    pub check: fn(&str) -> Result<(), String>,
}

/// Where settings come from besides the defaults.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    pub file: Option<PathBuf>,
    /// All variables of the process; those that do not begin with `KURIR_` are not looked at.
    pub environment: BTreeMap<String, String>,
}

impl Sources {
    /// This process's environment; a variable that is not UTF-8 is left out.
    pub fn of_process(file: Option<PathBuf>) -> Self {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with(PREFIX))
            .collect();
        Self { file, environment }
    }
}

/// One thing that is wrong. Values of secrets are never part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The setting, or the file or variable where no setting could be found.
    pub path: String,
    pub problem: String,
}

/// Everything that is wrong, in the order of the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        writeln!(
            f,
            "{count} {} in the settings:",
            if count == 1 { "mistake" } else { "mistakes" }
        )?;
        for mistake in &self.0 {
            writeln!(f, "  {}: {}", mistake.path, mistake.problem)?;
        }
        write!(f, "`kurir config --help` explains where settings come from")
    }
}

impl std::error::Error for Mistakes {}

/// Settings in force, and how they may be shown.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub settings: Settings,
    /// Every setting in the order of `defaults.toml`, secrets hidden, with its origin.
    pub shown: Vec<Shown>,
    /// Whether the environment or the file names this setting.
    given: Vec<String>,
}

impl Loaded {
    pub fn is_given(&self, path: &str) -> bool {
        self.given.iter().any(|given| given == path)
    }
}

/// Reads all settings, those of these sections included. Opens nothing but the settings file, and the files that a check looks into.
///
/// # Errors
/// Every mistake at once: unknown names, wrong values, missing settings that `needs` asks for, an unreadable file, and what
/// `checks` object to.
pub fn load(
    sources: &Sources,
    needs: &[Need],
    checks: &[Check],
    sections: &[&'static Section],
) -> Result<Loaded, Mistakes> {
    let rules = Rules::with(sections);
    let mut mistakes = Vec::new();
    let tree = layered(sources, sections, &rules, &mut mistakes)?;
    let mut leaves = Vec::new();
    flatten(&tree, String::new(), &rules, &mut leaves);
    for (path, leaf) in &mut leaves {
        leaf.origin = named(&leaf.origin, path, sources);
    }

    let mut clean = Value::Object(Map::new());
    let mut shown_settings = Vec::new();
    let mut given = Vec::new();
    for rule in rules.iter() {
        let Some((_, leaf)) = leaves.iter().find(|(path, _)| path == rule.path) else {
            mistakes.push(Mistake {
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
                    mistakes.push(missing(rule));
                }
                put(&mut clean, rule.path, value.clone());
                shown_settings.push(shown(rule, &value, &leaf.origin));
            }
            Err(problem) => mistakes.push(Mistake {
                path: rule.path.to_owned(),
                problem: said(rule.kind, leaf, &problem),
            }),
        }
        if leaf.origin != DEFAULT_ORIGIN {
            given.push(rule.path.to_owned());
        }
    }
    for (path, leaf) in leaves.iter().filter(|(path, _)| rules.of(path).is_none()) {
        let is_section = rules.iter().any(|rule| {
            rule.path
                .strip_prefix(path.as_str())
                .is_some_and(|rest| rest.starts_with('.'))
        });
        let problem = if is_section {
            "is a section and holds settings of its own".to_owned()
        } else {
            unknown(path, &rules)
        };
        mistakes.push(Mistake {
            path: path.clone(),
            problem: format!("{problem} (from {})", leaf.origin),
        });
    }
    mistakes.sort_by_key(|mistake| rules.position(&mistake.path));
    if mistakes.is_empty() {
        cross_check(&clean, &mut mistakes);
        let of = |section: &&'static Section| (section.between)(&clean[section.name]);
        mistakes.extend(sections.iter().flat_map(of));
    }
    if !mistakes.is_empty() {
        return Err(Mistakes(mistakes));
    }
    let mut owned = BTreeMap::new();
    for section in sections {
        let table = clean
            .as_object_mut()
            .and_then(|all| all.remove(section.name));
        owned.insert(section.name, table.unwrap_or_default());
    }
    let mut settings = Settings::deserialize(clean).map_err(|error| {
        Mistakes(vec![Mistake {
            path: "settings".to_owned(),
            problem: error.to_string(),
        }])
    })?;
    settings.sections = owned;
    Ok(Loaded {
        settings,
        shown: shown_settings,
        given,
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

const DEFAULT_ORIGIN: &str = "default";
/// As the `config` crate calls it.
const ENVIRONMENT_ORIGIN: &str = "the environment";

/// Where a value came from, in the words of whoever gave it: the variable's name, or the file as it was named.
fn named(origin: &str, path: &str, sources: &Sources) -> String {
    match (origin, &sources.file) {
        (DEFAULT_ORIGIN, _) => DEFAULT_ORIGIN.to_owned(),
        (ENVIRONMENT_ORIGIN, _) if path == "keys.ring" => ENVIRONMENT_ORIGIN.to_owned(),
        (ENVIRONMENT_ORIGIN, _) => plain_name(path)
            .filter(|name| sources.environment.contains_key(*name))
            .map_or_else(|| variable_of(path), str::to_owned),
        (_, Some(file)) => file.display().to_string(),
        (other, None) => other.to_owned(),
    }
}

fn plain_name(path: &str) -> Option<&'static str> {
    PLAIN
        .iter()
        .find(|(_, known)| *known == path)
        .map(|(name, _)| *name)
}

struct Leaf {
    value: Value,
    origin: String,
}

/// The three layers as one tree.
fn layered(
    sources: &Sources,
    sections: &[&'static Section],
    rules: &Rules,
    mistakes: &mut Vec<Mistake>,
) -> Result<config::Value, Mistakes> {
    let mut builder = Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
    for section in sections {
        builder = builder.add_source(File::from_str(section.defaults, FileFormat::Toml));
    }
    if let Some(path) = &sources.file {
        match read_file(path) {
            // Parsed here first: the message of a parser quotes the line, and the line may hold a password.
            Ok(_) => {
                builder = builder.add_source(File::from(path.as_path()).format(FileFormat::Toml))
            }
            Err(problem) => mistakes.push(Mistake {
                path: path.display().to_string(),
                problem,
            }),
        }
    }
    let environment = variables(&sources.environment, rules, mistakes);
    builder = builder.add_source(
        Environment::with_prefix("KURIR")
            .prefix_separator("_")
            .separator(SEPARATOR)
            .source(Some(environment)),
    );
    builder
        .build()
        .map(|config| config.cache)
        .map_err(|_quotes_names| {
            mistakes.push(Mistake {
                path: "settings".to_owned(),
                problem: "cannot be read; a name holds characters that no setting has".to_owned(),
            });
            Mistakes(std::mem::take(mistakes))
        })
}

fn read_file(path: &Path) -> Result<(), String> {
    let size = std::fs::metadata(path)
        .map_err(|error| format!("the settings file cannot be read: {error}"))?
        .len();
    if size > FILE_LIMIT {
        return Err(format!(
            "the settings file is larger than {FILE_LIMIT} bytes"
        ));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("the settings file cannot be read: {error}"))?;
    match toml::from_str::<toml::Table>(&text) {
        Ok(_) => Ok(()),
        Err(error) => {
            let line = error
                .span()
                .map_or(0, |span| text[..span.start].lines().count().max(1));
            Err(format!("is not valid TOML, line {line}"))
        }
    }
}

/// The variables that are settings, in their general form. Others may be there for other reasons (Kubernetes writes
/// `KURIR_GATEWAY_PORT` for a service of that name), but one that misses a setting by an underscore is a mistake.
fn variables(
    all: &BTreeMap<String, String>,
    rules: &Rules,
    mistakes: &mut Vec<Mistake>,
) -> config::Map<String, String> {
    let mut found = config::Map::new();
    for (name, value) in all {
        let Some(rest) = name.strip_prefix(PREFIX) else {
            continue;
        };
        if let Some((_, path)) = PLAIN.iter().find(|(plain, _)| plain == name) {
            if !value.is_empty() {
                let general = variable_of(path);
                if all.contains_key(&general) {
                    mistakes.push(Mistake {
                        path: (*path).to_owned(),
                        problem: format!("is given twice: {name} and {general}; unset one"),
                    });
                }
                found.insert(general, value.clone());
            }
        } else if rest.contains(SEPARATOR) {
            found.insert(name.clone(), value.clone());
        } else if let Some(rule) = rules
            .iter()
            .find(|rule| rule.path.replace('.', "_").eq_ignore_ascii_case(rest))
        {
            let problem = format!(
                "{name} is not read; the variable is {}",
                variable_of(rule.path)
            );
            mistakes.push(Mistake {
                path: rule.path.to_owned(),
                problem,
            });
        }
    }
    found
}

/// The environment variable of a setting.
fn variable_of(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', SEPARATOR).to_uppercase())
}

fn flatten(value: &config::Value, path: String, rules: &Rules, leaves: &mut Vec<(String, Leaf)>) {
    match &value.kind {
        ValueKind::Table(table) if path != "keys.ring" && rules.of(&path).is_none() => {
            let sorted: BTreeMap<_, _> = table.iter().collect();
            for (name, inner) in sorted {
                flatten(
                    inner,
                    if path.is_empty() {
                        name.clone()
                    } else {
                        format!("{path}.{name}")
                    },
                    rules,
                    leaves,
                );
            }
        }
        _ => {
            let origin = origin(value);
            leaves.push((
                path,
                Leaf {
                    value: plain(value),
                    origin,
                },
            ));
        }
    }
}

/// Tables have no origin of their own: the key ring's is that of its keys.
fn origin(value: &config::Value) -> String {
    match (&value.kind, value.origin()) {
        (ValueKind::Table(table), _) => table
            .values()
            .map(origin)
            .max()
            .unwrap_or_else(|| DEFAULT_ORIGIN.to_owned()),
        (_, None) => DEFAULT_ORIGIN.to_owned(),
        (_, Some(origin)) => origin.to_owned(),
    }
}

fn plain(value: &config::Value) -> Value {
    match &value.kind {
        ValueKind::Nil => Value::Null,
        ValueKind::Boolean(value) => Value::from(*value),
        ValueKind::I64(value) => Value::from(*value),
        ValueKind::U64(value) => Value::from(*value),
        ValueKind::I128(value) => Value::from(value.to_string()),
        ValueKind::U128(value) => Value::from(value.to_string()),
        ValueKind::Float(value) => Value::from(*value),
        ValueKind::String(value) => Value::from(value.clone()),
        ValueKind::Array(items) => items.iter().map(plain).collect(),
        ValueKind::Table(table) => Value::Object(
            table
                .iter()
                .map(|(name, value)| (name.clone(), plain(value)))
                .collect(),
        ),
    }
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

fn missing(rule: &Rule) -> Mistake {
    let variable = plain_name(rule.path).map_or_else(|| variable_of(rule.path), str::to_owned);
    let hint = match rule.needed {
        Some(Need::Keys) => "; `kurir keys new` makes a key and prints its settings",
        Some(Need::Amqp | Need::Database) | None => "; `make dev` starts a local one",
    };
    Mistake {
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
fn cross_check(clean: &Value, mistakes: &mut Vec<Mistake>) {
    let number = |section: &str, name: &str| clean[section][name].as_u64().unwrap_or_default();
    if number("worker", "prefetch") < number("worker", "slots") {
        let problem = "must be at least worker.slots, else slots stay empty".to_owned();
        mistakes.push(Mistake {
            path: "worker.prefetch".to_owned(),
            problem,
        });
    }
    let current = clean["keys"]["current"].as_str().unwrap_or_default();
    if !current.is_empty() && clean["keys"]["ring"].get(current).is_none() {
        let problem = format!("names key `{current}`, which is not in keys.ring");
        mistakes.push(Mistake {
            path: "keys.current".to_owned(),
            problem,
        });
    }
}

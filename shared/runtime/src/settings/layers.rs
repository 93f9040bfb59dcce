//! Defaults, file, environment: laid over each other, each value with its origin.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use config::{Config, Environment, File, FileFormat, ValueKind};
use serde_json::Value;

use super::DEFAULTS;
use super::configuration_error::{ConfigurationError, ConfigurationErrors};
use super::rules::Rules;
use super::section::Section;

pub(super) const PREFIX: &str = "KURIR_";
const SEPARATOR: &str = "__";
/// Names that were there before the general form, and that other tools know.
const PLAIN: [(&str, &str); 4] = [
    ("KURIR_AMQP_URL", "amqp.url"),
    ("KURIR_RABBITMQ_MANAGEMENT_URL", "amqp.management_url"),
    ("KURIR_DATABASE_URL", "database.url"),
    ("KURIR_LOG_FORMAT", "log.format"),
];
const DEFAULT_ORIGIN: &str = "default";
/// As the `config` crate calls it.
const ENVIRONMENT_ORIGIN: &str = "the environment";
/// Largest settings file that is read.
const FILE_LIMIT: u64 = 1024 * 1024;

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

pub(super) struct Leaf {
    pub(super) value: Value,
    pub(super) origin: String,
}

/// The three layers as one tree.
pub(super) fn layered(
    sources: &Sources,
    sections: &[&'static Section],
    rules: &Rules,
    configuration_errors: &mut Vec<ConfigurationError>,
) -> Result<config::Value, ConfigurationErrors> {
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
            Err(problem) => configuration_errors.push(ConfigurationError {
                path: path.display().to_string(),
                problem,
            }),
        }
    }
    let environment = variables(&sources.environment, rules, configuration_errors);
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
            configuration_errors.push(ConfigurationError {
                path: "settings".to_owned(),
                problem: "cannot be read; a name holds characters that no setting has".to_owned(),
            });
            ConfigurationErrors(std::mem::take(configuration_errors))
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
/// `KURIR_GATEWAY_PORT` for a service of that name), but one that misses a setting by an underscore is a configuration error.
fn variables(
    all: &BTreeMap<String, String>,
    rules: &Rules,
    configuration_errors: &mut Vec<ConfigurationError>,
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
                    configuration_errors.push(ConfigurationError {
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
            configuration_errors.push(ConfigurationError {
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

pub(super) fn flatten(
    value: &config::Value,
    path: String,
    rules: &Rules,
    leaves: &mut Vec<(String, Leaf)>,
) {
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

/// Where a value came from, in the words of whoever gave it: the variable's name, or the file as it was named.
pub(super) fn named(origin: &str, path: &str, sources: &Sources) -> String {
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

/// The variable that sets it, as people write it.
pub(super) fn name_of(path: &str) -> String {
    plain_name(path).map_or_else(|| variable_of(path), str::to_owned)
}

fn plain_name(path: &str) -> Option<&'static str> {
    PLAIN
        .iter()
        .find(|(_, known)| *known == path)
        .map(|(name, _)| *name)
}

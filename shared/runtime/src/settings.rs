//! The settings of all roles, typed. Which values are allowed stands in `rules`, how they are read in `load`.

mod configuration_error;
mod layers;
mod load;
mod rule;
mod rules;
mod section;
mod show;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

pub use configuration_error::{ConfigurationError, ConfigurationErrors};
pub use layers::Sources;
pub use load::{Check, Loaded, load};
pub use rule::{Kind, Need, Rule};
pub use section::Section;
pub use show::{Shown, hide_password};

/// The commented file that is compiled in: every setting with its default, without those of sections.
pub const DEFAULTS: &str = include_str!("defaults.toml");

/// All settings in force. Secrets stay wrapped; `Loaded::shown` is what may be printed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub amqp: Amqp,
    pub database: Database,
    pub gateway: Gateway,
    pub worker: Worker,
    pub health: Health,
    pub keeper: Keeper,
    pub sync: Sync,
    pub keys: Keys,
    pub log: Log,
    /// The tables that services own, by their names: read and checked, for them to take apart.
    #[serde(skip)]
    pub sections: BTreeMap<&'static str, Value>,
}

impl Settings {
    /// A service's own table, as its rules read it; null where this process was not told of it.
    pub fn section(&self, name: &str) -> &Value {
        self.sections.get(name).unwrap_or(&Value::Null)
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amqp {
    #[serde(deserialize_with = "secret")]
    pub url: Option<SecretString>,
    #[serde(deserialize_with = "secret")]
    pub management_url: Option<SecretString>,
    /// PEM of authorities that are believed beside the system's.
    #[serde(deserialize_with = "path")]
    pub ca_file: Option<PathBuf>,
    pub prefix: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    #[serde(deserialize_with = "secret")]
    pub url: Option<SecretString>,
    pub max_connections: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    pub listen: SocketAddr,
    pub events_per_second: u32,
    pub burst: u32,
    #[serde(rename = "token_cache_seconds", deserialize_with = "seconds")]
    pub token_cache: Duration,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Worker {
    pub slots: u16,
    pub prefetch: u16,
    #[serde(rename = "circuit_open_seconds", deserialize_with = "seconds")]
    pub circuit_open: Duration,
}

/// The roles a process can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Gateway,
    Worker,
    Keeper,
    Up,
}

impl Role {
    /// The variable that says where it answers probes.
    pub fn health_variable(self) -> &'static str {
        match self {
            Self::Gateway => "KURIR_HEALTH__GATEWAY",
            Self::Worker => "KURIR_HEALTH__WORKER",
            Self::Keeper => "KURIR_HEALTH__KEEPER",
            Self::Up => "KURIR_HEALTH__UP",
        }
    }
}

/// Where each role answers probes; absent = nowhere.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    #[serde(deserialize_with = "address")]
    pub gateway: Option<SocketAddr>,
    #[serde(deserialize_with = "address")]
    pub worker: Option<SocketAddr>,
    #[serde(deserialize_with = "address")]
    pub keeper: Option<SocketAddr>,
    #[serde(deserialize_with = "address")]
    pub up: Option<SocketAddr>,
}

impl Health {
    pub fn of(&self, role: Role) -> Option<SocketAddr> {
        match role {
            Role::Gateway => self.gateway,
            Role::Worker => self.worker,
            Role::Keeper => self.keeper,
            Role::Up => self.up,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keeper {
    pub outbox: bool,
    pub ledger: bool,
    pub janitor: bool,
    #[serde(rename = "janitor_seconds", deserialize_with = "seconds")]
    pub janitor_every: Duration,
    pub release: bool,
    #[serde(rename = "release_seconds", deserialize_with = "seconds")]
    pub release_every: Duration,
    pub replay: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sync {
    #[serde(rename = "lease_seconds", deserialize_with = "seconds")]
    pub lease: Duration,
    #[serde(rename = "send_window_seconds", deserialize_with = "seconds")]
    pub send_window: Duration,
    #[serde(rename = "recheck_minutes", deserialize_with = "minutes")]
    pub recheck_after: Vec<Duration>,
}

/// The ring that seals credentials at rest.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    #[serde(deserialize_with = "filled")]
    pub current: Option<String>,
    /// Base64 of 32 bytes each, by id.
    pub ring: BTreeMap<String, SecretString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people on a terminal, else JSON.
    Auto,
    Human,
    Json,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub format: LogFormat,
    pub filter: String,
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_secs)
}

fn minutes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Duration>, D::Error> {
    let minutes = Vec::<u64>::deserialize(deserializer)?;
    Ok(minutes
        .into_iter()
        .map(|minutes| Duration::from_secs(minutes * 60))
        .collect())
}

fn filled<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    String::deserialize(deserializer).map(|text| Some(text).filter(|text| !text.is_empty()))
}

fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    filled(deserializer).map(|text| text.map(PathBuf::from))
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    filled(deserializer).map(|text| text.map(SecretString::from))
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    filled(deserializer)?
        .map(|text| text.parse().map_err(serde::de::Error::custom))
        .transpose()
}

//! Owns what every process of the fleet starts and ends with: settings, log lines, signals and the orderly end of
//! its tasks, and how strangers' text may be shown. Knows no events, no SQL and no AMQP.
//! Surprising: settings are read whole before anything is opened, and every configuration error in them is named at once.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]

mod settings;
pub mod signals;
mod tasks;
pub mod telemetry;
pub mod visible;

pub use settings::{
    Amqp, Check, ConfigurationError, ConfigurationErrors, DEFAULTS, Database, Gateway, Health,
    Keeper, Keys, Kind, Loaded, Log, LogFormat, Need, Role, Rule, Section, Settings, Shown,
    Sources, Sync, Worker, hide_password, load,
};
pub use tasks::{DRAIN_LIMIT, Ended, Ending, TaskError, Tasks};

//! Log lines, to standard error. Standard output belongs to what a command was asked for.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::settings::{Log, LogFormat};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("log.filter `{filter}` cannot be read: {source}")]
    Filter {
        filter: String,
        source: tracing_subscriber::filter::ParseError,
    },
    #[error("log lines are already being written")]
    Twice,
}

/// Starts writing log lines. Once per process.
///
/// # Errors
/// `Filter` where `log.filter` is no filter, `Twice` on a second call.
pub fn start(log: &Log) -> Result<(), Error> {
    let filter = EnvFilter::try_new(&log.filter).map_err(|source| Error::Filter {
        filter: log.filter.clone(),
        source,
    })?;
    let terminal = std::io::stderr().is_terminal();
    let json = match log.format {
        LogFormat::Json => true,
        LogFormat::Human => false,
        LogFormat::Auto => !terminal,
    };
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if json {
        lines
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .finish()
            .try_init()
    } else {
        lines
            .with_ansi(terminal)
            .with_target(false)
            .finish()
            .try_init()
    };
    started.map_err(|_set_before| Error::Twice)
}

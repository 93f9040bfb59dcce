//! What a command line needs to know of a simulator: its name, and how it is started and stopped.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use tokio::net::TcpListener;

use crate::error::Error;
use crate::readings::Preset;

/// A simulator that can be started.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// One word, as it is typed.
    pub name: &'static str,
    /// As it is shown to people.
    pub title: &'static str,
    /// The port it has unless somebody says another.
    pub port: u16,
    /// The path its calls begin with: `/…/`.
    pub root: &'static str,
    /// What its accounts are called, in the plural: one lower-case word.
    pub accounts: &'static str,
    /// What opens the account it begins with unless options say otherwise, as the JSON of a connection's credentials.
    pub credentials: &'static str,
    /// Starts it on this listener; needs a tokio runtime. [`Error::Invalid`] for options that make no sense.
    pub start: fn(Start, TcpListener) -> Result<Box<dyn Running>, Error>,
}

/// How it is to start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    pub readings: Preset,
    pub strict: bool,
    /// The simulator's own options as JSON. They say everything, so `readings` and `strict` must be as they are by default.
    pub options: Option<String>,
    /// A file that keeps what it holds, for the next start; counts more than one that the options name.
    pub state: Option<PathBuf>,
}

impl Start {
    /// The options, if there are any, read as `O`. [`Error::Invalid`] if they can't be, or stand beside what they exclude.
    pub fn options<O: serde::de::DeserializeOwned>(&self) -> Result<Option<O>, Error> {
        let Some(text) = &self.options else {
            return Ok(None);
        };
        if self.strict || self.readings != Preset::default() {
            return Err(Error::Invalid(
                "options say everything: readings and strict can't stand beside them".into(),
            ));
        }
        match serde_json::from_str(text) {
            Ok(options) => Ok(Some(options)),
            Err(wrong) => Err(Error::Invalid(wrong.to_string())),
        }
    }
}

/// A simulator that runs, whatever it simulates. It stops when it is dropped.
pub trait Running: Send {
    /// Where the calls begin, with a `/` at the end.
    fn base_url(&self) -> String;

    /// Where the control routes begin, with a `/` at the end.
    fn control_url(&self) -> String;

    /// The ids of its accounts, e.g. Metakocka's companies.
    fn accounts(&self) -> Vec<String>;

    /// Whether it goes on from a state file that was there; `None` without one.
    fn went_on(&self) -> Option<bool>;

    /// Stops and waits until nothing of it runs any more.
    fn stop(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

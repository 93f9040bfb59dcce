//! What a worker tells the fleet about itself: one value per worker, one per partner system. The command line, queues,
//! doctor, metrics, budgets, settings and docs follow from the list of them. Knows no particular worker and starts none.
//!
//! The surprising part: a registration is data and plain functions. So a list of them is a constant, and a service stays
//! a library that does not know how its process is put together.

#![cfg_attr(not(test), warn(clippy::too_many_lines))]

mod credentials;
mod page;
mod rest;

use std::sync::Arc;

use event::EventType;
use futures_util::future::BoxFuture;
use outbound::{Client, Policy, Url};
use runtime::Section;
use secrecy::SecretString;
use serde_json::Value;
use sync::Partner;
use worker::Facets;
use worker::budget::BudgetSpec;

pub use credentials::Member;
pub use page::page;
pub use rest::{PATIENCE, Rest};

/// Setting of a connection, for every system: the partner's address, where it is not the usual one.
pub const URL: &str = "url";

/// From the way out under the system's policy and the system's table of settings to the worker's partner.
pub type Opens = fn(&Client, &Value) -> Result<Arc<dyn Partner>, String>;

/// One worker.
#[derive(Debug)]
pub struct Worker {
    /// Its queues are `<prefix>.<name>` and those below it. Never reused for something else.
    pub name: &'static str,
    /// One sentence for people: what it carries where.
    pub about: &'static str,
    /// What is routed to it.
    pub consumes: &'static [EventType],
    /// What it makes of them: [`Facets::ENTITY`], or several links of one event.
    pub facets: Facets,
    /// Where its links lead.
    pub system: &'static System,
    /// Its planner and its accounts, from the system's table of settings.
    ///
    /// # Errors
    /// What is wrong with the settings.
    pub partner: Opens,
}

/// One partner system. Several workers may lead to one.
#[derive(Debug)]
pub struct System {
    /// As connections, settings, metrics and the command line name it.
    pub name: &'static str,
    /// As people write it.
    pub title: &'static str,
    /// Its table of settings; its name is the system's.
    pub section: &'static Section,
    /// The members of a connection's credentials, a JSON object.
    pub credentials: &'static [Member],
    /// The calls it makes, by the names that its client counts them under.
    pub operations: fn() -> Vec<&'static str>,
    /// How its calls may leave.
    pub policy: fn(&Value) -> Result<Policy, String>,
    /// What a connection may do that names no budget of its own.
    pub budget: fn(&Value) -> Result<BudgetSpec, String>,
    /// One harmless reading call with a connection's credentials.
    pub test: for<'a> fn(Trial<'a>) -> BoxFuture<'a, Result<Tested, TestError>>,
}

/// A connection that is tried out.
#[derive(Clone, Copy)]
pub struct Trial<'a> {
    /// Under the system's policy.
    pub client: &'a Client,
    /// The system's table of settings.
    pub settings: &'a Value,
    /// The connection's own settings, a JSON object.
    pub connection: &'a Value,
    /// Their JSON.
    pub credentials: &'a SecretString,
}

/// The partner accepts the credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tested {
    /// Sentences for a person; the connection works all the same.
    pub warnings: Vec<String>,
}

/// Why a connection did not pass. Texts are redacted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TestError {
    /// What is stored is no connection to this system: repair it.
    #[error("{0}")]
    Unusable(String),
    /// The partner refuses the credentials, in its words: suspend the connection.
    #[error("{0}")]
    Refused(String),
    /// The address may not be called from here.
    #[error("{0}")]
    PrivateAddress(String),
    /// Says nothing about the credentials.
    #[error("{0}")]
    Unavailable(String),
}

/// The address that a connection's calls go to: its own, or this one.
///
/// # Errors
/// Its own is no http address.
pub fn root(connection: &Value, usual: &Url) -> Result<Url, String> {
    let Some(url) = connection.get(URL) else {
        return Ok(usual.clone());
    };
    url.as_str()
        .and_then(|text| Url::parse(text).ok())
        .filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host())
        .ok_or_else(|| "the connection's url is no http address".to_owned())
}

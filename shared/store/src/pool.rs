//! The connection pool and its limits.

pub(crate) mod fitness;

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};

use crate::{Error, address};

/// Cheap to clone; all clones share the same connections.
pub type Pool = PgPool;

/// How to reach Postgres and how much of it to use.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `postgres://user:password@host:port/database`.
    pub url: SecretString,
    /// With batched claims no connection is held during a partner call, so a few suffice.
    #[serde(default = "default_max_connections")]
    pub max_connections: u32,
    #[serde(default = "default_acquire_timeout_ms")]
    pub acquire_timeout_ms: u64,
    /// A statement that runs longer is ended by the server.
    #[serde(default = "default_statement_timeout_ms")]
    pub statement_timeout_ms: u64,
    /// What `pg_stat_activity` shows, unless the address says otherwise.
    #[serde(default = "default_application_name")]
    pub application_name: String,
}

fn default_max_connections() -> u32 {
    8
}
fn default_acquire_timeout_ms() -> u64 {
    5_000
}
fn default_statement_timeout_ms() -> u64 {
    15_000
}
fn default_application_name() -> String {
    "kurir".to_owned()
}

impl Settings {
    pub fn new(url: SecretString) -> Self {
        Self {
            url,
            max_connections: default_max_connections(),
            acquire_timeout_ms: default_acquire_timeout_ms(),
            statement_timeout_ms: default_statement_timeout_ms(),
            application_name: default_application_name(),
        }
    }
}

/// First pause between two tries to connect, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A connection that lay idle for longer is asked whether it still lives before it is used. A younger one was asked when
/// it was given back: to ask again would add a round trip to each of an event's three. Unless a session was lost since.
pub const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// A pool that has proven one connection. With `patience` an unreachable server is tried again until that time is
/// over; a wrong password or database is an error at once.
pub async fn connect(settings: &Settings, patience: Duration) -> Result<Pool, Error> {
    connect_reporting(settings, patience, |_error| ()).await
}

/// As [`connect`]; `tell` hears of every try that failed and is repeated.
pub async fn connect_reporting(
    settings: &Settings,
    patience: Duration,
    tell: impl Fn(&Error),
) -> Result<Pool, Error> {
    let options = options(settings)?;
    let started = tokio::time::Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let tried = pool(settings)
            .connect_with(options.clone())
            .await
            .map_err(Error::from);
        match tried {
            Ok(pool) => return Ok(pool),
            Err(error) if error.is_transient() && started.elapsed() + pause < patience => {
                tracing::warn!(error = %error.with_causes(), "database not reachable yet");
                tell(&error);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
}

fn options(settings: &Settings) -> Result<PgConnectOptions, Error> {
    let options = address::options(settings.url.expose_secret())
        .map_err(|problem| Error::Invalid(format!("the database's address {problem}")))?;
    let options = match options.get_application_name() {
        Some(_given) => options,
        None => options.application_name(&settings.application_name),
    };
    let given = options.get_options().unwrap_or_default().to_owned();
    let ours = [
        (
            "statement_timeout",
            settings.statement_timeout_ms.to_string(),
        ),
        // Our statements are short: to compile one takes longer than to run it.
        ("jit", "off".to_owned()),
    ];
    Ok(options.options(ours.into_iter().filter(|(name, _)| !given.contains(name))))
}

/// Gives out sessions that live and may write.
fn pool(settings: &Settings) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(settings.max_connections)
        .acquire_timeout(Duration::from_millis(settings.acquire_timeout_ms))
        .test_before_acquire(false)
        .before_acquire(|connection, about| {
            Box::pin(async move {
                if fitness::is_unfit(about.age) {
                    return Ok(false);
                }
                if about.idle_for > TRUSTED_FOR || fitness::is_doubtful(about.idle_for) {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .after_release(|_connection, about| {
            Box::pin(async move { Ok(!fitness::is_unfit(about.age)) })
        })
}

/// One cheap question: readiness asks it.
///
/// # Errors
/// The database does not answer, or may only be read: sessions that were open until now are closed then.
pub async fn ping(pool: &Pool) -> Result<(), Error> {
    let read_only: String = sqlx::query_scalar("show transaction_read_only")
        .fetch_one(pool)
        .await?;
    if read_only == "on" {
        fitness::saw_read_only();
        return Err(Error::ReadOnly);
    }
    Ok(())
}

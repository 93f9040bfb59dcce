//! Why an operation did not do what was asked, and what a person does next.

use std::fmt;

/// What kind of failure it is: a command line makes an exit code of it, an API a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The message says why.
    Failed,
    /// What was named does not exist.
    NotFound,
    /// It contradicts what is stored, or the input is not valid.
    Refused,
    /// It was not said clearly what is meant.
    Usage,
    /// Database or partner cannot be reached; later it may work.
    Unavailable,
    /// The settings have mistakes.
    Configuration,
}

/// An operation that did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub kind: Kind,
    pub message: String,
    /// What to do next, where that can be known.
    pub next: Option<String>,
}

impl Failed {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            next: None,
        }
    }

    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failed {}

impl From<store::Error> for Failed {
    fn from(error: store::Error) -> Self {
        let message = error.with_causes();
        match error {
            store::Error::Unavailable(_) | store::Error::Transient(_) => Self::new(Kind::Unavailable, message)
                .next("check KURIR_DATABASE_URL and that Postgres runs (`make dev` starts a local one)"),
            store::Error::ReadOnly => Self::new(Kind::Unavailable, message).next(
                "point KURIR_DATABASE_URL to the primary, or wait until it takes changes again; `kurir doctor` says why it does not",
            ),
            store::Error::Untrusted { why, .. } => {
                Self::new(Kind::Unavailable, "the database cannot be reached").next(why)
            }
            store::Error::Conflict(_) | store::Error::Invalid(_) => Self::new(Kind::Refused, message),
            store::Error::Missing { what, .. } => {
                let failed = Self::new(Kind::NotFound, message);
                match listing(what) {
                    Some(command) => failed.next(format!("`{command}` shows what there is")),
                    None => failed,
                }
            }
            store::Error::Sealed(_) => Self::new(Kind::Configuration, message)
                .next("keys.ring must hold the key that sealed them; `kurir config` shows the ids that are there"),
            store::Error::NoEntry(_) => Self::new(Kind::Failed, message)
                .next("check user, password and database in KURIR_DATABASE_URL; `psql` with the same address says more"),
            store::Error::Refused(_) => Self::new(Kind::Failed, message)
                .next("if the database is older than this binary, run `kurir migrate`"),
            store::Error::Migration(_) => Self::new(Kind::Failed, message).next(
                "the database was made by another build; a local one without data worth keeping goes with `make clean`",
            ),
            store::Error::Unreadable(_) => Self::new(Kind::Failed, message),
            store::Error::Closing => Self::new(Kind::Unavailable, message),
        }
    }
}

fn listing(what: &str) -> Option<&'static str> {
    Some(match what {
        "tenant" => "kurir tenant list",
        "token" => "kurir token list",
        "connection" => "kurir connection list",
        "held event" => "kurir held list",
        "dead letter" => "kurir dead-letters list",
        "replay" => "kurir dead-letters replays list",
        "link" => "kurir links list",
        _ => return None,
    })
}

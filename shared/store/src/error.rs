//! Why the store could not do it, by what the caller can do about it.

use sqlx::error::DatabaseError;
use trust::Refusal;

use crate::pool::fitness;

/// Errors of the store. `is_transient` says whether the same call may succeed later by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server cannot be reached, is starting, stopping or out of connections: wait.
    #[error("the database cannot be reached")]
    Unavailable(#[source] sqlx::Error),
    /// It answers, and may only be read: a standby, or one that is kept from changes for a while. The sessions that saw it
    /// are closed; wait.
    #[error("the database is read-only")]
    ReadOnly,
    /// It is not believed: its certificate, or no TLS where the address asks for it. The text names what to set.
    #[error("the database cannot be reached: {why}")]
    Untrusted {
        why: &'static str,
        #[source]
        source: sqlx::Error,
    },
    /// Lost against a concurrent transaction, or took longer than the statement time-out: repeat.
    #[error("the database asks to repeat the statement")]
    Transient(#[source] sqlx::Error),
    /// It contradicts what is stored; the text says what, for the person who asked.
    #[error("{0}")]
    Conflict(String),
    /// No such row, or none in the caller's scope.
    #[error("no {what} '{id}'")]
    Missing { what: &'static str, id: String },
    /// It lets this user, or this password, not in, or has no such database; the text says which. Waiting does not help.
    #[error("the database lets nobody in: {0}")]
    NoEntry(String),
    /// The argument cannot be stored.
    #[error("{0}")]
    Invalid(String),
    #[error("the credentials cannot be read")]
    Sealed(#[from] crate::sealing::Error),
    #[error("the database's schema cannot be brought up to date")]
    Migration(#[source] sqlx::migrate::MigrateError),
    /// A statement of ours is wrong, or the schema is not the one it was written for.
    #[error("the database refused a statement")]
    Refused(#[source] sqlx::Error),
    /// A function answered what this build does not understand: migrations of another version.
    #[error("the database's answer is not understood: {0}")]
    Unreadable(String),
    /// The process is ending: nothing was asked.
    #[error("the store is closing")]
    Closing,
}

impl Error {
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unavailable(_) | Self::ReadOnly | Self::Untrusted { .. } | Self::Transient(_)
        )
    }

    pub(crate) fn missing(what: &'static str, id: impl ToString) -> Self {
        Self::Missing {
            what,
            id: id.to_string(),
        }
    }

    /// The error and its causes, for a log line or a port that carries only text.
    pub fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(inner) = cause {
            text.push_str(": ");
            text.push_str(&inner.to_string());
            cause = inner.source();
        }
        text
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) => match trust::refusal(&error) {
                Some(refusal) => Self::Untrusted {
                    why: untrusted(refusal),
                    source: error,
                },
                None => {
                    fitness::saw_lost();
                    Self::Unavailable(error)
                }
            },
            sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            // A server that cannot even begin a session, for want of memory or processes, answers outside the protocol.
            | sqlx::Error::Protocol(_) => Self::Unavailable(error),
            sqlx::Error::Database(refusal) => match Class::of(refusal.code().as_deref()) {
                Class::Unavailable => Self::Unavailable(error),
                Class::Lost => {
                    fitness::saw_lost();
                    Self::Unavailable(error)
                }
                Class::ReadOnly => {
                    fitness::saw_read_only();
                    Self::ReadOnly
                }
                Class::Transient => Self::Transient(error),
                Class::NoEntry => Self::NoEntry(no_entry(refusal.as_ref())),
                Class::Refused => Self::Refused(error),
            },
            _ => Self::Refused(error),
        }
    }
}

/// What helps against it.
fn untrusted(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Unknown => {
            "its certificate is signed by an authority that is not believed here: add sslrootcert=<PEM file with that authority's certificate> to database.url"
        }
        Refusal::OtherHost => {
            "its certificate is not for the host that database.url names: use the name that stands in the certificate"
        }
        Refusal::Expired | Refusal::Unusable | Refusal::NotTls | Refusal::WantsCertificate => {
            refusal.what()
        }
    }
}

impl From<Error> for worker::PortError {
    fn from(error: Error) -> Self {
        Self(error.with_causes())
    }
}

/// In plain words, and the server's own for whoever looks it up.
fn no_entry(refusal: &dyn DatabaseError) -> String {
    let said = refusal.message();
    let plain = match refusal.code().as_deref() {
        Some("28P01") => "user or password was refused",
        Some("3D000") => "there is no such database",
        _ => "the user was refused",
    };
    format!("{plain} ({said})")
}

#[derive(Debug, PartialEq, Eq)]
enum Class {
    NoEntry,
    Unavailable,
    /// As `Unavailable`: the session is gone, and others may be.
    Lost,
    ReadOnly,
    Transient,
    Refused,
}

impl Class {
    /// By SQLSTATE (PostgreSQL manual, appendix A).
    fn of(code: Option<&str>) -> Self {
        match code {
            // A server that may only be read: a standby after a fail-over.
            Some("25006") => Self::ReadOnly,
            // The session was ended: shutdown, crash of another, its transaction or it itself stood still too long.
            Some("57P01" | "57P02" | "57P05" | "25P03" | "25P04") => Self::Lost,
            Some(code) if code.starts_with("08") => Self::Lost,
            // Start-up; too few resources; a database closed for a while (55000, which no statement of ours raises).
            Some("57P03" | "55000") => Self::Unavailable,
            Some(code) if code.starts_with("53") => Self::Unavailable,
            // Serialization failure, deadlock, lock not available, statement time-out.
            Some("40001" | "40P01" | "55P03" | "57014") => Self::Transient,
            // Invalid authorization, invalid catalogue name: only a login is answered so.
            Some("3D000") => Self::NoEntry,
            Some(code) if code.starts_with("28") => Self::NoEntry,
            _ => Self::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classifies_by_what_helps() {
        for (code, class) in [
            ("25006", Class::ReadOnly),
            ("57P01", Class::Lost),
            ("57P02", Class::Lost),
            ("57P05", Class::Lost),
            ("08006", Class::Lost),
            ("57P03", Class::Unavailable),
            ("53300", Class::Unavailable),
            ("40P01", Class::Transient),
            ("57014", Class::Transient),
            ("23505", Class::Refused),
            ("42703", Class::Refused),
            ("28P01", Class::NoEntry),
            ("28000", Class::NoEntry),
            ("3D000", Class::NoEntry),
        ] {
            assert_eq!(Class::of(Some(code)), class, "{code}");
        }
    }

    #[test]
    fn a_server_that_answers_outside_the_protocol_is_waited_for() {
        let said = "unexpected response from SSLRequest: 0x45".to_owned();
        assert!(Error::from(sqlx::Error::Protocol(said)).is_transient());
    }
}

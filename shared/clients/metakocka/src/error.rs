//! What an answer, or its absence, means for the caller (contract §1.5, §1.6).

use std::fmt;
use std::time::{Duration, Instant};

use outbound::NotSent;

/// Why a call brought no result. Texts are redacted and bounded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Provably never left. Most of these pass by themselves; `Address`, `Tls` and `Request` are mistakes in settings.
    #[error("metakocka was not reached, {kind}: {text}")]
    NotSent { kind: NotSent, text: String },
    /// Our own limits of this connection; never left. Try again at `until`.
    #[error("metakocka was not called, {reason}")]
    Limited { until: Instant, reason: String },
    /// We don't send this: Metakocka would cut it, refuse it or take it for something else.
    #[error("{field} {problem}")]
    Invalid {
        field: &'static str,
        problem: String,
    },
    /// A refusal on the list of §1.5 under which nothing is stored. The same request stays refused.
    #[error("metakocka refused with code {code}: {text}")]
    Refused { code: Code, text: String },
    /// HTTP 404: under this root there is no such call; nothing is stored.
    #[error("metakocka has no such call under this root: {text}")]
    NoSuchCall { text: String },
    /// Codes 3 and 4, HTTP 401 and 403: nothing is stored, and no call of this connection will work.
    #[error("metakocka refused the credentials: {text}")]
    Credentials { text: String },
    /// Code 5 with a quota text, HTTP 429: nothing is stored; the whole connection should stay away this long.
    #[error("the quota at metakocka is used up: {text}")]
    Quota {
        retry_after: Duration,
        /// Metakocka named the time; else it is the setting `quota_backoff`.
        named: bool,
        text: String,
    },
    /// Writes only: it may have been stored, or will be within the settle time. Look it up, never repeat it blindly.
    #[error("metakocka may have stored it, {doubt}: {text}")]
    Ambiguous { doubt: Doubt, text: String },
    /// Reads only: try again later.
    #[error("metakocka could not be read, {doubt}: {text}")]
    Transient {
        doubt: Doubt,
        retry_after: Option<Duration>,
        text: String,
    },
    /// Reads only: a code that isn't known. A person should look (§1.5: the number alone never identifies the cause).
    #[error("metakocka answered with unknown code {code}: {text}")]
    Unlisted { code: Code, text: String },
    /// A look-up that would not end within the limit of pages.
    #[error("more than {hits} partners fit the search")]
    TooManyHits { hits: usize },
}

/// What may be on Metakocka's side after an error of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    Nothing,
    Unknown,
}

impl Error {
    pub fn stored(&self) -> Stored {
        match self {
            Self::Ambiguous { .. } => Stored::Unknown,
            Self::NotSent { .. }
            | Self::Limited { .. }
            | Self::Invalid { .. }
            | Self::Refused { .. }
            | Self::NoSuchCall { .. }
            | Self::Credentials { .. }
            | Self::Quota { .. }
            | Self::Transient { .. }
            | Self::Unlisted { .. }
            | Self::TooManyHits { .. } => Stored::Nothing,
        }
    }
}

/// `opr_code`, with `opr_code_app` where there is one; an HTTP status without a code as `http 400`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    pub number: String,
    pub app: Option<String>,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.app {
            Some(app) => write!(f, "{}/{app}", self.number),
            None => f.write_str(&self.number),
        }
    }
}

/// Why nothing is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    #[error("no whole answer in time")]
    TimedOut,
    #[error("connection lost")]
    ConnectionLost,
    #[error("answer broken off, malformed or too large")]
    Broken,
    #[error("http status {0}")]
    Status(u16),
    #[error("answer isn't metakocka's json")]
    Garbled,
    #[error("answer without its payload")]
    NoPayload,
    #[error("code {0}")]
    Code(Code),
}

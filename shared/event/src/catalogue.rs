//! Every event type Kurir knows: its short name, its kind and its routing.

use std::fmt;

/// What may be done with an event when several of one record meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Carries the whole record: only the newest counts. A tombstone says that the record is gone.
    State { tombstone: bool },
    /// Happened once and never changes.
    Fact,
    /// Only says "look": the record is read again under the lease.
    Hint,
    /// `sync.requested.v1`: asks the worker named in it; never routed by topic.
    Request,
}

/// A known type. Later workers add their rows here; nothing else matches on the text of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventType {
    CrmContactCreated,
    CrmContactUpdated,
    CrmContactDeleted,
    SyncRequested,
    SyncCompleted,
    SyncFailed,
}

impl EventType {
    pub const ALL: [Self; 6] = [
        Self::CrmContactCreated,
        Self::CrmContactUpdated,
        Self::CrmContactDeleted,
        Self::SyncRequested,
        Self::SyncCompleted,
        Self::SyncFailed,
    ];

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == text)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::CrmContactCreated => "crm.contact.created.v1",
            Self::CrmContactUpdated => "crm.contact.updated.v1",
            Self::CrmContactDeleted => "crm.contact.deleted.v1",
            Self::SyncRequested => "sync.requested.v1",
            Self::SyncCompleted => "sync.completed.v1",
            Self::SyncFailed => "sync.failed.v1",
        }
    }

    /// What has happened, in one sentence: the description of its schema.
    pub fn description(self) -> &'static str {
        match self {
            Self::CrmContactCreated => {
                "A contact was created in the CRM. Carries the whole record (state event)."
            }
            Self::CrmContactUpdated => {
                "A contact was changed in the CRM. Carries the whole record (state event)."
            }
            Self::CrmContactDeleted => {
                "A contact was deleted in the CRM, or merged into another one (state event)."
            }
            Self::SyncRequested => {
                "Kurir asks one of its workers to look at a link. Never published by others."
            }
            Self::SyncCompleted => {
                "A record arrived at its target system (fact). Nothing publishes it yet; it will be Kurir alone."
            }
            Self::SyncFailed => {
                "A record did not arrive and waiting will not help (fact). Nothing publishes it yet; it will be Kurir alone."
            }
        }
    }

    /// Whether `text` is a later major version of a known type: `crm.contact.created.v2`.
    pub fn is_newer_major(text: &str) -> bool {
        let split = |name: &str| {
            let (base, major) = name.rsplit_once(".v")?;
            let digits = !major.is_empty()
                && major.bytes().all(|byte| byte.is_ascii_digit())
                && !major.starts_with('0');
            // A number too long for an integer is newer than any.
            digits.then(|| (base.to_owned(), major.parse::<u64>().unwrap_or(u64::MAX)))
        };
        let Some((base, major)) = split(text) else {
            return false;
        };
        Self::ALL
            .into_iter()
            .filter_map(|known| split(known.as_str()))
            .any(|(of, newest)| of == base && major > newest)
    }

    pub fn kind(self) -> Kind {
        match self {
            Self::CrmContactCreated | Self::CrmContactUpdated => Kind::State { tombstone: false },
            Self::CrmContactDeleted => Kind::State { tombstone: true },
            Self::SyncRequested => Kind::Request,
            Self::SyncCompleted | Self::SyncFailed => Kind::Fact,
        }
    }

    /// Whether an upstream app may publish it; the rest is written by Kurir's own roles.
    pub fn publishable(self) -> bool {
        matches!(
            self,
            Self::CrmContactCreated | Self::CrmContactUpdated | Self::CrmContactDeleted
        )
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

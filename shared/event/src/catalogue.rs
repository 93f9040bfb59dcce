//! Every event type Kurir knows, one row each. Whatever depends on which types there are asks here.

use std::fmt;

use schemars::{Schema, SchemaGenerator};
use serde::Deserialize as _;
use serde_json::Value;

use crate::payload::{self, Payload};

/// What may be done with an event when several of one record meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Carries the whole record: only the newest counts. A tombstone says that the record is gone.
    State { tombstone: bool },
    /// Happened once and never changes.
    Fact,
    /// Only says "look": the record is read again under the lease.
    Hint,
    /// `sync.requested.v1`: asks the worker named in it; never routed by topic.
    Request,
}

/// Who writes an event type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publisher {
    /// An upstream app, at the gateway or at the broker.
    App,
    /// Kurir's gateway, out of another system's webhook.
    Webhook,
    /// One of Kurir's own roles.
    Kurir,
}

/// All there is to say about one event type.
struct Row {
    name: &'static str,
    kind: EventKind,
    /// First part of the subject. None: the payload names the entity.
    entity: Option<&'static str>,
    publisher: Publisher,
    description: &'static str,
    read: fn(&Value) -> Result<Payload, serde_json::Error>,
    schema: fn(&mut SchemaGenerator) -> Schema,
}

/// One row per type; the payload's name is the variant of [`Payload`] and the type in it.
macro_rules! catalogue {
    ($($event_type:ident {
        name: $name:literal,
        kind: $kind:expr,
        entity: $entity:expr,
        publisher: $publisher:ident,
        payload: $payload:ident,
        description: $description:literal,
    })*) => {
        /// A known type. Later workers add their rows below; nothing else matches on the text of a type.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum EventType {
            $(#[doc = $description] $event_type,)*
        }

        impl EventType {
            pub const ALL: &[Self] = &[$(Self::$event_type),*];

            fn row(self) -> &'static Row {
                match self {
                    $(Self::$event_type => const {
                        &Row {
                            name: $name,
                            kind: $kind,
                            entity: $entity,
                            publisher: Publisher::$publisher,
                            description: $description,
                            read: |data| {
                                payload::$payload::deserialize(data)
                                    .map(|data| Payload::$payload(Box::new(data)))
                            },
                            schema: SchemaGenerator::subschema_for::<payload::$payload>,
                        }
                    },)*
                }
            }
        }
    };
}

catalogue! {
    CrmContactCreated {
        name: "crm.contact.created.v1",
        kind: EventKind::State { tombstone: false },
        entity: Some("contact"),
        publisher: App,
        payload: ContactSaved,
        description: "A contact was created in the CRM. Carries the whole record (state event).",
    }
    CrmContactUpdated {
        name: "crm.contact.updated.v1",
        kind: EventKind::State { tombstone: false },
        entity: Some("contact"),
        publisher: App,
        payload: ContactSaved,
        description: "A contact was changed in the CRM. Carries the whole record (state event).",
    }
    CrmContactDeleted {
        name: "crm.contact.deleted.v1",
        kind: EventKind::State { tombstone: true },
        entity: Some("contact"),
        publisher: App,
        payload: ContactDeleted,
        description: "A contact was deleted in the CRM, or merged into another one (state event).",
    }
    SyncRequested {
        name: "sync.requested.v1",
        kind: EventKind::Request,
        entity: Some("link"),
        publisher: Kurir,
        payload: SyncRequested,
        description: "Kurir asks one of its workers to look at a link. Never published by others.",
    }
    SyncCompleted {
        name: "sync.completed.v1",
        kind: EventKind::Fact,
        entity: None,
        publisher: Kurir,
        payload: SyncCompleted,
        description: "A record arrived at its target system (fact). Published by Kurir alone, on the exchange of outcomes.",
    }
    SyncFailed {
        name: "sync.failed.v1",
        kind: EventKind::Fact,
        entity: None,
        publisher: Kurir,
        payload: SyncFailed,
        description: "A record did not arrive and waiting will not help (fact). Published by Kurir alone, on the exchange of outcomes.",
    }
}

impl EventType {
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|known| known.as_str() == text)
    }

    /// Its short name, as the attribute `type` has it.
    pub fn as_str(self) -> &'static str {
        self.row().name
    }

    /// What has happened, in one sentence: the description of its schema.
    pub fn description(self) -> &'static str {
        self.row().description
    }

    pub fn kind(self) -> EventKind {
        self.row().kind
    }

    /// What it is about: first part of the subject. None: the payload says it.
    pub fn entity(self) -> Option<&'static str> {
        self.row().entity
    }

    pub fn publisher(self) -> Publisher {
        self.row().publisher
    }

    /// `data` of this type. The schema says more than serde does, so it is asked first.
    pub(crate) fn read(self, data: &Value) -> Result<Payload, serde_json::Error> {
        (self.row().read)(data)
    }

    /// The schema of `data`.
    pub(crate) fn data_schema(self, generator: &mut SchemaGenerator) -> Schema {
        (self.row().schema)(generator)
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
            .iter()
            .filter_map(|known| split(known.as_str()))
            .any(|(of, newest)| of == base && major > newest)
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

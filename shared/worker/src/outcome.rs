//! The four things that can happen to a delivery, and the closed lists that name why.

use std::fmt;

use chrono::{DateTime, Utc};

use crate::policy::RetryTier;

macro_rules! names {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vmeta])* $variant),+ }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Stable: stored in rows, headers and metric labels.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.as_str() == text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(self.as_str()) }
        }
    };
}

names! {
    /// Why nothing more is to be done.
    AckReason {
        Applied = "applied",
        /// The record already holds this content: a repeat or an echo.
        Unchanged = "unchanged",
        Duplicate = "duplicate",
        Superseded = "superseded",
        /// A later generation of the event exists, or this one is already in the ledger.
        Stale = "stale",
        AlreadyDone = "already_done",
        AlreadyHeld = "already_held",
        Held = "held",
        Disabled = "disabled",
        Deleted = "deleted",
        Resolved = "resolved",
        Rechecked = "rechecked",
        FannedOut = "fanned_out",
    }
}

names! {
    /// Why an event waits in `held`.
    HoldCause {
        Budget = "budget",
        Suspended = "suspended",
        Circuit = "circuit",
        Prerequisite = "prerequisite",
        NoConnection = "no_connection",
        Poison = "poison",
        Panic = "panic",
        Conflict = "conflict",
        WaitExpired = "wait_expired",
        AppendUnknown = "append_unknown",
    }
}

impl HoldCause {
    /// Held for a person: the link falls back to older content, and only a hand releases it (docs/holds.md).
    pub fn needs_a_person(self) -> bool {
        matches!(
            self,
            Self::Poison | Self::Panic | Self::WaitExpired | Self::AppendUnknown
        )
    }
}

names! {
    /// Class of a dead letter, or of the failure that an attempt ended with.
    DeadClass {
        Malformed = "malformed",
        SpecVersion = "spec_version",
        Schema = "schema",
        TooLarge = "too_large",
        UnknownType = "unknown_type",
        NewerMajor = "newer_major",
        TenantMismatch = "tenant_mismatch",
        UnknownTenant = "unknown_tenant",
        IdMismatch = "id_mismatch",
        /// A copy for a connection that its tenant does not have at this system.
        WrongConnection = "wrong_connection",
        Loop = "loop",
        FutureVersion = "future_version",
        VersionScheme = "version_scheme",
        /// The partner said no, and said that nothing was stored.
        Refused = "refused",
        /// The event's data cannot be expressed at the partner.
        Unmappable = "unmappable",
        Exhausted = "exhausted",
        DeliveryLimit = "delivery_limit",
        /// As `delivery_limit`, where nothing shows that it was this event: replayed once by the keeper.
        CrashNeighbour = "crash_neighbour",
        /// Its publisher let it live for a limited time, and no worker took it before that ended.
        Expired = "expired",
        /// The partner could not be reached, or failed.
        Unavailable = "unavailable",
        RateLimited = "rate_limited",
        /// The call may have happened; the answer was lost.
        Unknown = "unknown",
        Timeout = "timeout",
        Internal = "internal",
    }
}

/// What a held event waits for, where its cause alone does not say it. The keeper releases it once this is so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// Another record is linked at the event's connection.
    Record {
        kind: String,
        source_system: String,
        source_account: String,
        source_id: String,
    },
    /// No other record of this kind owns the natural key at the event's connection.
    Key { kind: String, key: String },
}

/// What to do with the delivery. Made by `decide`, carried out by the broker's settle.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Ack(AckReason),
    RetryLater {
        retry_tier: RetryTier,
        /// A failed call counts as an attempt; a wait does not.
        counted: bool,
        /// A copy that returns before this goes on to the next fitting retry tier.
        due: Option<DateTime<Utc>>,
        class: DeadClass,
        reason: String,
    },
    Hold {
        cause: HoldCause,
        epoch: Option<i64>,
        reason: String,
        /// Not before this, where the cause tells a time (budget, circuit).
        release_at: Option<DateTime<Utc>>,
        waits_for: Option<Box<WaitsFor>>,
    },
    DeadLetter {
        class: DeadClass,
        fingerprint: String,
        reason: String,
    },
}

impl Outcome {
    /// The word for it in log lines and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Ack(_) => "ack",
            Self::RetryLater { counted: true, .. } => "retry",
            Self::RetryLater { counted: false, .. } => "wait",
            Self::Hold { .. } => "hold",
            Self::DeadLetter { .. } => "dead_letter",
        }
    }
}

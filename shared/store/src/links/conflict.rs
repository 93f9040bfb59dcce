//! The kinds of conflict, as the column `link.conflict_cause` keeps them: what ends one depends on its kind, never on its
//! text.

use serde::{Deserialize, Serialize};

/// Why a link waits for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConflictCause {
    /// A natural key of its content belongs to another link.
    KeyTaken,
    /// Several records of the partner carry its key.
    SeveralRecords,
    /// The partner's record that carries its key is another link's.
    RecordTaken,
    /// The partner does not show the linked record any more. Ends by itself when it is seen again.
    Gone,
    /// Beside the linked record another one carries its key.
    SecondRecord,
    /// The partner has a record, and nothing that made it was ever confirmed.
    Orphan,
    /// The record has two equal parts, one of a call that was given up.
    PartTwice,
    /// A create that was given up has been answered after all.
    LateCreate,
    /// A create may have happened, and nothing finds what it made.
    UnclearCreate,
    /// A look at the record ended its process three times.
    RecheckFailed,
}

impl ConflictCause {
    pub const ALL: [Self; 10] = [
        Self::KeyTaken,
        Self::SeveralRecords,
        Self::RecordTaken,
        Self::Gone,
        Self::SecondRecord,
        Self::Orphan,
        Self::PartTwice,
        Self::LateCreate,
        Self::UnclearCreate,
        Self::RecheckFailed,
    ];

    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::KeyTaken => "key_taken",
            Self::SeveralRecords => "several_records",
            Self::RecordTaken => "record_taken",
            Self::Gone => "gone",
            Self::SecondRecord => "second_record",
            Self::Orphan => "orphan",
            Self::PartTwice => "part_twice",
            Self::LateCreate => "late_create",
            Self::UnclearCreate => "unclear_create",
            Self::RecheckFailed => "recheck_failed",
        }
    }

    /// `None`: a kind of a later build.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == text)
    }
}

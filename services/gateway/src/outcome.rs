//! What became of an event that may be published.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Confirmed by the broker: it will not be lost.
    Accepted,
    /// Not on the bus: send it again.
    NotPublished,
    /// Perhaps on the bus: send it again, with the same id.
    Unknown,
    /// Can't be put on the bus, now or later: don't send it again.
    Unpublishable,
}

impl Outcome {
    pub(crate) const ALL: [Self; 4] = [
        Self::Accepted,
        Self::NotPublished,
        Self::Unknown,
        Self::Unpublishable,
    ];

    /// As it is written in answers, and counted.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::NotPublished => "not_published",
            Self::Unknown => "unknown",
            Self::Unpublishable => "unpublishable",
        }
    }
}

//! What one link's content names of other links.

use serde::{Deserialize, Serialize};

use super::rows::LinkKey;

/// A record of a source whose link is needed, at the connection of the link that names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reference {
    pub kind: String,
    pub source_system: String,
    pub source_account: String,
    pub source_id: String,
}

impl Reference {
    /// Whether it names that very link.
    pub fn is_of(&self, link: &LinkKey) -> bool {
        self.kind == link.kind
            && self.source_system == link.source_system
            && self.source_account == link.source_account
            && self.source_id == link.source_id
    }
}

/// A reference whose link is usable: linked, or merged into one that is, and in no conflict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoundReference {
    #[serde(flatten)]
    pub reference: Reference,
    pub link: i64,
    pub target_id: String,
}

/// As it stands in an effect and at the link that it was sent for: the id that left, of that link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SentReference {
    pub link: i64,
    pub target_id: String,
}

impl From<&FoundReference> for SentReference {
    fn from(found: &FoundReference) -> Self {
        Self {
            link: found.link,
            target_id: found.target_id.clone(),
        }
    }
}

//! Dead letters as people find, read, repair and replay them. They are written by the ledger's statement (`links`).
//! Surprising: what became of a replayed dead letter is written by nobody here; its item follows the dead letter's row by a
//! trigger (`follow_replay`), in the transaction that moves the dead letter.

mod counts;
mod edit;
mod export;
mod filter;
mod groups;
mod list;
pub mod replay;
mod resolve;
mod show;

use chrono::{DateTime, Utc};
use uuid::Uuid;

pub use counts::{Count, counts, open_since};
pub use edit::{Edit, Edited, checked, edit};
pub use export::{EXPORT_PAGE, Exported, export};
pub use filter::{Filter, IDS_LIMIT};
pub use groups::{Group, groups};
pub use list::{After, list};
pub use resolve::{Change, RESOLVE_STEP, Resolved, matching, reopen, resolve};
pub use show::{ConnectionNow, HISTORY_LIMIT, Happened, Message, ReplayOf, Timeline, show};

use crate::row::{StoredKey, row};

row! {
    /// A dead letter without its message.
    pub struct DeadLetter {
        pub id: Uuid,
        pub worker: String,
        pub tenant: Option<String>,
        pub connection_id: Option<Uuid>,
        /// What of the event died, where its worker makes several things of it; none: its entity, or all of them.
        pub facet: Option<String>,
        pub source: Option<String>,
        pub event_id: Option<String>,
        pub event_type: Option<String>,
        pub subject: Option<String>,
        pub link_id: Option<i64>,
        pub k: Option<StoredKey>,
        pub state: String,
        /// Replays so far.
        pub generation: i32,
        pub deaths: i32,
        pub class: String,
        pub fingerprint: String,
        pub message: Option<String>,
        pub trace_id: Option<String>,
        pub first_at: DateTime<Utc>,
        pub last_at: DateTime<Utc>,
        pub resolved_by: Option<String>,
        pub resolved_at: Option<DateTime<Utc>>,
        pub note: Option<String>,
    }
}

/// The columns of a [`DeadLetter`].
const COLUMNS: &str = "id, worker, tenant, connection_id, facet, source, event_id, type as event_type, subject, link_id, k, state,
    generation, deaths, class, fingerprint, message, trace_id, first_at, last_at, resolved_by, resolved_at,
    coalesce('held: ' || held_for, note) as note";

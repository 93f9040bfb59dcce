//! Arguments of `kurir held`.

use clap::{Args, Subcommand};
use event::TenantId;
use uuid::Uuid;

use super::{LIST_LIMIT, cause, connection_id, limit, tenant};
use crate::output::Output;

/// Which held events.
#[derive(Debug, Args)]
pub(crate) struct HeldFilter {
    /// Only of this tenant
    #[arg(long, value_parser = tenant)]
    pub(crate) tenant: Option<TenantId>,
    /// Only for this worker
    #[arg(long, value_parser = crate::fleet::worker_names())]
    pub(crate) worker: Option<String>,
    /// Why they wait, for example no_connection, suspended, poison
    #[arg(long, value_parser = cause)]
    pub(crate) cause: Option<worker::HoldCause>,
    /// Only events of this type
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) event_type: Option<String>,
    /// The record's id at its source: `512` or `contact/512`
    #[arg(long, value_name = "ID")]
    pub(crate) record: Option<String>,
    /// Only for this connection
    #[arg(long, value_name = "ID", value_parser = connection_id)]
    pub(crate) connection: Option<Uuid>,
    /// Contained in subject, event id or detail
    #[arg(long)]
    pub(crate) text: Option<String>,
}

impl HeldFilter {
    /// Whether it leaves anything out; the tenant is a scope besides.
    pub(crate) fn names_something(&self) -> bool {
        self.worker.is_some()
            || self.cause.is_some()
            || self.event_type.is_some()
            || self.record.is_some()
            || self.connection.is_some()
            || self.text.is_some()
    }
}

/// One held event, those of a filter, or all.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Id of one held event; --tenant says whose it must be
    #[arg(conflicts_with_all = ["worker", "cause", "event_type", "record", "connection", "text"])]
    pub(crate) id: Option<i64>,
    #[command(flatten)]
    pub(crate) filter: HeldFilter,
    /// Every held event of every tenant
    #[arg(long, conflicts_with_all = ["id", "tenant", "worker", "cause", "event_type", "record", "connection", "text"])]
    pub(crate) all: bool,
    /// Who does it, for the history
    #[arg(long, default_value = "kurir cli", env = "USER", hide_env = true)]
    pub(crate) actor: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Held {
    /// Lists held events, oldest first
    #[command(after_help = "\
Most leave by themselves once their cause is gone; docs/holds.md says which, and what ends each cause.

Example:
  kurir held list --tenant acme --cause no_connection")]
    List {
        #[command(flatten)]
        filter: HeldFilter,
        /// Begins after this id
        #[arg(long, value_name = "ID")]
        after: Option<i64>,
        /// At most so many
        #[arg(long, default_value = LIST_LIMIT, value_parser = limit)]
        limit: i64,
        #[command(flatten)]
        output: Output,
    },
    /// Shows one held event: why it waits, what would let it go, its message
    #[command(after_help = "Example:\n  kurir held show 17")]
    Show {
        /// Id of the held event
        id: i64,
        /// Whose it must be
        #[arg(long, value_parser = tenant)]
        tenant: Option<TenantId>,
        #[command(flatten)]
        output: Output,
    },
    /// Sends held events back to their worker
    #[command(after_help = "\
One by its id, or all that match; --all alone means every one. What is still blocked is held again. What would be
held again at once, because another record has its key, stays, and is named with what helps.

Example:
  kurir held release 17
  kurir held release --tenant acme --cause poison")]
    Release {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        output: Output,
    },
    /// Gives held events up; older content of their records is carried on instead
    #[command(after_help = "\
Each ends as a discarded dead letter, with your note. More than one needs --yes.

Example:
  kurir held discard 17 --note \"a test record\"
  kurir held discard --tenant acme --cause panic --note \"fixed in the source\" --yes")]
    Discard {
        #[command(flatten)]
        which: Which,
        /// Why, for whoever asks later
        #[arg(long)]
        note: String,
        /// Does it even if it is more than one
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        output: Output,
    },
}

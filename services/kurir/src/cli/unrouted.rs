//! Arguments of `kurir unrouted`.

use clap::{Args, Subcommand, ValueEnum};
use event::TenantId;

use super::tenant;
use crate::output::Output;

/// Why no queue took an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Why {
    /// Its worker exists now: `unrouted route` delivers it
    Routable,
    /// A later version of a known type: deploy first
    NewerMajor,
    /// No type of this build
    UnknownType,
    /// A known type that no worker of this build takes
    NoWorker,
    /// Its routing key is not its type and tenant
    WrongKey,
    /// No CloudEvent
    Unreadable,
}

/// Which unrouted events.
#[derive(Debug, Args)]
pub(crate) struct UnroutedFilter {
    /// Only of this tenant
    #[arg(long, value_parser = tenant)]
    pub(crate) tenant: Option<TenantId>,
    /// Only events of this type
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) event_type: Option<String>,
    /// Why no queue took them
    #[arg(long)]
    pub(crate) why: Option<Why>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Unrouted {
    /// Looks at events that no worker's queue took, and puts them back
    #[command(after_help = "\
Reads the queue itself: nothing is lost, their order may change.

Example:
  kurir unrouted list --limit 20")]
    List {
        #[command(flatten)]
        filter: UnroutedFilter,
        /// At most so many are looked at
        #[arg(long, default_value = "50", value_parser = looks)]
        limit: u32,
        #[command(flatten)]
        output: Output,
    },
    /// Publishes those again whose type a worker of this build takes; the others stay
    #[command(after_help = "\
For after a deploy: start the new workers first, they make the bindings. Killed half-way, one event may come twice.

Example:
  kurir unrouted route")]
    Route {
        #[command(flatten)]
        filter: UnroutedFilter,
        /// Who does it, for the audit
        #[arg(long, default_value = "kurir cli", env = "USER", hide_env = true)]
        actor: String,
        #[command(flatten)]
        output: Output,
    },
    /// Removes events for good
    #[command(after_help = "\
One by its event id, or all that match. More than one needs --yes.

Example:
  kurir unrouted drop 7d1f0c52-55a3-4f07-9c60-1d6c9f2c3a10 --note \"sent by a test\"
  kurir unrouted drop --type shop.order.created.v1 --note \"not for us\" --yes")]
    Drop {
        /// Id of the event
        #[arg(conflicts_with_all = ["event_type", "why"], required_unless_present_any = ["tenant", "event_type", "why"])]
        id: Option<String>,
        #[command(flatten)]
        filter: UnroutedFilter,
        /// Why, for whoever asks later
        #[arg(long)]
        note: String,
        /// Does it even if it is more than one
        #[arg(long)]
        yes: bool,
        /// Who does it, for the audit
        #[arg(long, default_value = "kurir cli", env = "USER", hide_env = true)]
        actor: String,
        #[command(flatten)]
        output: Output,
    },
}

fn looks(text: &str) -> Result<u32, String> {
    const MOST: u32 = 10_000;
    text.parse()
        .ok()
        .filter(|limit| (1..=MOST).contains(limit))
        .ok_or_else(|| format!("a number from 1 to {MOST}"))
}

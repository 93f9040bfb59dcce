//! `kurir unrouted`: events that no worker's queue took, in the queue where they are kept. The queue is the only copy: what
//! is not routed or dropped goes back when the command ends, however it ends.

mod inspection;
mod removal;
mod route;

use broker::{Broker, QueueCursor};
use clap::Subcommand;
use event::TenantId;
use operations::count;
use serde_json::json;
use store::{Pool, Scope, audit};

use crate::context::Context;
use crate::exit::Done;
use crate::fleet::{broker, topology};
use crate::output::{Output, Page, table};
use inspection::{Seen, UnroutedFilter, Why, fits, see};
use removal::Removal;
use route::{Routed, route};

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

/// Most messages that one command takes out of the queue; the next one goes on.
const TAKE_LIMIT: usize = 100_000;

impl Unrouted {
    /// Whether it changes something, and says so in the database.
    pub(crate) fn leaves_a_trace(&self) -> bool {
        !matches!(self, Self::List { .. })
    }
}

pub(crate) async fn run(context: &Context, command: Unrouted) -> Done {
    let broker = broker(context, "unrouted").await?;
    let queue = topology(context).unrouted();
    let done = match command {
        Unrouted::List {
            filter,
            limit,
            output,
        } => {
            let (seen, left) = look(&broker, &queue, &filter, limit as usize).await?;
            if seen.is_empty()
                && filter.tenant.is_some()
                && context.settings().database.url.is_some()
            {
                // Refuses a tenant that does not exist. Without a database nobody can tell.
                context.pool().await?;
            }
            let page = Page::looked_at(
                seen,
                left.then(|| format!("only {limit} were looked at, --limit looks at more")),
            );
            output.page(&page, |seen| {
                let heads = ["event", "type", "tenant", "routing key", "why"];
                table(
                    &heads,
                    seen.iter().map(row).collect(),
                    "nothing is unrouted",
                )
            })
        }
        Unrouted::Route {
            filter,
            actor,
            output,
        } => {
            let pool = context.pool().await?;
            let routed = route(context, &broker, &queue, &filter).await?;
            if routed.routed > 0 {
                let detail = json!({ "events": routed.routed });
                trace(
                    &pool,
                    &actor,
                    "unrouted.route",
                    filter.tenant.as_ref(),
                    &detail,
                )
                .await?;
            }
            output.show(&routed, render)
        }
        Unrouted::Drop {
            id,
            filter,
            note,
            yes,
            actor,
            output,
        } => {
            let pool = context.pool().await?;
            let removal = Removal {
                id,
                filter,
                note,
                actor,
                yes,
            };
            let dropped = removal.run(&broker, &queue, &pool).await?;
            output.show(&json!({ "dropped": dropped }), |_| {
                format!("dropped {}", count(dropped, "event"))
            })
        }
    };
    broker.close().await;
    done
}

/// At most `limit` are taken out, and all put back. Also says whether there are more.
async fn look(
    broker: &Broker,
    queue: &str,
    filter: &UnroutedFilter,
    limit: usize,
) -> Done<(Vec<Seen>, bool)> {
    let (ready, _consumers) = broker::depth(broker, queue).await?.unwrap_or_default();
    let cursor = QueueCursor::open(broker, queue).await?;
    let mut found = Vec::new();
    for _ in 0..limit {
        let Some(taken) = cursor.take().await? else {
            break;
        };
        let seen = see(&taken.message);
        if fits(filter, &seen) {
            found.push(seen);
        }
    }
    cursor.close().await;
    Ok((found, ready as usize > limit))
}

async fn trace(
    pool: &Pool,
    actor: &str,
    what: &str,
    tenant: Option<&TenantId>,
    detail: &serde_json::Value,
) -> Done {
    let mut connection = pool.acquire().await.map_err(store::Error::from)?;
    let scope = tenant.map_or(Scope::Everything, Scope::Tenant);
    audit::write(&mut connection, actor, what, scope, detail).await?;
    Ok(())
}

fn row(seen: &Seen) -> Vec<String> {
    let optional = |text: &Option<String>| text.clone().unwrap_or_default();
    let why = match seen.why {
        Why::Routable => "a worker takes it now: `kurir unrouted route`",
        Why::NewerMajor => "a newer version than this build knows: deploy first",
        Why::UnknownType => "no type of this build",
        Why::NoWorker => "no worker of this build takes this type",
        Why::WrongKey => "its routing key is not its type and tenant",
        Why::Unreadable => "no CloudEvent",
    };
    vec![
        optional(&seen.event_id),
        optional(&seen.event_type),
        optional(&seen.tenant),
        seen.routing_key.clone(),
        why.to_owned(),
    ]
}

fn looks(text: &str) -> Result<u32, String> {
    const MOST: u32 = 10_000;
    text.parse()
        .ok()
        .filter(|limit| (1..=MOST).contains(limit))
        .ok_or_else(|| format!("a number from 1 to {MOST}"))
}

fn render(routed: &Routed) -> String {
    let left = match routed.left {
        0 => "none is left".to_owned(),
        left => format!(
            "{} left: `kurir unrouted list` says why",
            count(left, "event")
        ),
    };
    format!("routed {}; {left}", count(routed.routed, "event"))
}

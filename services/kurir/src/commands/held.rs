//! `kurir held`: events that wait until their cause is gone.

mod discard;
mod release;
mod show;

use clap::{Args, Subcommand};
use event::TenantId;
use operations::held::Meant;
use store::Pool;
use store::held::{Filter, Held as Row};
use uuid::Uuid;
use worker::HoldCause;

use crate::context::{Context, scope};
use crate::exit::{Done, Exit, Failed};
use crate::output::{Output, Page, at, one_more, short, table};
use crate::values::{LIST_LIMIT, connection_id, limit, tenant};
use discard::Discard;

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
    Discard(Discard),
}

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
    pub(crate) cause: Option<HoldCause>,
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

const DETAIL_WIDTH: usize = 60;

fn filter(given: &HeldFilter, id: Option<i64>) -> Filter {
    Filter {
        id,
        worker: given.worker.clone(),
        cause: given.cause,
        event_type: given.event_type.clone(),
        record: given.record.clone(),
        connection: given.connection,
        text: given.text.clone(),
        ..Filter::default()
    }
}

pub(crate) async fn run(context: &Context, command: Held) -> Done {
    let pool = context.pool().await?;
    match command {
        Held::List {
            filter: given,
            after,
            limit,
            output,
        } => {
            let rows = store::held::list(
                &pool,
                scope(given.tenant.as_ref()),
                &filter(&given, None),
                after,
                one_more(limit),
            )
            .await?;
            let page = Page::new(rows, limit, |last| format!("--after {}", last.id));
            output.page(&page, |rows| {
                let heads = [
                    "id", "tenant", "worker", "cause", "event", "subject", "facet", "since",
                    "detail",
                ];
                table(&heads, rows.iter().map(row).collect(), "nothing is held")
            })
        }
        Held::Show { id, tenant, output } => {
            show::show(&pool, scope(tenant.as_ref()), id, output).await
        }
        Held::Release { which, output } => release::release(context, &pool, &which, output).await,
        Held::Discard(given) => discard::discard(context, &pool, given).await,
    }
}

/// What is meant, and how many of it wait for which cause.
async fn meant(pool: &Pool, which: &Which) -> Done<Meant> {
    let given = &which.filter;
    if which.id.is_none() && !which.all && given.tenant.is_none() && !given.names_something() {
        return Err(Failed::new(Exit::Usage, "which held events?")
            .next("name an id or a filter; --all means every one"));
    }
    let scope = scope(given.tenant.as_ref());
    Ok(operations::held::meant(pool, scope, filter(given, which.id)).await?)
}

fn row(row: &Row) -> Vec<String> {
    vec![
        row.id.to_string(),
        row.tenant.clone(),
        row.worker.clone(),
        row.reason.clone(),
        row.event_id.clone(),
        row.subject.clone(),
        row.facet.clone().unwrap_or_default(),
        at(row.held_at),
        short(row.detail.as_deref().unwrap_or_default(), DETAIL_WIDTH),
    ]
}

fn cause(text: &str) -> Result<HoldCause, String> {
    HoldCause::parse(text).ok_or_else(|| {
        let known: Vec<&str> = HoldCause::ALL.iter().map(|cause| cause.as_str()).collect();
        format!("one of {}", known.join(", "))
    })
}

//! `kurir links`: records, their copies at partners, and their whole timeline.

mod list;
mod show;

use clap::Subcommand;
use event::TenantId;
use serde_json::json;

use crate::context::{Context, scope};
use crate::exit::Done;
use crate::output::Output;
use crate::values::tenant;
use list::List;

#[derive(Debug, Subcommand)]
pub(crate) enum Links {
    /// Lists records and their copies
    List(List),
    /// Prints one record's whole timeline: versions, calls to the partner, what waits, what happened
    #[command(
        after_help = "Example:\n  kurir links show 12\n  kurir links show contact/512 --tenant acme"
    )]
    Show {
        /// The link's number, or the record as kind/id
        record: String,
        /// Whose record; needed where several tenants have one of this id
        #[arg(long, value_parser = tenant)]
        tenant: Option<TenantId>,
        #[command(flatten)]
        output: Output,
    },
    /// Says that the conflict of a record is settled, also where no event of it is held
    #[command(after_help = "\
`kurir links show` says what must be done before. Held events of the record leave by themselves then. What is still a
conflict is one again with the next look.

Example:
  kurir links settle 12")]
    Settle {
        /// The link's number, or the record as kind/id
        record: String,
        /// Whose record; needed where several tenants have one of this id
        #[arg(long, value_parser = tenant)]
        tenant: Option<TenantId>,
        /// Who does it, for the history
        #[arg(long, default_value = "kurir cli", env = "USER", hide_env = true)]
        actor: String,
        #[command(flatten)]
        output: Output,
    },
}

pub(crate) async fn run(context: &Context, command: Links) -> Done {
    let pool = context.pool().await?;
    match command {
        Links::List(given) => list::list(&pool, given).await,
        Links::Show {
            record,
            tenant,
            output,
        } => {
            let scope = scope(tenant.as_ref());
            let id = operations::links::find(&pool, scope, &record).await?;
            let timeline = store::links_read::timeline(&pool, scope, id).await?;
            output.show(&timeline, show::render)
        }
        Links::Settle {
            record,
            tenant,
            actor,
            output,
        } => {
            let scope = scope(tenant.as_ref());
            let id = operations::links::settle(&pool, scope, &record, &actor).await?;
            output.show(&json!({ "settled": id }), |_| {
                format!("link {id} is in conflict no more; what was held for that leaves by itself")
            })
        }
    }
}

//! `kurir notifications`: what people were to be told once.

use clap::Subcommand;
use event::TenantId;
use store::notifications::{Notification, list};

use crate::commands::waiting;
use crate::context::{Context, scope};
use crate::exit::Done;
use crate::output::{Output, Page, at, at_or_empty, one_more, table};
use crate::values::{LIST_LIMIT, limit, tenant};

#[derive(Debug, Subcommand)]
pub(crate) enum Notifications {
    /// Lists what people were to be told, newest first
    #[command(after_help = "Example:\n  kurir notifications list --tenant acme")]
    List {
        /// Only of this tenant
        #[arg(long, value_parser = tenant)]
        tenant: Option<TenantId>,
        /// At most so many
        #[arg(long, default_value = LIST_LIMIT, value_parser = limit)]
        limit: i64,
        #[command(flatten)]
        output: Output,
    },
}

pub(crate) async fn run(context: &Context, command: Notifications) -> Done {
    let pool = context.pool().await?;
    match command {
        Notifications::List {
            tenant,
            limit,
            output,
        } => {
            let scope = scope(tenant.as_ref());
            let rows = list(&pool, scope, one_more(limit)).await?;
            let held =
                operations::waiting::render(&pool, scope, &store::held::Filter::default()).await?;
            output.page(&Page::whole(rows, limit), |rows| {
                let heads = ["id", "tenant", "at", "told", "what"];
                let list = table(&heads, rows.iter().map(row).collect(), "nothing to tell");
                waiting::below(list, &held)
            })
        }
    }
}

fn row(one: &Notification) -> Vec<String> {
    vec![
        one.id.to_string(),
        one.tenant.clone(),
        at(one.at),
        at_or_empty(one.sent_at),
        one.text.clone(),
    ]
}

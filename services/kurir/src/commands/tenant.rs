//! `kurir tenant`: who owns everything else.

use clap::Subcommand;
use event::TenantId;

use crate::context::Context;
use crate::exit::Done;
use crate::output::{Output, Page, at, one_more, table};
use crate::values::{LIST_LIMIT, limit, tenant};

#[derive(Debug, Subcommand)]
pub(crate) enum Tenant {
    /// Adds a tenant
    #[command(after_help = "Example:\n  kurir tenant add acme --name \"Acme d.o.o.\"")]
    Add {
        /// 1 to 64 letters, digits, `_` or `-`
        #[arg(value_parser = tenant)]
        id: TenantId,
        /// For people
        #[arg(long, default_value = "", hide_default_value = true)]
        name: String,
        #[command(flatten)]
        output: Output,
    },
    /// Lists tenants
    #[command(after_help = "Example:\n  kurir tenant list --json | jq -r '.[].id'")]
    List {
        /// Begins after this id
        #[arg(long, value_name = "ID")]
        after: Option<String>,
        /// At most so many
        #[arg(long, default_value = LIST_LIMIT, value_parser = limit)]
        limit: i64,
        #[command(flatten)]
        output: Output,
    },
}

pub(crate) async fn run(context: &Context, command: Tenant) -> Done {
    let pool = context.pool().await?;
    match command {
        Tenant::Add { id, name, output } => {
            let added = store::tenants::add(&pool, &id, &name).await?;
            output.show(&added, |added| {
                format!(
                    "added tenant {0}; next: `kurir token create --tenant {0} --name crm`",
                    added.id
                )
            })
        }
        Tenant::List {
            after,
            limit,
            output,
        } => {
            let tenants = store::tenants::list(&pool, after.as_deref(), one_more(limit)).await?;
            let page = Page::new(tenants, limit, |last| format!("--after {}", last.id));
            output.page(&page, |tenants| {
                let rows = tenants
                    .iter()
                    .map(|one| vec![one.id.clone(), one.name.clone(), at(one.created_at)])
                    .collect();
                table(
                    &["tenant", "name", "since"],
                    rows,
                    "no tenants yet; `kurir tenant add ID` adds one",
                )
            })
        }
    }
}

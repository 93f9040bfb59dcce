//! `kurir tenant`: who owns everything else.

use crate::cli::Tenant;
use crate::context::Context;
use crate::exit::Done;
use crate::output::{Page, at, one_more, table};

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

//! `kurir notifications`: what people were to be told once.

use store::notifications::{Notification, list};

use crate::cli::notifications::Notifications;
use crate::context::{Context, scope};
use crate::exit::Done;
use crate::output::{at, at_or_empty, table};

pub(crate) async fn run(context: &Context, command: Notifications) -> Done {
    let pool = context.pool().await?;
    match command {
        Notifications::List {
            tenant,
            limit,
            output,
        } => {
            let rows = list(&pool, scope(tenant.as_ref()), limit).await?;
            output.show(&rows, |rows| {
                let heads = ["id", "tenant", "at", "told", "what"];
                table(&heads, rows.iter().map(row).collect(), "nothing to tell")
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

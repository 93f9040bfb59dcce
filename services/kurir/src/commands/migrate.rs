//! `kurir migrate`: the database's schema.

use clap::Args;
use operations::count;
use serde_json::json;

use crate::context::{Context, PATIENCE};
use crate::exit::{Done, Exit, Failed};
use crate::output::Output;

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  KURIR_DATABASE_URL=postgres://kurir:secret@localhost/kurir kurir migrate"
)]
pub(crate) struct Migrate {
    /// Only says what is missing; exit code 1 if anything is
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    output: Output,
}

pub(crate) async fn run(context: &Context, given: Migrate) -> Done {
    let Migrate { check, output } = given;
    let pool = context.pool_within(PATIENCE).await?;
    let pending = store::migrate::pending(&pool).await?;
    let found = count(pending.len() as u64, "migration");
    if check {
        output.show(&json!({ "pending": pending }), |_| {
            match pending.as_slice() {
                [] => "the schema is up to date".to_owned(),
                names => format!("{found} to apply: {}", names.join(", ")),
            }
        })?;
        return if pending.is_empty() {
            Ok(())
        } else {
            Err(Failed::new(Exit::Failed, format!("{found} not applied"))
                .next("run `kurir migrate`"))
        };
    }
    store::migrate::migrate(&pool).await?;
    output.show(&json!({ "applied": pending }), |_| {
        match pending.as_slice() {
            [] => "the schema was up to date already".to_owned(),
            names => format!("applied {found}: {}", names.join(", ")),
        }
    })
}

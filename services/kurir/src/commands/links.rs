//! `kurir links`: records, their copies at partners, and their whole story.

mod list;
mod show;
mod words;

use clap::Subcommand;
use event::TenantId;
use serde_json::json;
use store::held::Settled;
use store::links_read::{Filter, LinkSummary};
use store::{Pool, Scope, held};

use crate::commands::waiting;
use crate::conflicts;
use crate::context::{Context, scope};
use crate::exit::{Done, Exit, Failed};
use crate::output::Output;
use crate::values::tenant;
use list::List;

#[derive(Debug, Subcommand)]
pub(crate) enum Links {
    /// Lists records and their copies
    List(List),
    /// Tells one record's whole story: versions, calls to the partner, what waits, what happened
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

/// Enough to tell that a record is not named clearly.
const NAMESAKES: i64 = 10;

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
            let id = match record.parse() {
                Ok(id) => id,
                Err(_) => find(&pool, scope, &record).await?,
            };
            let story = store::links_read::story(&pool, scope, id).await?;
            output.show(&story, show::tell)
        }
        Links::Settle {
            record,
            tenant,
            actor,
            output,
        } => {
            let scope = scope(tenant.as_ref());
            let id = match record.parse() {
                Ok(id) => id,
                Err(_) => find(&pool, scope, &record).await?,
            };
            match held::settle_conflict(&pool, scope, id, &actor).await? {
                Settled::Done => output.show(&json!({ "settled": id }), |_| {
                    format!(
                        "link {id} is in conflict no more; what was held for that leaves by itself"
                    )
                }),
                Settled::NotInConflict => Err(Failed::new(
                    Exit::Refused,
                    format!("link {id} is in no conflict"),
                )),
                Settled::InVain(row) => Err(Failed::new(
                    Exit::Refused,
                    format!(
                        "it would be a conflict again at once: {}",
                        conflicts::in_vain(&row)
                    ),
                )
                .next(conflicts::instead(&row))),
            }
        }
    }
}

async fn find(pool: &Pool, scope: Scope<'_>, record: &str) -> Done<i64> {
    let Some((kind, source_id)) = record.split_once('/') else {
        return Err(Failed::new(
            Exit::Usage,
            format!("`{record}` is neither a link's number nor kind/id, for example contact/512"),
        ));
    };
    let filter = Filter {
        kind: Some(kind.to_owned()),
        source_id: Some(source_id.to_owned()),
        ..Filter::default()
    };
    let found = store::links_read::list(pool, scope, &filter, None, NAMESAKES).await?;
    match found.as_slice() {
        [one] => Ok(one.id),
        [] => {
            let waits = held::Filter {
                record: Some(record.to_owned()),
                ..held::Filter::default()
            };
            let mut next = waiting::told(pool, scope, &waits).await?;
            if next.is_empty() {
                next.push_str("`kurir links list` shows what there is");
            }
            Err(Failed::new(Exit::NotFound, format!("no link of {record}")).next(next))
        }
        several => {
            let rows = several.iter().map(|link| {
                let (tenant, target) = (&link.tenant, &link.target_system);
                format!(
                    "  {} ({tenant} at {target}, account {})",
                    link.id,
                    account(link)
                )
            });
            let message = format!(
                "several links of {record}:\n{}",
                rows.collect::<Vec<_>>().join("\n")
            );
            Err(Failed::new(Exit::Refused, message).next("name one by its number"))
        }
    }
}

fn account(link: &LinkSummary) -> &str {
    link.account.as_deref().unwrap_or("unknown")
}

//! `kurir held discard`.

use clap::Args;
use serde_json::json;
use store::Pool;
use store::links::Links;

use super::{Which, in_words, meant};
use crate::context::{Context, scope};
use crate::exit::{Done, Exit, Failed};
use crate::output::{Output, count};

#[derive(Debug, Args)]
#[command(after_help = "\
Each ends as a discarded dead letter, with your note. More than one needs --yes.

Example:
  kurir held discard 17 --note \"a test record\"
  kurir held discard --tenant acme --cause panic --note \"fixed in the source\" --yes")]
pub(crate) struct Discard {
    #[command(flatten)]
    which: Which,
    /// Why, for whoever asks later
    #[arg(long)]
    note: String,
    /// Does it even if it is more than one
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn discard(context: &Context, pool: &Pool, given: Discard) -> Done {
    let Discard {
        which,
        note,
        yes,
        output,
    } = given;
    let (filter, causes) = meant(pool, &which).await?;
    let scope = scope(which.filter.tenant.as_ref());
    let links = Links::new(
        pool.clone(),
        context.prefix().as_str(),
        context.settings().sync.lease,
    );
    let events = match which.id {
        Some(id) => {
            let done = store::held::discard_one(&links, scope, id, &which.actor, &note).await?;
            if !done {
                return Err(Failed::new(
                    Exit::Refused,
                    format!("{id} has changed meanwhile; nothing was discarded"),
                )
                .next(format!("`kurir held show {id}` shows what it is now")));
            }
            1
        }
        None => {
            let total = causes.values().sum::<u64>();
            if total > 1 && !yes {
                return Err(Failed::new(
                    Exit::Refused,
                    format!(
                        "this gives up {}{}",
                        count(total, "event"),
                        in_words(&causes)
                    ),
                )
                .next("look at them with `kurir held list`, then repeat with --yes"));
            }
            store::held::discard(&links, scope, &filter, &which.actor, &note)
                .await?
                .events
        }
    };
    output.show(&json!({ "discarded": events, "by_cause": causes }), |_| {
        format!(
            "discarded {}{}; `kurir dead-letters list --state discarded` shows them",
            count(events, "event"),
            in_words(&causes)
        )
    })
}

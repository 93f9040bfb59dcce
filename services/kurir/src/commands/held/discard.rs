//! `kurir held discard`.

use clap::Args;
use operations::count;
use operations::held::in_words;
use serde_json::json;
use store::Pool;
use store::links::Links;

use super::{Which, meant};
use crate::context::{Context, scope};
use crate::exit::{Done, Exit, Failed};
use crate::output::Output;

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
    let meant = meant(pool, &which).await?;
    let scope = scope(which.filter.tenant.as_ref());
    let links = Links::new(
        pool.clone(),
        context.prefix().as_str(),
        context.settings().sync.lease,
    );
    if meant.filter.id.is_none() && meant.events() > 1 && !yes {
        let many = count(meant.events(), "event");
        return Err(Failed::new(
            Exit::Refused,
            format!("this gives up {many}{}", in_words(&meant.by_cause)),
        )
        .next("look at them with `kurir held list`, then repeat with --yes"));
    }
    let events = operations::held::discard(&links, scope, &meant, &which.actor, &note).await?;
    let causes = &meant.by_cause;
    output.show(&json!({ "discarded": events, "by_cause": causes }), |_| {
        format!(
            "discarded {}{}; `kurir dead-letters list --state discarded` shows them",
            count(events, "event"),
            in_words(causes)
        )
    })
}

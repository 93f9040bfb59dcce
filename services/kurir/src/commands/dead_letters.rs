//! `kurir dead-letters`: found, explained, repaired, replayed.

mod confirm;
mod edit;
mod export;
mod follow;
mod json_text;
mod list;
mod moment;
mod replay;
mod replays;
mod resolve;
mod show;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use event::TenantId;
use store::dead_letters::{Filter, IDS_LIMIT};
use uuid::Uuid;

use crate::context::Context;
use crate::exit::{Done, Exit, Failed};
use crate::values::{number, tenant};
use edit::Edit;
use export::Export;
use list::{Groups, List};
use moment::moment;
use replay::Replay;
use replays::Replays;
use resolve::{Reopen, Resolve};
use show::One;

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetters {
    /// Lists dead letters, latest first
    #[command(after_help = "\
Examples:
  kurir dead-letters list --tenant acme --class refused --since 2d
  kurir dead-letters list --record contact/512 --state any")]
    List(List),
    /// Counts dead letters by cause, the commonest first
    #[command(after_help = "\
What failed alike has one fingerprint; `replay --group` takes all of one.

Example:
  kurir dead-letters groups --since 1d")]
    Groups(Groups),
    /// Prints one dead letter's whole timeline: what was tried, what the partner said, what would help
    #[command(
        after_help = "Example:\n  kurir dead-letters show 3f0f6c0e-6c1b-5a54-9f56-0f6d9d8c8c11"
    )]
    Show(One),
    /// Changes an open dead letter's event, in $EDITOR or from a file
    #[command(after_help = "\
The event is checked as if it came anew; its id, source, tenant and type stay. The difference is shown, and the event as
it came is kept beside the edited one.

Examples:
  kurir dead-letters edit 3f0f6c0e-6c1b-5a54-9f56-0f6d9d8c8c11 --replay
  kurir dead-letters edit 3f0f6c0e-6c1b-5a54-9f56-0f6d9d8c8c11 --file repaired.json
  jq '.data.contact.name = \"Ana\"' event.json | kurir dead-letters edit 3f0f6c0e-6c1b-5a54-9f56-0f6d9d8c8c11 --file -")]
    Edit(Edit),
    /// Sends open dead letters to their worker again: some, a filter's, a group, or all
    #[command(after_help = "\
Repair the cause first; `show` names it. A plan comes first: how many, whose, how long. The keeper sends one per second,
then 2, 5, 20 ... while all goes well, and stops by itself when more than half of the last 20 fail. The command waits for
the end; Ctrl-C leaves the replay running in the keeper. Exit code 0 only if every dead letter's content is at its partner.

Examples:
  kurir dead-letters replay 3f0f6c0e-6c1b-5a54-9f56-0f6d9d8c8c11
  kurir dead-letters replay --group 'refused:Profit center … doesnt exist' --dry-run
  kurir dead-letters replay --tenant acme --class exhausted --since 1d --yes --detach")]
    Replay(Replay),
    /// Replays that run or have run
    #[command(subcommand)]
    Replays(Replays),
    /// Closes open dead letters with a note: nothing more is to be done
    #[command(after_help = "\
Examples:
  kurir dead-letters resolve 3f0f6c0e-6c1b-5a54-9f56-0f6d9d8c8c11 --note 'entered by hand at the partner'
  kurir dead-letters resolve --class loop --until 2026-01-31 --note 'test data' --yes")]
    Resolve(Resolve),
    /// Opens closed dead letters again, so that they can be edited and replayed
    #[command(
        after_help = "Example:\n  kurir dead-letters reopen 3f0f6c0e-6c1b-5a54-9f56-0f6d9d8c8c11"
    )]
    Reopen(Reopen),
    /// Writes dead letters with their events to a file or standard output
    #[command(after_help = "\
One JSON object per line, or CSV; in both the latest death comes first.

Examples:
  kurir dead-letters export --tenant acme --output acme.jsonl
  kurir dead-letters export --csv --state any --since 30d > dead.csv")]
    Export(Export),
}

/// Which dead letters. All that is given must hold.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Filters {
    /// Only of this tenant
    #[arg(long, value_parser = tenant)]
    pub(crate) tenant: Option<TenantId>,
    /// Only of this worker
    #[arg(long, value_parser = crate::fleet::worker_names())]
    pub(crate) worker: Option<String>,
    /// Only of this event type
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) event_type: Option<String>,
    /// For example schema, unknown_tenant, refused, exhausted
    #[arg(long, value_parser = class)]
    pub(crate) class: Option<worker::DeadClass>,
    /// Only of this cause; `groups` shows them
    #[arg(long, visible_alias = "group")]
    pub(crate) fingerprint: Option<String>,
    /// Died last since then: 90m, 2d, a day or a time as the list prints it, or 2026-01-31T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) since: Option<DateTime<Utc>>,
    /// Died last before then
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) until: Option<DateTime<Utc>>,
    /// The record's business id: contact/512, or 512
    #[arg(long, value_name = "ID")]
    pub(crate) record: Option<String>,
    /// Contained in subject, event id, source or message; at least 3 characters
    #[arg(long, value_parser = text)]
    pub(crate) text: Option<String>,
}

/// States of a dead letter, for lists.
#[derive(Clone, Debug, Args)]
pub(crate) struct State {
    /// open, replaying, resolved, overtaken, discarded, or any
    #[arg(long, default_value = "open", value_parser = ["open", "replaying", "resolved", "overtaken", "discarded", "any"])]
    pub(crate) state: String,
}

/// Who does something, for the history.
#[derive(Clone, Debug, Args)]
pub(crate) struct Actor {
    /// Who does it, for the history
    #[arg(long, default_value = "kurir cli", env = "USER", hide_env = true)]
    pub(crate) actor: String,
}

pub(crate) async fn run(context: &Context, command: DeadLetters) -> Done {
    let pool = context.pool().await?;
    match command {
        DeadLetters::List(given) => list::list(&pool, given).await,
        DeadLetters::Groups(given) => list::groups(&pool, given).await,
        DeadLetters::Show(given) => show::run(&pool, given).await,
        DeadLetters::Edit(given) => edit::run(&pool, given).await,
        DeadLetters::Replay(given) => replay::run(&pool, given).await,
        DeadLetters::Replays(command) => replays::run(&pool, command).await,
        DeadLetters::Resolve(given) => resolve::resolve(&pool, given).await,
        DeadLetters::Reopen(given) => resolve::reopen(&pool, given).await,
        DeadLetters::Export(given) => export::run(&pool, given).await,
    }
}

/// Without a state: the caller knows which it means.
fn filter(given: &Filters) -> Filter {
    Filter {
        ids: None,
        worker: given.worker.clone(),
        event_type: given.event_type.clone(),
        state: None,
        class: given.class,
        fingerprint: given.fingerprint.clone(),
        since: given.since,
        until: given.until,
        record: given.record.clone(),
        text: given.text.clone(),
    }
}

fn in_state(given: &Filters, state: String) -> Filter {
    Filter {
        state: Some(state).filter(|state| state != "any"),
        ..filter(given)
    }
}

/// The dead letters that a change is for: named, filtered, or all of them, which must be said.
fn chosen(ids: Vec<Uuid>, given: &Filters, all: bool) -> Done<Filter> {
    if ids.len() > IDS_LIMIT {
        let message = format!("at most {IDS_LIMIT} ids at once");
        return Err(Failed::new(Exit::Usage, message).next("choose them by a filter"));
    }
    let mut filter = filter(given);
    if !ids.is_empty() {
        filter.ids = Some(ids);
        return Ok(filter);
    }
    if filter == Filter::default() && given.tenant.is_none() && !all {
        return Err(Failed::new(Exit::Usage, "which dead letters?")
            .next("name ids or a filter; --all means every open one"));
    }
    Ok(filter)
}

fn dead_letter(text: &str) -> Result<Uuid, String> {
    number(text, "a dead letter's id", "kurir dead-letters list")
}

fn class(text: &str) -> Result<worker::DeadClass, String> {
    worker::DeadClass::parse(text).ok_or_else(|| {
        let known: Vec<&str> = worker::DeadClass::ALL
            .iter()
            .map(|class| class.as_str())
            .collect();
        format!("one of {}", known.join(", "))
    })
}

/// The index of the search knows groups of three characters; what is shorter would read every row.
fn text(text: &str) -> Result<String, String> {
    const LEAST: usize = 3;
    if text.chars().count() < LEAST {
        return Err(format!("at least {LEAST} characters"));
    }
    Ok(text.to_owned())
}

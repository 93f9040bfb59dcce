//! Arguments of `kurir dead-letters`.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use event::TenantId;
use uuid::Uuid;

use super::moment::moment;
use super::{LIST_LIMIT, limit, number, tenant};
use crate::output::Output;

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
    /// Tells one dead letter's whole story: what was tried, what the partner said, what would help
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
the end; Ctrl-C leaves the replay running in the keeper. Exit code 0 only if every letter's content is at its partner.

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

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) filter: Filters,
    #[command(flatten)]
    pub(crate) state: State,
    /// Begins after this dead letter
    #[arg(long, value_name = "ID", value_parser = letter)]
    pub(crate) after: Option<Uuid>,
    /// At most so many
    #[arg(long, default_value = LIST_LIMIT, value_parser = limit)]
    pub(crate) limit: i64,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Groups {
    #[command(flatten)]
    pub(crate) filter: Filters,
    #[command(flatten)]
    pub(crate) state: State,
    /// Begins after this fingerprint
    #[arg(long, value_name = "FINGERPRINT")]
    pub(crate) after: Option<String>,
    /// At most so many
    #[arg(long, default_value = LIST_LIMIT, value_parser = limit)]
    pub(crate) limit: i64,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// Id of the dead letter
    #[arg(value_parser = letter)]
    pub(crate) id: Uuid,
    /// Whose it must be
    #[arg(long, value_parser = tenant)]
    pub(crate) tenant: Option<TenantId>,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Who does something, for the history.
#[derive(Clone, Debug, Args)]
pub(crate) struct Actor {
    /// Who does it, for the history
    #[arg(long, default_value = "kurir cli", env = "USER", hide_env = true)]
    pub(crate) actor: String,
}

#[derive(Debug, Args)]
pub(crate) struct Edit {
    /// Id of the dead letter
    #[arg(value_parser = letter)]
    pub(crate) id: Uuid,
    /// Whose it must be
    #[arg(long, value_parser = tenant)]
    pub(crate) tenant: Option<TenantId>,
    /// The whole event from a file instead of $EDITOR; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Gives the event a new version, now: it counts as the newest content of its record
    #[arg(long)]
    pub(crate) restamp: bool,
    /// Replays it at once and waits for the end
    #[arg(long)]
    pub(crate) replay: bool,
    /// Does not ask whether the difference is right
    #[arg(long, short)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) actor: Actor,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// Ids of dead letters
    #[arg(value_name = "ID", value_parser = letter, conflicts_with_all = ["worker", "event_type", "class", "fingerprint", "since", "until", "record", "text", "all"])]
    pub(crate) ids: Vec<Uuid>,
    #[command(flatten)]
    pub(crate) filter: Filters,
    /// Every open dead letter, of every tenant unless --tenant is given
    #[arg(long)]
    pub(crate) all: bool,
    /// Only says what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Does not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Letters per second, at most
    #[arg(long, default_value_t = 50.0, value_parser = rate)]
    pub(crate) rate: f32,
    /// Gives each event a new version, now: it counts as the newest content of its record
    #[arg(long)]
    pub(crate) restamp: bool,
    /// The same key is the same replay: safe to repeat
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    /// Does not wait for the end
    #[arg(long)]
    pub(crate) detach: bool,
    #[command(flatten)]
    pub(crate) actor: Actor,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// One replay, by its id.
#[derive(Debug, Args)]
pub(crate) struct OneReplay {
    /// Id of the replay
    #[arg(value_parser = replay)]
    pub(crate) id: Uuid,
    /// Whose it must be
    #[arg(long, value_parser = tenant)]
    pub(crate) tenant: Option<TenantId>,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Replays {
    /// Lists replays, latest first
    #[command(after_help = "Example:\n  kurir dead-letters replays list --state stopped")]
    List {
        /// Only those that belong to this tenant
        #[arg(long, value_parser = tenant)]
        tenant: Option<TenantId>,
        /// running, paused, stopped, done or cancelled
        #[arg(long, value_parser = ["running", "paused", "stopped", "done", "cancelled"])]
        state: Option<String>,
        /// Begins after this replay
        #[arg(long, value_name = "ID", value_parser = replay)]
        after: Option<Uuid>,
        /// At most so many
        #[arg(long, default_value = LIST_LIMIT, value_parser = limit)]
        limit: i64,
        #[command(flatten)]
        output: Output,
    },
    /// Shows how a replay stands
    #[command(
        after_help = "Example:\n  kurir dead-letters replays show 0192f0c1-7a4e-4b1f-9d3e-5f0a1b2c3d4e --follow"
    )]
    Show {
        #[command(flatten)]
        which: OneReplay,
        /// Waits for the end
        #[arg(long)]
        follow: bool,
    },
    /// Sends nothing more until it is resumed
    #[command(
        after_help = "Example:\n  kurir dead-letters replays pause 0192f0c1-7a4e-4b1f-9d3e-5f0a1b2c3d4e"
    )]
    Pause(OneReplay),
    /// Goes on, at one letter per second; where it had stopped itself, what failed is tried again
    #[command(
        after_help = "Repair the cause first.\n\nExample:\n  kurir dead-letters replays resume 0192f0c1-7a4e-4b1f-9d3e-5f0a1b2c3d4e"
    )]
    Resume(OneReplay),
    /// Ends a replay: what it has not sent stays open
    #[command(
        after_help = "Example:\n  kurir dead-letters replays cancel 0192f0c1-7a4e-4b1f-9d3e-5f0a1b2c3d4e"
    )]
    Cancel(OneReplay),
}

#[derive(Debug, Args)]
pub(crate) struct Resolve {
    /// Ids of dead letters
    #[arg(value_name = "ID", value_parser = letter, conflicts_with_all = ["worker", "event_type", "class", "fingerprint", "since", "until", "record", "text", "all"])]
    pub(crate) ids: Vec<Uuid>,
    #[command(flatten)]
    pub(crate) filter: Filters,
    /// Every open dead letter, of every tenant unless --tenant is given
    #[arg(long)]
    pub(crate) all: bool,
    /// Why nothing more is to be done
    #[arg(long)]
    pub(crate) note: String,
    /// Does not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) actor: Actor,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Reopen {
    /// Ids of dead letters
    #[arg(value_name = "ID", required = true, value_parser = letter)]
    pub(crate) ids: Vec<Uuid>,
    /// Whose they must be
    #[arg(long, value_parser = tenant)]
    pub(crate) tenant: Option<TenantId>,
    /// Why
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) note: String,
    #[command(flatten)]
    pub(crate) actor: Actor,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    #[command(flatten)]
    pub(crate) filter: Filters,
    #[command(flatten)]
    pub(crate) state: State,
    /// CSV instead of one JSON object per line
    #[arg(long)]
    pub(crate) csv: bool,
    /// A new file; without it standard output
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

fn letter(text: &str) -> Result<Uuid, String> {
    number(text, "a dead letter's id", "kurir dead-letters list")
}

fn replay(text: &str) -> Result<Uuid, String> {
    number(text, "a replay's id", "kurir dead-letters replays list")
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

fn rate(text: &str) -> Result<f32, String> {
    const MOST: f32 = store::dead_letters::replay::HIGHEST_RATE;
    text.parse()
        .ok()
        .filter(|rate| *rate > 0.0 && *rate <= MOST)
        .ok_or_else(|| format!("letters per second, above 0 and at most {MOST}"))
}

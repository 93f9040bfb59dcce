//! `kurir dead-letters`: found, explained, repaired, replayed.

mod advice;
mod confirm;
mod edit;
mod export;
mod follow;
mod json_text;
mod list;
mod replay;
mod replays;
mod resolve;
mod show;

pub(crate) use advice::advice;

use serde_json::Value;
use store::dead_letters::{Filter, IDS_LIMIT};
use uuid::Uuid;

use crate::cli::dead_letters::{DeadLetters, Filters};
use crate::context::Context;
use crate::exit::{Done, Exit, Failed};

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

/// The letters that a change is for: named, filtered, or all of them, which must be said.
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

/// A small JSON object in one line of words.
pub(crate) fn said(detail: &Value) -> String {
    let Value::Object(fields) = detail else {
        return detail.to_string();
    };
    let word = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let filled = fields.iter().filter(|(_, value)| !value.is_null());
    filled
        .map(|(name, value)| format!("{name}: {}", word(value)))
        .collect::<Vec<_>>()
        .join(", ")
}

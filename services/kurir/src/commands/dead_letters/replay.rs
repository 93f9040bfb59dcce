//! A replay from the plan to its end.

use clap::Args;
use operations::count;
use operations::dead_letters::nothing;
use serde_json::json;
use store::Pool;
use store::dead_letters::replay::{self, FIRST_RATE, Order, Plan, RATES, plan};
use uuid::Uuid;

use super::chosen;
use super::confirm::confirm;
use super::follow::follow;
use super::{Actor, Filters, dead_letter};
use crate::context::scope;
use crate::exit::Done;
use crate::output::{Output, facts, print_aside, table};

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// Ids of dead letters
    #[arg(value_name = "ID", value_parser = dead_letter, conflicts_with_all = ["worker", "event_type", "class", "fingerprint", "since", "until", "record", "text", "all"])]
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
    /// Dead letters per second, at most
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

pub(super) async fn run(pool: &Pool, given: Replay) -> Done {
    let named = given.ids.clone();
    let filter = chosen(given.ids, &given.filter, given.all)?;
    let scope = scope(given.filter.tenant.as_ref());
    let planned = plan(pool, scope, &filter, given.rate).await?;
    if given.dry_run {
        return given.output.show(&planned, |plan| render(plan, given.rate));
    }
    let known = given.idempotency_key.is_some();
    if planned.dead_letters == 0 && !known {
        if let [id] = named.as_slice() {
            // Tells a wrong id from a dead letter that is closed.
            store::dead_letters::show(pool, scope, *id).await?;
        }
        return Err(nothing(&planned, &named).into());
    }
    let alone = named.len() == 1;
    if !alone && planned.dead_letters > 0 && !given.yes {
        print_aside(&format!("{}\n", render(&planned, given.rate)))?;
        confirm("Replay them?", given.yes, planned.dead_letters == 1)?;
    }
    let order = Order {
        filter: &filter,
        rate_max: given.rate,
        restamp: given.restamp,
        actor: &given.actor.actor,
        idempotency_key: given.idempotency_key.as_deref(),
    };
    let ordered = replay::order(pool, scope, order).await?;
    if given.detach {
        let view = json!({ "replay": ordered.id, "dead_letters": ordered.dead_letters, "repeated": ordered.repeated });
        return given.output.show(&view, |_| {
            let dead_letters = count(ordered.dead_letters, "dead letter");
            let again = if ordered.repeated {
                " (ordered before)"
            } else {
                ""
            };
            format!(
                "replay {} of {dead_letters}{again} is the keeper's now; {}",
                ordered.id,
                look(ordered.id)
            )
        });
    }
    follow(pool, scope, ordered.id, given.output).await
}

/// One dead letter, as `edit --replay` does it.
pub(super) async fn one(
    pool: &Pool,
    scope: store::Scope<'_>,
    id: Uuid,
    actor: &str,
    output: Output,
) -> Done {
    let filter = store::dead_letters::Filter::one(id);
    let order = Order {
        filter: &filter,
        rate_max: FIRST_RATE,
        restamp: false,
        actor,
        idempotency_key: None,
    };
    let ordered = replay::order(pool, scope, order).await?;
    follow(pool, scope, ordered.id, output).await
}

/// How to see a replay later.
pub(super) fn look(id: Uuid) -> String {
    format!("`kurir dead-letters replays show {id}` tells how it stands")
}

fn render(plan: &Plan, rate: f32) -> String {
    let faster: Vec<String> = RATES
        .iter()
        .filter(|step| **step > FIRST_RATE && **step < rate)
        .chain([&rate])
        .map(ToString::to_string)
        .collect();
    let pace = if rate > FIRST_RATE {
        format!(
            "{FIRST_RATE} per second at first, then {} while all goes well",
            faster.join(", ")
        )
    } else {
        format!("{rate} per second")
    };
    let time = duration(plan.seconds);
    let mut about = vec![
        ("to replay", count(plan.dead_letters, "dead letter")),
        ("tenants", plan.tenants.to_string()),
        ("pace", pace),
        ("time", format!("about {time} if all succeed")),
    ];
    if plan
        .budget_seconds
        .is_some_and(|budget| budget >= plan.seconds)
    {
        about[3].1 = format!("about {time} if all succeed: the partner's budget allows no more");
    }
    if plan.not_open > 0 {
        about.push(("not open", format!("{}, left out", plan.not_open)));
    }
    if let Some(replay) = plan.elsewhere {
        about.push((
            "elsewhere",
            format!(
                "{} wait in replay {replay}, left out",
                plan.waiting_elsewhere
            ),
        ));
    }
    let shares = plan.shares.iter().map(|share| {
        vec![
            share.dead_letters.to_string(),
            share.tenant.clone().unwrap_or_else(|| "(none)".to_owned()),
            share.worker.clone(),
        ]
    });
    let mut parts = vec![facts(&about)];
    if plan.shares.len() > 1 {
        parts.push(table(
            &["dead letters", "tenant", "worker"],
            shares.collect(),
            "",
        ));
    }
    parts.join("\n\n")
}

/// `40 s`, `3 min`, `2 h 10 min`.
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.ceil().max(1.0) as u64;
    match whole {
        0..120 => format!("{whole} s"),
        120..7200 => format!("{} min", whole.div_ceil(60)),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

fn rate(text: &str) -> Result<f32, String> {
    const MOST: f32 = replay::HIGHEST_RATE;
    text.parse()
        .ok()
        .filter(|rate| *rate > 0.0 && *rate <= MOST)
        .ok_or_else(|| format!("dead letters per second, above 0 and at most {MOST}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        assert_eq!(duration(0.2), "1 s");
        assert_eq!(duration(119.5), "2 min");
        assert_eq!(duration(7900.0), "2 h 11 min");
    }
}

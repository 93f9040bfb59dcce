//! `kurir budgets`: what each connection may ask of its partner, what of it is used, left and waited for.

use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, Subcommand};
use event::TenantId;
use operations::count;
use serde_json::{Map, Value, json};
use store::budgets::{self, Budget};
use uuid::Uuid;

use crate::context::{Context, scope};
use crate::exit::{Done, Exit, Failed};
use crate::output::{Output, Page, at, facts, one_more, short};
use crate::values::{LIST_LIMIT, connection_id, limit, tenant};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kurir budgets --tenant acme")]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Budgets {
    #[command(subcommand)]
    pub(crate) command: Option<BudgetsCommand>,
    /// Only of this tenant
    #[arg(long, value_parser = tenant)]
    pub(crate) tenant: Option<TenantId>,
    /// Only this connection
    #[arg(long, value_name = "ID", value_parser = connection_id)]
    pub(crate) connection: Option<Uuid>,
    /// At most so many
    #[arg(long, default_value = LIST_LIMIT, value_parser = limit)]
    pub(crate) limit: i64,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BudgetsCommand {
    /// Changes what one connection may do; workers follow within seconds
    #[command(after_help = "\
A window REQUESTS/SECONDS holds wherever it begins: in no 60 seconds are there more than 600 requests. With a burst,
REQUESTS/SECONDS+BURST, it is an average, and so many may come at once besides. Several windows hold at the same time.

Examples:
  kurir budgets set 0192f0c1-7a4e-4b1f-9d3e-5f0a1b2c3d4e --window 600/60 --window 20000/86400 --in-flight 2
  kurir budgets set 0192f0c1-7a4e-4b1f-9d3e-5f0a1b2c3d4e --default")]
    Set {
        /// Id of the connection
        #[arg(value_parser = connection_id)]
        connection: Uuid,
        /// Whose it must be
        #[arg(long, value_parser = tenant)]
        tenant: Option<TenantId>,
        /// REQUESTS/SECONDS or REQUESTS/SECONDS+BURST; may be repeated, replaces all windows
        #[arg(long = "window", value_name = "WINDOW", value_parser = window)]
        windows: Vec<Value>,
        /// Calls at the same time
        #[arg(long)]
        in_flight: Option<u32>,
        /// Of these, calls of the kind that the partner handles one after another
        #[arg(long)]
        searches: Option<u32>,
        /// Back to the default of the settings
        #[arg(long, conflicts_with_all = ["windows", "in_flight", "searches"])]
        default: bool,
        #[command(flatten)]
        output: Output,
    },
}

const REASON_WIDTH: usize = 80;

pub(crate) async fn run(context: &Context, given: Budgets) -> Done {
    let pool = context.pool().await?;
    match given.command {
        None => {
            let rows = budgets::list(
                &pool,
                scope(given.tenant.as_ref()),
                given.connection,
                one_more(given.limit),
            )
            .await?;
            let now = Utc::now();
            let page = Page::whole(rows, given.limit);
            given.output.page(&page, |rows| match rows.is_empty() {
                true => "no connection has been called yet".to_owned(),
                false => rows
                    .iter()
                    .map(|row| render(row, now))
                    .collect::<Vec<_>>()
                    .join("\n\n"),
            })
        }
        Some(BudgetsCommand::Set {
            connection,
            tenant,
            windows,
            in_flight,
            searches,
            default,
            output,
        }) => {
            let mut budget = Map::new();
            if !windows.is_empty() {
                budget.insert("windows".to_owned(), Value::Array(windows));
            }
            for (name, value) in [("in_flight", in_flight), ("searches", searches)] {
                if let Some(value) = value {
                    budget.insert(name.to_owned(), value.into());
                }
            }
            if budget.is_empty() && !default {
                return Err(Failed::new(
                    Exit::Usage,
                    "nothing to change: name --window, --in-flight, --searches or --default",
                ));
            }
            let budget = (!default).then_some(Value::Object(budget));
            if let Some(budget) = &budget {
                operations::connections::check_budget(budget)?;
            }
            let changed =
                budgets::set(&pool, scope(tenant.as_ref()), connection, budget.as_ref()).await?;
            output.show(&json!({ "connection": changed.id, "budget": changed.settings.get("budget") }), |_| {
                format!("changed; `kurir budgets --connection {connection}` shows what the workers make of it")
            })
        }
    }
}

fn render(row: &Budget, now: DateTime<Utc>) -> String {
    let id: Uuid = row.connection_id;
    let ago = |moment: DateTime<Utc>| lasting(now - moment);
    let cooldown = row.cooldown_until.map(|until| {
        format!(
            "no calls for {} more (until {}): {}",
            lasting(until - now),
            at(until),
            short(
                row.cooldown_reason.as_deref().unwrap_or_default(),
                REASON_WIDTH
            )
        )
    });
    let waiting = match (row.waiting, row.waiting_since) {
        (0, _) | (_, None) => "nothing".to_owned(),
        (waiting, Some(since)) => format!(
            "{}, the oldest for {}; {} let go and not begun yet",
            count(waiting.unsigned_abs(), "event"),
            ago(since),
            row.underway
        ),
    };
    let circuits: Vec<String> = list(&row.circuits).iter().map(circuit).collect();
    let title = format!(
        "{} of {}, account {} ({id})",
        row.system, row.tenant, row.account
    );
    let windows: Vec<String> = list(&row.spec["windows"])
        .iter()
        .zip(list(&row.windows))
        .map(|(window, bucket)| allowed(window, bucket))
        .collect();
    let mut about = match windows.is_empty() {
        true => vec![("  allowed", "any number of requests".to_owned())],
        false => vec![],
    };
    // The word once, the others below.
    about.extend(windows.into_iter().enumerate().map(|(place, window)| {
        let name = if place == 0 { "  allowed" } else { "" };
        (name, window)
    }));
    about.extend([
        (
            "  in flight",
            format!("{} of {} leased", row.in_flight, row.spec["in_flight"]),
        ),
        ("  used", used(row)),
        ("  waiting", waiting),
        ("  cooldown", cooldown.unwrap_or_default()),
        ("  circuits", circuits.join("; ")),
        (
            "  last success",
            row.last_success
                .map(|moment| format!("{} ago", ago(moment)))
                .unwrap_or_default(),
        ),
    ]);
    format!("{title}\n{}", facts(&about))
}

/// Only what was really counted: requests that nothing limits take no permits, and before the first call there is no cost of
/// an event either.
fn used(row: &Budget) -> String {
    match row.used.unsigned_abs() {
        0 if list(&row.spec["windows"]).is_empty() && row.last_success.is_some() => {
            format!(
                "not counted, because nothing limits it; about {:.1} requests for each event",
                row.cost
            )
        }
        0 => "nothing yet".to_owned(),
        used => format!(
            "{} so far, about {:.1} for each event",
            count(used, "request"),
            row.cost
        ),
    }
}

fn allowed(window: &Value, bucket: &Value) -> String {
    let seconds = window["seconds"].as_f64().unwrap_or_default();
    let burst = window["burst"]
        .as_u64()
        .map(|burst| format!(" and {burst} at once"))
        .unwrap_or_default();
    let left = bucket["left"].as_f64().unwrap_or_default();
    format!(
        "{} requests in {seconds} s{burst}; {left:.0} left now",
        window["requests"]
    )
}

fn circuit(circuit: &Value) -> String {
    let text = |name: &str| circuit[name].as_str().unwrap_or_default();
    let until = text("open_until").parse::<DateTime<Utc>>().map(at);
    format!(
        "{} is not called until {}, then one call tries: {}",
        text("operation"),
        until.unwrap_or_default(),
        short(text("reason"), REASON_WIDTH)
    )
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn lasting(time: TimeDelta) -> String {
    match time.num_seconds().max(0) {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

fn window(text: &str) -> Result<Value, String> {
    let expected =
        || "expected REQUESTS/SECONDS or REQUESTS/SECONDS+BURST, for example 600/60".to_owned();
    let number = |text: &str| {
        text.trim()
            .parse::<u32>()
            .map_err(|_not_a_number| expected())
    };
    let (requests, rest) = text.split_once('/').ok_or_else(expected)?;
    let (seconds, burst) = match rest.split_once('+') {
        Some((seconds, burst)) => (seconds, Some(number(burst)?)),
        None => (rest, None),
    };
    let mut window =
        serde_json::json!({ "requests": number(requests)?, "seconds": number(seconds)? });
    if let Some(burst) = burst {
        window["burst"] = burst.into();
    }
    Ok(window)
}

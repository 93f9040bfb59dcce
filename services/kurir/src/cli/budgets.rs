//! Arguments of `kurir budgets`.

use clap::{Args, Subcommand};
use event::TenantId;
use uuid::Uuid;

use super::{LIST_LIMIT, connection_id, limit, tenant};
use crate::output::Output;

#[derive(Debug, Args)]
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
        windows: Vec<serde_json::Value>,
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

fn window(text: &str) -> Result<serde_json::Value, String> {
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

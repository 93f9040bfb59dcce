//! `kurir demo`: an invented day at the real parts. Starts a simulated Metakocka and all roles in this process, lets a
//! CRM of three tenants publish, breaks things on purpose, waits until everything has come to rest and tells what
//! happened. What it tells about the outcome is asked of the simulator and of the database, never remembered.

mod check;
mod day;
mod failure;
mod stage;
mod summary;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use crate::exit::{Done, Exit, Failed};
use crate::output::print;
use stage::Stage;

#[derive(Clone, Copy, Debug, Args)]
#[command(after_help = "\
Needs a broker and a database of its own (`make demo` starts private ones); it creates tenants named `demo-...`.
Ends by itself and removes nothing: `kurir links list` shows the records afterwards.

Example:
  DEMO_SEED=7 make demo")]
pub(crate) struct Demo {
    /// Another seed is another day
    #[arg(long, env = "DEMO_SEED", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Goes on running after the summary, until Ctrl-C
    #[arg(long, env = "KEEP", value_parser = clap::builder::BoolishValueParser::new(), num_args = 0..=1, default_value = "false", default_missing_value = "true")]
    pub(crate) keep: bool,
}

/// For all roles to become ready.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// For the events of a tenant without a connection to be held.
const HELD_LIMIT: Duration = Duration::from_secs(60);
/// For everything to come to rest: retries, unclear calls and replays included.
const REST_LIMIT: Duration = Duration::from_secs(240);

pub(crate) async fn run(file: Option<PathBuf>, given: Demo) -> Done {
    let began = Instant::now();
    print("A day of a CRM, carried to Metakocka. Everything is real but the CRM and Metakocka.\n")?;
    let stage = Stage::build(file, given.seed).await?;
    let ended = tokio::select! {
        // First: a stop that `play` itself waits for is its orderly end.
        biased;
        ended = play(&stage, given, began) => ended,
        () = stage.wait_for_stop() => Err(Failed::new(Exit::Failed, "stopped before its end")),
    };
    let stopped = stage.take_down().await;
    ended.and(stopped)
}

async fn play(stage: &Stage, given: Demo, began: Instant) -> Done {
    wait_for("all roles to be ready", READY_LIMIT, async || {
        stage.ready().await
    })
    .await?;
    print(&format!(
        "  started    gateway, keeper, worker and a simulated Metakocka in one process ({})",
        seconds(began)
    ))?;
    let published = stage.publish().await?;
    print(&format!(
        "  published  {} events, over HTTP and straight to RabbitMQ ({})",
        published.events,
        seconds(began)
    ))?;
    let late = stage.late_tenant();
    let held = wait_for(
        "the events of the tenant without a connection to be held",
        HELD_LIMIT,
        async || check::held(stage, late).await,
    )
    .await?;
    let released = stage.connect(late).await?;
    print(&format!(
        "  connected  the third tenant: {held} events had waited for its connection, {released} went on ({})",
        seconds(began)
    ))?;
    wait_for("everything to come to rest", REST_LIMIT, async || {
        check::rest(stage, stage.dead_expected()).await
    })
    .await?;
    print(&format!(
        "  at rest    nothing is on its way any more ({})",
        seconds(began)
    ))?;
    let refused = stage.refused().await?;
    let before = stage.timeline(refused).await?;
    stage.repair_and_replay(refused).await?;
    wait_for("the replayed event to arrive", REST_LIMIT, async || {
        check::rest(stage, stage.dead_expected() - 1).await
    })
    .await?;
    print(&format!(
        "  replayed   the event that Metakocka had refused, after the cause was repaired ({})\n",
        seconds(began)
    ))?;
    let outcome = check::outcome(stage).await?;
    let failure = failure::render(&before, &stage.timeline(refused).await?);
    print(&summary::render(
        stage, &published, &outcome, failure, given,
    ))?;
    if !outcome.in_step() {
        return Err(Failed::new(
            Exit::Failed,
            "the demo did not end as it must; the lines above say where",
        ));
    }
    if given.keep {
        print(&summary::addresses(stage))?;
        stage.wait_for_stop().await;
    }
    Ok(())
}

fn seconds(since: Instant) -> String {
    format!("{:.0} s", since.elapsed().as_secs_f64())
}

/// Asks again until there is an answer.
async fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut ask: impl AsyncFnMut() -> Done<Result<T, String>>,
) -> Done<T> {
    const PAUSE: Duration = Duration::from_millis(250);
    let until = Instant::now() + limit;
    loop {
        match ask().await? {
            Ok(found) => return Ok(found),
            Err(missing) if Instant::now() > until => {
                let message = format!("waited {} s for {what}: {missing}", limit.as_secs());
                return Err(Failed::new(Exit::Failed, message)
                    .next("KURIR_LOG__FILTER=info make demo says more"));
            }
            Err(_missing) => tokio::time::sleep(PAUSE).await,
        }
    }
}

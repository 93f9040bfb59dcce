//! Keeps `/readyz` true: asks the parts how they are, and says so when all are well or some stop being so.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use broker::{Broker, Health};
use inbound::{Check, Readiness};
use store::Pool;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::metrics::Ping;

/// How often parts are asked that are well.
const TURN: Duration = Duration::from_millis(500);
/// And while one is not: asking costs little, and a process that has just been started, or whose broker is back, is waited
/// for.
const SOON: Duration = Duration::from_millis(20);
/// How often the database is asked, and how long it may take.
const DATABASE_TURN: Duration = Duration::from_secs(2);
const DATABASE_LIMIT: Duration = Duration::from_secs(3);

/// `false`: the shutdown came first.
async fn pause(turn: Duration, shutdown: &CancellationToken) -> bool {
    tokio::select! {
        () = sleep(turn) => true,
        () = shutdown.cancelled() => false,
    }
}

fn turn(well: bool) -> Duration {
    if well { TURN } else { SOON }
}

pub(super) async fn database(
    pool: Pool,
    check: Check,
    ping: Ping,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    loop {
        let asked = Instant::now();
        let answer = timeout(DATABASE_LIMIT, store::pool::ping(&pool)).await;
        ping.took(asked.elapsed());
        match answer {
            Ok(Ok(())) => check.ready("answers"),
            Ok(Err(error)) => check.not_ready(&error.to_string()),
            Err(_elapsed) => check.not_ready("does not answer"),
        }
        if !pause(DATABASE_TURN, &shutdown).await {
            return Ok(());
        }
    }
}

pub(super) async fn broker(
    broker: Broker,
    check: Check,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    let status = broker.status();
    loop {
        let now = status.borrow().clone();
        let well = match (&now.consume, &now.publish) {
            (Health::Connected, Health::Connected) => {
                check.ready("connected");
                true
            }
            (Health::Blocked(_), _) | (_, Health::Blocked(_)) => {
                check.not_ready("takes no messages: memory or disk alarm");
                false
            }
            (Health::Untrusted(why), _) | (_, Health::Untrusted(why)) => {
                check.not_ready(&format!("not connected: {why}"));
                false
            }
            _ => {
                check.not_ready("not connected");
                false
            }
        };
        if !pause(turn(well), &shutdown).await {
            return Ok(());
        }
    }
}

/// A part that tells its problems in words; none means ready.
pub(super) async fn problems(
    check: Check,
    shutdown: CancellationToken,
    ask: impl Fn() -> Vec<String> + Send,
) -> Result<(), Infallible> {
    loop {
        let problems = ask();
        if problems.is_empty() {
            check.ready("works");
        } else {
            check.not_ready(&problems.join("; "));
        }
        if !pause(turn(problems.is_empty()), &shutdown).await {
            return Ok(());
        }
    }
}

/// One line when the process becomes ready, and one when it stops being so.
pub(super) async fn ready(
    readiness: Readiness,
    listening: Vec<(&'static str, SocketAddr)>,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    let addresses: Vec<String> = listening
        .iter()
        .map(|(name, address)| format!("{name} http://{address}"))
        .collect();
    let addresses = addresses.join(", ");
    let mut was = false;
    loop {
        let report = readiness.report();
        if report.ready && !was {
            tracing::info!(listening = addresses, "ready");
        } else if was && !report.ready {
            let failing = report.checks.iter().filter(|(_, check)| !check.ok);
            let failing: Vec<String> = failing
                .map(|(name, check)| format!("{name}: {}", check.detail))
                .collect();
            tracing::warn!(failing = failing.join(", "), "not ready");
        }
        was = report.ready;
        if !pause(turn(was), &shutdown).await {
            return Ok(());
        }
    }
}

//! Puts up at the broker what a role needs, as soon as the broker is there, and again where it is missing later: somebody
//! may delete it under a running process, and a broker may come back without its data.

use std::time::Duration;

use broker::{Broker, Error, Topology};
use inbound::Check;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::fleet::queues;

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// Between two looks whether it is still there; each is some declarations that change nothing, about 10 ms.
const AGAIN: Duration = Duration::from_secs(10);

/// What is put up.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    /// The exchange that events are published to.
    Events,
    /// Also every worker's queues: whoever empties their dead-letter queues needs them.
    Workers,
}

/// Tries until it is done or `shutdown` comes. Repeating changes nothing at the broker.
///
/// # Errors
/// The broker holds another topology: only a person may change it.
pub(super) async fn until_done(
    what: What,
    broker: &Broker,
    check: &Check,
    shutdown: &CancellationToken,
) -> Result<(), Error> {
    let topology = broker.topology();
    loop {
        match once(what, &topology, broker).await {
            Ok(()) => {
                check.ready("declared");
                return Ok(());
            }
            Err(mismatch @ Error::Topology(_)) => return Err(mismatch),
            Err(error) => check.not_ready(&error.to_string()),
        }
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}

/// After [`until_done`], until `shutdown`. What another topology is in the way of is told by the check, and the process
/// goes on: it was well when it started.
pub(super) async fn kept_up(
    what: What,
    broker: &Broker,
    check: &Check,
    shutdown: &CancellationToken,
) {
    let topology = broker.topology();
    let keeping = async {
        loop {
            sleep(AGAIN).await;
            match once(what, &topology, broker).await {
                Ok(()) => check.ready("declared"),
                Err(error) => check.not_ready(&error.to_string()),
            }
        }
    };
    tokio::select! {
        () = keeping => {}
        () = shutdown.cancelled() => {}
    }
}

async fn once(what: What, topology: &Topology, broker: &Broker) -> Result<(), Error> {
    topology.declare_events(broker).await?;
    if let What::Workers = what {
        for (worker, consumes) in queues() {
            topology.declare_worker(broker, worker, consumes).await?;
        }
    }
    Ok(())
}

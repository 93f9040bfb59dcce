//! Puts up at the broker what a role needs, as soon as the broker is there.

use std::time::Duration;

use broker::{Broker, Error, Topology};
use inbound::Check;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::fleet::queues;

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);

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

async fn once(what: What, topology: &Topology, broker: &Broker) -> Result<(), Error> {
    topology.declare_events(broker).await?;
    if let What::Workers = what {
        for (worker, consumes) in queues() {
            topology.declare_worker(broker, worker, consumes).await?;
        }
    }
    Ok(())
}

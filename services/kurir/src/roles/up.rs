//! All roles in one process: a laptop, a small installation, the demo.

use std::net::SocketAddr;

use runtime::{Need, Role};
use tokio_util::sync::CancellationToken;

use super::{Process, gateway, keeper, worker};
use crate::context::Context;
use crate::exit::Done;
use crate::fleet::workers;

/// What all roles together need.
pub(super) const NEEDS: &[Need] = &[Need::Amqp, Need::Database, Need::Keys];

/// Runs until `shutdown`. `started` is told where it listens, by name, as soon as that is known.
pub(crate) async fn up_until(
    context: Context,
    shutdown: CancellationToken,
    started: impl FnOnce(&[(&'static str, SocketAddr)]),
) -> Done {
    let mut process = Process::build(context, Role::Up, "up", shutdown).await?;
    gateway::add(&mut process).await?;
    keeper::add(&mut process).await?;
    for registered in workers() {
        worker::add(&mut process, registered).await?;
    }
    started(&process.listening);
    process.run().await
}

//! The gateway's parts: its listener, tokens from the store, messages to the broker.

use std::num::NonZeroU32;
use std::sync::Arc;

use gateway::{Bus, Deps, StoredTokens};
use runtime::DRAIN_LIMIT;

use super::declare::{self, What};
use super::{Process, listen};
use crate::exit::Done;

pub(super) async fn add(process: &mut Process) -> Done {
    let given = process.settings().gateway.clone();
    let (listener, address) = listen(given.listen, "gateway", "KURIR_GATEWAY__LISTEN").await?;
    process.listening.push(("gateway", address));
    let settings = gateway::Settings {
        events_per_second: NonZeroU32::new(given.events_per_second).unwrap_or(NonZeroU32::MIN),
        burst: NonZeroU32::new(given.burst).unwrap_or(NonZeroU32::MIN),
        token_cache: given.token_cache,
        ..gateway::Settings::default()
    };
    let bus = Bus {
        publisher: process.broker.publisher(),
        exchange: process.broker.topology().events(),
    };
    let deps = Deps {
        tokens: Arc::new(StoredTokens(process.pool.clone())),
        publisher: Arc::new(bus),
        metrics: gateway::Metrics::default(),
    };
    process.show(deps.metrics.collectors())?;
    let routes = gateway::router(deps, &settings);
    let shutdown = process.shutdown.clone();
    process.tasks.spawn("gateway", async move {
        let served =
            inbound::serve(listener, routes, shutdown.cancelled_owned(), DRAIN_LIMIT).await;
        if served.cut_off > 0 {
            tracing::warn!(
                connections = served.cut_off,
                "connections were cut off: their requests took too long"
            );
        }
        Ok::<_, std::convert::Infallible>(())
    });
    // Requests are answered meanwhile: with 503, as always while the broker is away.
    let check = process.readiness.check("exchange");
    let (broker, shutdown) = (process.broker.clone(), process.shutdown.clone());
    process.tasks.spawn("gateway topology", async move {
        declare::until_done(What::Events, &broker, &check, &shutdown).await?;
        declare::kept_up(What::Events, &broker, &check, &shutdown).await;
        Ok::<_, broker::Error>(())
    });
    Ok(())
}

//! `kurir unrouted route`.

use broker::{Broker, QueueCursor};
use operations::count;
use serde::Serialize;
use worker::failpoint;

use super::TAKE_LIMIT;
use super::inspection::{UnroutedFilter, Why, fits, see};
use crate::context::Context;
use crate::exit::{Done, Exit, Failed};
use crate::fleet::topology;

#[derive(Debug, Default, Serialize)]
pub(super) struct Routed {
    pub(super) routed: u64,
    pub(super) left: u64,
}

/// Publishes what can be routed, waits for the confirm, then removes it. What was there at the beginning only: an event
/// that comes back unrouted is not met twice.
pub(super) async fn route(
    context: &Context,
    broker: &Broker,
    queue: &str,
    filter: &UnroutedFilter,
) -> Done<Routed> {
    let exchange = topology(context).events();
    let publisher = broker.publisher();
    let (ready, _consumers) = broker::depth(broker, queue).await?.unwrap_or_default();
    let cursor = QueueCursor::open(broker, queue).await?;
    let mut routed = Routed::default();
    for _ in 0..TAKE_LIMIT.min(ready as usize) {
        let Some(taken) = cursor.take().await? else {
            break;
        };
        let seen = see(&taken.message);
        if seen.why != Why::Routable || !fits(filter, &seen) {
            routed.left += 1;
            continue;
        }
        let raw = taken.message;
        let published = publisher
            .publish_json(
                &exchange,
                &raw.routing_key,
                raw.body,
                &raw.properties,
                &raw.headers,
            )
            .await;
        if let Err(error) = published {
            cursor.close().await;
            return Err(Failed::new(
                Exit::Unavailable,
                format!("routed {}, then: {error}", count(routed.routed, "event")),
            )
            .next("nothing is lost; `kurir unrouted route` goes on"));
        }
        failpoint::hit("unrouted_after_publish");
        cursor.remove(taken.tag).await?;
        routed.routed += 1;
    }
    cursor.close().await;
    Ok(routed)
}

//! One channel that consumes: how it is opened, and closed in order.

use std::sync::Arc;
use std::time::Duration;

use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use worker::{Claims, Handler};

use crate::acks::{Acks, Writing};
use crate::connection::Broker;
use crate::consuming::ConsumeSettings;
use crate::error::Error;
use crate::readiness::Readiness;
use crate::shared::{GOODBYE, Shared};

/// A quorum queue's channel holds back the acknowledgements of a burst, and forgets them when it is closed at once: what
/// was done would come again.
const SETTLED: Duration = Duration::from_millis(200);
/// A declaration or a consume that is not answered in this time counts as a lost channel.
const OPEN_LIMIT: Duration = Duration::from_secs(15);

pub(crate) struct Open {
    pub(crate) channel: lapin::Channel,
    pub(crate) consumer: lapin::Consumer,
    /// Cancelled when this channel is over.
    pub(crate) over: CancellationToken,
    pub(crate) acks: Acks,
    writing: Writing,
}

impl Open {
    /// What was settled is acknowledged, then the channel is closed in order. `false`: not within the limit.
    pub(crate) async fn close(self, why: &str) -> bool {
        drop(self.acks);
        let written = self.writing.ends_within(GOODBYE).await;
        sleep(SETTLED).await;
        let close = self.channel.close(200, why.into());
        let closed = matches!(timeout(GOODBYE, close).await, Ok(Ok(())));
        self.over.cancel();
        written && closed
    }
}

/// Declares, then consumes. `None` once the broker was closed.
pub(crate) async fn open<H, C>(
    shared: Arc<Shared<H, C>>,
    broker: Broker,
    settings: ConsumeSettings,
    readiness: Arc<Readiness>,
) -> Result<Option<Open>, Error>
where
    H: Handler,
    C: Claims<Grant = H::Grant>,
{
    let Some(session) = broker.session().await else {
        return Ok(None);
    };
    let name = shared.handler.name();
    let opening = async {
        let channel = session.connection.create_channel().await?;
        shared
            .topology
            .declare_worker_on(&channel, name, shared.handler.consumes())
            .await?;
        channel
            .basic_qos(settings.prefetch.max(1), BasicQosOptions::default())
            .await?;
        let (queue, tag) = (
            shared.topology.queue(name),
            format!("{name}-{}", Uuid::new_v4().simple()),
        );
        let options = BasicConsumeOptions::default();
        let consumer = channel
            .basic_consume(
                queue.as_str().into(),
                tag.as_str().into(),
                options,
                FieldTable::default(),
            )
            .await?;
        let over = session.over.child_token();
        let (acks, writing) = Acks::start(
            settings.prefetch,
            over.clone(),
            Arc::clone(&shared.counters),
            readiness,
        );
        Ok(Some(Open {
            channel,
            consumer,
            over,
            acks,
            writing,
        }))
    };
    timeout(OPEN_LIMIT, opening)
        .await
        .unwrap_or(Err(Error::TimedOut(OPEN_LIMIT.as_secs())))
}

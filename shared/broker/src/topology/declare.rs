//! What should be there is declared.

use event::EventType;

use super::Topology;
use crate::connection::{Broker, CONNECT_LIMIT};
use crate::error::Error;

impl Topology {
    /// Exchanges and the queue of unrouted events: what a publisher needs. Repeating it changes nothing.
    pub async fn declare_events(&self, broker: &Broker) -> Result<(), Error> {
        let session = broker.session_within(CONNECT_LIMIT).await?;
        let channel = session.connection.create_channel().await?;
        self.declare_events_on(&channel).await
    }

    async fn declare_events_on(&self, channel: &lapin::Channel) -> Result<(), Error> {
        for block in self.events_blocks() {
            block.declare(channel).await?;
        }
        Ok(())
    }

    /// Everything of one worker, bindings last. Repeating it changes nothing and costs about 10 ms.
    pub async fn declare_worker(
        &self,
        broker: &Broker,
        worker: &str,
        consumes: &[EventType],
    ) -> Result<(), Error> {
        let session = broker.session_within(CONNECT_LIMIT).await?;
        let channel = session.connection.create_channel().await?;
        self.declare_worker_on(&channel, worker, consumes).await
    }

    pub(crate) async fn declare_worker_on(
        &self,
        channel: &lapin::Channel,
        worker: &str,
        consumes: &[EventType],
    ) -> Result<(), Error> {
        self.declare_events_on(channel).await?;
        self.outcomes_block().declare(channel).await?;
        self.worker_block(worker, consumes).declare(channel).await
    }
}

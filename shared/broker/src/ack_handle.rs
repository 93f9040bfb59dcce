//! The right to acknowledge one delivery. It ends with the channel that brought the delivery: the broker has put the
//! message back by then, and an acknowledgement would be for somebody else's.

use std::sync::Arc;

use lapin::Acker;
use tokio_util::sync::CancellationToken;

use crate::acks::Acks;
use crate::readiness::Readiness;

/// Neither cloned nor shared: who holds it decides.
pub(crate) struct AckHandle {
    tag: u64,
    acker: Option<Acker>,
    acks: Acks,
    over: CancellationToken,
    readiness: Arc<Readiness>,
}

impl AckHandle {
    pub(crate) fn new(
        tag: u64,
        acker: Acker,
        acks: Acks,
        over: CancellationToken,
        readiness: Arc<Readiness>,
    ) -> Self {
        readiness.received();
        Self {
            tag,
            acker: Some(acker),
            acks,
            over,
            readiness,
        }
    }

    /// Whether the delivery is still ours.
    pub(crate) fn valid(&self) -> bool {
        !self.over.is_cancelled()
    }

    /// Returns when the delivery is no longer ours.
    pub(crate) async fn lost(&self) {
        self.over.cancelled().await;
    }

    /// Hands it over to be acknowledged with others. False: it will come again.
    pub(crate) async fn ack(mut self) -> bool {
        match self.acker.take() {
            Some(acker) if self.valid() => self.acks.write(self.tag, acker).await,
            _ => false,
        }
    }

    /// Ends the channel: everything on it comes back.
    pub(crate) fn close_channel(&self) {
        self.over.cancel();
    }
}

impl Drop for AckHandle {
    fn drop(&mut self) {
        self.readiness.gone();
    }
}

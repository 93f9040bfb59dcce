//! The right to acknowledge one delivery. It ends with the channel that brought the delivery: the broker has put the
//! message back by then, and an acknowledgement would be for somebody else's.

use std::sync::Arc;

use lapin::Acker;
use lapin::options::BasicAckOptions;
use tokio_util::sync::CancellationToken;

use crate::readiness::Readiness;

/// Neither cloned nor shared: who holds it decides.
pub(crate) struct Receipt {
    acker: Acker,
    over: CancellationToken,
    readiness: Arc<Readiness>,
}

impl Receipt {
    pub(crate) fn new(acker: Acker, over: CancellationToken, readiness: Arc<Readiness>) -> Self {
        readiness.received();
        Self {
            acker,
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

    /// False: not sent, it will come again.
    pub(crate) async fn ack(self) -> bool {
        if !self.valid() {
            return false;
        }
        let sent = tokio::select! {
            sent = self.acker.ack(BasicAckOptions::default()) => matches!(sent, Ok(true)),
            () = self.over.cancelled() => false,
        };
        if sent {
            self.readiness.settled();
        }
        sent
    }

    /// Ends the channel: everything on it comes back.
    pub(crate) fn close_channel(&self) {
        self.over.cancel();
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.readiness.gone();
    }
}

//! The end of a channel, and of a worker. Acknowledgements written last are left behind by a process that just
//! exits (seen in two clients), so the goodbye is orderly and awaited.

use std::time::Duration;

use lapin::options::BasicCancelOptions;
use tokio::time::{sleep, timeout};
use worker::{Claims, Handler};

use crate::consuming::Consuming;
use crate::error::Error;
use crate::open::Open;
use crate::shared::GOODBYE;

/// A running handler gets this long to end after the stop; then it is dropped and its lease given back.
const DRAIN: Duration = Duration::from_secs(25);

impl<H: Handler, C: Claims<Grant = H::Grant>> Consuming<H, C> {
    /// The channel is over: what waited here is the broker's again. What runs, runs on.
    pub(crate) async fn forget(&mut self, open: Open) {
        open.over.cancel();
        self.drop_waiting();
        // Often it is gone already; where it is not, this is what brings its deliveries back.
        let _ = timeout(GOODBYE, open.channel.close(200, "opened again".into())).await;
    }

    /// What was done is acknowledged, what was not goes back in front of the queue, in order.
    pub(crate) async fn drain(&mut self, open: Option<Open>) -> Result<(), Error> {
        self.readiness.set_draining();
        let name = self.shared.handler.name();
        if let Some(open) = &open {
            let cancel = open
                .channel
                .basic_cancel(open.consumer.tag(), BasicCancelOptions::default());
            let _ = timeout(GOODBYE, cancel).await;
        }
        self.shared.draining.cancel();
        self.drop_waiting();
        if !self.tasks_end_within(DRAIN).await {
            tracing::warn!(
                handler = name,
                "handlers are stopped after {} s",
                DRAIN.as_secs()
            );
            self.shared.aborting.cancel();
            if !self.tasks_end_within(GOODBYE).await {
                tracing::warn!(
                    handler = name,
                    "not every lease could be given back; they expire"
                );
            }
        }
        // What was reported last still holds its delivery.
        while let Ok(report) = self.reports.try_recv() {
            self.take(report);
        }
        if let Some(open) = open
            && !open.close("stopped").await
        {
            tracing::warn!(handler = name, "the channel could not be closed in order");
        }
        tracing::info!(handler = name, "stopped consuming");
        Ok(())
    }

    fn drop_waiting(&mut self) {
        self.unprepared.clear();
        self.waiting.clear();
        self.unclaimed.clear();
        for (in_flight, _grant, lease) in std::mem::take(&mut self.granted) {
            self.abandon(&in_flight, lease);
        }
    }

    async fn tasks_end_within(&mut self, limit: Duration) -> bool {
        let tasks = self.tasks.clone();
        tasks.close();
        let end = sleep(limit);
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = tasks.wait() => return true,
                Some(report) = self.reports.recv() => self.take(report),
                () = &mut end => return false,
            }
        }
    }
}

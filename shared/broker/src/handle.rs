//! One claimed event in a slot: the handler runs against its deadline, and its answer becomes an outcome.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use futures_util::FutureExt as _;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tracing::Instrument as _;
use worker::{Claims, DeadClass, Failure, Handled, Handler, Outcome, budget, decide, failpoint};

use crate::lease::Lease;
use crate::parse::{InFlight, Subject};
use crate::settle::Settling;
use crate::shared::Shared;

impl<H: Handler, C: Claims<Grant = H::Grant>> Shared<H, C> {
    /// From the grant to the acknowledgement. The slot is free as soon as the handler has ended. `Some`: handle it as
    /// if just received.
    pub(crate) async fn handle(
        &self,
        mut in_flight: InFlight,
        grant: H::Grant,
        lease: Lease,
        slot: OwnedSemaphorePermit,
    ) -> Option<InFlight> {
        failpoint::hit_for("after_claim", in_flight.event_id());
        let link = (self.link_of)(&grant);
        let began = Instant::now();
        self.counters.slots_used.inc();
        let outcome = self.answer(&in_flight, grant).await;
        self.counters.slots_used.dec();
        self.counters
            .handled(in_flight.job.event.event_type, began.elapsed());
        in_flight.admitted = None;
        drop(slot);
        self.slot_freed.notify_one();
        let Some(outcome) = outcome else {
            // The drain is no failure: the next process gets the delivery with its attempt number unchanged.
            self.counters.aborted.inc();
            self.abandon(lease, in_flight.event_id(), "the process stopped")
                .await;
            return None;
        };
        self.settle(Settling {
            subject: Subject::Event(in_flight),
            outcome,
            lease: Some(lease),
            link,
        })
        .await
    }

    /// `None`: stopped by the drain.
    async fn answer(&self, in_flight: &InFlight, grant: H::Grant) -> Option<Outcome> {
        let job = &in_flight.job;
        let span = tracing::info_span!(
            "handle",
            event.id = job.event.id,
            event.r#type = %job.event.event_type,
            tenant.id = %job.event.tenant,
            handler = self.handler.name(),
            attempt = job.delivery.metadata.attempt,
        );
        let deadline = self.handler.policy().deadline;
        let handling = self.handler.handle(job, grant, deadline);
        let handling = async {
            match &in_flight.admitted {
                Some(event) => budget::admitted(event, handling).await,
                None => handling.await,
            }
        };
        let handling = AssertUnwindSafe(handling).catch_unwind().instrument(span);
        let answer = tokio::select! {
            answer = timeout(deadline, handling) => answer,
            () = self.aborting.cancelled() => return None,
        };
        let answer: Result<Handled, Failure> = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(panic)) => {
                self.counters.panics.inc();
                return Some(decide::panicked(panic_text(panic.as_ref())));
            }
            // The effect ledger covers a call that was under way.
            Err(_) => {
                self.counters.timeouts.inc();
                let message = format!("the handler took longer than {} s", deadline.as_secs());
                Err(Failure::transient(DeadClass::Timeout, message))
            }
        };
        Some(decide::decide(answer, self.context(job)))
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}

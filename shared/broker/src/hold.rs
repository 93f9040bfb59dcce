//! Holds in batches: what came together within 20 ms is one insert. A storm of held events (a suspended connection)
//! is the one case in which thousands per second must be written.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use worker::{HoldItem, HoldVerdict, Holds, PortError};

use crate::counters::Counters;

/// Most rows of one insert.
const BATCH: usize = 500;
/// How long the first of a batch waits for others.
const WAIT: Duration = Duration::from_millis(20);

type Answer = oneshot::Sender<Result<HoldVerdict, PortError>>;

/// Hands items to the task that writes them. Clones share the task; it ends with the last clone.
#[derive(Clone)]
pub(crate) struct Holder(mpsc::Sender<(HoldItem, Answer)>);

impl Holder {
    pub(crate) fn start(holds: Arc<dyn Holds>, counters: Arc<Counters>) -> Self {
        let (sender, receiver) = mpsc::channel(BATCH);
        tokio::spawn(write(receiver, holds, counters));
        Self(sender)
    }

    pub(crate) async fn hold(&self, item: HoldItem) -> Result<HoldVerdict, PortError> {
        let (answer, answered) = oneshot::channel();
        let ended = || PortError("the task that writes holds has ended".to_owned());
        self.0
            .send((item, answer))
            .await
            .map_err(|_unsent| ended())?;
        answered.await.map_err(|_unanswered| ended())?
    }
}

async fn write(
    mut incoming: mpsc::Receiver<(HoldItem, Answer)>,
    holds: Arc<dyn Holds>,
    counters: Arc<Counters>,
) {
    while let Some(first) = incoming.recv().await {
        let until = Instant::now() + WAIT;
        let mut batch = vec![first];
        while batch.len() < BATCH {
            match timeout_at(until, incoming.recv()).await {
                Ok(Some(next)) => batch.push(next),
                Ok(None) | Err(_) => break,
            }
        }
        let (items, answers): (Vec<HoldItem>, Vec<Answer>) = batch.into_iter().unzip();
        counters.hold_calls.inc();
        match holds.hold(items.clone()).await {
            Ok(verdicts) if verdicts.len() == items.len() => {
                for (answer, verdict) in answers.into_iter().zip(verdicts) {
                    let _ = answer.send(Ok(verdict));
                }
            }
            Err(error) if items.len() == 1 => {
                for answer in answers {
                    let _ = answer.send(Err(PortError(error.0.clone())));
                }
            }
            // One bad row must not fail its neighbours.
            Ok(_) | Err(_) => {
                for (item, answer) in items.into_iter().zip(answers) {
                    let single = holds.hold(vec![item]).await;
                    let missing = || PortError("no verdict for a held event".to_owned());
                    let _ = answer.send(
                        single.and_then(|verdicts| verdicts.into_iter().next().ok_or_else(missing)),
                    );
                }
            }
        }
    }
}

//! The publishers: each delivery at its time, by its way, again and again until it was accepted, as docs/events.md asks of
//! a sender.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{anyhow, bail};
use serde_json::Value;
use testkit::{Answer, Publisher, Route};
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::{Instant, sleep, sleep_until};

use crate::harness::Harness;
use crate::processes::Processes;
use crate::workload::{Delivery, Way, Workload};

/// Deliveries that wait for a publisher.
pub(crate) const WAITING: usize = 10_000;
/// Publishers beside each other; each waits for the confirm or answer of one delivery.
pub(crate) const PUBLISHERS: usize = 12;
/// One delivery, servers being away meanwhile.
const ACCEPTED: Duration = Duration::from_secs(300);
const AGAIN: Duration = Duration::from_millis(200);
const PATH: &str = "/v1/events";

/// What was accepted: confirmed by the broker, or answered with 202.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// Of each event of the workload, how often.
    times: Vec<AtomicUsize>,
    /// Failures that a sender repeats, whole deliveries and all.
    pub(crate) repeats: AtomicU64,
    pub(crate) deliveries: AtomicU64,
    refused: Mutex<Vec<String>>,
}

impl Accepted {
    pub(crate) fn nothing(workload: &Workload) -> Self {
        Self {
            times: workload
                .events
                .iter()
                .map(|_| AtomicUsize::new(0))
                .collect(),
            repeats: AtomicU64::new(0),
            deliveries: AtomicU64::new(0),
            refused: Mutex::default(),
        }
    }

    pub(crate) fn times(&self, event: usize) -> usize {
        self.times[event].load(Ordering::Relaxed)
    }

    /// Answers that a sender must not repeat: there should be none.
    pub(crate) fn refused(&self) -> Vec<String> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.clone()
    }

    fn note(&self, delivery: &Delivery) {
        for event in &delivery.events {
            self.times[*event].fetch_add(1, Ordering::Relaxed);
        }
        self.deliveries.fetch_add(1, Ordering::Relaxed);
    }
}

/// Hands out the deliveries at their times.
pub(crate) async fn feed(workload: &Workload, begin: Instant, to: Sender<Delivery>) {
    for delivery in &workload.deliveries {
        sleep_until(begin + delivery.at).await;
        if to.send(delivery.clone()).await.is_err() {
            return;
        }
    }
}

/// Publishes until nobody hands out any more.
pub(crate) async fn publish(
    harness: &Harness,
    processes: &Processes,
    workload: &Workload,
    accepted: &Accepted,
    from: &Arc<tokio::sync::Mutex<Receiver<Delivery>>>,
    number: usize,
) -> anyhow::Result<()> {
    let mut sender = SenderOf {
        harness,
        processes,
        workload,
        publisher: None,
        turn: number,
    };
    loop {
        let next = from.lock().await.recv().await;
        let Some(delivery) = next else {
            return Ok(());
        };
        let begin = Instant::now();
        loop {
            match sender.send(&delivery).await {
                Ok(()) => break accepted.note(&delivery),
                Err(Failure::Refused(why)) => {
                    let mut refused = accepted
                        .refused
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    refused.push(why);
                    break;
                }
                Err(Failure::Again(error)) if begin.elapsed() > ACCEPTED => {
                    bail!("not accepted within {ACCEPTED:?}: {error:#}");
                }
                Err(Failure::Again(_)) => {
                    accepted.repeats.fetch_add(1, Ordering::Relaxed);
                    sleep(AGAIN).await;
                }
            }
        }
    }
}

enum Failure {
    /// Unknown, or not now.
    Again(anyhow::Error),
    Refused(String),
}

struct SenderOf<'a> {
    harness: &'a Harness,
    processes: &'a Processes,
    workload: &'a Workload,
    publisher: Option<Publisher>,
    turn: usize,
}

impl SenderOf<'_> {
    async fn send(&mut self, delivery: &Delivery) -> Result<(), Failure> {
        if delivery.way == Way::Amqp {
            let sent = self.by_amqp(delivery).await;
            if sent.is_err() {
                self.publisher = None;
            }
            return sent.map_err(Failure::Again);
        }
        self.turn += 1;
        self.by_http(delivery).await
    }

    async fn by_amqp(&mut self, delivery: &Delivery) -> anyhow::Result<()> {
        let publisher = match self.publisher.take() {
            Some(publisher) => publisher,
            None => self.harness.broker.publisher().await?,
        };
        for event in &delivery.events {
            if publisher.event(&self.workload.events[*event].value).await? == Route::Returned {
                bail!("returned");
            }
        }
        self.publisher = Some(publisher);
        Ok(())
    }

    async fn by_http(&self, delivery: &Delivery) -> Result<(), Failure> {
        let events: Vec<Value> = delivery
            .events
            .iter()
            .map(|event| self.workload.events[*event].value.clone())
            .collect();
        let tenant = self.workload.events[delivery.events[0]].tenant.name;
        let token = self.harness.tokens.get(tenant).cloned().unwrap_or_default();
        let http = self.processes.gateway(self.turn);
        let http = http.ok_or_else(|| Failure::Again(anyhow!("no gateway")))?;
        let http = http.with_token(token);
        let answered = match delivery.way {
            Way::Structured => http.post_event(PATH, &events[0]).await,
            Way::Binary => http.post_binary(PATH, &events[0]).await,
            Way::Batch | Way::Amqp => http.post_batch(PATH, &events).await,
        };
        match answered {
            Ok(Answer { status: 202, .. }) => Ok(()),
            Ok(Answer {
                status: 408 | 429 | 503,
                text,
                ..
            }) => Err(Failure::Again(anyhow!(text))),
            Ok(other) => Err(Failure::Refused(format!("{other:?}"))),
            Err(error) => Err(Failure::Again(error.into())),
        }
    }
}

//! From the outbox to the queues: take what is due, publish, wait for the confirms, delete. Killed between confirm and
//! delete, the rows are published twice with the same ids, which their receivers recognise (docs/tests.md, crash window
//! 17).

use std::time::Duration;

use broker::PublishError;
use event::headers::{DEAD_LETTER, GENERATION, REPLAY};
use futures_util::future::join_all;
use serde_json::Value;
use store::{Error, Pool, outbox};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};
use worker::failpoint;
use worker::trace::spans::Relayed;
use worker::trace::{self, Relation, spans};

use crate::readiness::{Part, Readiness};

/// Messages in flight of one relay; the publisher's own window is as large.
const BATCH: i64 = 256;
/// How often an idle relay looks. A row is published this much later than written, at most.
const LOOK: Duration = Duration::from_millis(200);
/// After an error of the database or while the broker takes nothing.
const PAUSE: Duration = Duration::from_secs(1);
/// A batch takes at most the publisher's confirm time-out and two statements.
pub(crate) const SILENCE: Duration = Duration::from_secs(60);

pub(crate) struct Relay<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) publisher: broker::Publisher,
    /// The exchange where nobody need listen.
    pub(crate) outcomes: String,
    pub(crate) readiness: &'a Readiness,
}

/// What became of a row.
enum Fate {
    Confirmed(i64),
    /// Its own fault: it waits longer each time.
    Failed(i64, String),
    /// The broker took nothing from anybody: due again at once.
    Unsent(String),
}

impl Relay<'_> {
    /// Until the shutdown; the batch in hand is finished.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        self.readiness.expect(Part::Relay, SILENCE);
        while !shutdown.is_cancelled() {
            let pause = match self.round().await {
                Ok(Round::Idle) => {
                    self.readiness.worked(Part::Relay);
                    LOOK
                }
                Ok(Round::Busy) => {
                    self.readiness.worked(Part::Relay);
                    continue;
                }
                Ok(Round::Unsent(reason)) => {
                    self.readiness.hindered(Part::Relay, reason);
                    PAUSE
                }
                Err(error) => {
                    tracing::warn!(error = %error.with_causes(), "the outbox cannot be read");
                    self.readiness.hindered(Part::Relay, error.to_string());
                    PAUSE
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    async fn round(&self) -> Result<Round, Error> {
        // Without a transaction: most looks of an idle relay find nothing.
        if !outbox::any_due(self.pool).await? {
            return Ok(Round::Idle);
        }
        let mut batch = outbox::take(self.pool, BATCH).await?;
        let due = std::mem::take(&mut batch.due);
        if due.is_empty() {
            // Others have them.
            batch.finish(&[], &[]).await?;
            return Ok(Round::Idle);
        }
        let fates = join_all(due.into_iter().map(|row| self.publish(row))).await;
        failpoint::hit("relay_after_confirm");
        let (mut confirmed, mut failed, mut unsent) = (Vec::new(), Vec::new(), None);
        for fate in fates {
            match fate {
                Fate::Confirmed(seq) => confirmed.push(seq),
                Fate::Failed(seq, reason) => failed.push((seq, reason)),
                Fate::Unsent(reason) => unsent = Some(reason),
            }
        }
        batch.finish(&confirmed, &failed).await?;
        let metrics = &self.readiness.metrics;
        metrics.relayed.inc_by(confirmed.len() as u64);
        metrics.relay_failures.inc_by(failed.len() as u64);
        Ok(match unsent {
            Some(reason) => Round::Unsent(reason),
            None => Round::Busy,
        })
    }

    async fn publish(&self, mut row: outbox::Due) -> Fate {
        let span = span(&row);
        trace::write_headers(&span, &mut row.headers);
        self.publish_row(row, &span).instrument(span.clone()).await
    }

    async fn publish_row(&self, row: outbox::Due, span: &Span) -> Fate {
        let published = self
            .publisher
            .publish_json(
                &row.exchange,
                &row.routing_key,
                row.body,
                &row.properties,
                &row.headers,
            )
            .await;
        // What nobody listens to has been told all the same.
        let unheard = |error: &PublishError| matches!(error, PublishError::Returned { .. });
        let told = row.exchange == self.outcomes && published.as_ref().is_err_and(unheard);
        if published.is_err() && !told {
            spans::failed(span, "not_published");
        }
        match published {
            _ if told => Fate::Confirmed(row.seq),
            Ok(()) => Fate::Confirmed(row.seq),
            Err(PublishError::Closed(reason)) => Fate::Unsent(reason),
            Err(
                error @ (PublishError::Returned { .. }
                | PublishError::Nacked
                | PublishError::Unknown
                | PublishError::Invalid(_)),
            ) => {
                let event = row.properties.get("message_id").and_then(Value::as_str);
                tracing::warn!(event.id = event, seq = row.seq, attempts = row.attempts, %error, "an outbox row was not published");
                Fate::Failed(row.seq, error.to_string())
            }
        }
    }
}

/// A row that names a generation was held or is a replay: it may have waited for days, and begins a trace of its own.
/// Others were written a moment ago.
fn span(row: &outbox::Due) -> Span {
    let text = |name: &str| row.headers.get(name).and_then(Value::as_str);
    let why = if text(REPLAY).is_some() {
        Relayed::Replay
    } else if row.headers.get(GENERATION).is_some() {
        Relayed::Release
    } else {
        Relayed::Row
    };
    let to = if row.exchange.is_empty() {
        &row.routing_key
    } else {
        &row.exchange
    };
    let span = spans::relay(why, to, row.seq, text(REPLAY), text(DEAD_LETTER));
    let relation = match why {
        Relayed::Row => Relation::Child,
        Relayed::Release | Relayed::Replay => Relation::Link,
    };
    trace::join_headers(&span, &row.headers, relation);
    span
}

enum Round {
    Idle,
    Busy,
    Unsent(String),
}

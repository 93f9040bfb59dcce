//! Acknowledgements of one channel, written together: what was settled while the last ones were being written goes out
//! next, and of a row without gaps only the last one, for all. Awaiting each write for itself costs a worker half its speed.
//!
//! Nothing is acknowledged here that was not settled: `multiple` is used only up to the first delivery that is still in
//! hand. A slow one holds nobody up; those behind it are acknowledged one by one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use lapin::Acker;
use lapin::options::BasicAckOptions;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::counters::Counters;
use crate::readiness::Readiness;

/// Most acknowledgements written at once.
const BATCH: usize = 64;

/// A settled delivery with its tag.
type Settled = (u64, Acker);

/// Hands settled deliveries to the task that acknowledges them. It ends with the last clone.
#[derive(Clone)]
pub(crate) struct Acks(mpsc::Sender<Settled>);

/// The task of one channel.
pub(crate) struct Writing(JoinHandle<()>);

impl Acks {
    /// `prefetch`: no more than that can wait here.
    pub(crate) fn start(
        prefetch: u16,
        over: CancellationToken,
        counters: Arc<Counters>,
        readiness: Arc<Readiness>,
    ) -> (Self, Writing) {
        let (sender, settled) = mpsc::channel(usize::from(prefetch).max(1));
        let writer = Writer {
            over,
            counters,
            readiness,
        };
        (Self(sender), Writing(tokio::spawn(writer.run(settled))))
    }

    /// False: the channel is over.
    pub(crate) async fn write(&self, tag: u64, acker: Acker) -> bool {
        self.0.send((tag, acker)).await.is_ok()
    }
}

impl Writing {
    /// Until everything is written; whoever can still settle must be gone.
    pub(crate) async fn ends_within(self, limit: Duration) -> bool {
        timeout(limit, self.0).await.is_ok()
    }
}

struct Writer {
    over: CancellationToken,
    counters: Arc<Counters>,
    readiness: Arc<Readiness>,
}

impl Writer {
    async fn run(self, mut settled: mpsc::Receiver<Settled>) {
        let mut progress = Progress::default();
        let mut batch = Vec::with_capacity(BATCH);
        while settled.recv_many(&mut batch, BATCH).await > 0 {
            let covered = batch.len() as u64;
            let acks = progress.plan(batch.drain(..));
            let written = self.write(acks).await;
            if written > 0 {
                self.readiness.settled();
            }
            self.counters.settle_lost.inc_by(covered - written);
        }
    }

    /// How many deliveries the written ones cover.
    async fn write(&self, acks: Vec<Ack>) -> u64 {
        if self.over.is_cancelled() {
            return 0;
        }
        let sent = join_all(acks.into_iter().map(async |ack| {
            let options = BasicAckOptions {
                multiple: ack.covers > 1,
            };
            match ack.acker.ack(options).await {
                Ok(true) => ack.covers,
                Ok(false) | Err(_) => 0,
            }
        }));
        tokio::select! {
            sent = sent => sent.into_iter().sum(),
            () = self.over.cancelled() => 0,
        }
    }
}

/// One acknowledgement to be written; of more than one delivery, if it covers more.
struct Ack {
    acker: Acker,
    covers: u64,
}

/// What of a channel has been settled. Tags count from 1.
struct Progress {
    /// The first delivery that is not settled.
    next: u64,
    /// Behind it, acknowledged already.
    ahead: BTreeSet<u64>,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            next: 1,
            ahead: BTreeSet::new(),
        }
    }
}

impl Progress {
    fn plan(&mut self, settled: impl Iterator<Item = Settled>) -> Vec<Ack> {
        let mut settled: Vec<Settled> = settled.collect();
        settled.sort_unstable_by_key(|(tag, _)| *tag);
        let tags: Vec<u64> = settled.iter().map(|(tag, _)| *tag).collect();
        let in_row = self.take(&tags);
        let mut acks = Vec::with_capacity(settled.len() + 1 - in_row.min(settled.len()));
        for (place, (_, acker)) in settled.into_iter().enumerate() {
            // Of the row only its last one, which is still to be acknowledged, as `multiple` demands.
            let covers = match place + 1 {
                last if last == in_row => in_row as u64,
                within if within < in_row => continue,
                _ => 1,
            };
            acks.push(Ack { acker, covers });
        }
        acks
    }

    /// How many of these, from the first, stand in a row without a gap behind everything that is settled. The others are
    /// acknowledged alone.
    fn take(&mut self, tags: &[u64]) -> usize {
        let mut in_row = 0;
        loop {
            if tags.get(in_row) == Some(&self.next) {
                in_row += 1;
            } else if !self.ahead.remove(&self.next) {
                break;
            }
            self.next += 1;
        }
        self.ahead.extend(&tags[in_row..]);
        in_row
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_row_is_one_and_what_is_behind_a_gap_is_alone() {
        let mut progress = Progress::default();
        assert_eq!(progress.take(&[1, 2, 3]), 3);
        assert_eq!(progress.take(&[5, 6]), 0);
        // The gap closes: the others behind it have been acknowledged.
        assert_eq!(progress.take(&[4]), 1);
        assert_eq!(progress.take(&[7, 8, 10]), 2);
        assert_eq!(progress.take(&[9]), 1);
        assert_eq!(progress.next, 11);
        assert!(progress.ahead.is_empty());
    }

    proptest! {
        /// Whatever the order and the batches: `multiple` never covers what is not settled, and everything is covered once.
        #[test]
        fn nothing_is_covered_before_it_is_settled(
            order in Just((1u64..=60).collect::<Vec<_>>()).prop_shuffle(),
            sizes in prop::collection::vec(1usize..9, 60),
        ) {
            let mut progress = Progress::default();
            let (mut left, mut settled) = (order.as_slice(), BTreeSet::new());
            let mut acknowledged = BTreeSet::new();
            for size in sizes {
                let (now, later) = left.split_at(size.min(left.len()));
                left = later;
                let mut tags = now.to_vec();
                tags.sort_unstable();
                settled.extend(&tags);
                let in_row = progress.take(&tags);
                if in_row > 0 {
                    let last = tags[in_row - 1];
                    prop_assert!((1..=last).all(|tag| settled.contains(&tag)));
                    prop_assert!(!acknowledged.contains(&last));
                    acknowledged.extend(1..=last);
                }
                for tag in &tags[in_row..] {
                    prop_assert!(acknowledged.insert(*tag));
                }
                prop_assert_eq!(&acknowledged, &settled);
            }
        }
    }
}

//! Opportunistic batches: takes what already waits, never waits to fill one. A batch that fails is repeated as singles,
//! so that one bad row cannot fail its neighbours.

use std::future::Future;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::Error;

type Waiting<Q, R> = (Q, oneshot::Sender<Result<R, Error>>);
type Work<Q, R> = Arc<dyn Fn(Vec<Q>) -> BoxFuture<'static, Result<Vec<R>, Error>> + Send + Sync>;

/// One statement in flight: what arrives meanwhile goes together in the next one, which costs the server less than two at once.
const IN_FLIGHT: usize = 1;

pub(super) struct Batcher<Q, R> {
    queue: mpsc::Sender<Waiting<Q, R>>,
}

impl<Q, R> Clone for Batcher<Q, R> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
        }
    }
}

impl<Q: Clone + Send + 'static, R: Send + 'static> Batcher<Q, R> {
    /// The tasks end when the last clone is dropped.
    pub(super) fn start<F>(
        limit: usize,
        queue_limit: usize,
        work: impl Fn(Vec<Q>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Vec<R>, Error>> + Send + 'static,
    {
        let (queue, waiting) = mpsc::channel(queue_limit);
        let waiting = Arc::new(Mutex::new(waiting));
        let work: Work<Q, R> = Arc::new(move |items| work(items).boxed());
        for _ in 0..IN_FLIGHT {
            tokio::spawn(serve(waiting.clone(), work.clone(), limit));
        }
        Self { queue }
    }

    pub(super) async fn call(&self, item: Q) -> Result<R, Error> {
        let (answer, answered) = oneshot::channel();
        self.queue
            .send((item, answer))
            .await
            .map_err(|_closed| Error::Closing)?;
        answered.await.map_err(|_closed| Error::Closing)?
    }
}

async fn serve<Q: Clone + Send, R: Send>(
    waiting: Arc<Mutex<mpsc::Receiver<Waiting<Q, R>>>>,
    work: Work<Q, R>,
    limit: usize,
) {
    loop {
        let mut batch = Vec::new();
        if waiting.lock().await.recv_many(&mut batch, limit).await == 0 {
            return;
        }
        let (items, answers): (Vec<Q>, Vec<_>) = batch.into_iter().unzip();
        match work(items.clone()).await {
            Ok(results) => {
                for (answer, result) in answers.into_iter().zip(results) {
                    let _ = answer.send(Ok(result));
                }
            }
            Err(error) if items.len() == 1 => {
                if let Some(answer) = answers.into_iter().next() {
                    let _ = answer.send(Err(error));
                }
            }
            Err(_batch_failed) => {
                for (item, answer) in items.into_iter().zip(answers) {
                    let single = work(vec![item]).await.map(|mut results| results.remove(0));
                    let _ = answer.send(single);
                }
            }
        }
    }
}

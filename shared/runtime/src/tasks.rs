//! The long-lived tasks of a process: started by name, watched, drained together.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use tokio::task::{Id, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Longest orderly end; Kubernetes' default grace period is 30 s.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(25);

/// What went wrong with a task, ready to be logged.
pub type TaskError = Box<dyn std::error::Error + Send + Sync>;

/// How one task ended.
#[derive(Debug)]
pub enum Ended {
    /// As it should: after the shutdown was asked for.
    Orderly,
    /// By itself, although a loop must not.
    Early,
    Failed(TaskError),
    Panicked(String),
    /// Still at work when the drain's time was up.
    Aborted,
}

/// How the process's tasks ended, by name.
#[derive(Debug, Default)]
pub struct Ending {
    pub tasks: Vec<(&'static str, Ended)>,
}

impl Ending {
    /// Every task ended because it was asked to, and in time.
    pub fn is_orderly(&self) -> bool {
        self.tasks
            .iter()
            .all(|(_, ended)| matches!(ended, Ended::Orderly))
    }
}

/// Tasks that live as long as the process. Each gets the shutdown token from its caller.
pub struct Tasks {
    shutdown: CancellationToken,
    drain_limit: Duration,
    set: JoinSet<Result<(), TaskError>>,
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    /// `shutdown` is cancelled by a signal, or by the first task that ends although nobody asked for it.
    pub fn new(shutdown: CancellationToken, drain_limit: Duration) -> Self {
        Self {
            shutdown,
            drain_limit,
            set: JoinSet::new(),
            names: HashMap::new(),
        }
    }

    pub fn spawn<E: Into<TaskError>>(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let handle = self
            .set
            .spawn(async move { task.await.map_err(Into::into) });
        self.names.insert(handle.id(), name);
    }

    /// Waits for the shutdown, then for all tasks, at most the drain limit; aborts the rest.
    pub async fn run(mut self) -> Ending {
        let mut ending = Ending::default();
        let shutdown = self.shutdown.clone();
        tokio::select! {
            () = shutdown.cancelled() => {}
            Some(first) = self.set.join_next_with_id() => {
                self.note(first, &mut ending);
                self.shutdown.cancel();
            }
        }
        let limit = self.drain_limit;
        let drained = timeout(limit, async {
            while let Some(next) = self.set.join_next_with_id().await {
                self.note(next, &mut ending);
            }
        });
        if drained.await.is_err() {
            self.set.abort_all();
            while let Some(next) = self.set.join_next_with_id().await {
                self.note(next, &mut ending);
            }
        }
        ending
    }

    fn note(
        &mut self,
        joined: Result<(Id, Result<(), TaskError>), tokio::task::JoinError>,
        ending: &mut Ending,
    ) {
        let asked = self.shutdown.is_cancelled();
        let (id, ended) = match joined {
            Ok((id, Ok(()))) => (id, if asked { Ended::Orderly } else { Ended::Early }),
            Ok((id, Err(error))) => (id, Ended::Failed(error)),
            Err(error) if error.is_cancelled() => (error.id(), Ended::Aborted),
            Err(error) => (error.id(), Ended::Panicked(error.to_string())),
        };
        let name = self.names.remove(&id).unwrap_or("task");
        match &ended {
            Ended::Orderly => tracing::debug!(task.name = name, "ended"),
            Ended::Early => tracing::error!(task.name = name, "ended by itself"),
            Ended::Failed(error) => tracing::error!(task.name = name, error = %error, "failed"),
            Ended::Panicked(text) => tracing::error!(task.name = name, error = %text, "panicked"),
            Ended::Aborted => {
                tracing::warn!(task.name = name, limit = ?self.drain_limit, "stopped in the middle: the drain took too long")
            }
        }
        ending.tasks.push((name, ended));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Nothing = std::convert::Infallible;

    fn endings(ending: &Ending) -> Vec<String> {
        let mut all: Vec<String> = ending
            .tasks
            .iter()
            .map(|(name, ended)| format!("{name} {ended:?}"))
            .collect();
        all.sort();
        all
    }

    #[tokio::test(start_paused = true)]
    async fn waits_for_what_is_under_way_and_aborts_what_takes_too_long() {
        let shutdown = CancellationToken::new();
        let mut tasks = Tasks::new(shutdown.clone(), DRAIN_LIMIT);
        let quick = shutdown.clone();
        tasks.spawn("quick", async move {
            quick.cancelled().await;
            tokio::time::sleep(Duration::from_secs(20)).await;
            Ok::<_, Nothing>(())
        });
        tasks.spawn("stuck", std::future::pending::<Result<(), Nothing>>());
        shutdown.cancel();
        let ending = tasks.run().await;
        assert_eq!(endings(&ending), ["quick Orderly", "stuck Aborted"]);
        assert!(!ending.is_orderly());
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ends_by_itself_ends_the_process() {
        let shutdown = CancellationToken::new();
        let mut tasks = Tasks::new(shutdown.clone(), DRAIN_LIMIT);
        tasks.spawn("broken", async { Err(std::io::Error::other("no broker")) });
        tasks.spawn("other", async move {
            shutdown.cancelled().await;
            Ok::<_, Nothing>(())
        });
        let ending = tasks.run().await;
        assert_eq!(endings(&ending)[0].split('(').next(), Some("broken Failed"));
        assert_eq!(endings(&ending)[1], "other Orderly");
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_named_and_ends_the_process() {
        let mut tasks = Tasks::new(CancellationToken::new(), DRAIN_LIMIT);
        tasks.spawn("mad", async {
            assert!(std::hint::black_box(false), "boom");
            Ok::<_, Nothing>(())
        });
        let ending = tasks.run().await;
        assert!(
            endings(&ending)[0].starts_with("mad Panicked"),
            "{:?}",
            endings(&ending)
        );
    }
}

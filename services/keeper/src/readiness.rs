//! What the health route of a keeper asks: each part tells when it last did its work, and what stood in its way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};

use crate::metrics::Metrics;

/// One part of the keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Relay,
    /// Commits dead letters; silent where nothing dies.
    Ledger,
    /// Whether the ledger's queues are read.
    DeadQueues,
    Janitor,
    Release,
    Pace,
    Replays,
}

impl Part {
    const ALL: [Self; 7] = [
        Self::Relay,
        Self::Ledger,
        Self::DeadQueues,
        Self::Janitor,
        Self::Release,
        Self::Pace,
        Self::Replays,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Ledger => "ledger",
            Self::DeadQueues => "dead-letter queues",
            Self::Janitor => "janitor",
            Self::Release => "release",
            Self::Pace => "paced release",
            Self::Replays => "replays",
        }
    }
}

/// Shared with the health and metrics routes.
#[derive(Debug)]
pub struct Readiness {
    started: Instant,
    parts: [State; Part::ALL.len()],
    pub metrics: Metrics,
}

#[derive(Debug, Default)]
struct State {
    /// How long it may be silent; zero: for ever.
    limit_ms: AtomicU64,
    /// Milliseconds since `started`.
    worked_ms: AtomicU64,
    obstacle: Mutex<Option<String>>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            parts: Default::default(),
            metrics: Metrics::default(),
        }
    }
}

impl Readiness {
    /// Why the keeper is not ready, in words for a person; empty where it is.
    pub fn problems(&self) -> Vec<String> {
        Part::ALL
            .into_iter()
            .filter_map(|part| Some(format!("{}: {}", part.as_str(), self.problem(part)?)))
            .collect()
    }

    fn problem(&self, part: Part) -> Option<String> {
        let state = &self.parts[part as usize];
        let limit = state.limit_ms.load(Ordering::Relaxed);
        if let Some(obstacle) = self.obstacle(part).as_ref() {
            return Some(obstacle.clone());
        }
        let silent = self
            .now()
            .saturating_sub(state.worked_ms.load(Ordering::Relaxed));
        (limit > 0 && silent > limit).then(|| format!("nothing done for {} s", silent / 1000))
    }

    pub fn ready(&self) -> bool {
        self.problems().is_empty()
    }

    /// All metrics of a keeper, to be registered once per process.
    pub fn collectors(self: &Arc<Self>) -> Vec<Box<dyn Collector>> {
        let mut all = self.metrics.collectors();
        all.push(Box::new(PartsWork::of(Arc::clone(self))));
        all
    }

    /// A part that does not say `worked` within `silence` is a problem from now on.
    pub(crate) fn expect(&self, part: Part, silence: Duration) {
        self.worked(part);
        let limit = u64::try_from(silence.as_millis()).unwrap_or(u64::MAX);
        self.parts[part as usize]
            .limit_ms
            .store(limit, Ordering::Relaxed);
    }

    pub(crate) fn worked(&self, part: Part) {
        self.parts[part as usize]
            .worked_ms
            .store(self.now(), Ordering::Relaxed);
        *self.obstacle(part) = None;
    }

    pub(crate) fn hindered(&self, part: Part, obstacle: String) {
        *self.obstacle(part) = Some(obstacle);
    }

    fn obstacle(&self, part: Part) -> std::sync::MutexGuard<'_, Option<String>> {
        self.parts[part as usize]
            .obstacle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Which parts do their work, asked at each scrape.
struct PartsWork {
    readiness: Arc<Readiness>,
    ok: IntGaugeVec,
}

impl PartsWork {
    fn of(readiness: Arc<Readiness>) -> Self {
        let opts = Opts::new(
            "kurir_keeper_part_ok",
            "1 while a part of the keeper does its work, or is switched off; 0: /readyz says why not.",
        );
        let ok = IntGaugeVec::new(opts, &["part"])
            .expect("a metric's name, labels and help are well formed");
        Self { readiness, ok }
    }
}

impl Collector for PartsWork {
    fn desc(&self) -> Vec<&Desc> {
        self.ok.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for part in Part::ALL {
            let ok = self.readiness.problem(part).is_none();
            self.ok.with_label_values(&[part.as_str()]).set(ok.into());
        }
        self.ok.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_stands_in_the_way_until_it_works_again() {
        let readiness = Readiness::default();
        assert!(
            readiness.ready(),
            "a part that is switched off is no problem"
        );
        readiness.expect(Part::Relay, Duration::from_secs(30));
        assert!(readiness.ready());
        readiness.hindered(Part::Relay, "the database cannot be reached".to_owned());
        assert_eq!(
            readiness.problems(),
            ["relay: the database cannot be reached"]
        );
        readiness.worked(Part::Relay);
        assert!(readiness.ready());
    }

    #[test]
    fn silence_is_a_problem() {
        let readiness = Readiness::default();
        readiness.expect(Part::Janitor, Duration::from_millis(1));
        let began = Instant::now();
        while readiness.ready() && began.elapsed() < Duration::from_secs(5) {
            std::thread::yield_now();
        }
        assert_eq!(readiness.problems(), ["janitor: nothing done for 0 s"]);
    }
}

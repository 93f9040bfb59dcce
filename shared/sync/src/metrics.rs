//! What became of calls that write at a partner, and of re-checks, as Prometheus metrics of one system.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts};

use crate::effect::Operation;

/// Upper bounds in seconds; 75 is half of the shortest settle time in use (alert KurirPartnerCommitsLate).
const COMMIT_BUCKETS: [f64; 12] = [
    0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 30.0, 75.0, 300.0,
];

/// How a call that writes ended, as far as is known now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The partner answered that it did it.
    Confirmed,
    /// No answer was heard, and a look-up found it done.
    Found,
    Refused,
    /// It never left.
    NotSent,
    /// It left, and no usable answer came: looked up before anything else is sent.
    Unknown,
    /// Not found when its time to settle was over.
    Abandoned,
}

impl Ending {
    const ALL: [Self; 6] = [
        Self::Confirmed,
        Self::Found,
        Self::Refused,
        Self::NotSent,
        Self::Unknown,
        Self::Abandoned,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Found => "found",
            Self::Refused => "refused",
            Self::NotSent => "not_sent",
            Self::Unknown => "unknown",
            Self::Abandoned => "abandoned",
        }
    }
}

/// What a look after an abandoned call or a refused create concluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recheck {
    Fine,
    /// Older content of ours had come late and was written over.
    Rewritten,
    Conflict,
}

impl Recheck {
    const ALL: [Self; 3] = [Self::Fine, Self::Rewritten, Self::Conflict];

    fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Rewritten => "rewritten",
            Self::Conflict => "conflict",
        }
    }
}

/// One per worker.
#[derive(Debug)]
pub struct Metrics {
    effects: IntCounterVec,
    late: IntCounter,
    rechecked: IntCounterVec,
    commit_seconds: HistogramVec,
}

fn made<T>(metric: prometheus::Result<T>) -> T {
    metric.expect("a metric's name, labels and help are well formed")
}

impl Metrics {
    /// Series for all operations of the engine exist from the start.
    pub fn new(system: &str) -> Self {
        let opts = |name: &str, help: &str| Opts::new(name, help).const_label("system", system);
        let effects = made(IntCounterVec::new(
            opts(
                "kurir_effects_total",
                "Calls that write at a partner, by what is known of them: confirmed, found (done although the answer was lost), refused, not_sent, unknown (looked up before anything else is sent; counted again when its end is known), abandoned (not found when its time to settle was over).",
            ),
            &["operation", "outcome"],
        ));
        let rechecked = made(IntCounterVec::new(
            opts(
                "kurir_links_rechecked_total",
                "Records looked at once more after a call whose end was not certain: fine, rewritten (older content of ours had come late), conflict (a person must look).",
            ),
            &["result"],
        ));
        let commit_seconds = made(HistogramVec::new(
            HistogramOpts {
                common_opts: opts(
                    "kurir_partner_commit_seconds",
                    "From the moment a writing call was sent until its answer, late answers included. Near the time to settle a record could be made twice: raise that time.",
                ),
                buckets: COMMIT_BUCKETS.to_vec(),
            },
            &["operation"],
        ));
        for operation in Operation::ALL {
            commit_seconds.with_label_values(&[operation.as_str()]);
            for ending in Ending::ALL {
                effects.with_label_values(&[operation.as_str(), ending.as_str()]);
            }
        }
        for result in Recheck::ALL {
            rechecked.with_label_values(&[result.as_str()]);
        }
        Self {
            effects,
            late: made(IntCounter::with_opts(opts(
                "kurir_effects_late_total",
                "Answers that came when somebody else had already settled the call.",
            ))),
            rechecked,
            commit_seconds,
        }
    }

    /// Everything, to be registered once per process.
    pub fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![
            Box::new(self.effects.clone()),
            Box::new(self.late.clone()),
            Box::new(self.rechecked.clone()),
            Box::new(self.commit_seconds.clone()),
        ]
    }

    pub(crate) fn ended(&self, operation: Operation, ending: Ending) {
        self.effects
            .with_label_values(&[operation.as_str(), ending.as_str()])
            .inc();
    }

    pub(crate) fn answered(&self, operation: Operation, after: Duration) {
        self.commit_seconds
            .with_label_values(&[operation.as_str()])
            .observe(after.as_secs_f64());
    }

    pub(crate) fn late(&self) {
        self.late.inc();
    }

    pub(crate) fn rechecked(&self, result: Recheck) {
        self.rechecked.with_label_values(&[result.as_str()]).inc();
    }
}

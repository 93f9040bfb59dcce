//! What one worker does, as Prometheus metrics with the label `worker`: counted since its start, never reset.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Utc};
use event::EventType;
use prometheus::core::Collector;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
};
use worker::{AckReason, DeadClass, HoldCause, Outcome};

/// Upper bounds in seconds: what the OpenTelemetry messaging conventions advise, and the longest deadlines.
const HANDLER_BUCKETS: [f64; 13] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0,
];
/// From a blink to an hour: beyond it somebody has been told already.
const CRITICAL_TIME_BUCKETS: [f64; 13] = [
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0,
];
/// `message_type` of what is no event.
const UNKNOWN: &str = "unknown";
/// `outcome`, as the log line of the decision names it.
const OUTCOMES: [&str; 5] = ["ack", "retry", "wait", "hold", "dead_letter"];

/// Names of reasons, causes and classes are those of the lists in `worker`. All series exist from the start, so that the
/// first of a kind is seen as an increase.
#[derive(Debug)]
pub struct Counters {
    pub received: IntCounter,
    pub redelivered: IntCounter,
    processed: IntCounterVec,
    acked: IntCounterVec,
    retried: IntCounterVec,
    held: IntCounterVec,
    dead: IntCounterVec,
    handler_seconds: HistogramVec,
    critical_seconds: HistogramVec,
    last_processed: IntGauge,
    pub(crate) slots: IntGauge,
    pub(crate) slots_used: IntGauge,
    waiting: IntGaugeVec,
    in_flight: IntGauge,
    pub(crate) consuming: IntGauge,
    /// Holds whose cause was gone when they were to be written.
    pub cause_gone: IntCounter,
    /// Handled, but the acknowledgement could not be sent: the broker delivers it again.
    pub settle_lost: IntCounter,
    /// Settle steps that failed and were repeated.
    pub settle_repeated: IntCounter,
    /// Given up after the limit: the channel was closed and everything on it came back.
    pub settle_abandoned: IntCounter,
    pub claim_calls: IntCounter,
    pub claimed_events: IntCounter,
    pub claim_failures: IntCounter,
    pub hold_calls: IntCounter,
    pub panics: IntCounter,
    pub timeouts: IntCounter,
    /// Handlers stopped by the drain.
    pub aborted: IntCounter,
    pub exclusive_runs: IntCounter,
    /// Consumers opened: 1 more than those that vanished.
    pub consumers_opened: IntCounter,
}

/// What a decoded delivery waits for inside the process.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stage {
    Prepare,
    Permits,
    Claim,
    Slot,
}

impl Stage {
    const ALL: [Self; 4] = [Self::Prepare, Self::Permits, Self::Claim, Self::Slot];

    fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Permits => "permits",
            Self::Claim => "claim",
            Self::Slot => "slot",
        }
    }
}

/// Names and help texts are constants: a mistake in them is found by the first test that starts a worker.
fn made<T>(metric: prometheus::Result<T>) -> T {
    metric.expect("a metric's name, labels and help are well formed")
}

struct Maker<'a>(&'a str);

impl Maker<'_> {
    fn opts(&self, name: &str, help: &str) -> Opts {
        Opts::new(format!("kurir_{name}"), help).const_label("worker", self.0)
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        made(IntCounter::with_opts(self.opts(name, help)))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        made(IntGauge::with_opts(self.opts(name, help)))
    }

    fn counters<'a>(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = &'a str>,
    ) -> IntCounterVec {
        let counters = made(IntCounterVec::new(self.opts(name, help), &[label]));
        for value in values {
            counters.with_label_values(&[value]);
        }
        counters
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> HistogramVec {
        let opts = HistogramOpts {
            common_opts: self.opts(name, help),
            buckets: buckets.to_vec(),
        };
        made(HistogramVec::new(opts, &["message_type"]))
    }
}

impl Counters {
    /// For one worker that handles these types.
    pub fn new(worker: &str, consumes: &[EventType]) -> Self {
        let make = Maker(worker);
        let types: Vec<&str> = consumes.iter().map(|known| known.as_str()).collect();
        let processed = made(IntCounterVec::new(
            make.opts(
                "messages_processed_total",
                "Decisions carried out, by type of message and outcome: ack (done, or nothing to do), retry (failed, comes again), wait (comes again, not counted as an attempt), hold (kept in the database until its cause is gone), dead_letter (given up, a person decides).",
            ),
            &["message_type", "outcome"],
        ));
        let handler_seconds = make.histogram(
            "message_handler_duration_seconds",
            "How long handlers ran, calls to partners and their limits included.",
            &HANDLER_BUCKETS,
        );
        let critical_seconds = make.histogram(
            "message_critical_time_seconds",
            "From the event's own time until it was done: what a user waits for. Retries, holds and replays included.",
            &CRITICAL_TIME_BUCKETS,
        );
        for kind in types.iter().copied().chain([UNKNOWN]) {
            for outcome in OUTCOMES {
                processed.with_label_values(&[kind, outcome]);
            }
        }
        for kind in types {
            handler_seconds.with_label_values(&[kind]);
            critical_seconds.with_label_values(&[kind]);
        }
        let waiting = made(IntGaugeVec::new(
            make.opts(
                "messages_waiting",
                "Deliveries in this process that wait: prepare (for the database's answers about tenant and connection), permits (for the partner's budget), claim (for a claim of their link), slot (for a free handler).",
            ),
            &["stage"],
        ));
        for stage in Stage::ALL {
            waiting.with_label_values(&[stage.as_str()]);
        }
        Self {
            received: make.counter("messages_received_total", "Deliveries received from the worker's queue."),
            redelivered: make.counter("messages_redelivered_total", "Of those received: delivered before, to a process or channel that ended. Rises at restarts; steadily rising means that something ends again and again."),
            processed,
            acked: make.counters("messages_acked_total", "Deliveries that are done, by what was found or done.", "reason", AckReason::ALL.iter().map(|known| known.as_str())),
            retried: make.counters("messages_retried_total", "Deliveries sent to a waiting queue: counted (an attempt failed) or uncounted (something stood in the way).", "kind", ["counted", "uncounted"]),
            held: make.counters("messages_held_total", "Events moved into the database to wait for the end of a cause.", "cause", HoldCause::ALL.iter().map(|known| known.as_str())),
            dead: make.counters("messages_dead_lettered_total", "Events given up: they wait for a person as dead letters.", "class", DeadClass::ALL.iter().map(|known| known.as_str())),
            handler_seconds,
            critical_seconds,
            last_processed: make.gauge("last_processed_timestamp_seconds", "When a delivery was settled last, Unix time; 0 before the first."),
            slots: make.gauge("worker_slots", "Handlers that may run at a time in this process."),
            slots_used: make.gauge("worker_slots_used", "Handlers that run now."),
            waiting,
            in_flight: make.gauge("messages_in_flight", "Deliveries that this process has and has not settled; bounded by the prefetch."),
            consuming: make.gauge("worker_consuming", "1 while the worker has a consumer on its queue, else 0."),
            cause_gone: make.counter("hold_cause_gone_total", "Events that were to be held when the cause had just ended; they were handled at once."),
            settle_lost: make.counter("settle_lost_total", "Deliveries handled whose acknowledgement could not be sent: the broker delivers them again and they are found done."),
            settle_repeated: make.counter("settle_repeated_total", "Steps of settling (copy, hold, give back) that failed and were repeated: broker or database did not answer."),
            settle_abandoned: make.counter("settle_abandoned_total", "Settlings given up after ten minutes; the channel was closed and its deliveries came back."),
            claim_calls: make.counter("claim_batches_total", "Statements that claimed events."),
            claimed_events: make.counter("claimed_events_total", "Events in those statements."),
            claim_failures: make.counter("claim_failures_total", "Claim statements that failed."),
            hold_calls: make.counter("hold_batches_total", "Statements that held events."),
            panics: make.counter("handler_panics_total", "Handlers that panicked: a bug; the event is retried."),
            timeouts: make.counter("handler_timeouts_total", "Handlers that ran past their deadline and were stopped."),
            aborted: make.counter("handler_aborted_total", "Handlers stopped because the process was ending; their events come again."),
            exclusive_runs: make.counter("exclusive_runs_total", "Events handled with nothing beside them, because two claims of them never came back."),
            consumers_opened: make.counter("consumers_opened_total", "Consumers opened: one more than those that were lost."),
        }
    }

    /// Everything, to be registered once per process.
    pub fn collectors(&self) -> Vec<Box<dyn Collector>> {
        let counters = [
            &self.received,
            &self.redelivered,
            &self.cause_gone,
            &self.settle_lost,
            &self.settle_repeated,
            &self.settle_abandoned,
            &self.claim_calls,
            &self.claimed_events,
            &self.claim_failures,
            &self.hold_calls,
            &self.panics,
            &self.timeouts,
            &self.aborted,
            &self.exclusive_runs,
            &self.consumers_opened,
        ];
        let vectors = [
            &self.processed,
            &self.acked,
            &self.retried,
            &self.held,
            &self.dead,
        ];
        let gauges = [
            &self.last_processed,
            &self.slots,
            &self.slots_used,
            &self.consuming,
            &self.in_flight,
        ];
        let mut all: Vec<Box<dyn Collector>> = Vec::new();
        all.extend(counters.map(|metric| Box::new(metric.clone()) as Box<dyn Collector>));
        all.extend(vectors.map(|metric| Box::new(metric.clone()) as Box<dyn Collector>));
        all.extend(gauges.map(|metric| Box::new(metric.clone()) as Box<dyn Collector>));
        all.push(Box::new(self.handler_seconds.clone()));
        all.push(Box::new(self.critical_seconds.clone()));
        all.push(Box::new(self.waiting.clone()));
        all
    }

    pub fn acked(&self, reason: AckReason) -> u64 {
        self.acked.with_label_values(&[reason.as_str()]).get()
    }

    pub fn held(&self, cause: HoldCause) -> u64 {
        self.held.with_label_values(&[cause.as_str()]).get()
    }

    pub fn dead(&self, class: DeadClass) -> u64 {
        self.dead.with_label_values(&[class.as_str()]).get()
    }

    /// Failed attempts that come again.
    pub fn retried(&self) -> u64 {
        self.retried.with_label_values(&["counted"]).get()
    }

    /// Those that something stood in the way of: no attempt.
    pub fn waited(&self) -> u64 {
        self.retried.with_label_values(&["uncounted"]).get()
    }

    pub(crate) fn has(&self, deliveries: u64) {
        self.in_flight
            .set(i64::try_from(deliveries).unwrap_or(i64::MAX));
    }

    pub(crate) fn waits(&self, stage: Stage, deliveries: usize) {
        self.waiting
            .with_label_values(&[stage.as_str()])
            .set(i64::try_from(deliveries).unwrap_or(i64::MAX));
    }

    pub(crate) fn handled(&self, kind: EventType, took: Duration) {
        self.handler_seconds
            .with_label_values(&[kind.as_str()])
            .observe(took.as_secs_f64());
    }

    /// Counted when the outcome is carried out, not when it is decided. `kind` and `since` are absent where no event
    /// could be read, `since` also where the event says no time.
    pub(crate) fn settled(
        &self,
        outcome: &Outcome,
        kind: Option<EventType>,
        since: Option<DateTime<Utc>>,
    ) {
        let kind = kind.map_or(UNKNOWN, EventType::as_str);
        match outcome {
            Outcome::Ack(reason) => self.acked.with_label_values(&[reason.as_str()]).inc(),
            Outcome::RetryLater { counted, .. } => {
                let kind = if *counted { "counted" } else { "uncounted" };
                self.retried.with_label_values(&[kind]).inc();
            }
            Outcome::Hold { cause, .. } => self.held.with_label_values(&[cause.as_str()]).inc(),
            Outcome::DeadLetter { class, .. } => {
                self.dead.with_label_values(&[class.as_str()]).inc();
            }
        }
        self.processed
            .with_label_values(&[kind, outcome.as_str()])
            .inc();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        self.last_processed
            .set(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        if let (Outcome::Ack(_), Some(since)) = (outcome, since) {
            // A clock that is a little ahead is no negative wait.
            let waited = (Utc::now() - since).to_std().unwrap_or_default();
            self.critical_seconds
                .with_label_values(&[kind])
                .observe(waited.as_secs_f64());
        }
    }
}

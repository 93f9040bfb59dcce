//! Names, arguments and bindings of everything at the broker. All of it is durable, and all meaning is in arguments:
//! no policy is needed, and a stray one shows up in the check. An object that exists with other arguments is never
//! deleted here; a person is told which one, what differs, and the command.
//!
//! Why each argument is what it is: docs/decisions, "RabbitMQ". The ones that surprise: `at-least-once` silently
//! works as at-most-once without `reject-publish`; no length limit anywhere, because a retry tier returns into its worker's
//! queue; a delivery limit on every queue, because newer brokers drop at 20 where none is given.

mod check;
mod declare;
mod object;
#[cfg(test)]
mod tests;

use event::EventType;
use worker::{RETRY_TIERS, RetryTier};

pub use check::Finding;
use object::{Argument, Binding, Block, Kind, Object};
pub(crate) use object::{NOT_FOUND, code};

/// Deliveries of one message to a worker's queue before the broker gives up (N + 1 deliveries).
pub(crate) const DELIVERY_LIMIT: i64 = 30;
/// "Never": -1 and 0 mean "dead after the first return" on 3.10.
pub(crate) const NO_DELIVERY_LIMIT: i64 = 1_000_000;

/// Every name, from one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    prefix: String,
}

impl Topology {
    pub fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
        }
    }

    /// The topic exchange that every event is published to.
    pub fn events(&self) -> String {
        format!("{}.events", self.prefix)
    }

    /// The topic exchange on which Kurir tells what became of events. Nothing is kept there: who wants to know binds a queue.
    pub fn outcomes(&self) -> String {
        format!("{}.outcomes", self.prefix)
    }

    /// The exchange that gets what nobody is bound for, and the queue that keeps it.
    pub fn unrouted(&self) -> String {
        format!("{}.unrouted", self.prefix)
    }

    /// The queue through which everything unrouted comes to the one that keeps it. There it lives for no time at all,
    /// because a message loses its publisher's `expiration` where the broker moves it on, and only there: in a queue
    /// that keeps it would be dropped after that time without a word.
    pub fn unrouted_entry(&self) -> String {
        format!("{}.unrouted.in", self.prefix)
    }

    /// The exchange between the two. A gateway declares it, and must not need the default exchange, which reaches every
    /// queue.
    pub fn unrouted_kept(&self) -> String {
        format!("{}.unrouted.kept", self.prefix)
    }

    pub fn queue(&self, worker: &str) -> String {
        format!("{}.{worker}", self.prefix)
    }

    pub fn retry_tier(&self, worker: &str, retry_tier: RetryTier) -> String {
        format!("{}.{worker}.retry.{}", self.prefix, retry_tier.name)
    }

    pub fn dead(&self, worker: &str) -> String {
        format!("{}.{worker}.dead", self.prefix)
    }

    /// `<type>.<tenant>`
    pub fn routing_key(event_type: EventType, tenant: &event::TenantId) -> String {
        format!("{event_type}.{tenant}")
    }

    /// What nobody is bound for has its queue before anything can be published.
    fn events_blocks(&self) -> [Block; 3] {
        let (unrouted, entry, kept) =
            (self.unrouted(), self.unrouted_entry(), self.unrouted_kept());
        let fanout = |name: &str| Object {
            kind: Kind::Fanout,
            name: name.to_owned(),
            arguments: vec![],
        };
        let bound = |exchange: &str, queue: &str| Binding {
            exchange: exchange.to_owned(),
            queue: queue.to_owned(),
            key: String::new(),
        };
        let passing = Object {
            kind: Kind::Queue,
            name: entry.clone(),
            // Without a routing key of its own: each message keeps the one that it was published with.
            arguments: vec![
                quorum(),
                ("x-message-ttl", Argument::Number(0)),
                ("x-dead-letter-exchange", text(&kept)),
                ("x-dead-letter-strategy", text("at-least-once")),
                ("x-overflow", text("reject-publish")),
                limit(NO_DELIVERY_LIMIT),
            ],
        };
        let events = Object {
            kind: Kind::Topic,
            name: self.events(),
            arguments: vec![("alternate-exchange", text(&unrouted))],
        };
        [
            Block {
                objects: vec![fanout(&kept), kept_queue(unrouted.clone())],
                bindings: vec![bound(&kept, &unrouted)],
            },
            Block {
                objects: vec![fanout(&unrouted), passing],
                bindings: vec![bound(&unrouted, &entry)],
            },
            Block {
                objects: vec![events],
                bindings: vec![],
            },
        ]
    }

    /// Not a publisher's business: workers and keepers declare it.
    fn outcomes_block(&self) -> Block {
        Block {
            objects: vec![Object {
                kind: Kind::Topic,
                name: self.outcomes(),
                arguments: vec![],
            }],
            bindings: vec![],
        }
    }

    fn blocks(&self, workers: &[(&str, &[EventType])]) -> impl Iterator<Item = Block> {
        let workers: Vec<Block> = workers
            .iter()
            .map(|(worker, consumes)| self.worker_block(worker, consumes))
            .collect();
        self.events_blocks()
            .into_iter()
            .chain([self.outcomes_block()])
            .chain(workers)
    }

    fn worker_block(&self, worker: &str, consumes: &[EventType]) -> Block {
        let queue = self.queue(worker);
        let mut objects = vec![
            kept_queue(self.dead(worker)),
            Object {
                kind: Kind::Queue,
                name: queue.clone(),
                arguments: [quorum(), limit(DELIVERY_LIMIT)]
                    .into_iter()
                    .chain(dead_letter_to(&self.dead(worker)))
                    .collect(),
            },
        ];
        objects.extend(RETRY_TIERS.map(|retry_tier| {
            let ttl = i64::try_from(retry_tier.delay.as_millis()).unwrap_or(i64::MAX);
            Object {
                kind: Kind::Queue,
                name: self.retry_tier(worker, retry_tier),
                arguments: [quorum(), ("x-message-ttl", Argument::Number(ttl))]
                    .into_iter()
                    .chain(dead_letter_to(&queue))
                    .chain([limit(NO_DELIVERY_LIMIT)])
                    .collect(),
            }
        }));
        let bindings = consumes
            .iter()
            .map(|consumed| Binding {
                exchange: self.events(),
                queue: queue.clone(),
                key: format!("{consumed}.#"),
            })
            .collect();
        Block { objects, bindings }
    }
}

fn text(value: &str) -> Argument {
    Argument::Text(value.to_owned())
}

fn quorum() -> (&'static str, Argument) {
    ("x-queue-type", text("quorum"))
}

fn limit(deliveries: i64) -> (&'static str, Argument) {
    ("x-delivery-limit", Argument::Number(deliveries))
}

/// A queue that must never drop or expire anything by itself.
fn kept_queue(name: String) -> Object {
    Object {
        kind: Kind::Queue,
        name,
        arguments: vec![quorum(), limit(NO_DELIVERY_LIMIT)],
    }
}

/// Through the default exchange: there is no binding that somebody could lose.
fn dead_letter_to(queue: &str) -> [(&'static str, Argument); 4] {
    [
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text(queue)),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-overflow", text("reject-publish")),
    ]
}

//! Names, arguments and bindings of everything at the broker. All of it is durable, and all meaning is in arguments:
//! no policy is needed, and a stray one shows up in the check. An object that exists with other arguments is never
//! deleted here; a person is told which one, what differs, and the command.
//!
//! Why each argument is what it is: docs/decisions, "RabbitMQ". The ones that surprise: `at-least-once` silently
//! works as at-most-once without `reject-publish`; no length limit anywhere, because a rung returns into its worker's
//! queue; a delivery limit on every queue, because newer brokers drop at 20 where none is given.

use std::fmt;

use event::EventType;
use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use worker::{RUNGS, Rung};

use crate::connection::{Broker, CONNECT_LIMIT};
use crate::error::Error;

/// Deliveries of one message to a worker's queue before the broker gives up (N + 1 deliveries).
pub(crate) const DELIVERY_LIMIT: i64 = 30;
/// "Never": -1 and 0 mean "dead after the first return" on 3.10.
pub(crate) const NO_DELIVERY_LIMIT: i64 = 1_000_000;

/// Every name, from one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    prefix: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Argument {
    Text(String),
    Number(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Topic,
    Fanout,
    Queue,
}

/// An exchange or a queue with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Object {
    kind: Kind,
    name: String,
    arguments: Vec<(&'static str, Argument)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Binding {
    exchange: String,
    queue: String,
    key: String,
}

/// What belongs together, in the order in which it must appear: a way out exists before anything can arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Block {
    objects: Vec<Object>,
    bindings: Vec<Binding>,
}

/// An object exists with another argument than ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{object} exists with {argument} = {there}, this version needs {here}; nothing was changed. {command}"
)]
pub struct Mismatch {
    /// For example `queue kurir.metakocka-sync.retry.1s`.
    pub object: String,
    pub argument: String,
    pub here: String,
    pub there: String,
    /// What a person does about it.
    pub command: String,
}

/// One line of `kurir topology check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    Missing {
        object: String,
    },
    Differs(Mismatch),
    /// A policy matches an object of ours: of argument and policy the smaller counts, either way round.
    Policy {
        object: String,
        policy: String,
        definition: String,
    },
    Unbound {
        queue: String,
        exchange: String,
        key: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { object } => write!(
                f,
                "{object} is missing; the role that owns it declares it at its start"
            ),
            Self::Differs(mismatch) => mismatch.fmt(f),
            Self::Policy {
                object,
                policy,
                definition,
            } => write!(
                f,
                "{object} is changed by the policy '{policy}' ({definition}): the smaller value counts; \
                 remove it with: rabbitmqctl clear_policy '{policy}'"
            ),
            Self::Unbound {
                queue,
                exchange,
                key,
            } => {
                write!(
                    f,
                    "queue {queue} is not bound to {exchange} with '{key}'; its worker binds it at its start"
                )
            }
        }
    }
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

    /// Exchange and queue of what nobody is bound for.
    pub fn unrouted(&self) -> String {
        format!("{}.unrouted", self.prefix)
    }

    pub fn queue(&self, worker: &str) -> String {
        format!("{}.{worker}", self.prefix)
    }

    pub fn rung(&self, worker: &str, rung: Rung) -> String {
        format!("{}.{worker}.retry.{}", self.prefix, rung.name)
    }

    pub fn dead(&self, worker: &str) -> String {
        format!("{}.{worker}.dead", self.prefix)
    }

    /// `<type>.<tenant>`
    pub fn routing_key(event_type: EventType, tenant: &event::TenantId) -> String {
        format!("{event_type}.{tenant}")
    }

    /// What nobody is bound for has its queue before anything can be published.
    fn events_blocks(&self) -> [Block; 2] {
        let unrouted = self.unrouted();
        let alternate = vec![("alternate-exchange", text(&unrouted))];
        let events = Object {
            kind: Kind::Topic,
            name: self.events(),
            arguments: alternate,
        };
        let fanout = Object {
            kind: Kind::Fanout,
            name: unrouted.clone(),
            arguments: vec![],
        };
        let bound = Binding {
            exchange: unrouted.clone(),
            queue: unrouted.clone(),
            key: String::new(),
        };
        [
            Block {
                objects: vec![fanout, kept_queue(unrouted)],
                bindings: vec![bound],
            },
            Block {
                objects: vec![events],
                bindings: vec![],
            },
        ]
    }

    fn blocks(&self, workers: &[(&str, &[EventType])]) -> impl Iterator<Item = Block> {
        let workers: Vec<Block> = workers
            .iter()
            .map(|(worker, consumes)| self.worker_block(worker, consumes))
            .collect();
        self.events_blocks().into_iter().chain(workers)
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
        objects.extend(RUNGS.map(|rung| {
            let ttl = i64::try_from(rung.delay.as_millis()).unwrap_or(i64::MAX);
            Object {
                kind: Kind::Queue,
                name: self.rung(worker, rung),
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

    /// Exchanges and the queue of unrouted events: what a publisher needs. Repeating it changes nothing.
    pub async fn declare_events(&self, broker: &Broker) -> Result<(), Error> {
        let session = broker.session_within(CONNECT_LIMIT).await?;
        let channel = session.connection.create_channel().await?;
        self.declare_events_on(&channel).await
    }

    async fn declare_events_on(&self, channel: &lapin::Channel) -> Result<(), Error> {
        for block in self.events_blocks() {
            block.declare(channel).await?;
        }
        Ok(())
    }

    /// Everything of one worker, bindings last. Repeating it changes nothing and costs about 10 ms.
    pub async fn declare_worker(
        &self,
        broker: &Broker,
        worker: &str,
        consumes: &[EventType],
    ) -> Result<(), Error> {
        let session = broker.session_within(CONNECT_LIMIT).await?;
        let channel = session.connection.create_channel().await?;
        self.declare_worker_on(&channel, worker, consumes).await
    }

    pub(crate) async fn declare_worker_on(
        &self,
        channel: &lapin::Channel,
        worker: &str,
        consumes: &[EventType],
    ) -> Result<(), Error> {
        self.declare_events_on(channel).await?;
        self.worker_block(worker, consumes).declare(channel).await
    }

    /// Looks at what is there without creating anything that is missing. `workers`: name and consumed types.
    pub async fn check(
        &self,
        broker: &Broker,
        workers: &[(&str, &[EventType])],
    ) -> Result<Vec<Finding>, Error> {
        let session = broker.session_within(CONNECT_LIMIT).await?;
        let mut findings = Vec::new();
        for object in self.objects(workers) {
            // A refusal closes the channel, so each object is asked on its own.
            let channel = session.connection.create_channel().await?;
            match object.look(&channel).await {
                Ok(()) => {}
                Err(Error::Amqp(error)) if code(&error) == Some(NOT_FOUND) => {
                    findings.push(Finding::Missing {
                        object: object.to_string(),
                    });
                }
                Err(Error::Topology(mismatch)) => findings.push(Finding::Differs(*mismatch)),
                Err(other) => return Err(other),
            }
        }
        Ok(findings)
    }

    /// What only the management API tells: policies and bindings. `queues` and `bindings` are the parsed answers of
    /// `GET /api/queues/<vhost>` and `GET /api/bindings/<vhost>`.
    pub fn check_management(
        &self,
        queues: &serde_json::Value,
        bindings: &serde_json::Value,
        workers: &[(&str, &[EventType])],
    ) -> Vec<Finding> {
        let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
        let is = |value: &serde_json::Value, member: &str, expected: &str| {
            value.get(member).and_then(serde_json::Value::as_str) == Some(expected)
        };
        let queues = list(queues);
        let mut findings: Vec<Finding> = self
            .objects(workers)
            .into_iter()
            .filter(|object| object.kind == Kind::Queue)
            .filter_map(|object| {
                let there = queues
                    .iter()
                    .find(|queue| is(queue, "name", &object.name))?;
                let named = |member: &str| there.get(member).and_then(serde_json::Value::as_str);
                let policy = named("policy").or(named("operator_policy"))?.to_owned();
                let definition = there
                    .get("effective_policy_definition")
                    .map(ToString::to_string)
                    .unwrap_or_default();
                (!policy.is_empty()).then(|| Finding::Policy {
                    object: object.to_string(),
                    policy,
                    definition,
                })
            })
            .collect();
        let there = list(bindings);
        let wanted = self.blocks(workers).flat_map(|block| block.bindings);
        findings.extend(wanted.filter_map(|binding| {
            let found = there.iter().any(|row| {
                is(row, "source", &binding.exchange)
                    && is(row, "destination", &binding.queue)
                    && is(row, "routing_key", &binding.key)
            });
            let Binding {
                exchange,
                queue,
                key,
            } = binding;
            (!found).then_some(Finding::Unbound {
                queue,
                exchange,
                key,
            })
        }));
        findings
    }

    fn objects(&self, workers: &[(&str, &[EventType])]) -> Vec<Object> {
        self.blocks(workers)
            .flat_map(|block| block.objects)
            .collect()
    }
}

pub(crate) const NOT_FOUND: u16 = 404;
const PRECONDITION_FAILED: u16 = 406;

pub(crate) fn code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        lapin::ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
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

/// The only place where arguments become AMQP values: an integer of another width would be another topology.
fn table(arguments: &[(&'static str, Argument)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, argument) in arguments {
        let value = match argument {
            Argument::Text(text) => AMQPValue::LongString(text.as_str().into()),
            Argument::Number(number) => AMQPValue::LongLongInt(*number),
        };
        table.insert((*name).into(), value);
    }
    table
}

impl Block {
    async fn declare(&self, channel: &lapin::Channel) -> Result<(), Error> {
        for object in &self.objects {
            object.declare(channel).await?;
        }
        for Binding {
            exchange,
            queue,
            key,
        } in &self.bindings
        {
            let (queue, exchange, key) = (
                queue.as_str().into(),
                exchange.as_str().into(),
                key.as_str().into(),
            );
            channel
                .queue_bind(
                    queue,
                    exchange,
                    key,
                    QueueBindOptions::default(),
                    FieldTable::default(),
                )
                .await?;
        }
        Ok(())
    }
}

impl Object {
    async fn declare(&self, channel: &lapin::Channel) -> Result<(), Error> {
        self.ask(channel, false)
            .await
            .map_err(|error| match code(&error) {
                Some(PRECONDITION_FAILED) => {
                    Error::Topology(Box::new(self.mismatch(&error.to_string())))
                }
                _ => Error::Amqp(error),
            })
    }

    async fn look(&self, channel: &lapin::Channel) -> Result<(), Error> {
        self.ask(channel, true).await?;
        // It exists, so declaring it again creates nothing and compares every argument.
        self.declare(channel).await
    }

    async fn ask(&self, channel: &lapin::Channel, passive: bool) -> lapin::Result<()> {
        let name = self.name.as_str().into();
        let arguments = table(&self.arguments);
        let kind = match self.kind {
            Kind::Queue => {
                let options = QueueDeclareOptions {
                    passive,
                    durable: true,
                    ..QueueDeclareOptions::default()
                };
                return channel
                    .queue_declare(name, options, arguments)
                    .await
                    .map(|_depth| ());
            }
            Kind::Topic => ExchangeKind::Topic,
            Kind::Fanout => ExchangeKind::Fanout,
        };
        let options = ExchangeDeclareOptions {
            passive,
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        channel
            .exchange_declare(name, kind, options, arguments)
            .await
    }

    /// From the broker's sentence, for example "inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/':
    /// received '1000' but current is '2000'", in any of its forms.
    fn mismatch(&self, said: &str) -> Mismatch {
        let argument = between(said, "inequivalent arg '", "'")
            .unwrap_or("an argument")
            .to_owned();
        let ours = self
            .arguments
            .iter()
            .find(|(name, _)| *name == argument)
            .map(|(_, value)| value.to_string());
        let here = ours.unwrap_or_else(|| "what is declared in topology.rs".to_owned());
        let there = said
            .rsplit_once("current is ")
            .map_or(said, |(_, there)| there)
            .trim_matches('\'')
            .to_owned();
        let command = match self.kind {
            Kind::Queue => format!(
                "When it is empty and unused, remove it and start again: rabbitmqctl delete_queue {}",
                self.name
            ),
            Kind::Topic | Kind::Fanout => format!(
                "With all publishers stopped, remove it and start again: rabbitmqadmin delete exchange name={}",
                self.name
            ),
        };
        Mismatch {
            object: self.to_string(),
            argument,
            here,
            there,
            command,
        }
    }
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.split_once(before)?
        .1
        .split_once(after)
        .map(|(found, _)| found)
}

impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "'{text}'"),
            Self::Number(number) => number.fmt(f),
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Queue => "queue",
            Kind::Topic | Kind::Fanout => "exchange",
        };
        write!(f, "{kind} {}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(block: &Block) -> String {
        let objects = block.objects.iter().map(|object| {
            let arguments: Vec<_> = object
                .arguments
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            format!("{:?} {} {}", object.kind, object.name, arguments.join(" "))
                .trim_end()
                .to_owned()
        });
        let bindings = block
            .bindings
            .iter()
            .map(|bound| format!("bind {} -> {} '{}'", bound.exchange, bound.queue, bound.key));
        objects.chain(bindings).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_whole_topology() {
        let topology = Topology::new("kurir");
        let consumes = [
            EventType::CrmContactCreated,
            EventType::CrmContactUpdated,
            EventType::CrmContactDeleted,
        ];
        let blocks: Vec<Block> = topology.blocks(&[("metakocka-sync", &consumes)]).collect();
        insta::assert_snapshot!(blocks.iter().map(written).collect::<Vec<_>>().join("\n\n"));
    }

    /// Either argument alone loses messages silently (measured).
    #[test]
    fn every_queue_that_dead_letters_does_it_at_least_once() {
        let objects = Topology::new("t").worker_block("w", &[]).objects;
        for object in objects {
            let value = |name: &str| {
                object
                    .arguments
                    .iter()
                    .find(|(known, _)| *known == name)
                    .map(|(_, value)| value.clone())
            };
            if value("x-dead-letter-exchange").is_some() {
                assert_eq!(
                    value("x-dead-letter-strategy"),
                    Some(text("at-least-once")),
                    "{object}"
                );
                assert_eq!(
                    value("x-overflow"),
                    Some(text("reject-publish")),
                    "{object}"
                );
            }
            assert!(
                value("x-delivery-limit")
                    .is_some_and(|limit| matches!(limit, Argument::Number(1..))),
                "{object}"
            );
            assert_eq!(value("x-max-length"), None, "{object}");
        }
    }

    #[test]
    fn a_mismatch_is_read_in_every_form_the_broker_uses() {
        let rung = Topology::new("kurir")
            .worker_block("w", &[])
            .objects
            .remove(2);
        let read = |said: &str| {
            let Mismatch {
                argument,
                here,
                there,
                ..
            } = rung.mismatch(said);
            format!("{argument}: here {here}, there {there}")
        };
        let forms = [
            "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'kurir.w.retry.1s' in vhost '/': received '1000' but current is '2000'",
            "PRECONDITION_FAILED - inequivalent arg 'x-overflow' for queue 'kurir.w.retry.1s' in vhost '/': received the value 'reject-publish' of type 'longstr' but current is none",
            "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'kurir.w.retry.1s' in vhost '/': received 'true' but current is 'false'",
        ];
        insta::assert_snapshot!(forms.map(read).join("\n"), @r"
        x-message-ttl: here 1000, there 2000
        x-overflow: here 'reject-publish', there none
        durable: here what is declared in topology.rs, there false
        ");
    }

    #[test]
    fn policies_and_lost_bindings_are_found() {
        let topology = Topology::new("kurir");
        let queues = serde_json::json!([
            {"name": "kurir.w", "policy": "ttl-all", "effective_policy_definition": {"message-ttl": 60000}},
            {"name": "kurir.w.dead", "arguments": {}},
        ]);
        let bindings = serde_json::json!([{"source": "kurir.unrouted", "destination": "kurir.unrouted", "routing_key": ""}]);
        let findings = topology.check_management(
            &queues,
            &bindings,
            &[("w", &[EventType::CrmContactCreated])],
        );
        let shown: Vec<_> = findings.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(shown.join("\n"), @r#"
        queue kurir.w is changed by the policy 'ttl-all' ({"message-ttl":60000}): the smaller value counts; remove it with: rabbitmqctl clear_policy 'ttl-all'
        queue kurir.w is not bound to kurir.events with 'crm.contact.created.v1.#'; its worker binds it at its start
        "#);
    }
}

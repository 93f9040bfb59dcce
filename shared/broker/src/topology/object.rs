//! Exchanges, queues and bindings as data, and how one of them is declared and compared.

use std::fmt;

use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};

use crate::error::{Error, Mismatch};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Argument {
    Text(String),
    Number(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Topic,
    Fanout,
    Queue,
}

/// An exchange or a queue with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) arguments: Vec<(&'static str, Argument)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Binding {
    pub(super) exchange: String,
    pub(super) queue: String,
    pub(super) key: String,
}

/// What belongs together, in the order in which it must appear: a way out exists before anything can arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) objects: Vec<Object>,
    pub(super) bindings: Vec<Binding>,
}

pub(crate) const NOT_FOUND: u16 = 404;
const PRECONDITION_FAILED: u16 = 406;

pub(crate) fn code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        lapin::ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
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
    pub(super) async fn declare(&self, channel: &lapin::Channel) -> Result<(), Error> {
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
    pub(super) async fn declare(&self, channel: &lapin::Channel) -> Result<(), Error> {
        self.ask(channel, false)
            .await
            .map_err(|error| match code(&error) {
                Some(PRECONDITION_FAILED) => {
                    Error::Topology(Box::new(self.mismatch(&error.to_string())))
                }
                _ => Error::Amqp(error),
            })
    }

    pub(super) async fn look(&self, channel: &lapin::Channel) -> Result<(), Error> {
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
    pub(super) fn mismatch(&self, said: &str) -> Mismatch {
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

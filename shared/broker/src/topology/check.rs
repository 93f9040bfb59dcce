//! `kurir topology check`: what is there is compared with what should be, and nothing is created.

use std::fmt;

use event::EventType;
use serde_json::Value;

use super::Topology;
use super::object::{Binding, Kind, NOT_FOUND, Object, code};
use crate::connection::{Broker, CONNECT_LIMIT};
use crate::error::{Error, Mismatch};

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
        queues: &Value,
        bindings: &Value,
        workers: &[(&str, &[EventType])],
    ) -> Vec<Finding> {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let is = |value: &Value, member: &str, expected: &str| {
            value.get(member).and_then(Value::as_str) == Some(expected)
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
                let named = |member: &str| there.get(member).and_then(Value::as_str);
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

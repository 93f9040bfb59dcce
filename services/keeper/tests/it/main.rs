//! A keeper on a real RabbitMQ and a real PostgreSQL, each test with its own part of both.

mod accounts;
mod janitor;
mod ledger;
mod relay;
mod rig;

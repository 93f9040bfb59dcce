//! The broker crate on a real RabbitMQ. The ports of `worker` are this crate's boundary, so here, and only here, they are
//! small and in memory.

#![expect(clippy::unwrap_used, reason = "a test may end there")]

mod consumer;
mod endings;
mod fan_out;
mod hostile;
mod ports;
mod publisher;
mod queues;
mod scene;
mod topology;

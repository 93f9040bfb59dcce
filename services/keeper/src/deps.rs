//! What a keeper works with, and for whom.

use std::sync::Arc;

use store::links::Links;
use store::{Pool, QueuePrefix};
use worker::{Connections, Facets, Pins};

/// A worker whose dead letters and links this keeper looks after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Its queues are `<prefix>.<name>` and `<prefix>.<name>.dead`.
    pub name: String,
    /// The partner system that its links lead to.
    pub target_system: String,
    /// What it makes of its events.
    pub facets: Facets,
}

/// What it works with.
#[derive(Clone)]
pub struct Deps {
    pub pool: Pool,
    pub broker: broker::Broker,
    pub prefix: QueuePrefix,
    pub links: Links,
    pub connections: Arc<dyn Connections>,
    pub pins: Arc<dyn Pins>,
}

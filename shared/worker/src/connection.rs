//! A tenant's accounts at partners, as events see them.

use std::sync::Arc;

use event::TenantId;
use uuid::Uuid;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    Ok,
    Suspended,
}

/// A tenant's account at a partner, without its credentials.
#[derive(Clone, Debug, PartialEq)]
pub struct Connection {
    pub id: Uuid,
    pub tenant: TenantId,
    pub system: String,
    pub account: String,
    pub state: ConnectionState,
    /// Grows with every change of state or credentials: who acts on an old view is refused.
    pub epoch: i64,
    /// Off for this tenant: events are acknowledged as disabled.
    pub enabled: bool,
    pub settings: serde_json::Value,
}

/// What a tenant has at a system.
#[derive(Clone, Debug, PartialEq)]
pub enum ConnectionAnswer {
    /// All of them, whether on or off: at least one, in the order of their accounts.
    Known(Arc<[Arc<Connection>]>),
    NoConnection,
    UnknownTenant,
}

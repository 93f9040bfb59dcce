//! Who asks: one tenant, or the operator of the whole installation.

use event::TenantId;

/// Every statement on a tenant's rows takes one. A row outside of it is reported as missing, never as forbidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    /// The operator's command line, and Kurir's own roles.
    Everything,
    /// A caller who acts for this tenant.
    Tenant(&'a TenantId),
}

impl Scope<'_> {
    /// What statements compare with: `($1::text is null or tenant = $1)`.
    pub(crate) fn tenant(&self) -> Option<&str> {
        match self {
            Self::Everything => None,
            Self::Tenant(tenant) => Some(tenant.as_str()),
        }
    }
}

/// First part of every queue's name, `kurir` by default: a worker's queue is `<prefix>.<worker>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuePrefix(String);

impl QueuePrefix {
    pub fn new(prefix: impl Into<String>) -> Self {
        Self(prefix.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn worker_queue(&self, worker: &str) -> String {
        format!("{}.{worker}", self.0)
    }
}

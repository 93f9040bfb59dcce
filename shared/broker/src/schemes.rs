//! The version scheme of each source, as far as this process has learned it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use event::{TenantId, VersionScheme};

/// Sources whose version scheme is remembered; beyond it all are asked again.
const SCHEMES_LIMIT: usize = 10_000;

/// Version schemes as the store has pinned them.
#[derive(Debug, Default)]
pub(crate) struct Schemes(Mutex<HashMap<(TenantId, String), VersionScheme>>);

impl Schemes {
    pub(crate) fn get(&self, tenant: &TenantId, source: &str) -> Option<VersionScheme> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&(tenant.clone(), source.to_owned())).copied()
    }

    pub(crate) fn set(&self, tenant: &TenantId, source: &str, scheme: VersionScheme) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= SCHEMES_LIMIT {
            known.clear();
        }
        known.insert((tenant.clone(), source.to_owned()), scheme);
    }
}

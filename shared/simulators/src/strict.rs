//! Strict mode: a call with a field that the contract doesn't know is refused and remembered.

use chrono::{DateTime, Utc};
use serde::Serialize;

/// Most violations that are kept; later ones are only refused.
const MAX_VIOLATIONS: usize = 1_000;

/// A field that strict mode refused a call for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation<C> {
    pub at: DateTime<Utc>,
    pub call: C,
    /// As a path, e.g. `partner.foreign_country`.
    pub field: String,
}

/// Whether strict mode is on, and what it refused.
#[derive(Clone, Debug)]
pub struct Strict<C> {
    on: bool,
    violations: Vec<Violation<C>>,
}

impl<C: Copy> Strict<C> {
    pub fn new(on: bool) -> Self {
        Strict {
            on,
            violations: Vec::new(),
        }
    }

    pub fn is_on(&self) -> bool {
        self.on
    }

    pub fn set(&mut self, on: bool) {
        self.on = on;
    }

    /// Remembers the fields that a call was refused for.
    pub fn refused(&mut self, at: DateTime<Utc>, call: C, fields: Vec<String>) {
        let room = MAX_VIOLATIONS.saturating_sub(self.violations.len());
        let violation = |field| Violation { at, call, field };
        self.violations
            .extend(fields.into_iter().take(room).map(violation));
    }

    pub fn violations(&self) -> &[Violation<C>] {
        &self.violations
    }
}

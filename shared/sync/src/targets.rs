//! The partner's records that a content names: asked for while it is planned, found by the claim.
//!
//! An event is planned twice where it names any. The first time, before the claim, every name is a stand-in, and the plan only
//! says which links it needs. The second time, under the lease, the names are the records' ids: they are part of the
//! content like any other text, so a reference that leads elsewhere later is a change of the content.

use std::collections::BTreeMap;

use event::Event;
use store::links::{FoundReference, Reference};

/// References of one plan. More are no event's, and would make the claim of a batch long.
const LIMIT: usize = 1000;

/// What a plan may ask: which record of the partner is that record of a source?
#[derive(Clone, Debug)]
pub struct Targets {
    /// System and account of the event.
    source: (String, String),
    asked: Vec<Reference>,
    /// None before the claim.
    found: Option<BTreeMap<Reference, String>>,
}

impl Targets {
    /// Before the claim.
    pub(crate) fn unknown(event: &Event) -> Self {
        Self {
            source: (event.system.clone(), event.account.clone()),
            asked: Vec::new(),
            found: None,
        }
    }

    /// As the claim found them.
    pub(crate) fn found(event: &Event, references: &[FoundReference]) -> Self {
        let found = references
            .iter()
            .map(|one| (one.reference.clone(), one.target_id.clone()));
        Self {
            found: Some(found.collect()),
            ..Self::unknown(event)
        }
    }

    /// The id at the partner of the link `kind` of this record of the event's own source. Its worker's event waits until there
    /// is one: no id is ever made up.
    pub fn of(&mut self, kind: &str, record: &str) -> String {
        let (system, account) = self.source.clone();
        self.of_source(kind, &system, &account, record)
    }

    /// As [`Targets::of`], of a record of another source of the same tenant.
    pub fn of_source(&mut self, kind: &str, system: &str, account: &str, record: &str) -> String {
        let reference = Reference {
            kind: kind.to_owned(),
            source_system: system.to_owned(),
            source_account: account.to_owned(),
            source_id: record.to_owned(),
        };
        let id = self.found.as_ref().map(|found| found.get(&reference));
        let id = id.flatten().cloned();
        if self.asked.len() <= LIMIT && !self.asked.contains(&reference) {
            self.asked.push(reference);
        }
        id.unwrap_or_default()
    }

    /// What the plan needs.
    ///
    /// # Errors
    /// It needs more than any event may.
    pub(crate) fn asked(self) -> Result<Vec<Reference>, String> {
        match self.asked.len() {
            0..=LIMIT => Ok(self.asked),
            _ => Err(format!("it names more than {LIMIT} other records")),
        }
    }

    /// Whether the second plan asked for nothing that the first did not.
    pub(crate) fn complete(&self) -> bool {
        let found = self.found.as_ref();
        found.is_some_and(|found| self.asked.iter().all(|one| found.contains_key(one)))
    }
}

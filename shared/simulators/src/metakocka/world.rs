//! Everything behind the lock: the companies, the faults, the log.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Error;
use super::core::{Call, Company, CompanyState, Readings, Reply, Ticket, Violation};
use super::fault_queue::Faults;
use super::log::{Log, LogEntry};
use super::shared::Options;

/// How often things happened since the start or the last reset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Calls that reached the simulator, by name, whatever became of them.
    pub calls: BTreeMap<&'static str, u64>,
    /// Calls that changed a company's state, by name.
    pub stored: BTreeMap<&'static str, u64>,
    /// Faults that happened, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Unknown fields in strict mode.
    pub strict_violations: u64,
    /// Reads that found their company's lane taken and waited.
    pub queued_reads: u64,
}

impl Counts {
    /// How often a fault of this kind happened.
    pub fn fault(&self, name: &str) -> u64 {
        self.faults.get(name).copied().unwrap_or(0)
    }

    pub fn calls(&self, call: Call) -> u64 {
        self.calls.get(call.as_str()).copied().unwrap_or(0)
    }

    pub fn stored(&self, call: Call) -> u64 {
        self.stored.get(call.as_str()).copied().unwrap_or(0)
    }
}

/// What every company holds, for saving and restoring. No secret in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    pub companies: Vec<CompanyState>,
}

/// An unknown field in strict mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StrictViolation {
    pub company_id: String,
    #[serde(flatten)]
    pub violation: Violation,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) companies: BTreeMap<String, Company>,
    pub(super) readings: Readings,
    pub(super) strict: bool,
    pub(super) faults: Faults,
    pub(super) log: Log,
    pub(super) counts: Counts,
    seed: u64,
    /// Writes that were put off: the call they belong to, and whether somebody waits for the answer.
    late: HashMap<(String, Ticket), Late>,
    /// How often what the companies hold may have changed.
    changes: u64,
}

#[derive(Debug)]
struct Late {
    seq: u64,
    call: Call,
    awaited: bool,
    reply: Option<Reply>,
}

/// How a write that was put off stands.
pub(super) enum LateReply {
    NotYet,
    Done(Reply),
    /// The simulator was reset meanwhile.
    Forgotten,
}

impl World {
    pub(super) fn new(options: &Options) -> Result<Self, Error> {
        let mut companies = BTreeMap::new();
        for company in &options.companies {
            let mut company = company.clone();
            company
                .readings
                .get_or_insert_with(|| options.readings.clone());
            let id = company.company_id.clone();
            if companies
                .insert(id.clone(), Company::new(company))
                .is_some()
            {
                return Err(Error::CompanyTwice(id));
            }
        }
        let mut faults = Faults::new(options.seed);
        faults.set_random(options.random_faults.clone())?;
        let mut world = World {
            companies,
            readings: options.readings.clone(),
            strict: options.strict,
            faults,
            log: Log::default(),
            counts: Counts::default(),
            seed: options.seed,
            late: HashMap::new(),
            // An empty world is a state too.
            changes: 1,
        };
        world.set_strict(options.strict);
        if let Some(snapshot) = options.snapshot.clone() {
            world.restore(snapshot)?;
        }
        Ok(world)
    }

    pub(super) fn company(&mut self, company_id: &str) -> Result<&mut Company, Error> {
        self.companies
            .get_mut(company_id)
            .ok_or_else(|| Error::UnknownCompany(company_id.to_owned()))
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Whoever changes a company behind the calls says so.
    pub(super) fn changed(&mut self) {
        self.changes += 1;
    }

    /// Ids that no simulator gave that was started before, in this file or a lost one.
    pub(super) fn begin_ids(&mut self, now: DateTime<Utc>) {
        for company in self.companies.values_mut() {
            company.begin_ids(now);
        }
    }

    pub(super) fn set_readings(&mut self, readings: Readings) {
        for company in self.companies.values_mut() {
            company.set_readings(readings.clone());
        }
        self.readings = readings;
    }

    pub(super) fn set_strict(&mut self, strict: bool) {
        self.strict = strict;
        for company in self.companies.values_mut() {
            company.set_strict(strict);
        }
    }

    pub(super) fn strict_violations(&self) -> Vec<StrictViolation> {
        let of = |company: &Company| {
            let company_id = company.company_id().to_owned();
            let violation = |violation: &Violation| StrictViolation {
                company_id: company_id.clone(),
                violation: violation.clone(),
            };
            company
                .violations()
                .iter()
                .map(violation)
                .collect::<Vec<_>>()
        };
        self.companies.values().flat_map(of).collect()
    }

    pub(super) fn counts(&self) -> Counts {
        let violations = self
            .companies
            .values()
            .map(|company| company.violations().len() as u64)
            .sum();
        Counts {
            strict_violations: violations,
            ..self.counts.clone()
        }
    }

    pub(super) fn count_call(&mut self, call: Call) {
        *self.counts.calls.entry(call.as_str()).or_default() += 1;
    }

    pub(super) fn count_fault(&mut self, name: &'static str) {
        *self.counts.faults.entry(name).or_default() += 1;
    }

    /// Writes into the log, and counts, that a call was done.
    pub(super) fn record_done(&mut self, seq: u64, call: Call, at: DateTime<Utc>, reply: &Reply) {
        if reply.seen.stored {
            self.changed();
            *self.counts.stored.entry(call.as_str()).or_default() += 1;
        }
        self.log.tell(seq, |entry| {
            entry.stored = reply.seen.stored;
            entry.stored_at = reply.seen.stored.then_some(at);
            entry.mk_id = reply.seen.mk_id;
        });
    }

    /// Remembers whose write was put off.
    pub(super) fn remember_late(
        &mut self,
        company_id: &str,
        ticket: Ticket,
        seq: u64,
        call: Call,
        awaited: bool,
    ) {
        self.changed();
        self.late.insert(
            (company_id.to_owned(), ticket),
            Late {
                seq,
                call,
                awaited,
                reply: None,
            },
        );
    }

    /// Does all writes that are due, so that whoever looks now sees them.
    pub(super) fn settle(&mut self, now: DateTime<Utc>) {
        let mut done = Vec::new();
        for (company_id, company) in &mut self.companies {
            done.extend(
                company
                    .settle(now)
                    .into_iter()
                    .map(|finished| (company_id.clone(), finished)),
            );
        }
        for (company_id, finished) in done {
            let key = (company_id, finished.ticket);
            self.changed();
            // Restored from a snapshot: nobody here made that call.
            let Some(mut late) = self.late.remove(&key) else {
                continue;
            };
            self.record_done(late.seq, late.call, finished.at, &finished.reply);
            if late.awaited {
                late.reply = Some(finished.reply);
                self.late.insert(key, late);
            }
        }
    }

    /// How it stands with a write that was put off and is waited for.
    pub(super) fn take_late(&mut self, company_id: &str, ticket: Ticket) -> LateReply {
        let key = (company_id.to_owned(), ticket);
        let Some(late) = self.late.get_mut(&key) else {
            return LateReply::Forgotten;
        };
        match late.reply.take() {
            None => LateReply::NotYet,
            Some(reply) => {
                self.late.remove(&key);
                LateReply::Done(reply)
            }
        }
    }

    pub(super) fn log_call(&mut self, entry: LogEntry) -> u64 {
        if let Some(call) = entry.call {
            self.count_call(call);
        }
        self.log.push(entry)
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            companies: self.companies.values().map(Company::state).collect(),
        }
    }

    /// Companies that the snapshot doesn't name stay as they are.
    pub(super) fn restore(&mut self, snapshot: Snapshot) -> Result<(), Error> {
        for state in &snapshot.companies {
            self.company(&state.company_id)?;
        }
        for state in snapshot.companies {
            let company_id = state.company_id.clone();
            self.company(&company_id)?.restore(state);
        }
        self.late.clear();
        self.changed();
        Ok(())
    }

    /// Empties companies, log, counts and faults; readings, strictness and access stay. The dice start again at their seed.
    pub(super) fn reset(&mut self) {
        for company in self.companies.values_mut() {
            company.clear();
        }
        self.faults = Faults::new(self.seed);
        self.log.clear();
        self.counts = Counts::default();
        self.late.clear();
        self.changed();
    }
}

//! Everything behind the lock: the system that is simulated, the faults, the log.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::counts::Counts;
use crate::error::Error;
use crate::fault::{Fault as _, RandomFault};
use crate::fault_queue::Faults;
use crate::log::{Log, LogEntry};
use crate::plan::{Answer, Done, Heard, Request, Sending, Step, Ticket};
use crate::simulated::Simulated;

pub(crate) struct World<S: Simulated> {
    pub(crate) system: S,
    pub(crate) strict: bool,
    pub(crate) faults: Faults<S::Fault, S::Call>,
    pub(crate) log: Log<S::Call, S::Noted>,
    counts: Counts,
    seed: u64,
    /// Writes that were put off: the call they belong to, and whether somebody waits for the answer.
    late: HashMap<Ticket, Late<S::Call>>,
    /// How often what the accounts hold may have changed.
    changes: u64,
}

struct Late<C> {
    seq: u64,
    call: C,
    awaited: bool,
    answer: Option<Answer>,
}

/// How a write that was put off stands.
pub(crate) enum LateReply {
    NotYet,
    Done(Answer),
    /// The simulator was reset meanwhile.
    Forgotten,
}

impl<S: Simulated> World<S> {
    pub(crate) fn new(
        system: S,
        strict: bool,
        seed: u64,
        random: Vec<RandomFault<S::Fault, S::Call>>,
    ) -> Result<Self, Error> {
        let mut faults = Faults::new(seed);
        faults.set_random(random)?;
        let mut world = World {
            system,
            strict,
            faults,
            log: Log::new(),
            counts: Counts::default(),
            seed,
            late: HashMap::new(),
            // An empty world is a state too.
            changes: 1,
        };
        world.set_strict(strict);
        Ok(world)
    }

    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// Whoever changes the system behind the calls says so.
    pub(crate) fn changed(&mut self) {
        self.changes += 1;
    }

    pub(crate) fn set_strict(&mut self, strict: bool) {
        self.strict = strict;
        self.system.set_strict(strict);
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            strict_violations: self.system.strict_violations().len() as u64,
            ..self.counts.clone()
        }
    }

    /// A call found its lane taken.
    pub(crate) fn queued(&mut self) {
        self.counts.queued_reads += 1;
    }

    /// Begins a call: its place in the log, and what remains to be done for it.
    pub(crate) fn begin(
        &mut self,
        request: &Request,
        heard: Heard<S::Call, S::Noted>,
        now: DateTime<Utc>,
    ) -> (u64, Step) {
        if let Some(call) = heard.call {
            *self.counts.calls.entry(call.into()).or_default() += 1;
        }
        let path = request.below(S::ROOT);
        let seq = self.log.push(LogEntry::new(now, path, heard.clone()));
        let admitted = match self.system.admit(request, &heard, now) {
            Ok(admitted) => admitted,
            Err(refusal) => return (seq, Step::Now(Sending::Whole(refusal))),
        };
        let fault = self.pick_fault(seq, &heard);
        let plan = self.system.perform(admitted, fault, now);
        if let Some(done) = plan.done {
            self.record_done(seq, heard.call, now, done);
        }
        if let (Some(ticket), Some(call)) = (plan.put_off, heard.call) {
            self.changed();
            let late = Late {
                seq,
                call,
                awaited: matches!(plan.step, Step::WhenDone(..)),
                answer: None,
            };
            self.late.insert(ticket, late);
        }
        (seq, plan.step)
    }

    fn pick_fault(&mut self, seq: u64, heard: &Heard<S::Call, S::Noted>) -> Option<S::Fault> {
        let account = S::account(&heard.noted);
        let fault = self
            .faults
            .pick(account, heard.call?, &heard.body.to_string())?;
        let name = fault.name();
        *self.counts.faults.entry(name).or_default() += 1;
        self.log.tell(seq, |entry| entry.fault = Some(name));
        Some(fault)
    }

    /// Writes into the log, and counts, that a call was done.
    fn record_done(
        &mut self,
        seq: u64,
        call: Option<S::Call>,
        at: DateTime<Utc>,
        done: Done<S::Noted>,
    ) {
        if done.stored {
            self.changed();
        }
        if let (true, Some(call)) = (done.stored, call) {
            *self.counts.stored.entry(call.into()).or_default() += 1;
        }
        self.log.tell(seq, |entry| {
            entry.stored = done.stored;
            entry.stored_at = done.stored.then_some(at);
            entry.noted = done.noted;
        });
    }

    /// Does all writes that are due, so that whoever looks now sees them.
    pub(crate) fn settle(&mut self, now: DateTime<Utc>) {
        for settled in self.system.settle(now) {
            self.changed();
            // Restored from a snapshot: nobody here made that call.
            let Some(mut late) = self.late.remove(&settled.ticket) else {
                continue;
            };
            self.record_done(late.seq, Some(late.call), settled.at, settled.done);
            if late.awaited {
                late.answer = Some(settled.answer);
                self.late.insert(settled.ticket, late);
            }
        }
    }

    /// How it stands with a write that was put off and is waited for.
    pub(crate) fn take_late(&mut self, ticket: &Ticket) -> LateReply {
        let Some(late) = self.late.get_mut(ticket) else {
            return LateReply::Forgotten;
        };
        match late.answer.take() {
            None => LateReply::NotYet,
            Some(answer) => {
                self.late.remove(ticket);
                LateReply::Done(answer)
            }
        }
    }

    pub(crate) fn restore(&mut self, snapshot: S::Snapshot) -> Result<(), Error> {
        self.system.restore(snapshot)?;
        self.late.clear();
        self.changed();
        Ok(())
    }

    /// Empties accounts, log, counts and faults; readings, strictness and access stay. The dice start again at their seed.
    pub(crate) fn reset(&mut self) {
        self.system.clear();
        self.faults = Faults::new(self.seed);
        self.log.clear();
        self.counts = Counts::default();
        self.late.clear();
        self.changed();
    }
}

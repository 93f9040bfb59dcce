//! A partner on the virtual clock: it may be slow, lose answers, fail with or without a commit, commit late, refuse,
//! and its search lags behind its reads.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sync::{Answer, Call, Content, Fields, NaturalKey, Operation, Part, Record, RecordPart};

/// W + P + L of this partner: 5 s window, 50 s of work on a call given up, 10 s of index lag, and a margin.
pub(crate) const SETTLE: Duration = Duration::from_secs(75);
/// L: the longest `Partner::lag`.
pub(crate) const LAG: Duration = Duration::from_secs(10);
pub(crate) const LONGEST: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing: the call before a scripted one.
    None,
    /// Answers after 25 to 50 s, clearly.
    Slow,
    /// Commits, the answer is lost.
    Lost,
    /// An error, nothing stored.
    Error,
    /// An error now, the commit up to 50 s later.
    Late(i64),
    /// The connection is refused: provably not sent.
    Refused,
    /// Commits only after `SETTLE`: beyond the contract.
    TooLate,
    /// A listed refusal that stored the content all the same: beyond the contract.
    Lying,
}

/// What a call will have become, for the caller.
pub(crate) enum Sent {
    Answered { at: DateTime<Utc>, answer: Answer },
    Never,
    Refused,
    Unknown { at: DateTime<Utc> },
}

#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) record: Record,
    visible_at: DateTime<Utc>,
    /// As it is shown until then, where changes are shown late.
    before: Option<Record>,
    pub(crate) removed: bool,
    /// Somebody's, not ours.
    pub(crate) theirs: bool,
}

#[derive(Default)]
pub(crate) struct Partner {
    pub(crate) records: Vec<Stored>,
    pending: Vec<(DateTime<Utc>, String, Call)>,
    next_id: u64,
    /// Taken by the next calls, first in first out.
    pub(crate) script: VecDeque<Fault>,
    pub(crate) calls: Vec<Operation>,
    pub(crate) looks: usize,
    pub(crate) lag: i64,
    /// What was made or changed is away for the lag, to reads by id as well.
    pub(crate) hides: bool,
    /// What was changed is shown as it was before, for the lag, to reads by id.
    pub(crate) shows_late: bool,
    /// Names that are refused as data.
    pub(crate) refuses: Vec<String>,
    pub(crate) names_parts: bool,
    pub(crate) shows_record: bool,
    /// A record is deleted here when its source is.
    pub(crate) deletes: bool,
    /// The search still shows records that are gone.
    pub(crate) stale_index: bool,
}

pub(crate) fn key_of(fields: &std::collections::BTreeMap<String, String>) -> Option<NaturalKey> {
    fields
        .get("email")
        .map(|email| NaturalKey(format!("email|{email}")))
}

impl Partner {
    fn id(&mut self) -> String {
        self.next_id += 1;
        format!("p{}", self.next_id)
    }

    pub(crate) fn person_adds(&mut self, fields: Fields, parts: Vec<Part>, now: DateTime<Utc>) {
        let id = self.id();
        self.store(&id, fields, &parts, now);
        self.records.last_mut().expect("just stored").theirs = true;
    }

    pub(crate) fn person_adds_part(&mut self, record: usize, part: Part) {
        let id = self.id();
        let parts = &mut self.records[record].record.parts;
        parts.push(RecordPart { id, part });
    }

    fn store(&mut self, id: &str, fields: Fields, parts: &[Part], now: DateTime<Utc>) {
        let parts = parts
            .iter()
            .map(|part| RecordPart {
                id: self.id(),
                part: part.clone(),
            })
            .collect();
        let fields = fields
            .into_iter()
            .filter_map(|(name, value)| value.map(|value| (name, value)))
            .collect();
        let record = Record {
            id: id.to_owned(),
            fields,
            parts,
        };
        self.records.push(Stored {
            record,
            visible_at: now + TimeDelta::seconds(self.lag),
            before: None,
            removed: false,
            theirs: false,
        });
    }

    /// A person opens and saves it without changing anything.
    pub(crate) fn person_saves(&mut self, id: &str, now: DateTime<Utc>) {
        self.changed(id, now);
    }

    fn changed(&mut self, id: &str, now: DateTime<Utc>) {
        let until = now + TimeDelta::seconds(self.lag);
        let (hides, shows_late) = (self.hides, self.shows_late);
        let of = |stored: &&mut Stored| (hides || shows_late) && stored.record.id == id;
        if let Some(stored) = self.records.iter_mut().find(of) {
            stored.visible_at = until;
            stored.before = shows_late.then(|| stored.record.clone());
        }
    }

    fn apply(&mut self, id: &str, call: &Call, now: DateTime<Utc>) {
        let part_id = self.id();
        if let Some(target) = call.target_id() {
            self.changed(target, now);
        }
        match call {
            Call::Create { fields, parts } => self.store(id, fields.clone(), parts, now),
            Call::Update {
                id, changed, part, ..
            } => {
                let record = self.get_mut(id);
                if let Some((part_id, part)) = part
                    && let Some(shown) = record.parts.iter_mut().find(|shown| shown.id == *part_id)
                {
                    shown.part = part.clone();
                }
                for (name, value) in changed {
                    match value {
                        Some(value) => record.fields.insert(name.clone(), value.clone()),
                        None => record.fields.remove(name),
                    };
                }
            }
            Call::AppendPart { id, part } => self.get_mut(id).parts.push(RecordPart {
                id: part_id,
                part: part.clone(),
            }),
            Call::ChangePart { id, part_id, part } => {
                if let Some(shown) = self
                    .get_mut(id)
                    .parts
                    .iter_mut()
                    .find(|shown| shown.id == *part_id)
                {
                    shown.part = part.clone();
                }
            }
            Call::Delete { id } => {
                if let Some(stored) = self
                    .records
                    .iter_mut()
                    .find(|stored| stored.record.id == *id)
                {
                    stored.removed = true;
                }
            }
        }
    }

    fn get_mut(&mut self, id: &str) -> &mut Record {
        &mut self
            .records
            .iter_mut()
            .find(|stored| stored.record.id == id)
            .expect("calls name records that exist")
            .record
    }

    /// What was begun and is due by now happens, in the order of its time.
    pub(crate) fn advance(&mut self, now: DateTime<Utc>) {
        self.pending.sort_by_key(|(at, ..)| *at);
        while self.pending.first().is_some_and(|(at, ..)| *at <= now) {
            let (at, id, call) = self.pending.remove(0);
            self.apply(&id, &call, at);
        }
    }

    pub(crate) fn next_commit(&self) -> Option<DateTime<Utc>> {
        self.pending.iter().map(|(at, ..)| *at).min()
    }

    pub(crate) fn find(&mut self, keys: &[NaturalKey], now: DateTime<Utc>) -> Vec<Record> {
        self.looks += 1;
        let stale = self.stale_index;
        let shown = |stored: &&Stored| stored.visible_at <= now && (stale || !stored.removed);
        for key in keys {
            let carries = |stored: &&Stored| key_of(&stored.record.fields).as_ref() == Some(key);
            let hits: Vec<Record> = self
                .records
                .iter()
                .filter(shown)
                .filter(carries)
                .map(|stored| stored.record.clone())
                .collect();
            if !hits.is_empty() {
                return hits;
            }
        }
        Vec::new()
    }

    pub(crate) fn read(&mut self, id: &str, now: DateTime<Utc>) -> Option<Record> {
        self.looks += 1;
        let hides = self.hides;
        let shown = |stored: &&Stored| !stored.removed && (!hides || stored.visible_at <= now);
        self.records
            .iter()
            .find(|stored| stored.record.id == id && shown(stored))
            .map(|stored| match &stored.before {
                Some(before) if now < stored.visible_at => before.clone(),
                _ => stored.record.clone(),
            })
    }

    /// `random` is drawn by the schedule: seconds this call takes when all is well, and how long a slow one takes.
    pub(crate) fn begin(
        &mut self,
        call: &Call,
        fault: Option<Fault>,
        now: DateTime<Utc>,
        quick: i64,
        slow: i64,
    ) -> Sent {
        let fault = self.script.pop_front().or(fault);
        if fault == Some(Fault::Refused) {
            return Sent::Never;
        }
        self.calls.push(call.operation());
        let name = match call {
            Call::Create { fields, .. } => fields.get("name"),
            Call::Update { changed, .. } => changed.get("name"),
            _ => None,
        };
        let part_refused = match call {
            Call::AppendPart { part, .. }
            | Call::ChangePart { part, .. }
            | Call::Update {
                part: Some((_, part)),
                ..
            } => self
                .refuses
                .contains(part.fields.get("street").unwrap_or(&String::new())),
            _ => false,
        };
        if name
            .cloned()
            .flatten()
            .is_some_and(|name| self.refuses.contains(&name))
            || part_refused
        {
            return Sent::Refused;
        }
        let id = match call.target_id() {
            Some(id) => id.to_owned(),
            None => self.id(),
        };
        let seconds = |seconds: i64| now + TimeDelta::seconds(seconds);
        let settle = i64::try_from(SETTLE.as_secs()).expect("small");
        let (commit, sent) = match fault {
            None | Some(Fault::None) => (Some(now), None),
            Some(Fault::Slow) => (Some(seconds(slow / 2)), None),
            Some(Fault::Lost) => (Some(now), Some(seconds(quick))),
            Some(Fault::Error) => (None, Some(seconds(quick))),
            Some(Fault::Late(after)) => (Some(seconds(after)), Some(seconds(quick))),
            Some(Fault::TooLate) => (Some(seconds(settle + 30)), Some(seconds(quick))),
            Some(Fault::Lying) => {
                self.apply(&id, call, now);
                return Sent::Refused;
            }
            Some(Fault::Refused) => unreachable!("returned above"),
        };
        if let Some(at) = commit {
            self.pending.push((at, id.clone(), call.clone()));
        }
        self.advance(now);
        match sent {
            Some(at) => Sent::Unknown { at },
            None => {
                let at = seconds(if fault == Some(Fault::Slow) {
                    slow
                } else {
                    quick
                });
                // The answer is made when the call is done; nobody else writes this record meanwhile in these schedules,
                // except a call of ours that was given up.
                Sent::Answered {
                    at,
                    answer: Answer {
                        target_id: id,
                        part_ids: Vec::new(),
                        record: None,
                    },
                }
            }
        }
    }

    /// Fills the answer at the time it leaves the partner.
    pub(crate) fn answer(&self, call: &Call, mut answer: Answer) -> Answer {
        let Some(stored) = self
            .records
            .iter()
            .find(|stored| stored.record.id == answer.target_id)
        else {
            return answer;
        };
        if self.names_parts {
            let sent: Vec<Part> = match call {
                Call::Create { parts, .. } => parts.clone(),
                Call::AppendPart { part, .. } => vec![part.clone()],
                _ => Vec::new(),
            };
            for part in sent {
                let own = |shown: &&RecordPart| shown.part == part;
                // The newest with this content is the one this call made.
                if let Some(shown) = stored.record.parts.iter().rfind(own) {
                    answer.part_ids.push((shown.id.clone(), part));
                }
            }
        }
        // Whose id was sent needs no telling.
        if let Call::ChangePart { part_id, part, .. }
        | Call::Update {
            part: Some((part_id, part)),
            ..
        } = call
        {
            answer.part_ids.push((part_id.clone(), part.clone()));
        }
        if self.shows_record {
            answer.record = Some(stored.record.clone());
        }
        answer
    }
}

/// At most one part rides with a create: the others are appended.
pub(crate) fn parts_in_create(content: &Content) -> Vec<Part> {
    content.parts.values().flatten().take(1).cloned().collect()
}

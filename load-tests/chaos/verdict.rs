//! What became of it: every record at the partner against the newest event of that record, and every event against where
//! it may be.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use simulators::metakocka::{LogEntry, Partner};

use crate::drain::{unknown, unrouted};
use crate::expected;
use crate::harness::{Harness, of_company};
use crate::publish::Accepted;
use crate::survey::{Place, Survey};
use crate::workload::{Account, Event, Mark, Meaning, Record, TENANTS, Workload};

/// A fault after which the partner holds what Kurir had to believe refused: falling back to the content before is right.
const LIE: &str = "lying_refusal";

/// Each mistake once, with the record or event it is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) lost: Vec<String>,
    pub(crate) doubled: Vec<String>,
    pub(crate) stale: Vec<String>,
    pub(crate) misordered: Vec<String>,
    pub(crate) crossed: Vec<String>,
    /// Events that are in no place, or in more than one.
    pub(crate) unaccounted: Vec<String>,
    /// Anything else that should not be.
    pub(crate) other: Vec<String>,
    pub(crate) counts: Audit,
    /// Ids of records that a mistake is about.
    pub(crate) records: BTreeSet<String>,
}

/// Events by what became of them, each at each of its accounts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Audit {
    pub(crate) applied: usize,
    pub(crate) superseded: usize,
    pub(crate) held: usize,
    pub(crate) dead: usize,
    pub(crate) unrouted: usize,
}

impl Verdict {
    pub(crate) fn columns(&self) -> [(&'static str, &[String]); 7] {
        [
            ("lost", &self.lost),
            ("doubled", &self.doubled),
            ("stale", &self.stale),
            ("misordered", &self.misordered),
            ("cross-tenant", &self.crossed),
            ("unaccounted", &self.unaccounted),
            ("other", &self.other),
        ]
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.columns()
            .iter()
            .all(|(_, mistakes)| mistakes.is_empty())
    }
}

pub(crate) async fn judge(
    harness: &Harness,
    workload: &Workload,
    accepted: &Accepted,
    calls: &BTreeMap<u64, LogEntry>,
) -> anyhow::Result<Verdict> {
    let survey = Survey::patient(harness).await?;
    let mut verdict = Verdict::default();
    for tenant in TENANTS {
        for account in tenant.accounts {
            let partners = harness.simulator.partners(account.company)?;
            let company = Company {
                workload,
                account,
                tenant: tenant.name,
                partners: &partners,
            };
            company.judge(&survey, &mut verdict);
        }
    }
    order(workload, calls, &survey, &mut verdict);
    audit(harness, workload, accepted, &survey, &mut verdict).await?;
    for (record, link) in survey.links() {
        if !matches!(link.state.as_str(), "linked" | "deleted") {
            verdict.about(record, |verdict| {
                verdict
                    .other
                    .push(format!("link {} of {record} is {}", link.id, link.state));
            });
        }
    }
    let late = harness.simulator.strict_violations();
    verdict.other.extend(
        late.iter()
            .map(|violation| format!("not in the contract: {violation:?}")),
    );
    Ok(verdict)
}

impl Verdict {
    fn about(&mut self, record: &str, note: impl FnOnce(&mut Self)) {
        self.records.insert(record.to_owned());
        note(self);
    }
}

struct Company<'a> {
    workload: &'a Workload,
    account: &'static Account,
    tenant: &'static str,
    partners: &'a [Partner],
}

impl Company<'_> {
    fn judge(&self, survey: &Survey, verdict: &mut Verdict) {
        let mut of_record: BTreeMap<String, Vec<&Partner>> = BTreeMap::new();
        for partner in self.partners {
            match Mark::find(&partner.customer) {
                Some(mark) if mark.tenant == self.tenant => {
                    of_record.entry(mark.record).or_default().push(partner);
                }
                Some(mark) => verdict.about(&mark.record.clone(), |verdict| {
                    verdict.crossed.push(format!(
                        "{} has {:?} of {}",
                        self.account.company, partner.customer, mark.tenant
                    ));
                }),
                None => verdict.other.push(format!(
                    "{} has {:?}, which nobody published",
                    self.account.company, partner.customer
                )),
            }
        }
        let records = self.workload.records.iter();
        for record in records.filter(|record| record.tenant.name == self.tenant) {
            let partners = of_record.remove(&record.id).unwrap_or_default();
            self.judge_record(record, &partners, survey, verdict);
        }
    }

    fn judge_record(
        &self,
        record: &Record,
        partners: &[&Partner],
        survey: &Survey,
        verdict: &mut Verdict,
    ) {
        let place = format!(
            "{} of {} at {}",
            record.id, self.tenant, self.account.company
        );
        if partners.len() > 1 {
            let ids: Vec<String> = partners
                .iter()
                .map(|partner| format!("{} {:?}", partner.mk_id, partner.customer))
                .collect();
            verdict.about(&record.id, |verdict| {
                verdict.doubled.push(format!("{place}: {}", ids.join(", ")));
            });
        }
        for partner in partners {
            let doubles = expected::doubles(partner);
            if !doubles.is_empty() {
                verdict.about(&record.id, |verdict| {
                    verdict.doubled.push(format!("{place}: parts {doubles}"));
                });
            }
        }
        let newest = self.workload.newest(record);
        let link = survey.link(self.tenant, self.account, &record.id);
        if newest.deletes() {
            if link.is_none_or(|link| link.state != "deleted") {
                verdict.about(&record.id, |verdict| {
                    verdict
                        .stale
                        .push(format!("{place}: not deleted, its link is {link:?}"));
                });
            }
            return;
        }
        let Some(partner) = partners.first() else {
            return verdict.about(&record.id, |verdict| {
                verdict
                    .lost
                    .push(format!("{place}: no record, its link is {link:?}"));
            });
        };
        let linked = link.and_then(|link| link.target_id.clone());
        if linked != Some(partner.mk_id.to_string()) {
            verdict.about(&record.id, |verdict| {
                verdict.lost.push(format!(
                    "{place}: {} is not linked: {link:?}",
                    partner.mk_id
                ));
            });
        }
        let wrong = expected::differences(&newest.value["data"]["contact"], partner);
        if !wrong.is_empty() {
            verdict.about(&record.id, |verdict| {
                verdict
                    .stale
                    .push(format!("{place}: not as {} says: {wrong}", newest.id()));
            });
        }
    }
}

/// A write of older content must not be stored after one of newer content, but where the newer event died after a part of
/// its calls: then the record becomes the older one again.
fn order(
    workload: &Workload,
    calls: &BTreeMap<u64, LogEntry>,
    survey: &Survey,
    verdict: &mut Verdict,
) {
    let mut versions: BTreeMap<(&str, &str, u32), &Event> = BTreeMap::new();
    for event in &workload.events {
        if let Some(record) = event.record {
            let record = workload.records[record].id.as_str();
            versions.insert((event.tenant.name, record, event.version), event);
        }
    }
    let mut stored: Vec<(DateTime<Utc>, &LogEntry, &str, Mark)> = Vec::new();
    for call in calls.values() {
        let Some(mark) = Mark::find(&call.body.to_string()) else {
            continue;
        };
        let Some(company) = call.company_id.as_deref() else {
            continue;
        };
        // Also reads: the name of another tenant's record has no business there.
        if of_company(company).is_ok_and(|(tenant, _)| tenant.name != mark.tenant) {
            verdict.about(&mark.record.clone(), |verdict| {
                verdict
                    .crossed
                    .push(format!("call {} at {company}: {mark:?}", call.seq));
            });
        }
        if let Some(at) = call
            .stored_at
            .filter(|_| call.stored && call.fault != Some(LIE))
        {
            stored.push((at, call, company, mark));
        }
    }
    stored.sort_by_key(|(at, call, _, _)| (*at, call.seq));
    let mut last: BTreeMap<(&str, String), &Event> = BTreeMap::new();
    for (_, call, company, mark) in stored {
        let Some(event) = versions.get(&(mark.tenant.as_str(), mark.record.as_str(), mark.version))
        else {
            verdict.other.push(format!(
                "call {} writes {mark:?}, which nobody published",
                call.seq
            ));
            continue;
        };
        let before = last.insert((company, mark.record.clone()), event);
        let newer = before.filter(|before| before.k > event.k);
        let died = |event: &Event| {
            of_company(company).is_ok_and(|(_, account)| survey.has_died(event, account))
        };
        if let Some(before) = newer.filter(|before| !died(before)) {
            verdict.about(&mark.record, |verdict| {
                verdict.misordered.push(format!(
                    "call {} at {company} stored {} after {}",
                    call.seq,
                    event.id(),
                    before.id()
                ));
            });
        }
    }
}

/// Each accepted event is exactly one of: applied, superseded, held, open dead letter, unrouted.
async fn audit(
    harness: &Harness,
    workload: &Workload,
    accepted: &Accepted,
    survey: &Survey,
    verdict: &mut Verdict,
) -> anyhow::Result<()> {
    let lying = unrouted(harness).await?;
    let (wanted, found): (BTreeSet<_>, BTreeSet<_>) = (
        unknown(workload).into_iter().collect(),
        lying.into_iter().collect(),
    );
    verdict.unaccounted.extend(
        wanted
            .difference(&found)
            .map(|id| format!("{id} is not in the unrouted queue")),
    );
    verdict.unaccounted.extend(
        found
            .difference(&wanted)
            .map(|id| format!("{id} is still unrouted")),
    );
    verdict.counts.unrouted = wanted.intersection(&found).count();
    for (at, event) in workload.events.iter().enumerate() {
        if accepted.times(at) == 0 {
            verdict
                .other
                .push(format!("{} was never accepted", event.id()));
        }
        match event.meaning {
            Meaning::Unknown => {}
            Meaning::Broken => match survey.classes_of(event).as_slice() {
                ["schema"] => verdict.counts.dead += 1,
                other => verdict
                    .unaccounted
                    .push(format!("{}: dead letters {other:?}", event.id())),
            },
            Meaning::State => {
                for account in event.tenant.accounts {
                    account_for(workload, survey, event, account, verdict);
                }
            }
        }
    }
    Ok(())
}

fn account_for(
    workload: &Workload,
    survey: &Survey,
    event: &Event,
    account: &Account,
    verdict: &mut Verdict,
) {
    let places = survey.places(workload, event, account);
    let count = match places.as_slice() {
        [Place::Applied] => &mut verdict.counts.applied,
        [Place::Superseded] => &mut verdict.counts.superseded,
        [Place::Held] => &mut verdict.counts.held,
        [Place::Dead] => &mut verdict.counts.dead,
        other => {
            let line = format!("{} at {}: {other:?}", event.id(), account.company);
            let record = event.record.map(|at| workload.records[at].id.clone());
            verdict.records.extend(record);
            return verdict.unaccounted.push(line);
        }
    };
    *count += 1;
}

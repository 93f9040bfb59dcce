//! One company: who may call, what it holds, and the two halves of a call.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::MAX_SCHEDULED;
use super::call::Call;
use super::encode::Encoder;
use super::index::Index;
use super::partner::{MkId, Partner};
use super::readings::{QuotaAnswer, Readings};
use super::reply::Reply;
use super::request::{Ordered, Request, Ticket, text_of};
use crate::metakocka::Error;

/// Where the ids and numbers of a company begin, as in contract §10.3. The same for every company: a caller that mixes two up is caught.
const FIRST_MK_ID: u64 = 9_000_000_101;
const FIRST_COUNT_CODE: u64 = 1_042;
/// Of [`Company::begin_ids`]: 2026 began, and no company makes more partners in a second.
const FIRST_SECOND: i64 = 1_767_225_600;
const IDS_PER_SECOND: u64 = 1_000;
/// Most calls that a quota counts.
const MAX_QUOTA_CALLS: u32 = 100_000;
/// Most violations of strict mode that are kept; later ones are only refused.
const MAX_VIOLATIONS: usize = 1_000;

/// Who a company lets in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompanyOptions {
    pub company_id: String,
    pub secret_key: SecretString,
    /// Empty: everybody. Others get error 4.
    #[serde(default)]
    pub allowed_ips: Vec<IpAddr>,
    #[serde(default)]
    pub quota: Option<Quota>,
    /// `None`: those of the simulator.
    #[serde(default)]
    pub readings: Option<Readings>,
}

impl CompanyOptions {
    /// Everybody may call, as often as he likes.
    pub fn new(company_id: impl Into<String>, secret_key: impl Into<SecretString>) -> Self {
        CompanyOptions {
            company_id: company_id.into(),
            secret_key: secret_key.into(),
            allowed_ips: Vec::new(),
            quota: None,
            readings: None,
        }
    }
}

/// At most `calls` in any `per_seconds` seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    pub calls: u32,
    pub per_seconds: u32,
}

/// A call that strict mode refused for a field the contract doesn't know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    pub at: DateTime<Utc>,
    pub call: Call,
    /// As a path, e.g. `partner.foreign_country`.
    pub field: String,
}

/// A write that was put off, at the moment it happened.
#[derive(Clone, Debug)]
pub struct Finished {
    pub ticket: Ticket,
    pub at: DateTime<Utc>,
    pub reply: Reply,
}

/// Everything a company holds, for saving and restoring. No secret in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompanyState {
    pub company_id: String,
    pub partners: Vec<Partner>,
    next_mk_id: u64,
    next_count_code: u64,
    next_ticket: u64,
    index: Index,
    scheduled: Vec<(DateTime<Utc>, Ticket, Request)>,
}

/// Hands out ids; copied for the length of a call, so that a refused call uses none up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ids {
    next_mk_id: u64,
    next_count_code: u64,
}

impl Ids {
    pub(super) fn mk_id(&mut self) -> MkId {
        let id = MkId(self.next_mk_id);
        self.next_mk_id += 1;
        id
    }

    pub(super) fn count_code(&mut self) -> String {
        let code = self.next_count_code.to_string();
        self.next_count_code += 1;
        code
    }
}

/// One company of Metakocka. Calls must come with a time that doesn't go back.
#[derive(Debug)]
pub struct Company {
    pub(super) options: CompanyOptions,
    pub(super) readings: Readings,
    strict: bool,
    pub(super) partners: BTreeMap<MkId, Arc<Partner>>,
    pub(super) ids: Ids,
    pub(super) index: Index,
    next_ticket: u64,
    scheduled: BTreeMap<(DateTime<Utc>, Ticket), Request>,
    finished: VecDeque<Finished>,
    quota_calls: VecDeque<DateTime<Utc>>,
    violations: Vec<Violation>,
}

impl Company {
    /// An empty company, with the [`Readings::kind`] readings unless the options name others.
    pub fn new(options: CompanyOptions) -> Self {
        Company {
            readings: options.readings.clone().unwrap_or_default(),
            options,
            strict: false,
            partners: BTreeMap::new(),
            ids: Ids {
                next_mk_id: FIRST_MK_ID,
                next_count_code: FIRST_COUNT_CODE,
            },
            index: Index::default(),
            next_ticket: 1,
            scheduled: BTreeMap::new(),
            finished: VecDeque::new(),
            quota_calls: VecDeque::new(),
            violations: Vec::new(),
        }
    }

    pub fn company_id(&self) -> &str {
        &self.options.company_id
    }

    pub fn readings(&self) -> &Readings {
        &self.readings
    }

    /// Holds for calls from now on; a changed lag also for changes that are not visible yet.
    pub fn set_readings(&mut self, readings: Readings) {
        self.readings = readings;
    }

    /// Strict: a call with a field that the contract doesn't know is refused with code 2 and kept in [`Company::violations`].
    pub fn set_strict(&mut self, strict: bool) {
        self.strict = strict;
    }

    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Changes who is let in; the company's id stays.
    pub fn set_access(
        &mut self,
        secret_key: Option<SecretString>,
        allowed_ips: Option<Vec<IpAddr>>,
        quota: Option<Option<Quota>>,
    ) {
        if let Some(secret_key) = secret_key {
            self.options.secret_key = secret_key;
        }
        if let Some(allowed_ips) = allowed_ips {
            self.options.allowed_ips = allowed_ips;
        }
        if let Some(quota) = quota {
            self.options.quota = quota;
            self.quota_calls.clear();
        }
    }

    /// Every partner that exists, in the order they were made.
    pub fn partners(&self) -> impl Iterator<Item = &Partner> {
        self.partners.values().map(Arc::as_ref)
    }

    pub fn partner(&self, mk_id: MkId) -> Option<&Partner> {
        self.partners.get(&mk_id).map(Arc::as_ref)
    }

    /// One whole call at `now`, as if its caller waited for the answer. Writes that are due are done first.
    pub fn call(&mut self, call: Call, body: &[u8], now: DateTime<Utc>) -> Reply {
        match self.admit(call, body, None, now) {
            Ok(request) => self.execute(&request, now),
            Err(reply) => reply,
        }
    }

    /// The first half of a call: credentials, address, quota, strict check, in this order. An error is the answer.
    /// A caller without an address (`None`) is let in by any list.
    pub fn admit(
        &mut self,
        call: Call,
        body: &[u8],
        from: Option<IpAddr>,
        now: DateTime<Utc>,
    ) -> Result<Request, Reply> {
        self.settle_due(now);
        let request = self.check(call, body, from, now);
        request.map_err(|reply| Encoder(&self.readings).finish(reply))
    }

    fn check(
        &mut self,
        call: Call,
        body: &[u8],
        from: Option<IpAddr>,
        now: DateTime<Utc>,
    ) -> Result<Request, Reply> {
        let mut sent = Ordered::parse(body)
            .ok_or_else(|| Reply::refused(2, "Request is not a JSON object"))?;
        let key = sent
            .take("secret_key")
            .as_ref()
            .and_then(text_of)
            .unwrap_or_default();
        let company = sent.take("company_id").as_ref().and_then(text_of);
        if company.as_deref() != Some(self.company_id())
            || key != self.options.secret_key.expose_secret()
        {
            return Err(wrong_credentials(&self.readings, &key));
        }
        if let Some(ip) = from
            && !self.options.allowed_ips.is_empty()
            && !self.options.allowed_ips.contains(&ip)
        {
            return Err(ip_not_allowed(ip));
        }
        if self.quota_is_used_up(now) {
            return Err(quota_exceeded(&self.readings));
        }
        if self.strict {
            let unknown = call.unknown_fields(&sent.0);
            if !unknown.is_empty() {
                let text = format!("Unknown field : {}", unknown.join(", "));
                let room = MAX_VIOLATIONS.saturating_sub(self.violations.len());
                self.violations
                    .extend(unknown.into_iter().take(room).map(|field| Violation {
                        at: now,
                        call,
                        field,
                    }));
                return Err(Reply::refused(2, &text));
            }
        }
        Ok(Request {
            call,
            fields: sent.0,
        })
    }

    fn quota_is_used_up(&mut self, now: DateTime<Utc>) -> bool {
        let Some(quota) = self.options.quota else {
            return false;
        };
        let calls = quota.calls.min(MAX_QUOTA_CALLS) as usize;
        let begin = now - TimeDelta::seconds(quota.per_seconds.into());
        while self.quota_calls.front().is_some_and(|at| *at <= begin) {
            self.quota_calls.pop_front();
        }
        let refused = self.quota_calls.len() >= calls;
        if !refused {
            self.quota_calls.push_back(now);
        } else if self.readings.quota_counts_refused {
            // The newest calls fill the quota: who goes on knocking stays out.
            self.quota_calls.pop_front();
            self.quota_calls.push_back(now);
        }
        refused
    }

    /// The second half: does the call. The state changes completely or not at all.
    pub fn execute(&mut self, request: &Request, now: DateTime<Utc>) -> Reply {
        self.settle_due(now);
        self.execute_alone(request, now)
    }

    fn execute_alone(&mut self, request: &Request, now: DateTime<Utc>) -> Reply {
        let reply = match request.call {
            Call::AddPartner => self.add_partner(request, now),
            Call::GetPartner => self.get_partner(request, now),
            Call::UpdatePartner => self.update_partner(request, now),
        };
        let reply = reply.unwrap_or_else(|refusal| refusal);
        Encoder(&self.readings).finish(reply)
    }

    /// Puts the second half off to `due`, whether or not anybody still waits for it. It happens before anything that comes later.
    pub fn schedule(&mut self, request: Request, due: DateTime<Utc>) -> Result<Ticket, Error> {
        if self.scheduled.len() >= MAX_SCHEDULED {
            return Err(Error::Full(
                "more writes wait for their time than MAX_SCHEDULED",
            ));
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.scheduled.insert((due, ticket), request);
        Ok(ticket)
    }

    /// How many writes still wait for their time.
    pub fn scheduled(&self) -> usize {
        self.scheduled.len()
    }

    /// Does every write that is due and returns those done since this was last asked.
    pub fn settle(&mut self, now: DateTime<Utc>) -> Vec<Finished> {
        self.settle_due(now);
        self.finished.drain(..).collect()
    }

    fn settle_due(&mut self, now: DateTime<Utc>) {
        while let Some(entry) = self.scheduled.first_entry() {
            let (due, ticket) = *entry.key();
            if due > now {
                return;
            }
            let request = entry.remove();
            let reply = self.execute_alone(&request, due);
            if self.finished.len() >= MAX_SCHEDULED {
                self.finished.pop_front();
            }
            self.finished.push_back(Finished {
                ticket,
                at: due,
                reply,
            });
        }
    }

    pub fn state(&self) -> CompanyState {
        CompanyState {
            company_id: self.options.company_id.clone(),
            partners: self.partners().cloned().collect(),
            next_mk_id: self.ids.next_mk_id,
            next_count_code: self.ids.next_count_code,
            next_ticket: self.next_ticket,
            index: self.index.clone(),
            scheduled: self
                .scheduled
                .iter()
                .map(|((due, ticket), request)| (*due, *ticket, request.clone()))
                .collect(),
        }
    }

    /// Becomes what was saved: ids go on where they were, writes that were put off still come. Who is let in stays as it is.
    pub fn restore(&mut self, state: CompanyState) {
        self.partners = state
            .partners
            .into_iter()
            .map(|partner| (partner.mk_id, Arc::new(partner)))
            .collect();
        self.ids = Ids {
            next_mk_id: state.next_mk_id,
            next_count_code: state.next_count_code,
        };
        // Tickets of before the restore must not come to mean another write.
        self.next_ticket = self.next_ticket.max(state.next_ticket);
        self.index = state.index;
        self.scheduled = state
            .scheduled
            .into_iter()
            .map(|(due, ticket, request)| ((due, ticket), request))
            .collect();
        self.finished.clear();
    }

    /// Lets the ids go on at numbers that belong to this second. `clear` begins at the usual ones again.
    pub fn begin_ids(&mut self, now: DateTime<Utc>) {
        let seconds = u64::try_from(now.timestamp() - FIRST_SECOND).unwrap_or(0);
        let ahead = seconds * IDS_PER_SECOND;
        self.ids = Ids {
            next_mk_id: FIRST_MK_ID + ahead,
            next_count_code: FIRST_COUNT_CODE + ahead,
        };
    }

    /// Empty again, ids from the beginning; writes that were put off are forgotten. Who is let in and the readings stay.
    pub fn clear(&mut self) {
        let empty = Company::new(self.options.clone());
        *self = Company {
            readings: self.readings.clone(),
            strict: self.strict,
            next_ticket: self.next_ticket,
            ..empty
        };
    }

    /// Gives an answer that was not made by a call the company's form.
    pub(crate) fn dress(&self, reply: Reply) -> Reply {
        Encoder(&self.readings).finish(reply)
    }

    pub(super) fn store(&mut self, partner: Partner, ids: Ids, now: DateTime<Utc>) {
        let partner = Arc::new(partner);
        self.ids = ids;
        self.index.changed(now, Arc::clone(&partner));
        self.partners.insert(partner.mk_id, partner);
    }
}

pub(crate) fn wrong_credentials(readings: &Readings, key: &str) -> Reply {
    let echo = if readings.errors_echo_key {
        format!(" (secret_key = {key})")
    } else {
        String::new()
    };
    Reply::refused(
        3,
        &format!("Invalid value for secret_key and company_id{echo}"),
    )
}

pub(crate) fn ip_not_allowed(ip: IpAddr) -> Reply {
    Reply::refused(4, &format!("IP address {ip} is not allowed"))
}

pub(crate) fn quota_exceeded(readings: &Readings) -> Reply {
    match readings.quota_answer {
        QuotaAnswer::Code5 => Reply::refused(5, "Quote exceeds"),
        QuotaAnswer::Http429 => Reply {
            retry_after: readings.quota_retry_after_seconds,
            ..Reply::page(429)
        },
    }
}

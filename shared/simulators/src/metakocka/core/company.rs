//! One company: who may call, and what it holds.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::call::Call;
use super::encode::Encoder;
use super::index::Index;
use super::partner::{MkId, Partner};
use super::readings::Readings;
use super::reply::Reply;
use super::request::{Request, Ticket};
use crate::strict::{self, Strict};

/// Where the ids and numbers of a company begin, as in contract §10.3. The same for every company: a caller that mixes two up is caught.
const FIRST_MK_ID: u64 = 9_000_000_101;
const FIRST_COUNT_CODE: u64 = 1_042;
/// Of [`Company::begin_ids`]: 2026 began, and no company makes more partners in a second.
const FIRST_SECOND: i64 = 1_767_225_600;
const IDS_PER_SECOND: u64 = 1_000;

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
    /// Everybody may call, without limit.
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
pub type Violation = strict::Violation<Call>;

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
    pub(super) strict: Strict<Call>,
    pub(super) partners: BTreeMap<MkId, Arc<Partner>>,
    pub(super) ids: Ids,
    pub(super) index: Index,
    pub(super) next_ticket: u64,
    pub(super) scheduled: BTreeMap<(DateTime<Utc>, Ticket), Request>,
    pub(super) finished: VecDeque<Finished>,
    pub(super) quota_calls: VecDeque<DateTime<Utc>>,
}

impl Company {
    /// An empty company, with the [`Readings::kind`] readings unless the options name others.
    pub fn new(options: CompanyOptions) -> Self {
        Company {
            readings: options.readings.clone().unwrap_or_default(),
            options,
            strict: Strict::new(false),
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
        self.strict.set(strict);
    }

    pub fn violations(&self) -> &[Violation] {
        self.strict.violations()
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
            strict: Strict::new(self.strict.is_on()),
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

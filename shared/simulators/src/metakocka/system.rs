//! Metakocka as a simulated system: which company a request is for, whether it comes in, and what is kept of everything.

use axum::http::Method;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use super::control;
use super::core::{
    Call, Company, Lane, Ordered, Readings, Reply, Request as Allowed, wrong_credentials,
};
use super::doing::{Doing, answer, done, ticket};
use super::fault::Fault;
use super::log::Noted;
use super::world::{Metakocka, Snapshot};
use crate::error::Error;
use crate::plan::{Answer, Heard, Plan, Request, Settled};
use crate::readings::Preset;
use crate::simulated::Simulated;

/// A call that was let in by its company.
#[derive(Debug)]
pub struct Admitted {
    company_id: String,
    request: Allowed,
    from: std::net::IpAddr,
}

impl Simulated for Metakocka {
    const NAME: &'static str = "metakocka";
    /// As at the real host.
    const ROOT: &'static str = "/rest/eshop/";
    const ACCOUNT: &'static str = "company";

    type Call = Call;
    type Fault = Fault;
    type Noted = Noted;
    type Admitted = Admitted;
    type Readings = Readings;
    type Snapshot = Snapshot;

    fn hear(request: &Request) -> Heard<Call, Noted> {
        let call = Call::at_path(request.below(Self::ROOT));
        let mut company_id = None;
        let body = match Ordered::parse(&request.body) {
            None => json!({"unreadable_bytes": request.body.len()}),
            Some(mut fields) => {
                company_id = fields.company_id();
                fields.take("secret_key");
                fields.take("company_id");
                Value::Object(fields.0.into_iter().collect())
            }
        };
        Heard {
            call: call.filter(|_| request.method == Method::POST),
            body,
            noted: Noted {
                company_id,
                mk_id: None,
            },
        }
    }

    fn account(noted: &Noted) -> Option<&str> {
        noted.company_id.as_deref()
    }

    /// Reads of a company, where the readings say that they run one after another.
    fn lane(&self, heard: &Heard<Call, Noted>) -> Option<String> {
        heard.call.filter(|call| !call.writes())?;
        let company = self.companies.get(heard.noted.company_id.as_deref()?)?;
        match company.readings().lane {
            Lane::SearchOnly => None,
            Lane::AllReads => Some(company.company_id().to_owned()),
        }
    }

    fn admit(
        &mut self,
        request: &Request,
        heard: &Heard<Call, Noted>,
        now: DateTime<Utc>,
    ) -> Result<Admitted, Answer> {
        let Some(call) = heard.call else {
            let built = Call::at_path(request.below(Self::ROOT)).is_some();
            return Err(Answer::page(if built { 405 } else { 404 }));
        };
        let company_id = heard.noted.company_id.as_deref();
        let Some(company) = company_id.and_then(|id| self.companies.get_mut(id)) else {
            return Err(answer(unknown_company(&self.readings, &request.body)));
        };
        let admitted = company.admit(call, &request.body, Some(request.from), now);
        let company_id = company.company_id().to_owned();
        match admitted {
            Ok(allowed) => Ok(Admitted {
                company_id,
                request: allowed,
                from: request.from,
            }),
            Err(refusal) => Err(answer(refusal)),
        }
    }

    fn perform(
        &mut self,
        admitted: Admitted,
        fault: Option<Fault>,
        now: DateTime<Utc>,
    ) -> Plan<Noted> {
        let company = self
            .companies
            .get_mut(&admitted.company_id)
            .expect("the company let the call in");
        Doing::new(company, admitted.request, now).with(fault, admitted.from)
    }

    fn settle(&mut self, now: DateTime<Utc>) -> Vec<Settled<Noted>> {
        let mut settled = Vec::new();
        for company in self.companies.values_mut() {
            let finished = company.settle(now);
            settled.extend(finished.into_iter().map(|finished| Settled {
                ticket: ticket(company, finished.ticket),
                at: finished.at,
                done: done(company, &finished.reply),
                answer: answer(finished.reply),
            }));
        }
        settled
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            companies: self.companies.values().map(Company::state).collect(),
        }
    }

    /// Companies that the snapshot doesn't name stay as they are.
    fn restore(&mut self, snapshot: Snapshot) -> Result<(), Error> {
        for state in &snapshot.companies {
            self.company(&state.company_id)?;
        }
        for state in snapshot.companies {
            let company_id = state.company_id.clone();
            self.company(&company_id)?.restore(state);
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.companies.values_mut().for_each(Company::clear);
    }

    fn begin_ids(&mut self, now: DateTime<Utc>) {
        for company in self.companies.values_mut() {
            company.begin_ids(now);
        }
    }

    fn preset(preset: Preset) -> Readings {
        Readings::preset(preset)
    }

    fn readings(&self) -> Readings {
        self.readings.clone()
    }

    fn set_readings(&mut self, readings: Readings) {
        for company in self.companies.values_mut() {
            company.set_readings(readings.clone());
        }
        self.readings = readings;
    }

    fn set_strict(&mut self, strict: bool) {
        for company in self.companies.values_mut() {
            company.set_strict(strict);
        }
    }

    fn strict_violations(&self) -> Vec<Value> {
        let violations = self.violations();
        violations.iter().map(|found| json!(found)).collect()
    }

    fn accounts(&self) -> Vec<String> {
        self.companies.keys().cloned().collect()
    }

    fn overview(&self) -> Map<String, Value> {
        let companies = self.companies.values().map(|company| {
            json!({
                "company_id": company.company_id(),
                "partners": company.partners().count(),
                "late_writes": company.scheduled(),
            })
        });
        Map::from_iter([("companies".to_owned(), companies.collect())])
    }

    fn control(
        &mut self,
        method: &str,
        path: &[&str],
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Option<Result<Value, Error>> {
        control::answer(self, method, path, body, now)
    }
}

fn unknown_company(readings: &Readings, body: &[u8]) -> Reply {
    match Ordered::parse(body) {
        None => Reply::refused(2, "Request is not a JSON object"),
        Some(mut fields) => {
            let key = fields.take("secret_key");
            let key = key.as_ref().and_then(Value::as_str).unwrap_or_default();
            wrong_credentials(readings, key)
        }
    }
}

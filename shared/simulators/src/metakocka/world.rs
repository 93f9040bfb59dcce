//! The companies of one simulator, and what of them is saved.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::core::{Company, CompanyOptions, CompanyState, Readings, Violation};
use crate::error::Error;

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

/// Metakocka: several companies at one address.
#[derive(Debug)]
pub struct Metakocka {
    pub(super) companies: BTreeMap<String, Company>,
    pub(super) readings: Readings,
}

impl Metakocka {
    /// Companies without readings of their own get these. [`Error::Invalid`] if two have one id.
    pub(super) fn new(given: Vec<CompanyOptions>, readings: Readings) -> Result<Self, Error> {
        let mut companies = BTreeMap::new();
        for mut company in given {
            company.readings.get_or_insert_with(|| readings.clone());
            let id = company.company_id.clone();
            if companies
                .insert(id.clone(), Company::new(company))
                .is_some()
            {
                return Err(Error::Invalid(format!("company {id} is given twice")));
            }
        }
        Ok(Metakocka {
            companies,
            readings,
        })
    }

    pub(super) fn company(&mut self, company_id: &str) -> Result<&mut Company, Error> {
        self.companies
            .get_mut(company_id)
            .ok_or_else(|| Error::Unknown(format!("there is no company {company_id}")))
    }

    pub(super) fn violations(&self) -> Vec<StrictViolation> {
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
}

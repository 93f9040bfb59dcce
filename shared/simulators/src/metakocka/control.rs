//! Metakocka's own control routes: who a company lets in, its readings, and what people do in the application.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use super::core::{Company, MkId, PartnerEdit, Quota, Readings};
use super::world::Metakocka;
use crate::control::parsed;
use crate::error::Error;
use crate::readings::changed;

/// Answers one control request; `None` for a path that isn't there.
pub(super) fn answer(
    metakocka: &mut Metakocka,
    method: &str,
    path: &[&str],
    body: &[u8],
    now: DateTime<Utc>,
) -> Option<Result<Value, Error>> {
    let ["companies", company_id, of_company @ ..] = path else {
        return None;
    };
    let at = At {
        metakocka,
        company_id,
        body,
        now,
    };
    Some(match (method, of_company) {
        ("PUT", []) => at.set_access(),
        ("PUT", ["readings"]) => at.set_readings(),
        ("GET", ["partners"]) => at.partners(),
        ("POST", ["partners"]) => at.add_partner(),
        ("GET", ["partners", mk_id]) => at.partner(mk_id),
        ("PATCH", ["partners", mk_id]) => at.edit_partner(mk_id),
        ("DELETE", ["partners", mk_id]) => at.delete_partner(mk_id),
        ("POST", ["partners", mk_id, "rename"]) => at.rename_partner(mk_id),
        ("POST", ["partners", mk_id, "merge"]) => at.merge_partner(mk_id),
        (_, [] | ["readings" | "partners"] | ["partners", _])
        | (_, ["partners", _, "rename" | "merge"]) => Err(Error::Method),
        _ => return None,
    })
}

/// A request about one company.
struct At<'a> {
    metakocka: &'a mut Metakocka,
    company_id: &'a str,
    body: &'a [u8],
    now: DateTime<Utc>,
}

/// What is absent stays; a quota of null is taken away.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Access {
    secret_key: Option<SecretString>,
    allowed_ips: Option<Vec<IpAddr>>,
    #[serde(default, deserialize_with = "present")]
    quota: Option<Option<Quota>>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Quota>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rename {
    customer: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Merge {
    into: MkId,
}

impl At<'_> {
    fn company(&mut self) -> Result<&mut Company, Error> {
        self.metakocka.company(self.company_id)
    }

    fn set_access(mut self) -> Result<Value, Error> {
        let access: Access = parsed(self.body)?;
        self.company()?
            .set_access(access.secret_key, access.allowed_ips, access.quota);
        Ok(done())
    }

    fn set_readings(mut self) -> Result<Value, Error> {
        let changes: Map<String, Value> = parsed(self.body)?;
        let company = self.company()?;
        let readings = changed(company.readings(), changes, Readings::preset)?;
        company.set_readings(readings.clone());
        Ok(json!(readings))
    }

    fn partners(mut self) -> Result<Value, Error> {
        let partners: Vec<_> = self.company()?.partners().collect();
        Ok(json!({"partners": partners}))
    }

    fn partner(mut self, mk_id: &str) -> Result<Value, Error> {
        let mk_id = parse_id(mk_id)?;
        let company = self.company()?;
        match company.partner(mk_id) {
            Some(partner) => Ok(json!(partner)),
            None => Err(company.unknown_partner(mk_id)),
        }
    }

    fn add_partner(mut self) -> Result<Value, Error> {
        let (edit, now): (PartnerEdit, _) = (parsed(self.body)?, self.now);
        let company = self.company()?;
        let mk_id = company.person_adds(edit, now)?;
        Ok(json!(company.partner(mk_id)))
    }

    fn edit_partner(mut self, mk_id: &str) -> Result<Value, Error> {
        let (edit, now): (PartnerEdit, _) = (parsed(self.body)?, self.now);
        let mk_id = parse_id(mk_id)?;
        let company = self.company()?;
        company.person_edits(mk_id, edit, now)?;
        Ok(json!(company.partner(mk_id)))
    }

    fn rename_partner(mut self, mk_id: &str) -> Result<Value, Error> {
        let (sent, now): (Rename, _) = (parsed(self.body)?, self.now);
        let mk_id = parse_id(mk_id)?;
        self.company()?.person_renames(mk_id, &sent.customer, now)?;
        Ok(done())
    }

    fn delete_partner(mut self, mk_id: &str) -> Result<Value, Error> {
        let (mk_id, now) = (parse_id(mk_id)?, self.now);
        self.company()?.person_deletes(mk_id, now)?;
        Ok(done())
    }

    fn merge_partner(mut self, mk_id: &str) -> Result<Value, Error> {
        let (sent, now): (Merge, _) = (parsed(self.body)?, self.now);
        let mk_id = parse_id(mk_id)?;
        self.company()?.person_merges(mk_id, sent.into, now)?;
        Ok(done())
    }
}

fn parse_id(text: &str) -> Result<MkId, Error> {
    text.parse()
        .map_err(|_not_a_number| Error::Invalid(format!("{text:?} is not an mk_id")))
}

fn done() -> Value {
    json!({"done": true})
}

//! The events of all measurements: organizations with an e-mail address, whose creation costs Kurir one look-up and one
//! write. From version to version their registration number changes, which costs one write.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

pub(crate) const TENANT: &str = "acme";
pub(crate) const CREATED: &str = "crm.contact.created.v1";
pub(crate) const UPDATED: &str = "crm.contact.updated.v1";
/// Bytes of an event, unless said otherwise.
pub(crate) const BODY: usize = 1_000;
/// Versions are times, and none may lie in the future.
const PAST: TimeDelta = TimeDelta::hours(6);

/// Makes events; one for a whole run, so that versions of different parts are comparable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    begin: DateTime<Utc>,
}

impl Source {
    pub(crate) fn new() -> Self {
        Self {
            begin: Utc::now() - PAST,
        }
    }

    /// The event of one version of organization `number`, padded to about `bytes`. Its registration number is the version,
    /// so that the partner knows which event it sees.
    pub(crate) fn event(self, number: u64, version: u32, bytes: usize) -> Vec<u8> {
        let email = format!("org-{number}@bench.example");
        let emails = json!([{ "value": email, "primary": true }]);
        self.padded(number, version, bytes, ("emails", emails))
    }

    /// The same with a tax number ([`tax_digits`] behind a country) instead of an e-mail address, so that whatever of it
    /// stands in the database can be written for another number.
    pub(crate) fn taxed(self, number: u64, version: u32) -> Vec<u8> {
        let tax_id = format!("DE{}", tax_digits(number));
        self.padded(number, version, BODY, ("tax_id", tax_id.into()))
    }

    fn padded(self, number: u64, version: u32, bytes: usize, key: (&str, Value)) -> Vec<u8> {
        let kind = if version == 1 { CREATED } else { UPDATED };
        let time = self.begin + TimeDelta::seconds(i64::from(version));
        let mut event = json!({
            "specversion": "1.0",
            "id": event_id(number, version),
            "source": format!("urn:kurir:{TENANT}:crm:default"),
            "type": kind,
            "subject": format!("contact/org-{number}"),
            "time": time.to_rfc3339_opts(SecondsFormat::Micros, true),
            "tenantid": TENANT,
            "datacontenttype": "application/json",
            "data": { "contact": {
                "id": format!("org-{number}"),
                "kind": "organization",
                "name": format!("Vrtnarstvo {number}"),
                "registration_number": version.to_string(),
                "language": "sl",
                // Members that nobody knows are what a CRM's own fields look like to a worker.
                "custom": "",
            } },
        });
        let (name, value) = key;
        event["data"]["contact"][name] = value;
        let missing = bytes.saturating_sub(event.to_string().len());
        event["data"]["contact"]["custom"] = "polje ".repeat(missing.div_ceil(6))[..missing].into();
        event.to_string().into_bytes()
    }
}

/// Of the tax number of organization `number`.
pub(crate) fn tax_digits(number: u64) -> String {
    format!("{number:09}")
}

/// Number at the end of a name that `event` has made.
pub(crate) fn number_in(name: &str) -> Option<u64> {
    name.rsplit(' ').next()?.parse().ok()
}

/// Where the broker finds it a queue.
pub(crate) fn routing_key(version: u32) -> String {
    let kind = if version == 1 { CREATED } else { UPDATED };
    format!("{kind}.{TENANT}")
}

pub(crate) fn event_id(number: u64, version: u32) -> String {
    format!("bench-{number}-{version}")
}

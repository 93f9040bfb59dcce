//! Contacts and their events, made from a seed: Slovenian organizations with tax numbers, and persons, with the
//! letters, gaps and shapes that real ones have.
//!
//! The same seed makes the same contacts and the same events, to the byte. No two contacts share a tax number, an
//! e-mail address or a name, so that whoever finds two of them equal is wrong.

use chrono::{DateTime, Duration, SecondsFormat, Utc};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

/// A source of contacts of one tenant.
#[derive(Debug)]
pub struct Contacts {
    tenant: String,
    begin: DateTime<Utc>,
    made: u32,
    rng: StdRng,
}

/// One record of the CRM, as it is at its newest version.
#[derive(Clone, Debug)]
pub struct Contact {
    tenant: String,
    begin: DateTime<Utc>,
    /// What `data.contact` holds. May be changed; the next event carries it.
    pub record: Value,
    /// Of the newest event; 0 before the first.
    pub version: u32,
}

/// Time between two versions of one record.
const STEP: Duration = Duration::seconds(1);
/// Oldest event of a source that begins now: versions must not come from the future.
const PAST: Duration = Duration::hours(6);
/// Of ten contacts this many are organizations.
const ORGANIZATIONS_OF_TEN: u32 = 6;

impl Contacts {
    /// Of this tenant; their events are some hours old.
    pub fn new(tenant: &str, seed: u64) -> Self {
        Self::since(tenant, seed, Utc::now() - PAST)
    }

    /// As `new`, with the time of the first versions; same time and seed, same bytes.
    pub fn since(tenant: &str, seed: u64, begin: DateTime<Utc>) -> Self {
        Self {
            tenant: tenant.to_owned(),
            begin,
            made: 0,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// An organization or a person.
    pub fn any(&mut self) -> Contact {
        if self.rng.random_range(0..10) < ORGANIZATIONS_OF_TEN {
            self.organization()
        } else {
            self.person()
        }
    }

    /// With name, tax number, one or two addresses, one to three e-mail addresses and one telephone number.
    pub fn organization(&mut self) -> Contact {
        let n = self.next();
        let rng = &mut self.rng;
        let family = pick(rng, FAMILY);
        let name = format!("{family} {} {n} {}", pick(rng, TRADES), pick(rng, FORMS));
        let domain = format!("{}-{n}.example", ascii(family));
        let mut addresses = vec![address(rng, "main")];
        if rng.random_bool(0.4) {
            addresses.push(address(rng, "delivery"));
        }
        let mailboxes = ["info", "prodaja", "racunovodstvo"];
        let emails: Vec<Value> = mailboxes[..rng.random_range(1..=mailboxes.len())]
            .iter()
            .enumerate()
            .map(|(i, mailbox)| json!({"value": format!("{mailbox}@{domain}"), "label": mailbox, "primary": i == 0}))
            .collect();
        let record = json!({
            "id": format!("org-{n}"),
            "kind": "organization",
            "name": name,
            "tax_id": tax_number(n),
            "registration_number": format!("{:07}000", 1_000_000 + n),
            "emails": emails,
            "phones": [phone(rng)],
            "addresses": addresses,
            "language": "sl",
        });
        self.contact(record)
    }

    /// With name and e-mail address; a telephone number, an address and an organization where it has them.
    pub fn person(&mut self) -> Contact {
        let n = self.next();
        let rng = &mut self.rng;
        let (given, family) = (pick(rng, GIVEN), pick(rng, FAMILY));
        let mut record = json!({
            "id": format!("person-{n}"),
            "kind": "person",
            "name": format!("{given} {family} {n}"),
            "emails": [{"value": format!("{}.{}{n}@vrtnar.example", ascii(given), ascii(family)), "primary": true}],
            "phones": [],
            "addresses": [],
            "language": pick(rng, &["sl", "de-AT", "hr"]),
        });
        if rng.random_bool(0.8) {
            record["phones"] = json!([phone(rng)]);
        }
        if rng.random_bool(0.7) {
            record["addresses"] = json!([address(rng, "main")]);
        }
        if rng.random_bool(0.3) {
            record["organization"] =
                json!({"name": format!("{} {}", pick(rng, FAMILY), pick(rng, FORMS))});
        }
        self.contact(record)
    }

    /// The next event of a contact that has changed: another telephone number, and another name, address, e-mail
    /// address or register number. No two versions of a contact have the same content.
    pub fn change(&mut self, contact: &mut Contact) -> Value {
        let rng = &mut self.rng;
        let next = contact.version + 1;
        let record = &mut contact.record;
        match rng.random_range(0..4) {
            0 => {
                let name = record["name"].as_str().unwrap_or_default();
                let stem = name.split(" – ").next().unwrap_or(name);
                record["name"] = json!(format!("{stem} – {} {next}", pick(rng, TRADES)));
            }
            1 => record["addresses"] = json!([address(rng, "main")]),
            2 => {
                let id = record["id"].as_str().unwrap_or_default().to_owned();
                record["emails"] =
                    json!([{"value": format!("{id}.v{next}@vrtnar.example"), "primary": true}]);
            }
            _ => {
                record["registration_number"] =
                    json!(format!("{:010}", rng.random_range(0..9_999_999_999_u64)))
            }
        }
        // Its last digits are the version, so that whatever was drawn, the content is new.
        let raw = format!(
            "0{} {:03} {:03}",
            40 + next % 10,
            rng.random_range(100..999),
            next
        );
        record["phones"] = json!([{"raw": raw, "label": "mobile"}]);
        contact.updated()
    }

    /// In random order, with about this share of them twice.
    pub fn shuffled(&mut self, mut events: Vec<Value>, twice: f64) -> Vec<Value> {
        let again: Vec<Value> = events
            .iter()
            .filter(|_| self.rng.random_bool(twice))
            .cloned()
            .collect();
        events.extend(again);
        events.shuffle(&mut self.rng);
        events
    }

    fn next(&mut self) -> u32 {
        self.made += 1;
        self.made
    }

    fn contact(&self, record: Value) -> Contact {
        Contact {
            tenant: self.tenant.clone(),
            begin: self.begin,
            record,
            version: 0,
        }
    }
}

impl Contact {
    pub fn id(&self) -> &str {
        self.record["id"].as_str().expect("a contact has an id")
    }

    pub fn name(&self) -> &str {
        self.record["name"].as_str().expect("a contact has a name")
    }

    /// `crm.contact.created.v1` with the next version.
    pub fn created(&mut self) -> Value {
        self.next("created", None)
    }

    /// `crm.contact.updated.v1` with the next version and what `record` holds now.
    pub fn updated(&mut self) -> Value {
        self.next("updated", None)
    }

    /// `crm.contact.deleted.v1` with the next version.
    pub fn deleted(&mut self) -> Value {
        self.next(
            "deleted",
            Some(json!({"id": self.id(), "reason": "deleted"})),
        )
    }

    /// The time of this version, which its event carries and its order is derived from.
    pub fn time_of(&self, version: u32) -> DateTime<Utc> {
        self.begin + STEP * i32::try_from(version).unwrap_or(i32::MAX)
    }

    fn next(&mut self, what: &str, data: Option<Value>) -> Value {
        self.version += 1;
        let data = data.unwrap_or_else(|| json!({"contact": self.record}));
        json!({
            "specversion": "1.0",
            "id": format!("{}-{}-v{}", self.tenant, self.id(), self.version),
            "source": format!("urn:kurir:{}:crm:default", self.tenant),
            "type": format!("crm.contact.{what}.v1"),
            "subject": format!("contact/{}", self.id()),
            "time": self.time_of(self.version).to_rfc3339_opts(SecondsFormat::Micros, true),
            "datacontenttype": "application/json",
            "tenantid": self.tenant,
            "data": data,
        })
    }
}

fn pick<'a>(rng: &mut StdRng, from: &[&'a str]) -> &'a str {
    from.choose(rng).expect("the list is not empty")
}

/// A valid Slovenian tax number with its prefix; another one for each `n`.
fn tax_number(n: u32) -> String {
    // Steps of ten leave room for passing over numbers that have no check digit, one in eleven.
    let mut seven = 1_000_000 + n * 10;
    loop {
        let digits: Vec<u32> = seven
            .to_string()
            .bytes()
            .map(|byte| u32::from(byte - b'0'))
            .collect();
        let sum: u32 = digits
            .iter()
            .zip((2..=8).rev())
            .map(|(digit, weight)| digit * weight)
            .sum();
        match 11 - sum % 11 {
            11 => seven += 1,
            10 => return format!("SI{seven}0"),
            check => return format!("SI{seven}{check}"),
        }
    }
}

fn phone(rng: &mut StdRng) -> Value {
    let (a, b) = (rng.random_range(100..1000), rng.random_range(100..1000));
    json!({"value_e164": format!("+38641{a}{b}"), "raw": format!("041 {a} {b}"), "label": "mobile"})
}

fn address(rng: &mut StdRng, kind: &str) -> Value {
    let (postal_code, city) = TOWNS.choose(rng).expect("the list is not empty");
    json!({
        "kind": kind,
        "street": format!("{} {}", pick(rng, STREETS), rng.random_range(1..200)),
        "postal_code": postal_code,
        "city": city,
        "country": "SI",
    })
}

fn ascii(text: &str) -> String {
    text.to_lowercase()
        .replace(['č', 'ć'], "c")
        .replace('š', "s")
        .replace('ž', "z")
        .replace('đ', "d")
        .replace([' ', '\'', '-'], "")
}

const GIVEN: &[&str] = &[
    "Živa", "Maja", "Luka", "Špela", "Čedomir", "Đurđa", "Žan", "Nuša", "Matjaž", "Anja", "Urška",
    "Gašper",
];
const FAMILY: &[&str] = &[
    "Kos",
    "Žagar",
    "Čebulj",
    "Šinkovec",
    "Đorđević",
    "Novak",
    "Hribar",
    "Potočnik",
    "Vidmar",
    "Žnidaršič",
    "Kovač",
    "O'Brien-Zupan",
];
const TRADES: &[&str] = &[
    "mizarstvo",
    "vrtnarstvo",
    "čebelarstvo",
    "žaga",
    "pekarna",
    "avtošola",
    "šiviljstvo",
];
const FORMS: &[&str] = &["d.o.o.", "s.p.", "d.d.", "d.n.o."];
const STREETS: &[&str] = &[
    "Šmartinska cesta",
    "Čopova ulica",
    "Žibertova",
    "Trg dr. Đ. Kovača",
    "Pot na Rožnik",
];
const TOWNS: &[(&str, &str)] = &[
    ("1000", "Ljubljana"),
    ("3000", "Celje"),
    ("2000", "Maribor"),
    ("8340", "Črnomelj"),
    ("8210", "Trebnje"),
    ("4220", "Škofja Loka"),
    ("4226", "Žiri"),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn some(seed: u64) -> Vec<Value> {
        let begin = DateTime::from_timestamp(1_760_000_000, 0).expect("a time");
        let mut contacts = Contacts::since("orodje", seed, begin);
        let mut events = Vec::new();
        for _ in 0..300 {
            let mut contact = contacts.any();
            events.push(contact.created());
            for _ in 0..3 {
                events.push(contacts.change(&mut contact));
            }
        }
        contacts.shuffled(events, 0.2)
    }

    #[test]
    fn one_seed_makes_the_same_events() {
        assert_eq!(some(7), some(7));
        assert_ne!(some(7), some(8));
    }

    #[test]
    fn contacts_share_no_key_and_versions_no_content() {
        let mut contacts = Contacts::new("orodje", 3);
        let mut keys = HashSet::new();
        for _ in 0..500 {
            let mut contact = contacts.any();
            for part in ["id", "name", "tax_id"] {
                if let Some(text) = contact.record[part].as_str() {
                    assert!(keys.insert(text.to_owned()), "twice: {text}");
                }
            }
            for email in contact.record["emails"].as_array().expect("a list") {
                assert!(keys.insert(email["value"].to_string()), "twice: {email}");
            }
            let mut contents = HashSet::from([contact.record.to_string()]);
            for _ in 0..5 {
                contacts.change(&mut contact);
                assert!(contents.insert(contact.record.to_string()));
            }
        }
        let letters: String = keys.iter().flat_map(|key| key.chars()).collect();
        assert!("čšžđČŠŽĐ".chars().all(|letter| letters.contains(letter)));
    }

    #[test]
    fn tax_numbers_have_eight_digits_and_their_check_digit() {
        for n in 1..2000 {
            let number = tax_number(n);
            let digits: Vec<u32> = number[2..]
                .bytes()
                .map(|byte| u32::from(byte - b'0'))
                .collect();
            assert_eq!(digits.len(), 8, "{number}");
            let sum: u32 = digits
                .iter()
                .zip((2..=8).rev())
                .map(|(digit, weight)| digit * weight)
                .sum();
            assert_eq!((11 - sum % 11) % 10, digits[7] % 10, "{number}");
        }
    }

    #[test]
    fn a_later_version_has_a_later_time() {
        let mut contact = Contacts::new("orodje", 1).person();
        let (first, second) = (contact.created(), contact.deleted());
        assert!(first["time"].as_str() < second["time"].as_str());
        assert_eq!(
            second["data"],
            json!({"id": contact.id(), "reason": "deleted"})
        );
    }
}

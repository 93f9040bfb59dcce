//! An invented day of a CRM: who was created, changed and deleted, in which order the events came, and what a partner
//! must hold at its end. The same seed is the same day.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};

/// Between two versions of one record.
const STEP: TimeDelta = TimeDelta::seconds(97);
/// The day began so long ago: versions must not come from the future.
const PAST: TimeDelta = TimeDelta::hours(9);
/// One event in so many is published twice, and one in so many after its successor.
const TWICE_IN: u32 = 9;
const LATE_IN: u32 = 7;
/// Most changes of one record.
const MOST_CHANGES: u32 = 4;

const FAMILY: &[&str] = &[
    "Žnidaršič",
    "Čuk",
    "Šuštaršič",
    "Đurić",
    "Krajnc",
    "Hočevar",
    "Košir",
    "Ždralović",
    "Petrič",
    "Vidmar",
    "Jančič",
    "Češnovar",
    "Šporn",
    "Zupančič",
    "Đokić",
    "Bračko",
];
const GIVEN: &[&str] = &[
    "Špela", "Žiga", "Anže", "Maruša", "Đorđe", "Čarna", "Luka", "Neža", "Tomaž", "Živa",
];
const TRADES: &[&str] = &[
    "Čebelarstvo",
    "Žaga",
    "Pekarna",
    "Šiviljstvo",
    "Kovaštvo",
    "Mizarstvo",
    "Cvetličarna",
    "Prevozništvo",
];
const FORMS: &[&str] = &["d.o.o.", "s.p.", "d.d."];
const TOWNS: &[(&str, &str)] = &[
    ("1000", "Ljubljana"),
    ("2000", "Maribor"),
    ("3000", "Celje"),
    ("8290", "Sevnica"),
    ("5270", "Ajdovščina"),
    ("3320", "Velenje"),
    ("8340", "Črnomelj"),
    ("4220", "Škofja Loka"),
    ("3310", "Žalec"),
];
const STREETS: &[&str] = &[
    "Šmartinska cesta",
    "Čopova ulica",
    "Žitna pot",
    "Đakovska ulica",
    "Cesta v Gorice",
];

/// One record as it is at the end of the day.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) street: Option<String>,
    pub(super) deleted: bool,
}

/// One tenant's day.
#[derive(Clone, Debug)]
pub(super) struct Day {
    pub(super) records: Vec<Record>,
    /// In the order in which they are published.
    pub(super) events: Vec<Value>,
    pub(super) twice: usize,
    pub(super) late: usize,
}

/// `organizations` and `persons` of a tenant; the first person is deleted in the evening.
pub(super) fn of(tenant: &str, seed: u64, organizations: u32, persons: u32) -> Day {
    let mut maker = Maker {
        tenant,
        rng: StdRng::seed_from_u64(seed),
        begin: Utc::now() - PAST,
    };
    let mut records = Vec::new();
    let mut stories = Vec::new();
    for number in 1..=organizations + persons {
        let (record, story) = if number <= organizations {
            maker.story(number, true, false)
        } else {
            maker.story(number, false, number == organizations + 1)
        };
        records.push(record);
        stories.push(story);
    }
    let (events, twice, late) = maker.published(stories);
    Day {
        records,
        events,
        twice,
        late,
    }
}

struct Maker<'a> {
    tenant: &'a str,
    rng: StdRng,
    begin: DateTime<Utc>,
}

impl Maker<'_> {
    /// A record from its creation to its last version, and its events in true order.
    fn story(&mut self, number: u32, organization: bool, deleted: bool) -> (Record, Vec<Value>) {
        let mut contact = if organization {
            self.organization(number)
        } else {
            self.person(number)
        };
        let id = contact["id"].as_str().unwrap_or_default().to_owned();
        let began = self.begin + TimeDelta::minutes(i64::from(self.rng.random_range(0..360)));
        let changes = self.rng.random_range(0..=MOST_CHANGES);
        let mut events = vec![self.event(&id, "created", 1, began, json!({ "contact": contact }))];
        for change in 1..=changes {
            self.change(&mut contact, change);
            let at = began + STEP * i32::try_from(change).unwrap_or(i32::MAX);
            events.push(self.event(
                &id,
                "updated",
                change + 1,
                at,
                json!({ "contact": contact }),
            ));
        }
        if deleted {
            let at = began + STEP * i32::try_from(changes + 1).unwrap_or(i32::MAX);
            events.push(self.event(
                &id,
                "deleted",
                changes + 2,
                at,
                json!({ "id": id, "reason": "deleted" }),
            ));
        }
        let record = Record {
            name: contact["name"].as_str().unwrap_or_default().to_owned(),
            street: contact["addresses"][0]["street"]
                .as_str()
                .map(str::to_owned),
            id,
            deleted,
        };
        (record, events)
    }

    fn event(&self, id: &str, what: &str, version: u32, at: DateTime<Utc>, data: Value) -> Value {
        json!({
            "specversion": "1.0",
            "id": format!("{}-{id}-v{version}", self.tenant),
            "source": format!("urn:kurir:{}:crm:main", self.tenant),
            "type": format!("crm.contact.{what}.v1"),
            "tenantid": self.tenant,
            "time": at.to_rfc3339_opts(SecondsFormat::Micros, true),
            "data": data,
        })
    }

    fn organization(&mut self, number: u32) -> Value {
        let family = self.one(FAMILY);
        let name = format!("{} {family} {number} {}", self.one(TRADES), self.one(FORMS));
        let (post, town) = *TOWNS.choose(&mut self.rng).expect("there are towns");
        json!({
            "id": format!("org-{number}"),
            "kind": "organization",
            "name": name,
            "tax_id": format!("SI{:08}", 10_000_000 + number * 7 + self.rng.random_range(0..7)),
            "emails": [{ "value": format!("info@podjetje-{number}.example"), "label": "pisarna", "primary": true }],
            "phones": [{ "value_e164": format!("+3861{:07}", 4_000_000 + number), "raw": format!("01 400 {number:04}") }],
            "addresses": [{ "kind": "main", "street": self.street(), "postal_code": post, "city": town, "country": "SI" }],
            "language": "sl",
        })
    }

    fn person(&mut self, number: u32) -> Value {
        let name = format!("{} {} {number}", self.one(GIVEN), self.one(FAMILY));
        let (post, town) = *TOWNS.choose(&mut self.rng).expect("there are towns");
        json!({
            "id": format!("person-{number}"),
            "kind": "person",
            "name": name,
            "emails": [{ "value": format!("oseba-{number}@dom.example"), "primary": true }],
            "phones": [{ "value_e164": format!("+38640{:06}", 100_000 + number), "raw": format!("040 100 {number:03}") }],
            "addresses": [{ "kind": "main", "street": self.street(), "postal_code": post, "city": town, "country": "SI" }],
            "language": "sl",
        })
    }

    fn change(&mut self, contact: &mut Value, change: u32) {
        match self.rng.random_range(0..3) {
            0 => {
                let name = contact["name"].as_str().unwrap_or_default();
                let stem = name.split(" – ").next().unwrap_or(name).to_owned();
                contact["name"] = format!("{stem} – {} {change}", self.one(TRADES)).into();
            }
            1 => contact["addresses"][0]["street"] = self.street().into(),
            _ => {
                let raw = format!("040 {} {change:03}", self.rng.random_range(200..999));
                contact["phones"] = json!([{ "value_e164": format!("+386{}", raw.replace(' ', "").trim_start_matches('0')), "raw": raw }]);
            }
        }
    }

    fn street(&mut self) -> String {
        format!("{} {}", self.one(STREETS), self.rng.random_range(1..200))
    }

    fn one(&mut self, of: &[&'static str]) -> &'static str {
        of.choose(&mut self.rng).expect("the lists are not empty")
    }

    /// The stories woven into one stream: some events come twice, some after their successor.
    fn published(&mut self, stories: Vec<Vec<Value>>) -> (Vec<Value>, usize, usize) {
        let mut left: Vec<std::collections::VecDeque<Value>> =
            stories.into_iter().map(Into::into).collect();
        let (mut events, mut twice, mut late) = (Vec::new(), 0, 0);
        while !left.is_empty() {
            let place = self.rng.random_range(0..left.len());
            let story = &mut left[place];
            if story.len() > 1 && self.rng.random_ratio(1, LATE_IN) {
                story.swap(0, 1);
                late += 1;
            }
            if let Some(event) = story.pop_front() {
                if self.rng.random_ratio(1, TWICE_IN) {
                    events.push(event.clone());
                    twice += 1;
                }
                events.push(event);
            }
            left.retain(|story| !story.is_empty());
        }
        (events, twice, late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_of_a_day_is_valid_and_the_seed_decides_the_day() {
        let day = of("demo", 3, 8, 6);
        for event in &day.events {
            let decoded = event::decode(event.to_string().as_bytes());
            assert!(decoded.is_ok(), "{event}: {decoded:?}");
        }
        assert_eq!(day.records.len(), 14);
        assert_eq!(
            day.records.iter().filter(|record| record.deleted).count(),
            1
        );
        assert!(day.twice > 0 && day.late > 0);
        let names = |seed| {
            of("demo", seed, 8, 6)
                .records
                .into_iter()
                .map(|record| record.name)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(3), names(3));
        assert_ne!(names(3), names(4));
    }
}

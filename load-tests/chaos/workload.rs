//! What is published: made from the seed alone, to the byte and to the millisecond.
//!
//! Every tenant has records of the same ids, names and tax numbers, so that whoever mixes two tenants up finds a record
//! to be wrong about. A name says which tenant, record and version it is of, so that whatever stands at the partner can
//! be told where it came from.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use event::{OrderKey, SubjectVersion};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use testkit::{Contact, Contacts};

/// A tenant and its accounts at the partner, each a company of the simulator.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) name: &'static str,
    pub(crate) accounts: &'static [Account],
    /// Its events carry revision numbers, and times that say nothing.
    pub(crate) revisions: bool,
}

#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) name: &'static str,
    pub(crate) company: &'static str,
    /// Calls per second; `None` = as many as answers allow.
    pub(crate) window: Option<&'static str>,
}

pub(crate) const TENANTS: &[Tenant] = &[
    Tenant {
        name: "acme",
        accounts: &[
            Account {
                name: "default",
                company: "4711",
                window: None,
            },
            Account {
                name: "croatia",
                company: "4712",
                window: None,
            },
        ],
        revisions: false,
    },
    Tenant {
        name: "vrtnar",
        accounts: &[Account {
            name: "default",
            company: "4713",
            window: None,
        }],
        revisions: true,
    },
    // The last one has a budget that it passes now and then.
    Tenant {
        name: "mizar",
        accounts: &[Account {
            name: "default",
            company: "4714",
            window: Some("600/60+20"),
        }],
        revisions: false,
    },
];

/// Different events in a second, of all tenants together.
const EVENTS_PER_SECOND: f64 = 8.0;
/// Of one record, on the average.
const EVENTS_PER_RECORD: usize = 6;
/// Of a hundred changes.
const DELETIONS: u32 = 8;
const TIES: u32 = 4;
/// Of a thousand events: of a type that this build does not know, and of broken content.
const UNKNOWN: u32 = 8;
const BROKEN: u32 = 8;
/// An event and its copies come this much late, so that versions overtake each other.
const REORDERED: Duration = Duration::from_millis(2_500);
const REPEATED: Duration = Duration::from_millis(15_000);
/// How often out of ten an event is published 1, 2, 3 ... times.
const COPIES_OF_TEN: [u32; 5] = [5, 2, 1, 1, 1];
/// Of the oldest version; any moment of the past, the same in every run.
const BEGIN: i64 = 1_740_000_000;
const MOST_HTTP_BATCH: usize = 6;

/// A story whose copies and rates are its scenario's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) publishing: Duration,
    /// Each event so often; `None` = drawn.
    pub(crate) copies: Option<usize>,
    /// Also what cannot be applied.
    pub(crate) odd: bool,
}

#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) records: Vec<Record>,
    pub(crate) events: Vec<Event>,
    /// In the order of their times.
    pub(crate) deliveries: Vec<Delivery>,
}

/// A contact of one tenant.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) tenant: &'static Tenant,
    pub(crate) id: String,
    /// Into `Workload::events`.
    pub(crate) events: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The record is this now, or is gone.
    State,
    /// No worker of this build takes its type: kept unrouted.
    Unknown,
    /// Breaks its schema: a dead letter, for ever.
    Broken,
}

#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) tenant: &'static Tenant,
    /// Into `Workload::records`.
    pub(crate) record: Option<usize>,
    pub(crate) meaning: Meaning,
    pub(crate) value: Value,
    /// Generation 0.
    pub(crate) k: OrderKey,
    pub(crate) version: u32,
}

impl Event {
    pub(crate) fn id(&self) -> &str {
        self.value["id"].as_str().unwrap_or_default()
    }

    pub(crate) fn deletes(&self) -> bool {
        self.k.tombstone()
    }
}

/// One publish.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    /// Since the begin of publishing.
    pub(crate) at: Duration,
    /// Into `Workload::events`; several only for a batch, all of one tenant.
    pub(crate) events: Vec<usize>,
    pub(crate) way: Way,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Amqp,
    Structured,
    Binary,
    Batch,
}

impl Workload {
    pub(crate) fn generate(seed: u64, shape: Shape) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let total = (shape.publishing.as_secs_f64() * EVENTS_PER_SECOND) as usize;
        let records_each = (total / TENANTS.len() / EVENTS_PER_RECORD).max(2);
        let mut workload = Self {
            records: Vec::new(),
            events: Vec::new(),
            deliveries: Vec::new(),
        };
        for tenant in TENANTS {
            workload.add_tenant(tenant, seed, records_each, &mut dice, shape);
        }
        workload.deliver(shape, &mut dice);
        workload
    }

    fn add_tenant(
        &mut self,
        tenant: &'static Tenant,
        seed: u64,
        records: usize,
        dice: &mut StdRng,
        shape: Shape,
    ) {
        let begin = DateTime::from_timestamp(BEGIN, 0).expect("a moment of the past");
        // The same seed for all tenants: equal ids, names, numbers and addresses.
        let mut source = Contacts::since(tenant.name, seed, begin);
        for _ in 0..records {
            let mut contact = source.any();
            let record = self.records.len();
            self.records.push(Record {
                tenant,
                id: contact.id().to_owned(),
                events: Vec::new(),
            });
            let count = dice.random_range(2..EVENTS_PER_RECORD * 2);
            let (mut last, mut gone) = (None, false);
            for _ in 0..count {
                let value = next(&mut source, &mut contact, tenant, gone, dice, last.as_ref());
                gone = value["type"] == "crm.contact.deleted.v1";
                last = Some(value.clone());
                self.push(tenant, Some(record), Meaning::State, value, contact.version);
            }
        }
        if shape.odd {
            self.add_odd(tenant, begin, dice);
        }
    }

    /// What ends elsewhere: at least one of each.
    fn add_odd(&mut self, tenant: &'static Tenant, begin: DateTime<Utc>, dice: &mut StdRng) {
        let events = u32::try_from(self.events.len()).unwrap_or(u32::MAX);
        let mut strange = Contacts::since(tenant.name, dice.random(), begin);
        for n in 0..(events * UNKNOWN / 1_000).max(1) {
            let mut value = strange.person().created();
            value["id"] = json!(format!("{}-unknown-{n}", tenant.name));
            value["type"] = json!("crm.contact.created.v9");
            self.push(tenant, None, Meaning::Unknown, value, 1);
        }
        for n in 0..(events * BROKEN / 1_000).max(1) {
            let mut value = strange.person().created();
            value["id"] = json!(format!("{}-broken-{n}", tenant.name));
            value["subject"] = json!(format!("contact/broken-{n}"));
            value["data"]["contact"]["id"] = json!(format!("broken-{n}"));
            value["data"]["contact"]["name"] = json!(7);
            self.push(tenant, None, Meaning::Broken, value, 1);
        }
    }

    fn push(
        &mut self,
        tenant: &'static Tenant,
        record: Option<usize>,
        meaning: Meaning,
        value: Value,
        version: u32,
    ) {
        let k = order_key(&value);
        if let Some(record) = record {
            let at = self.events.len();
            self.records[record].events.push(at);
        }
        self.events.push(Event {
            tenant,
            record,
            meaning,
            value,
            k,
            version,
        });
    }

    /// Spreads them over the time: each record's events in their order, late by chance, and some several times.
    fn deliver(&mut self, shape: Shape, dice: &mut StdRng) {
        let mut order: Vec<usize> = (0..self.events.len()).collect();
        order.shuffle(dice);
        // Shuffled records, but each record's own events in order: reordering is then small and deliberate.
        let mut nth: BTreeMap<Option<usize>, usize> = BTreeMap::new();
        let mut slots: Vec<usize> = Vec::with_capacity(order.len());
        for &at in &order {
            let record = self.events[at].record;
            slots.push(match record {
                Some(number) => {
                    let seen = nth.entry(record).or_default();
                    *seen += 1;
                    self.records[number].events[*seen - 1]
                }
                None => at,
            });
        }
        let pace = shape.publishing.div_f64(slots.len().max(1) as f64);
        for (place, &event) in slots.iter().enumerate() {
            let planned = pace.mul_f64(place as f64);
            let copies = shape.copies.unwrap_or_else(|| drawn_copies(dice));
            for copy in 0..copies {
                let spread = if copy == 0 { REORDERED } else { REPEATED };
                let late = spread.mul_f64(dice.random_range(0.0..1.0));
                let delivery = Delivery {
                    at: (planned + late).min(shape.publishing),
                    events: vec![event],
                    way: self.way(event, dice),
                };
                self.deliveries.push(delivery);
            }
        }
        self.deliveries.sort_by_key(|delivery| delivery.at);
        self.gather_batches();
    }

    fn way(&self, event: usize, dice: &mut StdRng) -> Way {
        let way = match dice.random_range(0..10) {
            0..6 => Way::Amqp,
            6..8 => Way::Structured,
            8 => Way::Binary,
            _ => Way::Batch,
        };
        // The gateway refuses these before they reach the broker.
        if self.events[event].meaning == Meaning::State {
            way
        } else {
            Way::Amqp
        }
    }

    /// Neighbours of one tenant that are to go in a batch go together, at the time of the last.
    fn gather_batches(&mut self) {
        let mut waiting: BTreeMap<&str, Delivery> = BTreeMap::new();
        let mut gathered = Vec::with_capacity(self.deliveries.len());
        for delivery in self.deliveries.drain(..) {
            if delivery.way != Way::Batch {
                gathered.push(delivery);
                continue;
            }
            let tenant = self.events[delivery.events[0]].tenant.name;
            let Some(batch) = waiting.get_mut(tenant) else {
                waiting.insert(tenant, delivery);
                continue;
            };
            batch.at = delivery.at;
            batch.events.extend(delivery.events);
            if batch.events.len() >= MOST_HTTP_BATCH {
                gathered.extend(waiting.remove(tenant));
            }
        }
        gathered.extend(waiting.into_values());
        gathered.sort_by_key(|delivery| delivery.at);
        self.deliveries = gathered;
    }

    /// The event that must have the last word on this record.
    pub(crate) fn newest(&self, record: &Record) -> &Event {
        let newest = record.events.iter().max_by_key(|at| &self.events[**at].k);
        newest.map_or(&self.events[0], |at| &self.events[*at])
    }
}

fn drawn_copies(dice: &mut StdRng) -> usize {
    let mut drawn = dice.random_range(0..10);
    for (copies, share) in (1..).zip(COPIES_OF_TEN) {
        if drawn < share {
            return copies;
        }
        drawn -= share;
    }
    1
}

/// The next event of a record: made, changed, deleted, or made again.
fn next(
    source: &mut Contacts,
    contact: &mut Contact,
    tenant: &Tenant,
    gone: bool,
    dice: &mut StdRng,
    last: Option<&Value>,
) -> Value {
    let drawn = dice.random_range(0..100);
    let mut value = if contact.version == 0 && drawn >= DELETIONS {
        contact.created()
    } else if drawn < DELETIONS && !gone {
        contact.deleted()
    } else if gone && drawn % 2 == 0 {
        contact.created()
    } else {
        source.change(contact)
    };
    if value["data"]["contact"].is_object() {
        let stem = stem(contact.name()).to_owned();
        let name = format!(
            "{stem} v#{} @{}/{}",
            contact.version,
            tenant.name,
            contact.id()
        );
        value["data"]["contact"]["name"] = json!(name);
        contact.record["name"] = json!(name);
    }
    let tied = last.filter(|_| dice.random_range(0..100) < TIES);
    if tenant.revisions {
        value["subjectversion"] = match tied {
            Some(last) => last["subjectversion"].clone(),
            None => json!(contact.version.to_string()),
        };
        // Says nothing where a revision is given: any order of times must do.
        let any = BEGIN + dice.random_range(0..100_000);
        let any = DateTime::from_timestamp(any, 0).unwrap_or_default();
        value["time"] = json!(any.to_rfc3339());
    } else if let Some(last) = tied {
        value["time"] = last["time"].clone();
    }
    value
}

fn stem(name: &str) -> &str {
    name.split(" v#").next().unwrap_or(name)
}

/// What a name at the partner says: version, tenant and record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    pub(crate) tenant: String,
    pub(crate) record: String,
    pub(crate) version: u32,
}

impl Mark {
    /// The first one in a text.
    pub(crate) fn find(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once(" v#")?;
        let (version, rest) = rest.split_once(" @")?;
        let (tenant, rest) = rest.split_once('/')?;
        let end = rest
            .find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-')
            .unwrap_or(rest.len());
        Some(Self {
            tenant: tenant.to_owned(),
            record: rest[..end].to_owned(),
            version: version.parse().ok()?,
        })
    }
}

/// The order key of an event as docs/events.md tells a publisher.
fn order_key(event: &Value) -> OrderKey {
    let text = |name: &str| event[name].as_str().unwrap_or_default();
    let version = SubjectVersion::parse(text("subjectversion")).unwrap_or_else(|| {
        let time = DateTime::parse_from_rfc3339(text("time")).expect("an event has a time");
        SubjectVersion::from_micros(time.timestamp_micros())
    });
    OrderKey::new(&version, text("type").contains(".deleted."), text("id"), 0)
}

//! Everything that the database says about the events of a run, read at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use anyhow::Context as _;
use event::OrderKey;
use sqlx::Row as _;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::harness::Harness;
use crate::workload::{Account, Event, Meaning, TENANTS, Workload};

/// Servers are being restarted.
const PATIENCE: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(300);
/// Bytes of the generation at the end of an order key.
const GENERATION: usize = 4;

/// Where an event is, for one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// Its link has applied it.
    Applied,
    /// Its link has applied a newer one.
    Superseded,
    Held,
    /// An open dead letter.
    Dead,
    /// A dead letter that is being sent again.
    Replaying,
    /// Superseded by one that is not applied yet.
    Kept,
}

#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) id: i64,
    pub(crate) state: String,
    pub(crate) target_id: Option<String>,
    pub(crate) applied_k: Option<Vec<u8>>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let applied = self.applied_k.clone().and_then(OrderKey::from_bytes);
        let applied = applied.map_or_else(|| "nothing".to_owned(), |k| k.event_id().to_owned());
        let target = self.target_id.as_deref().unwrap_or("nothing");
        write!(
            f,
            "{} {} to {target}, has applied {applied}",
            self.id, self.state
        )
    }
}

/// Connection and the record's id.
type LinkKey = (Uuid, String);

#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Of (tenant, account).
    connections: BTreeMap<(String, String), Uuid>,
    suspended: BTreeSet<Uuid>,
    links: BTreeMap<LinkKey, Link>,
    /// Event id to (connection, cause).
    held: BTreeMap<String, Vec<(Option<Uuid>, String)>>,
    /// Event id to (connection, state, class).
    dead: BTreeMap<String, Vec<(Option<Uuid>, String, String)>>,
    /// Connection and event id.
    kept: BTreeSet<(Uuid, String)>,
    pub(crate) open_effects: i64,
    pub(crate) leases: i64,
    pub(crate) outbox: i64,
}

impl Survey {
    /// Repeated while the database is away.
    pub(crate) async fn patient(harness: &Harness) -> anyhow::Result<Self> {
        let begin = Instant::now();
        loop {
            match Self::read(harness).await {
                Ok(survey) => return Ok(survey),
                Err(error) if begin.elapsed() > PATIENCE => return Err(error),
                Err(_) => sleep(AGAIN).await,
            }
        }
    }

    /// One snapshot, so that an event on its way from one table to the next is seen in one of them.
    async fn read(harness: &Harness) -> anyhow::Result<Self> {
        let mut look = harness.database.pool().begin().await?;
        sqlx::query("set transaction isolation level repeatable read, read only")
            .execute(&mut *look)
            .await?;
        let mut survey = Self::default();
        for row in sqlx::query("select id, tenant, account, state from connection")
            .fetch_all(&mut *look)
            .await?
        {
            let id: Uuid = row.get("id");
            survey
                .connections
                .insert((row.get("tenant"), row.get("account")), id);
            if row.get::<String, _>("state") != "ok" {
                survey.suspended.insert(id);
            }
        }
        for row in sqlx::query(
            "select id, connection_id, source_id, state, target_id, applied_k from link",
        )
        .fetch_all(&mut *look)
        .await?
        {
            let link = Link {
                id: row.get("id"),
                state: row.get("state"),
                target_id: row.get("target_id"),
                applied_k: row.get("applied_k"),
            };
            survey
                .links
                .insert((row.get("connection_id"), row.get("source_id")), link);
        }
        for row in sqlx::query("select event_id, connection_id, reason from held")
            .fetch_all(&mut *look)
            .await?
        {
            let of_event = survey.held.entry(row.get("event_id")).or_default();
            of_event.push((row.get("connection_id"), row.get("reason")));
        }
        for row in sqlx::query("select coalesce(event_id, '') as event_id, connection_id, state, class from dead_letter")
            .fetch_all(&mut *look)
            .await?
        {
            let of_event = survey.dead.entry(row.get("event_id")).or_default();
            of_event.push((row.get("connection_id"), row.get("state"), row.get("class")));
        }
        for row in sqlx::query(
            "select l.connection_id, e.event_id from link_event e join link l on l.id = e.link_id",
        )
        .fetch_all(&mut *look)
        .await?
        {
            survey
                .kept
                .insert((row.get("connection_id"), row.get("event_id")));
        }
        let counts = sqlx::query(
            "select (select count(*) from effect where state in ('sent', 'unknown')) as effects,
                (select count(*) from link where lease_token is not null and lease_until > now()) as leases,
                (select count(*) from outbox) as outbox",
        )
        .fetch_one(&mut *look)
        .await?;
        survey.open_effects = counts.get("effects");
        survey.leases = counts.get("leases");
        survey.outbox = counts.get("outbox");
        Ok(survey)
    }

    pub(crate) fn link(&self, tenant: &str, account: &Account, record: &str) -> Option<&Link> {
        let key = (tenant.to_owned(), account.name.to_owned());
        let connection = self.connections.get(&key)?;
        self.links.get(&(*connection, record.to_owned()))
    }

    pub(crate) fn links(&self) -> impl Iterator<Item = (&str, &Link)> {
        self.links
            .iter()
            .map(|((_, record), link)| (record.as_str(), link))
    }

    pub(crate) fn is_suspended(&self, tenant: &str, account: &Account) -> bool {
        let key = (tenant.to_owned(), account.name.to_owned());
        let connection = self.connections.get(&key);
        connection.is_some_and(|connection| self.suspended.contains(connection))
    }

    /// Held events by cause.
    pub(crate) fn held(&self) -> BTreeMap<&str, usize> {
        let mut causes = BTreeMap::new();
        for (_, cause) in self.held.values().flatten() {
            *causes.entry(cause.as_str()).or_default() += 1;
        }
        causes
    }

    /// Classes of open dead letters, but those of events that can never be applied.
    pub(crate) fn dead_classes(&self, workload: &Workload) -> BTreeMap<&str, usize> {
        let broken: BTreeSet<&str> = workload
            .events
            .iter()
            .filter(|event| event.meaning == Meaning::Broken)
            .map(Event::id)
            .collect();
        let mut classes = BTreeMap::new();
        for (event, dead_letters) in &self.dead {
            if !broken.contains(event.as_str()) {
                for (_, _, class) in dead_letters.iter().filter(|(_, state, _)| state == "open") {
                    *classes.entry(class.as_str()).or_default() += 1;
                }
            }
        }
        classes
    }

    /// Class of the open dead letters of an event that names no account.
    pub(crate) fn classes_of(&self, event: &Event) -> Vec<&str> {
        let dead_letters = self.dead.get(event.id()).map_or(&[][..], Vec::as_slice);
        dead_letters
            .iter()
            .filter(|(_, state, _)| state == "open")
            .map(|(_, _, class)| class.as_str())
            .collect()
    }

    /// Whether it was a dead letter of this account once, whatever became of it.
    pub(crate) fn has_died(&self, event: &Event, account: &Account) -> bool {
        let key = (event.tenant.name.to_owned(), account.name.to_owned());
        let dead_letters = self.dead.get(event.id()).map_or(&[][..], Vec::as_slice);
        self.connections.get(&key).is_some_and(|connection| {
            dead_letters
                .iter()
                .any(|(of, _, _)| *of == Some(*connection))
        })
    }

    /// All places of an event at an account: one, if all is well.
    pub(crate) fn places(
        &self,
        workload: &Workload,
        event: &Event,
        account: &Account,
    ) -> Vec<Place> {
        let mut places = Vec::new();
        let key = (event.tenant.name.to_owned(), account.name.to_owned());
        let Some(connection) = self.connections.get(&key) else {
            return places;
        };
        let record = event.record.map(|at| workload.records[at].id.as_str());
        let link = record.and_then(|record| self.link(event.tenant.name, account, record));
        if let Some(applied) = link.and_then(|link| link.applied_k.as_deref()) {
            let own = event.k.as_bytes();
            if bare(applied) == bare(own) {
                places.push(Place::Applied);
            } else if applied > own {
                places.push(Place::Superseded);
            }
        }
        let concerns = |of: &Option<Uuid>| of.is_none_or(|of| of == *connection);
        let held = self.held.get(event.id()).map_or(&[][..], Vec::as_slice);
        places.extend(
            held.iter()
                .filter(|(of, _)| concerns(of))
                .map(|_| Place::Held),
        );
        let dead = self.dead.get(event.id()).map_or(&[][..], Vec::as_slice);
        places.extend(
            dead.iter()
                .filter(|(of, _, _)| concerns(of))
                .filter_map(|(_, state, _)| match state.as_str() {
                    "open" => Some(Place::Dead),
                    "replaying" => Some(Place::Replaying),
                    _ => None,
                }),
        );
        if self.kept.contains(&(*connection, event.id().to_owned())) {
            places.push(Place::Kept);
        }
        places
    }

    /// Whether nothing more has to happen with this event, at any account.
    pub(crate) fn is_done(&self, workload: &Workload, event: &Event) -> bool {
        match event.meaning {
            // Where these end is looked at in their own places.
            Meaning::Unknown => true,
            Meaning::Broken => !self.classes_of(event).is_empty(),
            Meaning::State => event.tenant.accounts.iter().all(|account| {
                let places = self.places(workload, event, account);
                matches!(places.as_slice(), [Place::Applied | Place::Superseded])
            }),
        }
    }

    /// Some events that are not done, for people.
    pub(crate) fn undone(&self, workload: &Workload) -> Vec<String> {
        let undone = workload
            .events
            .iter()
            .filter(|event| !self.is_done(workload, event));
        undone
            .map(|event| {
                let places: Vec<String> = event
                    .tenant
                    .accounts
                    .iter()
                    .map(|account| {
                        let places = self.places(workload, event, account);
                        format!("{} {places:?}", account.name)
                    })
                    .collect();
                format!("{}: {}", event.id(), places.join(", "))
            })
            .collect()
    }

    /// All accounts that refuse their credentials now.
    pub(crate) fn suspended(&self) -> Vec<&'static str> {
        let mut found = Vec::new();
        for tenant in TENANTS {
            for account in tenant.accounts {
                if self.is_suspended(tenant.name, account) {
                    found.push(account.company);
                }
            }
        }
        found
    }
}

fn bare(k: &[u8]) -> &[u8] {
    &k[..k.len().saturating_sub(GENERATION)]
}

/// Rows as JSON, for the evidence.
pub(crate) async fn rows(
    harness: &Harness,
    query: &'static str,
    records: &[String],
) -> anyhow::Result<Vec<String>> {
    sqlx::query_scalar(query)
        .bind(records)
        .fetch_all(harness.database.pool())
        .await
        .with_context(|| query.to_owned())
}

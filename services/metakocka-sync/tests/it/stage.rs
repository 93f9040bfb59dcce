//! A tenant with a connection to a simulator, and deliveries handled one by one: claim, handle, give the lease back.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use event::TenantId;
use metakocka_sync::{METAKOCKA, MetakockaSync, Settings, WORKER};
use outbound::address::Private;
use outbound::{Client, Url};
use secrecy::SecretString;
use serde_json::{Value, json};
use simulators::metakocka::{
    Call, ClockKind, Fault, LogFilter, MkId, Options, Partner, PartnerEdit, Readings,
    ScriptedFault, Simulator,
};
use sqlx::postgres::PgPoolOptions;
use store::budgets::Budgets;
use store::connection_cache::ConnectionCache;
use store::connections::{self, NewConnection};
use store::links::Links;
use store::sealing::KeyRing;
use store::{Pool, QueuePrefix};
use sync::{Deps, LinkClaims, LinkWorker, Metrics};
use testkit::Database;
use uuid::Uuid;
use worker::budget::BudgetSpec;
use worker::{
    AckReason, Claims as _, Connection, DeadClass, Delivery, DeliveryMetadata, Done, Failure,
    Handled, Handler as _, HoldCause, Job, Release, Verdict, WaitCause,
};

pub(crate) const TENANT: &str = "med";
pub(crate) const COMPANY: &str = "4711";
pub(crate) const KEY: &str = "sim-key";
/// 32 bytes in base64.
const SEALING_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const START: &str = "2026-01-15T09:00:00Z";
/// SQLSTATE of a statement that was given up so that another one could go on.
const DEADLOCK: &str = "40P01";
/// Longer than any look-up of the simulator lags.
pub(crate) const LAG: Duration = Duration::from_secs(60);
/// Longer than the settle time of any call.
pub(crate) const SETTLED: Duration = Duration::from_secs(200);

/// How a delivery ended.
#[derive(Debug)]
pub(crate) enum End {
    Ack(AckReason),
    Wait(WaitCause, DateTime<Utc>),
    Failed(Failure),
    Dead(DeadClass, String),
    Held(HoldCause, String),
}

impl End {
    /// For comparing: the failure's kind instead of its text.
    pub(crate) fn word(&self) -> String {
        match self {
            Self::Ack(reason) => format!("ack {reason}"),
            Self::Wait(cause, _) => format!("wait {cause:?}"),
            Self::Failed(Failure::Transient { class, .. }) => format!("transient {class}"),
            Self::Failed(Failure::Permanent { class, .. }) => format!("permanent {class}"),
            Self::Failed(Failure::Blocked { what, .. }) => format!("blocked {}", what.cause),
            Self::Dead(class, _) => format!("dead {class}"),
            Self::Held(cause, _) => format!("hold {cause}"),
        }
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Self::Failed(failure) => failure.to_string(),
            Self::Dead(_, text) | Self::Held(_, text) => text.clone(),
            Self::Ack(_) | Self::Wait(..) => String::new(),
        }
    }
}

/// How a test wants it.
pub(crate) struct Wanted {
    pub(crate) readings: Readings,
    pub(crate) key: &'static str,
    pub(crate) budget: BudgetSpec,
    pub(crate) write_timeout: Duration,
    /// Of the simulator's dice.
    pub(crate) seed: u64,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            readings: Readings::kind(),
            key: KEY,
            budget: BudgetSpec {
                windows: Vec::new(),
                in_flight: 16,
                searches: 1,
            },
            write_timeout: Duration::from_secs(120),
            seed: 0,
        }
    }
}

pub(crate) struct Stage {
    pub(crate) simulator: Simulator,
    pub(crate) pool: Pool,
    pub(crate) worker: LinkWorker,
    pub(crate) claims: LinkClaims,
    pub(crate) connection: Arc<Connection>,
    pub(crate) keys: KeyRing,
    _database: Rc<Database>,
}

thread_local! {
    /// Shared by the stages of one test, one after another; a test has a thread of its own.
    static DATABASE: RefCell<Option<Rc<Database>>> = const { RefCell::new(None) };
}

/// Empty, with all migrations.
async fn database() -> Rc<Database> {
    let known = DATABASE.with_borrow(Option::clone);
    let Some(database) = known else {
        let database = Rc::new(testkit::database().await);
        DATABASE.set(Some(Rc::clone(&database)));
        return database;
    };
    // Whoever of the stage before still reads may lock the tables in another order.
    const TRIES: usize = 5;
    for left in (0..TRIES).rev() {
        let emptied = sqlx::query(
            "truncate tenant, link, link_history, held, dead_letter, outbox restart identity cascade",
        )
        .execute(database.pool())
        .await;
        match emptied {
            Err(sqlx::Error::Database(error))
                if left > 0 && error.code().as_deref() == Some(DEADLOCK) => {}
            emptied => {
                emptied.unwrap();
                break;
            }
        }
    }
    database
}

impl Stage {
    pub(crate) async fn new(readings: Readings) -> Self {
        Self::with(Wanted {
            readings,
            ..Wanted::default()
        })
        .await
    }

    pub(crate) async fn with(wanted: Wanted) -> Self {
        let start: DateTime<Utc> = START.parse().unwrap();
        let options = Options {
            readings: wanted.readings,
            strict: true,
            seed: wanted.seed,
            clock: ClockKind::Manual(start),
            ..Options::default()
        };
        let simulator = Simulator::start(options).await.unwrap();
        let database = database().await;
        // One connection: the database's clock is a setting of the session.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .connect(database.url())
            .await
            .unwrap();
        let tenant = TenantId::parse(TENANT).unwrap();
        store::tenants::add(&pool, &tenant, "Čebelarji")
            .await
            .unwrap();
        let keys = KeyRing::new("k", [("k", &SecretString::from(SEALING_KEY))]).unwrap();
        let credentials = json!({"secret_key": wanted.key, "company_id": COMPANY}).to_string();
        let new = NewConnection {
            tenant,
            system: "metakocka".to_owned(),
            account: "default".to_owned(),
            settings: serde_json::Map::from_iter([("url".to_owned(), json!(simulator.base_url()))]),
            credentials: SecretString::from(credentials),
        };
        let added = connections::add(&pool, &keys, &QueuePrefix::new("kurir"), &new)
            .await
            .unwrap();
        let client = Client::new(outbound::Settings {
            private: Private::Allow,
            ..outbound::Settings::default()
        })
        .unwrap();
        let settings = Settings {
            client: metakocka::Settings {
                write_timeout: wanted.write_timeout,
                quota_backoff: QUOTA_BACKOFF,
                ..metakocka::Settings::default()
            },
            ..Settings::new(Url::parse("http://127.0.0.1:9/nowhere/").unwrap())
        };
        let worker = LinkWorker::new(Deps {
            worker: WORKER.name,
            system: METAKOCKA.name,
            pool: pool.clone(),
            keys: keys.clone(),
            links: Links::new(pool.clone(), "kurir", Duration::from_secs(30)),
            connections: Arc::new(ConnectionCache::start(pool.clone())),
            budgets: Arc::new(Budgets::start(pool.clone(), budgets(wanted.budget))),
            settings: sync::Settings::default(),
            metrics: Arc::new(Metrics::new(METAKOCKA.name)),
            partner: Arc::new(MetakockaSync::new(client, settings)),
            consumes: WORKER.consumes,
            facets: worker::Facets::ENTITY,
        });
        let stage = Self {
            claims: worker.claims(),
            connection: added.connection.for_worker().unwrap(),
            simulator,
            pool,
            worker,
            keys,
            _database: database,
        };
        stage.advance(Duration::ZERO).await;
        stage
    }

    /// Moves the clocks of the simulator and of the database together.
    pub(crate) async fn advance(&self, by: Duration) {
        let now = self.simulator.advance(by).unwrap();
        sqlx::query("select set_config('kurir.now', $1, false)")
            .bind(now.to_rfc3339())
            .execute(&self.pool)
            .await
            .unwrap();
    }

    /// One delivery, as the consumer loop would handle it.
    pub(crate) async fn deliver(&self, event: &Value) -> End {
        let job = self.job(event);
        let verdicts = self.claims.claim(std::slice::from_ref(&job), false).await;
        let grant = match verdicts.unwrap().remove(0) {
            Verdict::Granted(grant) => grant,
            Verdict::Ack(reason) => return End::Ack(reason),
            Verdict::Hold { cause, reason, .. } => return End::Held(cause, reason),
            Verdict::Dead { class, reason } => return End::Dead(class, reason),
            Verdict::Busy { .. } | Verdict::Exclusive => panic!("nobody else is at work"),
        };
        let deadline = self.worker.policy().deadline;
        let answer = self.worker.handle(&job, grant, deadline).await;
        let (end, given_back) = match answer {
            Ok(Handled::Done(Done(reason))) => (End::Ack(reason), false),
            Ok(Handled::Wait { until, cause }) => (End::Wait(cause, until), true),
            Err(failure) => (End::Failed(failure), true),
        };
        if given_back {
            let release = Release {
                token: job.token,
                link: None,
                last_error: None,
            };
            self.claims.release(vec![release]).await.unwrap();
        }
        end
    }

    /// Delivers again, as the retry tiers would, until it is acknowledged; time passes in between.
    pub(crate) async fn deliver_until_done(&self, event: &Value) -> AckReason {
        const TRIES: usize = 30;
        for _ in 0..TRIES {
            match self.deliver(event).await {
                End::Ack(reason) => return reason,
                End::Wait(..) | End::Failed(Failure::Transient { .. }) => {
                    self.advance(LAG).await;
                }
                other => panic!("{other:?}"),
            }
        }
        panic!("not done after {TRIES} deliveries");
    }

    fn job(&self, event: &Value) -> Job {
        let body = serde_json::to_vec(event).unwrap();
        let event = event::decode(&body).unwrap_or_else(|error| panic!("{error:?}"));
        let request = matches!(event.payload, event::Payload::SyncRequested(_));
        Job {
            version: event.version.as_ref().map(|version| version.value.clone()),
            delivery: Arc::new(Delivery {
                body: Bytes::from(body),
                metadata: DeliveryMetadata::default(),
                properties: json!({}),
                headers: json!({}),
                received: std::time::Instant::now(),
                received_at: Utc::now(),
            }),
            event: Arc::new(event),
            token: Uuid::new_v4(),
            connection: (!request).then(|| Arc::clone(&self.connection)),
            facet: None,
        }
    }

    /// The connection as it is stored now.
    pub(crate) async fn refresh(&mut self) {
        let stored =
            connections::get(&self.pool, store::Scope::Everything, self.connection.id).await;
        self.connection = stored.unwrap().for_worker().unwrap();
    }

    pub(crate) fn partners(&self) -> Vec<Partner> {
        self.simulator.partners(COMPANY).unwrap()
    }

    #[track_caller]
    pub(crate) fn only_partner(&self) -> Partner {
        let mut partners = self.partners();
        assert_eq!(partners.len(), 1, "{partners:#?}");
        partners.remove(0)
    }

    /// A person adds a partner, long ago.
    pub(crate) async fn by_hand(&self, edit: PartnerEdit) -> MkId {
        let id = self
            .simulator
            .with_company(COMPANY, |company, now| company.person_adds(edit, now))
            .unwrap()
            .unwrap();
        self.advance(LAG).await;
        id
    }

    pub(crate) fn fault(&self, fault: Fault, call: Call) {
        self.simulator
            .fault(ScriptedFault::new(fault).on(call))
            .unwrap();
    }

    /// Everything that was asked so far.
    pub(crate) fn mark(&self) -> u64 {
        let log = self.simulator.log(&LogFilter::default());
        log.last().map_or(0, |entry| entry.seq)
    }

    /// The calls after a mark, in short.
    pub(crate) fn calls_since(&self, mark: u64) -> Vec<&'static str> {
        let filter = LogFilter {
            since: Some(mark),
            ..LogFilter::default()
        };
        self.simulator
            .log(&filter)
            .iter()
            .map(|entry| match entry.call {
                Some(Call::AddPartner) => "add",
                Some(Call::UpdatePartner) => "update",
                Some(Call::GetPartner) if entry.body.get("partner_id").is_some() => "read",
                Some(Call::GetPartner) => "find",
                None => "?",
            })
            .collect()
    }

    pub(crate) async fn link(&self) -> (String, Option<String>) {
        sqlx::query_as("select state, target_id from link order by id limit 1")
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// What the history of all records says, oldest first.
    pub(crate) async fn history(&self) -> Vec<(String, Value)> {
        sqlx::query_as("select what, detail from link_history order by id")
            .fetch_all(&self.pool)
            .await
            .unwrap()
    }

    pub(crate) async fn open_effects(&self) -> i64 {
        sqlx::query_scalar("select count(*) from effect where state in ('sent', 'unknown')")
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }
}

/// `crm.contact.created.v1` or `updated`, by its version.
pub(crate) fn saved(version: u32, contact: &Value) -> Value {
    let what = if version == 1 { "created" } else { "updated" };
    let id = contact["id"].as_str().unwrap();
    event(what, id, version, json!({ "contact": contact }))
}

pub(crate) fn deleted(version: u32, id: &str) -> Value {
    event("deleted", id, version, json!({ "id": id }))
}

fn event(what: &str, id: &str, version: u32, data: Value) -> Value {
    json!({
        "specversion": "1.0",
        "id": format!("{id}-v{version}"),
        "source": format!("urn:kurir:{TENANT}:crm:default"),
        "type": format!("crm.contact.{what}.v1"),
        "time": format!("2026-01-14T08:{:02}:{:02}Z", version / 60, version % 60),
        "tenantid": TENANT,
        "data": data,
    })
}

/// `sync.requested.v1` about the first link.
pub(crate) fn requested(what: &str, link: i64) -> Value {
    json!({
        "specversion": "1.0",
        "id": format!("request-{what}-{link}-{}", Uuid::new_v4()),
        "source": format!("urn:kurir:{TENANT}:kurir:default"),
        "type": "sync.requested.v1",
        "time": START,
        "tenantid": TENANT,
        "data": {"worker": "metakocka-sync", "link": link, "what": what},
    })
}

/// An organization with everything.
pub(crate) fn beekeeper() -> Value {
    json!({
        "id": "org-1",
        "kind": "organization",
        "name": "Čebelarstvo Žužek d.o.o.",
        "tax_id": "SI99999901",
        "registration_number": "6123456000",
        "emails": [{"value": "spela@zuzek.example", "primary": true}],
        "phones": [
            {"raw": "040 000 111", "value_e164": "+38640000111", "label": "mobile"},
            {"raw": "07 348 00 00", "label": "work"}
        ],
        "addresses": [
            {"kind": "main", "street": "Češnjeva ulica 7", "postal_code": "8210", "city": "Trebnje", "province": "Dolenjska", "country": "SI"},
            {"kind": "delivery", "street": "Panjska pot 2", "postal_code": "8210", "city": "Trebnje", "country": "SI"}
        ]
    })
}

/// A person with e-mail and address.
pub(crate) fn person() -> Value {
    json!({
        "id": "person-1",
        "kind": "person",
        "name": "Živa Đorđević",
        "emails": [{"value": "Ziva@Dordevic.example"}],
        "phones": [],
        "addresses": [{"kind": "main", "street": "Šmartinska cesta 12", "postal_code": "1000", "city": "Ljubljana", "country": "Slovenia"}]
    })
}

pub(crate) fn both() -> [Readings; 2] {
    [Readings::kind(), Readings::nasty()]
}

/// After a quota answer that names no time: the clock of budgets is the real one.
pub(crate) const QUOTA_BACKOFF: Duration = Duration::from_millis(10);

fn budgets(spec: BudgetSpec) -> store::budgets::Settings {
    store::budgets::Settings {
        defaults: [("metakocka".to_owned(), spec)].into(),
        circuit_open: Duration::from_millis(10),
    }
}

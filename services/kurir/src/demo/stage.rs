//! What the demo plays on: settings, servers, tenants, and what it does to them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use event::TenantId;
use rand::RngCore as _;
use runtime::{Need, Sources};
use secrecy::SecretString;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use simulators::metakocka::core::Call;
use simulators::metakocka::{
    CompanyOptions, Fault, Options, RandomFault, ScriptedFault, Simulator,
};
use store::connections::NewConnection;
use store::dead_letters::Filter;
use store::{Pool, Scope};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::day::{self, Day};
use crate::commands::publish;
use crate::context::{Context, PATIENCE};
use crate::exit::{Done, Exit, Failed};
use crate::management::Management;
use crate::roles;

/// Records of each tenant.
const ORGANIZATIONS: u32 = 9;
const PERSONS: u32 = 5;
/// Name of the one organization that the partner refuses.
pub(super) const REFUSED: &str = "Šivalnica Zlati Škorec d.o.o.";
const REFUSAL: &str = "Davčna številka ni v registru.";
const HTTP_LIMIT: Duration = Duration::from_secs(10);
const ANSWER_LIMIT: usize = 256 * 1024;

/// Settings of the demo, unless somebody sets others: short waits, free ports, a partner on this machine.
const SETTINGS: &[(&str, &str)] = &[
    ("KURIR_GATEWAY__LISTEN", "127.0.0.1:0"),
    ("KURIR_HEALTH__UP", "127.0.0.1:0"),
    ("KURIR_KEEPER__JANITOR_SECONDS", "2"),
    ("KURIR_METAKOCKA__ALLOW_PRIVATE_ADDRESSES", "true"),
    ("KURIR_METAKOCKA__CALLS_PER_SECOND", "0"),
    ("KURIR_METAKOCKA__IN_FLIGHT", "8"),
    ("KURIR_METAKOCKA__WRITE_TIMEOUT_SECONDS", "3"),
    ("KURIR_METAKOCKA__READ_TIMEOUT_SECONDS", "3"),
    ("KURIR_METAKOCKA__CREATE_SETTLE_SECONDS", "6"),
    ("KURIR_METAKOCKA__UPDATE_SETTLE_SECONDS", "6"),
    ("KURIR_LOG__FILTER", "error,lapin=off"),
];
const KEYS: &str = "KURIR_KEYS__";
const PREFIX: &str = "KURIR_AMQP__PREFIX";

/// One tenant of the demo.
pub(super) struct Tenant {
    pub(super) id: TenantId,
    pub(super) name: &'static str,
    pub(super) company: &'static str,
    pub(super) day: Day,
    token: SecretString,
}

/// What was given to Kurir: the demo's own input, not an outcome.
pub(super) struct Published {
    pub(super) events: usize,
    pub(super) over_http: usize,
    pub(super) over_amqp: usize,
    pub(super) twice: usize,
    pub(super) late: usize,
    /// What the gateway said to the event without a name.
    pub(super) refusal: String,
}

type Listening = Vec<(&'static str, SocketAddr)>;

pub(super) struct Stage {
    pub(super) context: Context,
    pub(super) pool: Pool,
    pub(super) simulator: Simulator,
    pub(super) tenants: Vec<Tenant>,
    /// A tenant that nobody added.
    pub(super) stranger: TenantId,
    /// The key that this run seals with, where none was set.
    pub(super) key: Option<(String, String)>,
    /// Taken down with everything in it; `None` where somebody else chose it.
    own_prefix: Option<String>,
    listening: Arc<Mutex<Listening>>,
    fleet: JoinHandle<Done>,
    shutdown: CancellationToken,
    asked_to_stop: CancellationToken,
}

impl Stage {
    pub(super) async fn build(file: Option<PathBuf>, seed: u64) -> Done<Self> {
        let mut sources = Sources::of_process(file.clone());
        // Queues of its own: what else runs on this broker must not take the events of this run.
        let run = uuid::Uuid::new_v4().simple().to_string()[..6].to_owned();
        let (key, prefix) = fill_in(&mut sources, &run);
        let needs = [Need::Amqp, Need::Database, Need::Keys];
        let context = Context::from_sources(&sources, &needs)?;
        runtime::telemetry::start(&context.settings().log)
            .map_err(|error| Failed::new(Exit::Configuration, error.to_string()))?;
        let asked_to_stop = runtime::signals::shutdown()?;
        let pool = context.pool_within(PATIENCE).await?;
        store::migrate::migrate(&pool).await?;

        let tenants = tenants(&pool, &run, seed).await?;
        let simulator = simulator(seed, &tenants).await?;

        // The roles end after what still needs them, whoever asks first.
        let shutdown = CancellationToken::new();
        let listening = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&listening);
        let fleet_context = Context::from_sources(&sources, &needs)?;
        let fleet = tokio::spawn(roles::up_until(
            fleet_context,
            shutdown.clone(),
            move |addresses| {
                *told.lock().unwrap_or_else(PoisonError::into_inner) = addresses.to_vec();
            },
        ));
        let stranger = tenant(&run, "neznan")?;
        let stage = Self {
            context,
            pool,
            simulator,
            tenants,
            stranger,
            key,
            own_prefix: prefix,
            listening,
            fleet,
            shutdown,
            asked_to_stop,
        };
        for connected in &stage.tenants[..2] {
            stage.connect(connected).await?;
        }
        Ok(stage)
    }

    pub(super) fn address(&self, name: &str) -> Option<String> {
        let listening = self
            .listening
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        listening
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, address)| format!("http://{address}"))
    }

    pub(super) async fn ready(&self) -> Done<Result<(), String>> {
        if self.fleet.is_finished() {
            return Err(Failed::new(Exit::Failed, "the roles ended by themselves")
                .next("KURIR_LOG__FILTER=info make demo says why"));
        }
        let Some(health) = self.address("health") else {
            return Ok(Err("not listening yet".to_owned()));
        };
        let client = crate::http::client(HTTP_LIMIT)?;
        Ok(
            crate::http::get(&client, &format!("{health}/readyz"), ANSWER_LIMIT)
                .await
                .map(drop),
        )
    }

    /// The one that gets its connection only after its events.
    pub(super) fn late_tenant(&self) -> &Tenant {
        &self.tenants[2]
    }

    /// Adds the tenant's connection; returns how many events it let go.
    pub(super) async fn connect(&self, tenant: &Tenant) -> Done<u64> {
        let credentials =
            json!({ "secret_key": secret_key(tenant.company), "company_id": tenant.company });
        let settings = serde_json::Map::from_iter([(
            registry::URL.to_owned(),
            self.simulator.base_url().into(),
        )]);
        let new = NewConnection {
            tenant: tenant.id.clone(),
            system: "metakocka".to_owned(),
            account: "default".to_owned(),
            settings,
            credentials: SecretString::from(credentials.to_string()),
        };
        let changed = store::connections::add(
            &self.pool,
            &self.context.key_ring()?,
            &self.context.prefix(),
            &new,
        )
        .await?;
        Ok(changed.released)
    }

    /// The day of all tenants, and three events that must not go through.
    pub(super) async fn publish(&self) -> Done<Published> {
        let gateway = self
            .address("gateway")
            .ok_or_else(|| Failed::new(Exit::Failed, "the gateway is not listening"))?;
        let mut published = Published {
            events: 0,
            over_http: 0,
            over_amqp: 0,
            twice: 0,
            late: 0,
            refusal: String::new(),
        };
        let mut straight: Vec<Box<RawValue>> = Vec::new();
        for (place, tenant) in self.tenants.iter().enumerate() {
            let events = raw(&tenant.day.events)?;
            published.twice += tenant.day.twice;
            published.late += tenant.day.late;
            // The first tenant's CRM speaks HTTP, the second's AMQP, the third's both in turn.
            let (http, amqp): (Vec<_>, Vec<_>) = match place {
                0 => (events, Vec::new()),
                1 => (Vec::new(), events),
                _ => {
                    let half = events.len() / 2;
                    let mut first = events;
                    let second = first.split_off(half);
                    (first, second)
                }
            };
            publish::over_http(&gateway, &tenant.token, &http).await?;
            published.over_http += http.len();
            straight.extend(amqp);
        }
        let (refused, nameless, strange) = self.troublesome();
        straight.extend(raw(&[refused, nameless.clone(), strange])?);
        publish::over_amqp(&self.context, &straight).await?;
        published.over_amqp = straight.len();
        published.refusal = self.refused_by_gateway(&gateway, &nameless).await?;
        published.events = published.over_http + published.over_amqp;
        Ok(published)
    }

    /// One that the partner refuses, one without a name, one of a tenant that nobody added.
    fn troublesome(&self) -> (Value, Value, Value) {
        let contact = |tenant: &TenantId, id: &str, name: &str| {
            json!({
                "specversion": "1.0",
                "id": format!("{tenant}-{id}-v1"),
                "source": format!("urn:kurir:{tenant}:crm:main"),
                "type": "crm.contact.created.v1",
                "tenantid": tenant.as_str(),
                "time": "2026-01-01T08:00:00Z",
                "data": { "contact": { "id": id, "kind": "organization", "name": name } },
            })
        };
        let tenant = &self.tenants[1].id;
        (
            contact(tenant, "refused-1", REFUSED),
            contact(tenant, "nameless-1", " "),
            contact(&self.stranger, "stranger-1", "Neznanec s.p."),
        )
    }

    /// What the gateway says to an event that is not valid.
    async fn refused_by_gateway(&self, gateway: &str, event: &Value) -> Done<String> {
        let client = crate::http::client(HTTP_LIMIT)?;
        let token = secrecy::ExposeSecret::expose_secret(&self.tenants[1].token);
        let request = client
            .post(format!("{gateway}/v1/events"))
            .bearer_auth(token)
            .header(
                reqwest::header::CONTENT_TYPE,
                "application/cloudevents+json",
            )
            .body(event.to_string());
        let failed = |why: String| Failed::new(Exit::Unavailable, why);
        let answer = request
            .send()
            .await
            .map_err(|error| failed(crate::http::without_address(error)))?;
        let status = answer.status().as_u16();
        let body = crate::http::body(answer, ANSWER_LIMIT)
            .await
            .map_err(failed)?;
        let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let first = &problem["errors"][0];
        Ok(format!(
            "{status}, {} {}",
            text(&first["pointer"]),
            text(&first["detail"])
        ))
    }

    /// Dead letters before anything is repaired: the refused one, the nameless one, the stranger's.
    pub(super) fn dead_expected(&self) -> usize {
        3
    }

    /// The dead letter of the event that the partner refused.
    pub(super) async fn refused(&self) -> Done<uuid::Uuid> {
        let tenant = &self.tenants[1].id;
        let filter = Filter {
            state: Some("open".to_owned()),
            text: Some("refused-1".to_owned()),
            ..Filter::default()
        };
        let found =
            store::dead_letters::list(&self.pool, Scope::Tenant(tenant), &filter, None, 1).await?;
        let dead = found.first().ok_or_else(|| {
            Failed::new(
                Exit::Failed,
                "the refused event is not among the dead letters",
            )
        })?;
        Ok(dead.id)
    }

    /// Of a dead letter, as it is now.
    pub(super) async fn timeline(&self, id: uuid::Uuid) -> Done<store::dead_letters::Timeline> {
        let tenant = &self.tenants[1].id;
        Ok(store::dead_letters::show(&self.pool, Scope::Tenant(tenant), id).await?)
    }

    /// The partner takes the refused one from now on; its dead letter goes to its worker again.
    pub(super) async fn repair_and_replay(&self, id: uuid::Uuid) -> Done {
        self.simulator.clear_faults();
        let tenant = &self.tenants[1].id;
        let one = Filter::one(id);
        let order = store::dead_letters::replay::Order {
            filter: &one,
            rate_max: store::dead_letters::replay::FIRST_RATE,
            restamp: false,
            actor: "kurir demo",
            idempotency_key: None,
        };
        store::dead_letters::replay::order(&self.pool, Scope::Tenant(tenant), order).await?;
        Ok(())
    }

    pub(super) async fn wait_for_stop(&self) {
        self.asked_to_stop.cancelled().await;
    }

    /// Roles first, then the partner they call, then this run's queues.
    pub(super) async fn take_down(self) -> Done {
        self.shutdown.cancel();
        let ended = self.fleet.await.map_err(|error| {
            Failed::new(Exit::Failed, format!("the roles ended badly: {error}"))
        })?;
        self.pool.close().await;
        self.simulator.stop().await;
        if let (Some(prefix), Some(management)) = (&self.own_prefix, Management::of(&self.context)?)
        {
            management.remove(prefix).await?;
        }
        ended
    }
}

async fn simulator(seed: u64, tenants: &[Tenant]) -> Done<Simulator> {
    let failed = |error: simulators::metakocka::Error| {
        Failed::new(Exit::Failed, format!("the simulator: {error}"))
    };
    let options = Options {
        companies: tenants
            .iter()
            .map(|tenant| CompanyOptions::new(tenant.company, secret_key(tenant.company)))
            .collect(),
        seed,
        random_faults: faults(),
        ..Options::default()
    };
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let simulator = Simulator::start_on(options, listener).map_err(failed)?;
    let refuse = Fault::Refuse {
        code: 2,
        text: REFUSAL.to_owned(),
    };
    simulator
        .fault(
            ScriptedFault::new(refuse)
                .of_company(tenants[1].company)
                .containing(REFUSED)
                .always(),
        )
        .map_err(failed)?;
    Ok(simulator)
}

/// What goes wrong at the partner on an ordinary day, only more often: one write in five, one read in thirty.
fn faults() -> Vec<RandomFault> {
    let writes = [
        (Fault::Error { status: 502 }, 0.05),
        (Fault::Reset, 0.04),
        (Fault::CommitThenDrop, 0.06),
        (Fault::Garbled, 0.05),
    ];
    let reads = [
        (Fault::Maintenance, 0.02),
        (Fault::Error { status: 502 }, 0.01),
    ];
    let on = |call: Call, faults: &[(Fault, f64)]| -> Vec<RandomFault> {
        let one = |(fault, rate): &(Fault, f64)| RandomFault {
            fault: fault.clone(),
            rate: *rate,
            call: Some(call),
            vary: false,
        };
        faults.iter().map(one).collect()
    };
    [
        on(Call::AddPartner, &writes),
        on(Call::UpdatePartner, &writes),
        on(Call::GetPartner, &reads),
    ]
    .concat()
}

fn secret_key(company: &str) -> String {
    format!("demo-key-{company}")
}

fn new_key() -> (String, String) {
    let mut key = [0_u8; 32];
    rand::rng().fill_bytes(&mut key);
    ("demo".to_owned(), BASE64_STANDARD.encode(key))
}

fn raw(events: &[Value]) -> Done<Vec<Box<RawValue>>> {
    let written: Result<Vec<_>, _> = events.iter().map(to_raw_value).collect();
    written.map_err(|error| Failed::new(Exit::Failed, error.to_string()))
}

/// Settings that nobody gave: the demo's own, a key and a prefix, which are answered.
fn fill_in(sources: &mut Sources, run: &str) -> (Option<(String, String)>, Option<String>) {
    let key = (!sources
        .environment
        .keys()
        .any(|name| name.starts_with(KEYS)))
    .then(new_key);
    let given = key.iter().flat_map(|(id, key)| {
        [
            ("KURIR_KEYS__CURRENT".to_owned(), id.clone()),
            (format!("{KEYS}RING__{}", id.to_uppercase()), key.clone()),
        ]
    });
    let prefix = (!sources.environment.contains_key(PREFIX)).then(|| format!("kurir-demo-{run}"));
    let given = given.chain(
        prefix
            .iter()
            .map(|prefix| (PREFIX.to_owned(), prefix.clone())),
    );
    let ours = SETTINGS
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    for (name, value) in ours.chain(given) {
        sources.environment.entry(name).or_insert(value);
    }
    (key, prefix)
}

fn tenant(run: &str, name: &str) -> Done<TenantId> {
    TenantId::parse(&format!("demo-{run}-{name}"))
        .ok_or_else(|| Failed::new(Exit::Failed, "no tenant id"))
}

/// Three tenants, each with a company of its own, a day and a token.
async fn tenants(pool: &Pool, run: &str, seed: u64) -> Done<Vec<Tenant>> {
    let mut tenants = Vec::new();
    for (place, (name, company)) in [("orodje", "4711"), ("pekarna", "4712"), ("vrtnar", "4713")]
        .into_iter()
        .enumerate()
    {
        let id = tenant(run, name)?;
        store::tenants::add(pool, &id, &format!("demo, seed {seed}")).await?;
        let (_, token) = store::tokens::create(pool, &id, "demo crm", None).await?;
        let day = day::of(
            id.as_str(),
            seed.wrapping_mul(31).wrapping_add(place as u64),
            ORGANIZATIONS,
            PERSONS,
        );
        tenants.push(Tenant {
            id,
            name,
            company,
            day,
            token,
        });
    }
    Ok(tenants)
}

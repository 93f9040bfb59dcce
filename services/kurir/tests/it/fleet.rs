//! A fleet of one test: a database, a part of the broker, a simulated Metakocka, and `kurir` processes on them with
//! times so short that a crash, a lost lease and a settle wait fit into seconds.

use std::fmt::Write as _;
use std::time::Duration;

use event::{OrderKey, SubjectVersion};
use lapin::options::{BasicGetOptions, BasicNackOptions};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::Value;
use simulators::metakocka::{
    Call, Fault, LogFilter, MkId, Options, Partner, PartnerEdit, ScriptedFault, Simulator,
};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use testkit::{
    Broker, Contact, Contacts, Database, Ended, Kurir, Publisher, Route, Running,
    structured_properties, wait_for,
};
use tokio::time::sleep;
use uuid::Uuid;

pub(crate) const TENANT: &str = "acme";
/// The simulator's company and its key, as `simulators::metakocka::Options` begins.
pub(crate) const COMPANY: &str = "4711";
const CREDENTIALS: &str = r#"{"secret_key":"sim-key","company_id":"4711"}"#;
const CREDENTIALS_VARIABLE: &str = "TEST_CREDENTIALS";
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A process that answers its probes.
pub(crate) const READY: Duration = Duration::from_secs(60);
/// A command or a drain.
pub(crate) const END: Duration = Duration::from_secs(80);
/// Everything that a test waits for: leases, retry tiers and settle times are seconds, the machine may be busy.
pub(crate) const SOON: Duration = Duration::from_secs(80);

/// Leases expire after this.
pub(crate) const LEASE: Duration = Duration::from_secs(2);
/// An unknown outcome is believed to be "absent" this long after `sent`, at the earliest.
pub(crate) const SETTLE: Duration = Duration::from_secs(3);
/// A booked call that has not left by then does not leave.
pub(crate) const WINDOW: Duration = Duration::from_secs(2);

/// Between the two looks that must find nothing moving.
const CALM: Duration = Duration::from_millis(300);

/// Queues of the worker below `<prefix>.`, and where unrouted events are kept.
pub(crate) const QUEUES: [&str; 10] = [
    "metakocka-sync",
    "metakocka-sync.retry.1s",
    "metakocka-sync.retry.5s",
    "metakocka-sync.retry.30s",
    "metakocka-sync.retry.2m",
    "metakocka-sync.retry.10m",
    "metakocka-sync.retry.1h",
    "metakocka-sync.dead",
    "unrouted.in",
    "unrouted",
];

pub(crate) struct Fleet {
    pub(crate) database: Database,
    pub(crate) broker: Broker,
    pub(crate) simulator: Simulator,
}

/// What became of a published event. The first that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The link at every account of its tenant has applied it, or a newer one.
    Covered,
    /// A dead letter, open or given up.
    Dead,
    Held,
    /// Superseded by one that is not applied yet.
    Kept,
    /// Nobody has seen it, or everybody has forgotten it.
    Missing,
}

/// A link as a test looks at it.
#[derive(Clone, Debug)]
pub(crate) struct LinkRow {
    pub(crate) id: i64,
    pub(crate) source_id: String,
    pub(crate) state: String,
    pub(crate) target_id: Option<String>,
    pub(crate) desired_k: Option<Vec<u8>>,
    pub(crate) applied_k: Option<Vec<u8>>,
    pub(crate) lease_token: Option<Uuid>,
}

#[derive(Clone, Debug)]
pub(crate) struct EffectRow {
    pub(crate) operation: String,
    pub(crate) state: String,
    pub(crate) last: bool,
}

impl Fleet {
    /// With a tenant and its connection to the simulator.
    pub(crate) async fn start() -> Self {
        Self::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let (database, broker) = tokio::join!(testkit::database(), testkit::broker());
        Self::on(database, broker, options).await
    }

    /// On servers of one's own.
    pub(crate) async fn on(database: Database, broker: Broker, options: Options) -> Self {
        let fleet = Self::without_connection(database, broker, options).await;
        fleet.connect().await;
        fleet
    }

    /// The tenant exists, and nothing is connected yet.
    pub(crate) async fn without_connection(
        database: Database,
        broker: Broker,
        options: Options,
    ) -> Self {
        let simulator = Simulator::start(options).await.unwrap();
        let fleet = Self {
            database,
            broker,
            simulator,
        };
        fleet.command(&["tenant", "add", TENANT]).await.expect(0);
        fleet
    }

    /// `kurir connection add`.
    pub(crate) async fn connect(&self) {
        let add = [
            "connection",
            "add",
            "--tenant",
            TENANT,
            "--system",
            "metakocka",
            "--credentials-env",
            CREDENTIALS_VARIABLE,
        ];
        self.kurir(&add)
            .env(CREDENTIALS_VARIABLE, CREDENTIALS)
            .run(END)
            .await
            .expect(0);
    }

    /// Any command on these servers, with short times and no limits of calls.
    pub(crate) fn kurir(&self, arguments: &[&str]) -> Kurir {
        Kurir::new(env!("CARGO_BIN_EXE_kurir"), arguments)
            .database(&self.database)
            .broker(&self.broker)
            .setting("keys.current", "k1")
            .setting("keys.ring.k1", KEY)
            .setting("metakocka.url", self.simulator.base_url())
            .setting("metakocka.allow_private_addresses", true)
            .setting("metakocka.calls_per_second", 0)
            .setting("metakocka.in_flight", 16)
            .setting("metakocka.quota_backoff_seconds", 1)
            .setting("worker.circuit_open_seconds", 1)
            .setting("metakocka.connect_timeout_seconds", 1)
            .setting("metakocka.write_timeout_seconds", 2)
            .setting("metakocka.read_timeout_seconds", 2)
            .setting("metakocka.create_settle_seconds", SETTLE.as_secs())
            .setting("metakocka.update_settle_seconds", SETTLE.as_secs())
            .setting("metakocka.lookup_lag_seconds", 1)
            .setting("sync.lease_seconds", LEASE.as_secs())
            .setting("sync.send_window_seconds", WINDOW.as_secs())
            .setting("keeper.janitor_seconds", 1)
            .setting("database.max_connections", 6)
            .setting("worker.slots", 8)
            .setting("worker.prefetch", 64)
    }

    /// Runs a command to its end.
    pub(crate) async fn command(&self, arguments: &[&str]) -> Ended {
        self.kurir(arguments).run(END).await
    }

    pub(crate) fn worker(&self) -> Kurir {
        self.kurir(&["worker", "metakocka-sync"])
            .listen("health", "health.worker")
    }

    /// A worker that takes one event at a time: what comes while it stands still goes to others.
    pub(crate) fn narrow_worker(&self) -> Kurir {
        self.worker()
            .setting("worker.slots", 1)
            .setting("worker.prefetch", 1)
    }

    pub(crate) fn keeper(&self) -> Kurir {
        self.kurir(&["keeper"]).listen("health", "health.keeper")
    }

    pub(crate) fn gateway(&self) -> Kurir {
        self.kurir(&["gateway"])
            .listen("health", "health.gateway")
            .listen("gateway", "gateway.listen")
    }

    /// A worker that is ready.
    pub(crate) async fn working(&self) -> Running {
        ready(self.worker()).await
    }

    /// A keeper that is ready.
    pub(crate) async fn keeping(&self) -> Running {
        ready(self.keeper()).await
    }

    /// Makes exchanges and queues, for events that come before the first worker.
    pub(crate) async fn declare(&self) {
        self.command(&["topology", "declare"]).await.expect(0);
    }

    /// On the connection that lives now: the broker may have closed the former one.
    pub(crate) async fn publisher(&self) -> Publisher {
        self.broker.publisher().await.unwrap()
    }

    /// Straight to the broker, as an upstream app may.
    pub(crate) async fn publish(&self, event: &Value) {
        let route = self.publisher().await.event(event).await.unwrap();
        assert_eq!(route, Route::Routed, "{event}");
    }

    pub(crate) async fn publish_all<'a>(&self, events: impl IntoIterator<Item = &'a Value>) {
        self.publisher().await.events(events).await.unwrap();
    }

    /// Straight into the worker's queue, with headers of ours: as a copy, a replay or a release comes.
    pub(crate) async fn publish_copy(&self, event: &Value, headers: &[(&str, i64)]) {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert((*name).into(), AMQPValue::LongLongInt(*value));
        }
        let properties = structured_properties(event).with_headers(table);
        let queue = self.broker.queue("metakocka-sync");
        let body = event.to_string();
        let route = self
            .publisher()
            .await
            .raw("", &queue, body.as_bytes(), properties)
            .await
            .unwrap();
        assert_eq!(route, Route::Routed);
    }

    /// Takes this event from the worker's queue and gives it back until the broker makes a dead letter of it. No
    /// worker may run meanwhile.
    pub(crate) async fn dies_at_the_broker(&self, event: &Value) {
        let channel = self.broker.channel().await.unwrap();
        let (queue, dead) = (
            self.broker.queue("metakocka-sync"),
            self.broker.queue("metakocka-sync.dead"),
        );
        wait_for("the broker gives it up", SOON, async || {
            if let Some(got) = channel
                .basic_get(queue.as_str().into(), BasicGetOptions::default())
                .await
                .unwrap()
            {
                let found: Value = serde_json::from_slice(&got.delivery.data).unwrap();
                assert_eq!(found["id"], event["id"], "another event is in the queue");
                let back = BasicNackOptions {
                    requeue: true,
                    ..BasicNackOptions::default()
                };
                got.delivery.nack(back).await.unwrap();
            }
            match self.broker.depth(&dead).await.unwrap() {
                Some(1) => Ok(()),
                depth => Err(depth),
            }
        })
        .await;
        channel.close(200, "done".into()).await.unwrap();
    }

    /// Starts a worker that dies at this point of this event, so many times, and ends its leases.
    pub(crate) async fn kills(&self, point: &str, event: &Value, times: usize) {
        for _ in 0..times {
            let armed = format!("{point}:kill:1:{}", id_of(event));
            let dying = self.worker().failpoint(&armed).start();
            wait_for("it dies", SOON, async || match dying.status() {
                Some(_) => Ok(()),
                None => Err(self.story().await),
            })
            .await;
            dying.killed(SOON).await;
            self.leases_end().await;
        }
    }

    /// As if their time had passed.
    pub(crate) async fn leases_end(&self) {
        self.sql(
            "update link set lease_until = clock_timestamp() where lease_until > clock_timestamp()",
        )
        .await;
    }

    /// As if the settle time of every open effect had passed.
    pub(crate) async fn effects_settle(&self) {
        self.sql(
            "update effect set settle_at = clock_timestamp() where state in ('sent', 'unknown')",
        )
        .await;
    }

    /// As if the minute until the next look had passed.
    pub(crate) async fn recheck_now(&self) {
        self.sql("update link set recheck_at = clock_timestamp() where recheck_at is not null")
            .await;
    }

    /// What an operator does after a refusal of the credentials was repaired.
    pub(crate) async fn repair(&self) {
        self.simulator.clear_faults();
        self.accepted().await;
    }

    /// A connection test succeeds: the keeper lets go what waited for it.
    pub(crate) async fn accepted(&self) {
        let test = [
            "connection",
            "test",
            "--tenant",
            TENANT,
            "--system",
            "metakocka",
        ];
        self.command(&test).await.expect(0);
    }

    /// `kurir held release --all`; a keeper must run.
    pub(crate) async fn release(&self) {
        self.command(&["held", "release", "--all"]).await.expect(0);
    }

    /// `kurir held discard` of this event's row.
    pub(crate) async fn discard(&self, event: &Value) {
        let held: i64 = sqlx::query_scalar("select id from held where event_id = $1")
            .bind(id_of(event))
            .fetch_one(self.database.pool())
            .await
            .unwrap();
        let discard = ["held", "discard", &held.to_string(), "--note", "not wanted"];
        self.command(&discard).await.expect(0);
    }

    /// `kurir dead-letters replay` of this event's; a keeper must run, now or later.
    pub(crate) async fn replay(&self, event: &Value) {
        let dead: Uuid = sqlx::query_scalar("select id from dead_letter where event_id = $1")
            .bind(id_of(event))
            .fetch_one(self.database.pool())
            .await
            .unwrap();
        let replay = ["dead-letters", "replay", &dead.to_string(), "--detach"];
        self.command(&replay).await.expect(0);
    }

    /// State and class of this event's dead letter.
    pub(crate) async fn dead_letter(&self, event: &Value) -> Option<(String, String)> {
        sqlx::query_as("select state, class from dead_letter where event_id = $1")
            .bind(id_of(event))
            .fetch_optional(self.database.pool())
            .await
            .unwrap()
    }

    /// Waits until this event's dead letter is in that state.
    pub(crate) async fn dead_letter_is(&self, event: &Value, state: &str) {
        wait_for(
            &format!("the dead letter is {state}"),
            SOON,
            async || match self.dead_letter(event).await {
                Some((found, _)) if found == state => Ok(()),
                found => Err((found, self.story().await)),
            },
        )
        .await;
    }

    /// Cause of this event's held row.
    pub(crate) async fn held(&self, event: &Value) -> Option<String> {
        sqlx::query_scalar("select reason from held where event_id = $1")
            .bind(id_of(event))
            .fetch_optional(self.database.pool())
            .await
            .unwrap()
    }

    /// A person adds a partner in the application.
    pub(crate) fn person_adds(&self, partner: PartnerEdit) -> MkId {
        self.simulator
            .with_company(COMPANY, |company, now| company.person_adds(partner, now))
            .unwrap()
            .unwrap()
    }

    /// The next matching calls meet this.
    pub(crate) fn fault(&self, fault: ScriptedFault) {
        self.simulator.fault(fault).unwrap();
    }

    /// The next `call` meets `fault`, once.
    pub(crate) fn fault_on(&self, call: Call, fault: Fault) {
        self.fault(ScriptedFault::new(fault).on(call));
    }

    pub(crate) fn partners(&self) -> Vec<Partner> {
        self.simulator.partners(COMPANY).unwrap()
    }

    /// The partner that a link of this record names.
    pub(crate) async fn partner_of(&self, record: &str) -> Option<Partner> {
        let id: MkId = self.link(record).await?.target_id?.parse().unwrap();
        self.simulator.partner(COMPANY, id).ok()
    }

    /// Calls of this kind that reached the simulator.
    pub(crate) fn calls(&self, call: Call) -> usize {
        self.simulator.log(&LogFilter::call(call)).len()
    }

    /// Waits until so many calls of this kind have reached the simulator.
    pub(crate) async fn called(&self, call: Call, times: usize) {
        wait_for(&format!("{times} × {}", call.as_str()), SOON, async || {
            let calls = self.calls(call);
            if calls >= times { Ok(()) } else { Err(calls) }
        })
        .await;
    }

    pub(crate) async fn links(&self) -> Vec<LinkRow> {
        let rows: Vec<PgRow> = sqlx::query("select * from link order by id")
            .fetch_all(self.database.pool())
            .await
            .unwrap();
        rows.iter()
            .map(|row| LinkRow {
                id: row.get("id"),
                source_id: row.get("source_id"),
                state: row.get("state"),
                target_id: row.get("target_id"),
                desired_k: row.get("desired_k"),
                applied_k: row.get("applied_k"),
                lease_token: row.get("lease_token"),
            })
            .collect()
    }

    /// The link of a CRM record.
    pub(crate) async fn link(&self, record: &str) -> Option<LinkRow> {
        let mut links = self.links().await;
        links.retain(|link| link.source_id == record);
        assert!(links.len() < 2, "{links:?}");
        links.pop()
    }

    /// All calls that were booked, oldest first.
    pub(crate) async fn effects(&self) -> Vec<EffectRow> {
        let rows: Vec<PgRow> = sqlx::query("select * from effect order by created_at, id")
            .fetch_all(self.database.pool())
            .await
            .unwrap();
        rows.iter()
            .map(|row| EffectRow {
                operation: row.get("operation"),
                state: row.get("state"),
                last: row.get("last"),
            })
            .collect()
    }

    /// Waits until an effect satisfies `wanted`.
    pub(crate) async fn effect(
        &self,
        what: &str,
        wanted: impl Fn(&EffectRow) -> bool,
    ) -> EffectRow {
        wait_for(&format!("an effect that is {what}"), SOON, async || {
            let effects = self.effects().await;
            effects
                .iter()
                .find(|effect| wanted(effect))
                .cloned()
                .ok_or(effects)
        })
        .await
    }

    /// One number of the database.
    pub(crate) async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query)
            .fetch_one(self.database.pool())
            .await
            .unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    /// Runs statements on the database.
    pub(crate) async fn sql(&self, statements: &'static str) {
        sqlx::raw_sql(statements)
            .execute(self.database.pool())
            .await
            .unwrap();
    }

    pub(crate) async fn fate(&self, event: &Value) -> Fate {
        let (source, id) = (text(event, "source"), text(event, "id"));
        let record = text(event, "subject").trim_start_matches("contact/");
        let k = order_key(event, 0);
        // By every account: one that is done says nothing of the others.
        let covered: bool = sqlx::query_scalar(
            "select coalesce(bool_and(coalesce(l.applied_k >= $2, false)), false)
             from connection c left join link l on l.connection_id = c.id and l.source_id = $1
             where c.tenant = $3 and c.enabled",
        )
        .bind(record)
        .bind(k.as_bytes())
        .bind(text(event, "tenantid"))
        .fetch_one(self.database.pool())
        .await
        .unwrap();
        if covered {
            return Fate::Covered;
        }
        for (fate, query) in [
            (
                Fate::Dead,
                "select exists (select from dead_letter where source = $1 and event_id = $2 and state in ('open', 'discarded'))",
            ),
            (
                Fate::Held,
                "select exists (select from held where source = $1 and event_id = $2)",
            ),
            (
                Fate::Kept,
                "select exists (select from link_event where source = $1 and event_id = $2)",
            ),
        ] {
            let found: bool = sqlx::query_scalar(query)
                .bind(source)
                .bind(id)
                .fetch_one(self.database.pool())
                .await
                .unwrap();
            if found {
                return fate;
            }
        }
        Fate::Missing
    }

    /// Waits until this is what became of the event.
    pub(crate) async fn becomes(&self, event: &Value, fate: Fate) {
        wait_for(
            &format!("{} becomes {fate:?}", event["id"]),
            SOON,
            async || {
                let found = self.fate(event).await;
                if found == fate {
                    Ok(())
                } else {
                    Err((found, self.story().await))
                }
            },
        )
        .await;
    }

    /// Waits until nothing moves any more: every one of these events has an end, no call's outcome is open, no lease is
    /// held, nothing is in a queue or in the outbox.
    pub(crate) async fn rests<'a>(&self, events: impl IntoIterator<Item = &'a Value>) {
        let events: Vec<&Value> = events.into_iter().collect();
        wait_for("the fleet is at rest", SOON, async || {
            let mut restless = self.restless(&events).await;
            if restless.is_empty() {
                // What was delivered and not acknowledged is in no count; it moves within this pause.
                sleep(CALM).await;
                restless = self.restless(&events).await;
            }
            if restless.is_empty() {
                Ok(())
            } else {
                Err(format!("{restless}\n{}", self.story().await))
            }
        })
        .await;
    }

    /// As `rests`; then ends the processes in order, so that what they had not acknowledged would come back, and looks
    /// once more.
    pub(crate) async fn ends<'a>(
        &self,
        processes: impl IntoIterator<Item = Running>,
        events: impl IntoIterator<Item = &'a Value>,
    ) {
        self.rests(events).await;
        let (workers, others): (Vec<Running>, Vec<Running>) = processes
            .into_iter()
            .partition(|process| process.role().starts_with("worker"));
        // A keeper may still ask for a re-check: who sends ends before those who take.
        Self::end_in_order(&others).await;
        wait_for("the queues are empty", SOON, async || {
            match self.in_queues().await {
                left if left.is_empty() => Ok(()),
                left => Err(left),
            }
        })
        .await;
        sleep(CALM).await;
        Self::end_in_order(&workers).await;
        assert_eq!(
            self.in_queues().await,
            "",
            "came back when its process ended"
        );
    }

    async fn end_in_order(processes: &[Running]) {
        for process in processes {
            process.terminate();
        }
        for process in processes {
            let ended = process.ended(END).await;
            assert_eq!(ended.code(), Some(0), "{ended}");
        }
    }

    async fn restless(&self, events: &[&Value]) -> String {
        let mut found = String::new();
        for (what, query) in [
            (
                "open effects",
                "select count(*) from effect where state in ('sent', 'unknown')",
            ),
            (
                "leases",
                "select count(*) from link where lease_token is not null and lease_until > now()",
            ),
            (
                "outbox rows",
                "select count(*) from outbox where exchange = ''",
            ),
        ] {
            match self.count(query).await {
                0 => {}
                count => write!(found, "{count} {what}; ").unwrap(),
            }
        }
        for event in events {
            match self.fate(event).await {
                fate @ (Fate::Kept | Fate::Missing) => {
                    write!(found, "{} is {fate:?}; ", event["id"]).unwrap()
                }
                Fate::Covered | Fate::Dead | Fate::Held => {}
            }
        }
        // The queues last: what lies in one now may be in the database by then, but not the other way round.
        if found.is_empty() {
            found = self.in_queues().await;
        }
        found
    }

    async fn in_queues(&self) -> String {
        let mut found = String::new();
        for queue in QUEUES {
            match self.broker.depth(&self.broker.queue(queue)).await {
                Ok(None | Some(0)) => {}
                Ok(Some(depth)) => write!(found, "{depth} in {queue}; ").unwrap(),
                Err(error) => write!(found, "{queue}: {error}; ").unwrap(),
            }
        }
        found
    }

    /// Exactly one partner exists for this contact, linked, with its newest name.
    pub(crate) async fn has_one(&self, contact: &Contact) {
        self.has_one_named(contact, contact.name()).await;
    }

    /// As `has_one`, where the newest version is not the one that counts.
    pub(crate) async fn has_one_named(&self, contact: &Contact, name: &str) {
        let partners = self.partners();
        let story = self.story().await;
        let mine: Vec<&Partner> = partners
            .iter()
            .filter(|partner| is_of(partner, contact))
            .collect();
        assert_eq!(
            mine.len(),
            1,
            "partners of {}: {mine:#?}\n{story}",
            contact.id()
        );
        assert_eq!(mine[0].customer, name, "{story}");
        let link = self
            .link(contact.id())
            .await
            .unwrap_or_else(|| panic!("no link\n{story}"));
        assert_eq!(link.state, "linked", "{story}");
        assert_eq!(link.target_id, Some(mine[0].mk_id.to_string()), "{story}");
    }

    /// For failures: links, effects, and what lies beside them.
    pub(crate) async fn story(&self) -> String {
        let mut out = String::new();
        for query in [
            "select row_to_json(l)::text from (select id, source_id, state, target_id, encode(desired_k, 'escape') as desired,
               applied_k = desired_k as applied_all, lease_until > now() as leased, (claim).event as claim_event, recheck_at, last_error from link order by id limit 8) l",
            "select row_to_json(e)::text from (select link_id, event_id, operation, state, last, target_id, outcome, sent_at, settle_at from effect order by created_at desc limit 12) e",
            "select row_to_json(h)::text from (select event_id, reason, detail from held limit 8) h",
            "select row_to_json(d)::text from (select event_id, state, class, message from dead_letter limit 8) d",
            "select row_to_json(o)::text from (select routing_key, attempts, last_error, next_try_at, now() from outbox limit 8) o",
            "select row_to_json(u)::text from (select event_id, taken_over_at from unsettled_claim limit 8) u",
            "select row_to_json(h)::text from (select link_id, at, what, event_id, target_id, detail from link_history order by id desc limit 12) h",
        ] {
            match sqlx::query_scalar::<_, String>(query).fetch_all(self.database.pool()).await {
                Ok(rows) => rows.iter().for_each(|row| writeln!(out, "{row}").unwrap()),
                Err(error) => writeln!(out, "{error}").unwrap(),
            }
        }
        writeln!(out, "in queues: {}", self.in_queues().await).unwrap();
        for entry in self
            .simulator
            .log(&LogFilter::default())
            .iter()
            .rev()
            .take(12)
        {
            writeln!(
                out,
                "{} {} fault {:?} {:?} stored {} {:?}",
                entry.at, entry.path, entry.fault, entry.outcome, entry.stored, entry.mk_id
            )
            .unwrap();
        }
        out
    }
}

/// Starts it and waits until it is ready.
pub(crate) async fn ready(kurir: Kurir) -> Running {
    let running = kurir.start();
    running.ready(READY).await;
    running
}

/// A process that is to die at its fail point: perhaps before anybody could ask whether it is ready.
pub(crate) async fn dying(kurir: Kurir) -> Running {
    let running = kurir.start();
    running.ready_or_ended(READY).await;
    running
}

/// An organization that has nothing but a name and a tax number: one call makes it, one call changes it.
pub(crate) fn plain(source: &mut Contacts) -> Contact {
    let mut contact = source.organization();
    let record = contact.record.as_object_mut().unwrap();
    for part in ["emails", "phones", "addresses", "registration_number"] {
        record.remove(part);
    }
    contact
}

/// Waits until this process has decided so often what becomes of this event.
pub(crate) async fn settles(running: &Running, event: &Value, times: usize) {
    settles_as(running, event, "", times).await;
}

/// With this text in the line.
pub(crate) async fn settles_as(running: &Running, event: &Value, with: &str, times: usize) {
    wait_for("the event is settled", SOON, async || {
        match settled(running, event, with) {
            count if count >= times => Ok(()),
            count => Err(count),
        }
    })
    .await;
}

/// How often this process has decided about this event, with this text in the line.
pub(crate) fn settled(running: &Running, event: &Value, with: &str) -> usize {
    let id = format!("\"event.id\":\"{}\"", id_of(event));
    running.count_lines(|line| {
        line.contains("\"settling\"") && line.contains(&id) && line.contains(with)
    })
}

/// Whether a partner was made from this contact: by tax number, or by the name it had at first.
pub(crate) fn is_of(partner: &Partner, contact: &Contact) -> bool {
    match contact.record["tax_id"].as_str() {
        Some(tax) => partner.tax_id_number == tax,
        None => stem(&partner.customer) == stem(contact.name()),
    }
}

/// What `rename` leaves alone.
fn stem(name: &str) -> &str {
    name.split(" v#").next().unwrap_or(name)
}

/// The contact's next update, with a name that tells its version.
pub(crate) fn rename(contact: &mut Contact) -> Value {
    let next = contact.version + 1;
    contact.record["name"] = format!("{} v#{next}", stem(contact.name())).into();
    contact.updated()
}

/// The order key of an event as its claim makes it.
pub(crate) fn order_key(event: &Value, generation: u32) -> OrderKey {
    let time = chrono::DateTime::parse_from_rfc3339(text(event, "time")).unwrap();
    let tombstone = text(event, "type").contains(".deleted.");
    let version = match event["subjectversion"].as_str() {
        Some(version) => SubjectVersion::parse(version).unwrap(),
        None => SubjectVersion::from_micros(time.timestamp_micros()),
    };
    OrderKey::new(&version, tombstone, text(event, "id"), generation)
}

pub(crate) fn id_of(event: &Value) -> &str {
    text(event, "id")
}

fn text<'a>(event: &'a Value, member: &str) -> &'a str {
    event[member]
        .as_str()
        .unwrap_or_else(|| panic!("{member} of {event}"))
}

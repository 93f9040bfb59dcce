//! What a stranger may send, by HTTP and straight to the broker, and where each of it ends: an answer, a dead letter
//! with its class and reason, the queue of unrouted events, a held row, or applied. The tables are docs/events.md.

use chrono::{SecondsFormat, TimeDelta, Utc};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldArray, FieldTable, ShortString};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use simulators::metakocka::{Call, Fault, Options};
use sqlx::Row as _;
use testkit::{Http, Route, Running, structured_properties, wait_for};

use crate::fleet::{Fate, Fleet, SOON, TENANT, order_key, ready};

const PATH: &str = "/v1/events";
const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";
/// Another tenant of this house.
const OTHER: &str = "vrtnar";
const MIB: usize = 1024 * 1024;
/// Where all of it is promised.
const DOCUMENT: &str = include_str!("../../../../docs/events.md");

/// Everything that runs.
struct House {
    fleet: Fleet,
    processes: Vec<Running>,
    http: Http,
}

impl House {
    async fn start() -> Self {
        let fleet = Fleet::start().await;
        fleet.command(&["tenant", "add", OTHER]).await.expect(0);
        let processes = vec![
            fleet.working().await,
            fleet.keeping().await,
            ready(fleet.gateway()).await,
        ];
        let token = token(&fleet, TENANT).await;
        let http = processes[2].http("gateway").with_token(token);
        Self {
            fleet,
            processes,
            http,
        }
    }

    async fn end<'a>(self, events: impl IntoIterator<Item = &'a Value>) {
        self.fleet.ends(self.processes, events).await;
    }
}

async fn token(fleet: &Fleet, tenant: &str) -> String {
    let create = [
        "token", "create", "--tenant", tenant, "--name", "crm", "--json",
    ];
    let created = fleet.command(&create).await.expect(0);
    let created: Value = serde_json::from_str(&created.stdout).unwrap();
    created["secret"].as_str().unwrap().to_owned()
}

/// A right one, an hour old; tests make it wrong.
fn event(tenant: &str, record: &str) -> Value {
    json!({
        "specversion": "1.0",
        "id": format!("evt-{record}"),
        "source": format!("urn:kurir:{tenant}:crm:main"),
        "type": "crm.contact.created.v1",
        "subject": format!("contact/{record}"),
        "time": at(TimeDelta::hours(-1)),
        "tenantid": tenant,
        "data": { "contact": {
            "id": record,
            "kind": "organization",
            "name": format!("Mizarstvo {record} d.o.o."),
            "emails": [{ "value": format!("{record}@mizar.example") }],
        } },
    })
}

fn at(offset: TimeDelta) -> String {
    (Utc::now() + offset).to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn with(record: &str, pointer: &str, value: Value) -> Value {
    let mut event = event(TENANT, record);
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    event.pointer_mut(parent).unwrap()[name] = value;
    event
}

/// Deeper than any parser of ours goes.
fn nested() -> String {
    let mut text = event(TENANT, "nested").to_string();
    text.truncate(text.len() - 1);
    format!(
        "{text},\"deep\":{}{}}}",
        "[".repeat(10_000),
        "]".repeat(10_000)
    )
}

fn of_one_mib() -> Value {
    with("mib", "/data/contact/note", json!("ž".repeat(MIB / 2)))
}

fn post(http: &Http, content_type: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
    let request = http.client().post(http.address(PATH));
    request.header("content-type", content_type).body(body)
}

fn assert_documented(name: &str) {
    assert!(
        DOCUMENT.contains(&format!("`{name}`")),
        "{name} is not in docs/events.md"
    );
}

/// Name, request, status, last part of the problem's type.
type Refusal = (&'static str, RequestBuilder, u16, &'static str);

fn refusals(http: &Http) -> Vec<Refusal> {
    let one = |event: &Value| post(http, STRUCTURED, event.to_string());
    let right = || event(TENANT, "refused");
    vec![
        (
            "not JSON",
            post(http, STRUCTURED, "<contact/>"),
            400,
            "malformed",
        ),
        ("empty body", post(http, STRUCTURED, ""), 400, "malformed"),
        (
            "not UTF-8",
            post(http, STRUCTURED, b"{\"id\":\"\xff\"}".to_vec()),
            400,
            "malformed",
        ),
        (
            "nested deeply",
            post(http, STRUCTURED, nested()),
            400,
            "malformed",
        ),
        ("no object", post(http, STRUCTURED, "[]"), 400, "malformed"),
        (
            "another specversion",
            one(&with("r", "/specversion", json!("0.3"))),
            422,
            "spec_version",
        ),
        (
            "unknown type",
            one(&with("r", "/type", json!("crm.deal.won.v1"))),
            422,
            "unknown_type",
        ),
        (
            "newer major",
            one(&with("r", "/type", json!("crm.contact.updated.v2"))),
            422,
            "newer_major",
        ),
        (
            "against the schema",
            one(&with("r", "/data/contact/kind", json!("robot"))),
            422,
            "schema",
        ),
        (
            "U+0000",
            one(&with("r", "/data/contact/name", json!("Maja\u{0}"))),
            422,
            "schema",
        ),
        (
            "a name that nobody sees",
            one(&with("r", "/data/contact/name", json!("\u{200b}\u{3164}"))),
            422,
            "schema",
        ),
        (
            "a loop",
            one(&with("r", "/causationdepth", json!(17))),
            422,
            "loop",
        ),
        (
            "two tenants",
            one(&with("r", "/source", json!("urn:kurir:vrtnar:crm:main"))),
            422,
            "tenant_mismatch",
        ),
        (
            "another's tenant",
            one(&event(OTHER, "r")),
            403,
            "forbidden",
        ),
        (
            "nobody's tenant",
            one(&event("nobody", "r")),
            403,
            "forbidden",
        ),
        ("1 MiB", one(&of_one_mib()), 413, "too_large"),
        (
            "a batch over 1 MiB",
            post(http, BATCH, " ".repeat(MIB + 1)),
            413,
            "too_large",
        ),
        (
            "gzip",
            one(&right()).header("content-encoding", "gzip"),
            415,
            "unsupported_media_type",
        ),
        (
            "plain JSON",
            post(http, "application/json", right().to_string()),
            415,
            "unsupported_media_type",
        ),
        (
            "a batch with one bad event",
            post(
                http,
                BATCH,
                json!([event(TENANT, "never"), with("r", "/type", json!("x"))]).to_string(),
            ),
            422,
            "unknown_type",
        ),
        (
            "a wrong token",
            one(&right()).bearer_auth("kurir_nobody"),
            401,
            "unauthorized",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_http_refuses_is_answered_and_goes_no_further() {
    let house = House::start().await;
    let stranger = house.processes[2].http("gateway");
    for (name, request, status, kind) in refusals(&house.http) {
        let http = if kind == "unauthorized" {
            &stranger
        } else {
            &house.http
        };
        let answer = http
            .send(request)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(answer.status, status, "{name}: {answer:#?}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json"),
            "{name}"
        );
        let problem = answer.json();
        assert_eq!(
            problem["type"],
            format!("urn:kurir:problem:{kind}"),
            "{name}"
        );
        assert_documented(kind);
        assert!(
            problem["detail"]
                .as_str()
                .is_some_and(|text| text.len() > 10),
            "{name}: {problem}"
        );
        if status == 422 {
            let pointer = problem["errors"][0]["pointer"].as_str();
            assert!(
                pointer.is_some_and(|text| text.starts_with('/')),
                "{name}: {problem}"
            );
        }
    }
    // What came after them is the first thing that anybody saw.
    let good = event(TENANT, "after");
    house
        .http
        .post_event(PATH, &good)
        .await
        .unwrap()
        .expect(202);
    house.fleet.rests([&good]).await;
    let links = house.fleet.links().await;
    assert_eq!(links.len(), 1, "{links:#?}");
    assert_eq!(house.fleet.partners().len(), 1);
    assert_eq!(
        house.fleet.count("select count(*) from dead_letter").await,
        0
    );
    house.end([&good]).await;
}

/// A message as a stranger publishes it to `<prefix>.events`.
struct Strange {
    name: &'static str,
    key: String,
    body: Vec<u8>,
    properties: BasicProperties,
}

impl Strange {
    /// Under the key that the event itself makes, unless it has no type or tenant.
    fn event(name: &'static str, event: &Value) -> Self {
        let text = |member: &str| event[member].as_str().unwrap_or_default().to_owned();
        Self {
            name,
            key: format!("{}.{}", text("type"), text("tenantid")),
            body: event.to_string().into_bytes(),
            properties: structured_properties(event),
        }
    }

    fn bytes(name: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            name,
            key: format!("crm.contact.created.v1.{TENANT}"),
            body: body.into(),
            properties: BasicProperties::default().with_delivery_mode(2),
        }
    }

    fn key(mut self, key: &str) -> Self {
        key.clone_into(&mut self.key);
        self
    }

    fn properties(mut self, change: impl FnOnce(BasicProperties) -> BasicProperties) -> Self {
        self.properties = change(self.properties);
        self
    }

    async fn publish(&self, fleet: &Fleet) {
        let publisher = fleet.publisher().await;
        let events = fleet.broker.queue("events");
        let route = publisher
            .raw(&events, &self.key, &self.body, self.properties.clone())
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", self.name));
        assert_eq!(route, Route::Routed, "{}", self.name);
    }
}

#[derive(Debug)]
struct DeadRow {
    tenant: Option<String>,
    class: String,
    state: String,
    message: Option<String>,
    body: Vec<u8>,
}

async fn dead_rows(fleet: &Fleet) -> Vec<DeadRow> {
    let rows = sqlx::query("select tenant, class, state, message, body from dead_letter")
        .fetch_all(fleet.database.pool())
        .await
        .unwrap();
    rows.iter()
        .map(|row| DeadRow {
            tenant: row.get("tenant"),
            class: row.get("class"),
            state: row.get("state"),
            message: row.get("message"),
            body: row.get("body"),
        })
        .collect()
}

/// Everything that dies, with the class and a part of the reason that an operator reads.
fn deaths() -> Vec<(Strange, &'static str, &'static str)> {
    let one = |name, event: &Value| Strange::event(name, event);
    let gzip: &[u8] =
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\xaeJ\x00C\xbf\xa6\xa3\x02\x00\x00\x00";
    let mut mismatch = event(TENANT, "key");
    mismatch["id"] = json!("evt-under-another-key");
    vec![
        (
            Strange::bytes("not JSON", "<contact/>"),
            "malformed",
            "is not JSON",
        ),
        (Strange::bytes("empty body", ""), "malformed", "is not JSON"),
        (
            Strange::bytes("not UTF-8", *b"{\"id\":\"\xff\"}"),
            "malformed",
            "is not JSON",
        ),
        (
            Strange::bytes("nested deeply", nested()),
            "malformed",
            "is not JSON",
        ),
        (
            Strange::bytes("no object", "[]"),
            "malformed",
            "JSON object",
        ),
        (
            Strange::bytes("gzip", gzip).properties(|all| all.with_content_encoding("gzip".into())),
            "malformed",
            "is not JSON",
        ),
        (
            one(
                "another specversion",
                &with("spec", "/specversion", json!("0.3")),
            ),
            "spec_version",
            "/specversion",
        ),
        (
            one(
                "against the schema",
                &with("schema", "/data/contact/kind", json!("robot")),
            ),
            "schema",
            "/data/contact/kind",
        ),
        (
            one("no data", &with("nodata", "/data", json!({}))),
            "schema",
            "/data",
        ),
        (
            one(
                "U+0000",
                &with("nul", "/data/contact/name", json!("Maja\u{0}")),
            ),
            "schema",
            "U+0000",
        ),
        (
            one(
                "a name that nobody sees",
                &with("unseen", "/data/contact/name", json!("\u{200b}\u{301}")),
            ),
            "schema",
            "/data/contact/name",
        ),
        (
            one(
                "a time that is none",
                &with("epoch", "/time", json!("1970-01-01T00:00:00Z")),
            ),
            "schema",
            "before 1990",
        ),
        (
            one("a loop", &with("loop", "/causationdepth", json!(17))),
            "loop",
            "/causationdepth",
        ),
        (one("1 MiB", &of_one_mib()), "too_large", "bytes long"),
        (
            one(
                "two tenants",
                &with("two", "/source", json!("urn:kurir:vrtnar:crm:main")),
            ),
            "tenant_mismatch",
            "/source",
        ),
        (
            one("another's routing key", &mismatch).key(&format!("crm.contact.created.v1.{OTHER}")),
            "tenant_mismatch",
            "routing key",
        ),
        (
            one("unknown tenant", &event("nobody", "r")),
            "unknown_tenant",
            "kurir tenant add",
        ),
        (
            one("another message_id", &event(TENANT, "msgid"))
                .properties(|all| all.with_message_id("evt-x".into())),
            "id_mismatch",
            "message_id",
        ),
        (
            one(
                "a revision of a source of times",
                &with("revision", "/subjectversion", json!("7")),
            ),
            "version_scheme",
            "revision",
        ),
        (
            one(
                "from the future",
                &with("future", "/time", json!(at(TimeDelta::hours(1)))),
            ),
            "future_version",
            "ahead",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_handled_is_a_dead_letter_with_its_reason() {
    let house = House::start().await;
    let fleet = &house.fleet;
    // The source's versions are times from here on.
    let first = event(TENANT, "first");
    fleet.publish(&first).await;
    fleet.rests([&first]).await;
    let deaths = deaths();
    for (strange, _, _) in &deaths {
        strange.publish(fleet).await;
    }
    let rows = wait_for("all to be dead letters", SOON, async || {
        let rows = dead_rows(fleet).await;
        if rows.len() >= deaths.len() {
            Ok(rows)
        } else {
            Err(rows.len())
        }
    })
    .await;
    assert_eq!(rows.len(), deaths.len(), "{rows:#?}");
    for (strange, class, reason) in &deaths {
        let name = strange.name;
        let row = rows.iter().find(|row| row.body == strange.body);
        let row = row.unwrap_or_else(|| panic!("{name} is nowhere"));
        let message = row.message.as_deref().unwrap_or_default();
        assert_eq!(
            (row.class.as_str(), row.state.as_str()),
            (*class, "open"),
            "{name}: {message}"
        );
        assert!(message.contains(reason), "{name}: {message}");
        assert_documented(class);
        // Nobody's word about a tenant counts if the routing key says another.
        if name == "another's routing key" {
            assert_eq!(row.tenant, None, "{name}");
        }
    }
    let listed = fleet
        .command(&["dead-letters", "list", "--json", "--limit", "100"])
        .await
        .expect(0);
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(
        listed.as_array().map(Vec::len),
        Some(deaths.len()),
        "{listed:#}"
    );
    let links = fleet.links().await;
    assert_eq!(links.len(), 1, "a dead letter made a link: {links:#?}");
    assert_eq!(fleet.partners().len(), 1);
    house.end([&first]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_ahead_of_ours_dies_and_leaves_its_record_alone() {
    let house = House::start().await;
    let fleet = &house.fleet;
    let first = event(TENANT, "512");
    let mut skewed = with("512", "/time", json!(at(TimeDelta::hours(2))));
    skewed["id"] = json!("evt-512-skewed");
    let mut second = with("512", "/time", json!(at(TimeDelta::minutes(3))));
    second["id"] = json!("evt-512-second");
    second["data"]["contact"]["name"] = json!("Mizarstvo 512 in sin d.o.o.");
    fleet.publish(&first).await;
    fleet.rests([&first]).await;
    // By HTTP it is accepted: what its time means is only known where it is handled.
    house
        .http
        .post_event(PATH, &skewed)
        .await
        .unwrap()
        .expect(202);
    fleet.becomes(&skewed, Fate::Dead).await;
    let link = fleet.link("512").await.unwrap();
    let k = order_key(&first, 0).as_bytes().to_vec();
    assert_eq!((link.desired_k, link.applied_k), (Some(k.clone()), Some(k)));
    // A few minutes ahead are an ordinary clock.
    fleet.publish(&second).await;
    fleet.becomes(&second, Fate::Covered).await;
    assert_eq!(fleet.partners()[0].customer, "Mizarstvo 512 in sin d.o.o.");
    assert_eq!(fleet.fate(&skewed).await, Fate::Dead);
    house.end([&first, &second]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_this_build_does_not_know_is_kept_unrouted() {
    let house = House::start().await;
    let fleet = &house.fleet;
    let unknown = [
        with("u1", "/type", json!("crm.deal.won.v1")),
        with("u2", "/type", json!("crm.contact.updated.v2")),
    ];
    for event in &unknown {
        Strange::event("unknown", event).publish(fleet).await;
    }
    let queue = fleet.broker.queue("unrouted");
    wait_for("both to be kept", SOON, async || {
        match fleet.broker.depth(&queue).await.unwrap() {
            Some(2) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    let kept = fleet.broker.take(&queue, 2).await.unwrap();
    let mut bodies: Vec<Value> = kept.iter().map(testkit::Message::json).collect();
    bodies.sort_by_key(|event| event["id"].to_string());
    assert_eq!(bodies, unknown, "not as they were sent");
    assert_eq!(fleet.count("select count(*) from dead_letter").await, 0);
    assert!(fleet.links().await.is_empty());
    house.end([]).await;
}

/// Headers with which a stranger would rule our retries, our order and our queues.
fn hostile(fleet: &Fleet, event: &Value) -> BasicProperties {
    let text = |text: &str| AMQPValue::LongString(text.into());
    let number = AMQPValue::LongLongInt;
    let mut headers = FieldTable::default();
    for (name, value) in [
        ("x-attempt", number(99)),
        ("x-waits", number(1_000)),
        ("x-generation", number(7)),
        (
            "x-due",
            number((Utc::now() + TimeDelta::days(1)).timestamp_millis()),
        ),
        ("x-first-received", number(1)),
        ("x-permit", number(i64::MAX)),
        ("x-replay", text("7e0e5d5c-0000-4000-8000-000000000001")),
        ("x-connection", text("7e0e5d5c-0000-4000-8000-000000000002")),
        ("x-link", text("1")),
        ("x-history", text("[{\"at\": \"never\"}]")),
        ("x-dead-class", text("refused")),
        ("x-dead-message", text("because I say so")),
        ("x-dead-at", number(1)),
        ("traceparent", text("nonsense")),
    ] {
        headers.insert(name.into(), value);
    }
    let queues: Vec<AMQPValue> = ["metakocka-sync.dead", "metakocka-sync", "unrouted"]
        .iter()
        .map(|queue| text(&fleet.broker.queue(queue)))
        .collect();
    for name in ["CC", "BCC"] {
        let queues = AMQPValue::FieldArray(FieldArray::from(queues.clone()));
        headers.insert(name.into(), queues);
    }
    let mut death = FieldTable::default();
    death.insert("queue".into(), text(&fleet.broker.queue("metakocka-sync")));
    death.insert("exchange".into(), text(""));
    death.insert("reason".into(), text("delivery_limit"));
    death.insert("count".into(), number(500));
    let deaths = FieldArray::from(vec![AMQPValue::FieldTable(death)]);
    headers.insert("x-death".into(), AMQPValue::FieldArray(deaths));
    structured_properties(event)
        .with_headers(headers)
        .with_expiration("600000".into())
        .with_priority(255)
        .with_reply_to(ShortString::from("somebody"))
        .with_type("crm.deal.won.v9".into())
        .with_app_id("kurir".into())
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_headers_rule_nothing() {
    let house = House::start().await;
    let fleet = &house.fleet;
    let good = event(TENANT, "hostile");
    // Its first attempt fails, so that copies of it go over a retry tier: there a believed header would show.
    fleet.fault_on(Call::AddPartner, Fault::Error { status: 503 });
    let mut strange = Strange::event("hostile", &good);
    strange.properties = hostile(fleet, &good);
    strange.publish(fleet).await;
    fleet.rests([&good]).await;
    let link = fleet.link("hostile").await.unwrap();
    let k = order_key(&good, 0).as_bytes().to_vec();
    assert_eq!((link.state.as_str(), link.applied_k), ("linked", Some(k)));
    assert_eq!(fleet.partners().len(), 1, "{}", fleet.story().await);
    assert_eq!(fleet.count("select count(*) from dead_letter").await, 0);
    assert_eq!(
        fleet.simulator.counts().fault("error"),
        1,
        "no copy was made"
    );

    // A bad one with the same headers dies for its own reason, once, as its first attempt.
    let bad = with("bad", "/data/contact/kind", json!("robot"));
    let mut strange = Strange::event("hostile", &bad);
    strange.properties = hostile(fleet, &bad);
    strange.publish(fleet).await;
    fleet.becomes(&bad, Fate::Dead).await;
    let row: (String, String, i32, i32) =
        sqlx::query_as("select class, message, generation, deaths from dead_letter")
            .fetch_one(fleet.database.pool())
            .await
            .unwrap();
    assert_eq!((row.0.as_str(), row.2, row.3), ("schema", 0, 1), "{row:?}");
    assert!(row.1.contains("/data/contact/kind"), "{row:?}");
    house.end([&good, &bad]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_user_is_refused_by_the_broker_itself() {
    let fleet = Fleet::start().await;
    fleet.declare().await;
    let event = event(TENANT, "forged");
    let channel = fleet.broker.channel().await.unwrap();
    let published = channel
        .basic_publish(
            fleet.broker.queue("events").as_str().into(),
            format!("crm.contact.created.v1.{TENANT}").as_str().into(),
            lapin::options::BasicPublishOptions::default(),
            event.to_string().as_bytes(),
            structured_properties(&event).with_user_id("somebody-else".into()),
        )
        .await;
    drop(published);
    wait_for("the broker to close the channel", SOON, async || {
        let status = channel.status();
        if status.connected() { Err(()) } else { Ok(()) }
    })
    .await;
    let queue = fleet.broker.queue("metakocka-sync");
    assert_eq!(fleet.broker.depth(&queue).await.unwrap(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_odd_but_legal_is_applied_as_it_was_written() {
    let house = House::start().await;
    let fleet = &house.fleet;
    let names = [
        "Čebelarstvo Žnidaršič & Đukić d.o.o.",
        "Šuštar “Ključavnice” <b>s.p.</b>; -- DROP TABLE link",
        "Đurđa Ćosić-O'Brien %20 {} \\u0000 \"navedki\"",
        "東京 Žaga 🪚 ΑΒΓ",
    ];
    let mut events = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let mut event = with(&format!("č š/ž?đ#{at}"), "/data/contact/name", json!(name));
        event["data"]["contact"]["addresses"] = json!([{
            "kind": "main", "street": "Češnjeva ulica 7", "postal_code": "8340", "city": "Črnomelj", "country": "SI",
        }]);
        // Nobody knows these, and nobody minds them.
        event["mojatribut"] = json!("ž");
        event["data"]["contact"]["loyalty_points"] = json!({ "č": [1, null] });
        event["data"]["unknown"] = json!(true);
        event["id"] = json!(format!("evt č {at}"));
        event["data"]["contact"]["emails"] = json!([]);
        events.push(event);
    }
    fleet.publish(&events[0]).await;
    house
        .http
        .post_event(PATH, &events[1])
        .await
        .unwrap()
        .expect(202);
    house
        .http
        .post_binary(PATH, &events[2])
        .await
        .unwrap()
        .expect(202);
    house
        .http
        .post_batch(PATH, &events[3..])
        .await
        .unwrap()
        .expect(202);
    fleet.rests(&events).await;
    let partners = fleet.partners();
    let mut found: Vec<&str> = partners.iter().map(|one| one.customer.as_str()).collect();
    found.sort_unstable();
    let mut wanted = names.to_vec();
    wanted.sort_unstable();
    assert_eq!(found, wanted);
    for partner in &partners {
        assert_eq!(partner.addresses[0].street, "Češnjeva ulica 7");
        assert_eq!(partner.addresses[0].city, "Črnomelj");
    }
    let shown = fleet
        .command(&["links", "list", "--tenant", TENANT])
        .await
        .expect(0);
    assert!(shown.stdout.contains("č š/ž?đ#0"), "{}", shown.stdout);
    house.end(&events).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_before_their_connection_wait_and_go_on_by_themselves() {
    let (database, broker) = tokio::join!(testkit::database(), testkit::broker());
    let fleet = Fleet::without_connection(database, broker, Options::default()).await;
    let processes = vec![
        fleet.working().await,
        fleet.keeping().await,
        ready(fleet.gateway()).await,
    ];
    let http = processes[2]
        .http("gateway")
        .with_token(token(&fleet, TENANT).await);
    let early = event(TENANT, "early");
    let mut newer = with(
        "early",
        "/data/contact/name",
        json!("Mizarstvo Šmarje d.o.o."),
    );
    newer["id"] = json!("evt-early-2");
    newer["time"] = json!(at(TimeDelta::minutes(-30)));
    let other = event(TENANT, "other");
    http.post_event(PATH, &early).await.unwrap().expect(202);
    fleet.becomes(&early, Fate::Held).await;
    fleet.publish_all([&newer, &other]).await;
    fleet.becomes(&newer, Fate::Held).await;
    fleet.becomes(&other, Fate::Held).await;
    let held = fleet.command(&["held", "list"]).await.expect(0);
    assert!(
        held.stdout.contains("no_connection") && held.stdout.contains("contact/early"),
        "{}",
        held.stdout
    );
    let calls = fleet.simulator.counts().calls;
    assert!(calls.is_empty(), "{calls:?}");
    // Releasing by hand does not help as long as the cause lives, and loses nothing.
    fleet.command(&["held", "release", "--all"]).await.expect(0);
    fleet.becomes(&newer, Fate::Held).await;
    fleet.becomes(&other, Fate::Held).await;
    fleet.connect().await;
    let events = [early, newer, other];
    for event in &events {
        fleet.becomes(event, Fate::Covered).await;
    }
    let mut names: Vec<String> = fleet
        .partners()
        .into_iter()
        .map(|one| one.customer)
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["Mizarstvo other d.o.o.", "Mizarstvo Šmarje d.o.o."]);
    assert_eq!(fleet.count("select count(*) from held").await, 0);
    fleet.ends(processes, &events).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_shops_with_one_id_are_two_records() {
    let house = House::start().await;
    let fleet = &house.fleet;
    let changed = at(TimeDelta::hours(-1));
    let of_shop = |shop: &str| {
        let mut event = event(TENANT, "512");
        event["time"] = json!(changed);
        event["source"] = json!(format!("https://{shop}.example/"));
        event["data"]["contact"]["name"] = json!(format!("Mizarstvo {shop} d.o.o."));
        event["data"]["contact"]["emails"] = json!([{ "value": format!("{shop}@mizar.example") }]);
        event
    };
    let (first, second) = (of_shop("shop-a"), of_shop("shop-b"));
    fleet.publish(&first).await;
    house
        .http
        .post_event(PATH, &second)
        .await
        .unwrap()
        .expect(202);
    fleet.rests([&first, &second]).await;
    let mut names: Vec<String> = fleet
        .partners()
        .into_iter()
        .map(|one| one.customer)
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["Mizarstvo shop-a d.o.o.", "Mizarstvo shop-b d.o.o."]
    );
    let accounts: Vec<String> =
        sqlx::query_scalar("select source_account from link where source_id = '512' order by 1")
            .fetch_all(fleet.database.pool())
            .await
            .unwrap();
    assert_eq!(accounts.len(), 2);
    for (account, shop) in accounts.iter().zip(["shop-a.example#", "shop-b.example#"]) {
        assert!(account.starts_with(shop), "{accounts:?}");
    }
    house.end([&first, &second]).await;
}

/// Texts around the 255 bytes of an AMQP short string, in every attribute that takes a text.
#[tokio::test(flavor = "multi_thread")]
async fn an_attribute_is_taken_by_both_roads_or_by_none() {
    let house = House::start().await;
    let fleet = &house.fleet;
    let texts = ["č".repeat(127), "č".repeat(128), "a".repeat(255)];
    let mut taken = Vec::new();
    for attribute in [
        "id",
        "correlationid",
        "causationid",
        "partitionkey",
        "originsystem",
        "note",
    ] {
        for (at, text) in texts.iter().enumerate() {
            let record = format!("{attribute}-{at}");
            let mut by_http = with(
                &format!("{record}-http"),
                &format!("/{attribute}"),
                json!(text),
            );
            let mut by_amqp = with(
                &format!("{record}-amqp"),
                &format!("/{attribute}"),
                json!(text),
            );
            if attribute == "id" {
                // The same length, but not the same event.
                by_http["source"] = json!("https://http.example/");
                by_amqp["source"] = json!("https://amqp.example/");
            }
            let answer = house.http.post_event(PATH, &by_http).await.unwrap();
            let mut strange = Strange::event("text", &by_amqp);
            // A short string of AMQP that is too long is no message at all.
            strange.properties = BasicProperties::default().with_delivery_mode(2);
            strange.publish(fleet).await;
            match answer.status {
                202 => taken.extend([by_http, by_amqp]),
                422 => {
                    let pointer = answer.json()["errors"][0]["pointer"].clone();
                    assert_eq!(pointer, format!("/{attribute}"));
                    let record = format!("contact/{record}-amqp");
                    wait_for(&format!("{record} to die"), SOON, async || {
                        let class: Option<String> =
                            sqlx::query_scalar("select class from dead_letter where subject = $1")
                                .bind(&record)
                                .fetch_optional(fleet.database.pool())
                                .await
                                .unwrap();
                        class.ok_or(()).map(|class| assert_eq!(class, "schema"))
                    })
                    .await;
                }
                other => panic!("{attribute} {at}: {other} {}", answer.json()),
            }
        }
    }
    for event in &taken {
        fleet.becomes(event, Fate::Covered).await;
    }
    // 128 letters in id and correlationid, and all three in a name of at most 64.
    assert_eq!(taken.len(), 2 * (6 * 3 - 2 - 3));
    house.end(&taken).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_order_mark_is_taken_from_the_broker_too() {
    let house = House::start().await;
    let fleet = &house.fleet;
    let event = event(TENANT, "marked");
    // Its first attempt fails: a copy of it goes over a retry tier, mark and all.
    fleet.fault_on(Call::AddPartner, Fault::Error { status: 503 });
    let mut strange = Strange::event("marked", &event);
    strange.body = format!("\u{feff}{event}").into_bytes();
    strange.publish(fleet).await;
    fleet.rests([&event]).await;
    assert_eq!(fleet.partners().len(), 1);
    house.end([&event]).await;
}

/// What an operator asks for: the record, the event, the tenant; and nobody else is shown it.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_cannot_be_read_is_found_by_what_its_message_says() {
    let house = House::start().await;
    let fleet = &house.fleet;
    let event = with("512", "/data/contact/name", json!("Mizar\u{fffd}stvo"));
    // A lone surrogate: what stands before it can be read, and the key and the properties.
    let surrogate = event.to_string().replace('\u{fffd}', "\\ud800");
    let mut unreadable = Strange::event("a surrogate", &event);
    unreadable.body = surrogate.into_bytes();
    unreadable.publish(fleet).await;
    let mut silent = Strange::event("no JSON", &event);
    silent.body = b"<contact/>".to_vec();
    silent.properties = silent.properties.with_message_id("evt-silent".into());
    silent.publish(fleet).await;
    let mut robot = with("513", "/data/contact/kind", json!("robot"));
    robot.as_object_mut().unwrap().remove("subject");
    Strange::event("a robot", &robot).publish(fleet).await;
    wait_for("all to be dead letters", SOON, async || {
        let rows = fleet.count("select count(*) from dead_letter").await;
        if rows == 3 { Ok(()) } else { Err(rows) }
    })
    .await;
    let found = async |filter: &[&str]| {
        let all = [&["dead-letters", "list", "--json"], filter].concat();
        let listed = fleet.command(&all).await.expect(0).stdout;
        let listed: Value = serde_json::from_str(&listed).unwrap();
        let mut ids: Vec<String> = listed
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["event_id"].as_str().unwrap_or_default().to_owned())
            .collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(
        found(&["--tenant", TENANT]).await,
        ["evt-512", "evt-513", "evt-silent"]
    );
    assert_eq!(found(&["--tenant", OTHER]).await, Vec::<String>::new());
    assert_eq!(found(&["--record", "contact/513"]).await, ["evt-513"]);
    assert_eq!(found(&["--record", "513"]).await, ["evt-513"]);
    assert_eq!(found(&["--text", "evt-silent"]).await, ["evt-silent"]);
    let of_type = ["--type", "crm.contact.created.v1"];
    assert_eq!(found(&of_type).await, ["evt-512", "evt-513", "evt-silent"]);
    house.end([]).await;
}

/// A routed event that nobody took in the time that its publisher gave it.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_event_is_a_class_of_its_own_and_a_replay_carries_it_on() {
    let fleet = Fleet::start().await;
    fleet.declare().await;
    let event = event(TENANT, "late");
    let strange = Strange::event("late", &event);
    strange
        .properties(|all| all.with_expiration("50".into()))
        .publish(&fleet)
        .await;
    let keeper = fleet.keeping().await;
    fleet.becomes(&event, Fate::Dead).await;
    let row: (String, String, Option<String>, Option<String>) =
        sqlx::query_as("select class, message, tenant, subject from dead_letter")
            .fetch_one(fleet.database.pool())
            .await
            .unwrap();
    assert_eq!(row.0, "expired", "{row:?}");
    assert!(row.1.contains("50 ms"), "{row:?}");
    assert_eq!(
        (row.2.as_deref(), row.3.as_deref()),
        (Some(TENANT), Some("contact/late"))
    );
    assert_documented("expired");
    let worker = fleet.working().await;
    fleet.replay(&event).await;
    fleet.becomes(&event, Fate::Covered).await;
    fleet.ends(vec![keeper, worker], [&event]).await;
}

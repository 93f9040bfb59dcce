//! Traces of real processes at a real collector: one story from the request to the partner's answer, whatever lies between;
//! a collector that is dead harms nothing; and no secret is in any of it, nor in a log line (docs/traces.md).

use std::fmt::Write as _;

use lapin::types::{AMQPValue, FieldTable};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::{Value, json};
use simulators::metakocka::{Call, CompanyOptions, Fault, Options, ScriptedFault};
use testkit::{
    Collector, Contact, Contacts, Http, Kurir, Route, Running, TracedSpan, structured_properties,
    wait_for,
};
use tokio::net::TcpListener;

use crate::fleet::{
    COMPANY, END, Fate, Fleet, SOON, TENANT, id_of, plain, ready, settled, settles,
};

/// Of a sender that has traces of its own.
const STRANGER: (&str, &str) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");

/// A fleet whose processes tell a collector everything, at once.
struct Traced {
    fleet: Fleet,
    collector: Collector,
}

impl Traced {
    async fn start() -> Self {
        let (fleet, collector) = tokio::join!(Fleet::start(), Collector::start());
        Self { fleet, collector }
    }

    fn told(&self, kurir: Kurir) -> Kurir {
        told(kurir, &self.collector.endpoint())
    }

    async fn worker(&self) -> Running {
        ready(self.told(self.fleet.worker())).await
    }

    async fn keeper(&self) -> Running {
        ready(self.told(self.fleet.keeper())).await
    }

    async fn gateway(&self) -> (Running, Http) {
        let gateway = ready(self.told(self.fleet.gateway())).await;
        let http = gateway.http("gateway").with_token(token(&self.fleet).await);
        (gateway, http)
    }

    /// The call that made this event's record, with its way from the first span of all.
    async fn call_of(&self, event: &Value) -> Way {
        wait_for("the trace of the call", SOON, async || {
            let spans = self.collector.spans();
            let calls = spans.iter().filter(|span| span.name == "POST add_partner");
            let mut ways = calls.map(|call| Way::to(call, &spans));
            let whole = ways.find(|way| way.begins_with_request() && way.applies(id_of(event)));
            whole.ok_or_else(|| self.all())
        })
        .await
    }

    fn all(&self) -> String {
        let mut all = String::new();
        for span in self.collector.spans() {
            let of = (&span.service, &span.name, &span.trace, &span.id);
            writeln!(all, "{of:?} parent {} links {:?}", span.parent, span.links).unwrap();
        }
        all
    }
}

fn told(kurir: Kurir, endpoint: &str) -> Kurir {
    kurir
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .env("OTEL_TRACES_SAMPLER", "parentbased_always_on")
        .env("OTEL_BSP_SCHEDULE_DELAY", "100")
        .env("OTEL_RESOURCE_ATTRIBUTES", "k8s.pod.name=pod-1")
}

async fn token(fleet: &Fleet) -> String {
    let create = [
        "token", "create", "--tenant", TENANT, "--name", "crm", "--json",
    ];
    let created = fleet.command(&create).await.expect(0);
    let created: Value = serde_json::from_str(&created.stdout).unwrap();
    created["secret"].as_str().unwrap().to_owned()
}

fn contact() -> Contact {
    plain(&mut Contacts::new(TENANT, 1))
}

/// Spans from the first to the last, each going on from the one before.
struct Way(Vec<TracedSpan>);

impl Way {
    /// Back from a span to its parent, or where it has none to what it links to.
    fn to(last: &TracedSpan, spans: &[TracedSpan]) -> Self {
        let mut way = vec![last.clone()];
        while let Some(span) = way.last() {
            let parent = spans.iter().find(|other| span.is_child_of(other));
            let before = parent.or_else(|| spans.iter().find(|other| span.links_to(other)));
            let Some(before) = before.filter(|_| way.len() < 100).cloned() else {
                break;
            };
            way.push(before);
        }
        way.reverse();
        Self(way)
    }

    fn begins_with_request(&self) -> bool {
        self.0[0].kind == SpanKind::Server
    }

    /// Whether it ends in a call of this event's handling that applied it.
    fn applies(&self, event: &str) -> bool {
        self.0.iter().rev().nth(1).is_some_and(|process| {
            process.attribute("messaging.message.id") == event
                && process.attribute("kurir.outcome.detail") == "applied"
        })
    }

    /// A line for each, with how it goes on.
    fn told(&self, fleet: &Fleet) -> String {
        let mut told = String::new();
        let mut before: Option<&TracedSpan> = None;
        for span in &self.0 {
            let how = match before {
                None => "",
                Some(before) => match (span.is_child_of(before), span.links_to(before)) {
                    (true, true) => " (child, link)",
                    (true, false) => " (child)",
                    (false, _) => " (new trace, link)",
                },
            };
            let name = span.name.replace(fleet.broker.prefix(), "<prefix>");
            let outcome = span.attribute("kurir.outcome");
            let outcome = if outcome.is_empty() {
                String::new()
            } else {
                format!(" -> {outcome} {}", span.attribute("kurir.outcome.detail"))
            };
            writeln!(told, "{}: {name}{how}{outcome}", span.service).unwrap();
            before = Some(span);
        }
        told
    }

    fn traces(&self) -> usize {
        let mut traces: Vec<&str> = self.0.iter().map(|span| span.trace.as_str()).collect();
        traces.dedup();
        traces.len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_and_its_partner_call_are_one_trace_also_through_a_retry() {
    let traced = Traced::start().await;
    let fleet = &traced.fleet;
    let (worker, (gateway, http)) = tokio::join!(traced.worker(), traced.gateway());
    fleet.fault(
        ScriptedFault::new(Fault::Maintenance)
            .on(Call::GetPartner)
            .times(1),
    );
    let mut contact = contact();
    let mut event = contact.created();
    event["traceparent"] = json!(format!("00-{}-{}-01", STRANGER.0, STRANGER.1));
    http.post_event("/v1/events", &event)
        .await
        .unwrap()
        .expect(202);
    fleet.becomes(&event, Fate::Covered).await;
    let way = traced.call_of(&event).await;
    insta::assert_snapshot!("through_a_retry", way.told(fleet));
    assert_eq!(way.traces(), 1, "seconds are no reason for a second trace");

    let spans = traced.collector.spans();
    let of = |name: &str| {
        let found = spans.iter().filter(|span| span.trace == way.0[0].trace);
        let mut found = found.filter(|span| span.name == name);
        found
            .next_back()
            .unwrap_or_else(|| panic!("no {name}\n{}", traced.all()))
    };
    // A sender's own trace is named and not gone on with.
    let publish = &way.0[1];
    assert_ne!(publish.trace, STRANGER.0);
    let stranger = (STRANGER.0.to_owned(), STRANGER.1.to_owned());
    assert!(publish.links.contains(&stranger), "{publish:?}");
    let call = of("POST add_partner");
    assert_eq!(
        [
            call.attribute("kurir.system"),
            call.attribute("kurir.operation"),
            call.attribute("http.request.method"),
            call.attribute("http.response.status_code"),
        ],
        ["metakocka", "add_partner", "POST", "200"],
    );
    assert_eq!(call.kind, SpanKind::Client);
    let process = of(&format!("process {}", fleet.broker.queue("metakocka-sync")));
    assert_eq!(process.kind, SpanKind::Consumer);
    assert_eq!(
        [
            process.attribute("messaging.system"),
            process.attribute("messaging.operation.type"),
            process.attribute("messaging.message.id"),
            process.attribute("kurir.tenant.id"),
            process.attribute("kurir.attempt"),
            process.attribute("kurir.outcome.detail"),
        ],
        ["rabbitmq", "process", id_of(&event), TENANT, "2", "applied"],
    );
    for name in ["claim", "reserve", "complete"] {
        assert!(of(name).is_child_of(process), "{name}\n{}", traced.all());
    }
    assert_eq!(process.resource["service.namespace"], "kurir");
    assert_eq!(process.resource["k8s.pod.name"], "pod-1");
    // The lines of its decisions name the trace.
    let named = format!("\"trace_id\":\"{}\"", process.trace);
    assert_eq!(settled(&worker, &event, &named), 2);
    assert_eq!(traced.collector.refused(), [""; 0]);
    fleet.ends([worker, gateway], [&event]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_event_goes_on_in_a_trace_of_its_own_with_a_link() {
    let traced = Traced::start().await;
    let fleet = &traced.fleet;
    let (worker, keeper, (gateway, http)) =
        tokio::join!(traced.worker(), traced.keeper(), traced.gateway());
    fleet.fault(ScriptedFault::new(Fault::Auth { code: 3 }).always());
    let event = contact().created();
    http.post_event("/v1/events", &event)
        .await
        .unwrap()
        .expect(202);
    fleet.becomes(&event, Fate::Held).await;
    fleet.repair().await;
    fleet.becomes(&event, Fate::Covered).await;
    let way = traced.call_of(&event).await;
    insta::assert_snapshot!("through_a_hold", way.told(fleet));
    fleet.ends([worker, keeper, gateway], [&event]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_event_goes_on_in_a_trace_of_its_own_with_a_link() {
    let traced = Traced::start().await;
    let fleet = &traced.fleet;
    let (worker, keeper, (gateway, http)) =
        tokio::join!(traced.worker(), traced.keeper(), traced.gateway());
    let refusal = Fault::Refuse {
        code: 2,
        text: "not this one".to_owned(),
    };
    fleet.fault_on(Call::AddPartner, refusal);
    let event = contact().created();
    http.post_event("/v1/events", &event)
        .await
        .unwrap()
        .expect(202);
    fleet.becomes(&event, Fate::Dead).await;
    fleet.replay(&event).await;
    fleet.becomes(&event, Fate::Covered).await;
    let way = traced.call_of(&event).await;
    insta::assert_snapshot!("through_a_replay", way.told(fleet));
    let spans = traced.collector.spans();
    // The dead letter's way into the database names where it came from.
    let died = way
        .0
        .iter()
        .position(|span| span.attribute("kurir.outcome") == "dead_letter");
    let copy = &way.0[died.unwrap() + 1];
    let record_dead_letters = spans
        .iter()
        .find(|span| span.kind == SpanKind::Consumer && span.links_to(copy));
    assert!(
        record_dead_letters.is_some_and(|span| span.service == "kurir-keeper"),
        "{}",
        traced.all()
    );
    fleet.ends([worker, keeper, gateway], [&event]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_copies_for_two_accounts_stay_in_their_events_trace() {
    const SECOND: &str = r#"{"secret_key":"second-key","company_id":"4712"}"#;
    let companies = Options {
        companies: vec![
            CompanyOptions::new(COMPANY, PARTNER_KEY),
            CompanyOptions::new("4712", "second-key"),
        ],
        ..Options::default()
    };
    let (fleet, collector) = tokio::join!(Fleet::with(companies), Collector::start());
    let traced = Traced { fleet, collector };
    let fleet = &traced.fleet;
    let add = [
        "connection",
        "add",
        "--tenant",
        TENANT,
        "--system",
        "metakocka",
        "--account",
        "second",
        "--credentials-env",
        "TEST_CREDENTIALS",
    ];
    let add = fleet.kurir(&add).env("TEST_CREDENTIALS", SECOND);
    add.run(END).await.expect(0);
    let (worker, keeper) = tokio::join!(traced.worker(), traced.keeper());
    let event = contact().created();
    fleet.publish(&event).await;
    let ways = wait_for("a call of each account", SOON, async || {
        let spans = traced.collector.spans();
        let calls = spans.iter().filter(|span| span.name == "POST add_partner");
        let ways = calls.map(|call| Way::to(call, &spans));
        let whole = |way: &Way| way.applies(id_of(&event)) && way.0[0].parent.is_empty();
        let ways: Vec<Way> = ways.filter(whole).collect();
        if ways.len() == 2 {
            Ok(ways)
        } else {
            Err(traced.all())
        }
    })
    .await;
    insta::assert_snapshot!("through_a_fan_out", ways[0].told(fleet));
    assert_eq!(ways[0].told(fleet), ways[1].told(fleet));
    assert_eq!(ways[0].0[0].id, ways[1].0[0].id, "one delivery was cut");
    let accounts = ways.iter().map(|way| way.0.iter().rev().nth(1).unwrap());
    let mut accounts: Vec<&str> = accounts
        .map(|process| process.attribute("kurir.connection.id"))
        .collect();
    accounts.dedup();
    assert_eq!(accounts.len(), 2, "{accounts:?}");
    fleet.ends([worker, keeper], [&event]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_exported_is_said_at_the_start() {
    let fleet = Fleet::start().await;
    for (variable, value, said) in [
        ("OTEL_TRACES_EXPORTER", "zipkin", "it is otlp or none"),
        (
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "grpc",
            "only http/protobuf is spoken",
        ),
        (
            "OTEL_TRACES_SAMPLER",
            "often",
            "it is one of parentbased_traceidratio",
        ),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "http://x:planted@[",
            "see OTEL_EXPORTER_OTLP_ENDPOINT",
        ),
    ] {
        let endpoint = "http://127.0.0.1:1";
        let worker = told(fleet.worker(), endpoint).env(variable, value);
        let ended = worker.run(END).await.expect(78);
        assert!(ended.stderr.contains(variable), "{ended:?}");
        assert!(ended.stderr.contains(said), "{ended:?}");
        assert!(!ended.stderr.contains("planted"), "{ended:?}");
    }
}

/// Straight into the worker's queue, as a copy of a retry tier comes.
async fn publish_copy(fleet: &Fleet, event: &Value, traceparent: &str, first_received: i64) {
    let mut headers = FieldTable::default();
    headers.insert(
        "traceparent".into(),
        AMQPValue::LongString(traceparent.into()),
    );
    headers.insert("x-attempt".into(), AMQPValue::LongLongInt(2));
    headers.insert(
        "x-first-received".into(),
        AMQPValue::LongLongInt(first_received),
    );
    let properties = structured_properties(event).with_headers(headers);
    let (queue, body) = (fleet.broker.queue("metakocka-sync"), event.to_string());
    let publisher = fleet.publisher().await;
    let route = publisher
        .raw("", &queue, body.as_bytes(), properties)
        .await
        .unwrap();
    assert_eq!(route, Route::Routed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_after_long_is_a_trace_of_its_own_and_a_mangled_context_is_none() {
    let traced = Traced::start().await;
    let fleet = &traced.fleet;
    let worker = traced.worker().await;
    let mut source = Contacts::new(TENANT, 1);
    let [soon, late, mangled] = [(); 3].map(|()| plain(&mut source).created());
    let now = chrono::Utc::now().timestamp_millis();
    let context = format!("00-{}-{}-01", STRANGER.0, STRANGER.1);
    let an_hour_ago = now - 3_600_000;
    publish_copy(fleet, &soon, &context, now).await;
    publish_copy(fleet, &late, &context, an_hour_ago).await;
    publish_copy(fleet, &mangled, "00-not-a-context-01", now).await;
    let [soon, late, mangled] = [&soon, &late, &mangled].map(async |event| {
        wait_for("its span", SOON, async || {
            let spans = traced.collector.spans();
            let mut found = spans.into_iter().filter(|span| {
                span.kind == SpanKind::Consumer
                    && span.attribute("messaging.message.id") == id_of(event)
            });
            found.next().ok_or_else(|| traced.all())
        })
        .await
    });
    let (soon, late, mangled) = tokio::join!(soon, late, mangled);
    let link = [(STRANGER.0.to_owned(), STRANGER.1.to_owned())];
    assert_eq!((soon.trace.as_str(), soon.parent.as_str()), STRANGER);
    assert_eq!(soon.links, link);
    assert_ne!(late.trace, STRANGER.0);
    assert_eq!(
        (late.parent.as_str(), late.links.as_slice()),
        ("", &link[..])
    );
    assert_eq!((mangled.parent.as_str(), mangled.links.len()), ("", 0));
    worker.terminate();
    worker.ended(END).await;
    assert_eq!(worker.count_lines(|line| line.contains("not-a-context")), 0);
}

/// Takes connections and never answers: worse than one that refuses them.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_collector_costs_a_counter_and_nothing_else() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let fleet = Fleet::start().await;
    let dead = |kurir| told(kurir, &endpoint).env("OTEL_EXPORTER_OTLP_TIMEOUT", "300");
    let worker = ready(dead(fleet.worker())).await;
    let mut source = Contacts::new(TENANT, 1);
    let mut contacts: Vec<Contact> = (0..20).map(|_| plain(&mut source)).collect();
    let events: Vec<Value> = contacts.iter_mut().map(Contact::created).collect();
    fleet.publish_all(&events).await;
    fleet.rests(&events).await;
    for contact in &contacts {
        fleet.has_one(contact).await;
    }
    wait_for("the failures are counted", SOON, async || {
        let metrics = worker.http("health").get("/metrics").await.unwrap().text;
        let name = "kurir_trace_export_failures_total ";
        let count = metrics.lines().find_map(|line| line.strip_prefix(name));
        match count.and_then(|count| count.trim().parse::<u64>().ok()) {
            Some(count) if count >= 2 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    let told_of_it = worker.count_lines(|line| line.contains("the collector took no traces"));
    assert_eq!(told_of_it, 1, "at most once a minute");
    worker.terminate();
    let ended = worker.ended(END).await;
    assert_eq!(ended.code(), Some(0), "{ended}");

    // One that would wait for its collector for minutes, if it were let.
    let patient = told(fleet.worker(), &endpoint).env("OTEL_EXPORTER_OTLP_TIMEOUT", "300000");
    let patient = ready(patient).await;
    let event = plain(&mut source).created();
    fleet.publish(&event).await;
    fleet.becomes(&event, Fate::Covered).await;
    settles(&patient, &event, 1).await;
    patient.terminate();
    let ended = patient.ended(END).await;
    assert_eq!(ended.code(), Some(0), "{ended}");
    let given_up = "the last traces could not be delivered in time";
    assert_eq!(patient.count_lines(|line| line.contains(given_up)), 1);
}

/// Planted where a secret or a person's data is; nothing of it may come out.
const FIELD: &str = "Skrivnostna Ulica 90417";
const DATABASE_PASSWORD: &str = "planted-database-password";
const BROKER_PASSWORD: &str = "planted-broker-password";
const COLLECTOR_PASSWORD: &str = "planted-collector-password";
const COLLECTOR_TOKEN: &str = "planted-collector-token";
/// As the fleet's connection and its ring of keys have them.
const PARTNER_KEY: &str = "sim-key";
const SEALING_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// Everything is logged that our own rooms would ever log.
fn talkative(kurir: Kurir) -> Kurir {
    kurir
        .env(
            "OTEL_EXPORTER_OTLP_HEADERS",
            format!("authorization={COLLECTOR_TOKEN}"),
        )
        .setting("log.filter", "debug,lapin=off")
}

/// A process that reaches neither its database nor its broker nor its collector.
async fn turned_away(fleet: &Fleet) -> Running {
    let (_, broker) = fleet.broker.amqp_url().rsplit_once('@').unwrap();
    let worker = talkative(told(
        fleet.worker(),
        &format!("http://someone:{COLLECTOR_PASSWORD}@127.0.0.1:1"),
    ));
    let worker = worker
        .env(
            "KURIR_AMQP_URL",
            format!("amqp://kurir:{BROKER_PASSWORD}@{broker}"),
        )
        .env(
            "KURIR_DATABASE_URL",
            format!("postgres://kurir:{DATABASE_PASSWORD}@127.0.0.1:1/kurir"),
        )
        .start();
    for told in ["database not reachable yet", "not connected to the broker"] {
        worker.line(told, SOON, |line| line.contains(told)).await;
    }
    worker
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_and_no_field_of_a_body_is_in_a_line_or_a_span() {
    let traced = Traced::start().await;
    let fleet = &traced.fleet;
    let start = async |kurir: Kurir| ready(talkative(traced.told(kurir))).await;
    let (worker, keeper, gateway, token, away) = tokio::join!(
        start(fleet.worker()),
        start(fleet.keeper()),
        start(fleet.gateway()),
        token(fleet),
        turned_away(fleet),
    );
    let http = gateway.http("gateway").with_token(&token);
    let mut source = Contacts::new(TENANT, 1);
    let [mut fine, mut refused, mut wrong] = [(); 3].map(|()| plain(&mut source));
    for contact in [&mut fine, &mut refused] {
        contact.record["addresses"] =
            json!([{ "kind": "main", "street": FIELD, "city": "Ljubljana", "country": "SI" }]);
    }
    wrong.record["emails"] = json!([{ "value": FIELD }]);
    let (fine, refused, wrong) = (fine.created(), refused.created(), wrong.created());
    http.post_event("/v1/events", &fine)
        .await
        .unwrap()
        .expect(202);
    fleet.becomes(&fine, Fate::Covered).await;
    // A partner that says what it was told.
    let echo = Fault::Refuse {
        code: 2,
        text: format!("secret_key {PARTNER_KEY} may not do this"),
    };
    fleet.fault_on(Call::AddPartner, echo);
    http.post_event("/v1/events", &refused)
        .await
        .unwrap()
        .expect(202);
    // Past the gateway, which would have refused it.
    fleet.publish(&wrong).await;
    for event in [&refused, &wrong] {
        fleet.becomes(event, Fate::Dead).await;
    }
    let refusals = [
        http.post_event("/v1/events", &wrong)
            .await
            .unwrap()
            .expect(422),
        http.with_token(format!("{token}x"))
            .post_event("/v1/events", &fine)
            .await
            .unwrap()
            .expect(401),
    ];
    wait_for("the traces of both", SOON, async || {
        let spans = traced.collector.spans();
        let dead = |span: &&TracedSpan| span.attribute("kurir.outcome") == "dead_letter";
        match spans.iter().filter(dead).count() {
            2 => Ok(()),
            _ => Err(traced.all()),
        }
    })
    .await;
    fleet.rests([&fine, &refused, &wrong]).await;
    let processes = [worker, keeper, gateway, away];
    for process in &processes {
        process.terminate();
        process.ended(END).await;
    }
    let log = |process: &Running| std::fs::read_to_string(process.log_file()).unwrap();
    let logs: Vec<String> = processes.iter().map(log).collect();
    assert!(
        logs.iter().any(|log| log.contains("partner answered")),
        "they are talkative"
    );
    for secret in [
        FIELD,
        DATABASE_PASSWORD,
        BROKER_PASSWORD,
        COLLECTOR_PASSWORD,
        COLLECTOR_TOKEN,
        PARTNER_KEY,
        SEALING_KEY,
        &token,
    ] {
        for line in logs.iter().flat_map(|log| log.lines()) {
            assert!(!line.contains(secret), "{secret} in {line}");
        }
        assert!(!traced.collector.has_bytes(secret), "{secret} in a span");
        for answer in &refusals {
            assert!(
                secret == FIELD || !answer.text.contains(secret),
                "{secret} in {answer:?}"
            );
        }
    }
}

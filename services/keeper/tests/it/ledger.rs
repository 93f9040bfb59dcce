use std::time::Duration;

use chrono::Utc;
use serde_json::json;
use store::Scope;
use store::dead_letters::replay::{Order, order, take_turn};
use store::dead_letters::{Filter, show};
use store::links::{ClaimItem, LinkKey};
use store::{QueuePrefix, held};
use testkit::{Contacts, wait_for, wait_until};
use uuid::Uuid;

use crate::rig::{LEDGER, Parts, Rig, SOON, SYSTEM, WORKER, bytes, note};

/// No new connections to the test's database while it is away, and the product's end.
pub(crate) async fn database_away(rig: &Rig, away: bool) {
    let server = std::env::var("KURIR_DATABASE_URL").expect("testkit has used it");
    let server = sqlx::PgPool::connect(&server).await.expect("the server");
    let statement = format!(
        "alter database {} with allow_connections {}",
        rig.database.name(),
        !away
    );
    sqlx::query(sqlx::AssertSqlSafe(statement))
        .execute(&server)
        .await
        .expect("changed");
    if away {
        sqlx::query(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where datname = $1 and application_name = 'kurir'",
        )
        .bind(rig.database.name())
        .execute(&server)
        .await
        .expect("ended");
    }
    server.close().await;
}

#[tokio::test]
async fn what_a_worker_gave_up_is_committed_with_its_reasons() {
    let mut rig = Rig::new().await;
    let connection = rig.tenant_with_connection("shop").await;
    let event = Contacts::new("shop", 1).organization().created();
    let mut headers = note("refused", 1_800_000_000_123);
    headers["traceparent"] = json!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    headers["x-history"] = json!(r#"[{"at":"2026-01-01T00:00:00Z","class":"refused","ms":3}]"#);
    rig.die(bytes(&event), headers).await;
    rig.start(LEDGER);
    rig.until_dead(1).await;
    let id: Uuid = sqlx::query_scalar("select id from dead_letter")
        .fetch_one(rig.database.pool())
        .await
        .expect("the row");
    let timeline = show(&rig.pool, Scope::Everything, id)
        .await
        .expect("a story");
    let dead_letter = &timeline.dead_letter;
    assert_eq!(dead_letter.worker, WORKER);
    assert_eq!(dead_letter.tenant.as_deref(), Some("shop"));
    assert_eq!(dead_letter.connection_id, Some(connection));
    assert_eq!(dead_letter.source.as_deref(), event["source"].as_str());
    assert_eq!(dead_letter.event_id.as_deref(), event["id"].as_str());
    assert_eq!(
        dead_letter.event_type.as_deref(),
        Some("crm.contact.created.v1")
    );
    assert_eq!(dead_letter.class, "refused");
    assert_eq!(dead_letter.fingerprint, "refused:shape");
    assert_eq!(dead_letter.message.as_deref(), Some("the partner said no"));
    assert_eq!(
        dead_letter.trace_id.as_deref(),
        Some("0af7651916cd43dd8448eb211c80319c")
    );
    assert_eq!(dead_letter.last_at.timestamp_millis(), 1_800_000_000_123);
    assert!(
        dead_letter.k.is_some(),
        "a state event with a time has an order key"
    );
    assert_eq!(timeline.message.body.0, bytes(&event));
    assert_eq!(timeline.history.len(), 1);
    assert_eq!(
        dead_letter.id,
        store::links::dead_id(
            WORKER,
            dead_letter.tenant.as_deref().unwrap_or_default(),
            dead_letter.source.as_deref().unwrap_or_default(),
            dead_letter.event_id.as_deref().unwrap_or_default(),
            Some(connection),
            None
        )
    );
    let queue = rig.dead_queue();
    rig.until_empty(&queue).await;
}

#[tokio::test]
async fn no_body_and_no_header_is_refused() {
    let mut rig = Rig::new().await;
    rig.tenant_with_connection("shop").await;
    let contact = Contacts::new("shop", 1).organization().created();
    let mut schema = contact.clone();
    schema["data"]["contact"]["name"] = json!(7);
    let mut foreign = contact.clone();
    foreign["id"] = json!("foreign");
    rig.die(b"not JSON \0 at all".to_vec(), note("malformed", 1))
        .await;
    rig.die(vec![0xff, 0xfe, 0x00, 0x80], json!({})).await;
    rig.die(Vec::new(), json!({ "x-dead-class": "\0", "x-dead-at": 2 }))
        .await;
    rig.die(bytes(&schema), json!({})).await;
    rig.die(bytes(&foreign), note("tenant_mismatch", 3)).await;
    rig.die(
        bytes(&contact),
        json!({ "x-dead-at": "no number", "x-generation": -5, "x-attempt": "x" }),
    )
    .await;
    rig.start(LEDGER);
    rig.until_dead(6).await;
    let mut rows: Vec<(String, Option<String>, Option<String>, i32)> =
        sqlx::query_as("select class, tenant, event_id, generation from dead_letter")
            .fetch_all(rig.database.pool())
            .await
            .expect("the rows");
    rows.sort();
    let id = contact["id"].as_str().map(str::to_owned);
    let shop = Some("shop".to_owned());
    assert_eq!(
        rows,
        [
            ("internal".to_owned(), shop.clone(), id.clone(), 0),
            // What the message says of itself, the body being silent.
            ("malformed".to_owned(), None, Some("id".to_owned()), 0),
            ("malformed".to_owned(), None, Some("id".to_owned()), 0),
            ("schema".to_owned(), shop, id, 0),
            // Nothing of a message under another tenant's key is believed.
            ("tenant_mismatch".to_owned(), None, None, 0),
            ("\u{2400}".to_owned(), None, Some("id".to_owned()), 0),
        ]
    );
    let queue = rig.dead_queue();
    rig.until_empty(&queue).await;
}

/// `(tenant, type, event id, subject)` of what came under this key with this body.
async fn known(rig: &Rig) -> Vec<[String; 4]> {
    type Row = (
        Option<String>,
        Option<String>,
        Option<String>,
        Option<String>,
    );
    let rows: Vec<Row> =
        sqlx::query_as("select tenant, type, event_id, subject from dead_letter order by last_at")
            .fetch_all(rig.database.pool())
            .await
            .expect("the rows");
    rows.into_iter()
        .map(|row| [row.0, row.1, row.2, row.3].map(Option::unwrap_or_default))
        .collect()
}

/// The broker may bind a publisher to the keys of its tenant, and to no bodies.
#[tokio::test]
async fn what_cannot_be_read_is_known_by_its_key_and_shows_no_tenant_that_is_not_there() {
    let mut rig = Rig::new().await;
    rig.tenant_with_connection("shop").await;
    rig.tenant_with_connection("other").await;
    let created = "crm.contact.created.v1";
    let of = |tenant: &str| format!(r#"{{"id":"e","tenantid":"{tenant}","x":"\ud800"}}"#);
    let cases = [
        (
            format!("{created}.shop"),
            "<contact/>".to_owned(),
            ["shop", created, "id", ""],
        ),
        (
            format!("{created}.shop"),
            of("shop"),
            ["shop", created, "e", ""],
        ),
        // The same bytes of two tenants are two letters.
        (
            format!("{created}.other"),
            "<contact/>".to_owned(),
            ["other", created, "id", ""],
        ),
        // Two tenants are named: nobody's word counts.
        (
            format!("{created}.shop"),
            of("other"),
            ["", created, "e", ""],
        ),
        // Nobody's tenant, by the key, by the body, and by what can be no tenant's id.
        (
            format!("{created}.nobody"),
            "<contact/>".to_owned(),
            ["", created, "id", ""],
        ),
        (
            format!("{created}.nobody"),
            of("nobody"),
            ["", created, "e", ""],
        ),
        (
            format!("{created}.a b"),
            "<contact/>".to_owned(),
            ["", created, "id", ""],
        ),
    ];
    for (at, (key, body, _)) in cases.iter().enumerate() {
        let mut headers = note("malformed", 1_000 + i64::try_from(at).expect("few"));
        headers["x-dead-key"] = json!(key);
        rig.die(body.clone().into_bytes(), headers).await;
    }
    rig.start(LEDGER);
    rig.until_dead(cases.len()).await;
    let expected: Vec<[&str; 4]> = cases.iter().map(|(_, _, known)| *known).collect();
    assert_eq!(known(&rig).await, expected);
}

#[tokio::test]
async fn copies_of_attributes_stand_in_for_a_body_that_says_nothing() {
    let mut rig = Rig::new().await;
    rig.tenant_with_connection("shop").await;
    let mut headers = note("malformed", 1_000);
    headers["x-dead-key"] = json!("crm.contact.created.v1.shop");
    headers["ce-partitionkey"] = json!("shop:contact:5:12");
    headers["ce-source"] = json!("urn:kurir:shop:crm:main");
    rig.die(b"{".to_vec(), headers.clone()).await;
    headers["x-dead-at"] = json!(1_001);
    headers["ce-subject"] = json!("contact/9");
    rig.die(b"{\"".to_vec(), headers.clone()).await;
    // A partition key of another tenant says nothing of this one's records.
    headers["x-dead-at"] = json!(1_002);
    headers["ce-subject"] = json!(7);
    headers["ce-partitionkey"] = json!("other:contact:5");
    rig.die(b"{ ".to_vec(), headers).await;
    rig.start(LEDGER);
    rig.until_dead(3).await;
    let subjects: Vec<String> = known(&rig).await.into_iter().map(|[.., it]| it).collect();
    assert_eq!(subjects, ["contact/5:12", "contact/9", ""]);
}

/// What the broker itself took out of a worker's queue was compared with its key by nobody before.
#[tokio::test]
async fn an_event_that_expired_under_another_tenants_key_is_nobodys() {
    let mut rig = Rig::new().await;
    rig.tenant_with_connection("shop").await;
    let contact = Contacts::new("shop", 1).organization().created();
    let publisher = rig.theirs.publisher().await.expect("a publisher");
    for key in [
        "crm.contact.created.v1.other",
        "crm.contact.created.v1.shop",
    ] {
        let properties = testkit::structured_properties(&contact).with_expiration("0".into());
        let sent = publisher
            .raw(
                &rig.theirs.queue("events"),
                key,
                &bytes(&contact),
                properties,
            )
            .await;
        sent.expect("published");
    }
    rig.start(LEDGER);
    rig.until_dead(2).await;
    let mut rows: Vec<(String, Option<String>, Option<String>)> =
        sqlx::query_as("select class, tenant, subject from dead_letter")
            .fetch_all(rig.database.pool())
            .await
            .expect("the rows");
    rows.sort();
    let subject = contact["subject"].as_str().map(str::to_owned);
    assert_eq!(
        rows,
        [
            ("expired".to_owned(), Some("shop".to_owned()), subject),
            ("tenant_mismatch".to_owned(), None, None),
        ]
    );
}

/// A platform that both use counts its events for each of them; with two accounts nothing else tells the dead letters apart.
#[tokio::test]
async fn two_tenants_with_one_source_and_one_id_have_a_dead_letter_each() {
    let mut rig = Rig::new().await;
    for tenant in ["other", "shop"] {
        rig.tenant_with_connection(tenant).await;
        rig.account(tenant, "second").await;
        let mut contact = Contacts::new(tenant, 1).organization().created();
        contact["source"] = json!("https://platform.example/");
        contact["id"] = json!("order-1");
        rig.die(bytes(&contact), note("future_version", 1)).await;
    }
    rig.start(LEDGER);
    rig.until_dead(2).await;
    let mut tenants: Vec<Option<String>> = sqlx::query_scalar("select tenant from dead_letter")
        .fetch_all(rig.database.pool())
        .await
        .expect("the rows");
    tenants.sort();
    assert_eq!(tenants, ["other", "shop"].map(|name| Some(name.to_owned())));
}

#[tokio::test]
async fn the_same_death_is_one_row_and_a_later_one_counts() {
    let mut rig = Rig::new().await;
    rig.tenant_with_connection("shop").await;
    let event = bytes(&Contacts::new("shop", 1).person().created());
    let at = Utc::now().timestamp_millis();
    rig.die(event.clone(), note("refused", at)).await;
    rig.die(event.clone(), note("refused", at)).await;
    rig.start(LEDGER);
    rig.until_dead(1).await;
    let queue = rig.dead_queue();
    rig.until_empty(&queue).await;
    let open = |class: &str, state: &str, generation, deaths| {
        (
            class.to_owned(),
            state.to_owned(),
            generation,
            deaths,
            "the partner said no".to_owned(),
        )
    };
    assert_eq!(rig.dead().await, [open("refused", "open", 0, 1)]);

    let id: Uuid = sqlx::query_scalar("select id from dead_letter")
        .fetch_one(rig.database.pool())
        .await
        .expect("the row");
    let prefix = QueuePrefix::new(rig.theirs.prefix());
    let wanted = Order {
        filter: &Filter::one(id),
        rate_max: 1.0,
        restamp: false,
        actor: "ana",
        idempotency_key: None,
    };
    let replay = order(&rig.pool, Scope::Everything, wanted)
        .await
        .expect("ordered");
    let turn = take_turn(&rig.pool, &prefix, Uuid::new_v4(), replay.id)
        .await
        .expect("a turn")
        .expect("it is ours");
    turn.commit().await.expect("sent");
    // A late copy of the first generation changes nothing.
    rig.die(event.clone(), note("refused", at + 1)).await;
    rig.start(LEDGER);
    wait_until(
        "the late copy is history",
        SOON,
        async || {
            show(&rig.pool, Scope::Everything, id)
                .await
                .expect("a story")
                .history
                .len()
        },
        |rows| *rows == 3,
    )
    .await;
    assert_eq!(rig.dead().await, [open("refused", "replaying", 1, 1)]);
    let mut second = note("unmappable", at + 2);
    second["x-generation"] = json!(1);
    rig.die(event, second).await;
    let both = wait_until(
        "it died again",
        SOON,
        async || rig.dead().await,
        |rows| rows[0].3 == 2,
    )
    .await;
    assert_eq!(both, [open("unmappable", "open", 1, 2)]);
}

pub(crate) fn claim(event: &serde_json::Value, connection: Uuid) -> ClaimItem {
    let decoded = event::decode(&bytes(event)).expect("a valid event");
    let version = decoded.version.clone().expect("it has a time").value;
    ClaimItem {
        link: Ok(LinkKey {
            tenant: decoded.tenant.to_string(),
            kind: decoded.entity().to_owned(),
            source_system: decoded.system.clone(),
            source_account: decoded.account.clone(),
            source_id: decoded.record_id().to_owned(),
            target_system: SYSTEM.to_owned(),
            connection_id: connection,
        }),
        tenant: decoded.tenant.to_string(),
        k: Some(decoded.order_key(&version, 0)),
        source: decoded.source.clone(),
        event_id: decoded.id.clone(),
        generation: 0,
        token: Uuid::new_v4(),
        natural_keys: Vec::new(),
        event_type: decoded.event_type.to_string(),
        subject: decoded.subject.clone(),
        body: bytes(event),
        properties: json!({ "message_id": decoded.id }),
        headers: json!({}),
        facet: None,
        claim_as: None,
        content: None,
        references: Vec::new(),
        later: false,
    }
}

/// Through the worker's queue, as when a process dies with it again and again. Nothing of ours is written on it.
async fn die_by_the_broker(rig: &Rig, event: &serde_json::Value) {
    die_by_the_broker_with(rig, event, json!({})).await;
}

pub(crate) async fn die_by_the_broker_with(
    rig: &Rig,
    event: &serde_json::Value,
    headers: serde_json::Value,
) {
    let properties = broker::Properties {
        headers: headers.as_object().expect("headers").clone(),
        ..broker::Properties::of_event("id", "type")
    };
    let published = rig
        .ours
        .publisher()
        .publish("", &rig.queue(), bytes(event).into(), &properties)
        .await;
    published.expect("published");
    wait_for("the broker gives up", SOON, async || {
        let channel = rig.theirs.channel().await.expect("a channel");
        let got = channel.basic_get(rig.queue().into(), Default::default());
        got.await.expect("an answer");
        // It goes back with its channel, and its delivery is counted.
        channel.close(200, "died".into()).await.expect("closed");
        match rig
            .theirs
            .depth(&rig.dead_queue())
            .await
            .expect("an answer")
        {
            Some(1) => Ok(()),
            other => Err(other),
        }
    })
    .await;
}

/// The broker writes no time that we read, so a keeper that was killed before its acknowledgement must not count twice.
#[tokio::test]
async fn a_broker_made_copy_that_comes_again_is_the_same_death() {
    let mut rig = Rig::new().await;
    rig.tenant_with_connection("shop").await;
    let event = Contacts::new("shop", 1).organization().created();
    for round in 0..2 {
        die_by_the_broker(&rig, &event).await;
        // Somebody had it before and did not acknowledge it.
        let cursor = broker::QueueCursor::open(&rig.ours, &rig.dead_queue())
            .await
            .expect("a look");
        let seen = cursor.take().await.expect("a look");
        assert!(seen.is_some(), "round {round}");
        cursor.close().await;
        rig.start(LEDGER);
        let queue = rig.dead_queue();
        let readiness = rig.readiness.clone();
        wait_until(
            "it is committed",
            SOON,
            async || readiness.metrics.recorded_in_all(),
            |recorded| *recorded == round + 1,
        )
        .await;
        rig.until_empty(&queue).await;
    }
    let dead = rig.dead().await;
    assert_eq!((dead.len(), dead[0].3), (1, 1), "{dead:?}");
}

/// V7 and V20: the newest version dies, without a header or a claim row of ours; what it superseded comes back.
#[tokio::test]
async fn superseded_content_returns_when_the_newer_dies_by_the_broker() {
    let mut rig = Rig::new().await;
    let connection = rig.tenant_with_connection("shop").await;
    let mut contact = Contacts::new("shop", 1).organization();
    let older = contact.created();
    let newer = contact.updated();
    let tokens: Vec<Uuid> = {
        let (newer, older) = (claim(&newer, connection), claim(&older, connection));
        let tokens = vec![newer.token];
        rig.links
            .claim(WORKER, vec![newer], false)
            .await
            .expect("claimed");
        rig.links
            .claim(WORKER, vec![older], false)
            .await
            .expect("superseded");
        tokens
    };
    rig.links
        .release(&tokens, &[None], &[None])
        .await
        .expect("the lease is back");

    die_by_the_broker(&rig, &newer).await;
    rig.start(Parts {
        relay: true,
        ledger: true,
        janitor: false,
    });
    let dead = rig.until_dead(1).await;
    assert_eq!(
        (dead[0].0.as_str(), dead[0].1.as_str()),
        // Its claim came back: nothing shows that it ended its worker.
        ("crash_neighbour", "open")
    );
    let back = wait_for(
        "the older content is in the worker's queue",
        SOON,
        async || {
            let mut taken = rig.theirs.take(&rig.queue(), 1).await.expect("an answer");
            taken.pop().ok_or("nothing yet")
        },
    )
    .await;
    assert_eq!(back.json()["id"], older["id"]);
}

#[tokio::test]
async fn an_event_without_version_and_time_dies_under_its_pinned_version() {
    let mut rig = Rig::new().await;
    rig.tenant_with_connection("shop").await;
    let mut event = Contacts::new("shop", 1).organization().created();
    for name in ["time", "subjectversion"] {
        event.as_object_mut().expect("an object").remove(name);
    }
    sqlx::query("insert into event_pin values ('shop', $1, $2, '00001700000000000000')")
        .bind(event["source"].as_str())
        .bind(event["id"].as_str())
        .execute(rig.database.pool())
        .await
        .expect("a pin");
    rig.die(bytes(&event), note("refused", 5)).await;
    rig.start(LEDGER);
    rig.until_dead(1).await;
    let timeline_of: Uuid = sqlx::query_scalar("select id from dead_letter")
        .fetch_one(rig.database.pool())
        .await
        .expect("the row");
    let timeline = show(&rig.pool, Scope::Everything, timeline_of)
        .await
        .expect("a story");
    let key = timeline.dead_letter.k.expect("a key").to_string();
    assert!(key.starts_with("1700000000000000 "), "{key}");
}

#[tokio::test]
async fn while_the_database_is_away_the_dead_wait_in_their_queue() {
    let mut rig = Rig::new().await;
    rig.tenant_with_connection("shop").await;
    rig.start(LEDGER);
    let mut contacts = Contacts::new("shop", 1);
    database_away(&rig, true).await;
    for n in 0..300 {
        rig.die(bytes(&contacts.any().created()), note("refused", 1000 + n))
            .await;
    }
    let readiness = rig.readiness.clone();
    wait_until(
        "the outage is said",
        SOON,
        async || readiness.problems(),
        |problems| !problems.is_empty(),
    )
    .await;
    database_away(&rig, false).await;
    rig.until_dead(300).await;
    wait_until(
        "the ledger is well again",
        Duration::from_secs(15),
        async || readiness.problems(),
        Vec::is_empty,
    )
    .await;
    assert_eq!(rig.dead().await.len(), 300);
    let queue = rig.dead_queue();
    rig.until_empty(&queue).await;
}

#[tokio::test]
async fn a_switched_off_ledger_leaves_them_in_the_broker() {
    let mut rig = Rig::new().await;
    rig.start(Parts {
        relay: true,
        ledger: false,
        janitor: true,
    });
    rig.die(b"{}".to_vec(), note("refused", 1)).await;
    let queue = rig.dead_queue();
    testkit::stays(
        "the copy stays in its queue",
        Duration::from_secs(2),
        async || {
            (
                rig.theirs.depth(&queue).await.expect("an answer"),
                rig.dead().await.len(),
            )
        },
        |seen| *seen == (Some(1), 0),
    )
    .await;
    assert!(rig.readiness.ready(), "{:?}", rig.readiness.problems());
}

#[tokio::test]
async fn a_released_poison_event_goes_back_to_its_worker() {
    let mut rig = Rig::new().await;
    rig.start(crate::rig::RELAY);
    sqlx::query(
        "insert into held (worker, tenant, target_system, reason, source, event_id, generation, type, subject, body,
           properties, headers)
         values ($1, 'shop', 'metakocka', 'poison', 's', 'evt', 3, 't', 'contact/1', 'body', '{}', '{\"x-attempt\": 9}')",
    )
    .bind(WORKER)
    .execute(rig.database.pool())
    .await
    .expect("a held row");
    let prefix = QueuePrefix::new(rig.theirs.prefix());
    held::release(
        &rig.pool,
        &prefix,
        Scope::Everything,
        &held::Filter::default(),
        "a test",
    )
    .await
    .expect("released");
    let back = wait_for("it is in the worker's queue", SOON, async || {
        rig.theirs
            .take(&rig.queue(), 1)
            .await
            .expect("an answer")
            .pop()
            .ok_or("nothing yet")
    })
    .await;
    assert_eq!(back.body, b"body");
    assert!(back.header("x-attempt").is_none());
    assert_eq!(
        back.header("x-generation")
            .and_then(|value| value.as_long_long_int()),
        Some(3)
    );
}

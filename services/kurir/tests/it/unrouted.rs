//! Events that no worker's queue took: looked at without losing any, routed after a deploy, dropped by hand.

use lapin::types::FieldTable;
use serde_json::{Value, json};
use testkit::{Contacts, Route, structured_properties, wait_until};

use crate::fleet::{END, Fate, Fleet, SOON, TENANT, plain, ready, settles};

/// As it lies there when a publisher was earlier than the binding, or meant another one.
async fn unrouted(fleet: &Fleet, routing_key: &str, body: &Value) {
    let properties = structured_properties(body).with_headers(FieldTable::default());
    let exchange = fleet.broker.queue("unrouted.kept");
    let route = fleet
        .publisher()
        .await
        .raw(
            &exchange,
            routing_key,
            body.to_string().as_bytes(),
            properties,
        )
        .await
        .unwrap();
    assert_eq!(route, Route::Routed);
}

fn event(event_type: &str, id: &str) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "urn:kurir:acme:shop:default", "type": event_type,
        "tenantid": TENANT, "subject": "order/1", "data": {},
    })
}

async fn depth(fleet: &Fleet) -> u32 {
    let queue = fleet.broker.queue("unrouted");
    fleet.broker.depth(&queue).await.unwrap().unwrap()
}

async fn json_of(fleet: &Fleet, arguments: &[&str]) -> Value {
    let ended = fleet.command(arguments).await.expect(0);
    serde_json::from_str(&ended.stdout).unwrap()
}

/// One for each reason, in the order of `why`.
async fn one_of_each(fleet: &Fleet, contact: &Value) {
    fleet.declare().await;
    unrouted(fleet, "crm.contact.created.v1.acme", contact).await;
    for (event_type, id) in [
        ("crm.contact.created.v9", "newer"),
        ("shop.order.created.v1", "unknown"),
        ("sync.completed.v1", "nobody's"),
    ] {
        let key = format!("{event_type}.{TENANT}");
        unrouted(fleet, &key, &event(event_type, id)).await;
    }
    let foreign = event("crm.contact.updated.v1", "foreign");
    unrouted(fleet, "crm.contact.updated.v1.another", &foreign).await;
    unrouted(fleet, "what", &json!("no event")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_says_why_and_loses_nothing() {
    let fleet = Fleet::start().await;
    let contact = plain(&mut Contacts::new(TENANT, 1)).created();
    one_of_each(&fleet, &contact).await;
    for _ in 0..2 {
        let seen = json_of(&fleet, &["unrouted", "list", "--json"]).await;
        let mut why: Vec<&str> = seen
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["why"].as_str().unwrap())
            .collect();
        why.sort_unstable();
        assert_eq!(
            why,
            [
                "newer-major",
                "no-worker",
                "routable",
                "unknown-type",
                "unreadable",
                "wrong-key"
            ]
        );
    }
    let only = ["unrouted", "list", "--why", "newer-major"];
    let shown = fleet.command(&only).await.expect(0).stdout;
    insta::assert_snapshot!(shown, @r"
    event  type                    tenant  routing key                  why
    newer  crm.contact.created.v9  acme    crm.contact.created.v9.acme  a newer version than this build knows: deploy first
    ");
    wait_until(
        "all are back",
        SOON,
        async || depth(&fleet).await,
        |depth| *depth == 6,
    )
    .await;
}

/// The broker would drop it there after that time.
#[tokio::test(flavor = "multi_thread")]
async fn an_unrouted_event_outlives_what_its_publisher_let_it_live() {
    let fleet = Fleet::start().await;
    fleet.declare().await;
    let contact = plain(&mut Contacts::new(TENANT, 1)).created();
    let publisher = fleet.publisher().await;
    // Earlier than its binding; and of a version that nobody knows yet.
    let newer = event("crm.contact.created.v9", "newer");
    for (exchange, key, body, lives) in [
        ("unrouted", "crm.contact.created.v1.acme", &contact, "1"),
        ("events", "crm.contact.created.v9.acme", &newer, "300"),
    ] {
        let properties = structured_properties(body).with_expiration(lives.into());
        let (body, exchange) = (body.to_string(), fleet.broker.queue(exchange));
        let sent = publisher.raw(&exchange, key, body.as_bytes(), properties);
        assert_eq!(sent.await.unwrap(), Route::Routed);
    }
    let both = async || depth(&fleet).await;
    wait_until("both are kept", SOON, both, |depth| *depth == 2).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(depth(&fleet).await, 2);
    let seen = json_of(&fleet, &["unrouted", "list", "--json"]).await;
    let mut why: Vec<&str> = seen
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["why"].as_str().unwrap())
        .collect();
    why.sort_unstable();
    assert_eq!(why, ["newer-major", "routable"], "{seen:#}");
    let _worker = ready(fleet.worker()).await;
    fleet.command(&["unrouted", "route"]).await.expect(0);
    fleet.becomes(&contact, Fate::Covered).await;
}

/// Killed between the confirm and the acknowledgement, it comes twice and is made once; what cannot be routed stays.
#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_routed_arrives_and_the_rest_stays() {
    let fleet = Fleet::start().await;
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let created = contact.created();
    one_of_each(&fleet, &created).await;
    let worker = ready(fleet.worker()).await;
    let dying = fleet
        .kurir(&["unrouted", "route"])
        .failpoint("unrouted_after_publish:kill")
        .start();
    dying.killed(SOON).await;
    fleet.becomes(&created, Fate::Covered).await;
    wait_until(
        "all are back",
        SOON,
        async || depth(&fleet).await,
        |depth| *depth == 6,
    )
    .await;
    let routed = json_of(&fleet, &["unrouted", "route", "--actor", "ana", "--json"]).await;
    assert_eq!(routed, json!({ "routed": 1, "left": 5 }));
    settles(&worker, &created, 2).await;
    fleet.has_one(&contact).await;
    wait_until(
        "the rest",
        SOON,
        async || depth(&fleet).await,
        |depth| *depth == 5,
    )
    .await;
    let again = fleet.command(&["unrouted", "route"]).await.expect(0).stdout;
    insta::assert_snapshot!(again, @"routed 0 events; 5 events left: `kurir unrouted list` says why");
    let audited: (String, String) = sqlx::query_as("select actor, what from audit")
        .fetch_one(fleet.database.pool())
        .await
        .unwrap();
    assert_eq!(audited, ("ana".to_owned(), "unrouted.route".to_owned()));
    worker.terminate();
    worker.ended(END).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_is_named_confirmed_and_audited() {
    let fleet = Fleet::start().await;
    let contact = plain(&mut Contacts::new(TENANT, 1)).created();
    one_of_each(&fleet, &contact).await;
    let note = ["--note", "not for us"];
    let nothing = fleet
        .command(&[&["unrouted", "drop"], &note[..]].concat())
        .await;
    nothing.expect(64);
    let absent = fleet
        .command(&[&["unrouted", "drop", "absent"], &note[..]].concat())
        .await;
    absent.expect(3);
    let one = [&["unrouted", "drop", "unknown"], &note[..]].concat();
    fleet.command(&one).await.expect(0);
    let of_tenant = [&["unrouted", "drop", "--tenant", TENANT], &note[..]].concat();
    let refused = fleet.command(&of_tenant).await;
    let refused = refused.expect(4);
    insta::assert_snapshot!(refused.stderr, @r"
    error: this removes 4 events for good (1 crm.contact.created.v1, 1 crm.contact.created.v9, 1 crm.contact.updated.v1, 1 sync.completed.v1)
     next: repeat with --yes
    ");
    wait_until(
        "nothing more is gone",
        SOON,
        async || depth(&fleet).await,
        |depth| *depth == 5,
    )
    .await;
    let dropped = json_of(&fleet, &[&of_tenant[..], &["--yes", "--json"]].concat()).await;
    assert_eq!(dropped, json!({ "dropped": 4 }));
    wait_until(
        "the unreadable one",
        SOON,
        async || depth(&fleet).await,
        |depth| *depth == 1,
    )
    .await;
    let rows: Vec<(Option<String>, Value)> =
        sqlx::query_as("select tenant, detail from audit where what = 'unrouted.drop' order by id")
            .fetch_all(fleet.database.pool())
            .await
            .unwrap();
    assert_eq!(rows.len(), 5);
    assert_eq!(rows[0].0.as_deref(), Some(TENANT));
    assert_eq!(rows[0].1["note"], "not for us");
    assert_eq!(rows[0].1["event"]["event_id"], "unknown");
}

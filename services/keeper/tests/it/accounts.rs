//! Deaths of a tenant with two accounts, and of an event that becomes several links: each touches its own links, or none.

use event::EventType;
use serde_json::{Value, json};
use testkit::Contacts;
use uuid::Uuid;
use worker::Facets;

use crate::ledger::{claim, die_by_the_broker_with};
use crate::rig::{LEDGER, Rig, WORKER, bytes, note};

/// The newest version of a contact is claimed for both accounts, an older one was superseded at both.
async fn both_claimed(rig: &Rig, connections: [Uuid; 2]) -> Value {
    let mut contact = Contacts::new("shop", 1).organization();
    let (older, newer) = (contact.created(), contact.updated());
    for connection in connections {
        let newest = claim(&newer, connection);
        let token = newest.token;
        for item in [newest, claim(&older, connection)] {
            rig.links
                .claim(WORKER, vec![item], false)
                .await
                .expect("claimed");
        }
        rig.links
            .release(&[token], &[None], &[None])
            .await
            .expect("the lease is back");
    }
    newer
}

/// Connections of the links that want the newest version no more, in the order of their links.
async fn fallen_back(rig: &Rig, newest: &Value) -> Vec<Uuid> {
    sqlx::query_scalar(
        "select connection_id from link where position($1::bytea in desired_k) = 0 order by id",
    )
    .bind(newest["id"].as_str().expect("an id").as_bytes())
    .fetch_all(&rig.pool)
    .await
    .expect("the links")
}

/// (connection, link, the header) of the only dead letter.
async fn dead_letter(rig: &Rig) -> (Option<Uuid>, Option<i64>, Option<String>) {
    sqlx::query_as("select connection_id, link_id, headers ->> 'x-connection' from dead_letter")
        .fetch_one(&rig.pool)
        .await
        .expect("one dead letter")
}

#[tokio::test]
async fn a_copy_that_dies_at_the_broker_is_its_accounts() {
    let mut rig = Rig::new().await;
    let first = rig.tenant_with_connection("shop").await;
    let second = rig.account("shop", "croatia").await;
    let newer = both_claimed(&rig, [first, second]).await;
    die_by_the_broker_with(&rig, &newer, json!({ "x-connection": second.to_string() })).await;
    rig.start(LEDGER);
    rig.until_dead(1).await;
    assert_eq!(fallen_back(&rig, &newer).await, [second]);
    let (connection, link, named) = dead_letter(&rig).await;
    assert_eq!(
        (connection, link.is_some(), named),
        (Some(second), true, Some(second.to_string()))
    );
}

/// Nobody knew yet for which it was, so nothing of either is undone.
#[tokio::test]
async fn what_dies_before_the_fan_out_is_nobodys() {
    let mut rig = Rig::new().await;
    let first = rig.tenant_with_connection("shop").await;
    let second = rig.account("shop", "croatia").await;
    let newer = both_claimed(&rig, [first, second]).await;
    die_by_the_broker_with(&rig, &newer, json!({})).await;
    rig.start(LEDGER);
    rig.until_dead(1).await;
    assert!(fallen_back(&rig, &newer).await.is_empty());
    assert_eq!(dead_letter(&rig).await, (None, None, None));
}

/// Its replay must be that account's too, when another one has been added.
#[tokio::test]
async fn a_death_at_the_only_account_names_it() {
    let mut rig = Rig::new().await;
    let only = rig.tenant_with_connection("shop").await;
    let event = Contacts::new("shop", 1).organization().created();
    die_by_the_broker_with(&rig, &event, json!({})).await;
    rig.start(LEDGER);
    rig.until_dead(1).await;
    assert_eq!(
        dead_letter(&rig).await,
        (Some(only), None, Some(only.to_string()))
    );
}

/// It names a connection that is not its tenant's: it touches no link, and a replay goes where it belongs.
#[tokio::test]
async fn a_copy_for_a_wrong_connection_touches_nothing() {
    let mut rig = Rig::new().await;
    let first = rig.tenant_with_connection("shop").await;
    let second = rig.account("shop", "croatia").await;
    let newer = both_claimed(&rig, [first, second]).await;
    let mut headers = note("wrong_connection", 1_700_000_000_000);
    headers["x-connection"] = json!(Uuid::from_u128(9).to_string());
    rig.die(bytes(&newer), headers).await;
    rig.start(LEDGER);
    rig.until_dead(1).await;
    assert!(fallen_back(&rig, &newer).await.is_empty());
    assert_eq!(dead_letter(&rig).await, (None, None, None));
}

/// What the worker of these tests makes of a contact.
const BOTH: Facets = Facets(&[
    (EventType::CrmContactCreated, &["person", "lead"]),
    (EventType::CrmContactUpdated, &["person", "lead"]),
]);

/// A contact whose facet `person` is claimed dies at the broker, with these headers: (facet, kind of its link, the header).
async fn dies_with(headers: Value) -> (Option<String>, Option<String>, Option<String>) {
    let mut rig = Rig::new().await;
    rig.facets = BOTH;
    let connection = rig.tenant_with_connection("shop").await;
    let event = Contacts::new("shop", 1).organization().created();
    let mut item = claim(&event, connection);
    item.link.as_mut().expect("by its key").kind = "person".to_owned();
    item.facet = Some("person");
    let token = item.token;
    let links = &rig.links;
    links
        .claim(WORKER, vec![item], false)
        .await
        .expect("claimed");
    links
        .release(&[token], &[None], &[None])
        .await
        .expect("the lease is back");
    die_by_the_broker_with(&rig, &event, headers).await;
    rig.start(LEDGER);
    rig.until_dead(1).await;
    sqlx::query_as(
        "select facet, (select kind from link where id = link_id), headers ->> 'x-facet' from dead_letter",
    )
    .fetch_one(&rig.pool)
    .await
    .expect("one dead letter")
}

#[tokio::test]
async fn a_facet_that_dies_at_the_broker_finds_its_link() {
    let person = || Some("person".to_owned());
    let found = dies_with(json!({ "x-facet": "person" })).await;
    assert_eq!(found, (person(), person(), person()));
}

/// It was for no facet yet: it touches no link, and its replay goes to all.
#[tokio::test]
async fn a_death_before_the_fan_out_is_no_facets() {
    assert_eq!(dies_with(json!({})).await, (None, None, None));
}

/// Its replay goes to those that this build makes.
#[tokio::test]
async fn a_facet_that_no_build_makes_any_more_touches_nothing() {
    let gone = json!({ "x-facet": "account" });
    assert_eq!(dies_with(gone).await, (None, None, None));
}

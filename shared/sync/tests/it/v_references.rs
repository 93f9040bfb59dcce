//! What one link's content names of other links, on Postgres: found by the claim, checked by the reserve behind its locks, and
//! remembered. Facts: links that are made once.

use std::sync::Arc;

use bytes::Bytes;
use event::TenantId;
use serde_json::{Value, json};
use store::links::{
    ClaimItem, ClaimVerdict, Completed, FoundReference, LinkKey, Links, Reference, Reserved,
    SentReference,
};
use sync::{Content, LinkClaims, NaturalKey, Plan, Planner, Targets};
use testkit::Database;
use uuid::Uuid;
use worker::{
    AckReason, Claims as _, Connection, ConnectionState, Delivery, DeliveryMetadata, Job, Verdict,
};

use crate::sim_store::WORKER;
use crate::v_postgres::{LEASE, claim, completion, granted, key, links, reservation, waiting};
use crate::world::{CONNECTION, TENANT, epoch};

/// Record 0 is at the partner under this id.
async fn named(links: &Links) -> i64 {
    let item = claim(0, 1);
    let granted = granted(links, &item).await;
    let sent = reservation(&item, &granted);
    let reserved = links.reserve(sent.clone()).await.expect("reserved");
    assert!(matches!(reserved, Reserved::Yes(_)), "{reserved:?}");
    let done = completion(&sent, "P1".to_owned(), item.natural_keys);
    let done = links.complete(done).await.expect("completed");
    assert_eq!(done, Completed::Ended);
    granted.link.id
}

fn reference(to: LinkKey) -> Reference {
    Reference {
        kind: to.kind,
        source_system: to.source_system,
        source_account: to.source_account,
        source_id: to.source_id,
    }
}

/// Record 1 names record 0.
fn document() -> ClaimItem {
    ClaimItem {
        references: vec![reference(key(0))],
        ..claim(1, 1)
    }
}

async fn verdict(links: &Links, item: ClaimItem) -> ClaimVerdict {
    let verdicts = links.claim(WORKER, vec![item], false).await;
    verdicts.expect("claimed").remove(0)
}

async fn move_to(database: &Database, link: i64, target: &str) {
    sqlx::query("update link set target_id = $2 where id = $1")
        .bind(link)
        .bind(target)
        .execute(database.pool())
        .await
        .expect("moved");
}

#[tokio::test]
async fn a_claim_finds_what_its_content_names() {
    let database = testkit::database().await;
    let links = links(&database, LEASE);
    let lacks = ClaimVerdict::Lacks(reference(key(0)));
    assert_eq!(verdict(&links, document()).await, lacks);
    // Another kind, source or tenant of that name is another record.
    let elsewhere = ClaimItem {
        references: vec![Reference {
            kind: "product".to_owned(),
            ..reference(key(0))
        }],
        ..claim(2, 1)
    };
    let link = named(&links).await;
    let granted = granted(&links, &document()).await;
    let found = FoundReference {
        reference: reference(key(0)),
        link,
        target_id: "P1".to_owned(),
    };
    assert_eq!(granted.found_references, [found]);
    assert!(matches!(
        verdict(&links, elsewhere).await,
        ClaimVerdict::Lacks(_)
    ));
    // In conflict it is no record to name.
    sqlx::query("update link set state = 'conflict' where id = $1")
        .bind(link)
        .execute(database.pool())
        .await
        .expect("a conflict");
    let next = ClaimItem {
        references: vec![reference(key(0))],
        ..claim(3, 1)
    };
    assert_eq!(verdict(&links, next).await, lacks);
}

/// Whoever moves the named record is locked out, or seen.
#[tokio::test]
async fn a_reserve_sees_a_reference_that_moves_while_it_waits() {
    let database = testkit::database().await;
    let links = links(&database, LEASE);
    let link = named(&links).await;
    let item = document();
    let grant = granted(&links, &item).await;
    let mut sent = reservation(&item, &grant);
    sent.refers = grant
        .found_references
        .iter()
        .map(SentReference::from)
        .collect();
    let mut moving = database.pool().begin().await.expect("a transaction");
    sqlx::query("update link set target_id = 'P2' where id = $1")
        .bind(link)
        .execute(&mut *moving)
        .await
        .expect("moved");
    let reserving = tokio::spawn({
        let (links, sent) = (links.clone(), sent.clone());
        async move { links.reserve(sent).await.expect("answered") }
    });
    waiting(&database, 1).await;
    moving.commit().await.expect("committed");
    assert_eq!(reserving.await.expect("answered"), Reserved::Moved);
    // Planned anew, with the id that it has now.
    sent.refers[0].target_id = "P2".to_owned();
    let reserved = links.reserve(sent).await.expect("reserved");
    assert!(matches!(reserved, Reserved::Yes(_)), "{reserved:?}");
}

#[tokio::test]
async fn a_link_remembers_what_it_was_sent_with() {
    let database = testkit::database().await;
    let links = links(&database, LEASE);
    let link = named(&links).await;
    let item = document();
    let grant = granted(&links, &item).await;
    let mut sent = reservation(&item, &grant);
    sent.refers = grant
        .found_references
        .iter()
        .map(SentReference::from)
        .collect();
    sent.request = json!({ "refers": sent.refers });
    links.reserve(sent.clone()).await.expect("reserved");
    let done = completion(&sent, "D1".to_owned(), item.natural_keys);
    links.complete(done).await.expect("completed");
    let moved = async || {
        let filter = store::links_read::Filter {
            moved: true,
            ..Default::default()
        };
        let scope = store::Scope::Everything;
        let listed = store::links_read::list(database.pool(), scope, &filter, None, 10).await;
        let listed = listed.expect("a list").into_iter();
        listed.map(|link| link.source_id).collect::<Vec<_>>()
    };
    assert_eq!(moved().await, [""; 0]);
    move_to(&database, link, "P2").await;
    assert_eq!(moved().await, ["r1"]);
    // Its next content names nobody: nothing is left behind.
    let next = claim(1, 2);
    let grant = granted(&links, &next).await;
    let mut sent = reservation(&next, &grant);
    sent.operation = "update";
    links.reserve(sent.clone()).await.expect("reserved");
    let done = completion(&sent, "D1".to_owned(), next.natural_keys);
    links.complete(done).await.expect("completed");
    assert_eq!(moved().await, [""; 0]);
}

/// Makes one record of whatever it gets.
struct Notes;

impl Planner for Notes {
    fn plan(&self, job: &Job, _targets: &mut Targets) -> Result<Plan, String> {
        let mut content = Content::default();
        content.keys.push(NaturalKey::of(["note", &job.event.id]));
        Ok(Plan::Save(content))
    }
}

fn fact(id: &str) -> Job {
    let body = json!({
        "specversion": "1.0", "id": id, "source": format!("urn:kurir:{TENANT}:kurir:probe"), "type": "sync.completed.v1",
        "tenantid": TENANT, "subject": "contact/512", "time": epoch().to_rfc3339(),
        "data": { "link": 1, "entity": "contact", "record_id": "512", "target_system": "metakocka", "connection": "c",
            "target_id": null, "operation": "none" }
    });
    let body = body.to_string();
    let event = event::decode(body.as_bytes()).expect("a fact");
    Job {
        version: None,
        delivery: Arc::new(Delivery {
            body: Bytes::from(body),
            metadata: DeliveryMetadata::default(),
            properties: Value::Null,
            headers: json!({}),
            received: std::time::Instant::now(),
            received_at: epoch(),
        }),
        event: Arc::new(event),
        token: Uuid::new_v4(),
        connection: Some(Arc::new(Connection {
            id: CONNECTION,
            tenant: TenantId::parse(TENANT).expect("a tenant"),
            system: "metakocka".to_owned(),
            account: "default".to_owned(),
            state: ConnectionState::Ok,
            epoch: 1,
            enabled: true,
            settings: Value::Null,
        })),
        facet: Some("note"),
    }
}

/// The same fact is made once, two facts about one record are two.
#[tokio::test]
async fn a_fact_is_a_record_of_its_own() {
    let database = testkit::database().await;
    let links = links(&database, LEASE);
    let claims = LinkClaims::new(links.clone(), Arc::new(Notes), WORKER, "metakocka");
    for id in ["f1", "f2"] {
        let mut verdicts = claims.claim(&[fact(id)], false).await.expect("claimed");
        let Verdict::Granted(grant) = verdicts.remove(0) else {
            panic!("not granted");
        };
        let link = &grant.granted.link;
        assert_eq!((link.kind.as_str(), link.source_id.as_str()), ("note", id));
        let mut sent = reservation(&claim(1, 1), &grant.granted);
        sent.token = grant.token;
        sent.event_id = id.to_owned();
        sent.k = grant.work.intent.k().cloned();
        let reserved = links.reserve(sent.clone()).await.expect("reserved");
        assert!(matches!(reserved, Reserved::Yes(_)), "{reserved:?}");
        let done = completion(&sent, format!("N-{id}"), Vec::new());
        links.complete(done).await.expect("completed");
        let again = claims.claim(&[fact(id)], false).await.expect("claimed");
        let [Verdict::Ack(AckReason::Duplicate)] = again.as_slice() else {
            panic!("made twice: {again:?}");
        };
    }
}

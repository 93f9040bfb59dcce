use std::time::Duration;

use event::{Payload, SyncWhat};
use testkit::{stays, wait_for};
use uuid::Uuid;

use crate::rig::{Parts, Rig, SOON, WORKER};

/// Nobody comes back for this effect: no event, no lease.
async fn forgotten_link(rig: &Rig) -> i64 {
    let link: i64 = sqlx::query_scalar(
        "insert into link (tenant, kind, source_system, source_account, source_id, target_system, connection_id, worker)
         values ('shop', 'contact', 'crm', 'default', '1', 'metakocka', gen_random_uuid(), $1) returning id",
    )
    .bind(WORKER)
    .fetch_one(rig.database.pool())
    .await
    .expect("a link");
    sqlx::query(
        "insert into effect (id, link_id, tenant, source, event_id, generation, operation, state, last, request,
           sent_at, settle_at)
         values ($1, $2, 'shop', 's', 'e', 0, 'create', 'unknown', true, '{}', now(), now())",
    )
    .bind(Uuid::new_v4())
    .bind(link)
    .execute(rig.database.pool())
    .await
    .expect("an effect");
    link
}

#[tokio::test]
async fn janitor_asks_the_worker_for_an_effect_nobody_returns_to() {
    let mut rig = Rig::new().await;
    let link = forgotten_link(&rig).await;
    // Several replicas, several rounds: one request.
    for _ in 0..3 {
        rig.start(Parts {
            relay: true,
            ledger: false,
            janitor: true,
        });
    }
    let queue = rig.queue();
    let request = wait_for("the request is in the worker's queue", SOON, async || {
        rig.theirs
            .take(&queue, 1)
            .await
            .expect("an answer")
            .pop()
            .ok_or("nothing yet")
    })
    .await;
    let event = event::decode(&request.body).expect("a valid event");
    let Payload::SyncRequested(asked) = &event.payload else {
        panic!("{event:?}");
    };
    assert_eq!(
        (asked.worker.as_str(), asked.link, asked.what),
        (WORKER, link, SyncWhat::Resolve)
    );
    assert_eq!(event.tenant.as_str(), "shop");
    assert_eq!(
        request
            .properties
            .message_id()
            .as_ref()
            .map(|id| id.as_str()),
        Some(event.id.as_str())
    );
    stays(
        "no second request",
        Duration::from_secs(2),
        async || rig.theirs.depth(&queue).await.expect("an answer"),
        |depth| *depth == Some(0),
    )
    .await;

    // Asked again with the same id: it is the same request.
    sqlx::query("update janitor_request set asked_at = asked_at - interval '1 hour'")
        .execute(rig.database.pool())
        .await
        .expect("long ago");
    let again = wait_for("the request is repeated", SOON, async || {
        rig.theirs
            .take(&queue, 1)
            .await
            .expect("an answer")
            .pop()
            .ok_or("nothing yet")
    })
    .await;
    assert_eq!(again.body, request.body);
    assert!(rig.readiness.ready(), "{:?}", rig.readiness.problems());
}

#[tokio::test]
async fn janitor_prunes_what_is_old() {
    let mut rig = Rig::new().await;
    sqlx::query(
        "insert into event_pin select 'shop', 's', n::text, '00000000000000000001', now() - interval '91 days'
         from generate_series(1, 12000) n",
    )
    .execute(rig.database.pool())
    .await
    .expect("pins");
    rig.start(Parts {
        relay: false,
        ledger: false,
        janitor: true,
    });
    wait_for("old pins are gone", SOON, async || {
        let left: i64 = sqlx::query_scalar("select count(*) from event_pin")
            .fetch_one(rig.database.pool())
            .await
            .expect("a count");
        if left == 0 { Ok(()) } else { Err(left) }
    })
    .await;
}

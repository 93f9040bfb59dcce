//! Guards in the database that two owners meet (V33, V36).

use std::time::Duration;

use serde_json::{Value, json};
use simulators::metakocka::{Call, CommitPoint, Fault, LateAnswer};
use testkit::{Contacts, stays, wait_for, wait_until};
use uuid::Uuid;

use crate::fleet::{Fate, Fleet, SOON, TENANT, plain, ready, rename};

/// Long enough for an insert that does not wait.
const AT_ONCE: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
async fn insert_sent_waits_for_a_concurrent_claim() {
    let fleet = Fleet::start().await;
    let worker = fleet.working().await;
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let event = contact.created();
    fleet.publish(&event).await;
    fleet.ends([worker], [&event]).await;
    let link = fleet.link(contact.id()).await.unwrap().id;
    let (mine, theirs) = (Uuid::new_v4(), Uuid::new_v4());
    let lease = "update link set lease_token = $1, lease_until = clock_timestamp() + interval '1 hour' where id = $2";
    sqlx::query(lease)
        .bind(mine)
        .bind(link)
        .execute(fleet.database.pool())
        .await
        .unwrap();

    // A claim by somebody else, not committed yet.
    let mut claim = fleet.database.pool().begin().await.unwrap();
    sqlx::query(lease)
        .bind(theirs)
        .bind(link)
        .execute(&mut *claim)
        .await
        .unwrap();
    let pool = fleet.database.pool().clone();
    let item = json!([{"idx": 0, "effect": Uuid::new_v4(), "link": link, "token": mine, "source": "s", "event_id": "e",
        "generation": 0, "k": null, "operation": "update", "last": true, "request": {}, "target_id": "1",
        "settle_ms": 1000}]);
    let insert = tokio::spawn(async move {
        sqlx::query_scalar::<_, String>("select verdict from reserve_effects($1)")
            .bind(item)
            .fetch_one(&pool)
            .await
            .unwrap()
    });
    stays(
        "the insert waits",
        AT_ONCE,
        async || insert.is_finished(),
        |finished| !finished,
    )
    .await;
    claim.commit().await.unwrap();
    assert_eq!(insert.await.unwrap(), "lost");
    assert_eq!(
        fleet
            .count("select count(*) from effect where event_id = 'e'")
            .await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_recheck_raises_no_conflict() {
    let fleet = Fleet::start().await;
    let patient = fleet
        .narrow_worker()
        .setting("metakocka.read_timeout_seconds", 30);
    let (frozen, keeper) = tokio::join!(ready(patient), fleet.keeping());
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    // Its last attempt; the partner stores the create only after it was given up.
    let late = Fault::CommitLate {
        after_ms: 3_000,
        answer: LateAnswer::Error,
    };
    fleet.fault_on(Call::AddPartner, late);
    let first = contact.created();
    fleet.publish_copy(&first, &[("x-attempt", 12)]).await;
    fleet.becomes(&first, Fate::Dead).await;
    fleet.effects_settle().await;
    fleet
        .effect("abandoned", |effect| effect.state == "abandoned")
        .await;
    wait_until(
        "the late commit",
        SOON,
        async || fleet.partners().len(),
        |partners| *partners == 1,
    )
    .await;

    // The re-check sees one record and a link without a target, and stands still before it says so.
    let looks = fleet.calls(Call::GetPartner);
    let slow = Fault::Slow {
        ms: 1_000,
        commit: CommitPoint::AtOnce,
    };
    for _ in 0..2 {
        fleet.fault_on(Call::GetPartner, slow.clone());
    }
    fleet.recheck_now().await;
    fleet.called(Call::GetPartner, looks + 1).await;
    frozen.freeze().await;
    fleet.leases_end().await;
    fleet.simulator.clear_faults();
    let worker = fleet.working().await;
    let second = rename(&mut contact);
    fleet.publish(&second).await;
    fleet.becomes(&second, Fate::Covered).await;
    frozen.thaw();
    let requests = |event: &str| {
        frozen.count_lines(|line| line.contains("\"settling\"") && line.contains(event))
    };
    wait_for("the re-check's end", SOON, async || {
        match requests("sync.requested") {
            settled if settled >= 2 => Ok(()),
            settled => Err((settled, fleet.story().await)),
        }
    })
    .await;
    let events: [&Value; 2] = [&first, &second];
    fleet.ends([worker, keeper, frozen], events).await;
    fleet.has_one(&contact).await;
    assert_eq!(fleet.calls(Call::AddPartner), 1);
}

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use event::VersionScheme;
use store::pins::EventPins;
use store::pruning::{prune_pins, prune_requests};
use testkit::database;
use worker::{PinItem, Pins};

use crate::rows::{count, pool, tenant};

fn item(event_id: &str, seconds: i64) -> PinItem {
    PinItem {
        tenant: tenant("shop"),
        source: "urn:crm".to_owned(),
        event_id: event_id.to_owned(),
        received_at: chrono::DateTime::from_timestamp(1_800_000_000 + seconds, 0)
            .expect("an instant"),
    }
}

#[tokio::test]
async fn late_copy_keeps_its_first_version() {
    let database = database().await;
    let pins = EventPins::start(pool(&database).await).await.expect("pins");
    let first = pins
        .pin(vec![item("a", 0), item("b", 5)])
        .await
        .expect("pinned");
    let later = pins
        .pin(vec![item("b", 900), item("c", 901), item("a", 902)])
        .await
        .expect("pinned");
    assert_eq!(first[0].as_str(), "00001800000000000000");
    assert_eq!((&later[0], &later[2]), (&first[1], &first[0]));
    assert_eq!(later[1].as_str(), "00001800000901000000");
    // Copies in one batch agree on the earliest.
    let batch = pins
        .pin(vec![item("d", 9), item("d", 8), item("d", 10)])
        .await
        .expect("pinned");
    assert!(
        batch
            .iter()
            .all(|version| version.as_str() == "00001800000008000000"),
        "{batch:?}"
    );
    assert!(pins.pin(Vec::new()).await.expect("nothing").is_empty());
}

#[tokio::test]
async fn processes_that_pin_at_once_agree() {
    let database = database().await;
    let pool = pool(&database).await;
    let (one, other) = (
        EventPins::start(pool.clone()).await.expect("pins"),
        EventPins::start(pool.clone()).await.expect("pins"),
    );
    for round in 0..20 {
        let ids: Vec<String> = (0..10).map(|n| format!("{round}-{n}")).collect();
        let forth = ids.iter().map(|id| item(id, 1)).collect();
        let back = ids.iter().rev().map(|id| item(id, 2)).collect();
        let (first, second) = tokio::join!(one.pin(forth), other.pin(back));
        let (first, mut second) = (first.expect("pinned"), second.expect("pinned"));
        second.reverse();
        assert_eq!(first, second, "round {round}");
    }
}

#[tokio::test]
async fn a_source_keeps_the_scheme_of_its_first_event() {
    let database = database().await;
    let pool = pool(&database).await;
    let pins = EventPins::start(pool.clone()).await.expect("pins");
    let (shop, bakery) = (tenant("shop"), tenant("bakery"));
    let check = |tenant, scheme| pins.check_scheme(tenant, "urn:crm", scheme);
    assert_eq!(
        check(&shop, VersionScheme::Revision).await.expect("pinned"),
        VersionScheme::Revision
    );
    assert_eq!(
        check(&shop, VersionScheme::Time).await.expect("known"),
        VersionScheme::Revision
    );
    assert_eq!(
        check(&bakery, VersionScheme::Time).await.expect("pinned"),
        VersionScheme::Time
    );
    let restarted = EventPins::start(pool).await.expect("pins");
    let answer = restarted
        .check_scheme(&shop, "urn:crm", VersionScheme::Time)
        .await
        .expect("known");
    assert_eq!(answer, VersionScheme::Revision);
}

#[tokio::test]
async fn the_clock_is_the_databases() {
    let database = database().await;
    let ahead = format!("{}?options=-c%20kurir.now%3D2030-01-01", database.url());
    let settings = store::Settings::new(secrecy::SecretString::from(ahead));
    let pool = store::connect(&settings, Duration::from_secs(5))
        .await
        .expect("a pool");
    let pins = EventPins::start(pool).await.expect("pins");
    let theirs: chrono::DateTime<Utc> = "2030-01-01T00:00:00Z".parse().expect("an instant");
    assert!(
        (pins.now() - theirs).abs() < TimeDelta::seconds(30),
        "{}",
        pins.now()
    );
}

#[tokio::test]
async fn old_pins_and_notes_are_pruned_and_young_ones_stay() {
    let database = database().await;
    let pool = pool(&database).await;
    sqlx::query(
        "insert into event_pin select 'shop', 'urn:crm', n::text, '00000000000000000001', now() - n * interval '30 days'
         from generate_series(1, 5) n",
    )
    .execute(&pool)
    .await
    .expect("pins");
    sqlx::query(
        "insert into janitor_request select n, 'resolve', now(), now() - n * interval '5 days' from generate_series(1, 2) n",
    )
    .execute(&pool)
    .await
    .expect("notes");
    assert_eq!(prune_pins(&pool).await.expect("pruned"), 3);
    assert_eq!(prune_pins(&pool).await.expect("pruned"), 0);
    assert_eq!(prune_requests(&pool).await.expect("pruned"), 1);
    assert_eq!(
        (
            count(&pool, "event_pin").await,
            count(&pool, "janitor_request").await
        ),
        (2, 1)
    );
}

//! What only Postgres itself can show: who waits for whom, and what is decided after the wait (V33 and V21 of docs/tests.md,
//! docs/decisions/0002); batches that never block each other; receipts that are pinned (V13).

use std::time::Duration;

use event::{OrderKey, SubjectVersion, TenantId};
use rand::SeedableRng as _;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use serde_json::json;
use sqlx::PgPool;
use store::links::{
    ClaimItem, ClaimVerdict, Completed, Completion, DeadItem, Granted, LinkKey, Links, Recorded,
    Reservation, Reserved, dead_id,
};
use store::pins::EventPins;
use testkit::{Database, wait_until};
use uuid::Uuid;
use worker::{PinItem, Pins as _};

use crate::lab::{Lab as _, MAIL, OnPostgres};
use crate::schedules::content;
use crate::sim_store::WORKER;
use crate::world::{CONNECTION, SOURCE, SimEvent, TENANT, epoch};

/// A statement that waits for a lock is seen waiting within this.
const SEEN_WAITING: Duration = Duration::from_secs(10);
const SETTLE: Duration = Duration::from_secs(75);
/// A lease that has ended when the next statement runs.
const ENDED: Duration = Duration::ZERO;
pub(crate) const LEASE: Duration = Duration::from_secs(30);

pub(crate) fn links(database: &Database, lease: Duration) -> Links {
    let pool = PgPool::connect_lazy(database.url()).expect("a pool");
    Links::new(pool, "kurir", lease)
}

pub(crate) fn key(record: usize) -> LinkKey {
    LinkKey {
        tenant: TENANT.into(),
        kind: "contact".into(),
        source_system: "crm".into(),
        source_account: "default".into(),
        source_id: format!("r{record}"),
        target_system: "metakocka".into(),
        connection_id: CONNECTION,
    }
}

fn k(version: i64, event: &str) -> OrderKey {
    OrderKey::new(&SubjectVersion::from_micros(version), false, event, 0)
}

pub(crate) fn claim(record: usize, version: i64) -> ClaimItem {
    let event = format!("r{record}v{version}");
    ClaimItem {
        link: Ok(key(record)),
        tenant: TENANT.into(),
        k: Some(k(version, &event)),
        source: SOURCE.into(),
        event_id: event,
        generation: 0,
        token: Uuid::new_v4(),
        natural_keys: vec![format!("email|r{record}@x")],
        event_type: "crm.contact.updated.v1".into(),
        subject: "contact/1".into(),
        body: b"{}".to_vec(),
        properties: json!({}),
        headers: json!({}),
        facet: None,
        claim_as: None,
        content: None,
        references: Vec::new(),
        later: false,
    }
}

fn request(link: i64) -> ClaimItem {
    ClaimItem {
        link: Err(link),
        k: None,
        natural_keys: Vec::new(),
        claim_as: Some("recheck".into()),
        content: None,
        ..claim(0, 0)
    }
}

pub(crate) fn reservation(item: &ClaimItem, granted: &Granted) -> Reservation {
    Reservation {
        refers: Vec::new(),
        effect: Uuid::now_v7(),
        link: granted.link.id,
        token: item.token,
        source: item.source.clone(),
        event_id: item.event_id.clone(),
        generation: 0,
        k: item.k.clone(),
        operation: "create",
        last: true,
        request: json!({}),
        target_id: None,
        settle: SETTLE,
    }
}

pub(crate) fn completion(
    reservation: &Reservation,
    target: String,
    keys: Vec<String>,
) -> Completion {
    Completion {
        outcome: None,
        effect: reservation.effect,
        link: reservation.link,
        token: reservation.token,
        target_id: Some(target),
        base: json!({}),
        parts: json!({}),
        natural_keys: Some(keys),
        what: "created".into(),
        note: json!({}),
        keep_lease: false,
        answered: true,
    }
}

fn death(record: usize, version: i64) -> DeadItem {
    let of = claim(record, version);
    let key = key(record);
    DeadItem {
        outcome: None,
        dead_id: dead_id(WORKER, TENANT, SOURCE, &of.event_id, Some(CONNECTION), None),
        worker: WORKER.into(),
        target_system: key.target_system,
        tenant: Some(TENANT.into()),
        connection_id: Some(CONNECTION),
        link_id: None,
        kind: Some(key.kind),
        source_system: Some(key.source_system),
        source_account: Some(key.source_account),
        source_id: Some(key.source_id),
        k: of.k,
        source: Some(SOURCE.into()),
        event_id: Some(of.event_id),
        event_type: Some(of.event_type),
        subject: Some(of.subject),
        generation: 0,
        attempt: 1,
        class: "refused".into(),
        fingerprint: "refused".into(),
        message: None,
        trace_id: None,
        at: chrono::Utc::now(),
        body: of.body,
        properties: of.properties,
        headers: of.headers,
    }
}

pub(crate) async fn granted(links: &Links, item: &ClaimItem) -> Box<Granted> {
    let verdict = links
        .claim(WORKER, vec![item.clone()], false)
        .await
        .expect("claimed")
        .remove(0);
    match verdict {
        ClaimVerdict::Granted(granted) => granted,
        other => panic!("not granted: {other:?}"),
    }
}

/// So many statements of this database wait for a lock.
pub(crate) async fn waiting(database: &Database, count: i64) {
    let look = async || -> i64 {
        sqlx::query_scalar(
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
        )
        .fetch_one(database.pool())
        .await
        .expect("activity")
    };
    wait_until(
        "statements wait for the link's lock",
        SEEN_WAITING,
        look,
        |seen| *seen == count,
    )
    .await;
}

/// V33: w0 has a lease that is ending. While somebody holds the link's row, w1's claim waits for it, and behind that
/// w0's insert straight to `sent`. It must read the token after the claim, not before.
#[tokio::test]
async fn insert_sent_waits_for_a_concurrent_claim() {
    let database = testkit::database().await;
    let (w0, w1) = (links(&database, ENDED), links(&database, LEASE));
    let first = claim(0, 1);
    let mine = granted(&w0, &first).await;
    let mut gate = database.pool().begin().await.expect("a transaction");
    sqlx::query("select 1 from link where id = $1 for update")
        .bind(mine.link.id)
        .execute(&mut *gate)
        .await
        .expect("locked");
    let claiming = tokio::spawn({
        let (w1, second) = (w1.clone(), claim(0, 2));
        async move { granted(&w1, &second).await }
    });
    waiting(&database, 1).await;
    let reserving = tokio::spawn({
        let (w0, item) = (w0.clone(), reservation(&first, &mine));
        async move { w0.reserve(item).await.expect("reserved") }
    });
    waiting(&database, 2).await;
    gate.commit().await.expect("committed");
    let theirs = claiming.await.expect("claimed");
    assert_eq!(theirs.open, None, "w1 has seen no effect");
    assert_eq!(reserving.await.expect("answered"), Reserved::Lost);
    let effects: i64 = sqlx::query_scalar("select count(*) from effect")
        .fetch_one(database.pool())
        .await
        .expect("counted");
    assert_eq!(effects, 0);
}

/// V21, on the lock: the copy of v3 claims while v3 is being recorded. It waits, and must then see the dead letter that
/// was not there when it began.
#[tokio::test]
async fn stale_copy_of_a_dead_version_is_acknowledged_while_it_is_being_recorded() {
    let database = testkit::database().await;
    let (ledger, worker) = (links(&database, LEASE), links(&database, LEASE));
    let first = claim(0, 3);
    let link = granted(&worker, &first).await.link.id;
    worker
        .release(&[first.token], &[None], &[None])
        .await
        .expect("given back");
    let mut gate = database.pool().begin().await.expect("a transaction");
    sqlx::query("select 1 from link where id = $1 for update")
        .bind(link)
        .execute(&mut *gate)
        .await
        .expect("locked");
    let recording = tokio::spawn(async move {
        ledger
            .record_dead_letters(vec![death(0, 3)])
            .await
            .expect("recorded")
    });
    waiting(&database, 1).await;
    let claiming = tokio::spawn(async move {
        worker
            .claim(WORKER, vec![claim(0, 3)], false)
            .await
            .expect("claimed")
    });
    waiting(&database, 2).await;
    gate.commit().await.expect("committed");
    assert_eq!(recording.await.expect("recorded"), [Recorded::Open]);
    assert_eq!(claiming.await.expect("claimed"), [ClaimVerdict::Stale]);
    let desired: Option<Vec<u8>> = sqlx::query_scalar("select desired_k from link where id = $1")
        .bind(link)
        .fetch_one(database.pool())
        .await
        .expect("the link");
    assert_eq!(desired, None, "nothing wants v3 any more");
}

/// What one item of a batch changes, the next one sees: the same link twice, one natural key and one target of two links,
/// one effect answered twice.
#[tokio::test]
async fn items_of_one_batch_see_each_other() {
    let database = testkit::database().await;
    let links = links(&database, LEASE);
    let shared = || vec!["email|shared@x".to_owned()];
    let keyed = |record, version| ClaimItem {
        natural_keys: shared(),
        ..claim(record, version)
    };
    let items = vec![keyed(1, 1), keyed(0, 1), claim(0, 2), keyed(2, 1)];
    let mut verdicts = links
        .claim(WORKER, items.clone(), false)
        .await
        .expect("claimed");
    assert_eq!(verdicts[1], ClaimVerdict::Superseded);
    let last = verdicts.pop().expect("four");
    let (ClaimVerdict::Granted(last), ClaimVerdict::Granted(first)) = (last, verdicts.remove(0))
    else {
        panic!("{verdicts:?}");
    };
    // Links are made and keys are taken in the order of the records.
    assert_eq!(first.keys_taken, []);
    let taken: Vec<i64> = last.keys_taken.iter().map(|taken| taken.link).collect();
    assert_eq!(taken, [first.link.id]);

    let one = reservation(&items[0], &first);
    let other = reservation(&items[3], &last);
    let rival = Reservation {
        effect: Uuid::now_v7(),
        ..one.clone()
    };
    let (made, open, also_made) = tokio::join!(
        links.reserve(one.clone()),
        links.reserve(rival),
        links.reserve(other.clone()),
    );
    assert!(matches!(made, Ok(Reserved::Yes(_))), "{made:?}");
    assert_eq!(open.expect("answered"), Reserved::Open);
    assert!(matches!(also_made, Ok(Reserved::Yes(_))), "{also_made:?}");
    let target = || "p1".to_owned();
    let (ended, twice, conflict) = tokio::join!(
        links.complete(completion(&one, target(), shared())),
        links.complete(completion(&one, target(), shared())),
        links.complete(completion(&other, target(), Vec::new())),
    );
    assert_eq!(ended.expect("completed"), Completed::Ended);
    let Completed::Elsewhere(now) = twice.expect("completed") else {
        panic!("an effect ends once");
    };
    assert_eq!(now.link.applied_k, items[0].k);
    let Completed::Confirmed(now) = conflict.expect("completed") else {
        panic!("the target was taken");
    };
    assert_eq!(now.link.state, "conflict");
    assert_eq!(now.link.target_id, None);
}

/// Batches in any order, of links that overlap, with requests by id, completions, deaths and renewals between them:
/// none is ever ended by Postgres because it blocks another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn batches_never_block_each_other() {
    const RECORDS: usize = 6;
    const ROUNDS: i64 = 60;
    const WORKERS: i64 = 4;
    let database = testkit::database().await;
    // Made in the order of their names backwards, so that ids and names disagree.
    let maker = links(&database, ENDED);
    for record in (0..RECORDS).rev() {
        let item = claim(record, 0);
        granted(&maker, &item).await;
        maker
            .release(&[item.token], &[None], &[None])
            .await
            .expect("given back");
    }
    let work = (0..WORKERS).map(|worker| {
        let links = links(&database, if worker % 2 == 0 { ENDED } else { LEASE });
        tokio::spawn(async move {
            let mut dice = rand::rngs::StdRng::seed_from_u64(u64::try_from(worker).expect("small"));
            for round in 1..=ROUNDS {
                let key = |record: usize| {
                    format!(
                        "email|{}@x",
                        (record + usize::try_from(round).expect("small")) % 4
                    )
                };
                let mut items: Vec<ClaimItem> = (0..RECORDS)
                    .map(|record| ClaimItem {
                        natural_keys: vec![key(record)],
                        ..claim(record, round * WORKERS + worker)
                    })
                    .collect();
                let requests = (1..=i64::try_from(RECORDS).expect("small")).map(request);
                items.extend(requests);
                items.shuffle(&mut dice);
                items.truncate(5);
                let verdicts = links.claim(WORKER, items.clone(), true).await?;
                let mut done = Vec::new();
                let (mut tokens, mut held) = (Vec::new(), Vec::new());
                for (item, verdict) in items.iter().zip(verdicts) {
                    let ClaimVerdict::Granted(granted) = verdict else {
                        continue;
                    };
                    tokens.push(item.token);
                    held.push(Some(granted.link.id));
                    if item.k.is_some() && granted.open.is_none() {
                        done.push(reservation(item, &granted));
                    }
                }
                links.renew(&tokens, &held).await?;
                let effects = done.iter().map(|reservation| async {
                    if let Reserved::Yes(_) = links.reserve(reservation.clone()).await? {
                        let target = format!("p{}", reservation.link);
                        // Its own key goes, for others to take.
                        links
                            .complete(completion(reservation, target, Vec::new()))
                            .await?;
                    }
                    Ok::<_, store::Error>(())
                });
                for result in futures_util::future::join_all(effects).await {
                    result?;
                }
                let dead: Vec<DeadItem> = (0..RECORDS)
                    .collect::<Vec<_>>()
                    .choose_multiple(&mut dice, 2)
                    .map(|record| death(*record, round * WORKERS + worker))
                    .collect();
                links.record_dead_letters(dead).await?;
                let none = vec![None; tokens.len()];
                links.release(&tokens, &held, &none).await?;
            }
            Ok::<_, store::Error>(())
        })
    });
    for worker in futures_util::future::join_all(work).await {
        if let Err(error) = worker.expect("no panic") {
            panic!("{}", error.with_causes());
        }
    }
}

async fn pinned(pins: &EventPins, event: &str, seconds: i64) -> u64 {
    let item = PinItem {
        tenant: TenantId::parse(TENANT).expect("a tenant's id"),
        source: SOURCE.into(),
        event_id: event.into(),
        received_at: epoch() + chrono::TimeDelta::seconds(seconds),
    };
    let version = pins.pin(vec![item]).await.expect("pinned").remove(0);
    let micros = version.as_micros().expect("a time");
    u64::try_from(micros / 1_000_000).expect("after 1970")
}

fn received(id: &str, name: &str, version: u64) -> SimEvent {
    SimEvent {
        version: Some(version),
        ..crate::schedules::event(id, 0, 0, content(name, MAIL, &[]))
    }
}

/// V13: in the order of their first receipts, whichever is handled first.
#[tokio::test]
async fn missing_time_is_pinned_at_first_receipt() {
    let lab = OnPostgres::new().await;
    let pins = EventPins::start(lab.pool().clone()).await.expect("pins");
    let n2 = received("n2", "second", pinned(&pins, "n2", 5).await);
    // Its process died after the receipt; it comes again much later.
    let _first = pinned(&pins, "n1", 0).await;
    let n1 = received("n1", "first", pinned(&pins, "n1", 100).await);
    let mut world = lab.world(vec![n1, n2]).await;
    for event in ["n2", "n1"] {
        world.arrives(event);
        world.rest().await;
    }
    assert_eq!(world.verdicts("n1"), ["Duplicate"]);
    world.ends_with("n2").await;
}

/// V13
#[tokio::test]
async fn late_copy_keeps_its_first_version() {
    let lab = OnPostgres::new().await;
    let pins = EventPins::start(lab.pool().clone()).await.expect("pins");
    let n1 = received("n1", "first", pinned(&pins, "n1", 0).await);
    let n2 = received("n2", "second", pinned(&pins, "n2", 5).await);
    let late = received("n1", "first", pinned(&pins, "n1", 100).await);
    assert_eq!(late.version, n1.version);
    let mut world = lab.world(vec![n1, n2, late]).await;
    for event in [0, 1, 2] {
        world.publish(event);
        world.rest().await;
    }
    assert_eq!(world.verdicts("n1"), ["Duplicate"]);
    world.ends_with("n2").await;
}

/// Two workers may lead to one system: a record is carried by the one that began.
#[tokio::test]
async fn a_link_is_claimed_only_by_the_worker_that_owns_it() {
    let database = testkit::database().await;
    let links = links(&database, LEASE);
    let first = links.claim(WORKER, vec![claim(1, 1)], false).await.unwrap();
    assert!(matches!(first[..], [ClaimVerdict::Granted(_)]), "{first:?}");
    let owner = ClaimVerdict::NotYours {
        owner: WORKER.to_owned(),
    };
    let ClaimVerdict::Granted(granted) = &first[0] else {
        unreachable!()
    };
    let of_another = vec![claim(1, 2), request(granted.link.id), claim(2, 1)];
    let answers = links.claim("another", of_another, false).await.unwrap();
    assert_eq!(answers[..2], [owner.clone(), owner]);
    assert!(
        matches!(answers[2], ClaimVerdict::Granted(_)),
        "{answers:?}"
    );
    let desired: Vec<u8> = sqlx::query_scalar("select desired_k from link where id = $1")
        .bind(granted.link.id)
        .fetch_one(database.pool())
        .await
        .unwrap();
    assert_eq!(desired, k(1, "r1v1").as_bytes());
}

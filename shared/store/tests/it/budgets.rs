//! Permits of several processes on one account: nothing beyond the budget, little below it, and few statements for it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use event::TenantId;
use serde_json::json;
use store::Pool;
use store::budgets::{Budgets, Settings};
use uuid::Uuid;
use worker::budget::{BudgetSpec, Window};
use worker::{Budgets as _, Connection, ConnectionState};

const CIRCUIT: Duration = Duration::from_millis(300);

async fn connection(pool: &Pool, tenant: &str) -> Connection {
    let id = Uuid::new_v4();
    sqlx::query("insert into tenant (id) values ($1) on conflict do nothing")
        .bind(tenant)
        .execute(pool)
        .await
        .unwrap();
    sqlx::query("insert into connection (id, tenant, system, account, sealed, key_id) values ($1, $2, 'metakocka', $1::text, '', 'k1')")
        .bind(id)
        .bind(tenant)
        .execute(pool)
        .await
        .unwrap();
    Connection {
        id,
        tenant: TenantId::parse(tenant).unwrap(),
        system: "metakocka".to_owned(),
        account: id.to_string(),
        state: ConnectionState::Ok,
        epoch: 1,
        enabled: true,
        settings: json!({}),
    }
}

fn spec(requests: u32, seconds: u64, in_flight: u32) -> BudgetSpec {
    BudgetSpec {
        windows: vec![Window {
            requests,
            per: Duration::from_secs(seconds),
            burst: None,
        }],
        in_flight,
        searches: 1,
    }
}

fn replica(pool: &Pool, spec: &BudgetSpec) -> Budgets {
    Budgets::start(
        pool.clone(),
        Settings {
            defaults: [("metakocka".to_owned(), spec.clone())].into(),
            circuit_open: CIRCUIT,
        },
    )
}

/// Instants of the calls that so many replicas with eight callers each make in this time, and the most at once.
async fn storm(
    pool: &Pool,
    connection: &Connection,
    spec: &BudgetSpec,
    replicas: usize,
    lasting: Duration,
) -> (Vec<Instant>, usize) {
    let begun = Instant::now();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut callers = Vec::new();
    let replicas: Vec<Budgets> = (0..replicas).map(|_| replica(pool, spec)).collect();
    for budgets in &replicas {
        let permit_pool = budgets.permit_pool(connection);
        for _ in 0..8 {
            let (permit_pool, now, most) = (
                Arc::clone(&permit_pool),
                Arc::clone(&now),
                Arc::clone(&most),
            );
            callers.push(tokio::spawn(async move {
                let mut calls = Vec::new();
                while begun.elapsed() < lasting {
                    let give_up = Instant::now() + Duration::from_secs(1);
                    if let Ok(permit) = permit_pool.enter("call", false, give_up).await {
                        calls.push(Instant::now());
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        now.fetch_sub(1, Ordering::SeqCst);
                        drop(permit);
                    }
                }
                calls
            }));
        }
    }
    let mut calls = Vec::new();
    for caller in callers {
        calls.extend(caller.await.unwrap());
    }
    calls.sort();
    (calls, most.load(Ordering::SeqCst))
}

fn most_in(calls: &[Instant], span: Duration) -> usize {
    let within = |at: Instant| calls.partition_point(|call| *call < at + span);
    let counts = calls
        .iter()
        .enumerate()
        .map(|(first, at)| within(*at) - first);
    counts.max().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn four_replicas_never_pass_a_window() {
    let database = testkit::database().await;
    let pool = database.pool();
    let connection = connection(pool, "acme").await;
    let spec = spec(100, 2, 6);
    let lasting = Duration::from_secs(6);
    let (calls, at_once) = storm(pool, &connection, &spec, 4, lasting).await;
    let most = most_in(&calls, Duration::from_secs(2));
    assert!(most <= 100, "{most} within two seconds");
    assert!(at_once <= 6, "{at_once} at once");
    let bucket = spec.windows[0].bucket();
    let allowed = lasting.as_secs_f64() / bucket.gap.as_secs_f64();
    let used = calls.len() as f64 / allowed;
    // How close it comes is measured by the load tests; a busy machine must not fail here.
    assert!(used > 0.5, "only {used} of what could be used");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_replica_had_in_flight_comes_back() {
    let database = testkit::database().await;
    let pool = database.pool();
    let connection = connection(pool, "acme").await;
    let spec = spec(24_000, 60, 1);
    let (dies, lives) = (replica(pool, &spec), replica(pool, &spec));
    let give_up = || Instant::now() + Duration::from_secs(20);
    let held = dies
        .permit_pool(&connection)
        .enter("call", false, give_up())
        .await
        .unwrap();
    // Without a word, as by kill -9: nobody tells the account that the call has ended.
    drop(dies);
    let began = Instant::now();
    let permit = lives
        .permit_pool(&connection)
        .enter("call", false, give_up())
        .await;
    assert!(permit.is_ok(), "after {:?}: {permit:?}", began.elapsed());
    // Not while the account may still believe in the other one.
    assert!(
        began.elapsed() > Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn few_statements_lease_many_permits() {
    let database = testkit::database().await;
    let pool = database.pool();
    let connection = connection(pool, "acme").await;
    // 400 a second.
    let spec = spec(24_000, 60, 100);
    let account = async || -> (i64, i64) {
        sqlx::query_as("select asked, leased - returned from budget")
            .fetch_one(pool)
            .await
            .unwrap()
    };
    // The first permits come at once and with several questions; what counts is the steady state.
    let steady = async {
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        account().await
    };
    let lasting = Duration::from_millis(6_500);
    let ((calls, _), before) = tokio::join!(storm(pool, &connection, &spec, 4, lasting), steady);
    let after = account().await;
    assert!(
        after.1 >= calls.len() as i64,
        "{after:?} for {} calls",
        calls.len()
    );
    let share = (after.0 - before.0) as f64 / (after.1 - before.1) as f64;
    // The share itself is measured by the load tests.
    assert!(share < 0.1, "{share}: from {before:?} to {after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_comes_later_gets_its_share_of_the_calls_in_flight() {
    let database = testkit::database().await;
    let pool = database.pool();
    let connection = connection(pool, "acme").await;
    let spec = BudgetSpec {
        windows: Vec::new(),
        in_flight: 1,
        searches: 1,
    };
    let (one, other) = (replica(pool, &spec), replica(pool, &spec));
    let busy = one.permit_pool(&connection);
    let hog = tokio::spawn(async move {
        loop {
            let give_up = Instant::now() + Duration::from_secs(1);
            if let Ok(permit) = busy.enter("call", false, give_up).await {
                tokio::time::sleep(Duration::from_millis(20)).await;
                drop(permit);
            }
        }
    });
    let late = other.permit_pool(&connection);
    let give_up = Instant::now() + Duration::from_secs(20);
    let turn = late.enter("call", false, give_up).await;
    assert!(turn.is_ok(), "{turn:?}");
    hog.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrived_is_told_also_where_nothing_else_is_asked() {
    let database = testkit::database().await;
    let pool = database.pool();
    let connection = connection(pool, "acme").await;
    let mut transaction = pool.begin().await.unwrap();
    let allowed = store::budgets::allowance(&mut transaction, "acme", connection.id)
        .await
        .unwrap();
    assert!(allowed > 1);
    store::budgets::let_go(&mut transaction, connection.id, 2)
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    // As at the gate of a worker that has just been started, where both are held again: nobody wants a permit.
    let budgets = replica(pool, &spec(100, 60, 6));
    let permit_pool = budgets.permit_pool(&connection);
    permit_pool.begun();
    permit_pool.begun();
    let underway = async || -> i64 {
        sqlx::query_scalar("select released - begun from budget")
            .fetch_one(pool)
            .await
            .unwrap()
    };
    let since = Instant::now();
    while underway().await > 0 {
        assert!(since.elapsed() < Duration::from_secs(30), "never told");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A worker died with what it was sent: the others of the connection do not wait for it for long, and never at once.
#[tokio::test(flavor = "multi_thread")]
async fn what_never_arrives_is_given_up_after_ten_seconds() {
    let database = testkit::database().await;
    let pool = database.pool();
    let connection = connection(pool, "acme").await;
    let mut account = pool.acquire().await.unwrap();
    let at = async |account: &mut sqlx::PgConnection, second: u32| -> i64 {
        sqlx::query("select set_config('kurir.now', $1, false)")
            .bind(format!("2026-11-21 12:00:{second:02}+00"))
            .execute(&mut *account)
            .await
            .unwrap();
        store::budgets::allowance(account, "acme", connection.id)
            .await
            .unwrap()
    };
    let all = at(&mut account, 0).await;
    assert!(all > 0);
    store::budgets::let_go(&mut account, connection.id, all.unsigned_abs())
        .await
        .unwrap();
    assert_eq!(at(&mut account, 9).await, 0);
    assert_eq!(at(&mut account, 11).await, all);
    store::budgets::let_go(&mut account, connection.id, all.unsigned_abs())
        .await
        .unwrap();
    assert_eq!(at(&mut account, 20).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_its_tenants_alone() {
    let database = testkit::database().await;
    let pool = database.pool();
    let mine = connection(pool, "acme").await;
    let spec = spec(100, 2, 6);
    let budgets = replica(pool, &spec);
    // Another tenant's process that names our connection.
    let theirs = Connection {
        tenant: TenantId::parse("other").unwrap(),
        ..mine.clone()
    };
    let permit_pool = budgets.permit_pool(&theirs);
    let refused = permit_pool
        .enter("call", false, Instant::now() + Duration::from_millis(500))
        .await;
    assert!(refused.is_err());
    let other = TenantId::parse("other").unwrap();
    let listed = store::budgets::list(pool, store::Scope::Tenant(&other), None, 10)
        .await
        .unwrap();
    assert_eq!(listed, []);
    let set = store::budgets::set(
        pool,
        store::Scope::Tenant(&other),
        mine.id,
        Some(&json!({ "in_flight": 99 })),
    )
    .await;
    assert!(set.is_err());
    let allowance =
        store::budgets::allowance(&mut pool.acquire().await.unwrap(), "other", mine.id).await;
    assert_eq!(allowance.unwrap(), 0);
}

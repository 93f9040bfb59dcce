use std::sync::Arc;
use std::time::{Duration, Instant};

use event::TenantId;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn spec(windows: &[(u32, u64, Option<u32>)], in_flight: u32) -> BudgetSpec {
    let windows = windows
        .iter()
        .map(|(requests, seconds, burst)| Window {
            requests: *requests,
            per: Duration::from_secs(*seconds),
            burst: *burst,
        })
        .collect();
    BudgetSpec {
        windows,
        in_flight,
        searches: 1,
    }
}

fn permit_pool(spec: BudgetSpec) -> Arc<PermitPool> {
    let tenant = TenantId::parse("acme").unwrap();
    Arc::new(PermitPool::new(
        Uuid::nil(),
        tenant,
        spec,
        SECOND,
        Signals::default(),
    ))
}

fn grant(permit_pool: &PermitPool, granted: u32, slots: u32) -> Ask {
    let asked = permit_pool.ask().expect("there is something to ask");
    let answer = Answer {
        connection: asked.connection,
        granted,
        wait: Duration::ZERO,
        slots,
        searches: 1,
        cooldown: None,
        reason: None,
        backlog: false,
        circuits: Vec::new(),
        rivals: 0,
    };
    permit_pool.answered(&asked, &answer);
    asked
}

fn go(permit_pool: &Arc<PermitPool>) -> Option<Admitted> {
    match permit_pool.admit(false) {
        Admission::Go(admitted) => Some(admitted),
        Admission::Soon | Admission::Unknown | Admission::Later { .. } => None,
    }
}

/// Whoever takes permits as fast as the bucket gives them, and uses each at the worst moment of its life, stays within
/// the window wherever it begins.
#[test]
fn a_window_without_a_burst_holds_wherever_it_begins() {
    for (requests, seconds) in [
        (10, 60),
        (60, 60),
        (600, 60),
        (6000, 60),
        (100, 10),
        (20, 1),
        (10_000, 86_400),
        (1, 60),
    ] {
        let window = Window {
            requests,
            per: Duration::from_secs(seconds),
            burst: None,
        };
        let bucket = window.bucket();
        let span = window.per + bucket.life;
        let most = f64::from(bucket.burst) + span.as_secs_f64() / bucket.gap.as_secs_f64();
        assert!(
            most <= f64::from(requests) + 1.0,
            "{window:?} {bucket:?} {most}"
        );
        assert!(bucket.burst >= 1);
    }
}

#[test]
fn a_large_window_costs_little_of_the_budget() {
    let window = Window {
        requests: 6000,
        per: Duration::from_secs(60),
        burst: None,
    };
    let bucket = window.bucket();
    let share = 60.0 / bucket.gap.as_secs_f64() / 6000.0;
    assert!(share >= 0.95, "{share}");
}

#[test]
fn a_connections_own_budget_replaces_the_default_member_by_member() {
    let default = spec(&[(1, 1, Some(10))], 2);
    let given = json!({ "budget": { "windows": [{ "requests": 600, "seconds": 60 }, { "requests": 5000, "seconds": 3600 }] } });
    let own = BudgetSpec::of(&given, &default).unwrap();
    assert_eq!(own.windows.len(), 2);
    assert_eq!(own.in_flight, 2);
    assert_eq!(BudgetSpec::of(&json!({}), &default).unwrap(), default);
}

#[test]
fn a_wrong_budget_names_its_member() {
    let default = spec(&[], 2);
    let wrong = |budget: Value| BudgetSpec::of(&json!({ "budget": budget }), &default).unwrap_err();
    insta::assert_snapshot!([
        wrong(json!(7)),
        wrong(json!({ "windows": [{ "requests": 0, "seconds": 60 }] })),
        wrong(json!({ "windows": [{ "requests": 5, "second": 60 }] })),
        wrong(json!({ "windows": [{ "requests": 5, "seconds": 0.5 }] })),
        wrong(json!({ "in_flight": "many" })),
        wrong(json!({ "lanes": 1 })),
    ].join("\n"), @r"
    `budget` must be an object with windows, in_flight, searches
    `budget.windows[0].requests` must be a whole number from 1 to 10000000
    `budget.windows[0].second` is not known
    `budget.windows[0].seconds` must be a whole number from 1 to 86400
    `budget.in_flight` must be a whole number from 1 to 1000
    `budget.lanes` is not known
    ");
}

#[tokio::test]
async fn an_event_begins_with_permits_for_all_its_calls() {
    let permit_pool = permit_pool(spec(&[(600, 60, None)], 4));
    assert!(go(&permit_pool).is_none(), "nothing has been leased");
    let asked = grant(&permit_pool, 5, 4);
    assert!(asked.want >= 4, "{asked:?}");
    let first = go(&permit_pool).expect("four of five permits");
    assert!(go(&permit_pool).is_none(), "one is left, four are needed");
    // What was reserved for the first is not taken by anybody else: one is left.
    let soon = Instant::now() + Duration::from_millis(20);
    let _stranger = permit_pool.enter("get", false, soon).await.unwrap();
    assert!(permit_pool.enter("get", false, soon).await.is_err());
    for _ in 0..2 {
        let call = admitted(&first, permit_pool.enter("get", false, soon)).await;
        drop(call.unwrap());
    }
    // It needed two only: the rest is for the next one.
    drop(first);
    let _two = (
        permit_pool.enter("get", false, soon).await.unwrap(),
        permit_pool.enter("get", false, soon).await.unwrap(),
    );
    assert!(permit_pool.enter("get", false, soon).await.is_err());
}

#[tokio::test]
async fn calls_in_flight_stay_below_the_share() {
    let permit_pool = permit_pool(spec(&[], 8));
    assert!(go(&permit_pool).is_none());
    grant(&permit_pool, 0, 2);
    let soon = || Instant::now() + Duration::from_millis(20);
    let one = permit_pool.enter("get", true, soon()).await.unwrap();
    assert!(
        permit_pool.enter("get", true, soon()).await.is_err(),
        "one search at a time"
    );
    let _two = permit_pool.enter("get", false, soon()).await.unwrap();
    assert!(
        permit_pool.enter("get", false, soon()).await.is_err(),
        "two slots"
    );
    drop(one);
    assert!(permit_pool.enter("get", true, soon()).await.is_ok());
}

#[tokio::test]
async fn unused_permits_lapse_and_go_back() {
    let permit_pool = permit_pool(spec(&[(10, 1, Some(2))], 4));
    assert!(go(&permit_pool).is_none());
    grant(&permit_pool, 1, 4);
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert!(
        permit_pool
            .enter("get", false, Instant::now())
            .await
            .is_err(),
        "its life was 100 ms"
    );
    let asked = loop {
        match permit_pool.ask() {
            Ok(asked) => break asked,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    assert_eq!(asked.back, 1);
}

#[tokio::test]
async fn a_quota_answer_stops_the_connection_and_is_told_at_once() {
    let permit_pool = permit_pool(spec(&[], 4));
    assert!(go(&permit_pool).is_none());
    grant(&permit_pool, 0, 4);
    let begun = go(&permit_pool);
    assert!(begun.is_some());
    permit_pool.record(
        "get",
        Observation::QuotaUsedUp {
            least: SECOND * 60,
            named: false,
            reason: "quota".to_owned(),
        },
    );
    assert!(matches!(
        permit_pool.admit(true),
        Admission::Later { circuit: false, .. }
    ));
    let refused = permit_pool
        .enter("get", false, Instant::now() + SECOND * 5)
        .await
        .unwrap_err();
    assert!(refused.until > Instant::now() + SECOND * 50, "{refused:?}");
    let asked = permit_pool.ask().expect("told at once");
    assert_eq!(asked.cool.unwrap().least, SECOND * 60);
}

#[tokio::test]
async fn five_failures_in_a_row_open_the_circuit_of_their_operation() {
    let permit_pool = permit_pool(spec(&[], 4));
    assert!(go(&permit_pool).is_none());
    grant(&permit_pool, 0, 4);
    permit_pool.record("read", Observation::Fine);
    for failures in 0..5 {
        assert!(
            permit_pool
                .enter("add", false, Instant::now())
                .await
                .is_ok(),
            "after {failures}"
        );
        permit_pool.record("add", Observation::Failing("502".to_owned()));
    }
    assert!(
        permit_pool
            .enter("add", false, Instant::now())
            .await
            .is_err()
    );
    assert!(
        permit_pool
            .enter("read", false, Instant::now())
            .await
            .is_ok(),
        "another operation"
    );
    assert!(
        go(&permit_pool).is_some(),
        "an event may need other operations only"
    );
    for _ in 0..5 {
        permit_pool.record("read", Observation::Failing("502".to_owned()));
    }
    assert!(
        matches!(
            permit_pool.admit(false),
            Admission::Later { circuit: true, .. }
        ),
        "nothing works"
    );
    permit_pool.record("read", Observation::Fine);
    assert!(go(&permit_pool).is_some());
}

#[tokio::test]
async fn behind_older_events_only_released_ones_begin() {
    let permit_pool = permit_pool(spec(&[], 4));
    assert!(go(&permit_pool).is_none());
    let asked = permit_pool.ask().unwrap();
    let answer = Answer {
        connection: asked.connection,
        granted: 0,
        wait: Duration::ZERO,
        slots: 4,
        searches: 1,
        cooldown: None,
        reason: None,
        backlog: true,
        circuits: Vec::new(),
        rivals: 0,
    };
    permit_pool.answered(&asked, &answer);
    assert!(matches!(permit_pool.admit(false), Admission::Later { .. }));
    assert!(matches!(permit_pool.admit(true), Admission::Go(_)));
}

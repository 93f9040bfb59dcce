//! What the fleet may ask of a partner: measured at the simulator, with several workers at once.

use chrono::{DateTime, TimeDelta, Utc};
use simulators::metakocka::{Call, CommitPoint, Fault, LogFilter, ScriptedFault};
use testkit::{Contact, Contacts, Running, wait_for};
use uuid::Uuid;

use crate::fleet::{Fate, Fleet, SOON, TENANT, plain, ready};

async fn connection(fleet: &Fleet) -> Uuid {
    sqlx::query_scalar("select id from connection")
        .fetch_one(fleet.database.pool())
        .await
        .unwrap()
}

async fn allow(fleet: &Fleet, budget: &[&str]) {
    let id = connection(fleet).await.to_string();
    let set = [&["budgets", "set", &id], budget].concat();
    fleet.command(&set).await.expect(0);
}

fn contacts(number: usize) -> Vec<Contact> {
    let mut source = Contacts::new(TENANT, 7);
    (0..number).map(|_| plain(&mut source)).collect()
}

/// When each call came.
fn calls(fleet: &Fleet) -> Vec<DateTime<Utc>> {
    let log = fleet.simulator.log(&LogFilter::default());
    let mut calls: Vec<_> = log.iter().map(|entry| entry.at).collect();
    calls.sort();
    calls
}

/// The most calls of any span of this length, wherever it begins.
fn most_in(calls: &[DateTime<Utc>], span: TimeDelta) -> usize {
    let within = |at: &DateTime<Utc>| calls.partition_point(|call| *call < *at + span);
    let counts = calls
        .iter()
        .enumerate()
        .map(|(first, at)| within(at) - first);
    counts.max().unwrap_or(0)
}

/// The most calls that were under way at one moment.
fn most_at_once(fleet: &Fleet) -> usize {
    let log = fleet.simulator.log(&LogFilter::default());
    let spans: Vec<_> = log
        .iter()
        .map(|entry| (entry.at, entry.answered_at.unwrap_or(entry.at)))
        .collect();
    let at_once = |moment: DateTime<Utc>| {
        let under_way =
            |(from, to): &&(DateTime<Utc>, DateTime<Utc>)| *from <= moment && moment < *to;
        spans.iter().filter(under_way).count()
    };
    spans
        .iter()
        .map(|(from, _)| at_once(*from))
        .max()
        .unwrap_or(0)
}

async fn all_covered(fleet: &Fleet, events: &[serde_json::Value]) {
    wait_for("every event is applied", SOON, async || {
        let mut left = Vec::new();
        for event in events {
            match fleet.fate(event).await {
                Fate::Covered => {}
                fate => left.push((event["id"].clone(), fate)),
            }
        }
        match left.len() {
            0 => Ok(()),
            more => Err(format!(
                "{more} left, {:?}\n{}",
                left[0],
                fleet.story().await
            )),
        }
    })
    .await;
}

/// Numbers differ from run to run.
fn numbers_out(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            digit if digit.is_ascii_digit() && out.ends_with('N') => {}
            digit if digit.is_ascii_digit() => out.push('N'),
            other => out.push(other),
        }
    }
    out
}

async fn workers(fleet: &Fleet, number: usize) -> Vec<Running> {
    let mut running = vec![fleet.keeping().await];
    for _ in 0..number {
        running.push(ready(fleet.worker()).await);
    }
    running
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_stay_within_one_budget() {
    const REQUESTS: usize = 90;
    let fleet = Fleet::start().await;
    let running = workers(&fleet, 2).await;
    allow(&fleet, &["--window", "90/3", "--in-flight", "3"]).await;
    // Each call takes a while, so that calls at once can be counted.
    let slow = Fault::Slow {
        ms: 40,
        commit: CommitPoint::AtEnd,
    };
    fleet.fault(ScriptedFault::new(slow).always());
    let events: Vec<_> = contacts(50).iter_mut().map(Contact::created).collect();
    fleet.publish_all(&events).await;
    all_covered(&fleet, &events).await;
    let calls = calls(&fleet);
    let most = most_in(&calls, TimeDelta::seconds(3));
    assert!(
        most <= REQUESTS,
        "{most} calls within 3 s, {} in all",
        calls.len()
    );
    assert!(most_at_once(&fleet) <= 3);
    fleet.ends(running, &events).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_answer_is_obeyed_by_all_replicas() {
    const BACKOFF: TimeDelta = TimeDelta::seconds(8);
    let fleet = Fleet::start().await;
    let mut running = vec![fleet.keeping().await];
    for _ in 0..2 {
        let worker = fleet.worker().setting("metakocka.quota_backoff_seconds", 8);
        running.push(ready(worker).await);
    }
    let mut contacts = contacts(30);
    let events: Vec<_> = contacts.iter_mut().map(Contact::created).collect();
    fleet.fault(ScriptedFault::new(Fault::Quota).nth(10));
    fleet.publish_all(&events).await;
    all_covered(&fleet, &events).await;
    let log = fleet.simulator.log(&LogFilter::default());
    let refused = log
        .iter()
        .find(|entry| entry.fault.is_some())
        .expect("the quota answer");
    let told = refused.answered_at.expect("it was answered");
    // A replica learns it within its next second of permits; calls under way end. On a busy machine both take a while.
    let learned = told + TimeDelta::seconds(4);
    let during: Vec<_> = log
        .iter()
        .filter(|entry| entry.at > learned && entry.at < told + BACKOFF)
        .map(|entry| entry.at)
        .collect();
    assert!(during.is_empty(), "told at {told}: {during:?}");
    let after = log.iter().filter(|entry| entry.at >= told + BACKOFF);
    assert!(after.count() > 0, "nobody had to wait: {log:?}");
    // Nobody's event was given up for it, and none counted it as a failure.
    assert_eq!(fleet.count("select count(*) from dead_letter").await, 0);
    fleet.ends(running, &events).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_circuit_lets_one_probe_through() {
    let fleet = Fleet::start().await;
    let mut running = vec![fleet.keeping().await];
    for _ in 0..2 {
        let worker = fleet.worker().setting("worker.circuit_open_seconds", 3);
        running.push(ready(worker).await);
    }
    let mut contacts = contacts(20);
    let events: Vec<_> = contacts.iter_mut().map(Contact::created).collect();
    let broken = Fault::Error { status: 502 };
    fleet.fault(ScriptedFault::new(broken).always());
    fleet.publish_all(&events).await;
    let circuits = "select count(*) from circuit";
    wait_for("a circuit opens", SOON, async || {
        match fleet.count(circuits).await {
            0 => Err("not yet"),
            _ => Ok(()),
        }
    })
    .await;
    // Longer than one round of it: the half-open probe fails, and doubles the time.
    wait_for("the half-open probe failed", SOON, async || {
        match fleet
            .count("select count(*) from circuit where open_ms > 3000")
            .await
        {
            0 => Err("not yet"),
            _ => Ok(()),
        }
    })
    .await;
    let calls = fleet
        .simulator
        .log(&LogFilter::call(Call::GetPartner))
        .len();
    // Five open it, and a few more were under way in two processes; then one half-open probe.
    assert!(
        calls <= 5 * 2 + 16,
        "{calls} calls of an operation that is broken"
    );
    fleet.simulator.clear_faults();
    all_covered(&fleet, &events).await;
    assert_eq!(fleet.count(circuits).await, 0);
    fleet.ends(running, &events).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn budgets_tell_what_is_used_left_and_waited_for() {
    let fleet = Fleet::start().await;
    let none = fleet.command(&["budgets"]).await.expect(0);
    insta::assert_snapshot!(none.stdout, @"no connection has been called yet");
    allow(
        &fleet,
        &[
            "--window",
            "600/60",
            "--window",
            "20000/86400",
            "--in-flight",
            "2",
        ],
    )
    .await;
    let worker = fleet.working().await;
    let events = [contacts(1)[0].created()];
    fleet.publish_all(&events).await;
    all_covered(&fleet, &events).await;
    let told = fleet
        .command(&["budgets", "--tenant", TENANT])
        .await
        .expect(0);
    let id = connection(&fleet).await.to_string();
    let told = told.stdout.replace(&id, "ID");
    let told: String = told
        .lines()
        .filter(|line| !line.contains("last success"))
        .map(|line| format!("{line}\n"))
        .collect();
    insta::assert_snapshot!(numbers_out(&told), @r"
    metakocka of acme, account default (ID)
      allowed       N requests in N s; N left now
                    N requests in N s; N left now
      in flight     N of N leased
      used          N requests so far, about N.N for each event
      waiting       nothing
    ");
    fleet.command(&["tenant", "add", "other"]).await.expect(0);
    let other = fleet
        .command(&["budgets", "--tenant", "other"])
        .await
        .expect(0);
    assert_eq!(other.stdout.trim(), "no connection has been called yet");
    let wrong = fleet
        .command(&[
            "budgets",
            "set",
            &id,
            "--tenant",
            "other",
            "--in-flight",
            "9",
        ])
        .await;
    assert_ne!(wrong.status.code(), Some(0), "another tenant's");
    let wrong = fleet
        .command(&["budgets", "set", &id, "--window", "0/60"])
        .await;
    assert_ne!(wrong.status.code(), Some(0));
    insta::assert_snapshot!(wrong.stderr, @r#"
    error: `budget.windows[0].requests` must be a whole number from 1 to 10000000
     next: a budget is {"windows":[{"requests":600,"seconds":60}],"in_flight":2}
    "#);
    fleet.ends([worker], &events).await;
}

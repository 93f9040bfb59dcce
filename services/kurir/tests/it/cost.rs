//! What an event costs: round trips to the database, counted by the server itself on the product's own connections, and
//! calls of the partner, counted by the simulator. No keeper runs here, so that every statement is the worker's.

use std::fmt::Write as _;

use serde_json::Value;
use simulators::metakocka::{
    Call, CommitPoint, Fault, LogEntry, LogFilter, ScriptedFault, Simulator,
};
use testkit::{Contact, Contacts, Statements, wait_for, wait_until};

use crate::fleet::{Fate, Fleet, SOON, TENANT, order_key, rename};

const SEED: u64 = 3;
/// Handled one after the other.
const EVENTS: usize = 12;
const MOST_ROUND_TRIPS: i64 = 3;
/// Waiting when the worker starts.
const BACKLOG: usize = 320;
/// More than may wait in memory for a budget that is used up.
const FIRST_BACKLOG: usize = 80;
/// Under a backlog a claim call serves at least so many events.
const EVENTS_PER_CLAIM: i64 = 8;
const MOST_CALLS_OF_A_CREATE: usize = 4;
const MOST_CALLS_OF_AN_UPDATE: usize = 2;

const CLAIM: &str = "claim_links";
/// The statements that belong to an event.
const OF_EVENTS: [&str; 3] = [CLAIM, "reserve_effects", "complete_effects"];
/// What runs by the clock, whatever there is to do: readiness, changed connections, the database's time, the
/// prolonging of leases.
const BY_THE_CLOCK: [&str; 6] = [
    // Readiness.
    "show transaction_read_only",
    "select clock_timestamp()",
    "from connection where updated_at >=",
    "select kurir_now()",
    "select renew_links(",
    // Permits, once a second while a connection is called.
    "from lease_budgets(",
];

/// Round trips of events; anything that is neither theirs nor background fails the test.
fn of_events(statements: &Statements) -> i64 {
    let (mut calls, mut others) = (0, String::new());
    for statement in &statements.0 {
        let is = |part: &&str| statement.query.contains(*part);
        if OF_EVENTS.iter().any(is) {
            calls += statement.calls;
        } else if !BY_THE_CLOCK.iter().any(is) {
            writeln!(others, "{} × {}", statement.calls, statement.query).unwrap();
        }
    }
    assert_eq!(others, "", "statements that no event should cost");
    calls
}

/// Events that were claimed, whatever came of it.
fn claimed(statements: &Statements) -> i64 {
    let of = |statement: &&testkit::Statement| statement.query.contains(CLAIM);
    statements.0.iter().filter(of).map(|one| one.rows).sum()
}

fn last_call(simulator: &Simulator) -> u64 {
    simulator
        .log(&LogFilter::default())
        .last()
        .map_or(0, |entry| entry.seq)
}

fn calls_since(simulator: &Simulator, since: u64) -> Vec<LogEntry> {
    simulator.log(&LogFilter {
        since: Some(since),
        ..LogFilter::default()
    })
}

/// A worker that has seen its tenant and source once, so that what it learns then is in its memory.
async fn warm() -> (Fleet, testkit::Running, Contacts) {
    let fleet = Fleet::start().await;
    let worker = fleet.working().await;
    let mut source = Contacts::new(TENANT, SEED);
    let event = source.organization().created();
    fleet.publish(&event).await;
    fleet.rests([&event]).await;
    fleet.database.reset_statements().await;
    (fleet, worker, source)
}

/// Publishes and waits for the end of each before the next; answers with the calls that each has cost.
async fn one_by_one(fleet: &Fleet, events: &[Value]) -> Vec<Vec<LogEntry>> {
    let mut calls = Vec::new();
    for event in events {
        let before = last_call(&fleet.simulator);
        fleet.publish(event).await;
        fleet.becomes(event, Fate::Covered).await;
        calls.push(calls_since(&fleet.simulator, before));
    }
    calls
}

/// One main address, so that nothing is appended.
fn with_one_address(mut contact: Contact) -> Contact {
    let addresses = contact.record["addresses"].as_array_mut().unwrap();
    addresses.truncate(1);
    contact
}

#[tokio::test(flavor = "multi_thread")]
async fn a_happy_create_or_update_costs_three_round_trips_and_few_calls() {
    let (fleet, worker, mut source) = warm().await;
    let mut contacts: Vec<Contact> = (0..EVENTS)
        .map(|at| match at % 2 {
            0 => with_one_address(source.organization()),
            _ => with_one_address(source.person()),
        })
        .collect();
    let created: Vec<Value> = contacts.iter_mut().map(Contact::created).collect();
    let calls = one_by_one(&fleet, &created).await;
    for (calls, event) in calls.iter().zip(&created) {
        assert!(
            calls.len() <= MOST_CALLS_OF_A_CREATE,
            "{event:#}\n{calls:#?}"
        );
        let adds = calls
            .iter()
            .filter(|call| call.call == Some(Call::AddPartner));
        assert_eq!(adds.count(), 1, "{calls:#?}");
    }
    let statements = fleet.database.statements().await;
    let trips = of_events(&statements);
    assert!(
        trips <= MOST_ROUND_TRIPS * EVENTS as i64,
        "{trips} round trips for {EVENTS} creates: {statements:#?}"
    );

    fleet.database.reset_statements().await;
    let updated: Vec<Value> = contacts
        .iter_mut()
        .map(|contact| source.change(contact))
        .collect();
    let calls = one_by_one(&fleet, &updated).await;
    for (calls, event) in calls.iter().zip(&updated) {
        assert!(
            (1..=MOST_CALLS_OF_AN_UPDATE).contains(&calls.len()),
            "{event:#}\n{calls:#?}"
        );
    }
    let statements = fleet.database.statements().await;
    let trips = of_events(&statements);
    assert!(
        trips <= MOST_ROUND_TRIPS * EVENTS as i64,
        "{trips} round trips for {EVENTS} updates: {statements:#?}"
    );
    let events: Vec<Value> = created.into_iter().chain(updated).collect();
    fleet.ends([worker], &events).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_further_address_costs_one_call_more() {
    let (fleet, worker, mut source) = warm().await;
    let mut contact = with_one_address(source.organization());
    let further = source.organization().record["addresses"][0].clone();
    for kind in ["delivery", "other"] {
        let mut address = further.clone();
        address["kind"] = kind.into();
        address["street"] = format!("Panjska pot {kind}").into();
        let addresses = contact.record["addresses"].as_array_mut().unwrap();
        addresses.push(address);
    }
    let event = contact.created();
    let calls = one_by_one(&fleet, std::slice::from_ref(&event)).await;
    assert!(
        calls[0].len() <= MOST_CALLS_OF_A_CREATE + 2,
        "{:#?}",
        calls[0]
    );
    let trips = of_events(&fleet.database.statements().await);
    // One claim; then each call is booked and completed.
    assert!(trips <= 1 + 2 * 3, "{trips} round trips for three calls");
    let partner = fleet.partner_of(contact.id()).await.unwrap();
    assert_eq!(partner.addresses.len(), 3, "{partner:#?}");
    fleet.ends([worker], [&event]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_is_claimed_in_batches() {
    let fleet = Fleet::start().await;
    fleet.declare().await;
    let mut source = Contacts::new(TENANT, SEED);
    let events: Vec<Value> = (0..BACKLOG).map(|_| source.any().created()).collect();
    fleet.publish_all(&events).await;
    fleet.database.reset_statements().await;
    // As many slots as an installation begins with.
    let worker = crate::fleet::ready(
        fleet
            .worker()
            .setting("worker.slots", 16)
            .setting("worker.prefetch", 128),
    )
    .await;
    // What comes faster than the partner may be called is held, and let go again.
    let keeper = fleet.keeping().await;
    all_covered(&fleet, &events).await;
    let statements = fleet.database.statements().await;
    let calls = statements.calls_of(CLAIM);
    assert!(
        calls * EVENTS_PER_CLAIM <= BACKLOG as i64,
        "{calls} claim calls for {BACKLOG} events: {statements:#?}"
    );
    assert_eq!(fleet.partners().len(), BACKLOG);
    fleet.ends([worker, keeper], &events).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_that_meets_a_new_worker_is_not_held_for_an_account_that_lends_all_it_needs() {
    let fleet = Fleet::start().await;
    fleet.declare().await;
    let mut source = Contacts::new(TENANT, SEED);
    let events: Vec<Value> = (0..FIRST_BACKLOG)
        .map(|_| source.person().created())
        .collect();
    fleet.publish_all(&events).await;
    // No keeper: what is held would stay so.
    let worker = crate::fleet::ready(
        fleet
            .worker()
            .setting("metakocka.in_flight", 64)
            .setting("worker.slots", 16)
            .setting("worker.prefetch", 128),
    )
    .await;
    all_covered(&fleet, &events).await;
    fleet.ends([worker], &events).await;
}

async fn all_covered(fleet: &Fleet, events: &[Value]) {
    wait_for("the backlog to be applied", SOON * 2, async || {
        let links = fleet.links().await;
        let covered = |event: &&Value| {
            let k = order_key(event, 0);
            let subject = event["subject"].as_str().unwrap();
            links.iter().any(|link| {
                subject.ends_with(&format!("/{}", link.source_id))
                    && link.applied_k.as_deref() >= Some(k.as_bytes())
            })
        };
        match events.iter().filter(|event| !covered(event)).count() {
            0 => Ok(()),
            left => Err(format!("{left} are not\n{}", fleet.story().await)),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_already_done_costs_one_claim_and_no_call() {
    let (fleet, worker, mut source) = warm().await;
    let mut contact = source.organization();
    let mut events = vec![contact.created()];
    events.extend((0..4).map(|_| rename(&mut contact)));
    // The newest comes first: all others are old when they come.
    fleet.publish(&events[4]).await;
    fleet.rests([&events[4]]).await;
    fleet.database.reset_statements().await;
    let before = last_call(&fleet.simulator);
    for _ in 0..3 {
        fleet.publish_all(&events).await;
    }
    let statements = claimed_at_least(&fleet, 15).await;
    fleet.ends([worker], &events).await;
    assert_eq!(calls_since(&fleet.simulator, before), []);
    assert_eq!(of_events(&statements), statements.calls_of(CLAIM));
    fleet.has_one(&contact).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_superseded_event_makes_no_call() {
    let (fleet, worker, mut source) = warm().await;
    let mut contact = source.organization();
    let first = contact.created();
    fleet.publish(&first).await;
    fleet.rests([&first]).await;
    let older: Vec<Value> = (0..6).map(|_| rename(&mut contact)).collect();
    let newest = rename(&mut contact);
    let before = last_call(&fleet.simulator);
    // The newest is on its way while the older ones come.
    let slow = Fault::Slow {
        ms: 1_500,
        commit: CommitPoint::AtEnd,
    };
    fleet.fault(ScriptedFault::new(slow).on(Call::UpdatePartner));
    fleet.publish(&newest).await;
    fleet.called(Call::UpdatePartner, 1).await;
    fleet.database.reset_statements().await;
    fleet.publish_all(&older).await;
    let statements = claimed_at_least(&fleet, 6).await;
    let kept = fleet.count("select count(*) from link_event").await;
    assert_eq!(kept, 6, "they came too late: {statements:#?}");
    fleet.ends([worker], older.iter().chain([&newest])).await;
    let calls = calls_since(&fleet.simulator, before);
    assert!(calls.len() <= MOST_CALLS_OF_AN_UPDATE, "{calls:#?}");
    assert_eq!(fleet.count("select count(*) from link_event").await, 0);
    fleet.has_one(&contact).await;
}

async fn claimed_at_least(fleet: &Fleet, events: i64) -> Statements {
    wait_until(
        "the events to be claimed",
        SOON,
        async || fleet.database.statements().await,
        |statements| claimed(statements) >= events,
    )
    .await
}

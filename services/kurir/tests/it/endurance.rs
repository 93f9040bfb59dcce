//! The promise of the product, under everything at once: events shuffled and repeated, a partner that fails in every
//! way that passes, workers and keeper killed and frozen at random. Afterwards each record is what its newest event says,
//! exists once, and every event can be accounted for.
//!
//! `KURIR_TEST_SEED` repeats a run's contacts, events, faults and moments of havoc; the machine's timing is its own.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;
use simulators::metakocka::{Call, CompanyOptions, Options, RandomFault, Readings, ScriptedFault};
use testkit::{Contact, Contacts, Http, Route, Running, wait_for};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::expected;
use crate::fleet::{COMPANY, Fate, Fleet, SOON, TENANT, ready};

const SEED: &str = "KURIR_TEST_SEED";
const CONTACTS: usize = 200;
const UPDATES: usize = 5;
const TWICE: f64 = 0.2;
const PUBLISHING: Duration = Duration::from_secs(60);
/// Of ten events this many come by HTTP.
const BY_HTTP_OF_TEN: u32 = 3;
const WORKERS: usize = 3;
/// Each kind of fault happens to this share of the calls; there are 14 of them.
const FAULT_RATE: f64 = 0.01;
/// Besides, each kind happens once for certain: one after so many calls, then the next.
const CALLS_BETWEEN: u32 = 50;
/// Longest delay of an answer or a commit: below the settle time, so that waiting for it is enough.
const LONGEST_DELAY_MS: u64 = 1_500;
/// Between two disturbances.
const QUIET_MS: std::ops::Range<u64> = 1_000..3_000;
/// How long a process stands still: shorter and longer than a lease, never longer than lease and settle time together.
const FROZEN_MS: std::ops::Range<u64> = 200..4_000;
/// From the last publish to the newest version of every record: failed calls wait on retry tiers of up to 30 s, several times.
const TO_REST: Duration = Duration::from_secs(120);
const MOST_WRITES_PER_EVENT: f64 = 0.7;

struct Story {
    contacts: Vec<Contact>,
    /// Each event once.
    events: Vec<Value>,
    /// In the order of publishing, some twice.
    published: Vec<Value>,
}

fn story(seed: u64) -> Story {
    let mut source = Contacts::new(TENANT, seed);
    let (mut contacts, mut events) = (Vec::new(), Vec::new());
    for _ in 0..CONTACTS {
        let mut contact = source.any();
        events.push(contact.created());
        for _ in 1..UPDATES {
            events.push(source.change(&mut contact));
        }
        contacts.push(contact);
    }
    let published = source.shuffled(events.clone(), TWICE);
    Story {
        contacts,
        events,
        published,
    }
}

/// The partner, failing in every way that passes by itself.
fn failing(seed: u64) -> Options {
    Options {
        companies: vec![CompanyOptions::new(COMPANY, "sim-key")],
        readings: Readings::kind(),
        strict: true,
        seed,
        random_faults: passing_faults(),
        ..Options::default()
    }
}

fn passing_faults() -> Vec<RandomFault> {
    RandomFault::every_passing_kind(FAULT_RATE, LONGEST_DELAY_MS)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_contacts_shuffled_and_killed() {
    let seed = std::env::var(SEED)
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(rand::random::<u32>);
    // Shown if the test fails.
    println!("{SEED}={seed}");
    let seed = u64::from(seed);
    let story = story(seed);
    let fleet = Fleet::with(failing(seed)).await;
    for (at, passing) in (1..).zip(passing_faults()) {
        fleet.fault(ScriptedFault::new(passing.fault).nth(at * CALLS_BETWEEN));
    }
    let gateway = ready(fleet.gateway()).await;
    let http = gateway.http("gateway").with_token(token(&fleet).await);
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        workers.push(fleet.working().await);
    }
    let mut keeper = fleet.keeping().await;

    let published = CancellationToken::new();
    let (_, disturbances) = tokio::join!(
        publish(&fleet, &http, &story.published, seed, &published),
        havoc(&fleet, &mut workers, &mut keeper, seed, &published),
    );
    let faults = fleet.simulator.counts().faults;
    println!("{disturbances:?}\n{faults:?}");
    for passing in passing_faults() {
        let name = passing.fault.name();
        assert!(faults.contains_key(name), "no {name} happened: {faults:?}");
    }
    assert!(
        disturbances.kills > 0 && disturbances.freezes > 0,
        "{disturbances:?}"
    );
    fleet.simulator.clear_faults();
    rest(&fleet, &story).await;
    let writes = fleet.simulator.counts();
    let mut processes = workers;
    processes.extend([keeper, gateway]);
    fleet.ends(processes, &story.events).await;
    check(&fleet, &story).await;
    let writes = writes.calls(Call::AddPartner) + writes.calls(Call::UpdatePartner);
    let per_event = writes as f64 / story.events.len() as f64;
    println!("{writes} writes, {per_event:.2} per event");
    assert!(per_event <= MOST_WRITES_PER_EVENT, "{per_event}");
}

async fn token(fleet: &Fleet) -> String {
    let create = [
        "token", "create", "--tenant", TENANT, "--name", "crm", "--json",
    ];
    let created = fleet.command(&create).await.expect(0);
    let created: Value = serde_json::from_str(&created.stdout).unwrap();
    created["secret"].as_str().unwrap().to_owned()
}

/// All events at an even pace, by both ways.
async fn publish(
    fleet: &Fleet,
    http: &Http,
    events: &[Value],
    seed: u64,
    published: &CancellationToken,
) {
    let mut dice = StdRng::seed_from_u64(seed ^ 1);
    let begin = Instant::now();
    let pace = PUBLISHING / u32::try_from(events.len()).unwrap();
    for (at, event) in (0..).zip(events) {
        sleep_until(begin + pace * at).await;
        if dice.random_range(0..10) < BY_HTTP_OF_TEN {
            by_http(http, event).await;
        } else {
            fleet.publish(event).await;
        }
    }
    published.cancel();
}

/// As docs/events.md tells a sender: 503 and no answer are repeated.
async fn by_http(http: &Http, event: &Value) {
    wait_for("the gateway to take an event", SOON, async || {
        match http.post_event("/v1/events", event).await {
            Ok(answer) if answer.status == 202 => Ok(()),
            Ok(answer) if answer.status == 503 => Err(answer.text),
            Ok(answer) => panic!("{answer:?}"),
            Err(error) => Err(error.to_string()),
        }
    })
    .await;
}

#[derive(Debug, Default)]
struct Disturbances {
    kills: u32,
    freezes: u32,
    keeper_kills: u32,
    keeper_freezes: u32,
}

/// Kills and freezes until everything is published; then all processes run again.
async fn havoc(
    fleet: &Fleet,
    workers: &mut [Running],
    keeper: &mut Running,
    seed: u64,
    published: &CancellationToken,
) -> Disturbances {
    let mut dice = StdRng::seed_from_u64(seed ^ 2);
    let mut done = Disturbances::default();
    loop {
        let quiet = Duration::from_millis(dice.random_range(QUIET_MS));
        tokio::select! {
            () = sleep(quiet) => {}
            () = published.cancelled() => return done,
        }
        let victim = dice.random_range(0..=workers.len());
        let still = Duration::from_millis(dice.random_range(FROZEN_MS));
        match (workers.get_mut(victim), dice.random_bool(0.5)) {
            (Some(worker), true) => {
                worker.kill();
                *worker = fleet.worker().start();
                done.kills += 1;
            }
            (Some(worker), false) => {
                frozen_for(worker, still).await;
                done.freezes += 1;
            }
            (None, true) => {
                keeper.kill();
                *keeper = fleet.keeper().start();
                done.keeper_kills += 1;
            }
            (None, false) => {
                frozen_for(keeper, still).await;
                done.keeper_freezes += 1;
            }
        }
    }
}

async fn frozen_for(process: &Running, time: Duration) {
    process.freeze().await;
    sleep(time).await;
    process.thaw();
}

/// Waits until every event is accounted for and nothing moves. Meanwhile it does an operator's work: an event
/// that three kills in a row hit is held for a person.
#[expect(clippy::print_stdout, reason = "shown if the test fails")]
async fn rest(fleet: &Fleet, story: &Story) {
    let begin = Instant::now();
    let left = || TO_REST.saturating_sub(begin.elapsed());
    wait_for(
        "every record to have its newest event",
        left(),
        async || {
            release_poison(fleet).await;
            hurry(fleet).await;
            let mut missing = Vec::new();
            for event in newest(story) {
                match fleet.fate(event).await {
                    Fate::Covered => {}
                    fate => missing.push((event["id"].clone(), fate)),
                }
            }
            if missing.is_empty() {
                return Ok(());
            }
            missing.truncate(10);
            Err(format!("{missing:?}\n{}", fleet.story().await))
        },
    )
    .await;
    println!("all applied {:?} after the last publish", begin.elapsed());
}

#[expect(clippy::print_stdout, reason = "shown if the test fails")]
async fn release_poison(fleet: &Fleet) {
    if fleet.count("select count(*) from held").await > 0 {
        let held = fleet.command(&["held", "list"]).await.expect(0);
        println!("{}", held.stdout);
        let release = ["held", "release", "--cause", "poison"];
        fleet.command(&release).await.expect(0);
    }
}

/// Lets what waits for two minutes come back now, as the end of its time would bring it: a quota is waited for at least
/// one minute (contract §1.7), and this test has none to give.
async fn hurry(fleet: &Fleet) {
    let worker = fleet.broker.queue("metakocka-sync");
    let retry_tier = fleet.broker.queue("metakocka-sync.retry.2m");
    for waiting in fleet.broker.take(&retry_tier, CONTACTS).await.unwrap() {
        let publisher = fleet.publisher().await;
        let (body, properties) = (&waiting.body, waiting.properties.clone());
        let route = publisher.raw("", &worker, body, properties).await.unwrap();
        assert_eq!(route, Route::Routed);
    }
}

/// The last event of each contact.
fn newest(story: &Story) -> impl Iterator<Item = &Value> {
    story.events.iter().skip(UPDATES - 1).step_by(UPDATES)
}

async fn check(fleet: &Fleet, story: &Story) {
    for event in &story.events {
        let fate = fleet.fate(event).await;
        assert_eq!(fate, Fate::Covered, "{event:#}\n{}", fleet.story().await);
    }
    for (what, query) in [
        ("held events", "select count(*) from held"),
        (
            "open dead letters",
            "select count(*) from dead_letter where state not in ('resolved', 'overtaken')",
        ),
        ("kept envelopes", "select count(*) from link_event"),
        (
            "open effects",
            "select count(*) from effect where state in ('sent', 'unknown')",
        ),
        (
            "conflicts",
            "select count(*) from link where state <> 'linked'",
        ),
    ] {
        assert_eq!(
            fleet.count(query).await,
            0,
            "{what}\n{}",
            fleet.story().await
        );
    }
    assert_eq!(fleet.simulator.late_writes(), 0);
    assert_eq!(fleet.simulator.strict_violations(), []);
    let links = fleet.links().await;
    assert_eq!(links.len(), CONTACTS);
    let targets: BTreeSet<_> = links.iter().map(|link| link.target_id.clone()).collect();
    assert_eq!(targets.len(), CONTACTS, "two records share a partner");
    let partners = fleet.partners();
    assert_eq!(partners.len(), CONTACTS, "{partners:#?}");
    let mut wrong = String::new();
    for contact in &story.contacts {
        let partner = fleet.partner_of(contact.id()).await;
        let partner = partner.unwrap_or_else(|| panic!("no partner of {}", contact.id()));
        wrong.push_str(&expected::differences(&contact.record, &partner));
    }
    assert_eq!(wrong, "");
}

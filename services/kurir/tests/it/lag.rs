//! A partner that shows what was written seconds later, by search and by id, and does nothing else wrong: every record
//! ends linked and right, once, without a conflict and without a dead letter.
//!
//! `KURIR_TEST_LAG_CONTACTS` makes it larger: 120 are the trial that found it.

use std::time::Duration;

use serde_json::Value;
use simulators::metakocka::core::{ChangedInIndex, ReadById, UpdateAnswer};
use simulators::metakocka::{CompanyOptions, Options, Readings};
use testkit::{Contact, Contacts};
use tokio::time::sleep;

use crate::fleet::{COMPANY, Fate, Fleet, TENANT, ready};

const CONTACTS: &str = "KURIR_TEST_LAG_CONTACTS";
const VERSIONS: usize = 5;
/// Between two versions of a record: less than the lag, so that each meets what the one before has left.
const PAUSE: Duration = Duration::from_millis(700);

fn lagging(seconds: u32, changed: ChangedInIndex, answer: UpdateAnswer) -> Options {
    let readings = Readings {
        index_lag_seconds: seconds,
        changed_in_index: changed,
        read_by_id: ReadById::Lags,
        update_answer: answer,
        ..Readings::kind()
    };
    Options {
        companies: vec![CompanyOptions::new(COMPANY, "sim-key")],
        readings,
        strict: true,
        ..Options::default()
    }
}

/// Every version of every contact, in the order of their versions.
fn versions() -> (Vec<Contact>, Vec<Vec<Value>>) {
    let count = std::env::var(CONTACTS)
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(30);
    let mut source = Contacts::new(TENANT, 9);
    let mut contacts: Vec<Contact> = (0..count).map(|_| source.any()).collect();
    let mut waves = vec![contacts.iter_mut().map(Contact::created).collect()];
    for _ in 1..VERSIONS {
        let wave = contacts.iter_mut().map(|one| source.change(one)).collect();
        waves.push(wave);
    }
    (contacts, waves)
}

async fn ends_well(options: Options) {
    let fleet = Fleet::with(options).await;
    let patient = fleet.worker().setting("metakocka.lookup_lag_seconds", 3);
    let (worker, keeper) = tokio::join!(ready(patient), fleet.keeping());
    let (contacts, waves) = versions();
    for wave in &waves {
        fleet.publish_all(wave).await;
        sleep(PAUSE).await;
    }
    let events: Vec<&Value> = waves.iter().flatten().collect();
    fleet.ends([worker, keeper], events.iter().copied()).await;
    for event in events {
        assert_eq!(fleet.fate(event).await, Fate::Covered, "{}", event["id"]);
    }
    let states: Vec<String> = fleet
        .links()
        .await
        .into_iter()
        .map(|link| link.state)
        .collect();
    assert!(states.iter().all(|state| state == "linked"), "{states:?}");
    let dead = "select count(*) from dead_letter";
    assert_eq!(fleet.count(dead).await, 0);
    assert_eq!(fleet.partners().len(), contacts.len(), "no doubles");
    for contact in &contacts {
        fleet.has_one(contact).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_away_for_a_while() {
    ends_well(lagging(2, ChangedInIndex::Hidden, UpdateAnswer::Stored)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_shown_late_and_answers_are_old() {
    ends_well(lagging(2, ChangedInIndex::Old, UpdateAnswer::OldPartner)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_away_for_a_while_and_answers_are_old() {
    ends_well(lagging(2, ChangedInIndex::Hidden, UpdateAnswer::OldPartner)).await;
}

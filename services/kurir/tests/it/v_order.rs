//! Which version counts (V7–V13): superseded ones that return, waiting that costs nothing, deletions, ties, clocks that
//! are ahead or missing.

use chrono::{TimeDelta, Utc};
use event::TenantId;
use serde_json::{Value, json};
use simulators::metakocka::{Call, Fault, LateAnswer, ScriptedFault};
use testkit::{Contact, Contacts, Running, wait_for, wait_until};

use crate::fleet::{self, Fate, Fleet, SOON, TENANT, id_of, order_key, plain, rename, settled};

/// The partner refuses every write of this version's name.
fn refuse(fleet: &Fleet, call: Call, version: u32) {
    let refusal = Fault::Refuse {
        code: 2,
        text: "not this one".to_owned(),
    };
    let fault = ScriptedFault::new(refusal).on(call);
    fleet.fault(fault.containing(format!("v#{version}")).always());
}

/// Events of a contact: created, and so many updates; with the names they carry.
fn versions(contact: &mut Contact, updates: usize) -> (Vec<Value>, Vec<String>) {
    let (mut events, mut names) = (vec![contact.created()], vec![contact.name().to_owned()]);
    for _ in 0..updates {
        events.push(rename(contact));
        names.push(contact.name().to_owned());
    }
    (events, names)
}

#[tokio::test(flavor = "multi_thread")]
async fn superseded_content_returns_when_the_newer_dies() {
    let fleet = Fleet::start().await;
    fleet.declare().await;
    let mut source = Contacts::new(TENANT, 1);
    refuse(&fleet, Call::AddPartner, 3);
    // The older ones arrive before the newest has died: kept, and brought back.
    let mut before = plain(&mut source);
    let (events, names) = versions(&mut before, 2);
    fleet
        .publish_all([&events[2], &events[0], &events[1]])
        .await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    fleet.becomes(&events[1], Fate::Covered).await;
    fleet.has_one_named(&before, &names[1]).await;
    // And after it: nothing names the dead version any more.
    let mut after = plain(&mut source);
    let (later, later_names) = versions(&mut after, 2);
    fleet.publish(&later[2]).await;
    fleet.becomes(&later[2], Fate::Dead).await;
    fleet.publish_all([&later[1], &later[0]]).await;
    fleet
        .ends([worker, keeper], events.iter().chain(&later))
        .await;
    fleet.has_one_named(&after, &later_names[1]).await;
    for dead in [&events[2], &later[2]] {
        assert_eq!(fleet.fate(dead).await, Fate::Dead);
    }
}

/// The contact is made; then the credentials are refused, and v2 and v3 wait as one row. v3 is stopped at the gate and
/// never claimed, because its worker knows of the refusal from its start.
async fn coalesced_while_held(
    fleet: &Fleet,
    contact: &mut Contact,
) -> (Vec<Value>, Vec<String>, Running) {
    let (events, names) = versions(contact, 2);
    let worker = fleet.working().await;
    fleet.publish(&events[0]).await;
    fleet.becomes(&events[0], Fate::Covered).await;
    fleet.fault(ScriptedFault::new(Fault::Auth { code: 3 }).always());
    fleet.publish(&events[1]).await;
    fleet.becomes(&events[1], Fate::Held).await;
    worker.kill();
    let worker = fleet.working().await;
    fleet.publish(&events[2]).await;
    fleet.becomes(&events[2], Fate::Held).await;
    assert_eq!(fleet.fate(&events[1]).await, Fate::Kept);
    assert_eq!(fleet.count("select count(*) from held").await, 1);
    (events, names, worker)
}

#[tokio::test(flavor = "multi_thread")]
async fn also_when_they_coalesced_while_held() {
    let fleet = Fleet::start().await;
    let keeper = fleet.keeping().await;
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let (events, names, worker) = coalesced_while_held(&fleet, &mut contact).await;
    // What the keeper lets go after the repair meets the refusal.
    fleet.simulator.clear_faults();
    refuse(&fleet, Call::UpdatePartner, 3);
    fleet.accepted().await;
    fleet.becomes(&events[2], Fate::Dead).await;
    fleet.ends([worker, keeper], &events).await;
    assert_eq!(fleet.fate(&events[2]).await, Fate::Dead);
    fleet.has_one_named(&contact, &names[1]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn discarded_held_event_falls_back_too() {
    let fleet = Fleet::start().await;
    let keeper = fleet.keeping().await;
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let (events, names, worker) = coalesced_while_held(&fleet, &mut contact).await;
    fleet.discard(&events[2]).await;
    // Back from the link, and held for the same cause in its turn.
    fleet.becomes(&events[1], Fate::Held).await;
    fleet.repair().await;
    fleet.becomes(&events[1], Fate::Covered).await;
    fleet.ends([worker, keeper], &events).await;
    assert_eq!(fleet.fate(&events[2]).await, Fate::Dead);
    fleet.has_one_named(&contact, &names[1]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_lease_costs_no_attempt() {
    let fleet = Fleet::start().await;
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let event = contact.created();
    // Long enough for the next worker to come and find it.
    let patient = fleet.worker().setting("sync.lease_seconds", 6);
    let dying = fleet::dying(patient.failpoint("after_claim:kill")).await;
    fleet.publish(&event).await;
    dying.killed(SOON).await;
    let worker = fleet.working().await;
    fleet.becomes(&event, Fate::Covered).await;
    let waits = settled(&worker, &event, "holds the record's lease");
    assert!(waits > 0, "nothing held the lease");
    assert_eq!(
        settled(&worker, &event, "\"attempt\":1"),
        settled(&worker, &event, "")
    );
    fleet.ends([worker], [&event]).await;
    fleet.has_one(&contact).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_has_a_maximum_age_then_is_held() {
    let fleet = Fleet::start().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let (events, _) = versions(&mut contact, 1);
    fleet.publish(&events[0]).await;
    fleet.becomes(&events[0], Fate::Covered).await;
    fleet.sql("update link set lease_token = gen_random_uuid(), lease_until = clock_timestamp() + interval '1 hour'").await;
    let received = (Utc::now() - TimeDelta::hours(25)).timestamp_millis();
    fleet
        .publish_copy(&events[1], &[("x-first-received", received)])
        .await;
    fleet.becomes(&events[1], Fate::Held).await;
    assert_eq!(
        fleet.held(&events[1]).await.as_deref(),
        Some("wait_expired")
    );
    fleet.leases_end().await;
    fleet.release().await;
    fleet.ends([worker, keeper], &events).await;
    fleet.has_one(&contact).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn same_content_is_no_shortcut_while_an_effect_is_open() {
    let fleet = Fleet::start().await;
    let worker = fleet.working().await;
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let (first, name) = (contact.created(), contact.record["name"].clone());
    fleet.publish(&first).await;
    fleet.becomes(&first, Fate::Covered).await;
    let late = Fault::CommitLate {
        after_ms: 1_800,
        answer: LateAnswer::Error,
    };
    fleet.fault_on(Call::UpdatePartner, late);
    let second = rename(&mut contact);
    fleet.publish(&second).await;
    fleet
        .effect("unknown", |effect| effect.state == "unknown")
        .await;
    contact.record["name"] = name;
    let third = contact.updated();
    fleet.publish(&third).await;
    fleet.ends([worker], [&first, &second, &third]).await;
    assert_eq!(fleet.simulator.late_writes(), 0);
    fleet.has_one(&contact).await;
    assert_eq!(fleet.calls(Call::UpdatePartner), 2);
}

async fn is_deleted(fleet: &Fleet, contact: &Contact) {
    let link = fleet.link(contact.id()).await.unwrap();
    assert_eq!((link.state.as_str(), link.target_id), ("deleted", None));
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_waits_for_an_open_create() {
    let fleet = Fleet::start().await;
    let worker = fleet.working().await;
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let late = Fault::CommitLate {
        after_ms: 1_800,
        answer: LateAnswer::Error,
    };
    fleet.fault_on(Call::AddPartner, late);
    let (created, deleted) = (contact.created(), contact.deleted());
    fleet.publish(&created).await;
    fleet
        .effect("unknown", |effect| effect.state == "unknown")
        .await;
    fleet.publish(&deleted).await;
    fleet.ends([worker], [&created, &deleted]).await;
    is_deleted(&fleet, &contact).await;
    let effects = fleet.effects().await;
    assert_eq!(effects.len(), 1, "{effects:#?}");
    assert_eq!(effects[0].state, "confirmed", "{effects:#?}");
    // The tombstone's history names the record that was left at the partner.
    let partner = fleet.partners().pop().unwrap().mk_id.to_string();
    let left: Option<String> =
        sqlx::query_scalar("select target_id from link_history where what = 'deleted'")
            .fetch_one(fleet.database.pool())
            .await
            .unwrap();
    assert_eq!(left, Some(partner));
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_before_create_leaves_a_tombstone() {
    let fleet = Fleet::start().await;
    let worker = fleet.working().await;
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let (created, deleted) = (contact.created(), contact.deleted());
    fleet.publish(&deleted).await;
    fleet.becomes(&deleted, Fate::Covered).await;
    fleet.publish(&created).await;
    fleet.ends([worker], [&created, &deleted]).await;
    is_deleted(&fleet, &contact).await;
    assert_eq!(fleet.partners(), []);
    assert_eq!(fleet.simulator.counts().calls, Default::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn recreate_after_delete_makes_one_record() {
    let fleet = Fleet::start().await;
    let worker = fleet.working().await;
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let mut events = vec![contact.created(), contact.deleted()];
    for event in &events {
        fleet.publish(event).await;
        fleet.becomes(event, Fate::Covered).await;
    }
    let again = rename(&mut contact);
    fleet.publish(&again).await;
    events.push(again);
    fleet.ends([worker], &events).await;
    fleet.has_one(&contact).await;
    assert_eq!(fleet.calls(Call::AddPartner), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn tombstone_wins_a_tie() {
    let fleet = Fleet::start().await;
    let worker = fleet.working().await;
    let mut source = Contacts::new(TENANT, 1);
    let mut events = Vec::new();
    for delete_first in [false, true] {
        let mut contact = plain(&mut source);
        let created = contact.created();
        let updated = rename(&mut contact);
        let mut deleted = contact.deleted();
        deleted["time"] = updated["time"].clone();
        let mut tied = [updated, deleted];
        if delete_first {
            tied.reverse();
        }
        for event in [&created, &tied[0], &tied[1]] {
            fleet.publish(event).await;
            fleet.becomes(event, Fate::Covered).await;
        }
        is_deleted(&fleet, &contact).await;
        events.extend(tied);
        events.push(created);
    }
    fleet.ends([worker], &events).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_versions_end_alike_in_every_order() {
    let fleet = Fleet::start().await;
    let worker = fleet.working().await;
    let mut source = Contacts::new(TENANT, 1);
    let mut all = Vec::new();
    for backwards in [false, true] {
        let mut contact = plain(&mut source);
        let (events, names) = versions(&mut contact, 2);
        let mut tied = [events[1].clone(), events[2].clone()];
        tied[1]["time"] = tied[0]["time"].clone();
        if backwards {
            tied.reverse();
        }
        fleet.publish(&events[0]).await;
        for event in &tied {
            fleet.publish(event).await;
            fleet.becomes(event, Fate::Covered).await;
        }
        // Of equal versions the greater id counts, whichever came first.
        fleet.has_one_named(&contact, &names[2]).await;
        all.extend(tied);
    }
    fleet.ends([worker], &all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn future_version_dies_without_touching_the_link() {
    let fleet = Fleet::start().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let (mut events, names) = versions(&mut contact, 2);
    fleet.publish(&events[0]).await;
    fleet.becomes(&events[0], Fate::Covered).await;
    events[1]["time"] = json!((Utc::now() + TimeDelta::minutes(10)).to_rfc3339());
    fleet.publish(&events[1]).await;
    fleet.becomes(&events[1], Fate::Dead).await;
    let dead = fleet.dead_letter(&events[1]).await.unwrap();
    assert_eq!(dead, ("open".to_owned(), "future_version".to_owned()));
    let link = fleet.link(contact.id()).await.unwrap();
    assert_eq!(
        link.desired_k.as_deref(),
        Some(order_key(&events[0], 0).as_bytes())
    );
    fleet.publish(&events[2]).await;
    fleet.ends([worker, keeper], &events).await;
    fleet.has_one_named(&contact, &names[2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restamp_applies_it() {
    let fleet = Fleet::start().await;
    let (_worker, _keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let (mut events, names) = versions(&mut contact, 1);
    fleet.publish(&events[0]).await;
    fleet.becomes(&events[0], Fate::Covered).await;
    events[1]["time"] = json!((Utc::now() + TimeDelta::minutes(10)).to_rfc3339());
    fleet.publish(&events[1]).await;
    fleet.becomes(&events[1], Fate::Dead).await;
    let id: String = sqlx::query_scalar("select id::text from dead_letter where event_id = $1")
        .bind(id_of(&events[1]))
        .fetch_one(fleet.database.pool())
        .await
        .unwrap();
    let replayed = fleet
        .command(&["dead-letters", "replay", &id, "--restamp", "--detach"])
        .await;
    replayed.expect(0);
    fleet.dead_letter_is(&events[1], "resolved").await;
    fleet.has_one_named(&contact, &names[1]).await;
}

/// Without a version and without a time; `key` tells its contents apart.
fn timeless(contact: &mut Contact) -> Value {
    let mut event = rename(contact);
    event.as_object_mut().unwrap().remove("time");
    event
}

async fn pin(fleet: &Fleet, event: &Value) -> String {
    let pinned: Option<String> =
        sqlx::query_scalar("select version from event_pin where tenant = $1 and event_id = $2")
            .bind(TenantId::parse(TENANT).unwrap().as_str())
            .bind(id_of(event))
            .fetch_optional(fleet.database.pool())
            .await
            .unwrap();
    pinned.unwrap_or_default()
}

async fn named(fleet: &Fleet, name: &str) {
    let names = async || -> Vec<String> {
        fleet
            .partners()
            .into_iter()
            .map(|partner| partner.customer)
            .collect()
    };
    wait_until("the partner has this name", SOON, names, |names| {
        *names == [name]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_time_is_pinned_at_first_receipt() {
    let fleet = Fleet::start().await;
    let worker = fleet.working().await;
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let begin = Utc::now().timestamp_micros();
    let first = timeless(&mut contact);
    fleet.publish(&first).await;
    named(&fleet, contact.name()).await;
    let pinned: i64 = pin(&fleet, &first).await.parse().unwrap();
    let pinned_late = pinned - begin;
    // The database's clock and this one are of one machine.
    assert!(
        (-5_000_000..60_000_000).contains(&pinned_late),
        "pinned {pinned_late} µs after the publish"
    );
    let second = timeless(&mut contact);
    fleet.publish(&second).await;
    named(&fleet, contact.name()).await;
    fleet.ends([worker], []).await;
    assert!(pin(&fleet, &first).await < pin(&fleet, &second).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn late_copy_keeps_its_first_version() {
    let fleet = Fleet::start().await;
    let worker = fleet.working().await;
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let (first, second) = (timeless(&mut contact), timeless(&mut contact));
    fleet.publish(&first).await;
    wait_for("the first to be applied", SOON, async || {
        match fleet.partners().len() {
            1 => Ok(()),
            partners => Err(partners),
        }
    })
    .await;
    let pinned = pin(&fleet, &first).await;
    fleet.publish(&second).await;
    named(&fleet, contact.name()).await;
    fleet.publish(&first).await;
    wait_for(
        "the copy to be seen as a duplicate",
        SOON,
        async || match settled(&worker, &first, "duplicate") {
            0 => Err("not yet"),
            _ => Ok(()),
        },
    )
    .await;
    fleet.ends([worker], []).await;
    assert_eq!(pin(&fleet, &first).await, pinned);
    fleet.has_one(&contact).await;
}

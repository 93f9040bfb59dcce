//! Creates whose outcome nobody heard (V1–V6): the partner commits and loses the answer, commits late, or not at all;
//! workers freeze before and after the call. One partner with the newest content is all that may come of it.

use std::time::Duration;

use serde_json::Value;
use simulators::metakocka::{Call, CommitPoint, Fault, LateAnswer, LogFilter, PartnerEdit};
use testkit::{Contact, Contacts, Running, wait_for};

use crate::fleet::{
    Fate, Fleet, SETTLE, SOON, TENANT, order_key, plain, ready, rename, settled, settles,
};

/// What a call given up is answered with, while the partner commits it after this.
fn commits_after(after_ms: u64) -> Fault {
    Fault::CommitLate {
        after_ms,
        answer: LateAnswer::Error,
    }
}

/// A worker whose channel was closed by the broker during its create, and that has met the copy of that event.
pub(crate) async fn redelivered_while_it_runs(fleet: &Fleet) -> (Running, Contact, Value) {
    let patient = fleet
        .worker()
        .setting("sync.lease_seconds", 20)
        .setting("metakocka.write_timeout_seconds", 20)
        .setting("metakocka.create_settle_seconds", 30)
        .setting("metakocka.update_settle_seconds", 30);
    let worker = ready(patient).await;
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let slow = Fault::Slow {
        ms: 7_000,
        commit: CommitPoint::AtEnd,
    };
    fleet.fault_on(Call::AddPartner, slow);
    let event = contact.created();
    fleet.publish(&event).await;
    fleet.called(Call::AddPartner, 1).await;
    // The management API lists a connection some seconds after it was made.
    wait_for("the consumer's connection to be closed", SOON, async || {
        let management = fleet.broker.management();
        let closed = management.close_connections(fleet.broker.vhost()).await;
        let lost = |line: &str| line.contains("not connected") && line.contains("Consume");
        match worker.count_lines(lost) {
            0 => Err(closed.map_err(|error| error.to_string())),
            _ => Ok(()),
        }
    })
    .await;
    wait_for(
        "the copy waits for the lease",
        SOON,
        async || match settled(&worker, &event, "holds the record's lease") {
            0 => Err("not yet"),
            _ => Ok(()),
        },
    )
    .await;
    (worker, contact, event)
}

/// Between two creates that reached the partner.
fn pause_between_creates(fleet: &Fleet) -> Duration {
    let log = fleet.simulator.log(&LogFilter::call(Call::AddPartner));
    assert_eq!(log.len(), 2, "{log:#?}");
    (log[1].at - log[0].at).to_std().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn second_event_resolves_the_first_events_open_create() {
    let fleet = Fleet::start().await;
    let worker = fleet.working().await;
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    fleet.fault_on(Call::AddPartner, Fault::CommitThenDrop);
    let first = contact.created();
    fleet.publish(&first).await;
    fleet
        .effect("unknown", |effect| effect.state == "unknown")
        .await;
    let second = rename(&mut contact);
    fleet.publish(&second).await;
    fleet.ends([worker], [&first, &second]).await;
    fleet.has_one(&contact).await;
    assert_eq!(fleet.calls(Call::AddPartner), 1);
    let effects = fleet.effects().await;
    let states: Vec<_> = effects
        .iter()
        .map(|effect| (effect.operation.as_str(), effect.state.as_str()))
        .collect();
    assert_eq!(states, [("create", "confirmed"), ("update", "confirmed")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn absent_before_settle_is_not_absent() {
    let fleet = Fleet::start().await;
    let worker = fleet.working().await;
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    fleet.fault_on(Call::AddPartner, Fault::Error { status: 502 });
    let first = contact.created();
    fleet.publish(&first).await;
    fleet
        .effect("unknown", |effect| effect.state == "unknown")
        .await;
    let second = rename(&mut contact);
    fleet.publish(&second).await;
    fleet.ends([worker], [&first, &second]).await;
    fleet.has_one(&contact).await;
    let pause = pause_between_creates(&fleet);
    assert!(pause >= SETTLE, "sent again after {pause:?}");
    assert_eq!(fleet.effects().await[0].state, "abandoned");
}

#[tokio::test(flavor = "multi_thread")]
async fn late_commit_within_settle_is_adopted() {
    let fleet = Fleet::start().await;
    let worker = fleet.working().await;
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    fleet.fault_on(Call::AddPartner, commits_after(1_800));
    let first = contact.created();
    fleet.publish(&first).await;
    fleet
        .effect("unknown", |effect| effect.state == "unknown")
        .await;
    let second = rename(&mut contact);
    fleet.publish(&second).await;
    fleet.ends([worker], [&first, &second]).await;
    fleet.has_one(&contact).await;
    assert_eq!(fleet.calls(Call::AddPartner), 1);
    assert_eq!(fleet.effects().await[0].state, "confirmed");
}

#[tokio::test(flavor = "multi_thread")]
async fn frozen_before_send_does_not_send_after_its_window() {
    let fleet = Fleet::start().await;
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let first = contact.created();
    let frozen = ready(fleet.narrow_worker().failpoint("after_sent:stop")).await;
    fleet.publish(&first).await;
    frozen.frozen(SOON).await;
    let worker = fleet.working().await;
    let second = rename(&mut contact);
    fleet.publish(&second).await;
    // Waits for the lease, then for the settle time, both of the frozen one.
    fleet.becomes(&second, Fate::Covered).await;
    frozen.thaw();
    settles(&frozen, &first, 1).await;
    fleet.ends([worker, frozen], [&first, &second]).await;
    fleet.has_one(&contact).await;
    assert_eq!(fleet.calls(Call::AddPartner), 1, "{}", fleet.story().await);
    assert_eq!(fleet.effects().await[0].state, "abandoned");
}

#[tokio::test(flavor = "multi_thread")]
async fn redelivery_to_the_same_process_is_a_stranger() {
    let fleet = Fleet::start().await;
    let (worker, contact, event) = redelivered_while_it_runs(&fleet).await;
    fleet.ends([worker], [&event]).await;
    fleet.has_one(&contact).await;
    assert_eq!(fleet.calls(Call::AddPartner), 1);
    assert_eq!(fleet.effects().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn late_answer_after_a_lost_lease_records_the_fact_only() {
    let fleet = Fleet::start().await;
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let first = contact.created();
    let frozen = ready(fleet.narrow_worker().failpoint("after_call:stop")).await;
    fleet.publish(&first).await;
    frozen.frozen(SOON).await;
    let worker = fleet.working().await;
    let second = rename(&mut contact);
    fleet.publish(&second).await;
    fleet.becomes(&second, Fate::Covered).await;
    let before = fleet.link(contact.id()).await.unwrap();
    frozen.thaw();
    settles(&frozen, &first, 1).await;
    fleet.ends([worker, frozen], [&first, &second]).await;
    let after = fleet.link(contact.id()).await.unwrap();
    assert_eq!(
        (before.applied_k, before.target_id),
        (after.applied_k, after.target_id)
    );
    fleet.has_one(&contact).await;
    assert_eq!(fleet.calls(Call::AddPartner), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn applied_never_goes_back() {
    let fleet = Fleet::start().await;
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let first = contact.created();
    let second = rename(&mut contact);
    let third = rename(&mut contact);
    let point = format!("after_call:stop:1:{}", second["id"].as_str().unwrap());
    let frozen = ready(fleet.narrow_worker().failpoint(&point)).await;
    fleet.publish(&first).await;
    fleet.becomes(&first, Fate::Covered).await;
    fleet.publish(&second).await;
    frozen.frozen(SOON).await;
    let worker = fleet.working().await;
    fleet.publish(&third).await;
    fleet.becomes(&third, Fate::Covered).await;
    frozen.thaw();
    fleet
        .ends([worker, frozen], [&first, &second, &third])
        .await;
    let link = fleet.link(contact.id()).await.unwrap();
    assert_eq!(
        link.applied_k.as_deref(),
        Some(order_key(&third, 0).as_bytes())
    );
    fleet.has_one(&contact).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn found_record_with_other_content_proves_nothing() {
    let fleet = Fleet::start().await;
    let worker = fleet.working().await;
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    fleet.fault_on(Call::AddPartner, Fault::Error { status: 502 });
    let first = contact.created();
    fleet.publish(&first).await;
    fleet
        .effect("unknown", |effect| effect.state == "unknown")
        .await;
    fleet.person_adds(PartnerEdit {
        customer: Some("Nekdo drug d.o.o.".to_owned()),
        business_entity: Some(true),
        tax_id_number: contact.record["tax_id"].as_str().map(str::to_owned),
        ..PartnerEdit::default()
    });
    fleet.ends([worker], [&first]).await;
    fleet.has_one(&contact).await;
    let effects = fleet.effects().await;
    assert_eq!(effects[0].state, "abandoned", "{effects:#?}");
    assert_eq!(effects[1].operation, "update", "{effects:#?}");
    assert_eq!(fleet.calls(Call::AddPartner), 1);
}

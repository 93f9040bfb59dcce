//! What is held leaves by itself once nothing holds it (V18, V19, crash window 15): real processes, and nobody who wakes the
//! keeper. That a hundred races of holding against repairing lose no wake-up stands in `shared/store/tests/it/holds.rs`.

use std::time::Duration;

use serde_json::{Value, json};
use simulators::metakocka::{Call, Fault, ScriptedFault};
use store::links::{HeldItem, HeldVerdict, Links};
use testkit::{Contact, Contacts, Running, wait_for};
use uuid::Uuid;
use worker::{HoldCause, WaitsFor};

use crate::fleet::{
    self, END, Fate, Fleet, LEASE, SOON, TENANT, id_of, order_key, plain, ready, rename, settles,
};

fn unauthorised() -> ScriptedFault {
    ScriptedFault::new(Fault::Auth { code: 3 })
}

fn two_contacts() -> [Contact; 2] {
    let mut source = Contacts::new(TENANT, 1);
    [plain(&mut source), plain(&mut source)]
}

async fn state(fleet: &Fleet) -> String {
    sqlx::query_scalar("select state from connection")
        .fetch_one(fleet.database.pool())
        .await
        .unwrap()
}

/// `kurir connection update` with the same credentials: what counts is the epoch.
async fn new_credentials(fleet: &Fleet) {
    let update = [
        "connection",
        "update",
        "--tenant",
        TENANT,
        "--system",
        "metakocka",
        "--credentials-env",
        "TEST_CREDENTIALS",
    ];
    fleet
        .kurir(&update)
        .env(
            "TEST_CREDENTIALS",
            r#"{"secret_key":"sim-key","company_id":"4711"}"#,
        )
        .run(END)
        .await
        .expect(0);
}

/// Stops in its settling: the row that it writes afterwards comes late.
async fn frozen_before_hold(fleet: &Fleet, event: &Value) -> Running {
    let armed = format!("before_hold:stop:1:{}", id_of(event));
    let frozen = ready(fleet.narrow_worker().failpoint(&armed)).await;
    fleet.publish(event).await;
    frozen.frozen(SOON).await;
    frozen
}

/// V18. A refusal is found, and before it is written down somebody replaces the credentials and tests them.
#[tokio::test(flavor = "multi_thread")]
async fn late_401_does_not_suspend_a_repaired_connection() {
    let fleet = Fleet::start().await;
    let keeper = fleet.keeping().await;
    let [mut contact, _] = two_contacts();
    let event = contact.created();
    fleet.fault(unauthorised().times(1));
    let frozen = frozen_before_hold(&fleet, &event).await;
    new_credentials(&fleet).await;
    fleet.accepted().await;
    frozen.thaw();
    fleet.becomes(&event, Fate::Covered).await;
    assert_eq!(state(&fleet).await, "ok");
    fleet.ends([frozen, keeper], [&event]).await;
    fleet.has_one(&contact).await;
    assert_eq!(fleet.count("select count(*) from notification").await, 0);
    assert_eq!(
        fleet
            .count("select count(*) from link_history where what = 'held'")
            .await,
        0
    );
}

/// V18. The gate stops an event for a suspension that is over before the row is written. Another one's row was written in
/// time and nobody is told of it: no keeper ran while the connection was repaired.
#[tokio::test(flavor = "multi_thread")]
async fn late_hold_is_released() {
    let fleet = Fleet::start().await;
    let [mut one, mut other] = two_contacts();
    let (first, second) = (one.created(), other.created());
    fleet.fault(unauthorised().always());
    let worker = fleet.working().await;
    fleet.publish(&first).await;
    fleet.becomes(&first, Fate::Held).await;
    worker.terminate();
    worker.ended(END).await;
    let frozen = frozen_before_hold(&fleet, &second).await;
    fleet.repair().await;
    frozen.thaw();
    // Not held for what is over: handled anew, and then behind the older one that still waits.
    settles(&frozen, &second, 2).await;
    assert_ne!(fleet.held(&second).await.as_deref(), Some("suspended"));
    assert_eq!(fleet.held(&first).await.as_deref(), Some("suspended"));
    let keeper = fleet.keeping().await;
    fleet.becomes(&first, Fate::Covered).await;
    fleet.ends([frozen, keeper], [&first, &second]).await;
    for contact in [&one, &other] {
        fleet.has_one(contact).await;
    }
}

/// Through the function that every hold goes through: this event waits until that contact is linked.
async fn wait_for_link_of(fleet: &Fleet, event: &Value, prerequisite: &Contact) {
    let connection: Uuid = sqlx::query_scalar("select id from connection")
        .fetch_one(fleet.database.pool())
        .await
        .unwrap();
    let links = Links::new(fleet.database.pool().clone(), fleet.broker.prefix(), LEASE);
    let item = HeldItem {
        worker: "metakocka-sync".to_owned(),
        tenant: TENANT.to_owned(),
        target_system: "metakocka".to_owned(),
        connection_id: Some(connection),
        epoch: None,
        cause: HoldCause::Prerequisite.as_str().to_owned(),
        person: false,
        detail: format!("waits for contact {}", prerequisite.id()),
        kind: "contact".to_owned(),
        source_system: "crm".to_owned(),
        source_account: "default".to_owned(),
        source_id: event["subject"].as_str().unwrap()["contact/".len()..].to_owned(),
        k: Some(order_key(event, 0)),
        link: None,
        source: event["source"].as_str().unwrap().to_owned(),
        event_id: id_of(event).to_owned(),
        generation: 0,
        event_type: event["type"].as_str().unwrap().to_owned(),
        subject: event["subject"].as_str().unwrap().to_owned(),
        body: event.to_string().into_bytes(),
        properties: json!({ "content_type": "application/cloudevents+json; charset=utf-8" }),
        headers: json!({ "x-connection": connection.to_string() }),
        release_at: None,
        waits_for: Some(WaitsFor::Record {
            kind: "contact".to_owned(),
            source_system: "crm".to_owned(),
            source_account: "default".to_owned(),
            source_id: prerequisite.id().to_owned(),
        }),
    };
    assert_eq!(links.hold(vec![item]).await.unwrap(), [HeldVerdict::Held]);
}

/// V19. Documents are not carried yet: a contact's event stands for one, held with the contact that it needs as its
/// prerequisite, by the function that all holds use. Keeper, broker and worker are what a document will meet.
#[tokio::test(flavor = "multi_thread")]
async fn document_waiting_for_contact_returns_when_linked() {
    let fleet = Fleet::start().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let [mut contact, mut document] = two_contacts();
    let (needed, waiting) = (contact.created(), document.created());
    wait_for_link_of(&fleet, &waiting, &contact).await;
    assert_eq!(fleet.held(&waiting).await.as_deref(), Some("prerequisite"));
    fleet.publish(&needed).await;
    fleet.becomes(&waiting, Fate::Covered).await;
    fleet.ends([worker, keeper], [&needed, &waiting]).await;
    for one in [&contact, &document] {
        fleet.has_one(one).await;
    }
    // The one that waited came second.
    let made = fleet.partners();
    assert_eq!(made[0].customer, contact.name());
}

/// V19, with the same stand-in: the contact dies first, and is linked by its replay.
#[tokio::test(flavor = "multi_thread")]
async fn also_after_the_contact_was_replayed() {
    let fleet = Fleet::start().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let [mut contact, mut document] = two_contacts();
    let (needed, waiting) = (contact.created(), document.created());
    let refusal = Fault::Refuse {
        code: 2,
        text: "not this one".to_owned(),
    };
    fleet.fault(ScriptedFault::new(refusal).on(Call::AddPartner).always());
    fleet.publish(&needed).await;
    fleet.becomes(&needed, Fate::Dead).await;
    wait_for_link_of(&fleet, &waiting, &contact).await;
    fleet.simulator.clear_faults();
    // Longer than a round of the keeper.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(fleet.fate(&waiting).await, Fate::Held, "dead is not linked");
    fleet.replay(&needed).await;
    fleet.dead_letter_is(&needed, "resolved").await;
    fleet.becomes(&waiting, Fate::Covered).await;
    fleet.ends([worker, keeper], [&needed, &waiting]).await;
    for one in [&contact, &document] {
        fleet.has_one(one).await;
    }
}

/// Row committed, event not acknowledged: it comes back, meets its own row, and there is no second one.
#[tokio::test(flavor = "multi_thread")]
async fn window_15_killed_between_the_held_row_and_ack() {
    let fleet = Fleet::start().await;
    let [mut contact, _] = two_contacts();
    let event = contact.created();
    fleet.fault(unauthorised().always());
    let dying = fleet::dying(fleet.worker().failpoint("after_hold:kill")).await;
    fleet.publish(&event).await;
    dying.killed(SOON).await;
    assert_eq!(fleet.fate(&event).await, Fate::Held);
    // It comes back while its cause lives.
    let worker = fleet.working().await;
    settles(&worker, &event, 1).await;
    assert_eq!(fleet.count("select count(*) from held").await, 1);
    let keeper = fleet.keeping().await;
    fleet.repair().await;
    fleet.becomes(&event, Fate::Covered).await;
    fleet.ends([worker, keeper], [&event]).await;
    fleet.has_one(&contact).await;
    assert_eq!(fleet.calls(Call::AddPartner), 1, "{}", fleet.story().await);
}

/// As before, and the cause has ended when it comes back: the released copy and the original meet.
#[tokio::test(flavor = "multi_thread")]
async fn window_15_repaired_before_the_unacknowledged_event_returns() {
    let fleet = Fleet::start().await;
    let [mut contact, _] = two_contacts();
    let event = contact.created();
    fleet.fault(unauthorised().always());
    let dying = fleet::dying(fleet.worker().failpoint("after_hold:kill")).await;
    fleet.publish(&event).await;
    dying.killed(SOON).await;
    fleet.repair().await;
    let keeper = fleet.keeping().await;
    wait_for("the row is let go", SOON, async || {
        match fleet.count("select count(*) from held").await {
            0 => Ok(()),
            left => Err(left),
        }
    })
    .await;
    let worker = fleet.working().await;
    settles(&worker, &event, 2).await;
    fleet.ends([worker, keeper], [&event]).await;
    fleet.has_one(&contact).await;
    assert_eq!(fleet.calls(Call::AddPartner), 1, "{}", fleet.story().await);
}

/// The keeper dies before its release is committed, another one after: the first leaves the row, the second the outbox.
#[tokio::test(flavor = "multi_thread")]
async fn window_15_killed_while_the_cause_is_repaired() {
    let fleet = Fleet::start().await;
    let [mut contact, _] = two_contacts();
    let event = contact.created();
    fleet.fault(unauthorised().always());
    let worker = fleet.working().await;
    fleet.publish(&event).await;
    fleet.becomes(&event, Fate::Held).await;
    let dying = fleet::dying(fleet.keeper().failpoint("before_release:kill")).await;
    fleet.repair().await;
    dying.killed(SOON).await;
    assert_eq!(
        (
            fleet.fate(&event).await,
            fleet
                .count("select count(*) from outbox where exchange = ''")
                .await
        ),
        (Fate::Held, 0)
    );
    // Not one that relays: what it leaves can be looked at.
    let dying = fleet.keeper().setting("keeper.outbox", false);
    let dying = dying.failpoint("after_release:kill").start();
    dying.killed(SOON).await;
    assert_eq!(
        (
            fleet.fate(&event).await,
            fleet
                .count("select count(*) from outbox where exchange = ''")
                .await
        ),
        (Fate::Missing, 1)
    );
    let keeper = fleet.keeping().await;
    fleet.becomes(&event, Fate::Covered).await;
    fleet.ends([worker, keeper], [&event]).await;
    fleet.has_one(&contact).await;
    assert_eq!(fleet.calls(Call::AddPartner), 1, "{}", fleet.story().await);
}

/// Whoever of the replicas notices it, people are told once, without a credential; a good test ends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_is_told_once() {
    let fleet = Fleet::start().await;
    let (one, other) = tokio::join!(ready(fleet.narrow_worker()), ready(fleet.narrow_worker()));
    let (first, second) = tokio::join!(fleet.keeping(), fleet.keeping());
    let mut source = Contacts::new(TENANT, 1);
    let mut contacts: Vec<Contact> = (0..6).map(|_| plain(&mut source)).collect();
    let mut events: Vec<Value> = contacts.iter_mut().map(Contact::created).collect();
    let told = || {
        let suspended = |line: &str| line.contains("\"connection suspended\"");
        first.count_lines(suspended) + second.count_lines(suspended)
    };
    for round in 1..=2 {
        fleet.fault(unauthorised().always());
        fleet.publish_all(&events[(round - 1) * 6..]).await;
        for event in &events[(round - 1) * 6..] {
            fleet.becomes(event, Fate::Held).await;
        }
        wait_for("people are told", SOON, async || {
            let all = told();
            if all == round { Ok(()) } else { Err(all) }
        })
        .await;
        fleet.repair().await;
        for event in &events {
            fleet.becomes(event, Fate::Covered).await;
        }
        events.extend(contacts.iter_mut().map(rename));
    }
    events.truncate(12);
    let listed = fleet.command(&["notifications", "list", "--json"]).await;
    let listed: Value = serde_json::from_str(&listed.expect(0).stdout).unwrap();
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert!(listed.iter().all(|one| !one["sent_at"].is_null()));
    let line = first.line("of the suspension", SOON, |line| {
        line.contains("connection suspended")
    });
    let line = tokio::select! {
        line = line => line,
        line = second.line("of the suspension", SOON, |line| line.contains("connection suspended")) => line,
    };
    assert!(
        line.contains("\"WARN\"")
            && line.contains(TENANT)
            && line.contains("metakocka")
            && line.contains("reason"),
        "{line}"
    );
    assert!(!line.contains("sim-key"), "{line}");
    assert_eq!(told(), 2, "once for each");
    fleet.ends([one, other, first, second], &events).await;
}

/// Two records with one key are one record and one conflict. When the one that owns the key is deleted, the other is made
/// without anybody's hand.
#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_about_a_key_ends_when_the_key_is_free() {
    let fleet = Fleet::start().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let [mut one, mut other] = two_contacts();
    other.record["tax_id"] = one.record["tax_id"].clone();
    let first = one.created();
    fleet.publish(&first).await;
    fleet.becomes(&first, Fate::Covered).await;
    let second = other.created();
    fleet.publish(&second).await;
    fleet.becomes(&second, Fate::Held).await;
    assert_eq!(fleet.held(&second).await.as_deref(), Some("conflict"));
    // A later version meets the record in conflict, and takes the place of the one before it.
    let third = rename(&mut other);
    fleet.publish(&third).await;
    fleet.becomes(&third, Fate::Held).await;
    let gone = one.deleted();
    fleet.publish(&gone).await;
    fleet.becomes(&third, Fate::Covered).await;
    fleet
        .ends([worker, keeper], [&first, &second, &third, &gone])
        .await;
    let partners = fleet.partners();
    assert_eq!(
        partners
            .iter()
            .filter(|partner| partner.customer == other.name())
            .count(),
        1,
        "{partners:#?}"
    );
    let link = fleet.link(other.id()).await.unwrap();
    assert_eq!(link.state, "linked", "{}", fleet.story().await);
}

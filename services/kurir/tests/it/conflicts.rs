//! Conflicts have a way out: what the pages and the commands advise is done here, once for each kind, and helps. Where a
//! release cannot help it is refused, with the name of what stands in the way.

use std::time::Duration;

use serde_json::{Value, json};
use simulators::metakocka::core::{ChangedInIndex, ReadById};
use simulators::metakocka::{Call, Fault, MkId, PartnerEdit, PersonContact, Readings};
use testkit::{Contact, Contacts, wait_for};

use crate::fleet::{COMPANY, Fate, Fleet, SOON, TENANT, id_of, plain, rename};

const MAILBOX: &str = "racuni@holding.example";

/// Two customers with a number of their own, both linked; then the second one gets the mailbox of the first, and changes
/// once more.
async fn a_shared_mailbox(fleet: &Fleet) -> (Contact, Contact, Vec<Value>) {
    let mut source = Contacts::new(TENANT, 1);
    let (mut first, mut second) = (plain(&mut source), plain(&mut source));
    first.record["emails"] = json!([{"value": MAILBOX, "primary": true}]);
    let mut events = vec![first.created(), second.created()];
    for event in &events {
        fleet.publish(event).await;
        fleet.becomes(event, Fate::Covered).await;
    }
    second.record["emails"] = json!([{"value": MAILBOX, "primary": true}]);
    events.push(second.updated());
    second.record["phones"] = json!([{"raw": "040 111 222"}]);
    events.push(second.updated());
    for event in &events[2..] {
        fleet.publish(event).await;
    }
    fleet.becomes(&events[3], Fate::Held).await;
    (first, second, events)
}

async fn held_id(fleet: &Fleet, event: &Value) -> String {
    let list = ["held", "list", "--text", id_of(event), "--json"];
    let found: Value = serde_json::from_str(&fleet.command(&list).await.expect(0).stdout).unwrap();
    found[0]["id"].to_string()
}

async fn release(fleet: &Fleet, event: &Value) {
    let id = held_id(fleet, event).await;
    fleet.command(&["held", "release", &id]).await.expect(0);
}

async fn cause(fleet: &Fleet, contact: &Contact) -> Option<String> {
    sqlx::query_scalar("select conflict_cause from link where source_id = $1")
        .bind(contact.id())
        .fetch_optional(fleet.database.pool())
        .await
        .unwrap()
        .flatten()
}

async fn is_in_conflict(fleet: &Fleet, contact: &Contact, wanted: Option<&str>) {
    wait_for("the conflict", SOON, async || {
        let found = cause(fleet, contact).await;
        if found.as_deref() == wanted {
            Ok(())
        } else {
            Err((found, fleet.story().await))
        }
    })
    .await;
}

fn with_tax_number_of(contact: &Contact, name: &str) -> PartnerEdit {
    PartnerEdit {
        customer: Some(name.to_owned()),
        business_entity: Some(true),
        tax_id_number: contact.record["tax_id"].as_str().map(str::to_owned),
        ..PartnerEdit::default()
    }
}

fn person_deletes(fleet: &Fleet, partner: MkId) {
    let deleted = fleet
        .simulator
        .with_company(COMPANY, |company, now| company.person_deletes(partner, now));
    deleted.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_cannot_help_is_refused_with_what_stands_in_the_way() {
    let fleet = Fleet::start().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let (first, mut second, mut events) = a_shared_mailbox(&fleet).await;
    let id = held_id(&fleet, &events[3]).await;
    let (owner, record) = (
        format!("contact/{}", first.id()),
        format!("contact/{}", second.id()),
    );
    let by_id = vec!["held", "release", &id];
    let by_cause = vec!["held", "release", "--cause", "conflict", "--tenant", TENANT];
    for release in [
        by_id,
        by_cause,
        vec!["held", "release", "--all"],
        vec!["links", "settle", &record],
    ] {
        let refused = fleet.command(&release).await.expect(4).stderr;
        for words in [MAILBOX, &owner, &record, "so that only one has the key"] {
            assert!(refused.contains(words), "{words} is missing in\n{refused}");
        }
    }
    let show = fleet.command(&["held", "show", &id]).await.expect(0).stdout;
    assert!(show.contains("a release alone does not help"), "{show}");
    let show = fleet
        .command(&["links", "show", &record])
        .await
        .expect(0)
        .stdout;
    assert!(
        show.contains("conflict: another record has one of its keys"),
        "{show}"
    );
    assert!(show.contains("so that only one has the key"), "{show}");

    // Others of the same filter go.
    let with_poison = "insert into held (worker, tenant, target_system, connection_id, reason, k, source, event_id, generation,
        type, subject, body, properties, headers, held_at)
        select worker, tenant, target_system, connection_id, 'poison', null, source, 'another', 0, type, subject, body,
        properties, headers, held_at from held";
    fleet.sql(with_poison).await;
    let some = fleet
        .command(&["held", "release", "--tenant", TENANT])
        .await
        .expect(0)
        .stdout;
    assert!(some.starts_with("released 1 event (1 poison)"), "{some}");
    assert!(
        some.contains("1 event would be held again at once"),
        "{some}"
    );

    // The advice: the second one gives the mailbox up at its source, and goes on by itself.
    second.record["emails"] = json!([{"value": "nabava@drugi.example", "primary": true}]);
    events.push(second.updated());
    fleet.publish(&events[4]).await;
    fleet.becomes(&events[4], Fate::Covered).await;
    fleet.ends([worker, keeper], &events).await;
    fleet.has_one(&second).await;
    assert_eq!(cause(&fleet, &second).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_conflict_ends_when_the_other_record_gives_the_key_up() {
    let fleet = Fleet::start().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let (mut first, second, mut events) = a_shared_mailbox(&fleet).await;
    first.record["emails"] = json!([{"value": "prvi@holding.example", "primary": true}]);
    events.push(first.updated());
    fleet.publish(&events[4]).await;
    fleet.becomes(&events[3], Fate::Covered).await;
    fleet.ends([worker, keeper], &events).await;
    fleet.has_one(&second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_conflict_ends_when_either_record_is_deleted() {
    for own in [false, true] {
        let fleet = Fleet::start().await;
        let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
        let (mut first, mut second, mut events) = a_shared_mailbox(&fleet).await;
        events.push(if own {
            second.deleted()
        } else {
            first.deleted()
        });
        fleet.publish(&events[4]).await;
        fleet.becomes(&events[4], Fate::Covered).await;
        fleet.becomes(&events[3], Fate::Covered).await;
        fleet.ends([worker, keeper], &events).await;
        let state = fleet.link(second.id()).await.unwrap().state;
        assert_eq!(state, if own { "deleted" } else { "linked" });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_records_the_one_that_is_left_is_adopted_after_a_release() {
    let fleet = Fleet::start().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let stays = fleet.person_adds(with_tax_number_of(&contact, "Prvi d.o.o."));
    let goes = fleet.person_adds(with_tax_number_of(&contact, "Drugi d.o.o."));
    let event = contact.created();
    fleet.publish(&event).await;
    is_in_conflict(&fleet, &contact, Some("several_records")).await;
    fleet.becomes(&event, Fate::Held).await;
    person_deletes(&fleet, goes);
    release(&fleet, &event).await;
    fleet.becomes(&event, Fate::Covered).await;
    fleet.ends([worker, keeper], [&event]).await;
    fleet.has_one(&contact).await;
    assert_eq!(fleet.partner_of(contact.id()).await.unwrap().mk_id, stays);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_another_links_is_left_to_it_after_a_change_and_a_release() {
    let fleet = Fleet::start().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let mut source = Contacts::new(TENANT, 1);
    let (mut one, mut other) = (plain(&mut source), plain(&mut source));
    other.record.as_object_mut().unwrap().remove("tax_id");
    other.record["emails"] = json!([{"value": MAILBOX, "primary": true}]);
    fleet.person_adds(PartnerEdit {
        contacts: Some(vec![PersonContact {
            name: "Prodaja".to_owned(),
            email: MAILBOX.to_owned(),
            ..PersonContact::default()
        }]),
        ..with_tax_number_of(&one, "Skupaj d.o.o.")
    });
    let mut events = vec![one.created(), other.created()];
    fleet.publish(&events[0]).await;
    fleet.becomes(&events[0], Fate::Covered).await;
    fleet.publish(&events[1]).await;
    is_in_conflict(&fleet, &other, Some("record_taken")).await;
    other.record["emails"] = json!([{"value": "drugi@skupaj.example", "primary": true}]);
    events.push(other.updated());
    fleet.publish(&events[2]).await;
    fleet.becomes(&events[2], Fate::Held).await;
    release(&fleet, &events[2]).await;
    fleet.becomes(&events[2], Fate::Covered).await;
    fleet.ends([worker, keeper], &events).await;
    fleet.has_one(&other).await;
    assert_eq!(fleet.partners().len(), 2);
}

fn address(kind: &str, street: &str) -> Value {
    json!({"kind": kind, "street": street, "postal_code": "1000", "city": "Ljubljana", "country": "SI"})
}

/// With a main address, made at the partner.
async fn with_an_address(fleet: &Fleet) -> (Contact, Value) {
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    contact.record["addresses"] = json!([address("main", "Glavni trg 1")]);
    let event = contact.created();
    fleet.publish(&event).await;
    fleet.becomes(&event, Fate::Covered).await;
    (contact, event)
}

/// A further delivery address: the record must be read before it is added.
fn with_another_address(contact: &mut Contact, street: &str) -> Value {
    contact.record["addresses"] =
        json!([address("main", "Glavni trg 1"), address("delivery", street)]);
    contact.updated()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gone_record_goes_on_by_itself_when_it_is_seen_again() {
    let fleet = Fleet::start().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let (mut contact, created) = with_an_address(&fleet).await;
    let mut events = vec![created];
    let partner = fleet.partner_of(contact.id()).await.unwrap();
    // Longer away than the settings expect.
    let away = |index_lag_seconds| Readings {
        index_lag_seconds,
        changed_in_index: ChangedInIndex::Hidden,
        read_by_id: ReadById::Lags,
        ..Readings::kind()
    };
    fleet.simulator.set_readings(away(3_000));
    let edit = PartnerEdit {
        registration_number: Some(partner.registration_number.clone()),
        ..PartnerEdit::default()
    };
    fleet
        .simulator
        .with_company(COMPANY, |company, now| {
            company.person_edits(partner.mk_id, edit, now)
        })
        .unwrap()
        .unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    events.push(with_another_address(&mut contact, "Dvoriščna 3"));
    fleet.publish(&events[1]).await;
    is_in_conflict(&fleet, &contact, Some("gone")).await;
    fleet.becomes(&events[1], Fate::Held).await;
    fleet.recheck_now().await;
    let looked = "select count(*) from link where recheck_step > 0";
    wait_for("a look that does not show it", SOON, async || {
        if fleet.count(looked).await == 1 {
            Ok(())
        } else {
            Err(fleet.story().await)
        }
    })
    .await;
    assert_eq!(cause(&fleet, &contact).await.as_deref(), Some("gone"));
    fleet.simulator.set_readings(away(0));
    fleet.recheck_now().await;
    fleet.becomes(&events[1], Fate::Covered).await;
    fleet.ends([worker, keeper], &events).await;
    fleet.has_one(&contact).await;
    assert_eq!(fleet.partners().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gone_record_is_made_anew_after_its_deletion_at_the_source_and_a_release() {
    let fleet = Fleet::start().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let (mut contact, created) = with_an_address(&fleet).await;
    let mut events = vec![created];
    person_deletes(&fleet, fleet.partner_of(contact.id()).await.unwrap().mk_id);
    events.push(with_another_address(&mut contact, "Dvoriščna 3"));
    fleet.publish(&events[1]).await;
    is_in_conflict(&fleet, &contact, Some("gone")).await;
    fleet.becomes(&events[1], Fate::Held).await;
    events.push(contact.deleted());
    fleet.publish(&events[2]).await;
    fleet.becomes(&events[2], Fate::Held).await;
    release(&fleet, &events[2]).await;
    fleet.becomes(&events[2], Fate::Covered).await;
    events.push(rename(&mut contact));
    fleet.publish(&events[3]).await;
    fleet.becomes(&events[3], Fate::Covered).await;
    fleet.ends([worker, keeper], &events).await;
    fleet.has_one(&contact).await;
    assert_eq!(fleet.partners().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_without_a_held_event_is_settled_by_its_link() {
    let fleet = Fleet::start().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let mut events = vec![contact.created()];
    fleet.publish(&events[0]).await;
    fleet.becomes(&events[0], Fate::Covered).await;
    let double = fleet.person_adds(with_tax_number_of(&contact, "Dvojnik d.o.o."));
    fleet.sql("update link set recheck_at = kurir_now()").await;
    is_in_conflict(&fleet, &contact, Some("second_record")).await;
    let record = format!("contact/{}", contact.id());
    let shown = fleet
        .command(&["links", "show", &record])
        .await
        .expect(0)
        .stdout;
    assert!(shown.contains("then `kurir links settle 1`"), "{shown}");
    person_deletes(&fleet, double);
    fleet
        .command(&["links", "settle", &record, "--tenant", "another"])
        .await
        .expect(3);
    fleet.command(&["links", "settle", &record]).await.expect(0);
    fleet.command(&["links", "settle", &record]).await.expect(4);
    events.push(rename(&mut contact));
    fleet.publish(&events[1]).await;
    fleet.becomes(&events[1], Fate::Covered).await;
    fleet.ends([worker, keeper], &events).await;
    fleet.has_one(&contact).await;
    let shown = fleet
        .command(&["links", "show", &record])
        .await
        .expect(0)
        .stdout;
    assert!(shown.contains("conflict settled by hand"), "{shown}");
}

/// A contact that nothing finds at the partner, made there by a call whose answer was lost, and held for that.
async fn an_unclear_create(fleet: &Fleet) -> (Contact, Value) {
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let record = contact.record.as_object_mut().unwrap();
    record.insert("name".to_owned(), json!("***"));
    for key in ["tax_id", "emails", "addresses"] {
        record.remove(key);
    }
    fleet.fault_on(Call::AddPartner, Fault::CommitThenDrop);
    let event = contact.created();
    fleet.publish(&event).await;
    is_in_conflict(fleet, &contact, Some("unclear_create")).await;
    fleet.becomes(&event, Fate::Held).await;
    (contact, event)
}

async fn may_be_given_up(fleet: &Fleet) {
    let open = "select count(*) from effect where state in ('sent', 'unknown') and settle_at > kurir_now()";
    wait_for("the settle time", SOON, async || {
        match fleet.count(open).await {
            0 => Ok(()),
            open => Err(open),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unclear_create_is_given_up_by_hand_and_made_once() {
    let fleet = Fleet::start().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let (contact, event) = an_unclear_create(&fleet).await;
    let id = held_id(&fleet, &event).await;
    let record = format!("contact/{}", contact.id());
    fleet
        .sql("update effect set settle_at = kurir_now() + interval '1 hour'")
        .await;
    for early in [
        vec!["held", "release", &id],
        vec!["held", "release", "--cause", "conflict", "--tenant", TENANT],
        vec!["links", "settle", &record],
    ] {
        let refused = fleet.command(&early).await.expect(4).stderr;
        assert!(refused.contains("may still take effect"), "{refused}");
    }
    let open = "select count(*) from effect where state = 'unknown'";
    assert_eq!(fleet.count(open).await, 1);
    assert_eq!(fleet.fate(&event).await, Fate::Held);
    let shown = fleet.command(&["held", "show", &id]).await.expect(0).stdout;
    assert!(shown.contains("delete it there, or, to keep it"), "{shown}");

    fleet.sql("update effect set settle_at = kurir_now()").await;
    person_deletes(&fleet, fleet.partners()[0].mk_id);
    // Two admins at one time.
    let by_id = ["held", "release", &id];
    let settle = ["links", "settle", &record];
    tokio::join!(fleet.command(&by_id), fleet.command(&settle));
    fleet.becomes(&event, Fate::Covered).await;
    fleet.ends([worker, keeper], [&event]).await;
    assert_eq!(fleet.partners().len(), 1);
    assert_eq!(fleet.calls(Call::AddPartner), 2);
    assert_eq!(cause(&fleet, &contact).await, None);
    let given_up = "select count(*) from link_history where what = 'abandoned' and detail ->> 'actor' is not null";
    assert_eq!(fleet.count(given_up).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_unclear_create_made_is_kept_by_a_key_of_both_sides() {
    let fleet = Fleet::start().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let (mut contact, event) = an_unclear_create(&fleet).await;
    let stray = fleet.partners()[0].mk_id;
    let edit = PartnerEdit {
        contacts: Some(vec![PersonContact {
            name: "Zvezda".to_owned(),
            email: MAILBOX.to_owned(),
            ..PersonContact::default()
        }]),
        ..PartnerEdit::default()
    };
    fleet
        .simulator
        .with_company(COMPANY, |company, now| {
            company.person_edits(stray, edit, now)
        })
        .unwrap()
        .unwrap();
    contact.record["emails"] = json!([{"value": MAILBOX, "primary": true}]);
    let newer = contact.updated();
    fleet.publish(&newer).await;
    fleet.becomes(&newer, Fate::Held).await;
    may_be_given_up(&fleet).await;
    release(&fleet, &newer).await;
    fleet.becomes(&newer, Fate::Covered).await;
    fleet.ends([worker, keeper], [&event, &newer]).await;
    assert_eq!(fleet.partners().len(), 1);
    assert_eq!(fleet.partner_of(contact.id()).await.unwrap().mk_id, stray);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_changes_with_one_version_are_told_as_what_they_are() {
    let fleet = Fleet::start().await;
    let worker = fleet.working().await;
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let first = contact.created();
    let with = |id: &str, name: &str| {
        let mut event = first.clone();
        event["id"] = json!(id);
        event["data"]["contact"]["name"] = json!(name);
        event
    };
    let name = contact.name();
    let events = [
        with("m", name),
        with("b", "Starejši d.o.o."),
        with("c", name),
        with("x", "Novejši d.o.o."),
    ];
    for event in &events {
        fleet.publish(event).await;
        fleet.becomes(event, Fate::Covered).await;
        fleet.rests([event]).await;
    }
    fleet.ends([worker], &events).await;
    let record = format!("contact/{}", contact.id());
    let shown = fleet
        .command(&["links", "show", &record])
        .await
        .expect(0)
        .stdout;
    for told in [
        "m has this version, too, with other content: the higher event id wins, m",
        "m has this version, too, with the same content: the higher event id wins, m",
        "m has this version, too, with other content: the higher event id wins, x",
    ] {
        assert!(shown.contains(told), "{told} is missing in\n{shown}");
    }
    assert_eq!(
        fleet.partner_of(contact.id()).await.unwrap().customer,
        "Novejši d.o.o."
    );
}

//! One record per natural key (V14, V15): two records of the CRM with one key, and records that people made.

use serde_json::{Value, json};
use simulators::metakocka::core::DeletedInIndex;
use simulators::metakocka::{Call, LogFilter, PartnerEdit, PersonContact, Readings};
use testkit::{Contact, Contacts, wait_for};

use crate::fleet::{Fate, Fleet, SOON, TENANT, id_of, plain};

/// What a person types who knows this contact by its tax number.
fn by_hand(contact: &Contact, name: &str) -> PartnerEdit {
    PartnerEdit {
        customer: Some(name.to_owned()),
        business_entity: Some(true),
        tax_id_number: contact.record["tax_id"].as_str().map(str::to_owned),
        ..PartnerEdit::default()
    }
}

/// One of the two is linked and the other is in conflict; answers with the linked one's place.
async fn one_is_in_conflict(fleet: &Fleet, contacts: [&Contact; 2], events: [&Value; 2]) -> usize {
    wait_for("one link and one conflict", SOON, async || {
        let links = fleet.links().await;
        let mut states: Vec<&str> = links.iter().map(|link| link.state.as_str()).collect();
        states.sort_unstable();
        if states == ["conflict", "linked"] {
            Ok(())
        } else {
            Err(fleet.story().await)
        }
    })
    .await;
    let first = fleet.link(contacts[0].id()).await.unwrap().state;
    let linked = usize::from(first != "linked");
    fleet.becomes(events[linked], Fate::Covered).await;
    fleet.becomes(events[1 - linked], Fate::Held).await;
    assert_eq!(
        fleet.held(events[1 - linked]).await.as_deref(),
        Some("conflict")
    );
    linked
}

#[tokio::test(flavor = "multi_thread")]
async fn two_links_one_key_make_one_record_and_one_conflict() {
    let fleet = Fleet::start().await;
    fleet.declare().await;
    let mut source = Contacts::new(TENANT, 1);
    let (mut one, mut other) = (plain(&mut source), plain(&mut source));
    other.record["tax_id"] = one.record["tax_id"].clone();
    let (first, second) = (one.created(), other.created());
    fleet.publish_all([&first, &second]).await;
    let worker = fleet.working().await;
    let linked = one_is_in_conflict(&fleet, [&one, &other], [&first, &second]).await;
    fleet.ends([worker], [&first, &second]).await;
    let partners = fleet.partners();
    assert_eq!(partners.len(), 1, "{partners:#?}");
    assert_eq!(partners[0].customer, [&one, &other][linked].name());
    assert_eq!(fleet.calls(Call::AddPartner), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn target_id_is_unique() {
    let fleet = Fleet::start().await;
    let worker = fleet.working().await;
    let mut source = Contacts::new(TENANT, 1);
    // One knows the partner by its tax number, the other by its e-mail address: no key in common.
    let (mut one, mut other) = (plain(&mut source), plain(&mut source));
    let email = "prodaja@skupaj.example";
    other.record.as_object_mut().unwrap().remove("tax_id");
    other.record["emails"] = json!([{"value": email, "primary": true}]);
    fleet.person_adds(PartnerEdit {
        contacts: Some(vec![PersonContact {
            name: "Prodaja".to_owned(),
            email: email.to_owned(),
            ..PersonContact::default()
        }]),
        ..by_hand(&one, "Skupaj d.o.o.")
    });
    let (first, second) = (one.created(), other.created());
    fleet.publish(&first).await;
    fleet.becomes(&first, Fate::Covered).await;
    fleet.publish(&second).await;
    let linked = one_is_in_conflict(&fleet, [&one, &other], [&first, &second]).await;
    assert_eq!(linked, 0, "{}", id_of(&second));
    fleet.ends([worker], [&first, &second]).await;
    fleet.has_one(&one).await;
    assert_eq!(fleet.partners().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn existing_record_is_adopted_before_create() {
    let fleet = Fleet::start().await;
    let worker = fleet.working().await;
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let existing = fleet.person_adds(by_hand(&contact, "Ročno vpisani d.o.o."));
    let event = contact.created();
    fleet.publish(&event).await;
    fleet.ends([worker], [&event]).await;
    fleet.has_one(&contact).await;
    assert_eq!(
        fleet.partner_of(contact.id()).await.unwrap().mk_id,
        existing
    );
    assert_eq!(fleet.calls(Call::AddPartner), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_existing_records_are_a_conflict() {
    let fleet = Fleet::start().await;
    let worker = fleet.working().await;
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    fleet.person_adds(by_hand(&contact, "Prvi d.o.o."));
    fleet.person_adds(by_hand(&contact, "Drugi d.o.o."));
    let before = fleet.partners();
    let event = contact.created();
    fleet.publish(&event).await;
    fleet.becomes(&event, Fate::Held).await;
    fleet.ends([worker], [&event]).await;
    assert_eq!(fleet.held(&event).await.as_deref(), Some("conflict"));
    assert_eq!(fleet.link(contact.id()).await.unwrap().state, "conflict");
    assert_eq!(fleet.partners(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn search_hit_is_read_by_id_before_adoption() {
    let fleet = Fleet::start().await;
    let worker = fleet.working().await;
    fleet.simulator.set_readings(Readings {
        deleted_in_index: DeletedInIndex::Stays,
        ..Readings::kind()
    });
    let mut contact = plain(&mut Contacts::new(TENANT, 1));
    let gone = fleet.person_adds(by_hand(&contact, "Ukinjeni d.o.o."));
    fleet
        .simulator
        .with_company(crate::fleet::COMPANY, |company, now| {
            company.person_deletes(gone, now)
        })
        .unwrap()
        .unwrap();
    let event = contact.created();
    fleet.publish(&event).await;
    fleet.ends([worker], [&event]).await;
    fleet.has_one(&contact).await;
    assert_ne!(fleet.partner_of(contact.id()).await.unwrap().mk_id, gone);
    // The search did show it, else this proves nothing.
    let looks = fleet.simulator.log(&LogFilter::call(Call::GetPartner));
    assert!(
        looks.iter().any(|look| look.mk_id == Some(gone)),
        "{looks:#?}"
    );
}

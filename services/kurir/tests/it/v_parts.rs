//! Chains of calls and appended parts (V26, V27, V35): each part once, whoever was killed between two calls, whatever
//! people added themselves.

use serde_json::{Value, json};
use simulators::metakocka::{
    Call, Fault, MkId, Partner, PartnerEdit, PersonAddress, ScriptedFault,
};
use testkit::{Contact, Contacts, wait_for};

use crate::fleet::{
    self, COMPANY, Fate, Fleet, SOON, TENANT, plain, ready, rename, settled, settles,
};

/// A delivery address in this street.
fn delivery(street: &str) -> Value {
    json!({"kind": "delivery", "street": street, "postal_code": "1000", "city": "Ljubljana", "country": "SI"})
}

fn set_deliveries(contact: &mut Contact, streets: &[&str]) {
    let mut addresses = vec![
        json!({"kind": "main", "street": "Glavni trg 1", "postal_code": "2000", "city": "Maribor", "country": "SI"}),
    ];
    addresses.extend(streets.iter().map(|street| delivery(street)));
    contact.record["addresses"] = addresses.into();
}

/// An organization with a main address and these delivery addresses: the first goes with the create, each further one
/// is a call of its own.
fn delivered(source: &mut Contacts, streets: &[&str]) -> Contact {
    let mut contact = plain(source);
    set_deliveries(&mut contact, streets);
    contact
}

/// As a person types the address that `delivery` sends.
fn by_hand(street: &str) -> PersonAddress {
    PersonAddress {
        street: street.to_owned(),
        post_number: "1000".to_owned(),
        city: "Ljubljana".to_owned(),
        country: "Slovenija".to_owned(),
        ..PersonAddress::default()
    }
}

/// A person adds an address to a partner, beside those it has.
fn person_adds_address(fleet: &Fleet, partner: &Partner, street: &str) {
    let known = partner.addresses.iter().map(|address| PersonAddress {
        mk_id: Some(address.mk_id),
        address_type: address.address_type,
        street: address.street.clone(),
        post_number: address.post_number.clone(),
        city: address.city.clone(),
        province: address.province.clone(),
        country: address.country.clone(),
    });
    let edit = PartnerEdit {
        addresses: Some(known.chain([by_hand(street)]).collect()),
        ..PartnerEdit::default()
    };
    fleet
        .simulator
        .with_company(COMPANY, |company, now| {
            company.person_edits(partner.mk_id, edit, now)
        })
        .unwrap()
        .unwrap();
}

/// Streets of all addresses of the contact's one partner, in order of the alphabet, without the main one.
async fn streets(fleet: &Fleet, contact: &Contact) -> Vec<String> {
    fleet.has_one(contact).await;
    let partner = fleet.partner_of(contact.id()).await.unwrap();
    let mut streets: Vec<String> = partner
        .addresses
        .iter()
        .map(|address| address.street.clone())
        .filter(|street| street != "Glavni trg 1")
        .collect();
    streets.sort();
    streets
}

async fn apply(fleet: &Fleet, event: &Value) {
    fleet.publish(event).await;
    fleet.becomes(event, Fate::Covered).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn create_confirmed_by_another_still_gets_its_parts() {
    let fleet = Fleet::start().await;
    let mut contact = delivered(&mut Contacts::new(TENANT, 1), &["Prva 1", "Druga 2"]);
    let event = contact.created();
    let frozen = ready(fleet.narrow_worker().failpoint("after_call:stop")).await;
    fleet.publish(&event).await;
    frozen.frozen(SOON).await;
    // The janitor's look-up finds the create, and knows nothing of the parts.
    fleet.leases_end().await;
    fleet.effects_settle().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    fleet
        .effect("confirmed", |effect| {
            effect.state == "confirmed" && !effect.last
        })
        .await;
    frozen.thaw();
    settles(&frozen, &event, 1).await;
    assert_eq!(
        settled(&frozen, &event, "\"ack\""),
        0,
        "the parts are still missing"
    );
    fleet.ends([worker, keeper, frozen], [&event]).await;
    assert_eq!(streets(&fleet, &contact).await, ["Druga 2", "Prva 1"]);
    assert_eq!(fleet.calls(Call::AddPartner), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_last_effect_raises_applied() {
    let fleet = Fleet::start().await;
    let mut contact = delivered(&mut Contacts::new(TENANT, 1), &["Prva 1", "Druga 2"]);
    let event = contact.created();
    let dying = fleet::dying(fleet.worker().failpoint("after_complete:kill")).await;
    fleet.publish(&event).await;
    dying.killed(SOON).await;
    let link = fleet.link(contact.id()).await.unwrap();
    assert_eq!(link.applied_k, None);
    assert!(link.target_id.is_some());
    let effects = fleet.effects().await;
    let made: Vec<_> = effects
        .iter()
        .map(|effect| {
            (
                effect.operation.as_str(),
                effect.state.as_str(),
                effect.last,
            )
        })
        .collect();
    assert_eq!(made, [("create", "confirmed", false)]);
    let worker = fleet.working().await;
    fleet.ends([worker], [&event]).await;
    assert_eq!(streets(&fleet, &contact).await, ["Druga 2", "Prva 1"]);
    let effects = fleet.effects().await;
    assert_eq!(
        effects.iter().filter(|effect| effect.last).count(),
        1,
        "{effects:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn chain_keeps_its_lease() {
    let fleet = Fleet::start().await;
    let mut contact = delivered(&mut Contacts::new(TENANT, 1), &["Prva 1", "Druga 2"]);
    let event = contact.created();
    let frozen = ready(fleet.worker().failpoint("after_complete:stop")).await;
    fleet.publish(&event).await;
    frozen.frozen(SOON).await;
    let between = fleet.link(contact.id()).await.unwrap();
    assert!(
        between.lease_token.is_some(),
        "given back in the middle of a chain"
    );
    frozen.thaw();
    fleet.ends([frozen], [&event]).await;
    let after = fleet.link(contact.id()).await.unwrap();
    assert_eq!(after.lease_token, None);
    assert_eq!(streets(&fleet, &contact).await, ["Druga 2", "Prva 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_between_any_two_effects_leaves_each_part_once() {
    let fleet = Fleet::start().await;
    fleet.declare().await;
    let mut contact = delivered(
        &mut Contacts::new(TENANT, 1),
        &["Prva 1", "Druga 2", "Tretja 3"],
    );
    let event = contact.created();
    fleet.publish(&event).await;
    fleet.kills("after_complete", &event, 2).await;
    let worker = fleet.working().await;
    fleet.ends([worker], [&event]).await;
    assert_eq!(
        streets(&fleet, &contact).await,
        ["Druga 2", "Prva 1", "Tretja 3"]
    );
    assert_eq!(fleet.calls(Call::AddPartner), 1);
    assert_eq!(fleet.calls(Call::UpdatePartner), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_part_says_partly_applied() {
    let fleet = Fleet::start().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let mut contact = delivered(&mut Contacts::new(TENANT, 1), &["Prva 1", "Druga 2"]);
    let refusal = Fault::Refuse {
        code: 2,
        text: "no such street".to_owned(),
    };
    fleet.fault(ScriptedFault::new(refusal).containing("Druga 2").always());
    let event = contact.created();
    fleet.publish(&event).await;
    fleet.ends([worker, keeper], [&event]).await;
    assert_eq!(fleet.fate(&event).await, Fate::Dead);
    let partly: Value = sqlx::query_scalar("select partly_applied from dead_letter")
        .fetch_one(fleet.database.pool())
        .await
        .unwrap();
    assert_eq!(partly[0]["operation"], "create", "{partly}");
    assert_eq!(partly.as_array().map(Vec::len), Some(1), "{partly}");
    assert_eq!(streets(&fleet, &contact).await, ["Prva 1"]);
}

/// Dead, held or discarded: the call was stored after all, and the look that finds it closes the row.
#[tokio::test(flavor = "multi_thread")]
async fn last_effect_found_later_closes_its_own_row() {
    let fleet = Fleet::start().await;
    let (worker, keeper) = tokio::join!(fleet.working(), fleet.keeping());
    let mut source = Contacts::new(TENANT, 1);
    let mut contacts = [plain(&mut source), plain(&mut source), plain(&mut source)];
    let first: Vec<Value> = contacts.iter_mut().map(Contact::created).collect();
    fleet.publish_all(&first).await;
    for event in &first {
        fleet.becomes(event, Fate::Covered).await;
    }
    let second: Vec<Value> = contacts.iter_mut().map(rename).collect();
    let [dead, held, discarded] = &second[..] else {
        unreachable!()
    };
    let lost = ScriptedFault::new(Fault::CommitThenDrop).on(Call::UpdatePartner);
    fleet.fault(lost.times(3));
    // Its last attempt: whatever the answer means, it is given up.
    fleet.publish_copy(dead, &[("x-attempt", 12)]).await;
    fleet.becomes(dead, Fate::Dead).await;
    // The others come back with a question and meet a refusal of the credentials.
    fleet.fault(
        ScriptedFault::new(Fault::Auth { code: 3 })
            .on(Call::GetPartner)
            .always(),
    );
    fleet.publish_all([held, discarded]).await;
    fleet.becomes(held, Fate::Held).await;
    fleet.becomes(discarded, Fate::Held).await;
    fleet.discard(discarded).await;
    assert_eq!(fleet.dead_letter(discarded).await.unwrap().0, "discarded");
    fleet.repair().await;
    fleet.effects_settle().await;
    fleet.dead_letter_is(dead, "resolved").await;
    fleet.dead_letter_is(discarded, "resolved").await;
    fleet
        .ends([worker, keeper], first.iter().chain(&second))
        .await;
    assert_eq!(fleet.count("select count(*) from held").await, 0);
    for (contact, event) in contacts.iter().zip(&second) {
        fleet.has_one(contact).await;
        assert_eq!(fleet.fate(event).await, Fate::Covered);
    }
    assert_eq!(fleet.calls(Call::UpdatePartner), 3, "found, not sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn persons_equal_part_is_found_not_added() {
    let fleet = Fleet::start().await;
    let worker = fleet.working().await;
    let mut contact = delivered(&mut Contacts::new(TENANT, 1), &["Prva 1", "Druga 2"]);
    fleet.person_adds(PartnerEdit {
        customer: Some("Ročno d.o.o.".to_owned()),
        business_entity: Some(true),
        tax_id_number: contact.record["tax_id"].as_str().map(str::to_owned),
        addresses: Some(vec![by_hand("Druga 2")]),
        ..PartnerEdit::default()
    });
    let event = contact.created();
    fleet.publish(&event).await;
    fleet.ends([worker], [&event]).await;
    assert_eq!(streets(&fleet, &contact).await, ["Druga 2", "Prva 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pairing_does_not_make_two_equal_parts() {
    let fleet = Fleet::start().await;
    let worker = fleet.working().await;
    let mut contact = delivered(&mut Contacts::new(TENANT, 1), &["Prva 1"]);
    let first = contact.created();
    apply(&fleet, &first).await;
    let partner = fleet.partner_of(contact.id()).await.unwrap();
    person_adds_address(&fleet, &partner, "Druga 2");
    // Ours is no longer wanted, and what is wanted instead stands there already.
    set_deliveries(&mut contact, &["Druga 2"]);
    let second = contact.updated();
    fleet.publish(&second).await;
    fleet.ends([worker], [&first, &second]).await;
    assert_eq!(streets(&fleet, &contact).await, ["Druga 2", "Prva 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn found_part_is_never_overwritten() {
    let fleet = Fleet::start().await;
    let worker = fleet.working().await;
    let mut contact = delivered(&mut Contacts::new(TENANT, 1), &["Prva 1"]);
    fleet.person_adds(PartnerEdit {
        customer: Some("Ročno d.o.o.".to_owned()),
        business_entity: Some(true),
        tax_id_number: contact.record["tax_id"].as_str().map(str::to_owned),
        addresses: Some(vec![by_hand("Prva 1")]),
        ..PartnerEdit::default()
    });
    let first = contact.created();
    apply(&fleet, &first).await;
    set_deliveries(&mut contact, &["Druga 2"]);
    let second = contact.updated();
    fleet.publish(&second).await;
    fleet.ends([worker], [&first, &second]).await;
    assert_eq!(streets(&fleet, &contact).await, ["Druga 2", "Prva 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn part_that_returns_is_not_sent_again() {
    let fleet = Fleet::start().await;
    let worker = fleet.working().await;
    let mut contact = delivered(&mut Contacts::new(TENANT, 1), &["Prva 1", "Druga 2"]);
    let mut events = vec![contact.created()];
    apply(&fleet, &events[0]).await;
    for streets in [&["Prva 1"][..], &["Prva 1", "Druga 2"]] {
        set_deliveries(&mut contact, streets);
        let event = contact.updated();
        apply(&fleet, &event).await;
        events.push(event);
    }
    fleet.ends([worker], &events).await;
    assert_eq!(streets(&fleet, &contact).await, ["Druga 2", "Prva 1"]);
    assert_eq!(
        fleet.calls(Call::UpdatePartner),
        1,
        "only the second part of the create"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_parts_in_one_event_are_sent_once() {
    let fleet = Fleet::start().await;
    let worker = fleet.working().await;
    let mut contact = delivered(
        &mut Contacts::new(TENANT, 1),
        &["Prva 1", "Druga 2", "Prva 1"],
    );
    let event = contact.created();
    fleet.publish(&event).await;
    fleet.ends([worker], [&event]).await;
    assert_eq!(streets(&fleet, &contact).await, ["Druga 2", "Prva 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn recreated_record_gets_all_parts() {
    let fleet = Fleet::start().await;
    let worker = fleet.working().await;
    let mut contact = delivered(&mut Contacts::new(TENANT, 1), &["Prva 1", "Druga 2"]);
    let mut events = vec![contact.created(), contact.deleted()];
    apply(&fleet, &events[0]).await;
    let old: MkId = fleet.partner_of(contact.id()).await.unwrap().mk_id;
    apply(&fleet, &events[1]).await;
    // People clean up after the deletion; then the contact comes back.
    fleet
        .simulator
        .with_company(COMPANY, |company, now| company.person_deletes(old, now))
        .unwrap()
        .unwrap();
    let again = contact.updated();
    fleet.publish(&again).await;
    wait_for("a new partner", SOON, async || {
        match fleet.partners().len() {
            1 => Ok(()),
            partners => Err(partners),
        }
    })
    .await;
    events.push(again);
    fleet.ends([worker], &events).await;
    assert_eq!(streets(&fleet, &contact).await, ["Druga 2", "Prva 1"]);
    assert_ne!(fleet.partner_of(contact.id()).await.unwrap().mk_id, old);
}

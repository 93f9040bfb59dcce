//! What becomes of a contact when nothing goes wrong, and what it costs.

use serde_json::{Value, json};
use simulators::metakocka::{PartnerEdit, PersonAddress, PersonContact, Readings};

use crate::stage::{Stage, beekeeper, both, deleted, person, saved};

fn with(mut contact: Value, change: impl FnOnce(&mut Value)) -> Value {
    change(&mut contact);
    contact
}

fn add_address(contact: &mut Value, kind: &str, street: &str) {
    let address = json!({"kind": kind, "street": street, "postal_code": "8000", "city": "Novo mesto", "country": "SI"});
    contact["addresses"].as_array_mut().unwrap().push(address);
}

#[tokio::test]
async fn a_create_costs_at_most_four_calls_and_one_per_further_address() {
    let stage = Stage::new(Readings::kind()).await;
    let end = stage.deliver(&saved(1, &beekeeper())).await;
    assert_eq!(end.word(), "ack applied");
    // Two spellings of the tax number, the e-mail address, no name.
    assert_eq!(stage.calls_since(0), ["find", "find", "find", "add"]);
    let partner = stage.only_partner();
    insta::assert_json_snapshot!("organization_at_metakocka", partner);

    let mark = stage.mark();
    assert_eq!(
        stage.deliver(&saved(1, &person())).await.word(),
        "ack applied"
    );
    // The mailbox has capitals: in lower case, as given, then the name.
    assert_eq!(stage.calls_since(mark), ["find", "find", "find", "add"]);
    insta::assert_json_snapshot!("person_at_metakocka", stage.partners()[1]);

    let mark = stage.mark();
    let three = with(beekeeper(), |contact| {
        contact["id"] = json!("org-2");
        contact["name"] = json!("Šiviljstvo Kos s.p.");
        contact["tax_id"] = json!("SI99999902");
        contact["emails"] = json!([{"value": "kos@kos.example"}]);
        add_address(contact, "delivery", "Šentjoška 4");
        add_address(contact, "billing", "Glavni trg 1");
    });
    assert_eq!(stage.deliver(&saved(1, &three)).await.word(), "ack applied");
    assert_eq!(
        stage.calls_since(mark),
        ["find", "find", "find", "add", "update", "update"]
    );
    let addresses: Vec<String> = stage.partners()[2]
        .addresses
        .iter()
        .map(|address| format!("{} {}", address.address_type.as_str(), address.street))
        .collect();
    assert_eq!(
        addresses,
        [
            "Račun Češnjeva ulica 7",
            "Dobava Panjska pot 2",
            "Dobava Šentjoška 4",
            "Poslovna enota Glavni trg 1"
        ]
    );
    assert_eq!(stage.simulator.strict_violations(), []);
}

#[tokio::test]
async fn an_update_costs_one_call_or_two_and_a_repeat_none() {
    let stage = Stage::new(Readings::kind()).await;
    stage.deliver(&saved(1, &beekeeper())).await;

    for (version, change, calls) in [
        (
            2,
            json!({"registration_number": "6123456001"}),
            vec!["update"],
        ),
        // The contact alone: looked at, then changed by its id.
        (
            3,
            json!({"emails": [{"value": "info@zuzek.example"}]}),
            vec!["read", "update"],
        ),
        // Main fields and the contact's name, in one write.
        (
            4,
            json!({"name": "Čebelarstvo Žužek in hči d.o.o."}),
            vec!["read", "update"],
        ),
        (5, json!({}), vec![]),
    ] {
        let mark = stage.mark();
        let contact = with(stage_contact(version - 1), |contact| {
            for (name, value) in change.as_object().unwrap() {
                contact[name] = value.clone();
            }
        });
        let end = stage.deliver(&saved(version, &contact)).await;
        let expected = if calls.is_empty() {
            "ack unchanged"
        } else {
            "ack applied"
        };
        assert_eq!(end.word(), expected, "version {version}");
        assert_eq!(stage.calls_since(mark), calls, "version {version}");
    }
    let partner = stage.only_partner();
    assert_eq!(partner.customer, "Čebelarstvo Žužek in hči d.o.o.");
    assert_eq!(partner.registration_number, "6123456001");
    assert_eq!(partner.contacts.len(), 1);
    assert_eq!(partner.contacts[0].email, "info@zuzek.example");
    assert_eq!(partner.addresses.len(), 2);
    let mark = stage.mark();
    assert_eq!(
        stage.deliver(&saved(3, &beekeeper())).await.word(),
        "ack duplicate"
    );
    assert!(stage.calls_since(mark).is_empty());
}

/// The beekeeper after so many versions of the test above.
fn stage_contact(version: u32) -> Value {
    with(beekeeper(), |contact| {
        if version >= 2 {
            contact["registration_number"] = json!("6123456001");
        }
        if version >= 3 {
            contact["emails"] = json!([{"value": "info@zuzek.example"}]);
        }
        if version >= 4 {
            contact["name"] = json!("Čebelarstvo Žužek in hči d.o.o.");
        }
    })
}

#[tokio::test]
async fn other_spellings_of_the_same_content_are_no_change() {
    let stage = Stage::new(Readings::kind()).await;
    stage.deliver(&saved(1, &beekeeper())).await;
    let mark = stage.mark();
    let spelled = with(beekeeper(), |contact| {
        contact["name"] = json!("  Čebelarstvo   Žužek d.o.o.");
        contact["tax_id"] = json!("si 9999 9901");
        contact["emails"] = json!([{"value": "SPELA@zuzek.example"}]);
        contact["addresses"][0]["country"] = json!("Slovenia");
        contact["addresses"][1]["country"] = json!("Slovenija");
    });
    let end = stage.deliver(&saved(2, &spelled)).await;
    assert_eq!(end.word(), "ack unchanged");
    assert!(stage.calls_since(mark).is_empty());
}

#[tokio::test]
async fn what_the_publisher_leaves_out_is_left_alone() {
    for readings in both() {
        let stage = Stage::new(readings).await;
        stage.deliver(&saved(1, &beekeeper())).await;
        let before = stage.only_partner();
        let little = json!({"id": "org-1", "kind": "organization", "name": "Žužek", "emails": [{"value": "nov@zuzek.example"}]});
        assert_eq!(
            stage.deliver_until_done(&saved(2, &little)).await.as_str(),
            "applied"
        );
        let after = stage.only_partner();
        assert_eq!(after.customer, "Žužek");
        assert_eq!(after.tax_id_number, before.tax_id_number);
        assert_eq!(after.addresses, before.addresses);
        assert_eq!(after.contacts.len(), 1);
        assert_eq!(after.contacts[0].email, "nov@zuzek.example");
        assert_eq!(after.contacts[0].gsm, before.contacts[0].gsm);
        assert_eq!(after.contacts[0].phone, before.contacts[0].phone);
    }
}

#[tokio::test]
async fn a_deletion_makes_no_call_and_a_later_version_takes_the_partner_up_again() {
    for readings in both() {
        let stage = Stage::new(readings).await;
        stage.deliver(&saved(1, &beekeeper())).await;
        let mark = stage.mark();
        let end = stage.deliver(&deleted(2, "org-1")).await;
        assert_eq!(end.word(), "ack deleted");
        assert!(stage.calls_since(mark).is_empty());
        assert_eq!(stage.link().await.0, "deleted");
        assert_eq!(
            stage.history().await.last().map(|(what, _)| what.as_str()),
            Some("deleted")
        );
        assert_eq!(
            stage.deliver(&saved(1, &beekeeper())).await.word(),
            "ack duplicate"
        );

        let id = stage.only_partner().mk_id.to_string();
        let again = with(beekeeper(), |contact| {
            contact["name"] = json!("Žužek, drugič");
        });
        assert_eq!(
            stage.deliver_until_done(&saved(3, &again)).await.as_str(),
            "applied"
        );
        let partner = stage.only_partner();
        assert_eq!(partner.customer, "Žužek, drugič");
        assert_eq!(stage.link().await, ("linked".to_owned(), Some(id)));
        assert_eq!(partner.addresses.len(), 2, "nothing was added again");
    }
}

#[tokio::test]
async fn a_deletion_of_somebody_never_seen_is_done() {
    let stage = Stage::new(Readings::kind()).await;
    let end = stage.deliver(&deleted(1, "org-9")).await;
    assert_eq!(end.word(), "ack deleted");
    assert!(stage.calls_since(0).is_empty());
}

fn by_hand(customer: &str) -> PartnerEdit {
    PartnerEdit {
        customer: Some(customer.to_owned()),
        ..PartnerEdit::default()
    }
}

fn address(street: &str, post_number: &str, city: &str) -> PersonAddress {
    PersonAddress {
        address_type: simulators::metakocka::AddressType::Billing,
        street: street.to_owned(),
        post_number: post_number.to_owned(),
        city: city.to_owned(),
        country: "Slovenija".to_owned(),
        ..PersonAddress::default()
    }
}

#[tokio::test]
async fn an_organization_is_adopted_by_its_tax_number_in_the_other_spelling() {
    for readings in both() {
        let stage = Stage::new(readings).await;
        let id = stage
            .by_hand(PartnerEdit {
                business_entity: Some(true),
                taxpayer: Some(true),
                tax_id_number: Some("99999901".to_owned()),
                addresses: Some(vec![address("Češnjeva ulica 7", "8210", "Trebnje")]),
                ..by_hand("ŽUŽEK DOO")
            })
            .await;
        let reason = stage.deliver_until_done(&saved(1, &beekeeper())).await;
        assert_eq!(reason.as_str(), "applied");
        let partner = stage.only_partner();
        assert_eq!(partner.mk_id, id);
        assert_eq!(partner.customer, "Čebelarstvo Žužek d.o.o.");
        assert_eq!(partner.tax_id_number, "99999901", "their spelling stays");
        assert_eq!(partner.contacts.len(), 1);
        assert_eq!(partner.addresses.len(), 2);
    }
}

#[tokio::test]
async fn a_person_is_adopted_by_the_mailbox_and_parts_already_there_are_not_added() {
    for readings in both() {
        let stage = Stage::new(readings).await;
        let id = stage
            .by_hand(PartnerEdit {
                business_entity: Some(false),
                addresses: Some(vec![address("Šmartinska cesta 12", "1000", "Ljubljana")]),
                contacts: Some(vec![PersonContact {
                    name: "Živa  ĐORĐEVIĆ".to_owned(),
                    email: "ziva@dordevic.example".to_owned(),
                    fax: "01 234 56 78".to_owned(),
                    ..PersonContact::default()
                }]),
                ..by_hand("Živa Đorđević")
            })
            .await;
        stage.deliver_until_done(&saved(1, &person())).await;
        let partner = stage.only_partner();
        assert_eq!(partner.mk_id, id);
        assert_eq!(partner.contacts.len(), 1, "{partner:#?}");
        assert_eq!(
            partner.contacts[0].name, "Živa  ĐORĐEVIĆ",
            "somebody's entry is not touched"
        );
        // Now it changes: theirs stays, ours is added once and then changed by its id.
        for (version, email) in [(2, "ziva@nova.example"), (3, "ziva@tretja.example")] {
            let moved = with(person(), |contact| {
                contact["emails"] = json!([{"value": email}]);
            });
            stage.deliver_until_done(&saved(version, &moved)).await;
        }
        let emails: Vec<String> = stage
            .only_partner()
            .contacts
            .iter()
            .map(|contact| contact.email.clone())
            .collect();
        assert_eq!(emails, ["ziva@dordevic.example", "ziva@tretja.example"]);
    }
}

#[tokio::test]
async fn a_person_is_adopted_by_exact_name_and_address() {
    for readings in both() {
        let stage = Stage::new(readings).await;
        let id = stage
            .by_hand(PartnerEdit {
                business_entity: Some(false),
                addresses: Some(vec![address("Šmartinska cesta 12.", "1000", "Ljubljana")]),
                ..by_hand("ŽIVA ĐORĐEVIĆ")
            })
            .await;
        for (customer, street) in [
            ("Živa Đorđević", "Šmartinska cesta 120"),
            ("Živa Đorđević - Kos", "Šmartinska cesta 12"),
        ] {
            stage
                .by_hand(PartnerEdit {
                    business_entity: Some(false),
                    addresses: Some(vec![address(street, "1000", "Ljubljana")]),
                    ..by_hand(customer)
                })
                .await;
        }
        stage.deliver_until_done(&saved(1, &person())).await;
        assert_eq!(stage.partners().len(), 3);
        assert_eq!(stage.link().await.1, Some(id.to_string()));
    }
}

#[tokio::test]
async fn a_name_alone_is_only_a_partner_without_an_address() {
    let stage = Stage::new(Readings::kind()).await;
    stage
        .by_hand(PartnerEdit {
            addresses: Some(vec![address("Pot 1", "1000", "Ljubljana")]),
            ..by_hand("Janez Novak")
        })
        .await;
    let bare = json!({"id": "p-7", "kind": "person", "name": "Janez Novak"});
    stage.deliver_until_done(&saved(1, &bare)).await;
    assert_eq!(stage.partners().len(), 2, "not the one who lives somewhere");

    let stage = Stage::new(Readings::kind()).await;
    let id = stage.by_hand(by_hand("JANEZ NOVAK")).await;
    stage.deliver_until_done(&saved(1, &bare)).await;
    assert_eq!(stage.only_partner().mk_id, id);
}

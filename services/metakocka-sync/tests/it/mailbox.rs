//! Mailboxes: in capitals, within a list, with characters that nobody sees; and the contact that has it already.

use serde_json::{Value, json};
use simulators::metakocka::{
    Call, Fault, LogFilter, PartnerEdit, PersonAddress, PersonContact, Readings,
};

use crate::readings::{each, matchings, switched};
use crate::stage::{Stage, both, saved};

/// By hand, with these mailboxes in one contact each, and no address.
fn kos(mailboxes: &[&str]) -> PartnerEdit {
    let contact = |mailbox: &&str| PersonContact {
        email: (*mailbox).to_owned(),
        ..PersonContact::default()
    };
    PartnerEdit {
        customer: Some("Kos d.o.o.".to_owned()),
        business_entity: Some(true),
        tax_id_number: Some("SI99999934".to_owned()),
        contacts: Some(mailboxes.iter().map(contact).collect()),
        ..PartnerEdit::default()
    }
}

/// Of the publisher, with this mailbox and nothing else that finds it.
fn event(mailbox: &str) -> Value {
    json!({
        "id": "kos", "kind": "organization", "name": "Kos in hči d.o.o.",
        "emails": [{"value": mailbox, "primary": true}]
    })
}

/// Both presets, with a search that minds the case, or only finds the whole text, or neither.
fn searches() -> Vec<Readings> {
    each("match_email", &matchings())
}

/// Where a contact can be added, if one is.
fn address() -> PersonAddress {
    PersonAddress {
        street: "Kosova 1".to_owned(),
        ..PersonAddress::default()
    }
}

#[tokio::test]
async fn a_mailbox_in_capitals_is_found_as_given_and_in_lower_case() {
    for readings in searches() {
        for (theirs, given) in [
            ("Info@Kos.example", "Info@Kos.example"),
            ("info@kos.example", "INFO@Kos.Example"),
            ("info@kos.example", "info@kos.example"),
            ("INFO@KOS.EXAMPLE", "INFO@KOS.EXAMPLE"),
        ] {
            let stage = Stage::new(readings.clone()).await;
            let id = stage.by_hand(kos(&[theirs])).await;
            stage.deliver_until_done(&saved(1, &event(given))).await;
            let partner = stage.only_partner();
            assert_eq!(partner.mk_id, id);
            assert_eq!(partner.customer, "Kos in hči d.o.o.");
            let emails: Vec<&str> = partner
                .contacts
                .iter()
                .map(|at| at.email.as_str())
                .collect();
            assert_eq!(emails, [theirs], "their spelling, and no second contact");
            assert_eq!(stage.simulator.strict_violations(), []);
        }
    }
}

#[tokio::test]
async fn a_mailbox_with_tax_number_and_capitals_is_still_asked_for() {
    let exact = json!({"extent": "exact", "text": "raw"});
    let readings = switched(Readings::kind(), "match_email", exact);
    let stage = Stage::new(readings).await;
    let by_hand = PartnerEdit {
        tax_id_number: None,
        ..kos(&["Info@Kos.example"])
    };
    let id = stage.by_hand(by_hand).await;
    let mut contact = event("Info@Kos.example");
    contact["tax_id"] = json!("SI99999934");
    let mark = stage.mark();
    stage.deliver_until_done(&saved(1, &contact)).await;
    assert_eq!(stage.only_partner().mk_id, id);
    let filter = LogFilter {
        since: Some(mark),
        ..LogFilter::call(Call::GetPartner)
    };
    let asked: Vec<Value> = stage
        .simulator
        .log(&filter)
        .into_iter()
        .filter_map(|entry| entry.body.get("partner_email").cloned())
        .collect();
    assert_eq!(asked, ["info@kos.example", "Info@Kos.example"]);
}

#[tokio::test]
async fn what_we_made_is_found_again_whatever_the_capitals() {
    for readings in searches() {
        let stage = Stage::new(readings).await;
        stage.fault(Fault::CommitThenDrop, Call::AddPartner);
        let contact = event("Info@Kos.example");
        stage.deliver_until_done(&saved(1, &contact)).await;
        let partner = stage.only_partner();
        assert_eq!(
            partner.contacts[0].email, "info@kos.example",
            "sent in lower case"
        );
    }
}

#[tokio::test]
async fn a_mailbox_that_the_adopted_partner_has_is_not_added_and_needs_no_address() {
    for mailboxes in [
        vec!["Info@Kos.example"],
        vec!["prodaja@kos.example; INFO@kos.example"],
        vec!["nabava@kos.example,info@Kos.example , kos@kos.example"],
        vec!["prodaja@kos.example", "Info@KOS.example"],
        vec!["in\u{200b}fo@kos.example"],
    ] {
        for readings in both() {
            let stage = Stage::new(readings).await;
            stage.by_hand(kos(&mailboxes)).await;
            let before = stage.only_partner().contacts;
            let mut contact = event("Info@kos.example");
            contact["tax_id"] = json!("SI99999934");
            stage.deliver_until_done(&saved(1, &contact)).await;
            // Nor is it when something else of the record changes.
            contact["name"] = json!("Kos, drugič");
            contact["phones"] = json!([]);
            stage.deliver_until_done(&saved(2, &contact)).await;
            let partner = stage.only_partner();
            assert_eq!(partner.customer, "Kos, drugič");
            assert_eq!(partner.contacts, before, "{mailboxes:?}");
            assert_eq!(partner.addresses, []);
            let mark = stage.mark();
            let end = stage.deliver(&saved(3, &contact)).await;
            assert_eq!(end.word(), "ack unchanged");
            assert!(stage.calls_since(mark).is_empty());
        }
    }
}

#[tokio::test]
async fn a_lost_answer_after_the_adoption_adds_no_second_contact() {
    for readings in both() {
        let stage = Stage::new(readings).await;
        let theirs = PartnerEdit {
            addresses: Some(vec![address()]),
            ..kos(&["Info@Kos.example"])
        };
        stage.by_hand(theirs).await;
        stage.fault(Fault::CommitThenDrop, Call::UpdatePartner);
        let contact = event("Info@Kos.example");
        stage.deliver_until_done(&saved(1, &contact)).await;
        let partner = stage.only_partner();
        assert_eq!(partner.customer, "Kos in hči d.o.o.");
        assert_eq!(partner.contacts.len(), 1);
    }
}

#[tokio::test]
async fn a_number_that_is_missing_there_comes_with_a_contact_of_ours() {
    for readings in both() {
        let theirs = || {
            let mut theirs = kos(&["Info@Kos.example"]);
            theirs.contacts.as_mut().unwrap()[0].phone = "(01) 234 56 78".to_owned();
            theirs
        };
        let with = |number: &str| {
            let mut contact = event("info@kos.example");
            contact["phones"] = json!([{"raw": number}]);
            contact
        };
        let stage = Stage::new(readings.clone()).await;
        stage.by_hand(theirs()).await;
        stage
            .deliver_until_done(&saved(1, &with("+386 1 234 56 78")))
            .await;
        assert_eq!(stage.only_partner().contacts.len(), 1, "it is there");
        // No contact without an address, at Metakocka.
        let end = stage.deliver(&saved(2, &with("01 999 99 99"))).await;
        assert_eq!(end.word(), "permanent unmappable");

        let stage = Stage::new(readings).await;
        stage
            .by_hand(PartnerEdit {
                addresses: Some(vec![address()]),
                ..theirs()
            })
            .await;
        for (version, number) in [(1, "01 999 99 99"), (2, "01 888 88 88")] {
            let contact = with(number);
            stage.deliver_until_done(&saved(version, &contact)).await;
            let contacts = stage.only_partner().contacts;
            let shown: Vec<[&str; 2]> = contacts
                .iter()
                .map(|at| [at.email.as_str(), at.phone.as_str()])
                .collect();
            assert_eq!(
                shown,
                [
                    ["Info@Kos.example", "(01) 234 56 78"],
                    ["info@kos.example", number]
                ]
            );
        }
    }
}

#[tokio::test]
async fn characters_that_nobody_sees_make_no_second_partner() {
    for unseen in [
        "\u{200b}",
        "\u{200c}",
        "\u{200d}",
        "\u{2060}",
        "\u{feff}",
        "\u{ad}",
        "\u{200e}",
        "\u{202c}",
        "\u{2066}",
        "\u{180e}",
        "\u{3164}",
        "\u{1}",
        "\u{fe0f}",
        "\u{e0020}",
    ] {
        let stage = Stage::new(Readings::kind()).await;
        let mut noisy = event(&format!("{unseen}in{unseen}fo@k{unseen}os.example{unseen}"));
        noisy["name"] = json!(format!("{unseen}Kos {unseen} d.{unseen}o.o."));
        noisy["tax_id"] = json!(format!("SI9{unseen}9999934{unseen}"));
        noisy["phones"] = json!([{"raw": format!("01 23{unseen}4 56 78{unseen}")}]);
        stage.deliver_until_done(&saved(1, &noisy)).await;
        let partner = stage.only_partner();
        assert_eq!(partner.customer, "Kos d.o.o.", "{unseen:?}");
        assert_eq!(partner.tax_id_number, "SI99999934", "{unseen:?}");
        assert_eq!(partner.contacts[0].email, "info@kos.example", "{unseen:?}");
        assert_eq!(partner.contacts[0].phone, "01 234 56 78", "{unseen:?}");

        // Another source's record with the same mailbox is the same partner; and a by-hand one is found by it.
        let stage = Stage::new(Readings::kind()).await;
        let id = stage.by_hand(kos(&["info@kos.example"])).await;
        noisy.as_object_mut().unwrap().remove("tax_id");
        noisy.as_object_mut().unwrap().remove("phones");
        stage.deliver_until_done(&saved(1, &noisy)).await;
        assert_eq!(stage.only_partner().mk_id, id, "{unseen:?}");
    }
}

/// What people copy out of a list has a separator around it. It is neither sent nor in the way of a look-up.
#[tokio::test]
async fn a_separator_around_a_mailbox_makes_no_second_partner() {
    for readings in both() {
        for given in [
            "info@kos.example;",
            ",info@kos.example",
            "info@kos.example\u{37e}",
        ] {
            let event = event(given);
            let stage = Stage::new(readings.clone()).await;
            let by_hand = stage.by_hand(kos(&["info@kos.example"])).await;
            stage.deliver_until_done(&saved(1, &event)).await;
            assert_eq!(stage.only_partner().mk_id, by_hand, "{given}");

            let stage = Stage::new(readings.clone()).await;
            stage.fault(Fault::CommitThenDrop, Call::AddPartner);
            stage.deliver_until_done(&saved(1, &event)).await;
            let made = stage.only_partner();
            let emails: Vec<&str> = made.contacts.iter().map(|at| at.email.as_str()).collect();
            assert_eq!(emails, ["info@kos.example"], "{given}");
        }
    }
}

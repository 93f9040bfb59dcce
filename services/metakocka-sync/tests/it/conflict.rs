//! Who a record may be: ambiguous keys, twins, and partners that only look like it.

use serde_json::{Value, json};
use simulators::metakocka::{AddressType, PartnerEdit, PersonAddress, PersonContact, Readings};

use crate::stage::{LAG, Stage, beekeeper, both, person, requested, saved};

fn company(customer: &str, tax: &str) -> PartnerEdit {
    PartnerEdit {
        customer: Some(customer.to_owned()),
        business_entity: Some(true),
        tax_id_number: Some(tax.to_owned()),
        ..PartnerEdit::default()
    }
}

fn company_in(customer: &str, tax: &str, country: &str) -> PartnerEdit {
    PartnerEdit {
        addresses: Some(vec![PersonAddress {
            address_type: AddressType::Billing,
            street: "Glavni trg 1".to_owned(),
            post_number: "4000".to_owned(),
            city: "Kranj".to_owned(),
            country: country.to_owned(),
            ..PersonAddress::default()
        }]),
        ..company(customer, tax)
    }
}

fn with_email(customer: &str, email: &str) -> PartnerEdit {
    PartnerEdit {
        customer: Some(customer.to_owned()),
        contacts: Some(vec![PersonContact {
            email: email.to_owned(),
            ..PersonContact::default()
        }]),
        ..PartnerEdit::default()
    }
}

#[tokio::test]
async fn two_partners_with_one_key_are_for_a_person_to_decide() {
    for readings in both() {
        let stage = Stage::new(readings).await;
        stage.by_hand(company("Žužek", "SI99999901")).await;
        stage
            .by_hand(company_in("Žužek nov", "99999901", "Slovenija"))
            .await;
        let end = stage.deliver(&saved(1, &beekeeper())).await;
        assert_eq!(end.word(), "blocked conflict");
        assert!(end.text().contains("2 records"), "{}", end.text());
        assert_eq!(stage.link().await.0, "conflict");
        assert_eq!(
            stage.deliver(&saved(2, &beekeeper())).await.word(),
            "hold conflict"
        );
        assert_eq!(stage.partners().len(), 2);
    }
}

#[tokio::test]
async fn two_records_with_one_key_never_share_a_partner() {
    let stage = Stage::new(Readings::kind()).await;
    stage.deliver(&saved(1, &beekeeper())).await;
    let mut twin = beekeeper();
    twin["id"] = json!("org-2");
    twin["tax_id"] = json!("99999901");
    let end = stage.deliver(&saved(1, &twin)).await;
    assert_eq!(end.word(), "blocked conflict");
    assert!(
        end.text().contains("belongs to record org-1"),
        "{}",
        end.text()
    );
    assert_eq!(stage.partners().len(), 1);
}

#[tokio::test]
async fn a_person_and_an_organization_with_one_mailbox_are_two() {
    for readings in both() {
        let stage = Stage::new(readings).await;
        let mailbox = json!([{"value": "spela@zuzek.example"}]);
        let mut spela = person();
        spela["emails"] = mailbox;
        stage.deliver_until_done(&saved(1, &beekeeper())).await;
        stage.advance(LAG).await;
        stage.deliver_until_done(&saved(1, &spela)).await;
        assert_eq!(stage.partners().len(), 2);
        assert!(!stage.partners()[1].business_entity);
    }
}

#[tokio::test]
async fn another_companys_mailbox_is_not_ours() {
    let stage = Stage::new(Readings::nasty()).await;
    stage
        .by_hand(PartnerEdit {
            business_entity: Some(true),
            tax_id_number: Some("SI99999909".to_owned()),
            ..with_email("Računovodstvo Kos", "spela@zuzek.example")
        })
        .await;
    stage.deliver_until_done(&saved(1, &beekeeper())).await;
    assert_eq!(stage.partners().len(), 2, "its tax number says otherwise");
}

#[tokio::test]
async fn a_company_that_comes_back_under_another_id_is_the_same_partner() {
    let stage = Stage::new(Readings::kind()).await;
    stage.deliver(&saved(1, &beekeeper())).await;
    stage.deliver(&crate::stage::deleted(2, "org-1")).await;
    let mut moved = beekeeper();
    moved["id"] = json!("org-77");
    assert_eq!(
        stage.deliver_until_done(&saved(1, &moved)).await.as_str(),
        "unchanged"
    );
    assert_eq!(stage.partners().len(), 1);
}

#[tokio::test]
async fn a_second_partner_that_appears_later_is_seen_by_a_re_check() {
    for readings in both() {
        let stage = Stage::new(readings).await;
        stage.deliver_until_done(&saved(1, &beekeeper())).await;
        let id: i64 = sqlx::query_scalar("select id from link")
            .fetch_one(&stage.pool)
            .await
            .unwrap();
        stage.advance(LAG).await;
        let end = stage.deliver(&requested("recheck", id)).await;
        assert_eq!(end.word(), "ack rechecked");
        assert_eq!(stage.link().await.0, "linked");

        stage
            .by_hand(company_in("Dvojnik", "99999901", "Slovenija"))
            .await;
        let end = stage.deliver(&requested("recheck", id)).await;
        assert_eq!(end.word(), "ack rechecked");
        assert_eq!(stage.link().await.0, "conflict");
    }
}

#[tokio::test]
async fn a_partner_deleted_in_the_application_is_told_and_not_made_again() {
    let stage = Stage::new(Readings::kind()).await;
    stage.deliver(&saved(1, &beekeeper())).await;
    let id = stage.only_partner().mk_id;
    stage
        .simulator
        .with_company(crate::stage::COMPANY, |company, now| {
            company.person_deletes(id, now)
        })
        .unwrap()
        .unwrap();
    let mut changed: Value = beekeeper();
    changed["name"] = json!("Žužek");
    // Just written, and then one look that counts: each may only be the lag of its look-ups.
    for _ in 0..2 {
        let end = stage.deliver(&saved(2, &changed)).await;
        assert_eq!(end.word(), "wait Lag");
        stage.advance(LAG).await;
    }
    let end = stage.deliver(&saved(2, &changed)).await;
    assert_eq!(end.word(), "blocked conflict");
    assert!(end.text().contains("no longer exists"), "{}", end.text());
    assert!(stage.partners().is_empty());
}

#[tokio::test]
async fn an_update_of_nothing_but_fields_hears_it_from_metakocka() {
    let stage = Stage::new(Readings::kind()).await;
    stage.deliver(&saved(1, &beekeeper())).await;
    let id = stage.only_partner().mk_id;
    stage
        .simulator
        .with_company(crate::stage::COMPANY, |company, now| {
            company.person_deletes(id, now)
        })
        .unwrap()
        .unwrap();
    let mut changed: Value = beekeeper();
    changed["registration_number"] = json!("6123456009");
    let end = stage.deliver(&saved(2, &changed)).await;
    assert_eq!(end.word(), "permanent refused");
    assert!(end.text().contains("Cannot find partner"), "{}", end.text());
    assert!(stage.partners().is_empty());
}

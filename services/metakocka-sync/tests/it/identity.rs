//! Who is the same company: whose a tax number is, how it is spelled, and what is none.

use serde_json::{Value, json};
use simulators::metakocka::core::{Extent, KeptForm, Matching};
use simulators::metakocka::{AddressType, PartnerEdit, PersonAddress, PersonContact, Readings};

use crate::stage::{LAG, Stage, both, saved};

/// Alpha-2 codes of countries whose tax numbers have eight digits.
const EIGHT_DIGITS: [&str; 10] = ["CZ", "DK", "FI", "HU", "LU", "MT", "AM", "ME", "TW", "UA"];

fn partner(customer: &str, tax: &str, country: &str) -> PartnerEdit {
    PartnerEdit {
        customer: Some(customer.to_owned()),
        business_entity: Some(true),
        tax_id_number: Some(tax.to_owned()),
        addresses: Some(vec![PersonAddress {
            address_type: AddressType::Billing,
            street: "Glavni trg 1".to_owned(),
            post_number: "4000".to_owned(),
            city: "Kranj".to_owned(),
            country: country.to_owned(),
            ..PersonAddress::default()
        }]),
        ..PartnerEdit::default()
    }
}

fn with_mailbox(edit: PartnerEdit, email: &str) -> PartnerEdit {
    PartnerEdit {
        contacts: Some(vec![PersonContact {
            email: email.to_owned(),
            ..PersonContact::default()
        }]),
        ..edit
    }
}

fn contact(id: &str, name: &str, tax: &str, country: &str) -> Value {
    json!({
        "id": id,
        "kind": "organization",
        "name": name,
        "tax_id": tax,
        "addresses": [{"kind": "main", "street": "Náměstí 5", "postal_code": "60200", "city": "Brno", "country": country}],
    })
}

/// Names and tax numbers, in the order they were made.
fn shown(stage: &Stage) -> Vec<(String, String)> {
    let partners = stage.partners();
    partners
        .into_iter()
        .map(|partner| (partner.customer, partner.tax_id_number))
        .collect()
}

fn told(rows: &[(&str, &str)]) -> Vec<(String, String)> {
    rows.iter()
        .map(|(name, tax)| ((*name).to_owned(), (*tax).to_owned()))
        .collect()
}

#[tokio::test]
async fn the_same_digits_in_another_country_are_another_company() {
    for readings in both() {
        let stage = Stage::new(readings).await;
        stage
            .by_hand(partner("Mlin Kranj d.o.o.", "SI99999927", "Slovenija"))
            .await;
        let bakery = contact("720", "Pekárna Brno s.r.o.", "99999927", "CZ");
        stage.deliver_until_done(&saved(1, &bakery)).await;
        let two = [
            ("Mlin Kranj d.o.o.", "SI99999927"),
            ("Pekárna Brno s.r.o.", "99999927"),
        ];
        assert_eq!(shown(&stage), told(&two));
        // And the Slovenian company finds its own partner beside it.
        stage.advance(LAG).await;
        let mill = contact(
            "721",
            "Mlin Kranj d.o.o.",
            "99999927",
            "Republic of Slovenia",
        );
        stage.deliver_until_done(&saved(1, &mill)).await;
        assert_eq!(stage.partners().len(), 2);
    }
}

#[tokio::test]
async fn eight_digits_are_slovenian_only_where_the_record_is() {
    let stage = Stage::new(Readings::kind()).await;
    for (at, country) in EIGHT_DIGITS.into_iter().enumerate() {
        let (mill, abroad) = (format!("999990{at:02}"), format!("999980{at:02}"));
        let before = stage.partners().len();
        stage
            .by_hand(partner("Mlin", &format!("SI{mill}"), "Slovenija"))
            .await;
        stage.by_hand(partner("Abroad", &abroad, country)).await;
        let there = contact(
            &format!("there-{at}"),
            &format!("Bakery {at}"),
            &mill,
            country,
        );
        let here = contact(
            &format!("here-{at}"),
            &format!("Pekarna {at}"),
            &abroad,
            "SI",
        );
        let prefixed = contact(
            &format!("si-{at}"),
            &format!("Pek {at}"),
            &format!("SI{abroad}"),
            country,
        );
        stage.deliver_until_done(&saved(1, &there)).await;
        stage.deliver_until_done(&saved(1, &here)).await;
        assert_eq!(stage.partners().len(), before + 4, "{country}");
        // The number says more than the address: the one just made.
        let end = stage.deliver(&saved(1, &prefixed)).await;
        assert_eq!(end.word(), "blocked conflict", "{country}");
        assert!(
            end.text().contains("belongs to record here-"),
            "{}",
            end.text()
        );
    }
}

#[tokio::test]
async fn a_number_is_the_same_in_every_spelling_of_its_country() {
    for (at, (by_hand, at_hand, wanted, country)) in [
        ("HR99999999927", "Hrvaška", "99999999927", "HR"),
        ("99999999927", "Hrvatska", "HR 99999999927", "Croatia"),
        ("BE0999999927", "Belgija", "BE999999927", "BE"),
        ("BE999999927", "", "BE0999999927", "BE"),
        ("0999.999.927", "Belgija", "999999927", "BEL"),
        ("EL123456789", "Grčija", "GR 123456789", "GR"),
        ("GR123456789", "", "123456789", "Greece"),
        ("CHE-123.456.789", "Švica", "CHE123456789 MWST", "CH"),
        ("CHE-123.456.789 MWST", "Švica", "123456789", "CHE"),
        ("ATU12345678", "Avstrija", "U12345678", "AT"),
        ("NO123456789MVA", "Norveška", "123 456 789", "NO"),
        ("123456789", "Norveška", "NO 123 456 789 MVA", "NOR"),
        ("NL123456789B01", "Nizozemska", "123456789B01", "NL"),
        ("SE556074308901", "Švedska", "556074-3089", "SE"),
        ("99999927", "Slovenija", "SI 999 999 27", ""),
        ("SI99999927", "", "99999927", "SLO"),
        ("GB123456789", "Velika Britanija", "XI 123 4567 89", "XI"),
    ]
    .into_iter()
    .enumerate()
    {
        let stage = Stage::new(both()[at % 2].clone()).await;
        let old = with_mailbox(
            partner("Podjetje", by_hand, at_hand),
            "info@podjetje.example",
        );
        stage.by_hand(old).await;
        let mut event = contact("730", "Podjetje", wanted, country);
        event["emails"] = json!([{"value": "info@podjetje.example"}]);
        stage.deliver_until_done(&saved(1, &event)).await;
        assert_eq!(stage.partners().len(), 1, "{by_hand} is not {wanted}");
        assert_eq!(stage.only_partner().tax_id_number, by_hand, "not changed");
    }
}

#[tokio::test]
async fn a_number_finds_by_itself_in_every_spelling_that_is_asked_for() {
    // Nothing else is equal, and the partner's search takes numbers as they are, whole.
    let as_they_are = Matching {
        extent: Extent::Exact,
        text: KeptForm::Raw,
    };
    for (by_hand, at_hand, wanted, country) in [
        ("SI99999927", "Slovenija", "99999927", "SI"),
        ("99999927", "Slovenija", "SI99999927", ""),
        ("HR99999999927", "Hrvaška", "99999999927", "HR"),
        ("99999999927", "Hrvaška", "HR99999999927", "HR"),
        ("BE0999999927", "Belgija", "999999927", "BE"),
        ("999999927", "Belgija", "BE 0999.999.927", "BE"),
        ("EL123456789", "Grčija", "123456789", "GR"),
        ("GR123456789", "Grčija", "EL123456789", "EL"),
        ("CHE-123.456.789", "Švica", "CHE123456789TVA", "CH"),
        ("U12345678", "Avstrija", "ATU12345678", "AT"),
    ] {
        let stage = Stage::new(Readings {
            match_tax: as_they_are,
            ..Readings::nasty()
        })
        .await;
        stage.by_hand(partner("Staro ime", by_hand, at_hand)).await;
        let event = contact("731", "Novo ime", wanted, country);
        stage.deliver_until_done(&saved(1, &event)).await;
        assert_eq!(stage.partners().len(), 1, "{by_hand} is not {wanted}");
        assert_eq!(stage.only_partner().customer, "Novo ime");
    }
}

#[tokio::test]
async fn a_number_of_an_unknown_country_finds_only_together_with_name_or_mailbox() {
    for (hand_country, country) in [
        ("", "CZ"),
        ("", "SI"),
        ("Češka", ""),
        ("Slovenija", ""),
        ("", ""),
    ] {
        for readings in both() {
            let stage = Stage::new(readings).await;
            let old = partner("Mlin Kranj d.o.o.", "99999927", hand_country);
            stage.by_hand(with_mailbox(old, "info@mlin.example")).await;
            let bakery = contact("740", "Pekarna", "99999927", country);
            stage.deliver_until_done(&saved(1, &bakery)).await;
            assert_eq!(
                stage.partners().len(),
                2,
                "digits alone: {hand_country} {country}"
            );
        }
        for readings in both() {
            let stage = Stage::new(readings).await;
            let old = partner("Mlin Kranj d.o.o.", "99999927", hand_country);
            stage.by_hand(old).await;
            let mill = contact("741", "MLIN KRANJ d.o.o.", "99999927", country);
            stage.deliver_until_done(&saved(1, &mill)).await;
            assert_eq!(
                stage.partners().len(),
                1,
                "and the name: {hand_country} {country}"
            );
        }
        for readings in both() {
            let stage = Stage::new(readings).await;
            let old = partner("Mlin Kranj d.o.o.", "99999927", hand_country);
            stage.by_hand(with_mailbox(old, "info@mlin.example")).await;
            let mut mill = contact("742", "Mlin d.d.", "99999927", country);
            mill["emails"] = json!([{"value": "info@mlin.example"}]);
            stage.deliver_until_done(&saved(1, &mill)).await;
            assert_eq!(
                stage.partners().len(),
                1,
                "and the mailbox: {hand_country} {country}"
            );
        }
    }
}

#[tokio::test]
async fn two_records_with_equal_digits_in_two_countries_are_two_partners() {
    let stage = Stage::new(Readings::kind()).await;
    let mill = contact("750", "Mlin", "99999927", "SI");
    let bakery = contact("751", "Pekárna", "99999927", "CZ");
    stage.deliver_until_done(&saved(1, &mill)).await;
    stage.advance(LAG).await;
    stage.deliver_until_done(&saved(1, &bakery)).await;
    assert_eq!(
        shown(&stage),
        told(&[("Mlin", "99999927"), ("Pekárna", "99999927")])
    );
}

#[tokio::test]
async fn fillers_are_no_numbers() {
    for (at, filler) in [
        "N/A",
        "n.a.",
        "0",
        "00000000",
        "X",
        "XXX",
        "brez",
        "/",
        "-",
        "--",
        "ni",
        "none",
        "null",
        "99",
        "SI00000000",
    ]
    .into_iter()
    .enumerate()
    {
        let stage = Stage::new(both()[at % 2].clone()).await;
        stage.by_hand(partner("Po roki", filler, "Slovenija")).await;
        let mut one = contact("760", "Prvo", filler, "SI");
        one["registration_number"] = json!(filler);
        let two = contact("761", "Drugo", filler, "SI");
        stage.deliver_until_done(&saved(1, &one)).await;
        stage.advance(LAG).await;
        stage.deliver_until_done(&saved(1, &two)).await;
        assert_eq!(
            shown(&stage),
            told(&[("Po roki", filler), ("Prvo", ""), ("Drugo", "")]),
            "{filler}"
        );
        for made in &stage.partners()[1..] {
            assert!(!made.taxpayer, "{filler}");
            assert_eq!(made.registration_number, "");
        }
    }
}

#[tokio::test]
async fn a_filler_at_the_partner_contradicts_nobody() {
    for filler in ["N/A", "/", "0", "99"] {
        let stage = Stage::new(Readings::nasty()).await;
        let old = with_mailbox(partner("Mlin", filler, "Slovenija"), "info@mlin.example");
        stage.by_hand(old).await;
        let mut mill = contact("765", "Mlin d.o.o.", "SI99999927", "SI");
        mill["emails"] = json!([{"value": "info@mlin.example"}]);
        stage.deliver_until_done(&saved(1, &mill)).await;
        assert_eq!(shown(&stage), told(&[("Mlin d.o.o.", "SI99999927")]));
    }
}

#[tokio::test]
async fn slovenia_is_at_home_in_every_spelling() {
    for country in [
        "SI",
        "SVN",
        "SLO",
        "705",
        "Slovenija",
        "Slovenia",
        "Slowenien",
        "Republic of Slovenia",
        "Republika Slovenija",
    ] {
        let stage = Stage::new(Readings::kind()).await;
        stage
            .deliver_until_done(&saved(1, &contact("770", "Mlin", "99999927", country)))
            .await;
        let partner = stage.only_partner();
        assert!(!partner.foreign_county, "{country}");
        assert_eq!(partner.addresses[0].country, "Slovenija");
    }
    let stage = Stage::new(Readings::kind()).await;
    stage
        .deliver_until_done(&saved(1, &contact("771", "Müller", "DE123456789", "DEU")))
        .await;
    assert!(stage.only_partner().foreign_county);
    assert_eq!(stage.only_partner().addresses[0].country, "Nemčija");
}

#[tokio::test]
async fn a_look_up_of_any_number_costs_few_calls() {
    for (tax, country, most) in [
        ("SI99999927", "SI", 3),
        ("99999927", "SI", 3),
        ("DE123456789", "DE", 3),
        ("BE0999999927", "BE", 5),
        ("CHE123456789TVA", "CH", 5),
        ("99999927", "", 3),
    ] {
        let stage = Stage::new(Readings::kind()).await;
        let mut event = contact("780", "Podjetje", tax, country);
        event["emails"] = json!([{"value": "info@podjetje.example"}]);
        stage.deliver_until_done(&saved(1, &event)).await;
        let calls = stage.calls_since(0);
        let looked = calls.iter().filter(|call| **call == "find").count();
        assert!(
            looked <= most && most <= metakocka_sync::LOOKUPS,
            "{tax}: {calls:?}"
        );
    }
}

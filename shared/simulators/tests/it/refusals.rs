//! What a company refuses, and what it lets through that a careless caller does not expect.

use serde_json::{Value, json};
use simulators::metakocka::core::{Call, Readings};

use crate::caller::{Books, with_credentials};

fn code(answer: &Value) -> Option<&str> {
    answer.get("opr_code").map(|code| code.as_str().unwrap())
}

#[test]
fn credentials_then_address_then_quota_then_fields() {
    let mut books = Books::with(Readings::kind());
    books.company.set_strict(true);
    let quota = simulators::metakocka::Quota {
        calls: 0,
        per_seconds: 60,
    };
    books.company.set_access(
        None,
        Some(vec!["10.0.0.1".parse().unwrap()]),
        Some(Some(quota)),
    );
    let stranger = "10.9.9.9".parse().unwrap();
    let known = "10.0.0.1".parse().unwrap();
    let wrong = r#"{"secret_key":"x","company_id":"4711","colour":"red"}"#.to_owned();
    let right = with_credentials(json!({"colour": "red"})).to_string();
    let mut refused = |body: &str, from| {
        let reply = books
            .company
            .admit(Call::GetPartner, body.as_bytes(), Some(from), books.now)
            .unwrap_err();
        reply.seen.refused.unwrap()
    };
    assert_eq!(refused(&wrong, stranger), 3);
    assert_eq!(refused(&right, stranger), 4);
    assert_eq!(refused(&right, known), 5);
    books.company.set_access(None, None, Some(None));
    let reply = books
        .company
        .admit(Call::GetPartner, right.as_bytes(), Some(known), books.now)
        .unwrap_err();
    assert_eq!(reply.seen.refused, Some(2));
    assert_eq!(books.company.violations()[0].field, "colour");
}

#[test]
fn another_companys_id_is_wrong_credentials_and_a_number_is_as_good_as_text() {
    let mut books = Books::with(Readings::kind());
    assert_eq!(
        code(&books.call_text(
            Call::GetPartner,
            r#"{"secret_key":"sim-key","company_id":"4712"}"#
        )),
        Some("3")
    );
    books.add(json!({"customer": "Novak"}));
    assert_eq!(
        code(&books.call_text(
            Call::GetPartner,
            r#"{"secret_key":"sim-key","company_id":4711}"#
        )),
        None
    );
}

#[test]
fn what_cannot_be_read_is_code_2() {
    let mut books = Books::with(Readings::kind());
    for body in ["", "{", "[]", "\"text\"", "{\"a\":1}}"] {
        assert_eq!(
            code(&books.call_text(Call::AddPartner, body)),
            Some("2"),
            "{body}"
        );
    }
}

#[test]
fn a_partner_needs_a_name_and_right_kinds_of_values() {
    let mut books = Books::with(Readings::kind());
    for partner in [
        json!({}),
        json!({"customer": "  "}),
        json!({"customer": ["Novak"]}),
        json!({"customer": "Novak", "business_entity": "yes"}),
        json!({"customer": "Novak", "partner_contact": "Ana"}),
        json!({"customer": "Novak", "partner_delivery_address": {"address_type": "Doma"}}),
        json!("Novak"),
    ] {
        assert_eq!(code(&books.add(partner.clone())), Some("2"), "{partner}");
    }
    assert_eq!(code(&books.call(Call::AddPartner, json!({}))), Some("2"));
    assert_eq!(books.company.partners().count(), 0);
    let first = books.add(json!({"customer": "Novak"}));
    assert_eq!(first["mk_id"], "9000000101", "a refused call uses up no id");
}

#[test]
fn adding_never_recognises_anybody() {
    let mut books = Books::with(Readings::kind());
    for _ in 0..2 {
        books.add(json!({"customer": "Novak", "tax_id_number": "SI1"}));
    }
    let codes: Vec<_> = books
        .company
        .partners()
        .map(|partner| partner.count_code.clone())
        .collect();
    assert_eq!(codes, ["1042", "1043"]);
}

#[test]
fn contact_is_name_in_the_documentations_table() {
    let mut books = Books::with(Readings::kind());
    books.add(json!({"customer": "Novak", "partner_contact": {"contact": "Ana"}}));
    books.add(json!({"customer": "Novak", "partner_contact": {"useCustomerAsContact": "true"}}));
    let names: Vec<_> = books
        .company
        .partners()
        .map(|partner| partner.contacts[0].name.clone())
        .collect();
    assert_eq!(names, ["Ana", "Novak"]);
}

#[test]
fn an_update_selects_by_id_or_number_and_is_no_upsert() {
    let mut books = Books::with(Readings::kind());
    books.add(json!({"customer": "Novak"}));
    assert_eq!(
        code(&books.update(json!({"count_code": "1042", "customer": "Nova"}))),
        None
    );
    assert_eq!(books.company.partners().next().unwrap().customer, "Nova");
    for selector in [
        json!({"mk_id": "1"}),
        json!({"count_code": "1"}),
        json!({}),
        json!({"mk_id": ""}),
        json!({"mk_id": "x"}),
    ] {
        assert_eq!(
            code(&books.update(selector.clone())),
            Some("2"),
            "{selector}"
        );
    }
    assert_eq!(books.company.partners().count(), 1);
}

#[test]
fn an_update_is_whole_or_nothing() {
    let mut books = Books::with(Readings::kind());
    books.add(json!({"customer": "Novak", "street": "Lipova 1"}));
    for wrong in [
        json!({"partner_contact_list": [{"name": "Ana"}]}),
        json!({"partner_contact_list": [{"mk_id": "1", "name": "Ana"}]}),
        json!({"partner_contact_list": [{"mk_address_id": "1", "name": "Ana"}]}),
        json!({"partner_delivery_address_list": [{"mk_id": "1", "street": "x"}]}),
        json!({"customer": ""}),
    ] {
        let mut partner = json!({"mk_id": "9000000101", "tax_id_number": "SI1"});
        partner
            .as_object_mut()
            .unwrap()
            .extend(wrong.as_object().unwrap().clone());
        assert_eq!(code(&books.update(partner.clone())), Some("2"), "{partner}");
    }
    let partner = books.company.partners().next().unwrap();
    assert_eq!(
        (partner.tax_id_number.as_str(), partner.contacts.len()),
        ("", 0)
    );
}

#[test]
fn entries_with_an_id_are_changed_and_entries_without_are_appended() {
    let mut books = Books::with(Readings::kind());
    books.add(json!({"customer": "Novak", "street": "Lipova 1", "partner_contact": {"name": "Ana", "phone": "1"}}));
    books.update(json!({
        "mk_id": "9000000101",
        "partner_contact_list": [{"mk_id": "9000000103", "phone": "2"}],
        "partner_delivery_address_list": [{"street": "Panjska 2"}, {"mk_id": "9000000102", "city": "Trebnje"}],
    }));
    let partner = books.company.partners().next().unwrap();
    insta::assert_json_snapshot!(partner, @r#"
    {
      "mk_id": "9000000101",
      "count_code": "1042",
      "customer": "Novak",
      "business_entity": false,
      "taxpayer": false,
      "foreign_county": false,
      "buyer": null,
      "supplier": null,
      "tax_id_number": "",
      "registration_number": "",
      "contacts": [
        {
          "mk_id": "9000000103",
          "mk_address_id": "9000000102",
          "name": "Ana",
          "email": "",
          "gsm": "",
          "phone": "2",
          "fax": ""
        }
      ],
      "addresses": [
        {
          "mk_id": "9000000102",
          "address_type": "Račun",
          "street": "Lipova 1",
          "post_number": "",
          "city": "Trebnje",
          "province": "",
          "country": ""
        },
        {
          "mk_id": "9000000104",
          "address_type": "Dobava",
          "street": "Panjska 2",
          "post_number": "",
          "city": "",
          "province": "",
          "country": ""
        }
      ]
    }
    "#);
}

#[test]
fn pages_are_of_a_thousand_at_most() {
    let mut books = Books::with(Readings::kind());
    for number in 0..1_003 {
        books.add(json!({"customer": format!("P{number}")}));
    }
    assert_eq!(books.find(json!({})).len(), 1_000);
    assert_eq!(books.find(json!({"limit": "5000"})).len(), 1_000);
    assert_eq!(
        books.find(json!({"offset": "1000"})),
        ["P1000", "P1001", "P1002"]
    );
    assert_eq!(books.find(json!({"offset": 1, "limit": 2})), ["P1", "P2"]);
    assert_eq!(
        code(&books.call(Call::GetPartner, json!({"limit": "many"}))),
        Some("2")
    );
}

#[test]
fn a_misspelt_filter_is_no_filter() {
    let mut books = Books::with(Readings::kind());
    books.add(json!({"customer": "Novak"}));
    assert_eq!(books.find(json!({"partner_tax_num": "SI1"})), ["Novak"]);
    books.company.set_strict(true);
    let refused = books.call(Call::GetPartner, json!({"partner_tax_num": "SI1"}));
    assert_eq!(
        (code(&refused), &refused["opr_desc"]),
        (Some("2"), &json!("Unknown field : partner_tax_num"))
    );
}

#[test]
fn strict_mode_knows_every_level_and_lets_the_contract_through() {
    let mut books = Books::with(Readings::kind());
    books.company.set_strict(true);
    let all = json!({
        "customer": "N", "business_entity": "true", "taxpayer": "true", "foreign_county": "false", "buyer": "true", "supplier": "true",
        "tax_id_number": "1", "registration_number": "2", "street": "a", "post_number": "b", "place": "c", "province": "d", "country": "e",
        "partner_contact": {"name": "n", "email": "e", "gsm": "g", "phone": "p", "fax": "f", "useCustomerAsContact": "false"},
        "partner_delivery_address": {"address_type": "Dobava", "street": "s", "post_number": "p", "city": "c", "province": "p", "country": "c"},
    });
    assert_eq!(code(&books.add(all)), None);
    for (call, partner) in [
        (
            Call::AddPartner,
            json!({"customer": "N", "foreign_country": "true"}),
        ),
        (
            Call::AddPartner,
            json!({"customer": "N", "partner_contact": {"mobile": "1"}}),
        ),
        (
            Call::AddPartner,
            json!({"customer": "N", "partner_delivery_address": {"place": "Trebnje"}}),
        ),
        (
            Call::UpdatePartner,
            json!({"mk_id": "9000000101", "partner_contact": {"name": "n"}}),
        ),
        (
            Call::UpdatePartner,
            json!({"mk_id": "9000000101", "partner_contact_list": [{"mobile": "1"}]}),
        ),
        (
            Call::UpdatePartner,
            json!({"mk_id": "9000000101", "partner_contact_list": {"mk_id": "9000000104"}}),
        ),
        (
            Call::UpdatePartner,
            json!({"mk_id": "9000000101", "city": "Trebnje"}),
        ),
    ] {
        assert_eq!(
            code(&books.call(call, json!({"partner": partner}))),
            Some("2")
        );
    }
    let fields: Vec<_> = books
        .company
        .violations()
        .iter()
        .map(|violation| violation.field.as_str())
        .collect();
    assert_eq!(
        fields,
        [
            "partner.foreign_country",
            "partner.partner_contact.mobile",
            "partner.partner_delivery_address.place",
            "partner.partner_contact",
            "partner.partner_contact_list.mobile",
            "partner.partner_contact_list (not a list)",
            "partner.city",
        ]
    );
    assert_eq!(books.company.partners().count(), 1);
}

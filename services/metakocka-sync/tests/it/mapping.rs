//! What contacts mean, as text that people can review.

use std::fmt::Write as _;

use event::Payload;
use metakocka_sync::content;
use serde_json::{Value, json};
use sync::Content;

use crate::stage::{beekeeper, person, saved};

pub(crate) fn mapped(contact: &Value) -> Result<Content, String> {
    let event = event::decode(&serde_json::to_vec(&saved(1, contact)).unwrap()).unwrap();
    let Payload::ContactSaved(saved) = event.payload else {
        panic!("a contact")
    };
    content(&saved.contact)
}

fn shown(contact: &Value) -> String {
    let content = mapped(contact).unwrap();
    let mut text = String::new();
    for (name, value) in &content.fields {
        let value = value.as_deref().unwrap_or("(none)");
        writeln!(text, "{name}: {value}").unwrap();
    }
    for (kind, parts) in &content.parts {
        if parts.is_empty() {
            writeln!(text, "{kind}: (none)").unwrap();
        }
        for part in parts {
            writeln!(text, "{kind}: {:?}", part.fields).unwrap();
        }
    }
    for key in &content.keys {
        writeln!(text, "key {}", key.0).unwrap();
    }
    text
}

fn changed(mut contact: Value, members: Value) -> Value {
    for (name, value) in members.as_object().unwrap() {
        contact[name] = value.clone();
    }
    contact
}

#[test]
fn an_organization_with_everything() {
    insta::assert_snapshot!(shown(&beekeeper()));
}

#[test]
fn a_person() {
    insta::assert_snapshot!(shown(&person()));
}

#[test]
fn a_name_and_nothing_else() {
    insta::assert_snapshot!(shown(
        &json!({"id": "1", "kind": "person", "name": " Đuro  Žnidaršič "})
    ));
}

#[test]
fn everything_cleared() {
    let cleared = json!({"tax_id": null, "registration_number": null, "emails": null, "phones": [], "addresses": null});
    insta::assert_snapshot!(shown(&changed(beekeeper(), cleared)));
}

#[test]
fn a_foreign_company_without_a_main_address() {
    let abroad = json!({
        "tax_id": "atu 1234.5678",
        "addresses": [
            {"kind": "delivery", "street": "Čopova 1", "postal_code": "1000", "city": "Ljubljana", "country": "SI"},
            {"kind": "billing", "street": "Šarhgasse 3", "postal_code": "1030", "city": "Dunaj", "country": "Austria"},
            {"kind": "billing", "street": "Đakovska 2", "postal_code": "10000", "city": "Zagreb", "country": "HR"},
            {"kind": "warehouse", "street": "Žitna 9", "postal_code": "2000", "city": "Maribor", "country": ""},
            {"kind": "delivery"}
        ],
        "phones": [{"raw": "01  23"}, {"raw": "+43 1", "label": "Mobile (work)"}, {"raw": "041 2", "label": "mobil"}]
    });
    insta::assert_snapshot!(shown(&changed(beekeeper(), abroad)));
}

#[test]
fn a_persons_tax_number_is_data_and_no_key() {
    let content = mapped(&changed(person(), json!({"tax_id": "SI99999901"}))).unwrap();
    assert_eq!(
        content.fields["tax_id_number"].as_deref(),
        Some("SI99999901")
    );
    assert_eq!(content.fields["taxpayer"].as_deref(), Some("false"));
    assert!(content.keys.iter().all(|key| !key.0.contains("|tax|")));
}

#[test]
fn a_name_that_many_share_is_a_key_only_without_a_better_one() {
    let keys = |contact: Value| {
        let keys = mapped(&contact).unwrap().keys;
        keys.into_iter().map(|key| key.0).collect::<Vec<_>>()
    };
    let bare = json!({"id": "1", "kind": "person", "name": "Janez Novak"});
    assert_eq!(keys(bare.clone()), ["person|name|janez novak||"]);
    let reachable = changed(bare, json!({"emails": [{"value": "Janez@Novak.example"}]}));
    assert_eq!(keys(reachable), ["person|email|janez@novak.example"]);
}

#[test]
fn texts_that_do_not_fit_are_named_and_never_cut() {
    let long = |length: usize| "č".repeat(length);
    let address = |member: &str, length: usize| {
        let mut address = json!({"kind": "main", "street": "Pot 1", "postal_code": "1000", "city": "Ljubljana", "country": "SI"});
        address[member] = json!(long(length));
        json!({"addresses": [{"kind": "delivery", "street": "Pot 2"}, address]})
    };
    for (members, field) in [
        (
            json!({"name": long(101)}),
            "/contact/name has 101 characters",
        ),
        (address("street", 151), "/contact/addresses/1/street"),
        (
            address("postal_code", 21),
            "/contact/addresses/1/postal_code",
        ),
        (address("city", 101), "/contact/addresses/1/city"),
        (address("province", 51), "/contact/addresses/1/province"),
        (address("country", 51), "/contact/addresses/1/country"),
        (
            json!({"emails": [{"value": "a@b.example"}, {"value": format!("{}@b.example", long(250)), "primary": true}]}),
            "/contact/emails/1/value",
        ),
    ] {
        let refused = mapped(&changed(beekeeper(), members)).unwrap_err();
        assert!(refused.starts_with(field), "{refused}");
    }
    for members in [
        json!({"name": long(100)}),
        address("street", 150),
        address("city", 100),
    ] {
        assert!(mapped(&changed(beekeeper(), members)).is_ok());
    }
}

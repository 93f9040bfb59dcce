//! What people do behind a caller's back.

use serde_json::json;
use simulators::metakocka::core::{MkId, PartnerEdit, PersonContact, Readings};

use crate::caller::Books;

fn two_partners() -> Books {
    let mut books = Books::with(Readings::kind());
    for name in ["Novak", "Kovač"] {
        books.add(json!({"customer": name, "street": format!("{name}a 1"), "partner_contact": {"name": name, "email": format!("{name}@x.example")}}));
    }
    books
}

const NOVAK: MkId = MkId(9_000_000_101);
const KOVAC: MkId = MkId(9_000_000_104);

#[test]
fn a_merged_partner_is_gone_and_its_contacts_and_addresses_live_on() {
    let mut books = two_partners();
    books
        .company
        .person_merges(KOVAC, NOVAK, books.now)
        .unwrap();
    assert_eq!(books.find(json!({})), ["Novak"]);
    assert_eq!(
        books.find(json!({"partner_email": "kovač@x.example"})),
        ["Novak"]
    );
    assert_eq!(books.find(json!({"partner_id": KOVAC})).len(), 0);
    assert_eq!(books.company.partner(NOVAK).unwrap().addresses.len(), 2);
    assert!(
        books
            .company
            .person_merges(NOVAK, NOVAK, books.now)
            .is_err()
    );
    assert!(
        books
            .company
            .person_merges(KOVAC, NOVAK, books.now)
            .is_err(),
        "it is gone already"
    );
}

#[test]
fn an_edit_replaces_lists_and_keeps_the_rest() {
    let mut books = two_partners();
    let edit = PartnerEdit {
        contacts: Some(vec![PersonContact {
            name: "Nova".into(),
            ..PersonContact::default()
        }]),
        ..PartnerEdit::default()
    };
    books.company.person_edits(NOVAK, edit, books.now).unwrap();
    let novak = books.company.partner(NOVAK).unwrap();
    assert_eq!(novak.customer, "Novak");
    assert_eq!(novak.contacts.len(), 1);
    assert_eq!(novak.contacts[0].mk_id, MkId(9_000_000_107), "a new one");
    assert_eq!(
        novak.contacts[0].mk_address_id,
        Some(novak.addresses[0].mk_id)
    );
}

#[test]
fn a_renamed_partner_is_found_by_its_new_name_only() {
    let mut books = two_partners();
    books
        .company
        .person_renames(NOVAK, "Novak in sin", books.now)
        .unwrap();
    assert_eq!(
        books.find(json!({"partner_name": "novak in"})),
        ["Novak in sin"]
    );
}

#[test]
fn a_person_adds_a_partner_under_the_next_number() {
    let mut books = two_partners();
    let edit = PartnerEdit {
        customer: Some("Ročno".into()),
        ..PartnerEdit::default()
    };
    let mk_id = books.company.person_adds(edit, books.now).unwrap();
    assert_eq!(books.company.partner(mk_id).unwrap().count_code, "1044");
    assert!(
        books
            .company
            .person_adds(PartnerEdit::default(), books.now)
            .is_err(),
        "a name is needed"
    );
}

//! What a contact's newest version must look like at Metakocka, said a second time and independently of the worker's
//! own mapping: docs/events.md for one side, the partner's fields for the other.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;
use simulators::metakocka::{AddressType, Partner};

/// Everything that is not as `record` (`data.contact` of the newest event) says; empty if all is well. What an
/// earlier version had beside it may stay, because Metakocka removes nothing (contract §2.3).
pub(crate) fn differences(record: &Value, partner: &Partner) -> String {
    let mut wrong = String::new();
    let text = |member: &str| record[member].as_str();
    same(&mut wrong, "customer", &partner.customer, text("name"));
    // Whether it has its prefix says nothing (contract §2.2).
    let bare = |number: &str| number.trim_start_matches("SI").to_owned();
    let tax = text("tax_id").map(bare);
    same(
        &mut wrong,
        "tax number",
        &bare(&partner.tax_id_number),
        tax.as_deref(),
    );
    same(
        &mut wrong,
        "registration number",
        &partner.registration_number,
        text("registration_number"),
    );
    let organization = record["kind"] == "organization";
    if partner.business_entity != organization {
        writeln!(wrong, "business_entity is {}", partner.business_entity).unwrap();
    }
    for address in list(record, "addresses") {
        let kind = if address["kind"] == "main" {
            AddressType::Billing
        } else {
            AddressType::Delivery
        };
        let found = partner.addresses.iter().filter(|at| {
            at.address_type == kind
                && at.street == address["street"]
                && at.post_number == address["postal_code"]
                && at.city == address["city"]
                && at.country == "Slovenija"
        });
        once(&mut wrong, &format!("address {address}"), found.count());
    }
    let emails = list(record, "emails");
    let email = emails
        .iter()
        .find(|email| email["primary"] == true)
        .or(emails.first())
        .and_then(|email| email["value"].as_str())
        .unwrap_or_default()
        .to_lowercase();
    let gsm = list(record, "phones")
        .first()
        .and_then(|phone| phone["value_e164"].as_str().or(phone["raw"].as_str()))
        .unwrap_or_default();
    // Whatever it is called: a contact that we did not make, or no longer know, stands for ours and keeps its name.
    let found = partner
        .contacts
        .iter()
        .filter(|contact| contact.email.to_lowercase() == email && contact.gsm == gsm);
    once(&mut wrong, &format!("contact {email} {gsm}"), found.count());
    wrong.push_str(&doubles(partner));
    if wrong.is_empty() {
        return wrong;
    }
    format!("{wrong}record {record:#}\npartner {partner:#?}")
}

/// Addresses and contacts that the partner has more than once.
pub(crate) fn doubles(partner: &Partner) -> String {
    let mut wrong = String::new();
    let mut seen = BTreeSet::new();
    for address in &partner.addresses {
        let key = [
            address.address_type.as_str(),
            &address.street,
            &address.post_number,
            &address.city,
        ];
        if !seen.insert(key.join("|").to_lowercase()) {
            writeln!(wrong, "twice: {address:?}").unwrap();
        }
    }
    for contact in &partner.contacts {
        let key = [&contact.name, &contact.email, &contact.gsm, &contact.phone];
        if !seen.insert(key.map(String::as_str).join("|").to_lowercase()) {
            writeln!(wrong, "twice: {contact:?}").unwrap();
        }
    }
    wrong
}

/// An absent member says nothing about the field.
fn same(wrong: &mut String, what: &str, found: &str, wanted: Option<&str>) {
    if let Some(wanted) = wanted
        && wanted != found
    {
        writeln!(wrong, "{what} is {found:?}, not {wanted:?}").unwrap();
    }
}

fn once(wrong: &mut String, what: &str, found: usize) {
    if found != 1 {
        writeln!(wrong, "{what} is there {found} times").unwrap();
    }
}

fn list<'a>(record: &'a Value, member: &str) -> &'a [Value] {
    record[member].as_array().map_or(&[], Vec::as_slice)
}

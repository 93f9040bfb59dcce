//! From the engine's fields to what the client sends, and what the answer to a create names.

use event::identity;
use metakocka::{AddedPartner, ContactFields, MainAddress, MainFields, NewPartner};
use sync::{Fields, Part, Record, RecordPart};

use super::content::{
    BUSINESS_ENTITY, COUNTRY, CUSTOMER, FOREIGN, MAIN_ADDRESS, PLACE, POST_NUMBER, PROVINCE,
    REGISTRATION, STREET, TAX_ID, TAXPAYER,
};
use super::parts::{self, Managed};

/// Whoever comes from the CRM buys; that is said once and left to people afterwards.
pub(crate) fn new_partner(
    fields: &Fields,
    contact: Option<&Part>,
    address: Option<&Part>,
    managed: Managed,
) -> NewPartner {
    NewPartner {
        customer: text(fields, CUSTOMER),
        business_entity: flag(fields, BUSINESS_ENTITY),
        taxpayer: flag(fields, TAXPAYER),
        foreign: flag(fields, FOREIGN),
        buyer: true,
        supplier: false,
        tax_id_number: fields.get(TAX_ID).cloned().flatten(),
        registration_number: fields.get(REGISTRATION).cloned().flatten(),
        address: main(fields),
        contact: contact.map(|part| parts::contact_fields(part, managed)),
        further_address: address.map(parts::address_fields),
    }
}

/// Cleared texts are sent empty; the address whole or not at all.
pub(crate) fn main_fields(changed: &Fields, whole: &Fields) -> MainFields {
    let is_changed = |name: &str| changed.contains_key(name);
    let text_of = |name: &str| is_changed(name).then(|| text(changed, name));
    let flag_of = |name: &str| is_changed(name).then(|| flag(changed, name));
    MainFields {
        customer: text_of(CUSTOMER),
        business_entity: flag_of(BUSINESS_ENTITY),
        taxpayer: flag_of(TAXPAYER),
        foreign: flag_of(FOREIGN),
        buyer: None,
        supplier: None,
        tax_id_number: text_of(TAX_ID),
        registration_number: text_of(REGISTRATION),
        address: MAIN_ADDRESS
            .into_iter()
            .any(is_changed)
            .then(|| main(whole)),
    }
}

/// Nothing is cleared on a contact that is made.
pub(crate) fn filled(contact: ContactFields) -> ContactFields {
    let told = |field: Option<String>| field.filter(|text| !text.is_empty());
    ContactFields {
        name: told(contact.name),
        email: told(contact.email),
        gsm: told(contact.gsm),
        phone: told(contact.phone),
        fax: told(contact.fax),
    }
}

/// The id of the further address, where only one of the new addresses lies in its street.
pub(crate) fn address_id(added: &AddedPartner, part: &Part) -> Option<String> {
    let street = parts::address_fields(part).street;
    let mut same = added.addresses.iter().filter(|address| {
        identity::street(address.street.as_deref().unwrap_or_default()) == identity::street(&street)
    });
    match (same.next(), same.next()) {
        (Some(one), None) => Some(one.mk_id.to_string()),
        _ => None,
    }
}

/// A partner that was just made holds what was sent, and nothing else.
pub(crate) fn as_sent(added: &AddedPartner, fields: &Fields, named: &[(String, Part)]) -> Record {
    let told = |(name, text): (&String, &Option<String>)| Some((name.clone(), text.clone()?));
    Record {
        id: added.mk_id.to_string(),
        fields: fields.iter().filter_map(told).collect(),
        parts: named
            .iter()
            .map(|(id, part)| RecordPart {
                id: id.clone(),
                part: part.clone(),
            })
            .collect(),
    }
}

fn text(fields: &Fields, name: &str) -> String {
    fields.get(name).cloned().flatten().unwrap_or_default()
}

fn flag(fields: &Fields, name: &str) -> bool {
    text(fields, name) == "true"
}

fn main(fields: &Fields) -> MainAddress {
    MainAddress {
        street: text(fields, STREET),
        post_number: text(fields, POST_NUMBER),
        place: text(fields, PLACE),
        province: text(fields, PROVINCE),
        country: text(fields, COUNTRY),
    }
}

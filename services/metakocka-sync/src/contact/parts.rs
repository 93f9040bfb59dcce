//! Contacts and further addresses as parts of a record: one text form for what is sent and what is shown. Empty fields
//! are left out of it, so that "none" and "cleared" are the same content.

use std::collections::BTreeMap;

use event::identity::{self, country};
use metakocka::{Address, AddressFields, AddressKind, Contact, ContactFields};
use sync::Part;

pub(crate) const CONTACT: &str = "contact";
pub(crate) const ADDRESS: &str = "address";

pub(crate) const NAME: &str = "name";
pub(crate) const EMAIL: &str = "email";
pub(crate) const GSM: &str = "gsm";
pub(crate) const PHONE: &str = "phone";

pub(crate) const TYPE: &str = "type";
pub(crate) const STREET: &str = "street";
pub(crate) const POST_NUMBER: &str = "post_number";
pub(crate) const CITY: &str = "city";
pub(crate) const PROVINCE: &str = "province";
pub(crate) const COUNTRY: &str = "country";

/// Which fields of the contact the publisher says anything about; the others are neither sent nor compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Managed {
    pub(crate) emails: bool,
    pub(crate) phones: bool,
}

impl Managed {
    pub(crate) const ALL: Self = Self {
        emails: true,
        phones: true,
    };

    pub(crate) fn any(self) -> bool {
        self.emails || self.phones
    }

    fn covers(self, field: &str) -> bool {
        match field {
            EMAIL => self.emails,
            GSM | PHONE => self.phones,
            _ => true,
        }
    }
}

/// A part of these fields, without the empty ones.
pub(crate) fn part<'a>(kind: &str, fields: impl IntoIterator<Item = (&'a str, String)>) -> Part {
    let fields: BTreeMap<String, String> = fields
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(name, text)| (name.to_owned(), text))
        .collect();
    Part {
        part_type: kind.to_owned(),
        fields,
    }
}

/// As shown by Metakocka. Fax numbers are nobody's business here.
pub(crate) fn of_contact(contact: &Contact, managed: Managed) -> Part {
    let text = |field: &Option<String>| identity::clean(field.as_deref().unwrap_or_default());
    let number = |field: &Option<String>| identity::plain(field.as_deref().unwrap_or_default());
    let email = identity::email(contact.email.as_deref().unwrap_or_default());
    let fields = [
        (NAME, text(&contact.name)),
        (EMAIL, email),
        (GSM, number(&contact.gsm)),
        (PHONE, number(&contact.phone)),
    ];
    part(
        CONTACT,
        fields.into_iter().filter(|(name, _)| managed.covers(name)),
    )
}

pub(crate) fn of_address(address: &Address) -> Part {
    let text = |field: &Option<String>| identity::clean(field.as_deref().unwrap_or_default());
    let fields = [
        (TYPE, address.kind.as_str().to_owned()),
        (STREET, text(&address.street)),
        (POST_NUMBER, text(&address.post_number)),
        (CITY, text(&address.city)),
        (PROVINCE, text(&address.province)),
        (
            COUNTRY,
            country::in_slovenian(address.country.as_deref().unwrap_or_default()),
        ),
    ];
    part(ADDRESS, fields)
}

/// For a contact that is made or changed: an empty field of the managed ones asks to clear.
pub(crate) fn contact_fields(part: &Part, managed: Managed) -> ContactFields {
    let text = |name: &str| {
        managed
            .covers(name)
            .then(|| part.fields.get(name).cloned().unwrap_or_default())
    };
    ContactFields {
        name: text(NAME),
        email: text(EMAIL),
        gsm: text(GSM),
        phone: text(PHONE),
        fax: None,
    }
}

pub(crate) fn address_fields(part: &Part) -> AddressFields {
    let text = |name: &str| part.fields.get(name).cloned().unwrap_or_default();
    AddressFields {
        kind: address_kind(&text(TYPE)),
        street: text(STREET),
        post_number: text(POST_NUMBER),
        city: text(CITY),
        province: text(PROVINCE),
        country: text(COUNTRY),
    }
}

fn address_kind(word: &str) -> AddressKind {
    [
        AddressKind::Billing,
        AddressKind::Delivery,
        AddressKind::BusinessUnit,
    ]
    .into_iter()
    .find(|kind| kind.as_str() == word)
    .unwrap_or_else(|| AddressKind::Other(word.to_owned()))
}

/// Whether two parts differ in spelling only (contract §8: what makes it the same contact or address).
pub(crate) fn same(one: &Part, other: &Part) -> bool {
    one.part_type == other.part_type
        && if one.part_type == CONTACT {
            contact_fields(one, Managed::ALL).signature()
                == contact_fields(other, Managed::ALL).signature()
        } else {
            address_fields(one).signature() == address_fields(other).signature()
        }
}

/// Whether somebody's contact makes a wanted one needless: the wanted mailbox is one of its own, or where none is wanted
/// one of the numbers, and every wanted number stands at one of these contacts. What it is called does not matter.
pub(crate) fn stands_for(contact: &Contact, wanted: &Part, theirs: &[&Contact]) -> bool {
    let text = |name: &str| wanted.fields.get(name).map(String::as_str);
    let numbers: Vec<String> = [text(GSM), text(PHONE)]
        .into_iter()
        .flatten()
        .map(identity::phone)
        .collect();
    let has = |contact: &Contact, number: &String| {
        [&contact.gsm, &contact.phone]
            .into_iter()
            .flatten()
            .flat_map(|field| field.split([',', ';']))
            .any(|one| identity::phone(one) == *number)
    };
    let reached = match text(EMAIL) {
        Some(mailbox) => {
            let field = contact.email.as_deref().unwrap_or_default();
            identity::emails(field).any(|one| one == mailbox)
        }
        None => numbers.iter().any(|number| has(contact, number)),
    };
    reached
        && numbers
            .iter()
            .all(|number| theirs.iter().any(|contact| has(contact, number)))
}

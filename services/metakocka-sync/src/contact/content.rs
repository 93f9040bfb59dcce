//! What a contact of the CRM is at Metakocka (contract §2.1). Pure.
//!
//! An organization is a business partner, a person a private one, each a partner of its own. The main address (kind
//! `main`, without one the first `billing`) becomes the partner's top-level address; every other address, and one
//! contact with an e-mail address, a mobile and another number, are parts of it. Text that does not fit is an error and
//! never cut: what was cut would not be found as sent.
//!
//! An absent field of the event is absent here (left alone at Metakocka), null and `[]` are "none". What is managed is
//! always all there, whatever the state (a taxpayer or not, foreign or not): so nothing of an earlier state stays behind.
//! An entry of a list that shows nothing is none.

use event::identity::{self, country};
use event::{AddressKind as Purpose, ContactKind, Field};
use metakocka::{AddressKind, TaxNumber, length, official_number};
use sync::mapping::{Lengths, filled, managed};
use sync::{Content, Fields, Part};

use super::keys::{Identity, Who};
use super::parts::{self, Managed, part};

pub(crate) const CUSTOMER: &str = "customer";
pub(crate) const BUSINESS_ENTITY: &str = "business_entity";
pub(crate) const TAXPAYER: &str = "taxpayer";
pub(crate) const FOREIGN: &str = "foreign_county";
pub(crate) const TAX_ID: &str = "tax_id_number";
pub(crate) const REGISTRATION: &str = "registration_number";
pub(crate) const STREET: &str = "street";
pub(crate) const POST_NUMBER: &str = "post_number";
pub(crate) const PLACE: &str = "place";
pub(crate) const PROVINCE: &str = "province";
pub(crate) const COUNTRY: &str = "country";

/// The top-level address: sent whole or not at all (contract §12).
pub(crate) const MAIN_ADDRESS: [&str; 5] = [STREET, POST_NUMBER, PLACE, PROVINCE, COUNTRY];

/// What fits there.
const LENGTHS: Lengths = Lengths {
    partner: "Metakocka",
};

/// Labels of telephone numbers that are mobile ones, by their beginning.
const MOBILE_LABELS: [&str; 4] = ["mobil", "gsm", "cell", "handy"];

/// What the contact wants a partner to be. `Err` names the field of the event that cannot be expressed.
pub fn content(contact: &event::Contact) -> Result<Content, String> {
    let who = match contact.kind {
        ContactKind::Person => Who::Person,
        ContactKind::Organization => Who::Organization,
    };
    let customer = LENGTHS.fitting(
        "/contact/name",
        length::CUSTOMER,
        identity::clean(&contact.name),
    )?;
    if customer.is_empty() {
        return Err(
            "/contact/name says nothing, and Metakocka knows no partner without a name".to_owned(),
        );
    }
    let mut content = Content::default();
    let fields = &mut content.fields;
    fields.insert(CUSTOMER.to_owned(), Some(customer.clone()));
    fields.insert(
        BUSINESS_ENTITY.to_owned(),
        Some(who.business_entity().to_string()),
    );
    if let Some(given) = managed(&contact.registration_number) {
        let number =
            official_number::registration_number(given.map(String::as_str).unwrap_or_default());
        let number = LENGTHS.text("/contact/registration_number", length::NUMBER, number)?;
        fields.insert(REGISTRATION.to_owned(), number);
    }
    if let Some(given) = managed(&contact.addresses) {
        addresses(given.map(Vec::as_slice).unwrap_or_default(), &mut content)?;
    }
    let tax = tax(contact, who, &mut content)?;
    let mut email = None;
    if managed_fields(contact).any() {
        let reachable = reachable(contact, customer.clone())?;
        email = reachable
            .as_ref()
            .and_then(|part| part.fields.get(parts::EMAIL).cloned());
        let named = part(parts::CONTACT, [(parts::NAME, customer.clone())]);
        content.emptied.insert(parts::CONTACT.to_owned(), named);
        content
            .parts
            .insert(parts::CONTACT.to_owned(), Vec::from_iter(reachable));
    }
    content.keys = keys(who, &customer, tax, email, &content.fields)
        .iter()
        .map(|identity| identity.natural(who))
        .collect();
    Ok(content)
}

/// Which of the fields that make the partner's contact the publisher manages.
pub(crate) fn managed_fields(contact: &event::Contact) -> Managed {
    Managed {
        emails: !contact.emails.is_absent(),
        phones: !contact.phones.is_absent(),
    }
}

/// The country that says whose a number without a prefix is; none where the publisher says nothing about it.
pub(crate) fn country(content: &Content) -> Option<&'static str> {
    let main = content.fields.get(COUNTRY).and_then(Option::as_deref);
    let further = content.parts.get(parts::ADDRESS).into_iter().flatten();
    let others = further.filter_map(|part| part.fields.get(parts::COUNTRY));
    country::of_record(main, others.map(String::as_str))
}

/// A filler (`N/A`, `0`) is no number: like an empty text. Comes after the addresses, because of their country.
fn tax(
    contact: &event::Contact,
    who: Who,
    content: &mut Content,
) -> Result<Option<TaxNumber>, String> {
    let Some(given) = managed(&contact.tax_id) else {
        return Ok(None);
    };
    let given = given.map(String::as_str).unwrap_or_default();
    let number = TaxNumber::read(given, country(content).unwrap_or_default());
    let sent = match number {
        Some(_) => LENGTHS.text(
            "/contact/tax_id",
            length::NUMBER,
            official_number::tax_number(given),
        )?,
        None => None,
    };
    let taxpayer = who == Who::Organization && sent.is_some();
    content.fields.insert(TAX_ID.to_owned(), sent);
    let taxpayer = Some(taxpayer.to_string());
    content.fields.insert(TAXPAYER.to_owned(), taxpayer);
    Ok(number)
}

/// A person's tax number is data and no key: it may be that of an organization. A name without a whole address is a key
/// only where there is no stronger one, because many people share a name.
fn keys(
    who: Who,
    customer: &str,
    tax: Option<TaxNumber>,
    email: Option<String>,
    fields: &Fields,
) -> Vec<Identity> {
    let text = |name: &str| fields.get(name).cloned().flatten().unwrap_or_default();
    let tax = tax
        .filter(|_| who == Who::Organization)
        .map(|number| Identity::of_number(number, customer));
    let mut keys: Vec<Identity> = tax
        .into_iter()
        .chain(email.map(Identity::Email))
        .filter(|identity| identity.key().is_some())
        .collect();
    let (street, post_number) = (text(STREET), text(POST_NUMBER));
    let whole =
        !identity::street(&street).is_empty() && !identity::post_number(&post_number).is_empty();
    let named = Identity::Name {
        customer: customer.to_owned(),
        street,
        post_number,
    };
    if (whole || keys.is_empty()) && named.key().is_some() {
        keys.push(named);
    }
    keys
}

fn addresses(given: &[event::Address], content: &mut Content) -> Result<(), String> {
    let cleaned = given
        .iter()
        .enumerate()
        .map(|(at, address)| Place::new(at, address))
        .collect::<Result<Vec<Place>, String>>()?;
    let places: Vec<Place> = cleaned.into_iter().filter(Place::says_something).collect();
    let main = main_of(&places);
    let fields = &mut content.fields;
    for (at, name) in MAIN_ADDRESS.into_iter().enumerate() {
        let value = main.and_then(|main| filled(places[main].texts[at].clone()));
        fields.insert(name.to_owned(), value);
    }
    let country = fields.get(COUNTRY).cloned().flatten();
    let foreign = country.is_some_and(|country| country::code(&country) != country::code("SI"));
    fields.insert(FOREIGN.to_owned(), Some(foreign.to_string()));
    let further: Vec<Part> = places
        .iter()
        .enumerate()
        .filter(|(at, place)| Some(*at) != main && place.is_somewhere())
        .map(|(_, place)| place.part())
        .collect();
    content.parts.insert(parts::ADDRESS.to_owned(), further);
    Ok(())
}

/// Which one becomes the top-level address. Forms fill in a country before anything is typed, so an address of nothing
/// but that gives way to any other.
fn main_of(places: &[Place]) -> Option<usize> {
    let of = |purpose: Purpose, somewhere: bool| {
        places
            .iter()
            .position(|place| place.purpose == purpose && place.is_somewhere() == somewhere)
    };
    let with = |somewhere| of(Purpose::Main, somewhere).or_else(|| of(Purpose::Billing, somewhere));
    with(true).or_else(|| with(false))
}

/// One address, its texts in the order of [`MAIN_ADDRESS`].
struct Place {
    purpose: Purpose,
    texts: [String; 5],
}

impl Place {
    fn new(at: usize, address: &event::Address) -> Result<Self, String> {
        let fit = |member: &str, limit: usize, value: String| {
            LENGTHS.fitting(&format!("/contact/addresses/{at}/{member}"), limit, value)
        };
        let clean = |text: &str| seen(text, identity::clean);
        Ok(Self {
            purpose: address.kind,
            texts: [
                fit("street", length::STREET, clean(&address.street))?,
                fit(
                    "postal_code",
                    length::POST_NUMBER,
                    clean(&address.postal_code),
                )?,
                fit("city", length::PLACE, clean(&address.city))?,
                fit(
                    "province",
                    length::PROVINCE,
                    clean(address.province.as_deref().unwrap_or_default()),
                )?,
                fit(
                    "country",
                    length::COUNTRY,
                    seen(&address.country, country::in_slovenian),
                )?,
            ],
        })
    }

    fn says_something(&self) -> bool {
        self.texts.iter().any(|text| !text.is_empty())
    }

    /// More than a country.
    fn is_somewhere(&self) -> bool {
        let [place @ .., _country] = &self.texts;
        place.iter().any(|text| !text.is_empty())
    }

    fn part(&self) -> Part {
        // A second billing address of type `Račun` would make it unclear which one is the main one.
        let kind = match self.purpose {
            Purpose::Main | Purpose::Billing => AddressKind::BusinessUnit,
            Purpose::Delivery | Purpose::Other => AddressKind::Delivery,
        };
        let [street, post_number, city, province, country] = self.texts.clone();
        part(
            parts::ADDRESS,
            [
                (parts::TYPE, kind.as_str().to_owned()),
                (parts::STREET, street),
                (parts::POST_NUMBER, post_number),
                (parts::CITY, city),
                (parts::PROVINCE, province),
                (parts::COUNTRY, country),
            ],
        )
    }
}

/// The partner's one contact; none without an e-mail address or a number.
fn reachable(contact: &event::Contact, name: String) -> Result<Option<Part>, String> {
    let mailboxes: Vec<(usize, String)> = list(&contact.emails)
        .iter()
        .map(|email| identity::email(&email.value))
        .enumerate()
        .filter(|(_, mailbox)| !mailbox.is_empty())
        .collect();
    let primary = mailboxes
        .iter()
        .find(|(at, _)| list(&contact.emails)[*at].primary)
        .or(mailboxes.first());
    let email = match primary {
        Some((at, mailbox)) => LENGTHS.fitting(
            &format!("/contact/emails/{at}/value"),
            length::CONTACT,
            mailbox.clone(),
        )?,
        None => String::new(),
    };
    let number = |mobile: bool| -> Result<String, String> {
        let mut phones = list(&contact.phones).iter().enumerate();
        let of_kind = phones.find_map(|(at, phone)| {
            let number = dialled(phone);
            (is_mobile(phone) == mobile && !number.is_empty()).then_some((at, number))
        });
        match of_kind {
            Some((at, number)) => {
                LENGTHS.fitting(&format!("/contact/phones/{at}"), length::CONTACT, number)
            }
            None => Ok(String::new()),
        }
    };
    let (gsm, phone) = (number(true)?, number(false)?);
    if email.is_empty() && gsm.is_empty() && phone.is_empty() {
        return Ok(None);
    }
    let fields = [
        (parts::NAME, name),
        (parts::EMAIL, email),
        (parts::GSM, gsm),
        (parts::PHONE, phone),
    ];
    Ok(Some(part(parts::CONTACT, fields)))
}

/// Empty without a digit or letter.
fn dialled(phone: &event::Phone) -> String {
    let number = identity::plain(phone.value_e164.as_deref().unwrap_or(&phone.raw));
    if number.chars().any(char::is_alphanumeric) {
        number
    } else {
        String::new()
    }
}

/// Empty for what nobody would see.
fn seen(text: &str, clean: fn(&str) -> String) -> String {
    if event::is_visible(text) {
        clean(text)
    } else {
        String::new()
    }
}

fn is_mobile(phone: &event::Phone) -> bool {
    let label = phone
        .label
        .as_deref()
        .unwrap_or_default()
        .trim()
        .to_lowercase();
    MOBILE_LABELS.iter().any(|mobile| label.starts_with(mobile))
}

fn list<T>(field: &Field<Vec<T>>) -> &[T] {
    field.value().map(Vec::as_slice).unwrap_or_default()
}

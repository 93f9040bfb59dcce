//! Partners as Metakocka tells them (§2.2).

use std::fmt;

use serde::{Deserialize, Deserializer};

use crate::decode;
use crate::tax::TaxNumber;
use event::identity::{self, country};

/// An internal id of Metakocka: a decimal text, unique within its company only. Never a number: it may outgrow one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MkId(String);

impl MkId {
    /// None for an empty text: an empty id as a filter would mean everybody (§12).
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for MkId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        decode::text(deserializer)?
            .as_deref()
            .and_then(Self::new)
            .ok_or_else(|| serde::de::Error::custom("empty id"))
    }
}

/// A customer or supplier, company or person.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Partner {
    pub mk_id: MkId,
    /// The number people see; Metakocka gives it.
    #[serde(default, deserialize_with = "decode::text")]
    pub count_code: Option<String>,
    /// Name of the company or person.
    #[serde(default, deserialize_with = "decode::text")]
    pub customer: Option<String>,
    /// A company or sole trader, as against a private person.
    #[serde(default, deserialize_with = "decode::flag")]
    pub business_entity: Option<bool>,
    #[serde(default, deserialize_with = "decode::flag")]
    pub taxpayer: Option<bool>,
    /// `foreign_county` in the API.
    #[serde(default, rename = "foreign_county", deserialize_with = "decode::flag")]
    pub foreign: Option<bool>,
    #[serde(default, deserialize_with = "decode::flag")]
    pub buyer: Option<bool>,
    #[serde(default, deserialize_with = "decode::flag")]
    pub supplier: Option<bool>,
    /// As stored, with or without country prefix.
    #[serde(default, deserialize_with = "decode::text")]
    pub tax_id_number: Option<String>,
    #[serde(default, deserialize_with = "decode::text")]
    pub registration_number: Option<String>,
    #[serde(
        default,
        rename = "partner_contact_list",
        deserialize_with = "decode::many"
    )]
    pub contacts: Vec<Contact>,
    /// The billing address is one of them.
    #[serde(
        default,
        rename = "partner_delivery_address_list",
        deserialize_with = "decode::many"
    )]
    pub addresses: Vec<Address>,
}

impl Partner {
    /// The main address: the one for bills, or where none is marked as such the first.
    pub fn billing_address(&self) -> Option<&Address> {
        self.addresses
            .iter()
            .find(|address| address.kind == AddressKind::Billing)
            .or_else(|| self.addresses.first())
    }

    /// None where no address says it, or where only others than the billing address do and they differ.
    pub fn country(&self) -> Option<&'static str> {
        let said = |address: &Address| address.country.clone().unwrap_or_default();
        let main = self.billing_address().map(said);
        let others: Vec<String> = self.addresses.iter().map(said).collect();
        country::of_record(main.as_deref(), others.iter().map(String::as_str))
    }

    /// None for a filler, too (`N/A`, `0`).
    pub fn tax_number(&self) -> Option<TaxNumber> {
        let written = self.tax_id_number.as_deref().unwrap_or_default();
        TaxNumber::read(written, self.country().unwrap_or_default())
    }
}

/// A person or mailbox at a partner.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Contact {
    pub mk_id: MkId,
    /// The address it belongs to.
    #[serde(default, deserialize_with = "decode::text")]
    pub mk_address_id: Option<String>,
    #[serde(default, deserialize_with = "decode::text")]
    pub name: Option<String>,
    #[serde(default, deserialize_with = "decode::text")]
    pub email: Option<String>,
    #[serde(default, deserialize_with = "decode::text")]
    pub gsm: Option<String>,
    #[serde(default, deserialize_with = "decode::text")]
    pub phone: Option<String>,
    #[serde(default, deserialize_with = "decode::text")]
    pub fax: Option<String>,
}

impl Contact {
    /// What makes it the same contact as another within its partner (§8): all its fields, normalised.
    pub fn signature(&self) -> String {
        contact_signature([&self.name, &self.email, &self.gsm, &self.phone, &self.fax])
    }
}

/// Name, e-mail, then three numbers.
pub(crate) fn contact_signature(fields: [&Option<String>; 5]) -> String {
    let [name, email, gsm, phone, fax] = fields.map(|field| field.as_deref().unwrap_or_default());
    [
        identity::name(name),
        identity::email(email),
        identity::phone(gsm),
        identity::phone(phone),
        identity::phone(fax),
    ]
    .join("|")
}

/// An address of a partner.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Address {
    pub mk_id: MkId,
    #[serde(default, rename = "address_type")]
    pub kind: AddressKind,
    #[serde(default, deserialize_with = "decode::text")]
    pub street: Option<String>,
    #[serde(default, deserialize_with = "decode::text")]
    pub post_number: Option<String>,
    #[serde(default, deserialize_with = "decode::text")]
    pub city: Option<String>,
    /// Spelled `provice` in some answers (§2.2).
    #[serde(default, alias = "provice", deserialize_with = "decode::text")]
    pub province: Option<String>,
    #[serde(default, deserialize_with = "decode::text")]
    pub country: Option<String>,
}

impl Address {
    /// What makes it the same address as another within its partner (§8): its kind and place, normalised. A missing
    /// country is Slovenia.
    pub fn signature(&self) -> String {
        let place = [&self.street, &self.post_number, &self.city, &self.country];
        address_signature(
            &self.kind,
            place.map(|field| field.as_deref().unwrap_or_default()),
        )
    }
}

/// Street, post number, city, country.
pub(crate) fn address_signature(kind: &AddressKind, place: [&str; 4]) -> String {
    let [street, post_number, city, country] = place;
    let country = match country::code(country) {
        none if none.is_empty() => country::code("SI"),
        country => country,
    };
    [
        identity::name(kind.as_str()),
        identity::street(street),
        identity::post_number(post_number),
        identity::name(city),
        country,
    ]
    .join("|")
}

/// `address_type`; its values are Slovenian words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressKind {
    /// `Račun`.
    Billing,
    /// `Dobava`.
    Delivery,
    /// `Poslovna enota`.
    BusinessUnit,
    /// Anything else, as told; empty if not told.
    Other(String),
}

impl Default for AddressKind {
    fn default() -> Self {
        Self::Other(String::new())
    }
}

impl AddressKind {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Billing => "Račun",
            Self::Delivery => "Dobava",
            Self::BusinessUnit => "Poslovna enota",
            Self::Other(word) => word,
        }
    }

    fn told(word: &str) -> Self {
        let known = [Self::Billing, Self::Delivery, Self::BusinessUnit];
        let folded = identity::name(word);
        known
            .into_iter()
            .find(|kind| identity::name(kind.as_str()) == folded)
            .unwrap_or_else(|| Self::Other(word.to_owned()))
    }
}

impl<'de> Deserialize<'de> for AddressKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(decode::text(deserializer)?.map_or_else(Self::default, |word| Self::told(&word)))
    }
}

/// The answer to `add_partner` (§2.1): ids only, no `count_code`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct AddedPartner {
    pub mk_id: MkId,
    #[serde(default, deserialize_with = "decode::text")]
    pub mk_contact_id: Option<String>,
    #[serde(
        default,
        rename = "mk_address_id_list",
        deserialize_with = "decode::many"
    )]
    pub addresses: Vec<AddedAddress>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct AddedAddress {
    pub mk_id: MkId,
    #[serde(default, deserialize_with = "decode::text")]
    pub street: Option<String>,
}

//! What Metakocka keeps about a partner (contract §2.1, 2.2).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most partners of one company; one more is refused by the simulator with code 6.
pub const MAX_PARTNERS: usize = 200_000;
/// Most contacts, and most addresses, of one partner.
pub const MAX_ENTRIES_PER_PARTNER: usize = 1_000;

/// An internal id of one company: decimal, ever-increasing over all its records, never used twice. Shown as text everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MkId(pub u64);

impl fmt::Display for MkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for MkId {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.trim().parse().map(MkId)
    }
}

impl Serialize for MkId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MkId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum TextOrNumber {
            Text(String),
            Number(u64),
        }
        match TextOrNumber::deserialize(deserializer)? {
            TextOrNumber::Number(number) => Ok(MkId(number)),
            TextOrNumber::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

/// A customer or supplier, a person or a company. Empty text means "not set": the key is then absent in answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partner {
    pub mk_id: MkId,
    /// The number a user sees; Metakocka gives it.
    pub count_code: String,
    /// Name of the company or person.
    pub customer: String,
    #[serde(default)]
    pub business_entity: bool,
    #[serde(default)]
    pub taxpayer: bool,
    #[serde(default)]
    pub foreign_county: bool,
    /// `None` when nobody ever said; the key is then absent in answers.
    #[serde(default)]
    pub buyer: Option<bool>,
    #[serde(default)]
    pub supplier: Option<bool>,
    #[serde(default)]
    pub tax_id_number: String,
    #[serde(default)]
    pub registration_number: String,
    #[serde(default)]
    pub contacts: Vec<Contact>,
    /// In the order they were made; the main (billing) address is the first of type `Račun`.
    #[serde(default)]
    pub addresses: Vec<Address>,
}

/// A contact person of a partner, at one of its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contact {
    pub mk_id: MkId,
    /// `None` only where the address it stood at is gone or was never made.
    #[serde(default)]
    pub mk_address_id: Option<MkId>,
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub email: String,
    #[serde(default)]
    pub gsm: String,
    #[serde(default)]
    pub phone: String,
    #[serde(default)]
    pub fax: String,
}

/// The three kinds of address; `Račun` is the billing address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AddressType {
    #[serde(rename = "Račun")]
    Billing,
    #[default]
    #[serde(rename = "Dobava")]
    Delivery,
    #[serde(rename = "Poslovna enota")]
    BusinessUnit,
}

impl AddressType {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            AddressType::Billing => "Račun",
            AddressType::Delivery => "Dobava",
            AddressType::BusinessUnit => "Poslovna enota",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [
            AddressType::Billing,
            AddressType::Delivery,
            AddressType::BusinessUnit,
        ]
        .into_iter()
        .find(|kind| kind.as_str() == text)
    }
}

/// An address of a partner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Address {
    pub mk_id: MkId,
    #[serde(default)]
    pub address_type: AddressType,
    #[serde(default)]
    pub street: String,
    #[serde(default)]
    pub post_number: String,
    #[serde(default)]
    pub city: String,
    #[serde(default)]
    pub province: String,
    #[serde(default)]
    pub country: String,
}

impl Partner {
    /// Where the main address stands in `addresses`, if the partner has one.
    pub(crate) fn main_address(&self) -> Option<usize> {
        self.addresses
            .iter()
            .position(|address| address.address_type == AddressType::Billing)
    }

    pub(crate) fn address(&self, id: MkId) -> Option<&Address> {
        self.addresses.iter().find(|address| address.mk_id == id)
    }
}

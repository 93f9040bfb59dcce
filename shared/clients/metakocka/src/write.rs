//! What is sent to create and change partners (§2.1, §2.3). Lengths are checked before sending: whether Metakocka
//! refuses or cuts what is too long is not known, and what it cut would never be found as sent.

use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::partner::{AddressKind, MkId, address_signature, contact_signature};
use length::{CONTACT, COUNTRY, CUSTOMER, NUMBER, PLACE, POST_NUMBER, PROVINCE, STREET};

/// Characters of each field (§2.1).
pub mod length {
    pub const CUSTOMER: usize = 100;
    /// Tax number and registration number.
    pub const NUMBER: usize = 50;
    pub const STREET: usize = 150;
    pub const POST_NUMBER: usize = 20;
    /// Place or city.
    pub const PLACE: usize = 100;
    pub const PROVINCE: usize = 50;
    pub const COUNTRY: usize = 50;
    /// Each field of a contact.
    pub const CONTACT: usize = 255;
}

/// A partner to be made, with at most one contact and one further address; more of them are appended afterwards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewPartner {
    /// Required.
    pub customer: String,
    pub business_entity: bool,
    pub taxpayer: bool,
    pub foreign: bool,
    pub buyer: bool,
    pub supplier: bool,
    pub tax_id_number: Option<String>,
    pub registration_number: Option<String>,
    /// Becomes the billing address. Described as mandatory.
    pub address: MainAddress,
    pub contact: Option<ContactFields>,
    pub further_address: Option<AddressFields>,
}

/// The top-level address of a partner; its city is called `place`. Sent whole or not at all (§12).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MainAddress {
    pub street: String,
    pub post_number: String,
    pub place: String,
    pub province: String,
    pub country: String,
}

/// Fields of a contact. None is not sent; an empty text asks to clear the field, which Metakocka may not do (§12).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContactFields {
    pub name: Option<String>,
    pub email: Option<String>,
    pub gsm: Option<String>,
    pub phone: Option<String>,
    pub fax: Option<String>,
}

impl ContactFields {
    /// Comparable with [`crate::Contact::signature`].
    pub fn signature(&self) -> String {
        contact_signature([&self.name, &self.email, &self.gsm, &self.phone, &self.fax])
    }
}

/// All fields of an address. A change sends them all, so that an empty one asks to clear (§12); an append leaves empty
/// ones out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressFields {
    pub kind: AddressKind,
    pub street: String,
    pub post_number: String,
    pub city: String,
    pub province: String,
    pub country: String,
}

impl AddressFields {
    /// Comparable with [`crate::Address::signature`].
    pub fn signature(&self) -> String {
        let place = [&self.street, &self.post_number, &self.city, &self.country];
        address_signature(&self.kind, place.map(String::as_str))
    }
}

/// Scalar fields of a partner to be changed. None is not sent; an empty text asks to clear (§12).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MainFields {
    pub customer: Option<String>,
    pub business_entity: Option<bool>,
    pub taxpayer: Option<bool>,
    pub foreign: Option<bool>,
    pub buyer: Option<bool>,
    pub supplier: Option<bool>,
    pub tax_id_number: Option<String>,
    pub registration_number: Option<String>,
    pub address: Option<MainAddress>,
}

/// One `update_partner`. What appends is a variant of its own with one part in it, because repeating it appends again
/// (§1.6); a `Change` may be repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartnerUpdate {
    /// Fields of the partner and of contacts and addresses it has.
    Change {
        main: MainFields,
        contacts: Vec<(MkId, ContactFields)>,
        addresses: Vec<(MkId, AddressFields)>,
    },
    AppendContact {
        /// The partner's address that the contact belongs to.
        address: MkId,
        contact: ContactFields,
    },
    AppendAddress {
        address: AddressFields,
    },
}

impl NewPartner {
    /// The `partner` object; [`Error::Invalid`] names the first field that can't be sent.
    pub(crate) fn object(&self) -> Result<Value, Error> {
        let mut partner = Object::default();
        if self.customer.trim().is_empty() {
            return Err(invalid("customer", "is missing"));
        }
        partner.text("customer", CUSTOMER, &self.customer)?;
        partner.flag("business_entity", self.business_entity);
        partner.flag("taxpayer", self.taxpayer);
        partner.flag("foreign_county", self.foreign);
        partner.flag("buyer", self.buyer);
        partner.flag("supplier", self.supplier);
        partner.told("tax_id_number", NUMBER, self.tax_id_number.as_deref())?;
        partner.told(
            "registration_number",
            NUMBER,
            self.registration_number.as_deref(),
        )?;
        for (name, limit, value) in self.address.fields() {
            partner.told(name, limit, Some(value))?;
        }
        if let Some(contact) = &self.contact {
            let mut object = Object::default();
            for (name, value) in contact.fields() {
                object.told(name, CONTACT, value)?;
            }
            partner.object("partner_contact", object);
        }
        if let Some(address) = &self.further_address {
            partner.object("partner_delivery_address", address.appended()?);
        }
        Ok(Value::Object(partner.0))
    }
}

impl ContactFields {
    fn fields(&self) -> [(&'static str, Option<&str>); 5] {
        [
            ("name", self.name.as_deref()),
            ("email", self.email.as_deref()),
            ("gsm", self.gsm.as_deref()),
            ("phone", self.phone.as_deref()),
            ("fax", self.fax.as_deref()),
        ]
    }

    fn object(&self) -> Result<Object, Error> {
        let mut object = Object::default();
        for (name, value) in self.fields() {
            if let Some(value) = value {
                object.text(name, CONTACT, value)?;
            }
        }
        if object.0.is_empty() {
            return Err(invalid(
                "partner_contact_list",
                "has an entry without fields",
            ));
        }
        Ok(object)
    }
}

impl AddressFields {
    fn fields(&self) -> [(&'static str, usize, &str); 5] {
        [
            ("street", STREET, &self.street),
            ("post_number", POST_NUMBER, &self.post_number),
            ("city", PLACE, &self.city),
            ("province", PROVINCE, &self.province),
            ("country", COUNTRY, &self.country),
        ]
    }

    fn changed(&self) -> Result<Object, Error> {
        let mut object = Object::default();
        object.told("address_type", PLACE, Some(self.kind.as_str()))?;
        for (name, limit, value) in self.fields() {
            object.text(name, limit, value)?;
        }
        Ok(object)
    }

    fn appended(&self) -> Result<Object, Error> {
        let mut object = Object::default();
        object.told("address_type", PLACE, Some(self.kind.as_str()))?;
        for (name, limit, value) in self.fields() {
            object.told(name, limit, Some(value))?;
        }
        Ok(object)
    }
}

impl MainAddress {
    fn fields(&self) -> [(&'static str, usize, &str); 5] {
        [
            ("street", STREET, &self.street),
            ("post_number", POST_NUMBER, &self.post_number),
            ("place", PLACE, &self.place),
            ("province", PROVINCE, &self.province),
            ("country", COUNTRY, &self.country),
        ]
    }
}

impl MainFields {
    fn object(&self) -> Result<Object, Error> {
        let mut object = Object::default();
        if let Some(customer) = &self.customer {
            if customer.trim().is_empty() {
                return Err(invalid("customer", "can't be cleared"));
            }
            object.text("customer", CUSTOMER, customer)?;
        }
        for (name, value) in [
            ("business_entity", self.business_entity),
            ("taxpayer", self.taxpayer),
            ("foreign_county", self.foreign),
            ("buyer", self.buyer),
            ("supplier", self.supplier),
        ] {
            if let Some(value) = value {
                object.flag(name, value);
            }
        }
        for (name, value) in [
            ("tax_id_number", &self.tax_id_number),
            ("registration_number", &self.registration_number),
        ] {
            if let Some(value) = value {
                object.text(name, NUMBER, value)?;
            }
        }
        if let Some(address) = &self.address {
            for (name, limit, value) in address.fields() {
                object.text(name, limit, value)?;
            }
        }
        Ok(object)
    }
}

impl PartnerUpdate {
    /// The `partner` object. [`Error::Invalid`] also for an update that changes nothing.
    pub(crate) fn object(&self, partner: &MkId) -> Result<Value, Error> {
        let mut object = match self {
            Self::Change {
                main,
                contacts,
                addresses,
            } => {
                let mut object = main.object()?;
                let contacts = entries(contacts, ContactFields::object)?;
                object.list("partner_contact_list", contacts);
                let addresses = entries(addresses, AddressFields::changed)?;
                object.list("partner_delivery_address_list", addresses);
                object
            }
            Self::AppendContact { address, contact } => {
                let mut entry = contact.object()?;
                entry.id("mk_address_id", address);
                let mut object = Object::default();
                object.list("partner_contact_list", vec![entry]);
                object
            }
            Self::AppendAddress { address } => {
                let mut object = Object::default();
                object.list("partner_delivery_address_list", vec![address.appended()?]);
                object
            }
        };
        if object.0.is_empty() {
            return Err(invalid("partner", "has nothing to change"));
        }
        object.id("mk_id", partner);
        Ok(Value::Object(object.0))
    }
}

fn entries<T>(
    changed: &[(MkId, T)],
    object: fn(&T) -> Result<Object, Error>,
) -> Result<Vec<Object>, Error> {
    changed
        .iter()
        .map(|(id, fields)| {
            let mut entry = object(fields)?;
            entry.id("mk_id", id);
            Ok(entry)
        })
        .collect()
}

/// A JSON object in the making.
#[derive(Default)]
struct Object(Map<String, Value>);

impl Object {
    /// Sent even if empty.
    fn text(&mut self, name: &'static str, limit: usize, value: &str) -> Result<(), Error> {
        let length = value.chars().count();
        if length > limit {
            let problem = format!("has {length} characters, {limit} are possible");
            return Err(invalid(name, &problem));
        }
        self.0.insert(name.to_owned(), json!(value));
        Ok(())
    }

    /// Sent only if not empty.
    fn told(&mut self, name: &'static str, limit: usize, value: Option<&str>) -> Result<(), Error> {
        match value {
            Some(value) if !value.is_empty() => self.text(name, limit, value),
            Some(_) | None => Ok(()),
        }
    }

    fn flag(&mut self, name: &'static str, value: bool) {
        self.0.insert(name.to_owned(), json!(value.to_string()));
    }

    fn id(&mut self, name: &'static str, id: &MkId) {
        self.0.insert(name.to_owned(), json!(id.as_str()));
    }

    fn object(&mut self, name: &'static str, object: Object) {
        if !object.0.is_empty() {
            self.0.insert(name.to_owned(), Value::Object(object.0));
        }
    }

    fn list(&mut self, name: &'static str, entries: Vec<Object>) {
        if !entries.is_empty() {
            let entries = entries.into_iter().map(|entry| Value::Object(entry.0));
            self.0.insert(name.to_owned(), entries.collect());
        }
    }
}

fn invalid(field: &'static str, problem: &str) -> Error {
    Error::Invalid {
        field,
        problem: problem.to_owned(),
    }
}

//! `add_partner` (contract §2.1): always a new partner, whoever exists already.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::company::Company;
use super::encode::{Encoder, put, put_id};
use super::partner::{Address, AddressType, Contact, MAX_PARTNERS, MkId, Partner};
use super::readings::{EmptyAddress, OverLong};
use super::reply::{Reply, Seen};
use super::request::{Fields, Request, Sent};

/// The longest text of each field (§2.1), in characters.
pub(super) const CUSTOMER: usize = 100;
pub(super) const TAX_ID_NUMBER: usize = 50;
pub(super) const REGISTRATION_NUMBER: usize = 50;
const STREET: usize = 150;
const POST_NUMBER: usize = 20;
const CITY: usize = 100;
const PROVINCE: usize = 50;
const COUNTRY: usize = 50;
pub(super) const CONTACT_TEXT: usize = 255;

/// The texts of a contact and where each is kept.
pub(super) type ContactText = (&'static str, fn(&mut Contact) -> &mut String);
pub(super) const CONTACT_TEXTS: [ContactText; 5] = [
    ("name", |contact| &mut contact.name),
    ("email", |contact| &mut contact.email),
    ("gsm", |contact| &mut contact.gsm),
    ("phone", |contact| &mut contact.phone),
    ("fax", |contact| &mut contact.fax),
];

/// The texts of an address, their bounds and where each is kept; the city has another name at the top level.
pub(super) type AddressText = (&'static str, usize, fn(&mut Address) -> &mut String);
pub(super) const fn address_texts(city: &'static str) -> [AddressText; 5] {
    [
        ("street", STREET, |address| &mut address.street),
        ("post_number", POST_NUMBER, |address| {
            &mut address.post_number
        }),
        (city, CITY, |address| &mut address.city),
        ("province", PROVINCE, |address| &mut address.province),
        ("country", COUNTRY, |address| &mut address.country),
    ]
}

/// A text within its bound, or what the reading makes of a longer one.
pub(super) fn bounded(
    fields: &Fields<'_>,
    key: &str,
    longest: usize,
    over_long: OverLong,
) -> Result<Sent<String>, Reply> {
    match (fields.text(key)?, over_long) {
        (Sent::Value(text), OverLong::Refuse) if text.chars().count() > longest => {
            Err(Reply::refused(
                2,
                &format!("Paramether '{key}' is too long. Max length : {longest}"),
            ))
        }
        (Sent::Value(text), OverLong::Truncate) => {
            Ok(Sent::Value(text.chars().take(longest).collect()))
        }
        (sent, _) => Ok(sent),
    }
}

pub(super) fn address_type(fields: &Fields<'_>) -> Result<Option<AddressType>, Reply> {
    match fields.text("address_type")? {
        Sent::Absent | Sent::Empty => Ok(None),
        Sent::Value(text) => AddressType::parse(&text).map(Some).ok_or_else(|| {
            let valid = "Račun,Dobava,Poslovna enota";
            Reply::refused(
                2,
                &format!(
                    "Paramether 'address_type' has invalid value : {text}. Valid values : {valid}"
                ),
            )
        }),
    }
}

/// An id that is given before anything is stored.
const NOT_YET: MkId = MkId(0);

pub(super) fn empty_contact(mk_id: MkId, mk_address_id: Option<MkId>) -> Contact {
    Contact {
        mk_id,
        mk_address_id,
        name: String::new(),
        email: String::new(),
        gsm: String::new(),
        phone: String::new(),
        fax: String::new(),
    }
}

pub(super) fn empty_address(mk_id: MkId, address_type: AddressType) -> Address {
    Address {
        mk_id,
        address_type,
        street: String::new(),
        post_number: String::new(),
        city: String::new(),
        province: String::new(),
        country: String::new(),
    }
}

pub(super) fn empty_partner(mk_id: MkId, count_code: String) -> Partner {
    Partner {
        mk_id,
        count_code,
        customer: String::new(),
        business_entity: false,
        taxpayer: false,
        foreign_county: false,
        buyer: None,
        supplier: None,
        tax_id_number: String::new(),
        registration_number: String::new(),
        contacts: Vec::new(),
        addresses: Vec::new(),
    }
}

impl Company {
    pub(super) fn add_partner(
        &mut self,
        request: &Request,
        now: DateTime<Utc>,
    ) -> Result<Reply, Reply> {
        let sent = request
            .field("partner")
            .ok_or_else(|| Reply::refused(2, "Paramether 'partner' must be set"))?;
        let fields = Fields::of("partner", sent)?;
        let mut partner = self.partner_to_add(&fields)?;
        if self.partners.len() >= MAX_PARTNERS {
            return Err(Reply::refused(6, "simulator: MAX_PARTNERS reached"));
        }
        let mut ids = self.ids;
        partner.mk_id = ids.mk_id();
        partner.count_code = ids.count_code();
        for address in &mut partner.addresses {
            address.mk_id = ids.mk_id();
        }
        let first_address = partner.addresses.first().map(|address| address.mk_id);
        for contact in &mut partner.contacts {
            contact.mk_id = ids.mk_id();
            contact.mk_address_id = first_address;
        }
        let seen = Seen {
            refused: None,
            stored: true,
            mk_id: Some(partner.mk_id),
        };
        let reply = Reply::done(self.added(&partner), seen);
        self.store(partner, ids, now);
        Ok(reply)
    }

    fn partner_to_add(&self, fields: &Fields<'_>) -> Result<Partner, Reply> {
        let over_long = self.readings.over_long;
        let text = |key: &str, longest: usize| match bounded(fields, key, longest, over_long)? {
            Sent::Value(text) => Ok(text),
            Sent::Absent | Sent::Empty => Ok(String::new()),
        };
        let mut partner = empty_partner(NOT_YET, String::new());
        partner.customer = text("customer", CUSTOMER)?;
        if partner.customer.trim().is_empty() {
            return Err(Reply::refused(2, "Paramether 'customer' must be set"));
        }
        partner.tax_id_number = text("tax_id_number", TAX_ID_NUMBER)?;
        partner.registration_number = text("registration_number", REGISTRATION_NUMBER)?;
        partner.business_entity = fields.flag("business_entity")?.unwrap_or(false);
        partner.taxpayer = fields.flag("taxpayer")?.unwrap_or(false);
        partner.foreign_county = fields.flag("foreign_county")?.unwrap_or(false);
        partner.buyer = fields.flag("buyer")?;
        partner.supplier = fields.flag("supplier")?;

        let main = self.address_to_add(fields, "place", AddressType::Billing)?;
        match (is_empty(&main), self.readings.empty_address) {
            (true, EmptyAddress::NotMade) => {}
            (true, EmptyAddress::Refused) => {
                return Err(Reply::refused(2, "Paramether 'street' must be set"));
            }
            (true, EmptyAddress::Made) | (false, _) => partner.addresses.push(main),
        }
        if let Some(further) = fields.object("partner_delivery_address")? {
            let kind = address_type(&further)?.unwrap_or_default();
            partner
                .addresses
                .push(self.address_to_add(&further, "city", kind)?);
        }
        if let Some(contact) = fields.object("partner_contact")? {
            partner
                .contacts
                .push(self.contact_to_add(&contact, &partner.customer)?);
        }
        Ok(partner)
    }

    fn address_to_add(
        &self,
        fields: &Fields<'_>,
        city: &'static str,
        kind: AddressType,
    ) -> Result<Address, Reply> {
        let mut address = empty_address(NOT_YET, kind);
        for (key, longest, place) in address_texts(city) {
            if let Sent::Value(text) = bounded(fields, key, longest, self.readings.over_long)? {
                *place(&mut address) = text;
            }
        }
        Ok(address)
    }

    fn contact_to_add(&self, fields: &Fields<'_>, customer: &str) -> Result<Contact, Reply> {
        let mut contact = empty_contact(NOT_YET, None);
        for (key, place) in CONTACT_TEXTS {
            if let Sent::Value(text) = bounded(fields, key, CONTACT_TEXT, self.readings.over_long)?
            {
                *place(&mut contact) = text;
            }
        }
        // The documentation's table calls it `contact`, its examples `name`.
        if contact.name.is_empty()
            && let Sent::Value(name) =
                bounded(fields, "contact", CONTACT_TEXT, self.readings.over_long)?
        {
            contact.name = name;
        }
        if fields.flag("useCustomerAsContact")?.unwrap_or(false) {
            contact.name = customer.to_owned();
        }
        Ok(contact)
    }

    fn added(&self, partner: &Partner) -> Value {
        let encoder = Encoder(&self.readings);
        let mut body = Map::new();
        put_id(&mut body, "mk_id", partner.mk_id);
        if let Some(contact) = partner.contacts.first() {
            put_id(&mut body, "mk_contact_id", contact.mk_id);
        }
        let addresses = partner.addresses.iter().map(|address| {
            let mut item = Map::new();
            put_id(&mut item, "mk_id", address.mk_id);
            put(&mut item, "street", &address.street);
            Value::Object(item)
        });
        if let Some(list) = encoder.list(addresses.collect()) {
            body.insert("mk_address_id_list".into(), list);
        }
        encoder.success(body)
    }

    /// A partner to work on, to be stored when the whole call is right.
    pub(super) fn copy_of(&self, mk_id: MkId) -> Option<Partner> {
        self.partners
            .get(&mk_id)
            .map(|partner| Partner::clone(Arc::as_ref(partner)))
    }
}

fn is_empty(address: &Address) -> bool {
    [
        &address.street,
        &address.post_number,
        &address.city,
        &address.province,
        &address.country,
    ]
    .into_iter()
    .all(String::is_empty)
}

//! How answers are written: text for numbers, absent keys for empty values, lists that may collapse (§1.3, 1.8).

use serde_json::{Map, Value};

use super::partner::{Address, Contact, MkId, Partner};
use super::readings::{Native, ProvinceKey, Readings};
use super::reply::{Body, Reply};

/// The language of every address; it can't be set by a call.
const LANGUAGE: &str = "Slovenski";
/// What a call says it took.
const OPR_TIME_MS: u64 = 5;

pub(super) struct Encoder<'a>(pub(super) &'a Readings);

impl Encoder<'_> {
    pub(super) fn flag(&self, flag: bool) -> Value {
        match self.0.booleans {
            Native::String => Value::from(flag.to_string()),
            Native::Native => Value::from(flag),
        }
    }

    pub(super) fn number(&self, number: u64) -> Value {
        match self.0.numbers {
            Native::String => Value::from(number.to_string()),
            Native::Native => Value::from(number),
        }
    }

    /// `None` for an empty list: its key is absent.
    pub(super) fn list(&self, mut entries: Vec<Value>) -> Option<Value> {
        match entries.len() {
            0 => None,
            1 if self.0.collapse_single_lists => entries.pop(),
            _ => Some(Value::Array(entries)),
        }
    }

    /// A success; whether it says so in `opr_code` is a reading.
    pub(super) fn success(&self, mut body: Map<String, Value>) -> Value {
        if !self.0.omit_opr_code {
            body.insert("opr_code".into(), self.number(0));
            body.insert("opr_time_ms".into(), self.number(OPR_TIME_MS));
        }
        Value::Object(body)
    }

    /// Refusals are made with text for numbers; here they take the company's form.
    pub(super) fn finish(&self, mut reply: Reply) -> Reply {
        if self.0.numbers == Native::Native
            && let Body::Json(Value::Object(body)) = &mut reply.body
        {
            for key in ["opr_code", "opr_time_ms"] {
                if let Some(value) = body.get_mut(key)
                    && let Some(number) = value.as_str().and_then(|text| text.parse::<u64>().ok())
                {
                    *value = Value::from(number);
                }
            }
        }
        reply
    }

    /// The body of an answer that lists partners.
    pub(super) fn partner_list(&self, partners: &[&Partner], count: usize) -> Value {
        let mut body = Map::new();
        body.insert("partner_list_count".into(), self.number(count as u64));
        if let Some(list) = self.list(
            partners
                .iter()
                .map(|partner| self.partner(partner))
                .collect(),
        ) {
            body.insert("partner_list".into(), list);
        }
        self.success(body)
    }

    fn partner(&self, partner: &Partner) -> Value {
        let mut item = Map::new();
        put_id(&mut item, "mk_id", partner.mk_id);
        put(&mut item, "count_code", &partner.count_code);
        put(&mut item, "customer", &partner.customer);
        item.insert("business_entity".into(), self.flag(partner.business_entity));
        item.insert("taxpayer".into(), self.flag(partner.taxpayer));
        item.insert("foreign_county".into(), self.flag(partner.foreign_county));
        for (key, role) in [("buyer", partner.buyer), ("supplier", partner.supplier)] {
            if let Some(role) = role {
                item.insert(key.into(), self.flag(role));
            }
        }
        put(&mut item, "tax_id_number", &partner.tax_id_number);
        put(
            &mut item,
            "registration_number",
            &partner.registration_number,
        );
        let contacts = partner
            .contacts
            .iter()
            .map(|contact| self.contact(partner, contact))
            .collect();
        if let Some(contacts) = self.list(contacts) {
            item.insert("partner_contact_list".into(), contacts);
        }
        let addresses = partner
            .addresses
            .iter()
            .map(|address| self.address(address))
            .collect();
        if let Some(addresses) = self.list(addresses) {
            item.insert("partner_delivery_address_list".into(), addresses);
        }
        Value::Object(item)
    }

    fn contact(&self, partner: &Partner, contact: &Contact) -> Value {
        let mut item = Map::new();
        put_id(&mut item, "mk_id", contact.mk_id);
        if let Some(address) = contact.mk_address_id {
            put_id(&mut item, "mk_address_id", address);
            put(
                &mut item,
                "contact_address",
                partner
                    .address(address)
                    .map_or("", |address| &address.street),
            );
        }
        put(&mut item, "name", &contact.name);
        put(&mut item, "gsm", &contact.gsm);
        put(&mut item, "phone", &contact.phone);
        put(&mut item, "fax", &contact.fax);
        put(&mut item, "email", &contact.email);
        Value::Object(item)
    }

    fn address(&self, address: &Address) -> Value {
        let mut item = Map::new();
        put_id(&mut item, "mk_id", address.mk_id);
        put(&mut item, "address_type", address.address_type.as_str());
        put(&mut item, "street", &address.street);
        put(&mut item, "post_number", &address.post_number);
        put(&mut item, "city", &address.city);
        let province = match self.0.province_key {
            ProvinceKey::Province => "province",
            ProvinceKey::Provice => "provice",
        };
        put(&mut item, province, &address.province);
        put(&mut item, "country", &address.country);
        put(&mut item, "language", LANGUAGE);
        Value::Object(item)
    }
}

pub(super) fn put(item: &mut Map<String, Value>, key: &str, text: &str) {
    if !text.is_empty() {
        item.insert(key.into(), Value::from(text));
    }
}

pub(super) fn put_id(item: &mut Map<String, Value>, key: &str, id: MkId) {
    item.insert(key.into(), Value::from(id.to_string()));
}

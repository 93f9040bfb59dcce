//! The calls that are built, their path families, and the fields each may carry.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A call of Metakocka. Others than these answer HTML 404 on every path, as a wrong path family does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(
    clippy::enum_variant_names,
    reason = "the partner's own names; calls for products and documents will stand beside them"
)]
pub enum Call {
    AddPartner,
    GetPartner,
    UpdatePartner,
}

/// Which part of a request an unknown field was found in, with its permitted keys.
type Shape = (&'static str, &'static [&'static str]);

const FLAGS: [&str; 5] = [
    "business_entity",
    "taxpayer",
    "foreign_county",
    "buyer",
    "supplier",
];
const TEXTS: [&str; 3] = ["customer", "tax_id_number", "registration_number"];
const MAIN_ADDRESS: [&str; 5] = ["street", "post_number", "place", "province", "country"];
const CONTACT_ADDED: [&str; 7] = [
    "name",
    "contact",
    "email",
    "gsm",
    "phone",
    "fax",
    "useCustomerAsContact",
];
const CONTACT_UPDATED: [&str; 8] = [
    "mk_id",
    "mk_address_id",
    "contact_address",
    "name",
    "email",
    "gsm",
    "phone",
    "fax",
];
const ADDRESS: [&str; 7] = [
    "mk_id",
    "address_type",
    "street",
    "post_number",
    "city",
    "province",
    "country",
];

impl From<Call> for &'static str {
    fn from(call: Call) -> Self {
        call.as_str()
    }
}

impl Call {
    pub const ALL: [Call; 3] = [Call::AddPartner, Call::GetPartner, Call::UpdatePartner];

    /// The last word of the path.
    pub fn as_str(self) -> &'static str {
        match self {
            Call::AddPartner => "add_partner",
            Call::GetPartner => "get_partner",
            Call::UpdatePartner => "update_partner",
        }
    }

    /// The call with this name, if it is built.
    pub fn named(name: &str) -> Option<Self> {
        Call::ALL.into_iter().find(|call| call.as_str() == name)
    }

    /// The call behind a path below the root, in its one right family (§1.1); `None` is an HTML 404.
    pub fn at_path(path: &str) -> Option<Self> {
        let name = path.strip_prefix("v1/")?;
        Call::named(name)
    }

    /// Whether it changes anything.
    pub fn writes(self) -> bool {
        match self {
            Call::AddPartner | Call::UpdatePartner => true,
            Call::GetPartner => false,
        }
    }

    /// Paths of the fields that the contract doesn't know, for strict mode.
    pub(super) fn unknown_fields(self, fields: &[(String, Value)]) -> Vec<String> {
        let top: &[&str] = match self {
            Call::AddPartner | Call::UpdatePartner => &["partner"],
            Call::GetPartner => &[
                "partner_id",
                "partner_name",
                "partner_tax_number",
                "partner_email",
                "partner_phone_number",
                "show_partner_discount",
                "limit",
                "offset",
            ],
        };
        let mut unknown: Vec<String> = fields
            .iter()
            .map(|(key, _)| key)
            .filter(|key| !top.contains(&key.as_str()))
            .cloned()
            .collect();
        let partner = fields
            .iter()
            .find(|(key, _)| key == "partner")
            .and_then(|(_, value)| value.as_object());
        if let Some(partner) = partner {
            self.unknown_in_partner(partner, &mut unknown);
        }
        unknown
    }

    fn unknown_in_partner(self, partner: &Map<String, Value>, unknown: &mut Vec<String>) {
        let (own, nested): (&[&str], &[Shape]) = match self {
            Call::AddPartner => (
                &[],
                &[
                    ("partner_contact", &CONTACT_ADDED),
                    ("partner_delivery_address", ADDRESS.split_at(1).1),
                ],
            ),
            Call::UpdatePartner => (
                &["mk_id", "count_code"],
                &[
                    ("partner_contact_list", &CONTACT_UPDATED),
                    ("partner_delivery_address_list", &ADDRESS),
                ],
            ),
            Call::GetPartner => return,
        };
        for (key, value) in partner {
            let key_is = |allowed: &[&str]| allowed.contains(&key.as_str());
            if let Some((_, allowed)) = nested.iter().find(|(name, _)| name == key) {
                if key.ends_with("_list") && !value.is_array() {
                    unknown.push(format!("partner.{key} (not a list)"));
                }
                let entries = match value {
                    Value::Array(entries) => entries.as_slice(),
                    one => std::slice::from_ref(one),
                };
                for entry in entries
                    .iter()
                    .filter_map(Value::as_object)
                    .flat_map(|entry| entry.keys())
                {
                    if !allowed.contains(&entry.as_str()) {
                        unknown.push(format!("partner.{key}.{entry}"));
                    }
                }
            } else if !(key_is(own) || key_is(&FLAGS) || key_is(&TEXTS) || key_is(&MAIN_ADDRESS)) {
                unknown.push(format!("partner.{key}"));
            }
        }
    }
}

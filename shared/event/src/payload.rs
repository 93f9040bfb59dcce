//! Typed `data` of each event type. Readers are tolerant: unknown members are ignored.
//!
//! The JSON Schemas in `schemas/` are generated from these types: a doc comment here is a description there,
//! and a limit may be widened but never narrowed within one major version.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize};

/// A field of a state event: absent (this publisher does not manage it), null (cleared) or a value.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Field<T> {
    #[default]
    Absent,
    Cleared,
    Value(T),
}

impl<T> Field<T> {
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Cleared => None,
        }
    }

    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::<T>::deserialize(deserializer).map(|value| value.map_or(Self::Cleared, Self::Value))
    }
}

impl<T: Serialize> Serialize for Field<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value().serialize(serializer)
    }
}

/// In a schema a field is its value or null; leaving it out is allowed because it is never `required`.
impl<T: JsonSchema> JsonSchema for Field<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Option::<T>::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Option<T>>()
    }
}

macro_rules! payloads {
    ($($name:ident),* $(,)?) => {
        /// The `data` of one event. A planner matches those it knows and says that the others are not for it.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(untagged)]
        #[non_exhaustive]
        pub enum Payload {
            $($name(Box<$name>),)*
        }

        impl Payload {
            /// What the event is about: `<entity>/<external id>`.
            pub fn subject(&self) -> String {
                match self {
                    $(Self::$name(data) => data.subject(),)*
                }
            }
        }

        $(impl From<$name> for Payload {
            fn from(data: $name) -> Self {
                Self::$name(Box::new(data))
            }
        })*
    };
}

payloads!(
    ContactSaved,
    ContactDeleted,
    SyncRequested,
    SyncCompleted,
    SyncFailed
);

impl ContactSaved {
    fn subject(&self) -> String {
        format!("contact/{}", self.contact.id)
    }
}

impl ContactDeleted {
    fn subject(&self) -> String {
        format!("contact/{}", self.id)
    }
}

impl SyncRequested {
    fn subject(&self) -> String {
        format!("link/{}", self.link)
    }
}

impl SyncCompleted {
    fn subject(&self) -> String {
        format!("{}/{}", self.entity, self.record_id)
    }
}

impl SyncFailed {
    fn subject(&self) -> String {
        format!("{}/{}", self.entity, self.record_id)
    }
}

/// The whole record as it is after the change. A field that is absent is left alone at the target, one that is
/// null is cleared there; a list is a whole value (what is not in it is gone).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ContactSaved {
    pub contact: Contact,
}

/// What a contact is: an organization is a business partner, a person a private one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContactKind {
    Person,
    Organization,
}

/// A person or an organization of the CRM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Contact {
    /// The publisher's own id of the record; never reused for another one.
    #[schemars(extend("minLength" = 1, "maxLength" = 200, "pattern" = NO_CONTROL))]
    pub id: String,
    pub kind: ContactKind,
    /// Holds a character that can be seen: not white space, zero-width and control characters or combining marks alone.
    #[schemars(extend("maxLength" = 500, "pattern" = NOT_BLANK))]
    pub name: String,
    /// Tax (VAT) number, with or without the country prefix.
    #[serde(default, skip_serializing_if = "Field::is_absent")]
    #[schemars(extend("maxLength" = 50))]
    pub tax_id: Field<String>,
    /// Number in the company register.
    #[serde(default, skip_serializing_if = "Field::is_absent")]
    #[schemars(extend("maxLength" = 50))]
    pub registration_number: Field<String>,
    #[serde(default, skip_serializing_if = "Field::is_absent")]
    #[schemars(extend("maxItems" = 100))]
    pub emails: Field<Vec<Email>>,
    #[serde(default, skip_serializing_if = "Field::is_absent")]
    #[schemars(extend("maxItems" = 100))]
    pub phones: Field<Vec<Phone>>,
    #[serde(default, skip_serializing_if = "Field::is_absent")]
    #[schemars(extend("maxItems" = 100))]
    pub addresses: Field<Vec<Address>>,
    /// Where the person works. An organization's tax number is never a key of the person.
    #[serde(default, skip_serializing_if = "Field::is_absent")]
    pub organization: Field<OrganizationRef>,
    /// BCP 47, for example `sl` or `de-AT`.
    #[serde(default, skip_serializing_if = "Field::is_absent")]
    #[schemars(extend("maxLength" = 35))]
    pub language: Field<String>,
}

/// Inside a list, which is one value as a whole, null says no more than leaving the member out.
fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// One e-mail address of a contact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Email {
    #[schemars(extend("maxLength" = 320, "pattern" = EMAIL))]
    pub value: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 100))]
    pub label: Option<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    #[schemars(with = "Option<bool>")]
    pub primary: bool,
}

/// One telephone number of a contact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Phone {
    /// The number in international form, for example `+38640123456`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = E164))]
    pub value_e164: Option<String>,
    /// The number as it was written.
    #[schemars(extend("maxLength" = 100))]
    pub raw: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 100))]
    pub label: Option<String>,
}

/// What an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddressKind {
    Main,
    Billing,
    Delivery,
    /// A value newer than this build: read as a delivery address by whoever maps it.
    #[serde(other)]
    Other,
}

/// The list is open, so that a publisher with one more kind is still read: any text is valid.
impl JsonSchema for AddressKind {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "AddressKind".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "`main`, `billing` or `delivery`. The list is open: any other text is read as a delivery address.",
            "examples": ["main", "billing", "delivery"],
            "maxLength": 50
        })
    }
}

/// One postal address of a contact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Address {
    pub kind: AddressKind,
    #[serde(default, deserialize_with = "null_is_default")]
    #[schemars(with = "Option<String>", extend("maxLength" = 500))]
    pub street: String,
    #[serde(default, deserialize_with = "null_is_default")]
    #[schemars(with = "Option<String>", extend("maxLength" = 50))]
    pub postal_code: String,
    #[serde(default, deserialize_with = "null_is_default")]
    #[schemars(with = "Option<String>", extend("maxLength" = 200))]
    pub city: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 200))]
    pub province: Option<String>,
    /// Two letters (ISO 3166-1) or the country's name.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schemars(with = "Option<String>", extend("maxLength" = 100))]
    pub country: String,
}

/// The organization a person belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OrganizationRef {
    /// The publisher's id of the organization's own record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minLength" = 1, "maxLength" = 200, "pattern" = NO_CONTROL))]
    pub id: Option<String>,
    #[schemars(extend("maxLength" = 500))]
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 50))]
    pub tax_id: Option<String>,
}

/// The record is gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ContactDeleted {
    #[schemars(extend("minLength" = 1, "maxLength" = 200, "pattern" = NO_CONTROL))]
    pub id: String,
    /// `deleted` or `merged`; the list is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = 100))]
    pub reason: Option<String>,
    /// Id of the surviving record, where `reason` is `merged`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minLength" = 1, "maxLength" = 200, "pattern" = NO_CONTROL))]
    pub merged_into: Option<String>,
}

/// Work that no upstream event started: asks one worker to look at one link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SyncRequested {
    #[schemars(extend("minLength" = 1, "maxLength" = 100))]
    pub worker: String,
    /// Id of the link in Kurir's database.
    pub link: i64,
    pub what: SyncWhat,
}

/// What a requested look is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SyncWhat {
    /// Settle the link's open effect, which no event comes back for.
    Resolve,
    /// Look once more for a second record, or for older content of ours at the partner.
    Recheck,
}

/// A record arrived at its target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SyncCompleted {
    /// Id of the link in Kurir's database.
    pub link: i64,
    /// Kind of the link: the record's entity, or the facet of its event.
    #[schemars(extend("pattern" = ENTITY))]
    pub entity: String,
    /// The source's id of the record.
    #[schemars(extend("minLength" = 1, "maxLength" = 200, "pattern" = NO_CONTROL))]
    pub record_id: String,
    #[schemars(extend("minLength" = 1, "maxLength" = 100))]
    pub target_system: String,
    #[schemars(extend("minLength" = 1, "maxLength" = 200))]
    pub connection: String,
    /// The target's id of the record; null where nothing is there (any more).
    pub target_id: Option<String>,
    /// `create`, `update`, `delete` or `none`; the list is open.
    #[schemars(extend("minLength" = 1, "maxLength" = 100))]
    pub operation: String,
}

/// A record did not arrive, and waiting will not help.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SyncFailed {
    /// Kind of the link: the record's entity, or the facet of its event.
    #[schemars(extend("pattern" = ENTITY))]
    pub entity: String,
    /// The source's id of the record.
    #[schemars(extend("minLength" = 1, "maxLength" = 200, "pattern" = NO_CONTROL))]
    pub record_id: String,
    #[schemars(extend("minLength" = 1, "maxLength" = 100))]
    pub target_system: String,
    /// Stable name of the error's class, as in the dead-letter ledger.
    #[schemars(extend("minLength" = 1, "maxLength" = 100))]
    pub class: String,
    /// Id of the connection, where it is known for which one it died.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minLength" = 1, "maxLength" = 200))]
    pub connection: Option<String>,
    /// Id of the dead letter, for `kurir dead-letters show`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minLength" = 1, "maxLength" = 100))]
    pub dead_letter: Option<String>,
    /// For people; holds no personal data.
    #[schemars(extend("maxLength" = 2000))]
    pub message: String,
}

/// No control characters: ids become keys of queues, headers and tables.
pub(crate) const NO_CONTROL: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";
/// At least one character that is not white space.
pub(crate) const NOT_BLANK: &str = r"\S";
/// Deliberately lax: refuses what is clearly no address, nothing else. A zero-width no-break space (a byte order mark) is
/// white space to a pattern and nothing to a mailbox.
pub(crate) const EMAIL: &str = r"^(?:[^\s@]|\ufeff)+@(?:[^\s@]|\ufeff)+$";
pub(crate) const E164: &str = r"^\+[1-9][0-9]{1,14}$";
pub(crate) const ENTITY: &str = "^[a-z][a-z0-9_]{0,49}$";

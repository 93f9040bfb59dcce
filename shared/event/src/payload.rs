//! Typed `data` of each event type. Readers are tolerant: unknown members are ignored.

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

#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    ContactSaved(Box<ContactSaved>),
    ContactDeleted(ContactDeleted),
    SyncRequested(SyncRequested),
    SyncCompleted(SyncCompleted),
    SyncFailed(SyncFailed),
}

/// `data` of `crm.contact.created.v1` and `.updated.v1`: the whole record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContactSaved {
    pub contact: Contact,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContactKind {
    Person,
    Organization,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contact {
    pub id: String,
    pub kind: ContactKind,
    pub name: String,
    #[serde(default, skip_serializing_if = "Field::is_absent")]
    pub tax_id: Field<String>,
    #[serde(default, skip_serializing_if = "Field::is_absent")]
    pub registration_number: Field<String>,
    #[serde(default, skip_serializing_if = "Field::is_absent")]
    pub emails: Field<Vec<Email>>,
    #[serde(default, skip_serializing_if = "Field::is_absent")]
    pub phones: Field<Vec<Phone>>,
    #[serde(default, skip_serializing_if = "Field::is_absent")]
    pub addresses: Field<Vec<Address>>,
    #[serde(default, skip_serializing_if = "Field::is_absent")]
    pub organization: Field<OrganizationRef>,
    #[serde(default, skip_serializing_if = "Field::is_absent")]
    pub language: Field<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Email {
    pub value: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    #[serde(default)]
    pub primary: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Phone {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_e164: Option<String>,
    pub raw: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

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

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Address {
    pub kind: AddressKind,
    #[serde(default)]
    pub street: String,
    #[serde(default)]
    pub postal_code: String,
    #[serde(default)]
    pub city: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub province: Option<String>,
    #[serde(default)]
    pub country: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrganizationRef {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax_id: Option<String>,
}

/// `data` of `crm.contact.deleted.v1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContactDeleted {
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged_into: Option<String>,
}

/// `data` of `sync.requested.v1`: work that no upstream event started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SyncRequested {
    pub worker: String,
    /// Id of the link in Kurir's database.
    pub link: i64,
    pub what: SyncWhat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncWhat {
    /// Settle the link's open effect, which no event comes back for.
    Resolve,
    /// Look once more for a second record, or for older content of ours at the partner.
    Recheck,
}

/// `data` of `sync.completed.v1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SyncCompleted {
    pub link: i64,
    pub entity: String,
    pub record_id: String,
    pub target_system: String,
    pub connection: String,
    pub target_id: Option<String>,
    pub operation: String,
}

/// `data` of `sync.failed.v1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SyncFailed {
    pub entity: String,
    pub record_id: String,
    pub target_system: String,
    pub class: String,
    pub message: String,
}

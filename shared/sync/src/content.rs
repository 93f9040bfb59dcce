//! Content of a record, as both sides are compared: field → normalised text, and parts with signatures.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Field → normalised text; `None` is "cleared". A field that is absent is not managed by the publisher.
pub type Fields = BTreeMap<String, Option<String>>;

/// What finds the record at the partner without its id: `organization|tax|SI|12345678`. Unique per connection and kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NaturalKey(pub String);

impl NaturalKey {
    /// Of these parts. What separates them is escaped in them, so that no two lists give one key.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a str>) -> Self {
        let escaped = |part: &str| part.replace('%', "%25").replace('|', "%7C");
        let parts: Vec<String> = parts.into_iter().map(escaped).collect();
        Self(parts.join("|"))
    }

    /// What it was made of.
    pub fn parts(&self) -> Vec<String> {
        let plain = |part: &str| part.replace("%7C", "|").replace("%25", "%");
        self.0.split('|').map(plain).collect()
    }
}

/// A part of a record that has an id of its own at the partner: an address, a contact.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Part {
    #[serde(alias = "kind")]
    pub part_type: String,
    pub fields: BTreeMap<String, String>,
}

impl Part {
    /// Its content as the partner stores it; equal signatures are the same part.
    pub fn signature(&self) -> String {
        let text = serde_json::to_string(&(&self.part_type, &self.fields))
            .expect("maps of text serialise");
        hex::encode(&Sha256::digest(text.as_bytes())[..12])
    }
}

/// What an event wants the record to be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Content {
    pub fields: Fields,
    /// Kind → all parts of that kind; a kind that is absent is not managed by the publisher.
    pub parts: BTreeMap<String, Vec<Part>>,
    /// Kind → what a part of ours becomes that nothing wants any more, at a partner that removes none. A kind that is
    /// absent keeps such parts as they are.
    pub emptied: BTreeMap<String, Part>,
    /// Strongest first.
    pub keys: Vec<NaturalKey>,
}

impl Content {
    /// Equal for equal fields and parts.
    pub fn digest(&self) -> String {
        let text =
            serde_json::to_string(&(&self.fields, &self.parts)).expect("maps of text serialise");
        hex::encode(&Sha256::digest(text.as_bytes())[..12])
    }
}

/// A record as read at the partner, normalised by its `Target`. A field the partner does not show is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub id: String,
    pub fields: BTreeMap<String, String>,
    pub parts: Vec<RecordPart>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordPart {
    pub id: String,
    pub part: Part,
}

impl Record {
    /// Only what was sent is compared; a cleared field must be gone.
    pub fn shows(&self, fields: &Fields) -> bool {
        fields
            .iter()
            .all(|(name, wanted)| self.fields.get(name) == wanted.as_ref())
    }
}

/// One field both sides agreed on. Where the partner stores it differently, what was read back stands beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreed {
    pub sent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<String>,
}

/// The content both sides last agreed on, from whichever side it came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Base(pub BTreeMap<String, Agreed>);

impl Base {
    /// Everything that was read counts as agreed.
    pub fn of_record(record: &Record) -> Self {
        let agreed = |text: &String| Agreed {
            sent: Some(text.clone()),
            stored: None,
        };
        Self(
            record
                .fields
                .iter()
                .map(|(name, text)| (name.clone(), agreed(text)))
                .collect(),
        )
    }

    /// The fields that an update must send: absent ones and repeats are left alone.
    pub fn changes(&self, wanted: &Fields) -> Fields {
        let changed = |name: &str, value: &Option<String>| match self.0.get(name) {
            Some(agreed) => agreed.sent != *value,
            None => value.is_some(),
        };
        wanted
            .iter()
            .filter(|(name, value)| changed(name, value))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// After `sent` was confirmed; `read` is what the partner showed afterwards, where it was read.
    pub fn agree(&mut self, sent: &Fields, read: Option<&Record>) {
        for (name, value) in sent {
            let stored = read.and_then(|record| {
                let shown = record.fields.get(name);
                (shown != value.as_ref()).then(|| shown.cloned().unwrap_or_default())
            });
            self.0.insert(
                name.clone(),
                Agreed {
                    sent: value.clone(),
                    stored,
                },
            );
        }
    }

    /// The fields the partner did not take as sent: said once in the history, never tried again.
    pub fn not_taken<'a>(&'a self, sent: &'a Fields) -> impl Iterator<Item = &'a str> {
        sent.keys()
            .filter(|name| {
                self.0
                    .get(*name)
                    .is_some_and(|agreed| agreed.stored.is_some())
            })
            .map(String::as_str)
    }

    /// All agreed fields as they were sent.
    pub fn fields(&self) -> Fields {
        self.0
            .iter()
            .map(|(name, agreed)| (name.clone(), agreed.sent.clone()))
            .collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// We made it: it may be changed by its id.
    Ours,
    /// It stood there already: never changed, never added again. Its signature is that of the wanted part it stands for.
    Found,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownPart {
    #[serde(alias = "kind")]
    pub part_type: String,
    pub signature: String,
    pub owner: Owner,
}

/// Part id at the partner → what we know of it; only confirmed ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Parts(pub BTreeMap<String, KnownPart>);

impl Parts {
    pub fn set(&mut self, id: &str, part: &Part, owner: Owner) {
        let known = KnownPart {
            part_type: part.part_type.clone(),
            signature: part.signature(),
            owner,
        };
        self.0.insert(id.to_owned(), known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, Option<&str>)]) -> Fields {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned)))
            .collect()
    }

    #[test]
    fn absent_is_left_alone_and_cleared_is_sent_only_where_something_is() {
        let mut base = Base::default();
        base.agree(
            &fields(&[("name", Some("Žužek")), ("city", Some("Trebnje"))]),
            None,
        );
        assert_eq!(
            base.changes(&fields(&[("name", Some("Žužek"))])),
            fields(&[])
        );
        assert_eq!(
            base.changes(&fields(&[("city", None), ("street", None)])),
            fields(&[("city", None)])
        );
    }

    #[test]
    fn a_value_the_partner_keeps_differently_is_said_once_and_not_sent_again() {
        let mut base = Base::default();
        let sent = fields(&[("city", None)]);
        let read = Record {
            fields: [("city".to_owned(), "Trebnje".to_owned())].into(),
            ..Record::default()
        };
        base.agree(&sent, Some(&read));
        assert_eq!(base.not_taken(&sent).collect::<Vec<_>>(), ["city"]);
        assert_eq!(base.changes(&sent), fields(&[]));
    }
}

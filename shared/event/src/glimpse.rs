//! What can be read of a body that is no event, so that its dead letter is found by the record, the event and the
//! tenant that it names. As far as it goes: what stands before the place where the body breaks.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::error::{Identity, bounded};
use crate::headers;

/// Of bytes, whatever they are.
pub(crate) fn glimpse(body: &[u8]) -> Identity {
    let mut event = Level::default();
    // How far it came is what is wanted.
    let _ = Look(&mut event, DEPTH).deserialize(&mut serde_json::Deserializer::from_slice(body));
    identity(&event)
}

/// Of JSON.
pub(crate) fn glimpse_of(event: &Value) -> Identity {
    let mut seen = Level::default();
    let _ = Look(&mut seen, DEPTH).deserialize(event);
    identity(&seen)
}

/// What a message says of its event beside the body: the key that it was routed by, and properties and headers that
/// are copies of attributes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outside<'a> {
    /// `<type>.<tenant>`, where it was published to the events exchange.
    pub routing_key: Option<&'a str>,
    pub message_id: Option<&'a str>,
    /// The AMQP property `type`.
    pub amqp_type: Option<&'a str>,
    /// An object; `ce-<attribute>` are read.
    pub headers: Option<&'a Value>,
}

impl Identity {
    /// With what the message says where the body says nothing. The body wins, but not about the tenant: the broker may
    /// bind a publisher to the keys of its own tenant, and to no bodies. Where both name one and they differ, nobody's
    /// word counts.
    #[must_use]
    pub fn completed(self, outside: Outside<'_>) -> Self {
        let header = |name: &str| outside.headers?.get(name)?.as_str();
        let text = |said: Option<&str>| said.filter(|said| !said.is_empty()).map(bounded);
        let key = outside.routing_key.and_then(|key| key.rsplit_once('.'));
        let said_type = key.map(|(of_type, _)| of_type).or(outside.amqp_type);
        let tenant = match (self.tenant, key) {
            (Some(tenant), Some((_, of_key))) if tenant != of_key => None,
            (tenant, key) => tenant.or_else(|| text(key.map(|(_, of_key)| of_key))),
        };
        // `<tenant>:<entity>:<id>`
        let partition = header(headers::CE_PARTITION_KEY).and_then(|key| key.split_once(':'));
        let of_partition = partition
            .filter(|(of, _)| tenant.as_deref() == Some(*of))
            .and_then(|(_, record)| record.split_once(':'))
            .map(|(entity, id)| format!("{entity}/{id}"));
        Self {
            id: self
                .id
                .or_else(|| text(outside.message_id.or(header(headers::CE_ID)))),
            source: self.source.or_else(|| text(header(headers::CE_SOURCE))),
            event_type: self
                .event_type
                .or_else(|| text(said_type.or(header(headers::CE_TYPE)))),
            subject: self
                .subject
                .or_else(|| text(header(headers::CE_SUBJECT).or(of_partition.as_deref()))),
            tenant,
        }
    }
}

/// Objects that are looked into: `data`, and the record in it.
const DEPTH: u8 = 2;
/// Members kept of one object. All that is wanted stands among fewer.
const MEMBERS: usize = 64;

/// Of an object: its texts and whole numbers by name, and the objects in it.
#[derive(Default)]
struct Level {
    texts: Vec<(String, String)>,
    objects: Vec<(String, Level)>,
}

impl Level {
    fn text(&self, name: &str) -> Option<&str> {
        let found = self.texts.iter().rfind(|(known, _)| known == name);
        found.map(|(_, text)| text.as_str())
    }

    fn object(&self, name: &str) -> Option<&Self> {
        let found = self.objects.iter().rfind(|(known, _)| known == name);
        found.map(|(_, object)| object)
    }

    fn keep(&mut self, name: String, is: Is, below: Self) {
        if self.texts.len() + self.objects.len() >= MEMBERS {
            return;
        }
        match is {
            Is::Text(text) => self.texts.push((name, text)),
            Is::Object => self.objects.push((name, below)),
            Is::Other => {}
        }
    }
}

fn identity(event: &Level) -> Identity {
    let text = |name: &str| event.text(name).map(str::to_owned);
    Identity {
        id: text("id"),
        source: text("source"),
        event_type: text("type"),
        tenant: text("tenantid"),
        subject: record(event).or_else(|| text("subject")),
    }
}

/// `crm.<entity>.…` has its record's id in `data.<entity>.id`, or in `data.id` where only the id is given.
fn record(event: &Level) -> Option<String> {
    let data = event.object("data")?;
    let entity = match (event.text("type"), data.objects.as_slice()) {
        (Some(named), _) => named.split('.').nth(1)?,
        // Without a type: the one record that stands there under its own name.
        (None, [(name, _)]) => name,
        (None, _) => return None,
    };
    let record = data.object(entity).unwrap_or(data);
    let id = record.text("id").filter(|id| !id.is_empty())?;
    Some(bounded(&format!("{entity}/{id}")))
}

/// What a value is.
enum Is {
    Text(String),
    Object,
    Other,
}

/// Fills a level with the members of an object, so many levels deep; at the last one with its id alone.
struct Look<'a>(&'a mut Level, u8);

impl<'de> DeserializeSeed<'de> for Look<'_> {
    type Value = Is;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Is, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Look<'_> {
    type Value = Is;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Is, A::Error> {
        let Self(level, depth) = self;
        while let Some(name) = members.next_key::<String>()? {
            if depth == 0 && name != "id" {
                members.next_value::<IgnoredAny>()?;
                continue;
            }
            let mut below = Level::default();
            match members.next_value_seed(Look(&mut below, depth.saturating_sub(1))) {
                Ok(is) => level.keep(name, is, below),
                Err(broken) => {
                    level.keep(name, Is::Object, below);
                    return Err(broken);
                }
            }
        }
        Ok(Is::Object)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Is, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Is::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<Is, E> {
        Ok(Is::Text(bounded(text)))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Is, E> {
        Ok(Is::Text(number.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Is, E> {
        Ok(Is::Text(number.to_string()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Is, E> {
        Ok(Is::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Is, E> {
        Ok(Is::Other)
    }

    fn visit_unit<E>(self) -> Result<Is, E> {
        Ok(Is::Other)
    }
}

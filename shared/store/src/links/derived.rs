//! Events that tell what became of a record: they leave through the outbox, in the transaction of what they tell of.

use event::{CONTENT_TYPE, Draft, Event};
use serde::Serialize;
use serde_json::{Value, json};

/// A message for the exchange of outcomes, as the functions write it to the outbox.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Derived {
    routing_key: String,
    body: String,
    properties: Value,
    headers: Value,
}

impl From<Draft> for Derived {
    fn from(draft: Draft) -> Self {
        let event: Event = draft.event();
        let headers = event.headers();
        Self {
            routing_key: event.routing_key(),
            properties: json!({
                "content_type": CONTENT_TYPE,
                "message_id": event.id,
                "type": event.event_type.as_str(),
            }),
            headers: headers.into_iter().collect(),
            body: String::from_utf8(event.encode()).expect("JSON is UTF-8"),
        }
    }
}

//! The AsyncAPI document of the bus: one channel per event type, with the routing key that carries it.

use crate::catalogue::{EventKind, EventType, Publisher};
use crate::schema::{envelope_schema, schema};

/// `schemas/asyncapi.yaml`; payloads are references to the schema files beside it. The exchange's name is the default
/// one (prefix `kurir`).
pub fn asyncapi() -> String {
    let mut text = HEAD.to_owned();
    for &event_type in EventType::ALL {
        text.push_str(&channel(event_type));
    }
    text.push_str("operations:\n");
    for &event_type in EventType::ALL {
        text.push_str(&operation(event_type));
    }
    text
}

const HEAD: &str = r"# Generated from shared/event; `cargo run -p event --example schemas` writes it again.
asyncapi: 3.1.0
info:
  title: Kurir events
  version: 1.0.0
  description: >-
    Changes of records as CloudEvents 1.0 (structured JSON) on RabbitMQ. Operations are seen from Kurir:
    it receives what applications publish and sends what it has done. docs/events.md has the rules and examples.
defaultContentType: application/cloudevents+json
servers:
  broker:
    host: localhost:5672
    protocol: amqp
    description: Any RabbitMQ of 3.10 or later; exchange kurir.events (topic, durable).
channels:
";

fn channel(event_type: EventType) -> String {
    let (name, key) = (camel(event_type), event_type.as_str());
    // A request names its worker in the body and is written straight into that worker's queue.
    let (address, parameters, binding) = match event_type.kind() {
        EventKind::Request => (
            "kurir.{worker}".to_owned(),
            "worker:\n        description: Name of the worker, for example metakocka-sync.",
            "is: queue\n        queue:\n          durable: true\n          exclusive: false\n          autoDelete: false",
        ),
        EventKind::State { .. } | EventKind::Fact | EventKind::Hint => (
            format!("{key}.{{tenant}}"),
            "tenant:\n        description: The event's tenantid.",
            "is: routingKey\n        exchange:\n          name: kurir.events\n          type: topic\n          durable: true\n          autoDelete: false",
        ),
    };
    format!(
        "  {name}:
    address: '{address}'
    parameters:
      {parameters}
    messages:
      {name}:
        name: {key}
        title: {description}
        contentType: application/cloudevents+json
        correlationId:
          location: $message.payload#/correlationid
        payload:
          schemaFormat: application/schema+json;version=2020-12
          schema:
            $ref: ./{key}.json
    bindings:
      amqp:
        {binding}
        bindingVersion: 0.3.0
",
        description = quoted(event_type.description()),
    )
}

fn operation(event_type: EventType) -> String {
    let name = camel(event_type);
    let (action, verb) = if event_type.publisher() == Publisher::App {
        ("receive", "on")
    } else {
        ("send", "send")
    };
    let mut initial = name.clone();
    initial[..1].make_ascii_uppercase();
    format!(
        "  {verb}{initial}:
    action: {action}
    channel:
      $ref: '#/channels/{name}'
    messages:
      - $ref: '#/channels/{name}/messages/{name}'
"
    )
}

/// `crm.contact.created.v1` → `crmContactCreatedV1`.
fn camel(event_type: EventType) -> String {
    let mut name = String::new();
    for (index, word) in event_type.as_str().split(['.', '_']).enumerate() {
        let mut word = word.to_owned();
        if index > 0 {
            word[..1].make_ascii_uppercase();
        }
        name.push_str(&word);
    }
    name
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Everything in `schemas/` that is generated: (file name, text).
pub fn documents() -> Vec<(String, String)> {
    let json = |name: &str, schema: &serde_json::Value| {
        let text = serde_json::to_string_pretty(schema).expect("a schema always serialises");
        (format!("{name}.json"), text + "\n")
    };
    let mut documents = vec![json("envelope.v1", &envelope_schema())];
    documents.extend(
        EventType::ALL
            .iter()
            .map(|&of| json(of.as_str(), &schema(of))),
    );
    documents.push(("asyncapi.yaml".to_owned(), asyncapi()));
    documents
}

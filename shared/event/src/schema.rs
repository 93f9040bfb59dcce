//! JSON Schemas: generated from the payload types, and asked about every event that comes in.
//!
//! A schema describes the whole event, envelope and `data`, so that a publisher can check exactly what is sent
//! and a problem's pointer fits the publisher's own text. `schemas/*.json` are these texts; a test holds them equal.

use std::sync::LazyLock;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{ValidationError, Validator};
use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use crate::catalogue::EventType;
use crate::envelope::{Envelope, SUBJECT, TENANT, VERSION};
use crate::error::{DecodeClass, Finding, MAX_PROBLEMS, Problem};
use crate::payload::{E164, EMAIL, ENTITY, NO_CONTROL, NOT_BLANK};

/// The schema of one event type: JSON Schema 2020-12, `$id` `urn:kurir:schema:<type>`, keys sorted.
pub fn schema(event_type: EventType) -> Value {
    document(event_type.as_str(), Some(event_type))
}

/// The schema of the envelope alone, for events of any type.
pub fn envelope_schema() -> Value {
    document("envelope.v1", None)
}

/// What is wrong with an event by its schema, or by the envelope's where the type is not known.
pub(crate) fn findings(event_type: Option<EventType>, event: &Value) -> Vec<Finding> {
    let validator = match event_type {
        Some(known) => VALIDATORS
            .iter()
            .find(|(of, _)| *of == known)
            .map_or(&*ENVELOPE, |(_, validator)| validator),
        None => &*ENVELOPE,
    };
    let mut findings = Vec::new();
    // The fast path of a valid event makes no list.
    if !validator.is_valid(event) {
        for error in validator.iter_errors(event).take(MAX_PROBLEMS) {
            explain(&error, &mut findings);
        }
    }
    findings
}

static ENVELOPE: LazyLock<Validator> = LazyLock::new(|| validator(&envelope_schema()));
static VALIDATORS: LazyLock<Vec<(EventType, Validator)>> = LazyLock::new(|| {
    EventType::ALL
        .iter()
        .map(|&of| (of, validator(&schema(of))))
        .collect()
});

fn validator(schema: &Value) -> Validator {
    jsonschema::options()
        .should_validate_formats(true)
        .build(schema)
        .expect("a generated schema is a valid one; a test builds them all")
}

fn document(name: &str, event_type: Option<EventType>) -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .with_transform(PlainNumbers)
        .into_generator();
    let mut root = Envelope::json_schema(&mut generator);
    let data = match event_type {
        None => {
            json!({ "description": "Any JSON object, by the schema of the type.", "type": "object" })
        }
        Some(known) => known.data_schema(&mut generator).to_value(),
    };
    let definitions = generator.take_definitions(true);
    PlainNumbers.transform(&mut root);
    let root = root.ensure_object();
    root.insert(
        "$schema".to_owned(),
        json!("https://json-schema.org/draft/2020-12/schema"),
    );
    root.insert("$id".to_owned(), json!(format!("urn:kurir:schema:{name}")));
    root.insert("title".to_owned(), json!(name));
    if let Some(known) = event_type {
        root.insert("description".to_owned(), json!(known.description()));
    }
    if let Some(Value::Object(properties)) = root.get_mut("properties") {
        if let (Some(known), Some(Value::Object(of_type))) =
            (event_type, properties.get_mut("type"))
        {
            *of_type = Map::from_iter([("const".to_owned(), json!(known.as_str()))]);
        }
        properties.insert("data".to_owned(), data);
    }
    if let Some(Value::Array(required)) = root.get_mut("required") {
        required.push(json!("data"));
    }
    if !definitions.is_empty() {
        root.insert("$defs".to_owned(), Value::Object(definitions));
    }
    let mut document = Value::Object(root.clone());
    // Whether serde_json keeps insertion order depends on who else is in the build; a committed file must not.
    document.sort_all_objects();
    document
}

/// `uint32` and `int64` are names of Rust, not formats of JSON Schema.
#[derive(Clone, Debug)]
struct PlainNumbers;

impl Transform for PlainNumbers {
    fn transform(&mut self, schema: &mut Schema) {
        let number = matches!(
            schema.get("format").and_then(Value::as_str),
            Some("uint32" | "int64")
        );
        if number {
            schema.remove("format");
        }
        transform_subschemas(self, schema);
    }
}

/// Adds what an error means to a publisher, without the value that caused it.
fn explain(error: &ValidationError<'_>, findings: &mut Vec<Finding>) {
    let at = error.instance_path().as_str();
    let mut add = |pointer: String, detail: String| {
        let class = if pointer == "/specversion" {
            DecodeClass::SpecVersion
        } else {
            DecodeClass::Schema
        };
        findings.push(Finding {
            class,
            problem: Problem::new(pointer, detail),
        });
    };
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            let name = property
                .as_str()
                .unwrap_or_default()
                .replace('~', "~0")
                .replace('/', "~1");
            add(format!("{at}/{name}"), "is required".to_owned());
        }
        ValidationErrorKind::Type { kind } => {
            add(at.to_owned(), format!("must be {}", types(kind)))
        }
        ValidationErrorKind::Constant { expected_value } => {
            add(at.to_owned(), format!("must be {expected_value}"))
        }
        ValidationErrorKind::Enum { options } => {
            add(at.to_owned(), format!("must be one of {options}"))
        }
        ValidationErrorKind::Pattern { pattern } => add(at.to_owned(), pattern_in_words(pattern)),
        ValidationErrorKind::Format { format } => add(at.to_owned(), format_in_words(format)),
        ValidationErrorKind::MinLength { limit: 1 } => {
            add(at.to_owned(), "must not be empty".to_owned())
        }
        ValidationErrorKind::MaxLength { limit } => {
            add(
                at.to_owned(),
                format!("must not be longer than {limit} characters"),
            );
        }
        ValidationErrorKind::MaxItems { limit } => add(
            at.to_owned(),
            format!("must not have more than {limit} items"),
        ),
        ValidationErrorKind::Minimum { limit } => {
            add(at.to_owned(), format!("must be at least {limit}"))
        }
        // A nullable object is `anyOf` [object, null]: what is wrong inside the object is what a person needs.
        ValidationErrorKind::AnyOf { context } => {
            let inside = context.iter().find(|branch| {
                branch.iter().all(|inner| {
                    inner.instance_path().as_str().len() > at.len() || is_required(inner)
                })
            });
            match inside {
                Some(branch) if !branch.is_empty() => {
                    branch.iter().for_each(|inner| explain(inner, findings))
                }
                _ => add(at.to_owned(), "must be an object or null".to_owned()),
            }
        }
        _ => add(at.to_owned(), error.masked().to_string()),
    }
}

fn is_required(error: &ValidationError<'_>) -> bool {
    matches!(error.kind(), ValidationErrorKind::Required { .. })
}

fn types(kind: &TypeKind) -> String {
    let named: Vec<String> = match kind {
        TypeKind::Single(one) => vec![one.to_string()],
        TypeKind::Multiple(several) => several.iter().map(|one| one.to_string()).collect(),
    };
    let with_article = |name: &String| match name.as_str() {
        "null" => "null".to_owned(),
        "object" | "array" | "integer" => format!("an {name}"),
        _ => format!("a {name}"),
    };
    // Null last: "a string or null".
    let (null, rest): (Vec<String>, Vec<String>) =
        named.into_iter().partition(|name| name == "null");
    rest.iter()
        .chain(&null)
        .map(with_article)
        .collect::<Vec<_>>()
        .join(" or ")
}

fn pattern_in_words(pattern: &str) -> String {
    let words = match pattern {
        NO_CONTROL => "must not hold control characters",
        NOT_BLANK => "must not be blank",
        EMAIL => "must be an e-mail address",
        E164 => "must be an international number such as +38640123456",
        ENTITY => "must be an entity's name: a-z, 0-9 and _, at most 50",
        SUBJECT => "must read <entity>/<id>, for example contact/512",
        TENANT => "must be 1 to 64 of A-Z a-z 0-9 _ -",
        VERSION => "must be 1 to 20 digits",
        other => return format!("must match {other}"),
    };
    words.to_owned()
}

fn format_in_words(format: &str) -> String {
    let words = match format {
        "date-time" => "must be an RFC 3339 time with a zone, for example 2026-06-17T10:35:11.472Z",
        "uri-reference" => "must be a URI reference",
        other => return format!("must be a {other}"),
    };
    words.to_owned()
}

//! What is committed in `schemas/` is what the code means.

use std::fs;
use std::path::{Path, PathBuf};

use event::{Event, EventType, Payload};
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas")
}

/// Every hand-written example, as (file name, text).
pub(crate) fn examples() -> Vec<(String, String)> {
    let mut examples: Vec<_> = fs::read_dir(folder().join("examples"))
        .expect("schemas/examples")
        .map(|entry| {
            let path = entry.expect("entry").path();
            let name = path
                .file_name()
                .expect("name")
                .to_string_lossy()
                .into_owned();
            (name, fs::read_to_string(&path).expect("text"))
        })
        .collect();
    examples.sort();
    examples
}

#[test]
fn committed_schemas_are_the_generated_ones() {
    let generated = event::documents();
    for (name, text) in &generated {
        let committed = fs::read_to_string(folder().join(name)).unwrap_or_default();
        assert!(
            committed == *text,
            "schemas/{name} is old: run `cargo run -p event --example schemas` and read the diff"
        );
    }
    let mut files: Vec<String> = fs::read_dir(folder())
        .expect("schemas")
        .map(|entry| entry.expect("entry"))
        .filter(|entry| entry.path().is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    files.retain(|file| !generated.iter().any(|(name, _)| name == file));
    assert_eq!(
        files,
        Vec::<String>::new(),
        "files in schemas/ that nothing generates"
    );
}

#[test]
fn every_type_has_an_example_and_every_example_is_of_a_known_type() {
    let examples = examples();
    for event_type in EventType::ALL {
        assert!(
            examples
                .iter()
                .any(|(name, _)| name.starts_with(event_type.as_str())),
            "no example of {event_type}"
        );
    }
    for (name, _) in &examples {
        assert!(
            EventType::ALL
                .iter()
                .any(|of| name.starts_with(of.as_str())),
            "{name} is of no known type"
        );
    }
}

#[test]
fn the_row_of_a_type_names_the_entity_of_its_subject() {
    for (name, text) in examples() {
        let event =
            event::decode(text.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let entity = event.event_type.entity();
        assert!(
            entity.is_none_or(|entity| entity == event.entity()),
            "{name}"
        );
    }
}

/// Examples are never deleted and never changed: so a change of the types that breaks an old event is seen here.
#[test]
fn examples_are_valid_by_their_own_schema_and_decode_to_their_type() {
    for (name, text) in examples() {
        let event =
            event::decode(text.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(
            name.starts_with(event.event_type.as_str()),
            "{name} holds a {}",
            event.event_type
        );
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .build(&event::schema(event.event_type))
            .expect("schema");
        let value: Value = serde_json::from_str(&text).expect("json");
        assert!(validator.is_valid(&value), "{name}");
    }
}

#[test]
fn examples_survive_being_decoded_and_encoded_again() {
    for (name, text) in examples() {
        let event = event::decode(text.as_bytes()).expect("valid");
        let again =
            event::decode(&event.encode()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(again, event, "{name}");
    }
}

/// The schema is asked before serde, so it must not let pass what serde then refuses.
#[test]
fn what_the_schema_requires_is_what_the_type_requires() {
    for (name, text) in examples() {
        let value: Value = serde_json::from_str(&text).expect("json");
        let mut pointers = Vec::new();
        collect(&value["data"], "/data", &mut pointers);
        for pointer in pointers {
            for replacement in [
                None,
                Some(Value::Null),
                Some(Value::from("x")),
                Some(Value::from(7)),
                Some(Value::from(true)),
            ] {
                let mut changed = value.clone();
                set(&mut changed, &pointer, replacement.clone());
                let answer = Event::try_from(changed.clone());
                let valid = jsonschema::options()
                    .should_validate_formats(true)
                    .build(&event::schema(
                        EventType::parse(value["type"].as_str().expect("type")).expect("known"),
                    ))
                    .expect("schema")
                    .is_valid(&changed);
                // Beyond the schema only the subject may object.
                let other_record = answer
                    .as_ref()
                    .is_err_and(|error| error.problems[0].pointer == "/subject");
                assert!(
                    valid == answer.is_ok() || (valid && other_record),
                    "{name}: {pointer} := {replacement:?} gave {answer:?}"
                );
            }
        }
    }
}

fn collect(value: &Value, at: &str, pointers: &mut Vec<String>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, member)| {
            pointers.push(format!("{at}/{name}"));
            collect(member, &format!("{at}/{name}"), pointers);
        }),
        Value::Array(items) => items.iter().enumerate().for_each(|(index, item)| {
            pointers.push(format!("{at}/{index}"));
            collect(item, &format!("{at}/{index}"), pointers);
        }),
        _ => {}
    }
}

fn set(value: &mut Value, pointer: &str, replacement: Option<Value>) {
    let (parent, last) = pointer.rsplit_once('/').expect("pointer");
    match (value.pointer_mut(parent).expect("parent"), replacement) {
        (Value::Object(members), Some(replacement)) => {
            drop(members.insert(last.to_owned(), replacement))
        }
        (Value::Object(members), None) => drop(members.remove(last)),
        (Value::Array(items), Some(replacement)) => {
            items[last.parse::<usize>().expect("index")] = replacement
        }
        (Value::Array(items), None) => drop(items.remove(last.parse().expect("index"))),
        _ => unreachable!("a parent is an object or an array"),
    }
}

#[test]
fn absent_null_and_empty_stay_apart() {
    let (_, text) = examples()
        .into_iter()
        .find(|(name, _)| name.ends_with("everything.json"))
        .expect("example");
    let Payload::ContactSaved(saved) = event::decode(text.as_bytes()).expect("valid").payload
    else {
        panic!("not a saved contact")
    };
    let contact = saved.contact;
    assert_eq!(contact.emails, event::Field::Cleared);
    assert_eq!(contact.phones, event::Field::Value(Vec::new()));
    assert_eq!(contact.organization, event::Field::Absent);
}

#[test]
fn asyncapi_names_every_type_once() {
    let text = event::asyncapi();
    for event_type in EventType::ALL {
        assert_eq!(
            text.matches(&format!("$ref: ./{event_type}.json\n"))
                .count(),
            1,
            "{event_type}"
        );
    }
}

//! Whatever the bytes are: an event or an error with bounded problems, never a panic.

use proptest::prelude::*;
use serde_json::Value;

use crate::schemas::examples;

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(Value::from("a\u{0}b")),
        Just(Value::from("urn:kurir:orodje:crm:main")),
        Just(Value::from("2026-06-17T10:35:60Z")),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z~/]{0,6}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Puts `value` at the `place`-th member of the event, counted through all depths.
fn put(target: &mut Value, place: &mut usize, value: &Value) -> bool {
    let members: Vec<&mut Value> = match target {
        Value::Object(members) => members.values_mut().collect(),
        Value::Array(items) => items.iter_mut().collect(),
        _ => return false,
    };
    for member in members {
        if *place == 0 {
            *member = value.clone();
            return true;
        }
        *place -= 1;
        if put(member, place, value) {
            return true;
        }
    }
    false
}

fn check(body: &[u8]) {
    let decoded = event::decode(body);
    match (&decoded, event::canonical(body)) {
        (Ok(event), Ok(canonical)) => {
            assert_eq!(*event, canonical.event);
            assert_eq!(event::decode(&canonical.body).as_ref(), Ok(event));
            assert_eq!(event::decode(&event.encode()).as_ref(), Ok(event));
        }
        (Err(error), Err(same)) => {
            assert_eq!(*error, same);
            assert!((1..=event::MAX_PROBLEMS).contains(&error.problems.len()));
        }
        (decoded, canonical) => panic!("{decoded:?} but {canonical:?}"),
    }
    let _ = event::canonical_batch(body, 10);
    let _ = event::canonical_binary([("id", body)], None, body);
}

proptest! {
    #[test]
    fn on_arbitrary_bytes(body in prop::collection::vec(any::<u8>(), 0..300)) {
        check(&body);
    }

    #[test]
    fn on_arbitrary_json(value in any_json()) {
        check(&serde_json::to_vec(&value).expect("json"));
    }

    #[test]
    fn on_valid_events_with_something_else_in_one_place(
        which in any::<prop::sample::Index>(), place in 0usize..60, value in any_json(),
    ) {
        let examples = examples();
        let mut event: Value = serde_json::from_str(&examples[which.index(examples.len())].1).expect("json");
        let mut place = place;
        put(&mut event, &mut place, &value);
        check(&serde_json::to_vec(&event).expect("json"));
    }

    #[test]
    fn on_valid_events_with_bytes_changed_or_cut(
        which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
    ) {
        let examples = examples();
        let mut body = examples[which.index(examples.len())].1.clone().into_bytes();
        let at = at.index(body.len());
        body[at] = byte;
        if cut {
            body.truncate(at);
        }
        check(&body);
    }
}

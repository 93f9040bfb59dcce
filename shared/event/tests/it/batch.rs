//! A batch with an event that can't be read: which one is said, and the others are looked at all the same.

use proptest::prelude::*;
use serde_json::json;

use crate::decode::{smallest, with};

/// One line for each event that is refused, as the gateway tells it; or what is wrong with the whole.
fn told(body: &[u8]) -> Vec<String> {
    match event::canonical_batch(body, 10) {
        Err(error) => error.problems.iter().map(ToString::to_string).collect(),
        Ok(events) => events
            .iter()
            .enumerate()
            .filter_map(|(at, event)| Some((at, event.as_ref().err()?)))
            .flat_map(|(at, error)| {
                error
                    .problems
                    .iter()
                    .map(move |one| format!("/{at}{} {}", one.pointer, one.detail))
            })
            .collect(),
    }
}

fn good() -> String {
    smallest().to_string()
}

fn text(body: Vec<u8>) -> String {
    String::from_utf8(body).expect("json")
}

/// Members that no parser takes, each between a good event, one that breaks its schema, and a good one.
#[test]
fn an_unreadable_event_is_named_and_the_others_are_checked() {
    let robot = text(with("/data/contact/kind", json!("robot")));
    let named = |text: &str| good().replace("Maja Kos", text);
    let deep = named("x").replace("\"x\"", &format!("{}{}", "[".repeat(300), "]".repeat(300)));
    let mut latin = named("@").into_bytes();
    let at = latin.iter().position(|&byte| byte == b'@').expect("there");
    latin[at] = 0xe8;
    for (name, unreadable) in [
        ("a number", b"7".to_vec()),
        ("a text", b"\"[{,\"".to_vec()),
        ("null", b"null".to_vec()),
        ("a list", b"[1,2]".to_vec()),
        ("nothing", b"".to_vec()),
        ("a word", b"undefined".to_vec()),
        ("a lone surrogate", named("\\ud800").into_bytes()),
        ("an unknown escape", named("\\x41").into_bytes()),
        (
            "an escaped quote in a broken event",
            named("\\\"},{\\q").into_bytes(),
        ),
        ("a raw line break", named("a\nb").into_bytes()),
        ("Latin-1", latin),
        ("nested deeply", deep.into_bytes()),
        (
            "a number beyond all",
            named("x").replace("\"x\"", "1e999").into_bytes(),
        ),
        (
            "a comma too many",
            good().replacen('}', ",}", 1).into_bytes(),
        ),
        (
            "a bracket too few",
            good().replacen('}', "", 1).into_bytes(),
        ),
        (
            "a list that is not closed",
            good().replace("\"Maja Kos\"", "[{\"a\":1}").into_bytes(),
        ),
        (
            "a bracket too many",
            good().replacen('}', "}}", 1).into_bytes(),
        ),
        ("another bracket", good().replacen('}', "]", 1).into_bytes()),
        ("single quotes", good().replace('"', "'").into_bytes()),
        ("no value", good().replace("\"evt-1\"", "").into_bytes()),
    ] {
        let body = [
            b"[".as_slice(),
            good().as_bytes(),
            b", ",
            &unreadable,
            b",\n",
            robot.as_bytes(),
            b",",
            good().as_bytes(),
            b"]\n",
        ]
        .concat();
        let told = told(&body);
        assert_eq!(told.len(), 2, "{name}: {told:?}");
        assert!(
            told[0].starts_with("/1 is not JSON: ")
                || told[0].starts_with("/1 must be a JSON object"),
            "{name}: {told:?}"
        );
        assert!(
            told[1].starts_with("/2/data/contact/kind "),
            "{name}: {told:?}"
        );
    }
}

#[test]
fn a_batch_that_breaks_off_says_where() {
    let good = good();
    for (body, expected) in [
        (format!("[{good},{}", &good[..60]), "/1 is not JSON: EOF"),
        (format!("[{good},]"), "/1 is not JSON: EOF"),
        (format!("[{good}"), "is not JSON: EOF"),
        (format!("[{good}]]"), "/0 is not JSON: trailing"),
        (
            format!("{good},{good}"),
            "must be a JSON array of CloudEvents",
        ),
        // Behind a quote that is missing nothing can be told apart.
        (
            format!("[{good},{},{good}]", good.replacen("evt-1\"", "evt-1", 1)),
            "/1 is not JSON: ",
        ),
        ("<events/>".to_owned(), "is not JSON: expected value"),
        (String::new(), "is not JSON: EOF"),
        (good.clone(), "must be a JSON array of CloudEvents"),
        (
            format!("[{}]", ",".repeat(1_000_000)),
            "has more than 10 events",
        ),
        ("[".repeat(1_000_000), "is not JSON: EOF"),
        (
            format!("{}{}", "[".repeat(500_000), "}".repeat(500_000)),
            "is not JSON: ",
        ),
    ] {
        let told = told(body.as_bytes());
        assert!(
            told[0].starts_with(expected),
            "{}: {told:?}",
            &body[..body.len().min(80)]
        );
    }
}

proptest! {
    /// Taking apart never loses the refusal, never panics, and never makes a whole batch of a broken one.
    #[test]
    fn a_broken_batch_is_refused(at in 0usize..600, byte in any::<u8>()) {
        let mut body = format!("[{},{}]", good(), good()).into_bytes();
        let at = at % body.len();
        body[at] = byte;
        let whole = serde_json::from_slice::<serde_json::Value>(&body).is_ok();
        prop_assert!(whole || !told(&body).is_empty());
    }
}

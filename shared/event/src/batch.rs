//! A batch: an array of events, each with its own result. One that can't be read does not hide the others, so an
//! array that is no JSON as a whole is taken apart at its commas, and each event is looked at alone.

use std::ops::Range;

use serde_json::value::RawValue;

use crate::canonical::{Canonical, canonical};
use crate::decode::{is_wide, malformed, unmarked};
use crate::error::{DecodeClass, DecodeError};

/// A JSON array of CloudEvents. Each has its own result, with pointers that begin at the event.
///
/// # Errors
/// The body as a whole is not an array, or has more than `limit` events.
pub fn canonical_batch(
    body: &[u8],
    limit: usize,
) -> Result<Vec<Result<Canonical, DecodeError>>, DecodeError> {
    let body = unmarked(body);
    let broken = match serde_json::from_slice::<Vec<&RawValue>>(body) {
        Ok(events) if events.len() > limit => {
            return Err(too_many(&events.len().to_string(), limit));
        }
        Ok(events) => {
            let events = events.into_iter();
            return Ok(events
                .map(|event| canonical(event.get().as_bytes()))
                .collect());
        }
        Err(error) if error.is_data() && !is_wide(body) => {
            let detail = "must be a JSON array of CloudEvents";
            return Err(DecodeError::new(DecodeClass::Malformed, "", detail));
        }
        Err(error) => malformed("", body, &error),
    };
    let inside = match body.trim_ascii().strip_prefix(b"[") {
        Some(inside @ [_, ..]) if !is_wide(body) => inside.strip_suffix(b"]").unwrap_or(inside),
        _ => return Err(broken),
    };
    let events = apart(inside, limit);
    if events.len() > limit {
        return Err(too_many(&format!("more than {limit}"), limit));
    }
    let read: Vec<_> = events.into_iter().map(canonical).collect();
    let unreadable = |event: &Result<Canonical, DecodeError>| {
        let error = event.as_ref().err();
        error.is_some_and(|error| error.class == DecodeClass::Malformed)
    };
    // Where every event is whole, what is wrong is between or behind them.
    if read.iter().any(unreadable) {
        Ok(read)
    } else {
        Err(broken)
    }
}

fn too_many(events: &str, limit: usize) -> DecodeError {
    let detail = format!("has {events} events, at most {limit} are allowed");
    DecodeError::new(DecodeClass::TooLarge, "", detail)
}

/// Open brackets that are told apart; what is nested deeper is refused anyway.
const DEPTH: usize = 128;

/// The inside of an array, cut at the commas that are in no string, object or list; at most `limit` parts and a rest.
/// It need not be JSON: a bracket closes the nearest one of its kind, and one that closes nothing is passed over. An
/// object where a name must stand begins the next event: the one before was not closed. A name with a colon outside of
/// all objects belongs to the event before, which was closed too early.
fn apart(inside: &[u8], limit: usize) -> Vec<&[u8]> {
    let mut cut = Cut::default();
    let (mut in_string, mut escaped) = (false, false);
    let (mut before, mut before_at) = (0, 0);
    for (at, &byte) in inside.iter().enumerate() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = byte == b'\\' && !escaped;
            continue;
        }
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' => continue,
            b'"' => in_string = true,
            b',' if cut.open.is_empty() => cut.at(at),
            b'{' if before == b',' && cut.open.last() == Some(&b'{') => {
                cut.at(before_at);
                cut.opens(byte);
            }
            b'{' | b'[' => cut.opens(byte),
            b':' if cut.open.is_empty() => cut.back(),
            b'}' => cut.closes(b'{'),
            b']' => cut.closes(b'['),
            _ => {}
        }
        if cut.parts.len() == limit {
            break;
        }
        (before, before_at) = (byte, at);
    }
    cut.parts.push(cut.from..inside.len());
    cut.parts.into_iter().map(|part| &inside[part]).collect()
}

#[derive(Default)]
struct Cut {
    parts: Vec<Range<usize>>,
    from: usize,
    /// Brackets that are not closed yet.
    open: Vec<u8>,
}

impl Cut {
    fn at(&mut self, comma: usize) {
        self.parts.push(self.from..comma);
        self.from = comma + 1;
        self.open.clear();
    }

    fn back(&mut self) {
        if let Some(before) = self.parts.pop() {
            self.from = before.start;
        }
    }

    fn opens(&mut self, bracket: u8) {
        if self.open.len() < DEPTH {
            self.open.push(bracket);
        }
    }

    fn closes(&mut self, opener: u8) {
        if let Some(nearest) = self.open.iter().rposition(|&one| one == opener) {
            self.open.truncate(nearest);
        }
    }
}

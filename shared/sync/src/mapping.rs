//! What every mapping needs: fields of an event as the engine's, and texts that must fit at the partner. Pure.

use event::Field;

/// A field of a state event. Outer `None`: not managed. Inner `None`: cleared.
pub fn managed<T>(field: &Field<T>) -> Option<Option<&T>> {
    match field {
        Field::Absent => None,
        Field::Cleared => Some(None),
        Field::Value(value) => Some(Some(value)),
    }
}

/// None for an empty text.
pub fn filled(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// Texts are never cut to fit: what was cut would not be found as sent.
#[derive(Clone, Copy, Debug)]
pub struct Lengths {
    /// Named in what is said of a text that is too long.
    pub partner: &'static str,
}

impl Lengths {
    /// The text, where it has at most so many characters. `pointer` names the field of the event.
    ///
    /// # Errors
    /// A sentence with the field and both numbers.
    pub fn fitting(self, pointer: &str, limit: usize, text: String) -> Result<String, String> {
        let long = text.chars().count();
        if long > limit {
            let partner = self.partner;
            return Err(format!(
                "{pointer} has {long} characters, at {partner} {limit} fit"
            ));
        }
        Ok(text)
    }

    /// As `fitting`; none for an empty text.
    ///
    /// # Errors
    /// As `fitting`.
    pub fn text(self, pointer: &str, limit: usize, text: String) -> Result<Option<String>, String> {
        self.fitting(pointer, limit, text).map(filled)
    }
}

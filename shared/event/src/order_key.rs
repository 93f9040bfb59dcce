//! The order key of a state event: total, equal in every copy of the event, comparable as bytes.
//!
//! `k = (subjectversion, tombstone, event id, generation)`, field by field (docs/architecture.md, "Order").
//! Stored as one `bytea`: 20 digits, `0` or `1`, the event id, 0x00, four bytes of generation (big-endian).
//! The 0x00 keeps a shorter id below a longer one that begins with it; event ids hold no control characters.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Digits of a stored version: the longest `subjectversion` that the contract allows.
pub const VERSION_DIGITS: usize = 20;

/// `[0-9]{1,20}`, kept zero-padded to 20 digits, so that bytes compare as numbers do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SubjectVersion(String);

impl SubjectVersion {
    pub fn parse(text: &str) -> Option<Self> {
        let digits = (1..=VERSION_DIGITS).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| Self(format!("{text:0>VERSION_DIGITS$}")))
    }

    /// Microseconds since the epoch; a time before 1970 counts as 0.
    pub fn from_micros(micros: i64) -> Self {
        Self(format!("{:0VERSION_DIGITS$}", micros.max(0)))
    }

    /// The version as microseconds, if it fits: only meaningful where the source's scheme is time.
    pub fn as_micros(&self) -> Option<i64> {
        self.0.parse().ok()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SubjectVersion {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("'{text}' is not 1 to {VERSION_DIGITS} digits"))
    }
}

impl From<SubjectVersion> for String {
    fn from(version: SubjectVersion) -> Self {
        version.0
    }
}

/// See the module header. `Ord` is the order of the bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderKey(Vec<u8>);

impl OrderKey {
    pub fn new(version: &SubjectVersion, tombstone: bool, event_id: &str, generation: u32) -> Self {
        let mut bytes = Vec::with_capacity(VERSION_DIGITS + 6 + event_id.len());
        bytes.extend_from_slice(version.as_str().as_bytes());
        bytes.push(if tombstone { b'1' } else { b'0' });
        bytes.extend_from_slice(event_id.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(&generation.to_be_bytes());
        Self(bytes)
    }

    /// As the database keeps it. `None` if the bytes are not an order key.
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        let long_enough = bytes.len() > VERSION_DIGITS + 5;
        let version = long_enough && bytes[..VERSION_DIGITS].iter().all(u8::is_ascii_digit);
        let terminated = long_enough && bytes[bytes.len() - 5] == 0;
        (version && terminated).then_some(Self(bytes))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn version(&self) -> &str {
        std::str::from_utf8(&self.0[..VERSION_DIGITS]).unwrap_or_default()
    }

    pub fn tombstone(&self) -> bool {
        self.0[VERSION_DIGITS] == b'1'
    }

    pub fn event_id(&self) -> &str {
        std::str::from_utf8(&self.0[VERSION_DIGITS + 1..self.0.len() - 5]).unwrap_or_default()
    }

    pub fn generation(&self) -> u32 {
        let tail = &self.0[self.0.len() - 4..];
        u32::from_be_bytes([tail[0], tail[1], tail[2], tail[3]])
    }
}

impl fmt::Debug for OrderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `1781692511472150 deleted evt-7 gen 1`: for people; tombstone and generation only where they say something.
impl fmt::Display for OrderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.version().trim_start_matches('0');
        write!(f, "{}", if version.is_empty() { "0" } else { version })?;
        if self.tombstone() {
            write!(f, " deleted")?;
        }
        write!(f, " {}", self.event_id())?;
        match self.generation() {
            0 => Ok(()),
            generation => write!(f, " gen {generation}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(version: &str, tombstone: bool, id: &str, generation: u32) -> OrderKey {
        OrderKey::new(
            &SubjectVersion::parse(version).expect("digits"),
            tombstone,
            id,
            generation,
        )
    }

    #[test]
    fn a_deletion_wins_a_tie_and_a_shorter_id_comes_first() {
        assert!(key("7", true, "a", 0) > key("7", false, "z", 9));
        assert!(key("7", false, "ab", 0) > key("7", false, "a", 9));
        assert!(key("10", false, "a", 0) > key("9", true, "z", 9));
    }

    #[test]
    fn version_must_be_one_to_twenty_digits() {
        for bad in ["", "-1", "1.0", "123456789012345678901", "１", "0x1"] {
            assert_eq!(SubjectVersion::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn bytes_order_as_the_fields_do(
            a in (0u64.., any::<bool>(), "[a-c]{1,3}", 0u32..4),
            b in (0u64.., any::<bool>(), "[a-c]{1,3}", 0u32..4),
        ) {
            let left = key(&a.0.to_string(), a.1, &a.2, a.3);
            let right = key(&b.0.to_string(), b.1, &b.2, b.3);
            prop_assert_eq!(left.cmp(&right), a.cmp(&b));
            prop_assert_eq!(OrderKey::from_bytes(left.as_bytes().to_vec()), Some(left.clone()));
            prop_assert_eq!((left.tombstone(), left.event_id(), left.generation()), (a.1, a.2.as_str(), a.3));
        }
    }
}

//! Keeps secrets out of every text that leaves this crate: partners echo keys in their error texts.

use std::borrow::Cow;
use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

/// Longest text kept of an error or a partner's explanation, in bytes.
pub const TEXT_LIMIT: usize = 500;

const MASK: &str = "[secret]";

/// Knows the secrets of one connection and masks them, also percent-encoded or JSON-escaped, whatever the case of
/// ASCII letters.
#[derive(Clone, Default)]
pub struct Redactor {
    /// Lower case, longest first, never empty.
    needles: Vec<SecretString>,
}

impl Redactor {
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a SecretString>) -> Self {
        let mut spellings: Vec<String> = Vec::new();
        for secret in secrets {
            let plain = secret.expose_secret();
            let percent: String = url::form_urlencoded::byte_serialize(plain.as_bytes()).collect();
            let escaped = plain.replace('\\', "\\\\").replace('"', "\\\"");
            for spelling in [
                plain.to_owned(),
                percent.replace('+', "%20"),
                percent,
                escaped,
            ] {
                let spelling = spelling.to_ascii_lowercase();
                if !spelling.is_empty() && !spellings.contains(&spelling) {
                    spellings.push(spelling);
                }
            }
        }
        spellings.sort_by_key(|spelling| std::cmp::Reverse(spelling.len()));
        Self {
            needles: spellings.into_iter().map(SecretString::from).collect(),
        }
    }

    /// The text without secrets and at most [`TEXT_LIMIT`] bytes long.
    pub fn text(&self, text: &str) -> String {
        let mut clean = Cow::Borrowed(text);
        for needle in &self.needles {
            if let Some(masked) = masked(&clean, needle.expose_secret()) {
                clean = Cow::Owned(masked);
            }
        }
        // Cut last: half a secret at the cut would not be recognised.
        bounded(&clean).to_owned()
    }

    /// The beginning of a body as text, for an explanation of what went wrong.
    pub fn excerpt(&self, body: &[u8]) -> String {
        self.text(&String::from_utf8_lossy(body))
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} spellings)", self.needles.len())
    }
}

fn masked(text: &str, needle: &str) -> Option<String> {
    // ASCII lower case keeps byte positions and character boundaries.
    let lower = text.to_ascii_lowercase();
    let mut clean = String::with_capacity(text.len());
    let mut end = 0;
    for (at, found) in lower.match_indices(needle) {
        clean.push_str(&text[end..at]);
        clean.push_str(MASK);
        end = at + found.len();
    }
    (end > 0).then(|| {
        clean.push_str(&text[end..]);
        clean
    })
}

fn bounded(text: &str) -> &str {
    let mut end = text.len().min(TEXT_LIMIT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Scheme, host, port and path: what may be logged of a URL.
pub fn safe_url(url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    shown.set_fragment(None);
    // Both only fail for URLs that can't carry them, and then there is nothing to hide.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn redactor(secret: &str) -> Redactor {
        Redactor::new([&SecretString::from(secret)])
    }

    #[test]
    fn masks_every_spelling() {
        let clean = redactor("s3/Key \"x\"").text(
            r#"a s3/Key "x" b S3/KEY "X" c s3%2FKey%20%22x%22 d s3%2fkey+%22x%22 e s3/Key \"x\""#,
        );
        assert_eq!(
            clean,
            "a [secret] b [secret] c [secret] d [secret] e [secret]"
        );
    }

    #[test]
    fn the_longer_of_two_secrets_goes_first() {
        let both = Redactor::new([&SecretString::from("abc"), &SecretString::from("abcdef")]);
        assert_eq!(both.text("abcdef abc"), "[secret] [secret]");
    }

    #[test]
    fn an_empty_secret_masks_nothing() {
        assert_eq!(redactor("").text("hello"), "hello");
    }

    #[test]
    fn urls_lose_query_fragment_and_user() {
        let url = Url::parse("https://u:p@host:8443/rest/x?secret_key=1#f").unwrap();
        assert_eq!(safe_url(&url), "https://host:8443/rest/x");
    }

    proptest! {
        #[test]
        fn a_secret_never_survives(secret in "[a-zA-Z0-9č/+]{6,20}", before in ".{0,600}", after in ".{0,40}") {
            let clean = redactor(&secret).text(&format!("{before}{secret}{after}"));
            prop_assert!(!clean.to_ascii_lowercase().contains(&secret.to_ascii_lowercase()));
            prop_assert!(clean.len() <= TEXT_LIMIT);
        }
    }
}

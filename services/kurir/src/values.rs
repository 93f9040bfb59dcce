//! Values of arguments that several commands have.

use event::TenantId;
use uuid::Uuid;

/// Most rows of one page.
pub(crate) const MOST_ROWS: i64 = 1000;
/// Rows that a list shows unless asked for more.
pub(crate) const LIST_LIMIT: &str = "50";

pub(crate) fn tenant(text: &str) -> Result<TenantId, String> {
    TenantId::parse(text)
        .ok_or_else(|| "a tenant id is 1 to 64 letters, digits, `_` or `-`".to_owned())
}

pub(crate) fn limit(text: &str) -> Result<i64, String> {
    text.parse()
        .ok()
        .filter(|limit| (1..=MOST_ROWS).contains(limit))
        .ok_or_else(|| format!("a number from 1 to {MOST_ROWS}"))
}

/// A long id; who has a short number has one of something else.
pub(crate) fn number(text: &str, what: &str, list: &str) -> Result<Uuid, String> {
    text.parse().map_err(|_no_uuid| {
        let expected = format!(
            "{what} looks like 3f0f6c0e-6c1b-5a54-9f56-0f6d9d8c8c11; `{list}` shows what there is"
        );
        if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
            format!("{expected}. A short number is a held event's (`kurir held show {text}`) or a link's (`kurir links show {text}`)")
        } else {
            expected
        }
    })
}

pub(crate) fn connection_id(text: &str) -> Result<Uuid, String> {
    number(text, "a connection's id", "kurir connection list")
}

//! `get_partner` (contract §2.2): one filter or none, matching as the readings say, pages of 1000.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::company::Company;
use super::encode::Encoder;
use super::partner::{Contact, Partner};
use super::readings::{
    DeletedInIndex, EmptyFilter, Extent, KeptForm, Matching, PartnerListCount, PastEnd, ReadById,
    Readings, SeveralFilters,
};
use super::reply::{Reply, Seen};
use super::request::{Request, text_of};

/// Partners in one answer, at most and by default (§1.7).
const PAGE: usize = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Id,
    Name,
    Tax,
    Email,
    Phone,
}

impl Field {
    fn named(key: &str) -> Option<Self> {
        match key {
            "partner_id" => Some(Field::Id),
            "partner_name" => Some(Field::Name),
            "partner_tax_number" => Some(Field::Tax),
            "partner_email" => Some(Field::Email),
            "partner_phone_number" => Some(Field::Phone),
            _ => None,
        }
    }
}

/// What a request looks for.
enum Sought {
    /// Nobody can match: an empty filter, where that means so.
    Nobody,
    All(Vec<(Field, String)>),
}

impl Company {
    pub(super) fn get_partner(
        &mut self,
        request: &Request,
        now: DateTime<Utc>,
    ) -> Result<Reply, Reply> {
        let limit = number(request, "limit")?.unwrap_or(PAGE).min(PAGE);
        let offset = number(request, "offset")?.unwrap_or(0);
        let filters = match sought(request, &self.readings)? {
            Sought::Nobody => return Err(nobody()),
            Sought::All(filters) => filters,
        };
        let by_id = filters
            .iter()
            .find(|(field, _)| *field == Field::Id)
            .map(|(_, id)| id);
        let hits: Vec<Arc<Partner>> = match by_id {
            // Not through the index, where a read by id sees what is stored.
            Some(id) if self.readings.read_by_id == ReadById::AtOnce => id
                .parse()
                .ok()
                .and_then(|id| self.partners.get(&id).cloned())
                .into_iter()
                .collect(),
            Some(id) => {
                let stays = self.readings.deleted_in_index == DeletedInIndex::Stays;
                self.index
                    .seen_at(now, &self.readings)
                    .filter(|seen| seen.mk_id.to_string() == id.trim())
                    .filter(|seen| !stays || self.partners.contains_key(&seen.mk_id))
                    .cloned()
                    .collect()
            }
            None => self.index.seen_at(now, &self.readings).cloned().collect(),
        };
        let matches = |partner: &&Arc<Partner>| {
            filters
                .iter()
                .all(|(field, text)| matches(partner, *field, text, &self.readings))
        };
        let hits: Vec<&Partner> = hits.iter().filter(matches).map(Arc::as_ref).collect();
        if hits.is_empty() {
            return Err(nobody());
        }
        let page: Vec<&Partner> = hits.iter().skip(offset).take(limit).copied().collect();
        if page.is_empty() && self.readings.paging_past_end == PastEnd::Code2 {
            return Err(nobody());
        }
        let count = match self.readings.partner_list_count {
            PartnerListCount::Page => page.len(),
            PartnerListCount::Total => hits.len(),
        };
        let mk_id = if let [one] = hits[..] {
            Some(one.mk_id)
        } else {
            None
        };
        let seen = Seen {
            refused: None,
            stored: false,
            mk_id,
        };
        Ok(Reply::done(
            Encoder(&self.readings).partner_list(&page, count),
            seen,
        ))
    }
}

fn nobody() -> Reply {
    Reply::refused(2, "No partner with such properties.")
}

fn number(request: &Request, key: &str) -> Result<Option<usize>, Reply> {
    match request.field(key).filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(value) => match text_of(value).and_then(|text| text.parse().ok()) {
            Some(number) => Ok(Some(number)),
            None => Err(Reply::refused(
                2,
                &format!("Paramether '{key}' has invalid value : {value}."),
            )),
        },
    }
}

fn sought(request: &Request, readings: &Readings) -> Result<Sought, Reply> {
    let mut filters = Vec::new();
    for (key, value) in &request.fields {
        let Some(field) = Field::named(key) else {
            continue;
        };
        let text = match value {
            Value::Null => String::new(),
            value => text_of(value).ok_or_else(|| {
                Reply::refused(
                    2,
                    &format!("Paramether '{key}' has invalid value : {value}."),
                )
            })?,
        };
        filters.push((field, text));
    }
    if readings.several_filters == SeveralFilters::LastWins {
        filters = filters.pop().into_iter().collect();
    }
    if filters.iter().any(|(_, text)| text.trim().is_empty()) {
        match readings.empty_filter {
            EmptyFilter::Nothing => return Ok(Sought::Nobody),
            EmptyFilter::Everybody => filters.retain(|(_, text)| !text.trim().is_empty()),
        }
    }
    Ok(Sought::All(filters))
}

fn matches(partner: &Partner, field: Field, sought: &str, readings: &Readings) -> bool {
    let contact_texts = |pick: fn(&Contact) -> [&str; 2]| partner.contacts.iter().flat_map(pick);
    match field {
        Field::Id => partner.mk_id.to_string() == sought.trim(),
        Field::Name => compare(&partner.customer, sought, readings.match_name, field),
        Field::Tax => compare(&partner.tax_id_number, sought, readings.match_tax, field),
        Field::Email => contact_texts(|contact| [&contact.email, ""])
            .any(|text| compare(text, sought, readings.match_email, field)),
        Field::Phone => contact_texts(|contact| [&contact.gsm, &contact.phone])
            .any(|text| compare(text, sought, readings.match_phone, field)),
    }
}

fn compare(stored: &str, sought: &str, matching: Matching, field: Field) -> bool {
    let (stored, sought) = (
        kept(stored, matching.text, field),
        kept(sought, matching.text, field),
    );
    if sought.is_empty() || stored.is_empty() {
        return false;
    }
    match matching.extent {
        Extent::Exact => stored == sought,
        Extent::Partial => stored.contains(&sought),
    }
}

fn kept(text: &str, form: KeptForm, field: Field) -> String {
    match (form, field) {
        (KeptForm::Raw, Field::Name) => text.to_lowercase(),
        (KeptForm::Raw, _) | (_, Field::Id) => text.to_owned(),
        (KeptForm::Normalised, Field::Name) => text
            .to_lowercase()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" "),
        (KeptForm::Normalised, Field::Email) => text.trim().to_lowercase(),
        (KeptForm::Normalised, Field::Tax) => {
            let letters: String = text
                .chars()
                .filter(|c| c.is_alphanumeric())
                .collect::<String>()
                .to_uppercase();
            let prefixed = letters.len() > 2
                && letters
                    .bytes()
                    .take(2)
                    .all(|byte| byte.is_ascii_uppercase());
            if prefixed {
                letters[2..].to_owned()
            } else {
                letters
            }
        }
        (KeptForm::Normalised, Field::Phone) => {
            let digits: String = text.chars().filter(char::is_ascii_digit).collect();
            match digits.strip_prefix("00") {
                Some(rest) => format!("+{rest}"),
                None if text.trim_start().starts_with('+') => format!("+{digits}"),
                None => digits,
            }
        }
    }
}

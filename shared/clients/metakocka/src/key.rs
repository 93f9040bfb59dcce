//! How a partner is found again (§8): by what identifies it, compared by ourselves.

use crate::partner::{MkId, Partner};
use crate::tax::{Compared, TAX_SPELLINGS, TaxNumber};
use event::identity;

/// The one filter of a `get_partner` (§2.2). There is no empty one: it would mean everybody (§12).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    Id(MkId),
    Name(FilterText),
    TaxNumber(FilterText),
    Email(FilterText),
    Phone(FilterText),
}

impl Filter {
    /// Its name in the request, and its value.
    pub(crate) fn pair(&self) -> (&'static str, &str) {
        match self {
            Self::Id(id) => ("partner_id", id.as_str()),
            Self::Name(text) => ("partner_name", text.as_str()),
            Self::TaxNumber(text) => ("partner_tax_number", text.as_str()),
            Self::Email(text) => ("partner_email", text.as_str()),
            Self::Phone(text) => ("partner_phone_number", text.as_str()),
        }
    }
}

/// A text with at least one letter or digit in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterText(String);

impl FilterText {
    /// None for what could mean "no filter".
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let says_something = text.chars().any(char::is_alphanumeric);
        says_something.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A natural key of a partner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartnerKey(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    TaxNumber {
        number: TaxNumber,
        spellings: Vec<FilterText>,
        /// Normalised.
        names: Vec<String>,
    },
    Email {
        spellings: Vec<FilterText>,
    },
    NameAndAddress {
        name: FilterText,
        street: String,
        post_number: String,
    },
}

impl PartnerKey {
    /// Looked for in its usual spellings ([`TaxNumber::spellings`]), at most [`TAX_SPELLINGS`]. None if there is none.
    pub fn tax_number(number: TaxNumber) -> Option<Self> {
        let spellings = spelled(number.spellings()).filter(|spellings| !spellings.is_empty())?;
        Some(Self(Kind::TaxNumber {
            number,
            spellings,
            names: Vec::new(),
        }))
    }

    /// A tax number is looked for in this spelling, too; the least likely one of too many is left out.
    #[must_use]
    pub fn also_spelled(mut self, text: &str) -> Self {
        if let (Kind::TaxNumber { spellings, .. }, Some(text)) =
            (&mut self.0, FilterText::new(text))
            && !spellings.contains(&text)
        {
            spellings.truncate(TAX_SPELLINGS - 1);
            spellings.push(text);
        }
        self
    }

    /// Of whose tax number this is: by name it is found, too, where only the digits are equal and the country of one
    /// side is not known.
    #[must_use]
    pub fn of_somebody_called(mut self, name: &str) -> Self {
        let name = identity::name(name);
        if let Kind::TaxNumber { names, .. } = &mut self.0
            && !name.is_empty()
        {
            names.push(name);
        }
        self
    }

    /// None for what is no single mailbox. Looked for as given too, where that isn't lower case: whether Metakocka
    /// minds the case is not known.
    pub fn email(text: &str) -> Option<Self> {
        let given = identity::mailbox(text);
        if !given.contains('@') || identity::emails(&given).count() != 1 {
            return None;
        }
        spelled(vec![identity::email(&given), given])
            .map(|spellings| Self(Kind::Email { spellings }))
    }

    /// None for a name without a letter or digit. All three are compared, empty ones too: without street and post
    /// number it is the key of a partner of that name that has neither.
    pub fn name_and_address(name: &str, street: &str, post_number: &str) -> Option<Self> {
        let name = FilterText::new(&identity::clean(name))?;
        Some(Self(Kind::NameAndAddress {
            name,
            street: identity::street(street),
            post_number: identity::post_number(post_number),
        }))
    }

    /// The same text for every spelling of the same key: what a claim on the key is made of.
    pub fn normalised(&self) -> String {
        match &self.0 {
            Kind::TaxNumber { number, .. } => {
                let country = number.country().unwrap_or_default();
                format!("tax:{country}:{}", number.national())
            }
            Kind::Email { spellings } => format!("email:{}", spellings[0].as_str()),
            Kind::NameAndAddress {
                name,
                street,
                post_number,
            } => format!(
                "name:{}|{street}|{post_number}",
                identity::name(name.as_str())
            ),
        }
    }

    /// Calls of a look-up that finds less than a page.
    pub fn lookups(&self) -> usize {
        match &self.0 {
            Kind::TaxNumber { spellings, .. } | Kind::Email { spellings } => spellings.len(),
            Kind::NameAndAddress { .. } => 1,
        }
    }

    /// One look-up each.
    pub(crate) fn filters(&self) -> Vec<Filter> {
        match &self.0 {
            Kind::TaxNumber { spellings, .. } => {
                spellings.iter().cloned().map(Filter::TaxNumber).collect()
            }
            Kind::Email { spellings } => spellings.iter().cloned().map(Filter::Email).collect(),
            Kind::NameAndAddress { name, .. } => vec![Filter::Name(name.clone())],
        }
    }

    /// Whether it needs nothing else to be this partner: false for equal digits of an unknown country.
    pub fn is_certain(&self, partner: &Partner) -> bool {
        match &self.0 {
            Kind::TaxNumber { number, .. } => compared(number, partner) == Some(Compared::Same),
            Kind::Email { .. } | Kind::NameAndAddress { .. } => self.matches(partner),
        }
    }

    /// Whether the partner really has this key, whatever the search thought of it.
    pub fn matches(&self, partner: &Partner) -> bool {
        match &self.0 {
            Kind::TaxNumber { number, names, .. } => match compared(number, partner) {
                Some(Compared::Same) => true,
                Some(Compared::Perhaps) => {
                    let own_name = partner.customer.as_deref().unwrap_or_default();
                    names.contains(&identity::name(own_name))
                }
                Some(Compared::Different) | None => false,
            },
            Kind::Email { spellings } => partner
                .contacts
                .iter()
                .filter_map(|contact| contact.email.as_deref())
                .flat_map(identity::emails)
                .any(|email| email == spellings[0].as_str()),
            Kind::NameAndAddress {
                name,
                street,
                post_number,
            } => {
                let own_name = partner.customer.as_deref().unwrap_or_default();
                if identity::name(own_name) != identity::name(name.as_str()) {
                    return false;
                }
                let mut places = partner.addresses.iter().map(|address| {
                    let own_street = address.street.as_deref().unwrap_or_default();
                    let own_post = address.post_number.as_deref().unwrap_or_default();
                    identity::street(own_street) == *street
                        && identity::post_number(own_post) == *post_number
                });
                if street.is_empty() && post_number.is_empty() {
                    places.all(|same| same)
                } else {
                    places.any(|same| same)
                }
            }
        }
    }
}

/// None where the partner has no number.
fn compared(number: &TaxNumber, partner: &Partner) -> Option<Compared> {
    partner.tax_number().map(|own| number.compare(&own))
}

/// Without repetitions; None if any of them is empty. The first is the normalised one.
fn spelled(spellings: Vec<String>) -> Option<Vec<FilterText>> {
    let mut texts: Vec<FilterText> = Vec::new();
    for spelling in spellings {
        let text = FilterText::new(&spelling)?;
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    Some(texts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tax(text: &str) -> Option<PartnerKey> {
        TaxNumber::read(text, "").and_then(PartnerKey::tax_number)
    }

    fn sent(key: Option<PartnerKey>) -> Vec<String> {
        let filters = key.expect("a key").filters();
        filters
            .iter()
            .map(|filter| {
                let (name, value) = filter.pair();
                format!("{name}={value}")
            })
            .collect()
    }

    #[test]
    fn a_tax_number_is_looked_for_in_every_usual_spelling_and_as_given() {
        let of = |text: &str, country: &str| {
            sent(TaxNumber::read(text, country).and_then(PartnerKey::tax_number))
                .into_iter()
                .map(|filter| filter.replace("partner_tax_number=", ""))
                .collect::<Vec<_>>()
        };
        for (text, country, spellings) in [
            (" si 9999 9901 ", "", vec!["SI99999901", "99999901"]),
            ("99999901", "Slovenija", vec!["SI99999901", "99999901"]),
            ("99999901", "CZ", vec!["CZ99999901", "99999901"]),
            ("99999901", "", vec!["99999901", "SI99999901"]),
            (
                "atu 12345678",
                "",
                vec!["ATU12345678", "U12345678", "12345678"],
            ),
            (
                "BE999999927",
                "",
                vec!["BE0999999927", "0999999927", "BE999999927", "999999927"],
            ),
            (
                "GR123456789",
                "",
                vec!["EL123456789", "123456789", "GR123456789"],
            ),
            (
                "CHE123456789MWST",
                "",
                vec![
                    "CHE-123.456.789",
                    "CHE123456789",
                    "123456789",
                    "CHE-123.456.789 MWST",
                ],
            ),
        ] {
            assert_eq!(of(text, country), spellings, "{text} {country}");
        }
        let given = tax("CHE-123.456.789 TVA").map(|key| key.also_spelled("CHE123456789TVA"));
        assert_eq!(sent(given.clone()).len(), TAX_SPELLINGS);
        assert_eq!(sent(given)[3], "partner_tax_number=CHE123456789TVA");
    }

    #[test]
    fn a_mailbox_is_looked_for_as_given_too() {
        assert_eq!(
            sent(PartnerKey::email("Spela@zuzek.example")),
            [
                "partner_email=spela@zuzek.example",
                "partner_email=Spela@zuzek.example"
            ]
        );
        assert_eq!(
            sent(PartnerKey::email(
                "\u{feff}Spe\u{200b}la@zuzek.example\u{ad}"
            )),
            [
                "partner_email=spela@zuzek.example",
                "partner_email=Spela@zuzek.example"
            ],
            "without what nobody sees"
        );
        assert_eq!(
            sent(PartnerKey::email("spela@zuzek.example")),
            ["partner_email=spela@zuzek.example"]
        );
    }

    #[test]
    fn keys_that_identify_nobody_do_not_exist() {
        for text in ["", " ", "-", "..", "\t"] {
            assert_eq!(tax(text), None);
            assert_eq!(PartnerKey::email(text), None);
            assert_eq!(PartnerKey::name_and_address(text, "a 1", "1000"), None);
            assert_eq!(FilterText::new(text), None);
        }
        for text in [
            "a",
            "@",
            "a@",
            "@b",
            "a@x.example b@x.example",
            "\u{200b}@\u{200b}",
            "a@\u{2060}",
        ] {
            assert_eq!(PartnerKey::email(text), None, "{text}");
        }
    }

    #[test]
    fn every_spelling_of_a_key_claims_the_same() {
        let claims = |texts: &[&str], key: fn(&str) -> Option<PartnerKey>| {
            let mut all: Vec<String> = texts
                .iter()
                .map(|text| key(text).expect("a key").normalised())
                .collect();
            all.dedup();
            all
        };
        assert_eq!(
            claims(&["SI99999901", "SI-9999.9901", "si 99999901"], tax),
            ["tax:SI:99999901"]
        );
        assert_eq!(
            claims(&["A@B.example", "a@b.example "], PartnerKey::email),
            ["email:a@b.example"]
        );
        let named = PartnerKey::name_and_address("Špela  ŽUŽEK", "Ulica 1.", "SI-8210").unwrap();
        assert_eq!(named.normalised(), "name:špela žužek|ulica 1|8210");
    }

    proptest! {
        #[test]
        fn no_key_ever_sends_an_empty_filter(text in "\\PC{0,12}") {
            let keys = [
                tax(&text),
                PartnerKey::email(&text),
                PartnerKey::name_and_address(&text, "Ulica 1", "1000"),
            ];
            for filter in keys.into_iter().flatten().flat_map(|key| key.filters()) {
                prop_assert!(filter.pair().1.chars().any(char::is_alphanumeric));
            }
        }
    }
}

//! By what a partner is found again, strongest first (contract §8): tax number, e-mail address, exact name and address.
//!
//! A key is a text that begins with person or organization, so that keys of the two never meet. Every key of a record is
//! claimed; which of them are looked up is bounded, see `target.rs`.

use event::identity;
use metakocka::{Compared, Partner, PartnerKey, TaxNumber};
use sync::NaturalKey;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Person,
    Organization,
}

impl Who {
    fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Organization => "organization",
        }
    }

    pub(crate) fn business_entity(self) -> bool {
        self == Self::Organization
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// Of a country that is known.
    Tax(TaxNumber),
    /// Of an unknown country: two companies may have these digits, so the name belongs to it.
    Number {
        number: TaxNumber,
        customer: String,
    },
    Email(String),
    /// Empty texts count: they are those of a partner that has none.
    Name {
        customer: String,
        street: String,
        post_number: String,
    },
}

impl Identity {
    pub(crate) fn of_number(number: TaxNumber, customer: &str) -> Self {
        match number.country() {
            Some(_) => Self::Tax(number),
            None => Self::Number {
                number,
                customer: customer.to_owned(),
            },
        }
    }

    /// The same text for every spelling of it.
    pub(crate) fn natural(&self, who: Who) -> NaturalKey {
        let (by, parts) = match self {
            Self::Tax(number) => {
                let country = number.country().unwrap_or_default().to_owned();
                ("tax", vec![country, number.national().to_owned()])
            }
            Self::Number { number, customer } => {
                let parts = vec![number.national().to_owned(), identity::name(customer)];
                ("number", parts)
            }
            Self::Email(email) => ("email", vec![identity::email(email)]),
            Self::Name {
                customer,
                street,
                post_number,
            } => {
                let parts = vec![
                    identity::name(customer),
                    identity::street(street),
                    identity::post_number(post_number),
                ];
                ("name", parts)
            }
        };
        let texts = parts.iter().map(String::as_str);
        NaturalKey::of([who.as_str(), by].into_iter().chain(texts))
    }

    /// None for a key of another build.
    pub(crate) fn parse(key: &NaturalKey) -> Option<(Who, Self)> {
        let parts = key.parts();
        let texts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let [who, by, rest @ ..] = texts.as_slice() else {
            return None;
        };
        let who = [Who::Person, Who::Organization]
            .into_iter()
            .find(|known| known.as_str() == *who)?;
        let identity = match (*by, rest) {
            ("tax", [country, number]) => Self::Tax(TaxNumber::from_parts(Some(country), number)),
            ("number", [number, customer]) => Self::Number {
                number: TaxNumber::from_parts(None, number),
                customer: (*customer).to_owned(),
            },
            ("email", [email]) => Self::Email((*email).to_owned()),
            ("name", [customer, street, post_number]) => Self::Name {
                customer: (*customer).to_owned(),
                street: (*street).to_owned(),
                post_number: (*post_number).to_owned(),
            },
            _ => return None,
        };
        Some((who, identity))
    }

    /// None for what identifies nobody.
    pub(crate) fn key(&self) -> Option<PartnerKey> {
        match self {
            Self::Tax(number) => PartnerKey::tax_number(number.clone()),
            Self::Number { number, customer } => {
                PartnerKey::tax_number(number.clone()).map(|key| key.of_somebody_called(customer))
            }
            Self::Email(email) => PartnerKey::email(email),
            Self::Name {
                customer,
                street,
                post_number,
            } => PartnerKey::name_and_address(customer, street, post_number),
        }
    }

    /// The strongest is 0.
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Self::Tax(_) | Self::Number { .. } => 0,
            Self::Email(_) => 1,
            Self::Name { .. } => 2,
        }
    }

    /// None for any other key.
    pub(crate) fn tax_number(&self) -> Option<&TaxNumber> {
        match self {
            Self::Tax(number) | Self::Number { number, .. } => Some(number),
            Self::Email(_) | Self::Name { .. } => None,
        }
    }
}

/// Whether a hit can be what the key's kind says: equal, or not told.
pub(crate) fn may_be(hit: &Partner, who: Who) -> bool {
    hit.business_entity
        .is_none_or(|business| business == who.business_entity())
}

/// The hit has something that the stronger key is about, and it is something else. Numbers that may be one are no
/// contradiction: equal digits where one side doesn't say their country.
pub(crate) fn contradicts(hit: &Partner, stronger: &Identity) -> bool {
    let has = match stronger {
        Identity::Tax(number) | Identity::Number { number, .. } => {
            return hit
                .tax_number()
                .is_some_and(|own| number.compare(&own) == Compared::Different);
        }
        Identity::Email(_) => hit.contacts.iter().any(|contact| contact.email.is_some()),
        Identity::Name { .. } => hit.customer.is_some(),
    };
    has && stronger.key().is_some_and(|key| !key.matches(hit))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(customer: &str, street: &str, post_number: &str) -> Identity {
        Identity::Name {
            customer: customer.to_owned(),
            street: street.to_owned(),
            post_number: post_number.to_owned(),
        }
    }

    fn number(text: &str, country: &str, customer: &str) -> Identity {
        Identity::of_number(TaxNumber::read(text, country).expect("a number"), customer)
    }

    #[test]
    fn every_spelling_is_one_key() {
        for (spellings, key) in [
            (
                vec![
                    number("SI99999901", "", "Žužek d.o.o."),
                    number("9999 9901", "Slovenia", "Kos d.o.o."),
                ],
                "organization|tax|SI|99999901",
            ),
            (
                vec![number("99999901", "Češka", "Žužek d.o.o.")],
                "organization|tax|CZ|99999901",
            ),
            (
                vec![
                    number("9999.9901", "", "Žužek D.O.O."),
                    number("99999901", "", "Žužek  d.o.o."),
                ],
                "organization|number|99999901|žužek d.o.o.",
            ),
            (
                vec![
                    Identity::Email(" Spela@Zuzek.example".to_owned()),
                    Identity::Email("spela@zuzek.example".to_owned()),
                ],
                "organization|email|spela@zuzek.example",
            ),
            (
                vec![
                    named("ŽUŽEK  d.o.o.", "Češnjeva ul. 7", "SI-8210"),
                    named("Žužek d.o.o.", "češnjeva ul 7", "8210"),
                ],
                "organization|name|žužek d.o.o.|češnjeva ul 7|8210",
            ),
            (vec![named("Žužek", "", "")], "organization|name|žužek||"),
        ] {
            for spelling in spellings {
                assert_eq!(spelling.natural(Who::Organization).0, key);
            }
        }
    }

    #[test]
    fn persons_and_organizations_share_no_key() {
        let email = Identity::Email("info@kos.example".to_owned());
        assert_ne!(email.natural(Who::Person), email.natural(Who::Organization));
    }

    proptest! {
        #[test]
        fn a_key_says_what_it_was_made_of(customer in "\\PC{1,20}", street in "\\PC{0,20}", post_number in "\\PC{0,8}") {
            let tax = TaxNumber::from_parts(Some("SI"), &customer);
            let number = Identity::Number { number: TaxNumber::from_parts(None, &street), customer: customer.clone() };
            for identity in [named(&customer, &street, &post_number), Identity::Tax(tax), number, Identity::Email(street.clone())] {
                let key = identity.natural(Who::Person);
                let (who, parsed) = Identity::parse(&key).expect("our own key");
                prop_assert_eq!(who, Who::Person);
                prop_assert_eq!(parsed.natural(Who::Person), key);
            }
        }

        #[test]
        fn different_names_never_share_a_key(one in "[a|%7C]{1,6}", two in "[a|%7C]{1,6}", three in "[a|%7C]{1,6}", four in "[a|%7C]{1,6}") {
            let (a, b) = (named(&one, &two, "1"), named(&three, &four, "1"));
            let same = identity::name(&one) == identity::name(&three) && identity::street(&two) == identity::street(&four);
            prop_assert_eq!(a.natural(Who::Person) == b.natural(Who::Person), same);
        }
    }
}

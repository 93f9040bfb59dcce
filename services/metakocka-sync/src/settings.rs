//! What an operator may set.

use outbound::Url;

/// How contacts are carried.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Used by connections that name no `url` of their own.
    pub root: Url,
    /// Time-outs and settle times.
    pub client: metakocka::Settings,
    pub people: People,
    /// The link engine's: send window, reserve, re-checks.
    pub sync: sync::Settings,
}

impl Settings {
    /// Defaults for a root; [`metakocka::PRODUCTION_ROOT`] is the vendor's.
    pub fn new(root: Url) -> Self {
        Self {
            root,
            client: metakocka::Settings::default(),
            people: People::default(),
            sync: sync::Settings::default(),
        }
    }
}

/// What a person is at Metakocka. Persons as contact entries of their organization's partner get their place here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum People {
    /// A partner of its own, with `business_entity` false.
    #[default]
    OwnPartner,
}

//! Clients, simulators and sample data.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use metakocka::{
    AddressFields, AddressKind, ContactFields, MainAddress, Metakocka, NewPartner, PartnerKey,
    Settings, TaxNumber,
};
use outbound::address::Private;
use outbound::{Client, Url};
use secrecy::SecretString;
use simulators::metakocka::{ClockKind, Options, Readings, Simulator};

pub(crate) const COMPANY: &str = "4711";
pub(crate) const KEY: &str = "sim-key";

/// Longer than any look-up of the simulator lags.
pub(crate) const LAG: Duration = Duration::from_secs(60);

/// Of a Slovenian record.
pub(crate) fn tax(text: &str) -> Option<PartnerKey> {
    TaxNumber::read(text, "SI").and_then(PartnerKey::tax_number)
}

pub(crate) fn settings() -> Settings {
    Settings::default()
}

pub(crate) fn client(root: &str, key: &str, settings: Settings) -> Metakocka {
    let client = Client::new(outbound::Settings {
        private: Private::Allow,
        ..outbound::Settings::default()
    })
    .unwrap();
    Metakocka::new(
        &client,
        Url::parse(root).unwrap(),
        COMPANY,
        SecretString::from(key),
        settings,
    )
}

/// A simulator that refuses unknown fields, with a clock that stands, and a client of it.
pub(crate) async fn simulated(readings: Readings) -> (Simulator, Metakocka) {
    simulated_with(readings, settings()).await
}

pub(crate) async fn simulated_with(
    readings: Readings,
    settings: Settings,
) -> (Simulator, Metakocka) {
    let options = Options {
        readings,
        strict: true,
        clock: ClockKind::Manual("2026-01-15T09:00:00Z".parse().unwrap()),
        ..Options::default()
    };
    let simulator = Simulator::start(options).await.unwrap();
    let client = client(&simulator.base_url(), KEY, settings);
    (simulator, client)
}

pub(crate) fn both() -> [Readings; 2] {
    [Readings::kind(), Readings::nasty()]
}

/// Soon enough for any test.
pub(crate) fn window() -> Instant {
    Instant::now() + outbound::WINDOW
}

pub(crate) fn beekeeper() -> NewPartner {
    NewPartner {
        customer: "Čebelarstvo Žužek d.o.o.".to_owned(),
        business_entity: true,
        taxpayer: true,
        buyer: true,
        tax_id_number: Some("SI99999901".to_owned()),
        address: MainAddress {
            street: "Češnjeva ulica 7".to_owned(),
            post_number: "8210".to_owned(),
            place: "Trebnje".to_owned(),
            province: "Dolenjska".to_owned(),
            country: "Slovenija".to_owned(),
        },
        contact: Some(spela()),
        further_address: Some(pasture()),
        ..NewPartner::default()
    }
}

pub(crate) fn spela() -> ContactFields {
    ContactFields {
        name: Some("Špela Žužek".to_owned()),
        email: Some("spela@zuzek.example".to_owned()),
        gsm: Some("+386 40 000 111".to_owned()),
        ..ContactFields::default()
    }
}

pub(crate) fn pasture() -> AddressFields {
    AddressFields {
        kind: AddressKind::Delivery,
        street: "Panjska pot 2".to_owned(),
        post_number: "8210".to_owned(),
        city: "Trebnje".to_owned(),
        country: "Slovenija".to_owned(),
        ..AddressFields::default()
    }
}

pub(crate) fn names(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

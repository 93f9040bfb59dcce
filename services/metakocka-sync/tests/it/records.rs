//! Whatever is written reads back equal: no call is missing afterwards.

use std::time::{Duration, Instant};

use metakocka::{Metakocka, MkId};
use metakocka_sync::{PartnerTarget, View, content};
use outbound::address::Private;
use outbound::{Client, Url};
use proptest::prelude::*;
use secrecy::SecretString;
use simulators::metakocka::{Options, Readings, Simulator};
use sync::{Call, Content, Target as _};

use crate::stage::{COMPANY, KEY, both};

const WINDOW: Duration = Duration::from_secs(5);
/// Contacts per case: starting a simulator is the larger part of one.
const CASES: u32 = 24;

fn words() -> impl Strategy<Value = String> {
    prop_oneof![
        "[A-ZČŠŽĐa-zčšžđ]{1,8}( [A-Za-zčšžđ.0-9]{1,6}){0,3}",
        // Decomposed letters, other spaces, quotes.
        "[aeščž\u{30c} \u{a0}\"'&<>,.-]{1,12}x",
    ]
}

fn field<T: std::fmt::Debug + Clone>(
    value: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = event::Field<T>> {
    prop_oneof![
        1 => Just(event::Field::Absent),
        1 => Just(event::Field::Cleared),
        4 => value.prop_map(event::Field::Value),
    ]
}

fn address() -> impl Strategy<Value = event::Address> {
    let kind = prop_oneof![
        Just(event::AddressKind::Main),
        Just(event::AddressKind::Billing),
        Just(event::AddressKind::Delivery),
        Just(event::AddressKind::Other),
    ];
    let country = prop_oneof![
        Just("SI"),
        Just("Slovenia"),
        Just("HR"),
        Just("Atlantis"),
        Just("")
    ];
    (
        kind,
        prop_oneof![words(), Just(String::new())],
        "[0-9]{0,4}",
        words(),
        prop::option::of(words()),
        country,
    )
        .prop_map(
            |(kind, street, postal_code, city, province, country)| event::Address {
                kind,
                street,
                postal_code,
                city,
                province,
                country: country.to_owned(),
            },
        )
}

fn contact() -> impl Strategy<Value = event::Contact> {
    let kind = prop_oneof![
        Just(event::ContactKind::Person),
        Just(event::ContactKind::Organization)
    ];
    let emails = prop::collection::vec(
        ("[A-Za-z0-9.]{1,8}@[a-z]{1,6}\\.example", any::<bool>()).prop_map(|(value, primary)| {
            event::Email {
                value,
                label: None,
                primary,
            }
        }),
        0..3,
    );
    let phones = prop::collection::vec(
        ("[+0-9 /()-]{3,14}", prop::option::of("mobile|work|GSM")).prop_map(|(raw, label)| {
            event::Phone {
                value_e164: None,
                raw,
                label,
            }
        }),
        0..3,
    );
    (
        kind,
        words(),
        field("(SI)?[ ]?[0-9]{8}|[A-Z]{2}[0-9.-]{4,10}"),
        field("[0-9]{0,10}"),
        field(emails),
        field(phones),
        field(prop::collection::vec(address(), 0..5)),
    )
        .prop_map(
            |(kind, name, tax_id, registration_number, emails, phones, addresses)| event::Contact {
                id: "1".to_owned(),
                kind,
                name,
                tax_id,
                registration_number,
                emails,
                phones,
                addresses,
                organization: event::Field::Absent,
                language: event::Field::Absent,
            },
        )
}

fn client(simulator: &Simulator) -> Metakocka {
    let client = Client::new(outbound::Settings {
        private: Private::Allow,
        ..outbound::Settings::default()
    });
    Metakocka::new(
        &client.unwrap(),
        Url::parse(&simulator.base_url()).unwrap(),
        COMPANY,
        SecretString::from(KEY),
        metakocka::Settings::default(),
    )
}

/// Everything the content wants is there: as the engine would compare it after a lost answer.
async fn written_and_read(readings: Readings, wanted: &Content) {
    let simulator = Simulator::start(Options {
        readings,
        strict: true,
        ..Options::default()
    })
    .await
    .unwrap();
    let client = client(&simulator);
    let target = PartnerTarget::new(client.clone(), 1, View::of_content(wanted));
    let parts = target.parts_in_create(wanted);
    let fields = wanted
        .fields
        .iter()
        .filter(|(_, value)| value.is_some())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let create = Call::Create {
        fields,
        parts: parts.clone(),
    };
    let answer = target.send(&create, WINDOW).await.unwrap();
    let mut told = answer.part_ids.clone();
    for part in wanted.parts.values().flatten() {
        if told.iter().all(|(_, known)| known != part) {
            let append = Call::AppendPart {
                id: answer.target_id.clone(),
                part: part.clone(),
            };
            told.extend(target.send(&append, WINDOW).await.unwrap().part_ids);
        }
    }
    let record = target.read(&answer.target_id).await.unwrap().unwrap();
    assert!(record.shows(&wanted.fields), "{wanted:#?}\n{record:#?}");
    for (id, part) in &told {
        let shown = record.parts.iter().find(|shown| shown.id == *id);
        assert_eq!(shown.map(|shown| &shown.part), Some(part));
    }
    for part in wanted.parts.values().flatten() {
        assert!(told.iter().any(|(_, known)| known == part), "{part:?}");
    }
    // As anybody else would see it, too: nothing depends on the spelling we asked for.
    let id = MkId::new(&answer.target_id).unwrap();
    let partner = client.partner(&id).await.unwrap().unwrap();
    let bare = View::of_content(&Content::default()).record(&partner);
    assert_eq!(bare, record);
    let begun = Instant::now();
    assert!(target.limited().is_none_or(|until| until <= begun));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_reads_back_equal(contact in contact(), nasty: bool) {
        let wanted = content(&contact).unwrap();
        let readings = both()[usize::from(nasty)].clone();
        let readings = Readings { index_lag_seconds: 0, ..readings };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(written_and_read(readings, &wanted));
    }
}

proptest! {
    #[test]
    fn the_same_contact_means_the_same_and_has_keys(contact in contact()) {
        let once = content(&contact).unwrap();
        prop_assert_eq!(&once, &content(&contact).unwrap());
        prop_assert!(!once.keys.is_empty());
        let own = if contact.kind == event::ContactKind::Person { "person|" } else { "organization|" };
        prop_assert!(once.keys.iter().all(|key| key.0.starts_with(own)));
        for absent in [(contact.tax_id.is_absent(), "tax_id_number"), (contact.addresses.is_absent(), "street")] {
            prop_assert_eq!(absent.0, !once.fields.contains_key(absent.1));
        }
    }
}

//! Nothing of an earlier state stays behind: the partner after any change is the one made new from that state, and
//! entries of a list that show nothing change nothing. Further addresses that nothing wants any more stay, because
//! Metakocka removes none.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use simulators::metakocka::{AddressType, Call, Fault, Partner, Readings};

use crate::mapping::mapped;
use crate::readings::switched;
use crate::stage::{Stage, both, saved};

/// Sequences of states, each once through the worker and its last one once more at an empty company.
const CASES: u32 = 16;

fn contact(kind: &str, members: Value) -> Value {
    let mut contact = json!({
        "id": "1", "kind": kind, "name": "Žiga Kos", "tax_id": null, "registration_number": null, "emails": [], "phones": [],
        "addresses": []
    });
    for (name, value) in members.as_object().unwrap() {
        contact[name] = value.clone();
    }
    contact
}

fn main_in(country: &str) -> Value {
    json!({"kind": "main", "street": "Ringstraße 1", "postal_code": "1010", "city": "Dunaj", "country": country})
}

/// Everything but ids: scalars, the main address, contacts that say more than a name.
fn shown(partner: &Partner) -> Value {
    let main = partner
        .addresses
        .iter()
        .find(|address| address.address_type == AddressType::Billing)
        .map(|at| {
            [
                &at.street,
                &at.post_number,
                &at.city,
                &at.province,
                &at.country,
            ]
            .map(Clone::clone)
        });
    let contacts: BTreeSet<[&String; 4]> = partner
        .contacts
        .iter()
        .map(|contact| [&contact.name, &contact.email, &contact.gsm, &contact.phone])
        .filter(|[_, reached @ ..]| reached.iter().any(|text| !text.is_empty()))
        .collect();
    json!({
        "customer": partner.customer,
        "business_entity": partner.business_entity,
        "taxpayer": partner.taxpayer,
        "foreign_county": partner.foreign_county,
        "tax_id_number": partner.tax_id_number,
        "registration_number": partner.registration_number,
        "main": main,
        "contacts": contacts,
    })
}

fn further(partner: &Partner) -> BTreeSet<String> {
    let further = partner
        .addresses
        .iter()
        .filter(|address| address.address_type != AddressType::Billing);
    further
        .map(|at| {
            let kind = at.address_type.as_str();
            format!(
                "{kind}|{}|{}|{}|{}",
                at.street, at.post_number, at.city, at.country
            )
        })
        .collect()
}

/// The partner of a record that went through these states.
async fn after(readings: &Readings, states: &[Value]) -> Partner {
    let stage = Stage::new(readings.clone()).await;
    for (version, state) in (1..).zip(states) {
        stage.deliver_until_done(&saved(version, state)).await;
    }
    assert_eq!(stage.simulator.strict_violations(), []);
    stage.only_partner()
}

/// Both presets, clearing what is asked to be cleared: where that is not possible, what stays is told.
fn clearing() -> [Readings; 2] {
    both().map(|preset| switched(preset, "clearing", json!("clears")))
}

async fn nothing_is_left(readings: &Readings, states: &[Value]) {
    let changed = after(readings, states).await;
    let new = after(readings, &states[states.len() - 1..]).await;
    assert_eq!(shown(&changed), shown(&new), "{states:#?}");
    let (wanted, there) = (further(&new), further(&changed));
    assert!(wanted.is_subset(&there), "{wanted:?} {there:?} {states:#?}");
}

#[tokio::test]
async fn a_change_leaves_nothing_of_the_earlier_state() {
    let taxed = json!({"tax_id": "SI99999901"});
    let reached =
        json!({"emails": [{"value": "a@kos.example"}], "phones": [{"raw": "01 234 56 78"}]});
    let abroad = contact("organization", json!({"addresses": [main_in("AT")]}));
    for states in [
        [
            contact("organization", taxed.clone()),
            contact("person", taxed.clone()),
        ],
        [
            contact("organization", taxed),
            contact("organization", json!({})),
        ],
        [
            abroad.clone(),
            contact("organization", json!({"addresses": [main_in("")]})),
        ],
        [
            abroad.clone(),
            contact("organization", json!({"addresses": null})),
        ],
        [
            abroad,
            contact("organization", json!({"addresses": [main_in("SI")]})),
        ],
        [
            contact("person", json!({"phones": [{"raw": "01 234 56 78"}]})),
            contact(
                "person",
                json!({"phones": [{"raw": ""}, {"raw": "01 234 56 78"}]}),
            ),
        ],
        [
            contact("person", reached.clone()),
            contact("person", json!({"emails": null, "phones": null})),
        ],
        [
            contact("organization", reached),
            contact("organization", json!({"name": "Kos d.o.o."})),
        ],
    ] {
        for readings in clearing() {
            nothing_is_left(&readings, &states).await;
        }
    }
}

#[tokio::test]
async fn an_empty_entry_before_it_deletes_no_number_and_no_address() {
    let stage = Stage::new(Readings::kind()).await;
    let at_home = json!({"kind": "main", "street": "Pot 1", "postal_code": "1000", "city": "Ljubljana", "country": "SI"});
    let number = json!({"raw": "01 234 56 78"});
    let before = contact(
        "person",
        json!({"phones": [number], "addresses": [at_home]}),
    );
    let after = contact(
        "person",
        json!({
            "phones": [{"raw": ""}, number],
            "addresses": [{"kind": "main"}, {"kind": "main", "street": " ", "country": "AT"}, at_home]
        }),
    );
    stage.deliver_until_done(&saved(1, &before)).await;
    let end = stage.deliver(&saved(2, &after)).await;
    assert_eq!(end.word(), "ack unchanged");
    let partner = stage.only_partner();
    assert_eq!(partner.contacts[0].phone, "01 234 56 78");
    assert_eq!(partner.addresses[0].street, "Pot 1");
    assert!(!partner.foreign_county);
}

#[tokio::test]
async fn a_contact_that_was_emptied_is_used_again_and_costs_nothing_while_it_is_empty() {
    let reached = |mailbox: &str| contact("person", json!({"emails": [{"value": mailbox}]}));
    let stage = Stage::new(Readings::kind()).await;
    stage
        .deliver_until_done(&saved(1, &reached("a@kos.example")))
        .await;
    stage
        .deliver_until_done(&saved(2, &contact("person", json!({}))))
        .await;
    assert_eq!(stage.only_partner().contacts[0].email, "");
    let mark = stage.mark();
    let end = stage
        .deliver(&saved(3, &contact("person", json!({}))))
        .await;
    assert_eq!(end.word(), "ack unchanged");
    assert!(stage.calls_since(mark).is_empty());
    stage
        .deliver_until_done(&saved(4, &reached("b@kos.example")))
        .await;
    let contacts = stage.only_partner().contacts;
    assert_eq!(contacts.len(), 1);
    assert_eq!(contacts[0].email, "b@kos.example");
}

#[tokio::test]
async fn a_lost_answer_to_emptying_a_contact_empties_it_all_the_same() {
    for fault in [Fault::CommitThenDrop, Fault::Drop] {
        for readings in clearing() {
            let stage = Stage::new(readings).await;
            let reached = json!({"emails": [{"value": "a@kos.example"}], "phones": [{"raw": "01 234 56 78"}]});
            stage
                .deliver_until_done(&saved(1, &contact("person", reached)))
                .await;
            stage.fault(fault.clone(), Call::UpdatePartner);
            let bare = contact("person", json!({}));
            stage.deliver_until_done(&saved(2, &bare)).await;
            let contacts = stage.only_partner().contacts;
            assert_eq!(contacts.len(), 1);
            assert_eq!(
                [&contacts[0].email, &contacts[0].gsm, &contacts[0].phone],
                ["", "", ""]
            );
            assert_eq!(stage.open_effects().await, 0);
        }
    }
}

fn some<T: Clone + std::fmt::Debug + 'static>(
    values: Vec<T>,
    most: usize,
) -> impl Strategy<Value = Vec<T>> {
    prop::collection::vec(prop::sample::select(values), 0..=most)
}

/// What shows nothing, in any list.
const NOTHING: [&str; 7] = [
    "",
    " ",
    "\u{a0}\t",
    "\u{200b}",
    "\u{feff}\u{2060}",
    "\u{3164}",
    "\u{2800}",
];

fn emails() -> Vec<Value> {
    vec![
        json!({"value": "Ana@kos.example"}),
        json!({"value": "b@kos.example", "primary": true}),
        json!({"value": "c\u{200b}@kos.example", "label": "work", "primary": null}),
    ]
}

fn empty_emails() -> Vec<Value> {
    vec![
        json!({"value": "\u{200b}@\u{200b}"}),
        json!({"value": "\u{feff}@kos.example", "primary": true}),
    ]
}

fn phones() -> Vec<Value> {
    vec![
        json!({"raw": "01 234 56 78"}),
        json!({"raw": "02/345-67-89", "label": "work"}),
        json!({"raw": "040 111 222", "label": "Mobile"}),
        json!({"raw": "", "value_e164": "+38640333444", "label": "gsm"}),
    ]
}

fn empty_phones() -> Vec<Value> {
    let labels = [Value::Null, json!("mobile"), json!("work")];
    let texts = NOTHING.into_iter().chain(["-", " / "]);
    texts
        .flat_map(|raw| {
            labels
                .clone()
                .map(|label| json!({"raw": raw, "label": label}))
        })
        .collect()
}

fn addresses() -> Vec<Value> {
    vec![
        main_in("AT"),
        main_in("SI"),
        main_in(""),
        json!({"kind": "main", "country": "HR"}),
        json!({"kind": "billing", "street": "Ilica 1", "postal_code": "10000", "city": "Zagreb", "country": "Hrvaška"}),
        json!({"kind": "delivery", "street": "Panjska pot 2", "postal_code": "8210", "city": "Trebnje", "province": "Dolenjska"}),
        json!({"kind": "delivery", "street": "Žitna 9", "postal_code": "2000", "city": "Maribor", "country": "SI"}),
    ]
}

fn empty_addresses() -> Vec<Value> {
    let kinds = ["main", "billing", "delivery", "warehouse"];
    let texts = NOTHING.map(Value::from).into_iter().chain([Value::Null]);
    texts
        .flat_map(|text| {
            kinds.map(|kind| {
                json!({"kind": kind, "street": text, "postal_code": text, "city": text, "province": text, "country": text})
            })
        })
        .collect()
}

/// Of a publisher that manages everything always.
fn state() -> impl Strategy<Value = Value> {
    let all = |values: Vec<Value>, empty: Vec<Value>| [values, empty].concat();
    (
        prop::sample::select(vec!["organization", "person"]),
        prop::sample::select(vec!["Žiga Kos", "Kos d.o.o."]),
        prop::sample::select(vec![Value::Null, json!("SI99999901"), json!(" \u{200b}")]),
        prop::sample::select(vec![Value::Null, json!("6123456000"), json!("\u{feff}")]),
        some(all(emails(), empty_emails()), 3),
        some(all(phones(), empty_phones()), 3),
        some(all(addresses(), empty_addresses()), 3),
    )
        .prop_map(|(kind, name, tax_id, registration_number, emails, phones, addresses)| {
            contact(
                kind,
                json!({
                    "name": name, "tax_id": tax_id, "registration_number": registration_number, "emails": emails,
                    "phones": phones, "addresses": addresses
                }),
            )
        })
}

/// What the publisher manages besides the name; mostly everything.
fn managed() -> impl Strategy<Value = Vec<&'static str>> {
    const ALL: [&str; 5] = [
        "tax_id",
        "registration_number",
        "emails",
        "phones",
        "addresses",
    ];
    prop_oneof![
        Just(ALL.to_vec()),
        prop::sample::subsequence(ALL.to_vec(), 0..=ALL.len())
    ]
}

fn of(mut state: Value, managed: &[&str]) -> Value {
    let always = ["id", "kind", "name"];
    let members = state.as_object_mut().unwrap();
    members.retain(|name, _| always.contains(&name.as_str()) || managed.contains(&name.as_str()));
    state
}

#[test]
fn the_partner_after_any_change_is_the_one_made_new_from_that_state() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let config = ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let states = (
        prop::collection::vec(state(), 2..=4),
        managed(),
        any::<bool>(),
    );
    TestRunner::new(config)
        .run(&states, |(states, managed, nasty)| {
            let states: Vec<Value> = states
                .into_iter()
                .map(|state| of(state, &managed))
                .collect();
            let readings = &clearing()[usize::from(nasty)];
            runtime.block_on(nothing_is_left(readings, &states));
            Ok(())
        })
        .unwrap();
}

/// `list` with entries of `nothing` at these places.
fn between(list: &[Value], nothing: &[(usize, Value)]) -> Value {
    let mut list = list.to_vec();
    for (at, entry) in nothing {
        list.insert(at % (list.len() + 1), entry.clone());
    }
    json!(list)
}

fn nothing(values: Vec<Value>) -> impl Strategy<Value = Vec<(usize, Value)>> {
    prop::collection::vec((any::<usize>(), prop::sample::select(values)), 0..4)
}

proptest! {
    #[test]
    fn entries_that_show_nothing_change_nothing(
        kind in prop::sample::select(vec!["organization", "person"]),
        lists in (some(emails(), 3), some(phones(), 3), some(addresses(), 3)),
        empty in (nothing(empty_emails()), nothing(empty_phones()), nothing(empty_addresses())),
    ) {
        let (emails, phones, addresses) = lists;
        let plain = contact(kind, json!({"emails": emails, "phones": phones, "addresses": addresses}));
        let noisy = contact(kind, json!({
            "emails": between(&emails, &empty.0), "phones": between(&phones, &empty.1), "addresses": between(&addresses, &empty.2)
        }));
        prop_assert_eq!(mapped(&noisy).unwrap(), mapped(&plain).unwrap());
    }

    #[test]
    fn what_is_managed_is_all_there_in_every_state(one in state(), other in state(), managed in managed()) {
        let names = |state: Value| -> Vec<String> { mapped(&of(state, &managed)).unwrap().fields.into_keys().collect() };
        prop_assert_eq!(names(one), names(other));
    }
}

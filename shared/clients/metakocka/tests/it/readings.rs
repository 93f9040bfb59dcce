//! The rows of contract §12 that touch partners: the simulator's switch for each and the test that needs the defence.
//!
//! | row | switch | test |
//! |---|---|---|
//! | one-element lists | `collapse_single_lists` | `what_is_added_is_read_back_as_sent` |
//! | empty or null filter value | `empty_filter` | `each_look_up_sends_one_filter_that_says_something` |
//! | matching | `match_tax`, `match_email`, `match_name` | `…_found_exactly_…`, `a_name_counts_only_with_its_address`, `several_exact_hits_are_all_told` |
//! | paging past the end | `paging_past_end`, `partner_list_count` | `pages_are_read_to_the_end_however_the_end_is_told` |
//! | several filters | `several_filters` | `each_look_up_sends_one_filter_that_says_something` |
//! | clearing a field | `clearing` | `a_text_that_cannot_be_cleared_shows_in_the_read_back` |
//! | top-level address | `top_level_address`, `update_answer` | `a_top_level_address_is_sent_whole` |
//! | quota answer | `quota_answer`, `quota_retry_after_seconds` | `a_quota_is_a_cooldown_in_either_answer` |
//! | what is serialised | `lane` | `calls_that_run_one_after_another_never_overlap` |
//! | lost answer | faults, `index_lag_seconds` | `a_lost_answer_…`, `a_write_that_may_come_late_is_ambiguous_too` |
//! | code 1 on a write | `code_1_on_write` | `code_1_on_a_write_proves_nothing_either_way` |

use std::time::Duration;

use metakocka::{Error, FilterText, MkId, NewPartner, PartnerKey, Stored};
use simulators::metakocka::core::Call;
use simulators::metakocka::core::{
    DeletedInIndex, KeptForm, Lane, Matching, PartnerListCount, PastEnd, QuotaAnswer,
};
use simulators::metakocka::{
    ClockKind, Fault, LogFilter, Options, PartnerEdit, PersonAddress, PersonContact, Readings,
    ScriptedFault, Simulator,
};

use crate::lent::lent;
use crate::setup::{
    COMPANY, KEY, LAG, beekeeper, both, client, names, settings, simulated, tax, window,
};

fn by_hand(simulator: &Simulator, edit: PartnerEdit) -> MkId {
    let id = simulator
        .with_company(COMPANY, |company, now| company.person_adds(edit, now))
        .unwrap()
        .unwrap();
    MkId::new(&id.to_string()).unwrap()
}

fn named(customer: &str) -> PartnerEdit {
    PartnerEdit {
        customer: Some(customer.to_owned()),
        ..PartnerEdit::default()
    }
}

fn with_tax(customer: &str, tax: &str) -> PartnerEdit {
    PartnerEdit {
        tax_id_number: Some(tax.to_owned()),
        addresses: Some(vec![in_country("Slovenija")]),
        ..named(customer)
    }
}

fn in_country(country: &str) -> PersonAddress {
    PersonAddress {
        street: "Pot 1".to_owned(),
        country: country.to_owned(),
        ..PersonAddress::default()
    }
}

fn with_email(customer: &str, email: &str) -> PartnerEdit {
    PartnerEdit {
        contacts: Some(vec![PersonContact {
            email: email.to_owned(),
            ..PersonContact::default()
        }]),
        ..named(customer)
    }
}

fn at(customer: &str, street: &str, post_number: &str) -> PartnerEdit {
    PartnerEdit {
        addresses: Some(vec![PersonAddress {
            street: street.to_owned(),
            post_number: post_number.to_owned(),
            ..PersonAddress::default()
        }]),
        ..named(customer)
    }
}

async fn found(client: &metakocka::Metakocka, key: Option<PartnerKey>) -> Vec<MkId> {
    let found = client.find_partners(&key.unwrap()).await.unwrap();
    found.into_iter().map(|partner| partner.mk_id).collect()
}

const MATCHINGS: [Matching; 4] = [
    Matching::PARTIAL_RAW,
    Matching::PARTIAL_NORMALISED,
    Matching::EXACT_RAW,
    Matching::EXACT_NORMALISED,
];

#[tokio::test]
async fn tax_numbers_are_found_exactly_in_either_spelling_under_every_matching() {
    for match_tax in MATCHINGS {
        let (simulator, client) = simulated(Readings {
            match_tax,
            ..Readings::nasty()
        })
        .await;
        let prefixed = by_hand(&simulator, with_tax("A", "SI99999901"));
        let bare = by_hand(&simulator, with_tax("B", "99999902"));
        by_hand(&simulator, with_tax("longer", "SI999999011"));
        by_hand(&simulator, with_tax("foreign", "HR99999901"));
        simulator.advance(LAG).unwrap();
        for text in ["SI99999901", "99999901", "si 9999 9901"] {
            let key = tax(text);
            assert_eq!(
                found(&client, key).await,
                std::slice::from_ref(&prefixed),
                "{match_tax:?}"
            );
        }
        for text in ["SI99999902", "99999902"] {
            let key = tax(text);
            assert_eq!(
                found(&client, key).await,
                std::slice::from_ref(&bare),
                "{match_tax:?}"
            );
        }
        assert_eq!(found(&client, tax("SI99999903")).await, []);
    }
}

#[tokio::test]
async fn mailboxes_are_found_exactly_under_every_matching() {
    for match_email in MATCHINGS {
        let (simulator, client) = simulated(Readings {
            match_email,
            ..Readings::nasty()
        })
        .await;
        let ana = by_hand(&simulator, with_email("Ana", "ana@x.example"));
        by_hand(&simulator, with_email("Ivana", "ivana@x.example"));
        let capital = by_hand(&simulator, with_email("Bor", "Bor@X.example"));
        simulator.advance(LAG).unwrap();
        let key = PartnerKey::email("ana@x.example");
        assert_eq!(
            found(&client, key).await,
            std::slice::from_ref(&ana),
            "{match_email:?}"
        );
        let key = PartnerKey::email("Ana@x.example");
        assert_eq!(
            found(&client, key).await,
            std::slice::from_ref(&ana),
            "{match_email:?}"
        );
        let key = PartnerKey::email("Bor@X.example");
        assert_eq!(found(&client, key).await, [capital], "{match_email:?}");
    }
}

#[tokio::test]
async fn a_name_counts_only_with_its_address() {
    for readings in both() {
        let (simulator, client) = simulated(readings).await;
        let wanted = by_hand(&simulator, at("Jana Novak", "Dolga ul. 5", "1000"));
        by_hand(&simulator, at("Jana Novak", "Dolga ulica 7", "1000"));
        by_hand(&simulator, at("Jana Novak", "Dolga ul. 5", "2000"));
        by_hand(&simulator, at("Jana Novak s.p.", "Dolga ul. 5", "1000"));
        simulator.advance(LAG).unwrap();
        let key = PartnerKey::name_and_address("jana  NOVAK", "DOLGA UL 5", "SI-1000");
        assert_eq!(found(&client, key).await, [wanted]);
    }
}

#[tokio::test]
async fn several_exact_hits_are_all_told() {
    for readings in both() {
        let (simulator, client) = simulated(readings).await;
        let first = by_hand(&simulator, with_tax("A", "SI99999901"));
        let second = by_hand(&simulator, with_tax("B", "99999901"));
        simulator.advance(LAG).unwrap();
        let both_of_them = found(&client, tax("SI99999901")).await;
        assert_eq!(both_of_them.len(), 2);
        assert!(both_of_them.contains(&first) && both_of_them.contains(&second));
    }
}

#[tokio::test]
async fn pages_are_read_to_the_end_however_the_end_is_told() {
    for partner_list_count in [PartnerListCount::Page, PartnerListCount::Total] {
        for paging_past_end in [PastEnd::Code2, PastEnd::EmptyList] {
            // A full last page, and one that isn't.
            for others in [metakocka::PAGE * 2 - 1, metakocka::PAGE * 2 + 3] {
                let (simulator, client) = simulated(Readings {
                    partner_list_count,
                    paging_past_end,
                    ..Readings::nasty()
                })
                .await;
                for number in 0..others {
                    by_hand(
                        &simulator,
                        at("Janez Novak", &format!("Pot {number}"), "1000"),
                    );
                }
                let last = by_hand(&simulator, at("Janez Novak", "Zadnja 1", "1000"));
                simulator.advance(LAG).unwrap();
                let key = PartnerKey::name_and_address("Janez Novak", "Zadnja 1", "1000");
                assert_eq!(found(&client, key).await, [last]);
            }
        }
    }
}

#[tokio::test]
async fn each_look_up_sends_one_filter_that_says_something() {
    for readings in both() {
        let (simulator, client) = simulated(readings).await;
        by_hand(&simulator, with_tax("Somebody", "SI11111111"));
        simulator.advance(LAG).unwrap();
        for nothing in ["", "  ", "-"] {
            assert_eq!(tax(nothing), None);
            assert_eq!(PartnerKey::email(nothing), None);
            assert_eq!(PartnerKey::name_and_address("", nothing, nothing), None);
            assert_eq!(FilterText::new(nothing), None);
            assert_eq!(MkId::new(nothing.trim_matches('-')), None);
        }
        found(&client, tax("SI99999901")).await;
        found(&client, PartnerKey::email("A@x.example")).await;
        found(&client, PartnerKey::name_and_address("A", "Pot 1", "1000")).await;
        client.check_credentials().await.unwrap();
        let asked = simulator.log(&LogFilter::call(Call::GetPartner));
        assert_eq!(asked.len(), 2 + 2 + 1 + 1);
        for entry in asked {
            let filters: Vec<_> = entry
                .body
                .as_object()
                .unwrap()
                .iter()
                .filter(|(name, _)| name.starts_with("partner_"))
                .collect();
            assert_eq!(filters.len(), 1, "{}", entry.body);
            assert!(!filters[0].1.as_str().unwrap().trim().is_empty());
        }
        assert_eq!(simulator.strict_violations(), []);
    }
}

#[tokio::test]
async fn a_read_by_id_is_exact_and_knows_who_is_gone() {
    for deleted_in_index in [
        DeletedInIndex::Gone,
        DeletedInIndex::AfterLag,
        DeletedInIndex::Stays,
    ] {
        let (simulator, client) = simulated(Readings {
            deleted_in_index,
            ..Readings::nasty()
        })
        .await;
        let id = by_hand(&simulator, with_tax("A", "SI99999901"));
        assert!(
            client.partner(&id).await.unwrap().is_some(),
            "a read by id does not lag"
        );
        simulator.advance(LAG).unwrap();
        simulator
            .with_company(COMPANY, |company, now| {
                company.person_deletes(id.as_str().parse().unwrap(), now)
            })
            .unwrap()
            .unwrap();
        assert_eq!(client.partner(&id).await, Ok(None));
        let shorter = MkId::new(&id.as_str()[..9]).unwrap();
        assert_eq!(client.partner(&shorter).await, Ok(None));
    }
}

#[tokio::test]
async fn a_quota_is_a_cooldown_in_either_answer() {
    for (quota_answer, quota_retry_after_seconds, expected) in [
        (QuotaAnswer::Code5, None, 60),
        (QuotaAnswer::Http429, None, 60),
        (QuotaAnswer::Http429, Some(7), 7),
    ] {
        let (simulator, client) = simulated(Readings {
            quota_answer,
            quota_retry_after_seconds,
            ..Readings::nasty()
        })
        .await;
        simulator
            .fault(ScriptedFault::new(Fault::Quota).times(2))
            .unwrap();
        for error in [
            client.check_credentials().await.unwrap_err(),
            client
                .add_partner(&beekeeper(), window())
                .await
                .unwrap_err(),
        ] {
            match &error {
                Error::Quota { retry_after, .. } => {
                    assert_eq!(*retry_after, Duration::from_secs(expected));
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(error.stored(), Stored::Nothing);
        }
    }
}

#[tokio::test]
async fn credentials_are_checked_with_one_call_that_stores_nothing() {
    for readings in both() {
        let (simulator, good) = simulated(readings).await;
        good.check_credentials().await.unwrap();
        let wrong = client(&simulator.base_url(), "wrong-key-0815", settings());
        let error = wrong.check_credentials().await.unwrap_err();
        assert!(matches!(error, Error::Credentials { .. }), "{error:?}");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("wrong-key-0815"), "{shown}");
        assert!(simulator.partners(COMPANY).unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_root_without_the_api_is_named_as_such() {
    let (simulator, _) = simulated(Readings::kind()).await;
    let elsewhere = format!("{}v1/json/", simulator.base_url());
    let error = client(&elsewhere, KEY, settings())
        .check_credentials()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NoSuchCall { .. }), "{error:?}");
}

#[tokio::test]
async fn calls_that_run_one_after_another_never_overlap() {
    for (one_at_a_time, overlap) in [(names(&["get_partner"]), false), (names(&["search"]), true)] {
        let mut settings = settings();
        settings.one_at_a_time = one_at_a_time;
        let options = Options {
            readings: Readings {
                lane: Lane::SearchOnly,
                ..Readings::kind()
            },
            clock: ClockKind::Real,
            ..Options::default()
        };
        let simulator = Simulator::start(options).await.unwrap();
        let slow = Fault::Slow {
            ms: 50,
            commit: simulators::metakocka::CommitPoint::AtEnd,
        };
        simulator
            .fault(ScriptedFault::new(slow).on(Call::GetPartner).always())
            .unwrap();
        let client = client(&simulator.base_url(), KEY, settings).with_permit_pool(lent(4));
        let calls: Vec<_> = (0..4)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { client.check_credentials().await })
            })
            .collect();
        for call in calls {
            call.await.unwrap().unwrap();
        }
        let mut times: Vec<_> = simulator
            .log(&LogFilter::default())
            .into_iter()
            .map(|entry| (entry.at, entry.answered_at.unwrap()))
            .collect();
        times.sort_unstable();
        let overlapping = times.windows(2).any(|two| two[1].0 < two[0].1);
        assert_eq!(overlapping, overlap);
    }
}

#[tokio::test]
async fn people_and_companies_without_contacts_are_decoded() {
    for readings in both() {
        let (simulator, client) = simulated(readings).await;
        let id = by_hand(&simulator, named("Samo Ime"));
        let partner = client.partner(&id).await.unwrap().unwrap();
        assert_eq!(partner.customer.as_deref(), Some("Samo Ime"));
        assert_eq!((partner.contacts.len(), partner.tax_id_number), (0, None));
        let bare = NewPartner {
            customer: "Brez Naslova".to_owned(),
            ..NewPartner::default()
        };
        let added = client.add_partner(&bare, window()).await.unwrap();
        assert!(client.partner(&added.mk_id).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_new_partner_is_found_once_look_ups_have_caught_up() {
    for readings in both() {
        let (simulator, client) = simulated(readings).await;
        let id = client
            .add_partner(&beekeeper(), window())
            .await
            .unwrap()
            .mk_id;
        simulator.advance(LAG).unwrap();
        let keys = [
            tax("SI99999901"),
            PartnerKey::email("spela@zuzek.example"),
            PartnerKey::name_and_address("Čebelarstvo Žužek d.o.o.", "Češnjeva ulica 7", "8210"),
        ];
        for key in keys {
            assert_eq!(found(&client, key).await, std::slice::from_ref(&id));
        }
    }
}

#[test]
fn the_presets_differ_where_these_tests_rely_on_it() {
    let [kind, nasty] = both();
    assert_ne!(kind.collapse_single_lists, nasty.collapse_single_lists);
    assert_ne!(kind.province_key, nasty.province_key);
    assert_ne!(kind.update_answer, nasty.update_answer);
    assert_ne!(kind.booleans, nasty.booleans);
    assert_eq!(nasty.match_tax.text, KeptForm::Raw);
}

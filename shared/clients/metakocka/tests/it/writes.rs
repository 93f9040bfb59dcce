//! Adding and changing partners: what is stored, and what an unclear answer means.

use metakocka::{
    AddressFields, AddressKind, ContactFields, Doubt, Error, MainAddress, MainFields, Metakocka,
    MkId, NewPartner, PartnerUpdate, Stored,
};
use simulators::metakocka::core::Call;
use simulators::metakocka::{Fault, LateAnswer, LogFilter, Readings, ScriptedFault, Simulator};

use crate::setup::{
    COMPANY, LAG, beekeeper, both, pasture, settings, simulated, simulated_with, spela, tax, window,
};

fn change(main: MainFields) -> PartnerUpdate {
    PartnerUpdate::Change {
        main,
        contacts: vec![],
        addresses: vec![],
    }
}

async fn added(client: &Metakocka) -> MkId {
    client
        .add_partner(&beekeeper(), window())
        .await
        .unwrap()
        .mk_id
}

fn stored(simulator: &Simulator) -> usize {
    simulator.partners(COMPANY).unwrap().len()
}

fn calls(simulator: &Simulator, call: Call) -> usize {
    simulator.log(&LogFilter::call(call)).len()
}

#[tokio::test]
async fn what_is_added_is_read_back_as_sent() {
    for readings in both() {
        let (simulator, client) = simulated(readings).await;
        let answer = client.add_partner(&beekeeper(), window()).await.unwrap();
        assert_eq!(answer.addresses.len(), 2);
        assert!(answer.mk_contact_id.is_some());

        let partner = client.partner(&answer.mk_id).await.unwrap().unwrap();
        assert_eq!(
            partner.customer.as_deref(),
            Some("Čebelarstvo Žužek d.o.o.")
        );
        assert_eq!(partner.tax_id_number.as_deref(), Some("SI99999901"));
        assert_eq!(
            (partner.business_entity, partner.buyer, partner.foreign),
            (Some(true), Some(true), Some(false))
        );
        assert!(partner.count_code.is_some());
        let billing = partner.billing_address().unwrap();
        assert_eq!(billing.kind, AddressKind::Billing);
        assert_eq!(billing.city.as_deref(), Some("Trebnje"));
        assert_eq!(billing.province.as_deref(), Some("Dolenjska"));
        assert_eq!(partner.addresses[1].signature(), pasture().signature());
        assert_eq!(partner.contacts.len(), 1);
        assert_eq!(partner.contacts[0].signature(), spela().signature());
        assert_eq!(simulator.strict_violations(), []);
    }
}

#[tokio::test]
async fn appending_twice_appends_twice_and_a_change_by_id_does_not() {
    for readings in both() {
        let (simulator, client) = simulated(readings).await;
        let id = added(&client).await;
        let before = client.partner(&id).await.unwrap().unwrap();
        let warehouse = ContactFields {
            name: Some("Đuro Šimić".to_owned()),
            email: Some("skladisce@zuzek.example".to_owned()),
            ..ContactFields::default()
        };
        let append = PartnerUpdate::AppendContact {
            address: before.addresses[1].mk_id.clone(),
            contact: warehouse.clone(),
        };
        client.update_partner(&id, &append, window()).await.unwrap();
        let append = PartnerUpdate::AppendAddress {
            address: AddressFields {
                kind: AddressKind::BusinessUnit,
                ..pasture()
            },
        };
        client.update_partner(&id, &append, window()).await.unwrap();
        let after = client.partner(&id).await.unwrap().unwrap();
        assert_eq!((after.contacts.len(), after.addresses.len()), (2, 3));
        assert_eq!(after.contacts[1].signature(), warehouse.signature());
        assert_eq!(after.addresses[2].kind, AddressKind::BusinessUnit);

        let change = PartnerUpdate::Change {
            main: MainFields::default(),
            contacts: vec![(
                after.contacts[1].mk_id.clone(),
                ContactFields {
                    phone: Some("01 000 00 01".to_owned()),
                    ..ContactFields::default()
                },
            )],
            addresses: vec![(
                after.addresses[2].mk_id.clone(),
                AddressFields {
                    city: "Mirna".to_owned(),
                    ..pasture()
                },
            )],
        };
        for _ in 0..2 {
            client.update_partner(&id, &change, window()).await.unwrap();
        }
        let changed = client.partner(&id).await.unwrap().unwrap();
        assert_eq!((changed.contacts.len(), changed.addresses.len()), (2, 3));
        assert_eq!(changed.contacts[1].phone.as_deref(), Some("01 000 00 01"));
        assert_eq!(
            changed.contacts[1].email.as_deref(),
            Some("skladisce@zuzek.example"),
            "what isn't sent stays"
        );
        assert_eq!(changed.addresses[2].city.as_deref(), Some("Mirna"));
        assert_eq!(simulator.strict_violations(), []);
    }
}

#[tokio::test]
async fn a_top_level_address_is_sent_whole() {
    for readings in both() {
        let (_simulator, client) = simulated(readings).await;
        let id = added(&client).await;
        let moved = MainAddress {
            street: "Glavni trg 1".to_owned(),
            post_number: "8000".to_owned(),
            place: "Novo mesto".to_owned(),
            province: String::new(),
            country: "Slovenija".to_owned(),
        };
        let update = change(MainFields {
            address: Some(moved),
            ..MainFields::default()
        });
        // The answer may still show the old address; what is read afterwards counts.
        client.update_partner(&id, &update, window()).await.unwrap();
        let partner = client.partner(&id).await.unwrap().unwrap();
        let billing = partner.billing_address().unwrap();
        assert_eq!(billing.street.as_deref(), Some("Glavni trg 1"));
        assert_eq!(billing.post_number.as_deref(), Some("8000"));
        assert_eq!(billing.city.as_deref(), Some("Novo mesto"));
        assert_eq!(partner.addresses.len(), 2);
    }
}

#[tokio::test]
async fn a_text_that_cannot_be_cleared_shows_in_the_read_back() {
    for (readings, left) in [
        (Readings::kind(), None),
        (Readings::nasty(), Some("SI99999901")),
    ] {
        let (_simulator, client) = simulated(readings).await;
        let id = added(&client).await;
        let update = change(MainFields {
            tax_id_number: Some(String::new()),
            ..MainFields::default()
        });
        client.update_partner(&id, &update, window()).await.unwrap();
        let partner = client.partner(&id).await.unwrap().unwrap();
        assert_eq!(partner.tax_id_number.as_deref(), left);
    }
}

#[tokio::test]
async fn a_lost_answer_of_a_write_is_ambiguous_and_found_by_its_key() {
    for readings in both() {
        for fault in [
            Fault::CommitThenDrop,
            Fault::CommitThenReset,
            Fault::CutAnswer,
            Fault::Garbled,
            Fault::Code1Stored,
        ] {
            let (simulator, client) = simulated(readings.clone()).await;
            let named = fault.name();
            simulator
                .fault(ScriptedFault::new(fault).on(Call::AddPartner))
                .unwrap();
            let error = client
                .add_partner(&beekeeper(), window())
                .await
                .unwrap_err();
            assert_eq!(error.stored(), Stored::Unknown, "{named}: {error}");
            assert!(matches!(error, Error::Ambiguous { .. }));
            assert_eq!(
                calls(&simulator, Call::AddPartner),
                1,
                "{named}: no blind repeat"
            );
            assert_eq!(stored(&simulator), 1);
            simulator.advance(LAG).unwrap();
            let key = tax("SI99999901").unwrap();
            assert_eq!(
                client.find_partners(&key).await.unwrap().len(),
                1,
                "{named}"
            );
        }
    }
}

#[tokio::test]
async fn a_write_that_may_come_late_is_ambiguous_too() {
    for readings in both() {
        for answer in [
            LateAnswer::Error,
            LateAnswer::Code1,
            LateAnswer::Drop,
            LateAnswer::Reset,
        ] {
            let (simulator, client) = simulated(readings.clone()).await;
            let fault = Fault::CommitLate {
                after_ms: 48_000,
                answer,
            };
            simulator.fault(ScriptedFault::new(fault)).unwrap();
            let error = client
                .add_partner(&beekeeper(), window())
                .await
                .unwrap_err();
            assert!(
                matches!(error, Error::Ambiguous { .. }),
                "{answer:?}: {error}"
            );
            assert_eq!(stored(&simulator), 0);
            simulator
                .advance(client.settings().settle.add_partner)
                .unwrap();
            assert_eq!(stored(&simulator), 1, "well within the settle time");
        }
    }
}

#[tokio::test]
async fn no_answer_in_time_is_ambiguous() {
    let mut hasty = settings();
    hasty.write_timeout = std::time::Duration::from_millis(200);
    let (simulator, client) = simulated_with(Readings::kind(), hasty).await;
    let fault = Fault::CommitLate {
        after_ms: 48_000,
        answer: LateAnswer::Nothing,
    };
    simulator.fault(ScriptedFault::new(fault)).unwrap();
    let error = client
        .add_partner(&beekeeper(), window())
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::Ambiguous {
                doubt: Doubt::TimedOut,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn what_stored_nothing_for_sure_says_so() {
    for readings in both() {
        for fault in [
            Fault::Quota,
            Fault::Auth { code: 3 },
            Fault::Auth { code: 4 },
            Fault::Refuse {
                code: 2,
                text: "no".to_owned(),
            },
            Fault::Refuse {
                code: 5,
                text: "inventory closed".to_owned(),
            },
            Fault::Refuse {
                code: 6,
                text: "no".to_owned(),
            },
            Fault::Refuse {
                code: 8,
                text: "no".to_owned(),
            },
        ] {
            let (simulator, client) = simulated(readings.clone()).await;
            let named = format!("{fault:?}");
            simulator.fault(ScriptedFault::new(fault)).unwrap();
            let error = client
                .add_partner(&beekeeper(), window())
                .await
                .unwrap_err();
            assert_eq!(error.stored(), Stored::Nothing, "{named}: {error}");
            assert_eq!(stored(&simulator), 0);
        }
    }
}

#[tokio::test]
async fn an_unlisted_refusal_of_a_create_proves_nothing() {
    let (simulator, client) = simulated(Readings::nasty()).await;
    let fault = Fault::LyingRefusal {
        code: 4003,
        text: "error reading data".to_owned(),
    };
    simulator.fault(ScriptedFault::new(fault)).unwrap();
    let error = client
        .add_partner(&beekeeper(), window())
        .await
        .unwrap_err();
    assert_eq!(error.stored(), Stored::Unknown, "{error}");
    assert_eq!(stored(&simulator), 1);
}

#[tokio::test]
async fn errors_before_anything_is_stored_are_still_ambiguous_without_proof() {
    for fault in [
        Fault::Error { status: 502 },
        Fault::Maintenance,
        Fault::Drop,
        Fault::Reset,
        Fault::GarbledNotStored,
        Fault::Code1NotStored,
    ] {
        let (simulator, client) = simulated(Readings::kind()).await;
        let named = fault.name();
        simulator.fault(ScriptedFault::new(fault)).unwrap();
        let error = client
            .add_partner(&beekeeper(), window())
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Ambiguous { .. }), "{named}: {error}");
        assert_eq!(calls(&simulator, Call::AddPartner), 1);
    }
}

#[tokio::test]
async fn nothing_that_metakocka_might_cut_is_sent() {
    for readings in both() {
        let (simulator, client) = simulated(readings).await;
        let too_long = NewPartner {
            customer: "š".repeat(101),
            ..beekeeper()
        };
        let nameless = NewPartner {
            customer: " ".to_owned(),
            ..beekeeper()
        };
        for partner in [too_long, nameless] {
            let error = client.add_partner(&partner, window()).await.unwrap_err();
            assert!(
                matches!(
                    error,
                    Error::Invalid {
                        field: "customer",
                        ..
                    }
                ),
                "{error}"
            );
        }
        let fits = NewPartner {
            customer: "š".repeat(100),
            ..beekeeper()
        };
        let id = client.add_partner(&fits, window()).await.unwrap().mk_id;
        let nothing = change(MainFields::default());
        let error = client.update_partner(&id, &nothing, window()).await;
        assert!(matches!(error, Err(Error::Invalid { .. })));
        assert_eq!(calls(&simulator, Call::AddPartner), 1);
        assert_eq!(calls(&simulator, Call::UpdatePartner), 0);
    }
}

#[tokio::test]
async fn nothing_leaves_after_the_send_window() {
    let (simulator, client) = simulated(Readings::kind()).await;
    let error = client
        .add_partner(&beekeeper(), std::time::Instant::now())
        .await
        .unwrap_err();
    assert_eq!(error.stored(), Stored::Nothing, "{error}");
    assert_eq!(calls(&simulator, Call::AddPartner), 0);
}

#[tokio::test]
async fn code_1_on_a_write_proves_nothing_either_way() {
    for (readings, expected) in [(Readings::kind(), 0), (Readings::nasty(), 1)] {
        let (simulator, client) = simulated(readings).await;
        simulator.fault(ScriptedFault::new(Fault::Code1)).unwrap();
        let error = client
            .add_partner(&beekeeper(), window())
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                Error::Ambiguous {
                    doubt: Doubt::Code(_),
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(stored(&simulator), expected);
    }
}

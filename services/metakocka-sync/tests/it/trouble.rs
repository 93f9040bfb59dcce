//! Whatever the network and Metakocka do: one partner, the newest content, no part twice, and each error with the right
//! consequence.

use std::collections::VecDeque;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Value, json};
use simulators::metakocka::{
    Call, CommitPoint, Fault, LateAnswer, LogFilter, Outcome, RandomFault, Readings,
};
use store::{Scope, connections};
use testkit::{Contacts, wait_until};
use worker::Failure;
use worker::budget::{BudgetSpec, Window};

use crate::stage::{
    COMPANY, End, KEY, LAG, SETTLED, Stage, TENANT, Wanted, beekeeper, both, requested, saved,
};

/// Long enough for an answer on this machine.
const ANSWER: Duration = Duration::from_secs(20);

/// Everything after which nobody knows whether the call was done.
fn doubtful() -> Vec<Fault> {
    vec![
        Fault::Error { status: 502 },
        Fault::Maintenance,
        Fault::Code1,
        Fault::Code1Stored,
        Fault::Code1NotStored,
        Fault::Reset,
        Fault::Drop,
        Fault::CommitThenDrop,
        Fault::CommitThenReset,
        Fault::CutAnswer,
        Fault::Garbled,
        Fault::GarbledNotStored,
        late(LateAnswer::Error),
        late(LateAnswer::Drop),
        late(LateAnswer::Code1),
    ]
}

fn late(answer: LateAnswer) -> Fault {
    Fault::CommitLate {
        after_ms: 45_000,
        answer,
    }
}

fn renamed() -> Value {
    let mut contact = beekeeper();
    contact["name"] = json!("Čebelarstvo Žužek in hči d.o.o.");
    contact
}

fn with_warehouse() -> Value {
    let mut contact = beekeeper();
    let address = json!({"kind": "delivery", "street": "Skladiščna 3", "postal_code": "8000", "city": "Novo mesto", "country": "SI"});
    contact["addresses"].as_array_mut().unwrap().push(address);
    contact
}

#[tokio::test]
async fn a_lost_answer_to_a_create_makes_one_partner() {
    for readings in both() {
        for fault in doubtful() {
            let stage = Stage::new(readings.clone()).await;
            stage.fault(fault.clone(), Call::AddPartner);
            let end = stage.deliver(&saved(1, &beekeeper())).await;
            assert_eq!(end.word(), "transient unknown", "{fault:?}");
            stage.deliver_until_done(&saved(1, &beekeeper())).await;
            stage.advance(SETTLED).await;
            let partner = stage.only_partner();
            assert_eq!(partner.contacts.len(), 1, "{fault:?}");
            assert_eq!(partner.addresses.len(), 2, "{fault:?}");
            assert_eq!(stage.open_effects().await, 0, "{fault:?}");
        }
    }
}

#[tokio::test]
async fn the_next_version_after_a_lost_answer_makes_no_second_partner() {
    for readings in both() {
        for fault in [
            Fault::CommitThenDrop,
            Fault::Drop,
            late(LateAnswer::Nothing),
        ] {
            let stage = Stage::with(Wanted {
                readings: readings.clone(),
                write_timeout: Duration::from_millis(300),
                ..Wanted::default()
            })
            .await;
            stage.fault(fault.clone(), Call::AddPartner);
            let end = stage.deliver(&saved(1, &beekeeper())).await;
            assert_eq!(end.word(), "transient unknown", "{fault:?}");
            stage.deliver_until_done(&saved(2, &renamed())).await;
            stage.advance(SETTLED).await;
            assert_eq!(
                stage.only_partner().customer,
                "Čebelarstvo Žužek in hči d.o.o.",
                "{fault:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_lost_answer_to_an_update_leaves_the_newest_content() {
    for readings in both() {
        for fault in doubtful() {
            let stage = Stage::new(readings.clone()).await;
            stage.deliver(&saved(1, &beekeeper())).await;
            stage.fault(fault.clone(), Call::UpdatePartner);
            let end = stage.deliver(&saved(2, &renamed())).await;
            assert_eq!(end.word(), "transient unknown", "{fault:?}");
            stage.deliver_until_done(&saved(2, &renamed())).await;
            stage.advance(SETTLED).await;
            let partner = stage.only_partner();
            assert_eq!(
                partner.customer, "Čebelarstvo Žužek in hči d.o.o.",
                "{fault:?}"
            );
            assert_eq!(partner.contacts.len(), 1, "{fault:?}");
            assert_eq!(
                partner.contacts[0].name, "Čebelarstvo Žužek in hči d.o.o.",
                "{fault:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_lost_answer_to_an_append_never_adds_a_part_twice() {
    for readings in both() {
        for fault in doubtful() {
            let stage = Stage::new(readings.clone()).await;
            stage.deliver(&saved(1, &beekeeper())).await;
            stage.fault(fault.clone(), Call::UpdatePartner);
            let end = stage.deliver(&saved(2, &with_warehouse())).await;
            assert_eq!(end.word(), "transient unknown", "{fault:?}");
            stage.deliver_until_done(&saved(2, &with_warehouse())).await;
            stage.advance(SETTLED).await;
            let streets: Vec<String> = stage
                .only_partner()
                .addresses
                .iter()
                .map(|address| address.street.clone())
                .collect();
            assert_eq!(
                streets,
                ["Češnjeva ulica 7", "Panjska pot 2", "Skladiščna 3"],
                "{fault:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_contact_is_appended_once_and_then_changed_by_its_id() {
    for readings in both() {
        for fault in [Fault::CommitThenDrop, Fault::Drop] {
            let stage = Stage::new(readings.clone()).await;
            let mut contact = beekeeper();
            contact["emails"] = json!([]);
            contact["phones"] = json!([]);
            stage.deliver(&saved(1, &contact)).await;
            assert!(stage.only_partner().contacts.is_empty());
            stage.fault(fault.clone(), Call::UpdatePartner);
            contact["emails"] = json!([{"value": "ena@zuzek.example"}]);
            stage.deliver(&saved(2, &contact)).await;
            stage.deliver_until_done(&saved(2, &contact)).await;
            contact["emails"] = json!([{"value": "dve@zuzek.example"}]);
            stage.deliver_until_done(&saved(3, &contact)).await;
            let partner = stage.only_partner();
            assert_eq!(partner.contacts.len(), 1, "{fault:?}");
            assert_eq!(partner.contacts[0].email, "dve@zuzek.example");
            assert_eq!(
                partner.contacts[0].mk_address_id,
                Some(partner.addresses[0].mk_id)
            );
        }
    }
}

#[tokio::test]
async fn what_is_not_found_is_believed_only_after_the_settle_time() {
    let stage = Stage::new(Readings::nasty()).await;
    stage.fault(late(LateAnswer::Error), Call::AddPartner);
    stage.deliver(&saved(1, &beekeeper())).await;
    let end = stage.deliver(&saved(1, &beekeeper())).await;
    assert_eq!(end.word(), "wait Settle");
    // Committed, and not yet in the index.
    stage.advance(Duration::from_secs(46)).await;
    assert_eq!(stage.partners().len(), 1);
    let end = stage.deliver(&saved(1, &beekeeper())).await;
    assert_eq!(end.word(), "wait Settle");
    stage.advance(LAG).await;
    let end = stage.deliver(&saved(1, &beekeeper())).await;
    assert_eq!(end.word(), "ack applied");
    assert_eq!(stage.partners().len(), 1);
}

#[tokio::test]
async fn a_request_resolves_what_no_event_comes_back_for() {
    for fault in [Fault::CommitThenDrop, Fault::Drop] {
        let stage = Stage::new(Readings::nasty()).await;
        stage.fault(fault, Call::AddPartner);
        stage.deliver(&saved(1, &beekeeper())).await;
        let id: i64 = sqlx::query_scalar("select id from link")
            .fetch_one(&stage.pool)
            .await
            .unwrap();
        assert_eq!(
            stage.deliver(&requested("resolve", id)).await.word(),
            "wait Settle"
        );
        stage.advance(SETTLED).await;
        let end = stage.deliver(&requested("resolve", id)).await;
        assert_eq!(end.word(), "ack resolved");
        assert_eq!(stage.open_effects().await, 0);
        assert!(stage.partners().len() <= 1);
    }
}

#[tokio::test]
async fn an_answer_after_48_seconds_is_an_answer() {
    for commit in [CommitPoint::AtEnd, CommitPoint::AtOnce] {
        let stage = Stage::new(Readings::nasty()).await;
        for (call, event) in [
            (Call::AddPartner, saved(1, &beekeeper())),
            (Call::UpdatePartner, saved(2, &with_warehouse())),
        ] {
            stage.fault(Fault::Slow { ms: 48_000, commit }, call);
            let pending = || async {
                let log = stage.simulator.log(&LogFilter::call(call));
                log.last()
                    .is_some_and(|entry| entry.outcome == Outcome::Pending)
            };
            let passing = async {
                wait_until("the call is there", ANSWER, pending, |there| *there).await;
                stage.advance(Duration::from_secs(48)).await;
            };
            let (end, ()) = tokio::join!(stage.deliver(&event), passing);
            assert_eq!(end.word(), "ack applied", "{commit:?} {call:?}");
        }
        assert_eq!(stage.only_partner().addresses.len(), 3);
    }
}

#[tokio::test]
async fn each_refusal_has_its_consequence_and_stores_nothing() {
    let refuse = |code: u16, text: &str| Fault::Refuse {
        code,
        text: text.to_owned(),
    };
    for (fault, call, word) in [
        (Fault::Quota, Call::AddPartner, "transient rate_limited"),
        (Fault::Quota, Call::GetPartner, "transient rate_limited"),
        (
            Fault::Auth { code: 3 },
            Call::AddPartner,
            "blocked suspended",
        ),
        (
            Fault::Auth { code: 4 },
            Call::GetPartner,
            "blocked suspended",
        ),
        (
            refuse(6, "Partner je zaklenjen"),
            Call::AddPartner,
            "permanent refused",
        ),
        (
            refuse(5, "Stranka ni dovoljena"),
            Call::AddPartner,
            "permanent refused",
        ),
        (
            refuse(2, "Paramether 'country' has invalid value : Atlantis"),
            Call::AddPartner,
            "permanent refused",
        ),
        // A refused search is not "nobody".
        (
            refuse(2, "Paramether 'limit' has invalid value : 100"),
            Call::GetPartner,
            "permanent refused",
        ),
        (refuse(77, "?"), Call::GetPartner, "permanent refused"),
        // Of a write with a code nobody knows, nothing is known.
        (refuse(77, "?"), Call::AddPartner, "transient unknown"),
        (
            Fault::Error { status: 503 },
            Call::GetPartner,
            "transient unavailable",
        ),
        (Fault::Code1, Call::GetPartner, "transient unavailable"),
        (Fault::Garbled, Call::GetPartner, "transient unavailable"),
        (Fault::Reset, Call::GetPartner, "transient unavailable"),
        (
            Fault::Error { status: 404 },
            Call::AddPartner,
            "transient unavailable",
        ),
    ] {
        for readings in both() {
            let stage = Stage::new(readings).await;
            stage.fault(fault.clone(), call);
            let end = stage.deliver(&saved(1, &beekeeper())).await;
            assert_eq!(end.word(), word, "{fault:?} {call:?}");
            if let End::Failed(Failure::Transient {
                retry_after, class, ..
            }) = &end
                && class.as_str() == "rate_limited"
            {
                assert_eq!(*retry_after, Some(crate::stage::QUOTA_BACKOFF));
            }
            if let End::Failed(Failure::Blocked { what, .. }) = &end {
                assert_eq!(what.epoch, Some(stage.connection.epoch));
            }
            assert!(stage.partners().is_empty(), "{fault:?}");
            let unknown = word == "transient unknown";
            assert_eq!(stage.open_effects().await, i64::from(unknown), "{fault:?}");
            if let Fault::Refuse { text, .. } = &fault {
                assert!(end.text().contains(text), "{}", end.text());
            }
            // It passes: the next version is carried.
            stage.deliver_until_done(&saved(2, &renamed())).await;
            assert_eq!(stage.partners().len(), 1, "{fault:?}");
        }
    }
}

#[tokio::test]
async fn a_refusal_that_stored_something_is_found_by_the_next_version() {
    for readings in both() {
        let stage = Stage::new(readings).await;
        let lying = Fault::LyingRefusal {
            code: 2,
            text: "Paramether 'x' must be set".to_owned(),
        };
        stage.fault(lying, Call::AddPartner);
        let end = stage.deliver(&saved(1, &beekeeper())).await;
        assert_eq!(end.word(), "permanent refused");
        stage.advance(LAG).await;
        stage.deliver_until_done(&saved(2, &renamed())).await;
        assert_eq!(
            stage.only_partner().customer,
            "Čebelarstvo Žužek in hči d.o.o."
        );
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_was_not_asked() {
    let stage = Stage::new(Readings::kind()).await;
    stage.simulator.outage(Duration::from_secs(60)).unwrap();
    let end = stage.deliver(&saved(1, &beekeeper())).await;
    assert_eq!(end.word(), "transient unavailable");
    assert_eq!(stage.open_effects().await, 0);
}

#[tokio::test]
async fn our_own_limits_are_a_wait_and_no_failure() {
    let window = Window {
        requests: 1,
        per: Duration::from_secs(600),
        burst: Some(3),
    };
    let stage = Stage::with(Wanted {
        budget: BudgetSpec {
            windows: vec![window],
            in_flight: 2,
            searches: 1,
        },
        ..Wanted::default()
    })
    .await;
    // Three look-ups are allowed, the create is not.
    let end = stage.deliver(&saved(1, &beekeeper())).await;
    let End::Wait(cause, until) = end else {
        panic!("{end:?}")
    };
    assert_eq!(cause, worker::WaitCause::Limited);
    // As long as the account says, or a second where it has not answered yet.
    let wait = (until - stage.simulator.now()).num_seconds();
    assert!((0..=620).contains(&wait), "{wait} s");
    assert_eq!(stage.open_effects().await, 0);
    assert_eq!(stage.calls_since(0), ["find", "find", "find"]);
}

#[tokio::test]
async fn wrong_credentials_suspend_at_their_epoch_and_repaired_ones_are_taken_up() {
    const WRONG: &str = "wrong-key-123";
    for readings in both() {
        let mut stage = Stage::with(Wanted {
            readings,
            key: WRONG,
            ..Wanted::default()
        })
        .await;
        let end = stage.deliver(&saved(1, &beekeeper())).await;
        assert_eq!(end.word(), "blocked suspended");
        assert!(!end.text().contains(WRONG), "{}", end.text());

        let credentials = json!({"secret_key": KEY, "company_id": 4711}).to_string();
        connections::update_credentials(
            &stage.pool,
            &stage.keys,
            Scope::Everything,
            stage.connection.id,
            &SecretString::from(credentials),
        )
        .await
        .unwrap();
        stage.refresh().await;
        let end = stage.deliver(&saved(1, &beekeeper())).await;
        assert_eq!(end.word(), "ack applied");
    }
}

#[tokio::test]
async fn credentials_that_are_none_are_for_a_person() {
    let mut stage = Stage::new(Readings::kind()).await;
    connections::update_credentials(
        &stage.pool,
        &stage.keys,
        Scope::Everything,
        stage.connection.id,
        &SecretString::from(r#"{"token": "x"}"#),
    )
    .await
    .unwrap();
    stage.refresh().await;
    let end = stage.deliver(&saved(1, &beekeeper())).await;
    assert_eq!(end.word(), "blocked suspended");
    assert!(end.text().contains("secret_key"), "{}", end.text());
    let company = stage
        .simulator
        .with_company(COMPANY, |company, _| company.partners().count());
    assert_eq!(company.unwrap(), 0);
}

#[tokio::test]
async fn whatever_the_order_and_the_faults_each_partner_is_its_newest_contact() {
    const CONTACTS: usize = 12;
    const CHANGES: usize = 4;
    const RATE: f64 = 0.012;
    const SEEDS: std::ops::Range<u64> = 0..6;
    /// Many times what it takes.
    const DELIVERIES: usize = 5_000;
    /// Between two deliveries.
    const STEP: Duration = Duration::from_secs(5);
    for seed in SEEDS {
        let [kind, nasty] = both();
        let stage = Stage::with(Wanted {
            readings: if seed % 2 == 0 { kind } else { nasty },
            seed,
            ..Wanted::default()
        })
        .await;
        let random = doubtful()
            .into_iter()
            .filter(|fault| *fault != Fault::Maintenance);
        let random = random.map(|fault| RandomFault {
            fault,
            rate: RATE,
            call: None,
            vary: false,
        });
        stage.simulator.set_random_faults(random.collect()).unwrap();
        let begin = "2026-01-14T08:00:00Z".parse().unwrap();
        let mut source = Contacts::since(TENANT, seed, begin);
        let mut contacts = Vec::new();
        let mut events = Vec::new();
        for _ in 0..CONTACTS {
            let mut contact = source.any();
            events.push(contact.created());
            for _ in 0..CHANGES {
                events.push(source.change(&mut contact));
            }
            contacts.push(contact);
        }
        let mut queue = VecDeque::from(source.shuffled(events, 0.2));
        let mut deliveries = 0;
        while let Some(event) = queue.pop_front() {
            deliveries += 1;
            assert!(deliveries < DELIVERIES, "no end (seed {seed})");
            stage.advance(STEP).await;
            match stage.deliver(&event).await {
                End::Ack(_) => {}
                End::Wait(..) | End::Failed(Failure::Transient { .. }) => queue.push_back(event),
                other => panic!("{other:?} (seed {seed})"),
            }
        }
        stage.simulator.clear_faults();
        stage.advance(SETTLED).await;
        let partners = stage.partners();
        assert_eq!(partners.len(), CONTACTS, "seed {seed}");
        for contact in contacts {
            let partner = partners
                .iter()
                .find(|partner| partner.customer == contact.name())
                .unwrap_or_else(|| panic!("nobody is {} (seed {seed})", contact.name()));
            let record = &contact.record;
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            assert_eq!(partner.tax_id_number, text(&record["tax_id"]));
            assert_eq!(partner.contacts.len(), 1, "{partner:#?}");
            assert_eq!(
                partner.contacts[0].email,
                text(&record["emails"][0]["value"]).to_lowercase()
            );
            assert_eq!(partner.contacts[0].gsm, text(&record["phones"][0]["raw"]));
            assert_eq!(
                partner.addresses[0].street,
                text(&record["addresses"][0]["street"])
            );
            assert!(partner.addresses.len() <= 2, "{partner:#?}");
        }
        assert_eq!(stage.open_effects().await, 0);
        let held: i64 = sqlx::query_scalar("select count(*) from link where state <> 'linked'")
            .fetch_one(&stage.pool)
            .await
            .unwrap();
        assert_eq!(held, 0, "seed {seed}");
    }
}

//! Every fault, observed on the wire.

use std::io::ErrorKind;
use std::time::Duration;

use serde_json::{Value, json};
use simulators::metakocka::{
    Call, ClockKind, CommitPoint, Fault, LateAnswer, LogFilter, Options, Outcome, RandomFault,
    Readings, ScriptedFault,
};

use crate::caller::{Caller, until};

fn novak() -> Value {
    json!({"partner": {"customer": "Novak"}})
}

fn by_hand() -> ClockKind {
    ClockKind::Manual("2026-01-15T09:00:00Z".parse().unwrap())
}

async fn caller_with(fault: Fault) -> Caller {
    caller_in(Readings::kind(), fault).await
}

async fn caller_in(readings: Readings, fault: Fault) -> Caller {
    let caller = Caller::open(Options {
        readings,
        clock: by_hand(),
        ..Options::default()
    })
    .await;
    caller
        .simulator
        .fault(ScriptedFault::new(fault).on(Call::AddPartner))
        .unwrap();
    caller
}

/// After the fault: counted and logged, stored or not, and the next call is not harmed.
async fn check_after(caller: &Caller, name: &str, outcome: Outcome, stored: bool) {
    let logged = caller
        .simulator
        .log(&LogFilter::call(Call::AddPartner))
        .remove(0);
    assert_eq!(
        (logged.fault, logged.outcome, logged.stored),
        (Some(name), outcome, stored)
    );
    assert_eq!(caller.simulator.counts().fault(name), 1);
    assert_eq!(caller.customers().len(), usize::from(stored));
    assert!(caller.add("Kovač").await["mk_id"].is_string());
    assert_eq!(caller.customers().len(), usize::from(stored) + 1);
}

/// Calls, and goes as soon as the call has arrived.
async fn give_up(caller: &Caller) {
    tokio::select! {
        answer = caller.send("v1/add_partner", novak()) => panic!("answered: {answer:?}"),
        () = until("the call has arrived", || !caller.simulator.counts().faults.is_empty()) => {}
    }
}

#[tokio::test]
async fn pages_of_a_gateway() {
    for (fault, name, status) in [
        (Fault::Error { status: 500 }, "error", 500),
        (Fault::Error { status: 502 }, "error", 502),
        (Fault::Error { status: 503 }, "error", 503),
        (Fault::Maintenance, "maintenance", 503),
    ] {
        let caller = caller_with(fault).await;
        let response = caller.send("v1/add_partner", novak()).await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["content-type"], "text/html");
        assert!(response.text().await.unwrap().starts_with("<html>"));
        check_after(&caller, name, Outcome::Page, false).await;
    }
}

#[tokio::test]
async fn refusals_that_are_true_and_that_lie() {
    let mut storing = Readings::kind();
    storing.code_1_on_write = simulators::metakocka::core::Code1OnWrite::Stored;
    let refuse = Fault::Refuse {
        code: 6,
        text: "Ne gre".into(),
    };
    let lie = Fault::LyingRefusal {
        code: 6,
        text: "Ne gre".into(),
    };
    for (readings, fault, name, code, stored) in [
        (Readings::kind(), Fault::Code1, "code1", "1", false),
        (storing, Fault::Code1, "code1", "1", true),
        (
            Readings::kind(),
            Fault::Code1Stored,
            "code1_stored",
            "1",
            true,
        ),
        (
            Readings::kind(),
            Fault::Code1NotStored,
            "code1_not_stored",
            "1",
            false,
        ),
        (Readings::kind(), Fault::Quota, "quota", "5", false),
        (
            Readings::kind(),
            Fault::Auth { code: 3 },
            "auth",
            "3",
            false,
        ),
        (
            Readings::kind(),
            Fault::Auth { code: 4 },
            "auth",
            "4",
            false,
        ),
        (Readings::kind(), refuse, "refuse", "6", false),
        (Readings::kind(), lie, "lying_refusal", "6", true),
    ] {
        let caller = caller_in(readings, fault).await;
        let answer = caller.call("v1/add_partner", novak()).await;
        assert_eq!(answer["opr_code"], code, "{name}");
        assert!(answer.get("mk_id").is_none());
        check_after(&caller, name, Outcome::Refused, stored).await;
    }
}

#[tokio::test]
async fn a_quota_fault_looks_like_the_quota_of_the_reading() {
    let mut readings = Readings::nasty();
    readings.quota_retry_after_seconds = Some(30);
    let caller = caller_in(readings, Fault::Quota).await;
    let response = caller.send("v1/add_partner", novak()).await.unwrap();
    assert_eq!(
        (
            response.status().as_u16(),
            response.headers()["retry-after"].to_str().unwrap()
        ),
        (429, "30")
    );
    check_after(&caller, "quota", Outcome::Page, false).await;
}

#[tokio::test]
async fn connections_that_end_without_an_answer() {
    for (fault, name, outcome, stored) in [
        (Fault::Reset, "reset", Outcome::Reset, false),
        (
            Fault::CommitThenReset,
            "commit_then_reset",
            Outcome::Reset,
            true,
        ),
        (Fault::Drop, "drop", Outcome::Dropped, false),
        (
            Fault::CommitThenDrop,
            "commit_then_drop",
            Outcome::Dropped,
            true,
        ),
    ] {
        let caller = caller_with(fault).await;
        let (answer, end) = caller.raw("v1/add_partner", novak()).await;
        assert_eq!(answer, "", "{name}");
        match outcome {
            Outcome::Reset => assert_eq!(
                end.unwrap_err().kind(),
                ErrorKind::ConnectionReset,
                "{name}"
            ),
            _ => end.expect("an orderly end"),
        }
        check_after(&caller, name, outcome, stored).await;
    }
}

#[tokio::test]
async fn half_of_an_answer_and_then_the_end() {
    let caller = caller_with(Fault::CutAnswer).await;
    let (answer, end) = caller.raw("v1/add_partner", novak()).await;
    end.expect("an orderly end");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let promised: usize = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .unwrap()
        .parse()
        .unwrap();
    assert!(head.starts_with("HTTP/1.1 200"));
    assert_eq!(body.len(), promised / 2);
    check_after(&caller, "cut_answer", Outcome::Cut, true).await;
}

#[tokio::test]
async fn half_of_the_json_in_a_whole_answer() {
    for (fault, name, stored) in [
        (Fault::Garbled, "garbled", true),
        (Fault::GarbledNotStored, "garbled_not_stored", false),
    ] {
        let caller = caller_with(fault).await;
        let response = caller.send("v1/add_partner", novak()).await.unwrap();
        assert_eq!(response.status(), 200);
        let text = response.text().await.unwrap();
        assert!(
            text.starts_with('{') && serde_json::from_str::<Value>(&text).is_err(),
            "{text}"
        );
        check_after(&caller, name, Outcome::Garbled, stored).await;
    }
}

#[tokio::test]
async fn a_late_commit_after_every_kind_of_answer() {
    for (answer, outcome) in [
        (LateAnswer::Error, Outcome::Page),
        (LateAnswer::Code1, Outcome::Refused),
        (LateAnswer::Drop, Outcome::Dropped),
        (LateAnswer::Reset, Outcome::Reset),
    ] {
        let caller = caller_with(Fault::CommitLate {
            after_ms: 45_000,
            answer,
        })
        .await;
        match answer {
            LateAnswer::Error => assert_eq!(
                caller
                    .send("v1/add_partner", novak())
                    .await
                    .unwrap()
                    .status(),
                504
            ),
            LateAnswer::Code1 => {
                assert_eq!(
                    caller.call("v1/add_partner", novak()).await["opr_code"],
                    "1"
                )
            }
            _ => assert!(caller.send("v1/add_partner", novak()).await.is_err()),
        }
        assert_eq!(caller.simulator.late_writes(), 1);
        caller
            .simulator
            .advance(Duration::from_millis(44_999))
            .unwrap();
        assert_eq!(caller.customers().len(), 0);
        caller.simulator.advance(Duration::from_millis(1)).unwrap();
        let logged = caller.simulator.log(&LogFilter::default()).remove(0);
        assert_eq!(logged.stored_at, Some(caller.simulator.now()));
        assert_eq!(caller.simulator.counts().stored(Call::AddPartner), 1);
        check_after(&caller, "commit_late", outcome, true).await;
    }
}

#[tokio::test]
async fn no_answer_at_all_until_the_caller_goes() {
    let caller = caller_with(Fault::CommitLate {
        after_ms: 45_000,
        answer: LateAnswer::Nothing,
    })
    .await;
    let arrived = until("the call has arrived", || {
        caller.simulator.counts().fault("commit_late") == 1
    });
    tokio::select! {
        _ = caller.send("v1/add_partner", novak()) => panic!("it was answered"),
        () = arrived => {} // the caller gives up
    }
    until("the simulator sees that the caller went", || {
        let log = caller.simulator.log(&LogFilter::default());
        log.first()
            .is_some_and(|entry| entry.outcome == Outcome::CallerLeft)
    })
    .await;
    caller.simulator.advance(Duration::from_secs(45)).unwrap();
    check_after(&caller, "commit_late", Outcome::CallerLeft, true).await;
}

#[tokio::test]
async fn a_slow_answer_comes_when_its_time_has_come() {
    for (commit, stored_meanwhile) in [(CommitPoint::AtEnd, 0), (CommitPoint::AtOnce, 1)] {
        let caller = caller_with(Fault::Slow { ms: 48_000, commit }).await;
        let call = caller.call("v1/add_partner", novak());
        let clock = async {
            until("the call has arrived", || {
                caller.simulator.counts().fault("slow") == 1
            })
            .await;
            caller
                .simulator
                .advance(Duration::from_millis(47_999))
                .unwrap();
            assert_eq!(caller.customers().len(), stored_meanwhile);
            assert_eq!(
                caller.simulator.log(&LogFilter::default())[0].outcome,
                Outcome::Pending
            );
            caller.simulator.advance(Duration::from_millis(1)).unwrap();
        };
        let (answer, ()) = tokio::join!(call, clock);
        assert_eq!(answer["mk_id"], "9000000101");
        check_after(&caller, "slow", Outcome::Answered, true).await;
    }
}

#[tokio::test]
async fn a_caller_who_gives_up_stops_nothing() {
    let caller = caller_with(Fault::Slow {
        ms: 48_000,
        commit: CommitPoint::AtEnd,
    })
    .await;
    give_up(&caller).await;
    let outcome = || caller.simulator.log(&LogFilter::default())[0].outcome;
    until("the simulator sees that the caller went", || {
        outcome() == Outcome::CallerLeft
    })
    .await;
    assert_eq!(caller.customers().len(), 0);
    caller.simulator.advance(Duration::from_secs(48)).unwrap();
    check_after(&caller, "slow", Outcome::CallerLeft, true).await;
}

#[tokio::test]
async fn slow_and_late_on_the_real_clock() {
    let caller = Caller::with(Readings::kind()).await;
    caller
        .simulator
        .fault(ScriptedFault::new(Fault::Slow {
            ms: 60,
            commit: CommitPoint::AtEnd,
        }))
        .unwrap();
    let late = Fault::CommitLate {
        after_ms: 60,
        answer: LateAnswer::Error,
    };
    caller.simulator.fault(ScriptedFault::new(late)).unwrap();
    let begun = std::time::Instant::now();
    caller.add("Počasni").await;
    assert!(begun.elapsed() >= Duration::from_millis(60));
    assert_eq!(
        caller
            .send("v1/add_partner", novak())
            .await
            .unwrap()
            .status(),
        504
    );
    until("the late commit", || caller.customers().len() == 2).await;
    assert!(
        caller.simulator.advance(Duration::from_secs(1)).is_err(),
        "nobody moves the real clock"
    );
}

#[tokio::test]
async fn reads_meet_faults_as_well_and_store_nothing() {
    let caller = Caller::with(Readings::kind()).await;
    caller.add("Novak").await;
    for fault in [Fault::CommitThenDrop, Fault::Reset] {
        caller
            .simulator
            .fault(ScriptedFault::new(fault).on(Call::GetPartner))
            .unwrap();
        assert!(caller.send("v1/get_partner", json!({})).await.is_err());
    }
    assert_eq!(caller.customers(), ["Novak"]);
    assert!(
        caller
            .simulator
            .log(&LogFilter::call(Call::GetPartner))
            .iter()
            .all(|entry| !entry.stored)
    );
}

#[tokio::test]
async fn scripts_match_by_call_company_and_text_and_count_from_the_nth() {
    let caller = Caller::with(Readings::kind()).await;
    let refuse = || Fault::Refuse {
        code: 2,
        text: "ne".into(),
    };
    let zuzek = ScriptedFault::new(refuse())
        .on(Call::AddPartner)
        .containing("Žužek")
        .nth(2)
        .times(2);
    caller.simulator.fault(zuzek).unwrap();
    caller
        .simulator
        .fault(ScriptedFault::new(refuse()).of_company("4712").always())
        .unwrap();
    let mut refused = Vec::new();
    for name in ["Žužek 1", "Novak", "Žužek 2", "Žužek 3", "Žužek 4"] {
        if caller.add(name).await["opr_code"] == "2" {
            refused.push(name);
        }
    }
    assert_eq!(refused, ["Žužek 2", "Žužek 3"]);
    assert_eq!(
        caller.simulator.faults().len(),
        1,
        "the used-up one has left the queue"
    );
    assert_eq!(caller.simulator.counts().fault("refuse"), 2);
}

#[tokio::test]
async fn faults_of_one_call_happen_in_the_order_they_were_given() {
    let caller = Caller::with(Readings::kind()).await;
    for code in [6, 7] {
        caller
            .simulator
            .fault(ScriptedFault::new(Fault::Refuse {
                code,
                text: "ne".into(),
            }))
            .unwrap();
    }
    let codes = [
        caller.add("A").await,
        caller.add("A").await,
        caller.add("A").await,
    ]
    .map(|answer| answer.get("opr_code").cloned());
    assert_eq!(codes, [Some(json!("6")), Some(json!("7")), None]);
}

#[tokio::test]
async fn a_refused_caller_uses_up_no_fault() {
    let caller = caller_with(Fault::Reset).await;
    let url = format!("{}v1/add_partner", caller.simulator.base_url());
    let body = json!({"secret_key": "bad", "company_id": "4711", "partner": {"customer": "x"}});
    let answer: Value = crate::caller::http_client()
        .post(url)
        .json(&body)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(answer["opr_code"], "3");
    assert_eq!(caller.simulator.faults().len(), 1);
}

async fn run_of_faults(seed: u64) -> Vec<Option<&'static str>> {
    let random_faults = RandomFault::every_passing_kind(0.06, 5);
    let caller = Caller::open(Options {
        seed,
        random_faults,
        ..Options::default()
    })
    .await;
    for number in 0..120 {
        // Most of them fail; that is the point.
        let _ = caller
            .send(
                "v1/add_partner",
                json!({"partner": {"customer": format!("P{number}")}}),
            )
            .await;
    }
    caller
        .simulator
        .log(&LogFilter::default())
        .iter()
        .map(|entry| entry.fault)
        .collect()
}

#[tokio::test]
async fn one_seed_is_one_run_of_faults_and_every_kind_occurs() {
    let run = run_of_faults(7).await;
    assert_eq!(run, run_of_faults(7).await);
    assert_ne!(run, run_of_faults(8).await);
    for kind in RandomFault::every_passing_kind(0.06, 5) {
        assert!(
            run.contains(&Some(kind.fault.name())),
            "{}",
            kind.fault.name()
        );
    }
    assert!(run.contains(&None));
}

#[tokio::test]
async fn impossible_faults_are_refused() {
    let caller = Caller::with(Readings::kind()).await;
    for fault in [
        Fault::Error { status: 200 },
        Fault::Auth { code: 5 },
        Fault::Refuse {
            code: 0,
            text: String::new(),
        },
        Fault::Slow {
            ms: u64::MAX,
            commit: CommitPoint::AtEnd,
        },
    ] {
        assert!(caller.simulator.fault(ScriptedFault::new(fault)).is_err());
    }
    let half = || RandomFault {
        fault: Fault::Reset,
        rate: 0.6,
        call: None,
        vary: false,
    };
    assert!(
        caller
            .simulator
            .set_random_faults(vec![half(), half()])
            .is_err()
    );
    assert!(
        Caller::open(Options::default())
            .await
            .simulator
            .set_random_faults(vec![half()])
            .is_ok()
    );
}

#[tokio::test]
async fn an_outage_refuses_connections_and_ends() {
    let caller = Caller::with(Readings::kind()).await;
    caller.add("Prej").await;
    caller.simulator.outage(Duration::from_millis(300)).unwrap();
    let address = caller.simulator.address();
    let refused = async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::caller::PATIENCE, refused)
        .await
        .expect("connections are refused");
    let back = async {
        while caller.send("v1/get_partner", json!({})).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(crate::caller::PATIENCE, back)
        .await
        .expect("it comes back");
    assert_eq!(
        caller.customers(),
        ["Prej"],
        "the state outlives the outage"
    );
}

//! State over restarts, many at once, several companies, what the log keeps, and the end.

use std::time::Duration;

use serde_json::{Value, json};
use simulators::metakocka::core::{Lane, Readings};
use simulators::metakocka::{
    Call, ClockKind, CommitPoint, CompanyOptions, Error, Fault, LateAnswer, LogFilter, Options,
    Outcome, ScriptedFault, Simulator, Snapshot, serve,
};

use crate::caller::{Caller, http_client, until};

fn by_hand() -> ClockKind {
    ClockKind::Manual("2026-01-15T09:00:00Z".parse().unwrap())
}

#[tokio::test]
async fn another_simulator_goes_on_where_this_one_stopped() {
    let mut readings = Readings::kind();
    readings.index_lag_seconds = 10;
    let options = || Options {
        readings: readings.clone(),
        clock: by_hand(),
        ..Options::default()
    };
    let first = Caller::open(options()).await;
    first.add("Prva").await;
    let late = Fault::CommitLate {
        after_ms: 30_000,
        answer: LateAnswer::Error,
    };
    first.simulator.fault(ScriptedFault::new(late)).unwrap();
    assert_eq!(
        first
            .send("v1/add_partner", json!({"partner": {"customer": "Pozna"}}))
            .await
            .unwrap()
            .status(),
        504
    );
    let saved = serde_json::to_string(&first.simulator.snapshot()).unwrap();
    assert!(!saved.contains("sim-key"));
    first.simulator.stop().await;

    let snapshot: Snapshot = serde_json::from_str(&saved).unwrap();
    let second = Caller::open(Options {
        snapshot: Some(snapshot),
        ..options()
    })
    .await;
    assert_eq!(second.customers(), ["Prva"]);
    let nobody = second
        .call("v1/get_partner", json!({"partner_name": "Prva"}))
        .await;
    assert_eq!(nobody["opr_code"], "2", "the index goes on lagging");
    second.simulator.advance(Duration::from_secs(30)).unwrap();
    assert_eq!(
        second.customers(),
        ["Prva", "Pozna"],
        "the late commit still comes"
    );
    let third = second.add("Tretja").await;
    assert_eq!(third["mk_id"], "9000000105", "ids are never used twice");
    let found = second
        .call("v1/get_partner", json!({"partner_name": "Prva"}))
        .await;
    assert_eq!(found["partner_list"][0]["count_code"], "1042");
}

#[tokio::test]
async fn a_reset_empties_and_keeps_settings() {
    let caller = Caller::open(Options {
        readings: Readings::nasty(),
        clock: by_hand(),
        ..Options::default()
    })
    .await;
    caller.add("Novak").await;
    caller
        .simulator
        .fault(ScriptedFault::new(Fault::Reset).always())
        .unwrap();
    caller.simulator.reset();
    assert_eq!(caller.customers().len(), 0);
    assert_eq!(caller.simulator.log(&LogFilter::default()).len(), 0);
    assert_eq!(caller.simulator.readings(), Readings::nasty());
    assert_eq!(caller.add("Novak").await["mk_id"], "9000000101");
    assert_eq!(
        caller.simulator.log(&LogFilter::default())[0].seq,
        2,
        "a log that is followed by number doesn't begin anew"
    );
}

#[tokio::test]
async fn a_slow_call_survives_a_reset_without_another_ones_answer() {
    let caller = Caller::open(Options {
        clock: by_hand(),
        ..Options::default()
    })
    .await;
    let slow = || {
        ScriptedFault::new(Fault::Slow {
            ms: 1_000,
            commit: CommitPoint::AtEnd,
        })
    };
    caller.simulator.fault(slow()).unwrap();
    let before = caller.send("v1/add_partner", json!({"partner": {"customer": "Prej"}}));
    let after = async {
        until("the first call waits", || {
            caller.simulator.late_writes() == 1
        })
        .await;
        caller.simulator.reset();
        caller.simulator.fault(slow()).unwrap();
        let second = caller.add("Potem");
        let clock = async {
            until("the second call waits", || {
                caller.simulator.late_writes() == 1
            })
            .await;
            caller.simulator.advance(Duration::from_secs(1)).unwrap();
        };
        tokio::join!(second, clock).0
    };
    let (before, after) = tokio::join!(before, after);
    assert_eq!(before.unwrap().status(), 503);
    assert_eq!(after["mk_id"], "9000000101");
    assert_eq!(caller.customers(), ["Potem"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_callers_at_once_get_each_their_own_id() {
    let caller = std::sync::Arc::new(Caller::with(Readings::kind()).await);
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..200 {
        let caller = std::sync::Arc::clone(&caller);
        calls.spawn(async move {
            caller.add(&format!("P{number}")).await["mk_id"]
                .as_str()
                .unwrap()
                .to_owned()
        });
    }
    let mut ids = calls.join_all().await;
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 200);
    assert_eq!(caller.customers().len(), 200);
    assert_eq!(caller.simulator.counts().stored(Call::AddPartner), 200);
}

#[tokio::test]
async fn companies_are_apart_and_simulators_too() {
    let companies = vec![
        CompanyOptions::new("1", "one"),
        CompanyOptions::new("2", "two"),
    ];
    let caller = Caller::open(Options {
        companies,
        ..Options::default()
    })
    .await;
    let other = Caller::with(Readings::kind()).await;
    let add = |company: &'static str, key: &'static str, name: &'static str| {
        let url = format!("{}v1/add_partner", caller.simulator.base_url());
        let body = json!({"secret_key": key, "company_id": company, "partner": {"customer": name}});
        async move {
            http_client()
                .post(url)
                .json(&body)
                .send()
                .await
                .unwrap()
                .json::<Value>()
                .await
                .unwrap()
        }
    };
    assert_eq!(
        add("1", "one", "A").await["mk_id"],
        add("2", "two", "B").await["mk_id"],
        "the same ids, to catch mix-ups"
    );
    assert_eq!(add("1", "two", "C").await["opr_code"], "3");
    assert_eq!(caller.simulator.partners("1").unwrap().len(), 1);
    assert_eq!(caller.simulator.partners("2").unwrap()[0].customer, "B");
    assert!(matches!(
        caller.simulator.partners("3"),
        Err(Error::Unknown(_))
    ));
    assert_eq!(other.customers().len(), 0);
    let twice = vec![
        CompanyOptions::new("1", "one"),
        CompanyOptions::new("1", "one"),
    ];
    assert!(matches!(
        Simulator::start(Options {
            companies: twice,
            ..Options::default()
        })
        .await,
        Err(Error::Invalid(_))
    ));
}

#[tokio::test]
async fn reads_of_a_company_queue_where_the_reading_says_so() {
    for (lane, queued) in [(Lane::SearchOnly, 0), (Lane::AllReads, 1)] {
        let mut readings = Readings::kind();
        readings.lane = lane;
        let caller = Caller::open(Options {
            readings,
            clock: by_hand(),
            ..Options::default()
        })
        .await;
        caller.add("Novak").await;
        let slow = Fault::Slow {
            ms: 1_000,
            commit: CommitPoint::AtEnd,
        };
        caller
            .simulator
            .fault(ScriptedFault::new(slow).on(Call::GetPartner))
            .unwrap();
        let first = caller.call("v1/get_partner", json!({}));
        let rest = async {
            until("the first read is under way", || {
                caller.simulator.counts().fault("slow") == 1
            })
            .await;
            let second = caller.call("v1/get_partner", json!({}));
            let free = async {
                if lane == Lane::AllReads {
                    until("the second read waits", || {
                        caller.simulator.counts().queued_reads == 1
                    })
                    .await;
                    let reads = caller.simulator.log(&LogFilter::call(Call::GetPartner));
                    assert_eq!(reads.len(), 1, "it has not begun");
                    // A write doesn't wait.
                    caller.add("Kovač").await;
                    caller.simulator.advance(Duration::from_secs(1)).unwrap();
                }
            };
            tokio::join!(second, free).0
        };
        let slow_first = async {
            let second = rest.await;
            if lane == Lane::SearchOnly {
                caller.simulator.advance(Duration::from_secs(1)).unwrap();
            }
            second
        };
        let (first, second) = tokio::join!(first, slow_first);
        assert!(first["partner_list"].is_array() && second["partner_list"].is_array());
        assert_eq!(caller.simulator.counts().queued_reads, queued);
    }
}

#[tokio::test]
async fn the_log_keeps_no_secret_and_no_long_body() {
    let caller = Caller::with(Readings::nasty()).await;
    caller.add("Novak").await;
    caller
        .send("v1/nothing_such", json!({"a": 1}))
        .await
        .unwrap();
    caller
        .call(
            "v1/add_partner",
            json!({"partner": {"customer": "x".repeat(5_000)}}),
        )
        .await;
    let url = format!("{}v1/get_partner", caller.simulator.base_url());
    http_client()
        .post(&url)
        .body("sim-key not json")
        .send()
        .await
        .unwrap();
    let wrong = json!({"secret_key": "hush-hush", "company_id": "9999"});
    let echoed: Value = http_client()
        .post(&url)
        .json(&wrong)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert!(
        echoed["opr_desc"].as_str().unwrap().contains("hush-hush"),
        "the nasty server echoes keys"
    );

    let log = caller.simulator.log(&LogFilter::default());
    let text = serde_json::to_string(&log).unwrap();
    assert!(
        !text.contains("sim-key") && !text.contains("hush-hush"),
        "{text}"
    );
    assert_eq!(log[0].body, json!({"partner": {"customer": "Novak"}}));
    assert_eq!(
        (log[0].outcome, log[0].status, log[0].stored),
        (Outcome::Answered, Some(200), true)
    );
    assert_eq!(
        (log[1].call, log[1].path.as_str(), log[1].status),
        (None, "v1/nothing_such", Some(404))
    );
    assert!(log[2].body["too_long_for_the_log"].as_u64().unwrap() > 5_000);
    assert_eq!(log[3].body, json!({"unreadable_bytes": 16}));
    assert_eq!(
        (log[4].company_id.as_deref(), log[4].refused),
        (Some("9999"), Some(3))
    );
}

#[tokio::test]
async fn a_huge_body_is_refused_before_it_is_read() {
    let caller = Caller::with(Readings::kind()).await;
    let huge = json!({"partner": {"customer": "x".repeat(1_100_000)}});
    let response = caller.send("v1/add_partner", huge).await.unwrap();
    assert_eq!(response.status(), 413);
}

#[tokio::test]
async fn serving_ends_when_told_even_with_calls_under_way() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(serve(Options::default(), listener, async move {
        stopped.await.unwrap()
    }));
    let slow = json!({"fault": {"kind": "slow", "ms": 60_000}});
    let control = format!("http://{address}/_sim/faults");
    http_client()
        .post(control)
        .json(&slow)
        .send()
        .await
        .unwrap();
    let url = format!("http://{address}/rest/eshop/v1/get_partner");
    let body = json!({"secret_key": "sim-key", "company_id": "4711"});
    let call = tokio::spawn(http_client().post(url).json(&body).send());
    let log = format!("http://{address}/_sim/counts");
    loop {
        let counts: Value = http_client()
            .get(&log)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        if counts["faults"]["slow"] == 1 {
            break;
        }
    }
    stop.send(()).unwrap();
    tokio::time::timeout(crate::caller::PATIENCE, running)
        .await
        .expect("it ends")
        .unwrap()
        .unwrap();
    assert!(call.await.unwrap().is_err());
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_dropped_simulator_stops_listening() {
    let simulator = Simulator::start(Options::default()).await.unwrap();
    let address = simulator.address();
    drop(simulator);
    let refused = async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::caller::PATIENCE, refused)
        .await
        .expect("it stops");
}

#[tokio::test]
async fn a_state_file_is_written_before_the_answer_and_goes_on_with_the_ids() {
    let folder = tempfile::tempdir().unwrap();
    let options = || Options {
        state: Some(folder.path().join("state.json")),
        clock: by_hand(),
        ..Options::default()
    };
    let first = Caller::open(options()).await;
    assert!(!first.simulator.went_on());
    let made = first.add("Prva").await;
    let late = Fault::CommitLate {
        after_ms: 30_000,
        answer: LateAnswer::Error,
    };
    first.simulator.fault(ScriptedFault::new(late)).unwrap();
    first
        .send("v1/add_partner", json!({"partner": {"customer": "Pozna"}}))
        .await
        .unwrap();
    let path = folder.path().join("state.json");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("Prva") && text.contains("Pozna") && !text.contains("sim-key"));
    // As a kill leaves it: nothing is written at the end.
    let copy = folder.path().join("copy.json");
    std::fs::write(&copy, &text).unwrap();
    let second = Caller::open(Options {
        state: Some(copy),
        ..options()
    })
    .await;
    assert!(second.simulator.went_on());
    second.simulator.advance(Duration::from_secs(30)).unwrap();
    assert_eq!(second.customers(), ["Prva", "Pozna"]);
    let third = second.add("Tretja").await;
    assert_ne!(third["mk_id"], made["mk_id"]);

    // A lost file: the ids of before are not given again.
    first.simulator.stop().await;
    std::fs::remove_file(&path).unwrap();
    let anew = Caller::open(Options {
        clock: ClockKind::Real,
        ..options()
    })
    .await;
    assert_eq!(anew.customers().len(), 0);
    let made_anew = anew.add("Prva").await;
    assert!(made_anew["mk_id"].as_str() > third["mk_id"].as_str());
}

#[tokio::test]
async fn a_state_file_that_cannot_be_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    std::fs::write(&path, "{").unwrap();
    let refused = Simulator::start(Options {
        state: Some(path.clone()),
        ..Options::default()
    })
    .await;
    assert!(matches!(refused, Err(Error::State(..))));
    assert_eq!(std::fs::read_to_string(path).unwrap(), "{");
}

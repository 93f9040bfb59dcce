//! What every simulator has in common, shown with an invented system over the wire; and the list of simulators.

use std::path::Path;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use simulators::{
    ALL, ClockKind, Error, LogFilter, Outcome, Preset, Running, ScriptedFault, Settings, Simulator,
    Start,
};
use tokio::net::TcpListener;

use crate::caller::{PATIENCE, http_client, until};
use crate::notebook::{Call, Notebook, Wrong};

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

async fn notebook(state: Option<&Path>) -> Simulator<Notebook> {
    let settings = Settings {
        clock: ClockKind::Manual("2026-01-15T09:00:00Z".parse().unwrap()),
        state: state.map(Path::to_owned),
        ..Settings::default()
    };
    Simulator::open(Notebook::default(), settings, listener().await).unwrap()
}

/// Sends one request; the status and the JSON of the answer.
async fn send(method: Method, url: String, body: &Value) -> reqwest::Result<(StatusCode, Value)> {
    let request = http_client().request(method, url).header("x-key", "mine");
    let response = request.json(body).send().await?;
    Ok((response.status(), response.json().await?))
}

async fn write(notebook: &Simulator<Notebook>, page: &str) -> reqwest::Result<StatusCode> {
    let url = format!("{}{page}", notebook.base_url());
    let text = json!({"text": page});
    send(Method::POST, url, &text)
        .await
        .map(|(status, _)| status)
}

async fn read(notebook: &Simulator<Notebook>, page: &str) -> StatusCode {
    let url = format!("{}{page}", notebook.base_url());
    send(Method::GET, url, &json!(null)).await.unwrap().0
}

async fn control(
    notebook: &Simulator<Notebook>,
    method: Method,
    path: &str,
    body: Value,
) -> (u16, Value) {
    let url = format!("{}{path}", notebook.control_url());
    let (status, answer) = send(method, url, &body).await.unwrap();
    (status.as_u16(), answer)
}

#[tokio::test]
async fn another_system_has_scripted_faults_a_log_and_counts() {
    let notebook = notebook(None).await;
    let fault = json!({"fault": {"kind": "commit_then_drop"}, "call": "write", "account": "mine", "contains": "second"});
    control(&notebook, Method::POST, "faults", fault).await;
    let (_, waiting) = control(&notebook, Method::GET, "faults", json!(null)).await;
    assert_eq!(waiting["scripted"][0]["key"], "mine", "its own word");
    assert_eq!(write(&notebook, "first").await.unwrap(), 200);
    assert!(write(&notebook, "second").await.is_err(), "dropped");
    assert_eq!(read(&notebook, "second").await, 200, "and stored");
    let wrong_key = http_client().get(format!("{}first", notebook.base_url()));
    assert_eq!(wrong_key.send().await.unwrap().status(), 401);

    let (_, log) = control(
        &notebook,
        Method::GET,
        "log?account=mine&since=1&limit=1",
        json!(null),
    )
    .await;
    insta::assert_json_snapshot!(log["entries"], @r#"
    [
      {
        "answered_at": "2026-01-15T09:00:00Z",
        "at": "2026-01-15T09:00:00Z",
        "body": {
          "text": "second"
        },
        "call": "write",
        "fault": "commit_then_drop",
        "key": "mine",
        "outcome": "dropped",
        "path": "second",
        "refused": null,
        "seq": 2,
        "status": null,
        "stored": true,
        "stored_at": "2026-01-15T09:00:00Z"
      }
    ]
    "#);
    let counts = notebook.counts();
    assert_eq!(
        (counts.calls(Call::Write), counts.stored(Call::Write)),
        (2, 2)
    );
    assert_eq!(counts.fault("commit_then_drop"), 1);
    let outcomes: Vec<_> = notebook
        .log(LogFilter::default())
        .iter()
        .map(|entry| entry.outcome)
        .collect();
    assert_eq!(
        outcomes,
        [
            Outcome::Answered,
            Outcome::Dropped,
            Outcome::Answered,
            Outcome::Refused
        ]
    );
    assert_eq!(
        control(&notebook, Method::PUT, "companies/1", json!({}))
            .await
            .0,
        404,
        "Metakocka's"
    );
}

#[tokio::test]
async fn another_system_waits_for_the_clock() {
    let notebook = notebook(None).await;
    let slow = ScriptedFault::new(Wrong::Slow { ms: 48_000 }).on(Call::Write);
    notebook.fault(slow).unwrap();
    let advance = async {
        until("the call waits", || notebook.counts().fault("slow") == 1).await;
        assert_eq!(
            notebook.log(LogFilter::default())[0].outcome,
            Outcome::Pending
        );
        let (_, now) = control(
            &notebook,
            Method::POST,
            "clock",
            json!({"advance_ms": 48_000}),
        )
        .await;
        assert_eq!(now["now"], "2026-01-15T09:00:48Z");
    };
    let (written, ()) = tokio::join!(write(&notebook, "late"), advance);
    assert_eq!(written.unwrap(), 200);
    let entry = &notebook.log(LogFilter::default())[0];
    assert_eq!((entry.answered_at.unwrap() - entry.at).num_seconds(), 48);
}

#[tokio::test]
async fn another_system_is_away_for_a_while() {
    let notebook = notebook(None).await;
    control(&notebook, Method::POST, "outage", json!({"ms": 60_000})).await;
    let refused = async { while write(&notebook, "away").await.is_ok() {} };
    tokio::time::timeout(PATIENCE, refused).await.unwrap();
    let stopped = tokio::time::timeout(PATIENCE, notebook.stop()).await;
    stopped.expect("stopping doesn't wait for the outage's end");
}

#[tokio::test]
async fn another_system_keeps_its_state_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("notebook.json");
    let first = notebook(Some(&state)).await;
    assert!(!first.went_on());
    assert_eq!(write(&first, "kept").await.unwrap(), 200);
    let text: Value = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
    assert_eq!(
        text,
        json!({"kept": {"text": "kept"}}),
        "written before the answer left"
    );
    first.stop().await;
    let second = notebook(Some(&state)).await;
    assert!(second.went_on());
    assert_eq!(read(&second, "kept").await, 200);
    let saved = control(&second, Method::GET, "state", json!(null)).await.1;
    control(&second, Method::POST, "reset", json!(null)).await;
    assert_eq!(read(&second, "kept").await, 404);
    control(&second, Method::PUT, "state", saved).await;
    assert_eq!(read(&second, "kept").await, 200);
}

async fn start(start: Start) -> Result<Box<dyn Running>, Error> {
    (ALL[0].start)(start, listener().await)
}

#[tokio::test]
async fn the_list_of_simulators_starts_each() {
    let names: Vec<_> = ALL
        .iter()
        .map(|kind| (kind.name, kind.title, kind.port))
        .collect();
    assert_eq!(names, [("metakocka", "Metakocka", 8099)]);
    let folder = tempfile::tempdir().unwrap();
    for kind in ALL {
        let state = folder.path().join(kind.name);
        for went_on in [None, Some(false), Some(true)] {
            let asked = Start {
                readings: Preset::Nasty,
                strict: true,
                state: went_on.map(|_| state.clone()),
                ..Start::default()
            };
            let running = (kind.start)(asked, listener().await).unwrap();
            assert_eq!(running.went_on(), went_on);
            assert!(!running.accounts().is_empty());
            let overview = send(Method::GET, running.control_url(), &json!(null)).await;
            let overview = overview.unwrap().1;
            assert_eq!(
                (&overview["simulator"], &overview["strict"]),
                (&json!(kind.name), &json!(true))
            );
            assert!(
                running
                    .base_url()
                    .ends_with(overview["calls_begin_at"].as_str().unwrap())
            );
            tokio::time::timeout(PATIENCE, running.stop())
                .await
                .unwrap();
        }
    }
}

#[tokio::test]
async fn options_say_everything_or_nothing() {
    let options = r#"{"companies": [{"company_id": "1", "secret_key": "a"}, {"company_id": "2", "secret_key": "b"}]}"#;
    let given = Start {
        options: Some(options.to_owned()),
        ..Start::default()
    };
    let running = start(given.clone()).await.unwrap();
    assert_eq!(running.accounts(), ["1", "2"]);
    for wrong in [
        Start {
            strict: true,
            ..given.clone()
        },
        Start {
            readings: Preset::Nasty,
            ..given.clone()
        },
        Start {
            options: Some("{".to_owned()),
            ..given.clone()
        },
        Start {
            options: Some(r#"{"colour": "red"}"#.to_owned()),
            ..given
        },
    ] {
        assert!(matches!(start(wrong).await, Err(Error::Invalid(_))));
    }
}

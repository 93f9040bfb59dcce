//! The routes under `/_sim/`.

use reqwest::Method;
use serde_json::{Value, json};
use simulators::metakocka::{ClockKind, Fault, Options, Readings, ScriptedFault};

use crate::caller::{Caller, http_client};

async fn caller() -> Caller {
    let clock = ClockKind::Manual("2026-01-15T09:00:00Z".parse().unwrap());
    Caller::open(Options {
        clock,
        ..Options::default()
    })
    .await
}

#[tokio::test]
async fn readings_are_changed_by_preset_and_by_switch() {
    let caller = caller().await;
    assert_eq!(caller.look("readings").await, json!(Readings::kind()));
    let (_, readings) = caller
        .control(
            Method::PUT,
            "readings",
            json!({"preset": "nasty", "index_lag_seconds": 2}),
        )
        .await;
    assert_eq!(
        (&readings["clearing"], &readings["index_lag_seconds"]),
        (&json!("keeps"), &json!(2))
    );
    let (_, readings) = caller
        .control(Method::PUT, "readings", json!({"clearing": "clears"}))
        .await;
    assert_eq!(
        (&readings["clearing"], &readings["index_lag_seconds"]),
        (&json!("clears"), &json!(2))
    );
    for wrong in [
        json!({"preset": "mean"}),
        json!({"clearing": "maybe"}),
        json!({"colour": "red"}),
        json!([]),
    ] {
        let (status, answer) = caller.control(Method::PUT, "readings", wrong).await;
        assert_eq!(status, 400);
        assert!(answer["error"].is_string());
    }
    assert_eq!(caller.look("readings").await["clearing"], "clears");
    caller
        .control(
            Method::PUT,
            "companies/4711/readings",
            json!({"match_name": {"extent": "exact", "text": "raw"}}),
        )
        .await;
    caller.add("Novak").await;
    let nobody = caller
        .call("v1/get_partner", json!({"partner_name": "nov"}))
        .await;
    assert_eq!(
        nobody["opr_code"], 2,
        "native numbers, as the nasty preset has them"
    );
}

#[tokio::test]
async fn people_work_over_http_too() {
    let caller = caller().await;
    let typed = json!({"customer": "Novak", "addresses": [{"address_type": "Račun", "street": "Lipova 1"}], "contacts": [{"name": "Ana", "email": "ana@novak.example"}]});
    let (_, novak) = caller
        .control(Method::POST, "companies/4711/partners", typed)
        .await;
    assert_eq!(
        novak["contacts"][0]["mk_address_id"],
        novak["addresses"][0]["mk_id"]
    );
    let own = format!(
        "companies/4711/partners/{}",
        novak["mk_id"].as_str().unwrap()
    );
    let (_, edited) = caller
        .control(
            Method::PATCH,
            &own,
            json!({"tax_id_number": "SI1", "contacts": []}),
        )
        .await;
    assert_eq!(
        (&edited["tax_id_number"], &edited["contacts"]),
        (&json!("SI1"), &json!([]))
    );
    caller
        .control(
            Method::POST,
            &format!("{own}/rename"),
            json!({"customer": "Nova"}),
        )
        .await;
    assert_eq!(caller.look(&own).await["customer"], "Nova");
    let (_, kovac) = caller
        .control(
            Method::POST,
            "companies/4711/partners",
            json!({"customer": "Kovač"}),
        )
        .await;
    caller
        .control(
            Method::POST,
            &format!("{own}/merge"),
            json!({"into": kovac["mk_id"]}),
        )
        .await;
    assert_eq!(caller.customers(), ["Kovač"]);
    let (status, _) = caller.control(Method::DELETE, &own, json!(null)).await;
    assert_eq!(status, 404, "merged away");
    let listed = caller.look("companies/4711/partners").await;
    assert_eq!(listed["partners"][0]["addresses"][0]["street"], "Lipova 1");
    assert_eq!(
        caller
            .control(
                Method::POST,
                "companies/4711/partners",
                json!({"name": "x"})
            )
            .await
            .0,
        400
    );
    assert_eq!(
        caller
            .control(
                Method::POST,
                "companies/1/partners",
                json!({"customer": "x"})
            )
            .await
            .0,
        404
    );
}

#[tokio::test]
async fn a_wrong_path_and_a_wrong_method_are_told() {
    let caller = caller().await;
    for (method, path, status) in [
        (Method::GET, "colours", 404),
        (Method::GET, "companies", 404),
        (Method::GET, "companies/", 404),
        (Method::GET, "companies/4711/colours", 404),
        (Method::GET, "companies/4711", 405),
        (Method::GET, "companies/4711/readings", 405),
        (Method::DELETE, "companies/4711/partners", 405),
        (Method::POST, "companies/4711/partners/1", 405),
        (Method::GET, "companies/4711/partners/1/merge", 405),
        (Method::GET, "companies/4711/partners/x", 400),
        (Method::GET, "companies/4711/partners/1", 404),
    ] {
        let asked = format!("{method} {path}");
        let (answered, answer) = caller.control(method, path, json!(null)).await;
        assert_eq!(answered, status, "{asked}");
        assert!(answer["error"].is_string(), "{asked}");
    }
}

#[tokio::test]
async fn faults_are_put_listed_counted_and_cleared() {
    let caller = caller().await;
    let (_, one) = caller
        .control(
            Method::POST,
            "faults",
            json!({"fault": {"kind": "slow", "ms": 5}, "nth": 3}),
        )
        .await;
    let both = json!([{"fault": {"kind": "garbled"}}, {"fault": {"kind": "commit_late", "after_ms": 1, "answer": "nothing"}}]);
    let (_, two) = caller.control(Method::POST, "faults", both).await;
    assert_eq!((one, two), (json!({"ids": [1]}), json!({"ids": [2, 3]})));
    caller
        .control(
            Method::PUT,
            "faults/random",
            json!([{"fault": {"kind": "error"}, "rate": 0.5}]),
        )
        .await;
    caller.send("v1/get_partner", json!({})).await.unwrap();
    insta::assert_json_snapshot!(caller.look("faults").await, @r#"
    {
      "happened": {
        "garbled": 1
      },
      "random": [
        {
          "call": null,
          "fault": {
            "kind": "error",
            "status": 502
          },
          "rate": 0.5,
          "vary": false
        }
      ],
      "scripted": [
        {
          "call": null,
          "company": null,
          "contains": null,
          "fault": {
            "commit": "at_end",
            "kind": "slow",
            "ms": 5
          },
          "happened": 0,
          "id": 1,
          "matched": 1,
          "nth": 3,
          "times": 1
        },
        {
          "call": null,
          "company": null,
          "contains": null,
          "fault": {
            "after_ms": 1,
            "answer": "nothing",
            "kind": "commit_late"
          },
          "happened": 0,
          "id": 3,
          "matched": 0,
          "nth": 1,
          "times": 1
        }
      ]
    }
    "#);
    caller.control(Method::DELETE, "faults", json!(null)).await;
    let left = caller.look("faults").await;
    assert_eq!(
        (&left["scripted"], &left["random"]),
        (&json!([]), &json!([]))
    );
    for wrong in [
        json!({"fault": {"kind": "fire"}}),
        json!({"fault": {"kind": "auth", "code": 9}}),
        json!({"kind": "reset"}),
    ] {
        assert_eq!(caller.control(Method::POST, "faults", wrong).await.0, 400);
    }
}

#[tokio::test]
async fn the_log_is_followed_by_number_and_filtered() {
    let caller = caller().await;
    caller.add("Novak").await;
    caller.call("v1/get_partner", json!({})).await;
    let all = caller.look("log").await;
    assert_eq!(
        (all["entries"].as_array().unwrap().len(), &all["next_since"]),
        (2, &json!(2))
    );
    insta::assert_json_snapshot!(all["entries"][0], @r#"
    {
      "answered_at": "2026-01-15T09:00:00Z",
      "at": "2026-01-15T09:00:00Z",
      "body": {
        "partner": {
          "customer": "Novak"
        }
      },
      "call": "add_partner",
      "company_id": "4711",
      "fault": null,
      "mk_id": "9000000101",
      "outcome": "answered",
      "path": "v1/add_partner",
      "refused": null,
      "seq": 1,
      "status": 200,
      "stored": true,
      "stored_at": "2026-01-15T09:00:00Z"
    }
    "#);
    let reads = caller.look("log?call=get_partner&company=4711").await;
    assert_eq!(reads["entries"][0]["seq"], 2);
    assert_eq!(caller.look("log?since=2").await["entries"], json!([]));
    assert_eq!(caller.look("log?limit=1").await["next_since"], 1);
    assert!(caller.look("log?colour=red").await["error"].is_string());
}

#[tokio::test]
async fn the_clock_stands_until_it_is_moved() {
    let caller = caller().await;
    let (_, moved) = caller
        .control(Method::POST, "clock", json!({"advance_ms": 48_000}))
        .await;
    assert_eq!(moved, json!({"now": "2026-01-15T09:00:48Z"}));
    assert_eq!(caller.look("clock").await, moved);
    let real = Caller::with(Readings::kind()).await;
    assert_eq!(
        real.control(Method::POST, "clock", json!({"advance_ms": 1}))
            .await
            .0,
        409
    );
}

#[tokio::test]
async fn strict_mode_is_switched_and_tells_what_it_saw() {
    let caller = caller().await;
    caller
        .control(Method::PUT, "strict", json!({"strict": true}))
        .await;
    let refused = caller
        .call(
            "v1/add_partner",
            json!({"partner": {"customer": "N", "foreign_country": "true"}}),
        )
        .await;
    assert_eq!(refused["opr_code"], "2");
    let seen = caller.look("strict").await;
    assert_eq!(
        seen["strict_violations"][0]["field"],
        "partner.foreign_country"
    );
    assert_eq!(seen["strict_violations"][0]["company_id"], "4711");
    assert_eq!(caller.simulator.counts().strict_violations, 1);
    caller
        .control(Method::PUT, "strict", json!({"strict": false}))
        .await;
    assert_eq!(
        caller
            .call(
                "v1/add_partner",
                json!({"partner": {"customer": "N", "foreign_country": "true"}})
            )
            .await
            .get("opr_code"),
        None
    );
}

#[tokio::test]
async fn access_is_changed_while_it_runs() {
    let caller = caller().await;
    caller
        .control(
            Method::PUT,
            "companies/4711",
            json!({"allowed_ips": ["10.0.0.1"]}),
        )
        .await;
    assert_eq!(
        caller.call("v1/get_partner", json!({})).await["opr_code"],
        "4"
    );
    caller
        .control(
            Method::PUT,
            "companies/4711",
            json!({"allowed_ips": [], "secret_key": "another"}),
        )
        .await;
    assert_eq!(
        caller.call("v1/get_partner", json!({})).await["opr_code"],
        "3"
    );
    caller
        .control(
            Method::PUT,
            "companies/4711",
            json!({"secret_key": "sim-key"}),
        )
        .await;
    assert_eq!(
        caller.call("v1/get_partner", json!({})).await["opr_code"],
        "2"
    );
}

#[tokio::test]
async fn state_goes_out_and_in() {
    let caller = caller().await;
    caller.add("Novak").await;
    let saved = caller.look("state").await;
    caller.control(Method::POST, "reset", json!(null)).await;
    assert_eq!(caller.customers().len(), 0);
    assert_eq!(caller.control(Method::PUT, "state", saved).await.0, 200);
    assert_eq!(caller.customers(), ["Novak"]);
    assert_eq!(caller.look("").await["companies"][0]["partners"], 1);
    assert_eq!(
        caller.look("counts").await["calls"],
        json!({}),
        "counts are not state"
    );
}

#[tokio::test]
async fn a_control_token_guards_the_control_routes_only() {
    let caller = Caller::open(Options {
        control_token: Some("hush".into()),
        ..Options::default()
    })
    .await;
    let state = format!("{}state", caller.simulator.control_url());
    let ask = |token: Option<&'static str>| {
        let request = http_client().get(&state);
        let request = token
            .iter()
            .fold(request, |request, token| request.bearer_auth(token));
        async move { request.send().await.unwrap().status().as_u16() }
    };
    assert_eq!(
        [
            ask(None).await,
            ask(Some("wrong")).await,
            ask(Some("hush")).await
        ],
        [401, 401, 200]
    );
    assert!(caller.add("Novak").await["mk_id"].is_string());
}

#[tokio::test]
async fn a_body_needs_no_content_type() {
    let caller = caller().await;
    let url = format!("{}faults", caller.simulator.control_url());
    let answer: Value = http_client()
        .post(url)
        .body(r#"{"fault":{"kind":"reset"}}"#)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(answer, json!({"ids": [1]}));
    assert_eq!(
        caller.simulator.faults()[0].scripted,
        ScriptedFault::new(Fault::Reset)
    );
}

#[tokio::test]
async fn the_readme_names_every_route_and_fault() {
    let readme = include_str!("../../README.md");
    for fault in simulators::metakocka::RandomFault::every_passing_kind(0.01, 1) {
        assert!(
            readme.contains(&format!("`{}`", fault.fault.name())),
            "{}",
            fault.fault.name()
        );
    }
    for route in [
        "state",
        "reset",
        "readings",
        "strict",
        "faults",
        "faults/random",
        "counts",
        "log",
        "clock",
        "outage",
        "companies/4711",
    ] {
        assert!(readme.contains(&format!("$S/{route}")), "{route}");
    }
}

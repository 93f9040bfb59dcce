//! The routes under `/_sim/`.

use reqwest::Method;
use serde_json::{Value, json};
use simulators::metakocka::{ClockKind, Fault, Options, Readings, ScriptedFault};

use crate::desk::{Desk, http_client};

async fn desk() -> Desk {
    let clock = ClockKind::Manual("2026-01-15T09:00:00Z".parse().unwrap());
    Desk::open(Options {
        clock,
        ..Options::default()
    })
    .await
}

#[tokio::test]
async fn readings_are_changed_by_preset_and_by_switch() {
    let desk = desk().await;
    assert_eq!(desk.look("readings").await, json!(Readings::kind()));
    let (_, readings) = desk
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
    let (_, readings) = desk
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
        let (status, answer) = desk.control(Method::PUT, "readings", wrong).await;
        assert_eq!(status, 400);
        assert!(answer["error"].is_string());
    }
    assert_eq!(desk.look("readings").await["clearing"], "clears");
    desk.control(
        Method::PUT,
        "companies/4711/readings",
        json!({"match_name": {"extent": "exact", "text": "raw"}}),
    )
    .await;
    desk.add("Novak").await;
    let nobody = desk
        .call("v1/get_partner", json!({"partner_name": "nov"}))
        .await;
    assert_eq!(
        nobody["opr_code"], 2,
        "native numbers, as the nasty preset has them"
    );
}

#[tokio::test]
async fn people_work_over_http_too() {
    let desk = desk().await;
    let typed = json!({"customer": "Novak", "addresses": [{"address_type": "Račun", "street": "Lipova 1"}], "contacts": [{"name": "Ana", "email": "ana@novak.example"}]});
    let (_, novak) = desk
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
    let (_, edited) = desk
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
    desk.control(
        Method::POST,
        &format!("{own}/rename"),
        json!({"customer": "Nova"}),
    )
    .await;
    assert_eq!(desk.look(&own).await["customer"], "Nova");
    let (_, kovac) = desk
        .control(
            Method::POST,
            "companies/4711/partners",
            json!({"customer": "Kovač"}),
        )
        .await;
    desk.control(
        Method::POST,
        &format!("{own}/merge"),
        json!({"into": kovac["mk_id"]}),
    )
    .await;
    assert_eq!(desk.customers(), ["Kovač"]);
    let (status, _) = desk.control(Method::DELETE, &own, json!(null)).await;
    assert_eq!(status, 404, "merged away");
    let listed = desk.look("companies/4711/partners").await;
    assert_eq!(listed["partners"][0]["addresses"][0]["street"], "Lipova 1");
    assert_eq!(
        desk.control(
            Method::POST,
            "companies/4711/partners",
            json!({"name": "x"})
        )
        .await
        .0,
        400
    );
    assert_eq!(
        desk.control(
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
    let desk = desk().await;
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
        let (answered, answer) = desk.control(method, path, json!(null)).await;
        assert_eq!(answered, status, "{asked}");
        assert!(answer["error"].is_string(), "{asked}");
    }
}

#[tokio::test]
async fn faults_are_put_listed_counted_and_cleared() {
    let desk = desk().await;
    let (_, one) = desk
        .control(
            Method::POST,
            "faults",
            json!({"fault": {"kind": "slow", "ms": 5}, "nth": 3}),
        )
        .await;
    let both = json!([{"fault": {"kind": "garbled"}}, {"fault": {"kind": "commit_late", "after_ms": 1, "answer": "nothing"}}]);
    let (_, two) = desk.control(Method::POST, "faults", both).await;
    assert_eq!((one, two), (json!({"ids": [1]}), json!({"ids": [2, 3]})));
    desk.control(
        Method::PUT,
        "faults/random",
        json!([{"fault": {"kind": "error"}, "rate": 0.5}]),
    )
    .await;
    desk.send("v1/get_partner", json!({})).await.unwrap();
    insta::assert_json_snapshot!(desk.look("faults").await, @r#"
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
    desk.control(Method::DELETE, "faults", json!(null)).await;
    let left = desk.look("faults").await;
    assert_eq!(
        (&left["scripted"], &left["random"]),
        (&json!([]), &json!([]))
    );
    for wrong in [
        json!({"fault": {"kind": "fire"}}),
        json!({"fault": {"kind": "auth", "code": 9}}),
        json!({"kind": "reset"}),
    ] {
        assert_eq!(desk.control(Method::POST, "faults", wrong).await.0, 400);
    }
}

#[tokio::test]
async fn the_log_is_followed_by_number_and_filtered() {
    let desk = desk().await;
    desk.add("Novak").await;
    desk.call("v1/get_partner", json!({})).await;
    let all = desk.look("log").await;
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
    let reads = desk.look("log?call=get_partner&company=4711").await;
    assert_eq!(reads["entries"][0]["seq"], 2);
    assert_eq!(desk.look("log?since=2").await["entries"], json!([]));
    assert_eq!(desk.look("log?limit=1").await["next_since"], 1);
    assert!(desk.look("log?colour=red").await["error"].is_string());
}

#[tokio::test]
async fn the_clock_stands_until_it_is_moved() {
    let desk = desk().await;
    let (_, moved) = desk
        .control(Method::POST, "clock", json!({"advance_ms": 48_000}))
        .await;
    assert_eq!(moved, json!({"now": "2026-01-15T09:00:48Z"}));
    assert_eq!(desk.look("clock").await, moved);
    let real = Desk::with(Readings::kind()).await;
    assert_eq!(
        real.control(Method::POST, "clock", json!({"advance_ms": 1}))
            .await
            .0,
        409
    );
}

#[tokio::test]
async fn strict_mode_is_switched_and_tells_what_it_saw() {
    let desk = desk().await;
    desk.control(Method::PUT, "strict", json!({"strict": true}))
        .await;
    let refused = desk
        .call(
            "v1/add_partner",
            json!({"partner": {"customer": "N", "foreign_country": "true"}}),
        )
        .await;
    assert_eq!(refused["opr_code"], "2");
    let seen = desk.look("strict").await;
    assert_eq!(
        seen["strict_violations"][0]["field"],
        "partner.foreign_country"
    );
    assert_eq!(seen["strict_violations"][0]["company_id"], "4711");
    assert_eq!(desk.simulator.counts().strict_violations, 1);
    desk.control(Method::PUT, "strict", json!({"strict": false}))
        .await;
    assert_eq!(
        desk.call(
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
    let desk = desk().await;
    desk.control(
        Method::PUT,
        "companies/4711",
        json!({"allowed_ips": ["10.0.0.1"]}),
    )
    .await;
    assert_eq!(
        desk.call("v1/get_partner", json!({})).await["opr_code"],
        "4"
    );
    desk.control(
        Method::PUT,
        "companies/4711",
        json!({"allowed_ips": [], "secret_key": "another"}),
    )
    .await;
    assert_eq!(
        desk.call("v1/get_partner", json!({})).await["opr_code"],
        "3"
    );
    desk.control(
        Method::PUT,
        "companies/4711",
        json!({"secret_key": "sim-key"}),
    )
    .await;
    assert_eq!(
        desk.call("v1/get_partner", json!({})).await["opr_code"],
        "2"
    );
}

#[tokio::test]
async fn state_goes_out_and_in() {
    let desk = desk().await;
    desk.add("Novak").await;
    let saved = desk.look("state").await;
    desk.control(Method::POST, "reset", json!(null)).await;
    assert_eq!(desk.customers().len(), 0);
    assert_eq!(desk.control(Method::PUT, "state", saved).await.0, 200);
    assert_eq!(desk.customers(), ["Novak"]);
    assert_eq!(desk.look("").await["companies"][0]["partners"], 1);
    assert_eq!(
        desk.look("counts").await["calls"],
        json!({}),
        "counts are not state"
    );
}

#[tokio::test]
async fn a_control_token_guards_the_control_routes_only() {
    let desk = Desk::open(Options {
        control_token: Some("hush".into()),
        ..Options::default()
    })
    .await;
    let state = format!("{}state", desk.simulator.control_url());
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
    assert!(desk.add("Novak").await["mk_id"].is_string());
}

#[tokio::test]
async fn a_body_needs_no_content_type() {
    let desk = desk().await;
    let url = format!("{}faults", desk.simulator.control_url());
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
        desk.simulator.faults()[0].scripted,
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

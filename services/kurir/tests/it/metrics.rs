//! What `/metrics` shows: named, explained, bounded, true, and the same as docs/metrics.md says.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;
use simulators::metakocka::{Call, Fault, ScriptedFault};
use testkit::{Contacts, Running, wait_for};

use crate::fleet::{Fleet, SOON, TENANT, plain, ready};

/// More than this from one process, and a fleet of fifty burdens whoever scrapes it.
const SERIES_LIMIT: usize = 1000;

async fn scrape(process: &Running) -> String {
    let answer = process.http("health").get("/metrics").await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.text
}

/// Series without the comments.
fn series(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.starts_with('#'))
}

fn value(text: &str, wanted: &str) -> Option<f64> {
    series(text)
        .find_map(|line| line.strip_prefix(wanted)?.strip_prefix(' '))
        .map(|value| value.parse().unwrap())
}

/// Type by name, as the text says it.
fn families(text: &str) -> BTreeMap<String, String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let split = types.filter_map(|line| line.split_once(' '));
    split
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect()
}

/// Names and types of the tables in docs/metrics.md.
fn documented() -> BTreeMap<String, String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| {
        let (name, rest) = row.split_once('`')?;
        let kind = rest.split('|').nth(1)?.trim();
        Some((name.to_owned(), kind.to_owned()))
    })
    .collect()
}

/// Where the tool is installed: names, units and help as Prometheus wants them.
fn lint(text: &str) {
    let Ok(mut promtool) = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    else {
        return;
    };
    let mut input = promtool.stdin.take().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    let said = promtool.wait_with_output().unwrap();
    let said_in_all = format!(
        "{}{}",
        String::from_utf8_lossy(&said.stdout),
        String::from_utf8_lossy(&said.stderr)
    );
    assert!(said.status.success(), "{said_in_all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_shows_what_it_does() {
    let fleet = Fleet::start().await;
    let (gateway, worker, keeper) =
        tokio::join!(ready(fleet.gateway()), fleet.working(), fleet.keeping());
    let create = [
        "token", "create", "--tenant", TENANT, "--name", "crm", "--json",
    ];
    let created = fleet.command(&create).await.expect(0);
    let created: Value = serde_json::from_str(&created.stdout).unwrap();
    let http = gateway
        .http("gateway")
        .with_token(created["secret"].as_str().unwrap());
    let mut source = Contacts::new(TENANT, 1);
    let (mut fine, mut refused) = (plain(&mut source), plain(&mut source));
    fleet.fault(
        ScriptedFault::new(Fault::Refuse {
            code: 2,
            text: "not this one".to_owned(),
        })
        .on(Call::AddPartner)
        .containing(refused.name())
        .always(),
    );
    let events = [fine.created(), refused.created()];
    for event in &events {
        http.post_event("/v1/events", event)
            .await
            .unwrap()
            .expect(202);
    }
    fleet.rests(&events).await;

    // The keeper counts the database every 15 s.
    wait_for("the dead letter is counted", SOON, async || {
        let keeper = scrape(&keeper).await;
        let open = r#"kurir_dead_letters{class="refused",state="open",worker="metakocka-sync"}"#;
        match value(&keeper, open) {
            Some(1.0) => Ok(()),
            other => Err(format!("{other:?}\n{keeper}")),
        }
    })
    .await;
    wait_for(
        "the worker's gauges are taken anew",
        SOON,
        async || match value(
            &scrape(&worker).await,
            r#"kurir_worker_slots_used{worker="metakocka-sync"}"#,
        ) {
            Some(0.0) => Ok(()),
            other => Err(other),
        },
    )
    .await;

    let (gateway, worker, keeper) =
        tokio::join!(scrape(&gateway), scrape(&worker), scrape(&keeper));
    let mut found = BTreeMap::new();
    for text in [&gateway, &worker, &keeper] {
        lint(text);
        let count = series(text).count();
        assert!(count < SERIES_LIMIT, "{count} series");
        let helped: BTreeSet<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# HELP "))
            .filter_map(|line| line.split_once(' '))
            .filter(|(_, help)| help.len() > 10)
            .map(|(name, _)| name)
            .collect();
        for (name, kind) in families(text) {
            assert!(helped.contains(name.as_str()), "{name} has no help");
            found.insert(name, kind);
        }
        assert!(!text.contains(TENANT), "a tenant in a label");
    }
    found.retain(|name, _| name.starts_with("kurir_"));
    let (found, said) = (found, documented());
    let missing: Vec<_> = found
        .iter()
        .filter(|(name, kind)| said.get(*name) != Some(*kind))
        .collect();
    let gone: Vec<_> = said
        .keys()
        .filter(|name| !found.contains_key(*name))
        .collect();
    assert!(
        missing.is_empty() && gone.is_empty(),
        "docs/metrics.md lacks {missing:#?} and names {gone:?}, which nobody shows"
    );

    let of_worker = r#"worker="metakocka-sync""#;
    for (text, name, wanted) in [
        (&gateway, r#"kurir_events_received_total{message_type="crm.contact.created.v1",outcome="accepted"}"#.to_owned(), 2.0),
        (&gateway, r#"kurir_http_requests_total{method="POST",route="/v1/events",status_class="2xx"}"#.to_owned(), 2.0),
        (&gateway, r#"kurir_publish_total{exchange="events",outcome="confirmed"}"#.to_owned(), 2.0),
        (&worker, format!(r#"kurir_messages_received_total{{{of_worker}}}"#), 2.0),
        (&worker, format!(r#"kurir_messages_processed_total{{message_type="crm.contact.created.v1",outcome="ack",{of_worker}}}"#), 1.0),
        (&worker, format!(r#"kurir_messages_dead_lettered_total{{class="refused",{of_worker}}}"#), 1.0),
        (&worker, format!(r#"kurir_message_critical_time_seconds_count{{message_type="crm.contact.created.v1",{of_worker}}}"#), 1.0),
        (&worker, r#"kurir_effects_total{operation="create",outcome="confirmed",system="metakocka"}"#.to_owned(), 1.0),
        (&worker, r#"kurir_effects_total{operation="create",outcome="refused",system="metakocka"}"#.to_owned(), 1.0),
        (&worker, r#"kurir_external_requests_total{operation="add_partner",outcome="ok",system="metakocka"}"#.to_owned(), 2.0),
        (&worker, format!(r#"kurir_worker_consuming{{{of_worker}}}"#), 1.0),
        (&worker, format!(r#"kurir_messages_in_flight{{{of_worker}}}"#), 0.0),
        (&keeper, r#"kurir_dead_letters_committed_total{kind="whole"}"#.to_owned(), 1.0),
        (&keeper, r#"kurir_connections{state="ok",system="metakocka"}"#.to_owned(), 1.0),
        (&keeper, "kurir_held_without_cause".to_owned(), 0.0),
    ] {
        assert_eq!(value(text, &name), Some(wanted), "{name}\n{text}");
    }
}

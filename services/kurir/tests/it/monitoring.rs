//! Alerts, runbooks and dashboards beside each other and beside what the processes show. What stands in files is checked
//! everywhere; `live` needs a Prometheus (`make monitoring`) and asks every expression of a fleet that works.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use simulators::metakocka::{Call, Fault, ScriptedFault};
use testkit::prometheus::{Prometheus, promtool_check_metrics};
use testkit::{Contacts, Http, Running, wait_for};

use crate::fleet::{Fate, Fleet, TENANT, plain, ready, rename};
use crate::run::kurir;

/// Everything has been scraped and every rule evaluated by then; the machine may be busy.
const SHOWN: Duration = Duration::from_secs(90);
/// What `$__rate_interval` is at the test's scrape interval of a second.
const RATE_INTERVAL: &str = "20s";
/// Series that one process may show.
const SERIES_LIMIT: usize = 1000;
/// Panels without a series while nothing is wrong, and why their metric cannot begin at 0.
const EMPTY_WHEN_HEALTHY: [(&str, &str); 2] = [
    ("Circuits open", "named by operation: known when one opens"),
    (
        "Calls whose outcome is open",
        "named by operation: known when one is open",
    ),
];

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn read(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Names after `- alert:`; that the file is well formed is promtool's to say.
fn alerts() -> BTreeSet<String> {
    let rules = read("deploy/monitoring/alerts.yaml");
    let named = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    named.map(str::to_owned).collect()
}

fn files(folder: &str, extension: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap();
    entries
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_suffix(extension).map(str::to_owned)
        })
        .collect()
}

fn dashboards() -> BTreeMap<String, Value> {
    files("deploy/monitoring/dashboards", ".json")
        .into_iter()
        .map(|name| {
            let text = read(&format!("deploy/monitoring/dashboards/{name}.json"));
            let dashboard =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, dashboard)
        })
        .collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Panels that ask something, rows' own panels included.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let top = list(&dashboard["panels"]).iter();
    let all = top.flat_map(|panel| std::iter::once(panel).chain(list(&panel["panels"])));
    all.filter(|panel| panel["type"] != "row").collect()
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_default()
}

#[test]
fn every_alert_has_its_runbook_and_its_tests() {
    let alerts = alerts();
    assert!(alerts.len() > 20, "{alerts:?}");
    assert_eq!(alerts, files("docs/runbooks", ".md"));
    let (rules, tests) = (
        read("deploy/monitoring/alerts.yaml"),
        read("deploy/monitoring/alerts.test.yaml"),
    );
    for alert in alerts {
        let link = format!("runbook_url: docs/runbooks/{alert}.md");
        assert!(rules.contains(&link), "{alert} does not name its runbook");
        let asked = format!("alertname=\"{alert}\"");
        let asked: Vec<&str> = tests.lines().filter(|line| line.contains(&asked)).collect();
        let silent = asked.iter().filter(|line| line.contains("exp_samples: []"));
        assert_eq!(
            (silent.count(), asked.len()),
            (1, 2),
            "{alert} is tested once silent and once firing"
        );
        let runbook = read(&format!("docs/runbooks/{alert}.md"));
        for section in ["Meaning", "Impact", "Check", "Fix", "Escalate"] {
            let heading = format!("\n## {section}\n");
            assert!(runbook.contains(&heading), "{alert}: no section {section}");
        }
    }
}

/// Lines of the fenced blocks of a page in this language.
fn fenced(page: &str, language: &str) -> Vec<String> {
    let begin = format!("```{language}\n");
    let blocks = page
        .split(&begin)
        .skip(1)
        .filter_map(|rest| rest.split_once("\n```"));
    blocks
        .flat_map(|(block, _)| block.lines())
        .map(str::to_owned)
        .collect()
}

/// `kurir …` in blocks of shell lines and between backticks.
fn commands(page: &str) -> BTreeSet<String> {
    let inline = page.split('`').skip(1).step_by(2).map(str::to_owned);
    let all = fenced(page, "sh").into_iter().chain(inline);
    all.filter(|line| line.starts_with("kurir ") && !line.contains('\n'))
        .collect()
}

#[test]
fn what_runbooks_tell_to_type_exists() {
    let pages = files("docs/runbooks", ".md")
        .into_iter()
        .map(|name| format!("docs/runbooks/{name}.md"));
    let mut helps: BTreeMap<String, String> = BTreeMap::new();
    for path in pages.chain(["docs/operations.md".to_owned()]) {
        for command in commands(&read(&path)) {
            let given: Vec<&str> = command
                .split_whitespace()
                .skip(1)
                .take_while(|word| *word != "|")
                .collect();
            let name = given.iter().take_while(|word| {
                word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-')
            });
            let mut name: Vec<&str> = name.copied().collect();
            if name[0] == "worker" {
                name.truncate(1);
            }
            let help = helps
                .entry(name.join(" "))
                .or_insert_with(|| kurir(&[&name[..], &["--help"]].concat(), &[], "").ok());
            for flag in given.iter().filter(|word| word.starts_with("--")) {
                assert!(help.contains(flag), "{path}: `{command}`: no {flag}");
            }
        }
    }
    assert!(helps.len() > 10, "{helps:?}");
}

#[test]
fn dashboards_are_whole() {
    let dashboards = dashboards();
    assert_eq!(dashboards.len(), 3);
    for (name, dashboard) in &dashboards {
        assert_eq!(text(dashboard, "uid"), name);
        assert!(
            dashboard["id"].is_null(),
            "{name}: an id belongs to one Grafana"
        );
        let links: BTreeSet<&str> = list(&dashboard["links"])
            .iter()
            .map(|link| text(link, "url"))
            .collect();
        let others: BTreeSet<String> = dashboards
            .keys()
            .filter(|other| *other != name)
            .map(|other| format!("/d/{other}"))
            .collect();
        assert_eq!(links, others.iter().map(String::as_str).collect(), "{name}");
        let all: Vec<i64> = list(&dashboard["panels"])
            .iter()
            .map(|panel| panel["id"].as_i64().unwrap())
            .collect();
        let unique: BTreeSet<i64> = all.iter().copied().collect();
        assert_eq!(all.len(), unique.len(), "{name}: panel ids repeat");
        let rows = list(&dashboard["panels"])
            .iter()
            .filter(|panel| panel["type"] == "row");
        for row in rows {
            assert!(
                text(row, "title").ends_with('?'),
                "{name}: a row is a question: {row}"
            );
        }
        for panel in panels(dashboard) {
            let title = text(panel, "title");
            assert!(
                !text(panel, "description").is_empty(),
                "{name} {title}: no description"
            );
            assert!(
                !text(&panel["fieldConfig"]["defaults"], "unit").is_empty(),
                "{name} {title}: no unit"
            );
            assert!(
                !list(&panel["targets"]).is_empty(),
                "{name} {title} asks nothing"
            );
            for target in list(&panel["targets"]) {
                assert_eq!(
                    target["datasource"]["uid"], "${datasource}",
                    "{name} {title}"
                );
                assert!(
                    !text(target, "legendFormat").is_empty(),
                    "{name} {title}: no legend"
                );
                let expression = text(target, "expr");
                let undefined = undefined(dashboard, expression);
                assert!(
                    undefined.is_empty(),
                    "{name} {title}: {undefined:?} in {expression}"
                );
                for function in ["rate(", "increase("] {
                    for call in expression.split(function).skip(1) {
                        let range = call.split(['[', ']']).nth(1).unwrap_or_default();
                        assert_eq!(range, "$__rate_interval", "{name} {title}: {expression}");
                    }
                }
            }
        }
    }
    for link in read("deploy/monitoring/alerts.yaml").lines() {
        if let Some(uid) = link.trim().strip_prefix("dashboard_url: /d/") {
            assert!(dashboards.contains_key(uid), "no dashboard {uid}");
        }
    }
}

/// Variables of an expression that its dashboard does not define.
fn undefined(dashboard: &Value, expression: &str) -> Vec<String> {
    let defined: Vec<&str> = list(&dashboard["templating"]["list"])
        .iter()
        .map(|variable| text(variable, "name"))
        .collect();
    let used = expression.split('$').skip(1).map(|rest| {
        let rest = rest.trim_start_matches('{');
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        rest[..end.unwrap_or(rest.len())].to_owned()
    });
    used.filter(|name| name != "__rate_interval" && !defined.contains(&name.as_str()))
        .collect()
}

/// As Grafana would send it, for a fleet whose names begin with `prefix`.
fn resolved(expression: &str, prefix: &str) -> String {
    of_prefix(expression, prefix)
        .replace("$__rate_interval", RATE_INTERVAL)
        .replace("$worker", ".*")
        .replace("$system", ".*")
}

/// Queues of a test begin with its own prefix.
fn of_prefix(text: &str, prefix: &str) -> String {
    text.replace("kurir[.]", &format!("{prefix}[.]"))
        .replace("\"kurir.unrouted\"", &format!("\"{prefix}.unrouted\""))
}

/// Words of an expression that are names of metrics: ours, the broker's, every process's, and recorded ones.
fn metrics(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    words
        .filter(|word| {
            ["kurir_", "rabbitmq_", "process_"]
                .iter()
                .any(|known| word.starts_with(known))
                || word.contains(":kurir_")
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn names_of_metrics_are_found_in_expressions() {
    let found = metrics(
        r#"sum by (worker) (rate(kurir_a_total{q="kurir.w"}[5m])) / worker:kurir_b:ratio > up"#,
    );
    let expected = ["kurir_a_total", "worker:kurir_b:ratio"].map(str::to_owned);
    assert_eq!(found, BTreeSet::from(expected));
}

/// Address of RabbitMQ's own metrics: beside the management API, or where they usually are.
async fn broker_metrics(fleet: &Fleet) -> String {
    const USUAL: u16 = 15_692;
    let management = fleet
        .broker
        .management_url()
        .expect("a broker with its management API");
    let management = outbound::Url::parse(management).unwrap();
    let host = management.host_str().unwrap();
    for port in [management.port_or_known_default().unwrap() + 1, USUAL] {
        let address = format!("{host}:{port}");
        let looked = Http::new(format!("http://{address}")).get("/metrics").await;
        if looked.is_ok_and(|answer| answer.status == 200) {
            return address;
        }
    }
    panic!("the broker shows no metrics: rabbitmq-plugins enable rabbitmq_prometheus");
}

fn address(role: &Running) -> String {
    role.http("health")
        .base()
        .trim_start_matches("http://")
        .to_owned()
}

/// Events of every kind of end: done, retried, held, dead, unrouted; through the gateway and straight to the broker.
async fn some_of_everything(fleet: &Fleet, gateway: &Running) {
    let token = fleet
        .command(&[
            "token", "create", "--tenant", TENANT, "--name", "test", "--json",
        ])
        .await
        .expect(0);
    let token: Value = serde_json::from_str(&token.stdout).unwrap();
    let http = gateway.http("gateway").with_token(text(&token, "secret"));
    let mut source = Contacts::new(TENANT, 7);
    let mut good = plain(&mut source);
    let created = good.created();
    http.post_event("/v1/events", &created)
        .await
        .unwrap()
        .expect(202);
    let refused = plain(&mut source).created();
    let refusal = Fault::Refuse {
        code: 2,
        text: "not this one".to_owned(),
    };
    fleet.becomes(&created, Fate::Covered).await;
    fleet.fault(ScriptedFault::new(refusal).on(Call::AddPartner).always());
    fleet.publish(&refused).await;
    fleet.becomes(&refused, Fate::Dead).await;
    fleet.simulator.clear_faults();
    let changed = rename(&mut good);
    fleet.publish(&changed).await;
    fleet.becomes(&changed, Fate::Covered).await;
}

/// Everything that is asked, with who asks it.
fn expressions(rules: &Value, prefix: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for group in list(&rules["data"]["groups"]) {
        for rule in list(&group["rules"]) {
            all.push((
                text(rule, "name").to_owned(),
                text(rule, "query").to_owned(),
            ));
        }
    }
    for name in alerts() {
        let page = read(&format!("docs/runbooks/{name}.md"));
        let queries = fenced(&page, "promql").into_iter();
        all.extend(queries.map(|query| (name.clone(), of_prefix(&query, prefix))));
    }
    for (name, dashboard) in dashboards() {
        for panel in panels(&dashboard) {
            let title = text(panel, "title");
            let targets = list(&panel["targets"]).iter();
            all.extend(targets.map(|target| {
                (
                    format!("{name}: {title}"),
                    resolved(text(target, "expr"), prefix),
                )
            }));
        }
    }
    all
}

/// Asks in Prometheus what the rules and panels ask, of a gateway, a worker, a keeper and the broker.
#[tokio::test(flavor = "multi_thread")]
async fn live_every_metric_exists_and_no_panel_is_empty() {
    let fleet = Fleet::start().await;
    let (gateway, worker, keeper) =
        tokio::join!(ready(fleet.gateway()), fleet.working(), fleet.keeping());
    let prefix = fleet.broker.prefix();
    // Its rules are those of the file, with this test's names of queues.
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("alerts.yaml");
    std::fs::write(
        &rules,
        of_prefix(&read("deploy/monitoring/alerts.yaml"), prefix),
    )
    .unwrap();
    let host = fleet.broker.amqp_url().rsplit('/').next().unwrap();
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
         rule_files: ['{}']\n\
         scrape_configs:\n\
         - {{job_name: kurir-gateway, static_configs: [{{targets: ['{}']}}]}}\n\
         - {{job_name: kurir-worker, static_configs: [{{targets: ['{}']}}]}}\n\
         - {{job_name: kurir-keeper, static_configs: [{{targets: ['{}']}}]}}\n\
         - {{job_name: rabbitmq, metrics_path: /metrics/detailed, params: {{family: [queue_coarse_metrics, queue_consumer_count], vhost: ['{host}']}}, static_configs: [{{targets: ['{}']}}]}}\n",
        rules.display(),
        address(&gateway),
        address(&worker),
        address(&keeper),
        broker_metrics(&fleet).await,
    );
    let prometheus = Prometheus::start(&config).await;
    // Before the load: a counter that rises later is seen to rise.
    wait_for("all four are scraped", SHOWN, async || {
        let up = prometheus.query("up == 1").await;
        match up.series() {
            Ok(up) if up.len() == 4 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    some_of_everything(&fleet, &gateway).await;

    for role in [&gateway, &worker, &keeper] {
        let shown = role
            .http("health")
            .get("/metrics")
            .await
            .unwrap()
            .expect(200)
            .text;
        let series = shown.lines().filter(|line| !line.starts_with('#')).count();
        assert!(
            series < SERIES_LIMIT,
            "kurir {} shows {series} series",
            role.role()
        );
        let objections = promtool_check_metrics(&shown);
        assert_eq!(objections, None, "kurir {}", role.role());
    }

    let rules = prometheus.ask("rules", &[]).await.body;
    let asked = expressions(&rules, prefix);
    assert!(asked.len() > 80, "{}", asked.len());
    wait_for(
        "every name exists and no panel is empty",
        SHOWN,
        async || {
            let names = prometheus.ask("label/__name__/values", &[]).await.body;
            let known: BTreeSet<&str> = list(&names["data"])
                .iter()
                .filter_map(Value::as_str)
                .collect();
            let mut wrong = Vec::new();
            for (who, expression) in &asked {
                let unknown: Vec<String> = metrics(expression)
                    .into_iter()
                    .filter(|name| !known.contains(name.as_str()))
                    .collect();
                let is_alert = alerts().contains(who);
                let title = who.split(": ").last().unwrap_or(who);
                let may_be_empty =
                    is_alert || EMPTY_WHEN_HEALTHY.iter().any(|(panel, _)| *panel == title);
                // A label that is named when it is needed has no series before: its name may be unknown as well.
                if !unknown.is_empty() && !may_be_empty {
                    wrong.push(format!("{who}: no metric {unknown:?}"));
                }
                match prometheus.query(expression).await.series() {
                    Ok([]) if !may_be_empty => wrong.push(format!("{who}: empty: {expression}")),
                    Ok(_) => {}
                    Err(error) => wrong.push(format!("{who}: {error}: {expression}")),
                }
            }
            if wrong.is_empty() {
                Ok(())
            } else {
                Err(wrong.join("\n"))
            }
        },
    )
    .await;
    // What alerts ask about must exist too, or be named by a panel that may be empty.
    let names = prometheus.ask("label/__name__/values", &[]).await.body;
    let known: BTreeSet<&str> = list(&names["data"])
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let later: BTreeSet<String> = asked
        .iter()
        .filter(|(who, _)| {
            EMPTY_WHEN_HEALTHY
                .iter()
                .any(|(panel, _)| who.ends_with(panel))
        })
        .flat_map(|(_, expression)| metrics(expression))
        .collect();
    for (who, expression) in &asked {
        for name in metrics(expression) {
            assert!(
                known.contains(name.as_str()) || later.contains(&name),
                "{who} asks for {name}, which nobody shows"
            );
        }
    }
}

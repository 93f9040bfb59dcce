//! Help, refusals and the commands on stored things, against a real database and broker.

use serde_json::{Value, json};

use crate::run::{Ran, kurir};

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const CREDENTIALS: &str = r#"{"secret_key":"sim-key","company_id":"4711"}"#;

#[test]
fn help_of_every_command_has_an_example_and_is_as_reviewed() {
    let mut commands = vec![vec!["--help".to_owned()]];
    let top = kurir(&["help"], &[], "").ok();
    for name in listed(&top) {
        let of = kurir(&[&name, "--help"], &[], "").ok();
        let nested = listed(&of);
        commands.push(vec![name.clone(), "--help".to_owned()]);
        commands.extend(
            nested
                .into_iter()
                .map(|inner| vec![name.clone(), inner, "--help".to_owned()]),
        );
    }
    let mut all = String::new();
    for command in &commands {
        let arguments: Vec<&str> = command.iter().map(String::as_str).collect();
        let help = kurir(&arguments, &[], "").ok();
        let leaf = listed(&help).is_empty();
        assert!(
            !leaf || help.contains("Example"),
            "{command:?} has no example:\n{help}"
        );
        all.push_str(&format!("===== kurir {}\n{help}\n", command.join(" ")));
    }
    insta::assert_snapshot!(all);
}

/// Names under "Commands:".
fn listed(help: &str) -> Vec<String> {
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    commands
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_command_line_that_cannot_be_understood_ends_with_64() {
    for arguments in [
        &["tenant", "add"][..],
        &["tenant", "add", "a b"],
        &["nonsense"],
        &["worker", "nobody"],
        &[],
    ] {
        let ran = kurir(arguments, &[], "");
        assert_eq!(ran.code, 64, "{arguments:?}: {}", ran.stderr);
    }
    assert_eq!(kurir(&["--version"], &[], "").code, 0);
}

#[test]
fn what_cannot_be_reached_ends_with_69_and_says_what_to_check() {
    let environment = [("KURIR_DATABASE_URL", "postgres://u:geheim@127.0.0.1:1/none")];
    let ran = kurir(&["tenant", "list"], &environment, "");
    assert_eq!(ran.code, 69);
    assert!(
        ran.stderr.contains("next: check KURIR_DATABASE_URL") && !ran.stderr.contains("geheim"),
        "{}",
        ran.stderr
    );
    let environment = [("KURIR_AMQP_URL", "amqp://u:geheim@127.0.0.1:1/%2f")];
    let ran = kurir(&["topology", "check"], &environment, "");
    assert_eq!(ran.code, 69);
    assert!(
        ran.stderr.contains("next: check KURIR_AMQP_URL") && !ran.stderr.contains("geheim"),
        "{}",
        ran.stderr
    );
}

/// A test's own database, its part of the broker, and commands on both.
struct Stack {
    database: testkit::Database,
    broker: testkit::Broker,
}

impl Stack {
    async fn start() -> Self {
        Self {
            database: testkit::database().await,
            broker: testkit::broker().await,
        }
    }

    fn run(&self, arguments: &[&str], input: &str) -> Ran {
        self.run_with(arguments, &[], input)
    }

    fn run_with(&self, arguments: &[&str], more: &[(&str, &str)], input: &str) -> Ran {
        let mut environment = vec![
            ("KURIR_DATABASE_URL", self.database.url()),
            ("KURIR_AMQP_URL", self.broker.amqp_url()),
            ("KURIR_AMQP__PREFIX", self.broker.prefix()),
            ("KURIR_KEYS__CURRENT", "k1"),
            ("KURIR_KEYS__RING__K1", KEY),
            ("KURIR_METAKOCKA__ALLOW_PRIVATE_ADDRESSES", "true"),
        ];
        if let Some(url) = self.broker.management_url() {
            environment.push(("KURIR_RABBITMQ_MANAGEMENT_URL", url));
        }
        environment.extend_from_slice(more);
        kurir(arguments, &environment, input)
    }
}

/// Ids, times and keys differ from run to run.
fn redacted(text: &str) -> String {
    let mut out = Vec::new();
    for line in text.lines() {
        let words: Vec<String> = line
            .split(' ')
            .map(|word| {
                if word.len() >= 36 && word.matches('-').count() >= 4 {
                    "<id>".to_owned()
                } else {
                    word.to_owned()
                }
            })
            .collect();
        out.push(words.join(" "));
    }
    out.join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_and_tokens_are_made_listed_and_refused() {
    let stack = Stack::start().await;
    assert_eq!(
        stack.run(&["tenant", "list"], "").ok(),
        "no tenants yet; `kurir tenant add ID` adds one\n"
    );
    let added = stack
        .run(&["tenant", "add", "acme", "--name", "Čebelar d.o.o."], "")
        .ok();
    assert_eq!(
        added,
        "added tenant acme; next: `kurir token create --tenant acme --name crm`\n"
    );
    let twice = stack.run(&["tenant", "add", "acme"], "");
    assert_eq!(
        (twice.code, twice.stderr.as_str()),
        (4, "error: tenant 'acme' exists already\n")
    );
    let tenants = stack.run(&["tenant", "list", "--json"], "").json();
    assert_eq!(tenants[0]["name"], "Čebelar d.o.o.");

    let created = stack
        .run(
            &[
                "token", "create", "--tenant", "acme", "--name", "crm", "--json",
            ],
            "",
        )
        .json();
    let secret = created["secret"].as_str().unwrap();
    assert!(secret.starts_with("kurir_"));
    let listed = stack.run(&["token", "list"], "").ok();
    assert!(
        listed.contains("acme") && !listed.contains(secret),
        "{listed}"
    );
    let id = created["token"]["id"].as_str().unwrap();
    let revoked = stack.run(&["token", "revoke", id, "--json"], "").json();
    assert!(revoked["revoked_at"].is_string());
    assert_eq!(
        stack.run(&["token", "revoke", id, "--json"], "").json()["revoked_at"],
        revoked["revoked_at"]
    );

    let nobody = stack.run(
        &["token", "create", "--tenant", "nobody", "--name", "x"],
        "",
    );
    assert_eq!(nobody.code, 3);
    insta::assert_snapshot!(nobody.stderr, @r"
    error: no tenant 'nobody'
     next: `kurir tenant list` shows what there is
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_takes_its_credentials_from_input_and_never_shows_them() {
    let stack = Stack::start().await;
    stack.run(&["tenant", "add", "acme"], "").ok();
    let add = [
        "connection",
        "add",
        "--tenant",
        "acme",
        "--system",
        "metakocka",
    ];
    for (input, code) in [
        ("", 4),
        ("not json", 4),
        (r#"{"secret_key":"geheim"}"#, 4),
        (r#"{"secret_key":"geheim","company_id":[1]}"#, 4),
    ] {
        let ran = stack.run(&add, input);
        assert_eq!(ran.code, code, "{input}: {}", ran.stderr);
        assert!(!ran.shown().contains("geheim"), "{}", ran.shown());
    }
    let added = stack.run(&add, CREDENTIALS).ok();
    insta::assert_snapshot!(redacted(&added), @r"
    added connection <id> of acme to metakocka, account default
    no events were waiting for it
    next: `kurir connection test <id>
    ");
    let second = stack.run(&add, CREDENTIALS);
    assert_eq!(second.code, 4);
    insta::assert_snapshot!(second.stderr);
    let listed = stack.run(&["connection", "list", "--json"], "").json();
    let text = listed.to_string();
    assert!(
        !text.contains("sim-key") && !text.contains("sealed"),
        "{text}"
    );
    assert_eq!(listed[0]["state"], "ok");

    let which = ["--tenant", "acme", "--system", "metakocka"];
    let off = stack
        .run(
            &[&["connection", "disable"], &which[..], &["--json"]].concat(),
            "",
        )
        .json();
    assert_eq!(off["enabled"], false);
    let on = stack
        .run(&[&["connection", "enable"], &which[..]].concat(), "")
        .ok();
    assert_eq!(on, "metakocka of acme, account default, is on\n");
    let missing = stack.run(
        &[
            "connection",
            "test",
            "--tenant",
            "other",
            "--system",
            "metakocka",
        ],
        "",
    );
    assert_eq!(missing.code, 3, "{}", missing.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_key_may_leave_the_ring_when_credentials_are_sealed_anew() {
    const NEW: &str = "bmV3LW5ldy1uZXctbmV3LW5ldy1uZXctbmV3LW5ldyE=";
    let stack = Stack::start().await;
    stack.run(&["tenant", "add", "acme"], "").ok();
    let add = [
        "connection",
        "add",
        "--tenant",
        "acme",
        "--system",
        "metakocka",
    ];
    stack.run(&add, CREDENTIALS).ok();
    let both = [("KURIR_KEYS__CURRENT", "k2"), ("KURIR_KEYS__RING__K2", NEW)];
    let reseal =
        |environment: &[(&str, &str)]| stack.run_with(&["keys", "reseal"], environment, "");
    assert_eq!(
        reseal(&both).ok(),
        "sealed the credentials of 1 connection anew with key k2; all are sealed with it now\n"
    );
    assert_eq!(
        reseal(&both).ok(),
        "sealed the credentials of 0 connections anew with key k2; all are sealed with it now\n"
    );
    let without_new = reseal(&[]);
    assert!(
        without_new.code == 78 && without_new.stderr.contains("keys.ring must hold the key"),
        "{}",
        without_new.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_about_one_of_several_accounts_asks_which() {
    let stack = Stack::start().await;
    stack.run(&["tenant", "add", "acme"], "").ok();
    let system = ["--tenant", "acme", "--system", "metakocka"];
    let command = |name: &'static str, more: &[&'static str]| {
        [&["connection", name][..], &system[..], more].concat()
    };
    stack.run(&command("add", &[]), CREDENTIALS).ok();
    let croatia = ["--account", "croatia"];
    let added = stack.run(&command("add", &croatia), CREDENTIALS).ok();
    assert!(added.contains("to metakocka, account croatia"), "{added}");
    let again = stack.run(&command("add", &croatia), CREDENTIALS);
    assert_eq!(again.code, 4);
    assert!(again.stderr.contains("'croatia'"), "{}", again.stderr);
    for name in ["test", "update", "enable", "disable"] {
        let vague = stack.run(&command(name, &[]), CREDENTIALS);
        assert_eq!(vague.code, 4, "{name}: {}", vague.stderr);
        assert_eq!(
            vague.stderr,
            "error: tenant 'acme' has 2 connections to metakocka, with the accounts croatia, default; name one with --account\n"
        );
    }
    let off = stack.run(&command("disable", &croatia), "").ok();
    assert_eq!(
        off,
        "metakocka of acme, account croatia, is off: its events are acknowledged without being carried on\n"
    );
    stack.run(&command("update", &croatia), CREDENTIALS).ok();
    let missing = stack.run(&command("enable", &["--account", "austria"]), "");
    assert_eq!(missing.code, 3, "{}", missing.stderr);
    for unfit in ["", "two\nlines"] {
        let refused = stack.run(&command("add", &["--account", unfit]), CREDENTIALS);
        assert_eq!(refused.code, 64, "{}", refused.stderr);
    }
    let listed = stack.run(&["connection", "list", "--json"], "").json();
    let seen: Vec<(&Value, &Value)> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (&row["account"], &row["enabled"]))
        .collect();
    assert_eq!(
        seen,
        [
            (&json!("croatia"), &json!(false)),
            (&json!("default"), &json!(true))
        ]
    );
    let shown = stack.run(&["connection", "list"], "").ok();
    assert!(
        shown.contains("croatia") && shown.contains("default"),
        "{shown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_test_asks_the_partner_and_suspends_what_it_refuses() {
    let stack = Stack::start().await;
    let simulator =
        simulators::metakocka::Simulator::start(simulators::metakocka::Options::default())
            .await
            .unwrap();
    stack.run(&["tenant", "add", "acme"], "").ok();
    let url = simulator.base_url();
    let add = [
        "connection",
        "add",
        "--tenant",
        "acme",
        "--system",
        "metakocka",
        "--url",
        url.as_str(),
        "--json",
    ];
    let id = stack.run(&add, CREDENTIALS).json()["connection"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let accepted = stack.run(&["connection", "test", &id], "").ok();
    assert!(
        accepted.starts_with(
            "metakocka accepts the credentials of acme, account default\nno events were waiting for it\nnote: "
        ),
        "{accepted}"
    );

    let wrong = r#"{"secret_key":"wrong-key","company_id":"4711"}"#;
    stack.run(&["connection", "update", &id], wrong).ok();
    let refused = stack.run(&["connection", "test", &id], "");
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    assert!(!refused.stderr.contains("wrong-key"), "{}", refused.stderr);
    let state = || stack.run(&["connection", "list", "--json"], "").json()[0]["state"].clone();
    assert_eq!(state(), "suspended");
    stack.run(&["connection", "update", &id], CREDENTIALS).ok();
    stack.run(&["connection", "test", &id], "").ok();
    assert_eq!(state(), "ok");

    simulator.stop().await;
    assert_eq!(stack.run(&["connection", "test", &id], "").code, 69);
    let guarded = [("KURIR_METAKOCKA__ALLOW_PRIVATE_ADDRESSES", "false")];
    assert_eq!(
        stack
            .run_with(&["connection", "test", &id], &guarded, "")
            .code,
        78
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_on_an_old_schema_say_how_to_bring_it_up_to_date() {
    let stack = Stack::start().await;
    stack.run(&["migrate", "--check"], "").ok();
    sqlx::raw_sql("drop schema public cascade; create schema public")
        .execute(stack.database.pool())
        .await
        .unwrap();
    let old = stack.run(&["tenant", "list"], "");
    assert_eq!(old.code, 78);
    assert!(
        old.stderr.contains("next: run `kurir migrate` once"),
        "{}",
        old.stderr
    );
    assert_eq!(stack.run(&["migrate", "--check"], "").code, 1);
    let applied = stack.run(&["migrate", "--json"], "").json();
    assert_eq!(applied["applied"][0], "0001_baseline");
    assert_eq!(
        stack.run(&["migrate"], "").ok(),
        "the schema was up to date already\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn topology_is_declared_checked_and_its_gaps_are_named() {
    let stack = Stack::start().await;
    let before = stack.run(&["topology", "check", "--json"], "");
    assert_eq!(before.code, 4, "{}", before.stderr);
    let findings: Value = serde_json::from_str(&before.stdout).unwrap();
    assert!(
        findings["findings"].as_array().unwrap().len() >= 10,
        "{findings}"
    );
    stack.run(&["topology", "declare"], "").ok();
    stack.run(&["topology", "check"], "").ok();
}

fn contact(id: &str, event: &str) -> Value {
    json!({
        "specversion": "1.0", "id": event, "source": "urn:kurir:acme:crm:default", "type": "crm.contact.created.v1",
        "tenantid": "acme", "subjectversion": "1",
        "data": { "contact": { "id": id, "kind": "organization", "name": "Žaga Šmarje" } },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_published_all_or_none_and_arrive_as_they_were_written() {
    let stack = Stack::start().await;
    stack.run(&["topology", "declare"], "").ok();
    let lines = format!("{}\n{}\n", contact("1", "e1"), contact("2", "e2"));
    let published = stack.run(&["publish", "--json"], &lines).json();
    assert_eq!(published, json!({ "published": 2, "via": "broker" }));
    let queue = stack.broker.queue("metakocka-sync");
    let taken = stack.broker.take(&queue, 2).await.unwrap();
    assert_eq!(
        taken
            .iter()
            .map(|one| one.json()["id"].clone())
            .collect::<Vec<_>>(),
        ["e1", "e2"]
    );
    assert_eq!(taken[0].json(), contact("1", "e1"));

    let mut wrong = contact("3", "e3");
    wrong["data"]["contact"]["name"] = json!("");
    let ran = stack.run(
        &["publish"],
        &json!([contact("4", "e4"), wrong]).to_string(),
    );
    assert_eq!(ran.code, 4);
    insta::assert_snapshot!(ran.stderr);
    assert_eq!(stack.broker.depth(&queue).await.unwrap(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_an_empty_house_say_so() {
    let stack = Stack::start().await;
    for (arguments, said) in [
        (["held", "list"], "nothing is held\n"),
        (["dead-letters", "list"], "no dead letters\n"),
        (["links", "list"], "no links\n"),
        (
            ["connection", "list"],
            "no connections yet; `kurir connection add` adds one\n",
        ),
        (
            ["token", "list"],
            "no tokens yet; `kurir token create` makes one\n",
        ),
    ] {
        assert_eq!(stack.run(&arguments, "").ok(), said, "{arguments:?}");
        assert_eq!(
            stack
                .run(&[&arguments[..], &["--json"]].concat(), "")
                .json(),
            json!([])
        );
    }
    assert_eq!(stack.run(&["held", "release"], "").code, 64);
    assert_eq!(
        stack.run(&["held", "release", "--all"], "").ok(),
        "released 0 events; the keeper sends them to their workers\n"
    );
    assert_eq!(stack.run(&["held", "release", "17"], "").code, 3);
    assert_eq!(stack.run(&["links", "show", "contact/512"], "").code, 3);
    assert_eq!(stack.run(&["links", "show", "nonsense"], "").code, 64);
    assert_eq!(
        stack
            .run(
                &[
                    "dead-letters",
                    "show",
                    "3f0f6c0e-6c1b-5a54-9f56-0f6d9d8c8c11"
                ],
                ""
            )
            .code,
        3
    );
}

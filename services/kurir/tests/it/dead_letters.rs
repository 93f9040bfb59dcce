//! `kurir dead-letters` as a person and as a script use it, over rows as the keeper writes them.

use serde_json::{Value, json};
use testkit::Database;

use crate::run::{Ran, kurir};

const CONNECTION: &str = "11111111-2222-4333-8444-555555555555";
const UNKNOWN: &str = "99999999-2222-4333-8444-555555555555";
/// Dead letters in the order of their deaths.
const DEAD_LETTERS: [&str; 4] = [
    "aaaaaaaa-0000-4000-8000-000000000001",
    "aaaaaaaa-0000-4000-8000-000000000002",
    "aaaaaaaa-0000-4000-8000-000000000003",
    "aaaaaaaa-0000-4000-8000-000000000004",
];

struct OperatorCli {
    database: Database,
    event: Value,
}

impl OperatorCli {
    /// Two refused dead letters and an exhausted one of `acme`, and a resolved one of `mill`.
    async fn with_dead_letters() -> Self {
        let event = json!({
            "specversion": "1.0", "id": "evt-1", "source": "urn:kurir:acme:crm:main", "type": "crm.contact.created.v1",
            "tenantid": "acme", "subject": "contact/org-1", "time": "2026-06-17T07:59:00Z",
            "data": { "contact": { "id": "org-1", "kind": "organization", "name": "Žnidaršič d.o.o.", "tax_id": "SI10000119" } },
        });
        let cli = Self {
            database: testkit::database().await,
            event,
        };
        cli.sql(&format!(
            "insert into tenant (id) values ('acme'), ('mill');
             insert into connection (id, tenant, system, sealed, key_id, state, state_reason)
               values ('{CONNECTION}', 'acme', 'metakocka', '\\x00', 'k1', 'suspended', 'code 3: wrong key');"
        ))
        .await;
        let body = cli.event.to_string();
        for (place, (id, tenant, class, fingerprint, message)) in [
            (
                DEAD_LETTERS[0],
                "acme",
                "refused",
                "refused:Profit center …",
                "Profit center 'A12' doesnt exist",
            ),
            (
                DEAD_LETTERS[1],
                "acme",
                "refused",
                "refused:Profit center …",
                "Profit center 'B7' doesnt exist",
            ),
            (
                DEAD_LETTERS[2],
                "acme",
                "exhausted",
                "exhausted:time-out",
                "gave up after 12 attempts",
            ),
            (
                DEAD_LETTERS[3],
                "mill",
                "refused",
                "refused:Profit center …",
                "Profit center 'A12' doesnt exist",
            ),
        ]
        .into_iter()
        .enumerate()
        {
            let number = place + 1;
            sqlx::query(
                "insert into dead_letter (id, worker, tenant, connection_id, source, event_id, type, subject, state, class, fingerprint,
                   message, body, properties, headers, first_at, last_at, resolved_by, resolved_at, note)
                 values ($1::uuid, 'metakocka-sync', $2, $3::uuid, $4, 'evt-' || $5::text, 'crm.contact.created.v1',
                   'contact/org-' || $5::text, $6, $7, $8, $9, $10, '{}', '{}', '2026-06-17T08:00Z'::timestamptz + $5 * interval '1 min',
                   '2026-06-17T09:00Z'::timestamptz + $5 * interval '1 min',
                   case when $6 = 'resolved' then 'ana' end, case when $6 = 'resolved' then '2026-06-18T00:00Z'::timestamptz end,
                   case when $6 = 'resolved' then 'entered by hand' end)",
            )
            .bind(id)
            .bind(tenant)
            .bind((tenant == "acme").then_some(CONNECTION))
            .bind(format!("urn:kurir:{tenant}:crm:main"))
            .bind(i32::try_from(number).unwrap())
            .bind(if tenant == "mill" { "resolved" } else { "open" })
            .bind(class)
            .bind(fingerprint)
            .bind(message)
            .bind(
                body.replace("-1\"", &format!("-{number}\""))
                    .replace("acme", tenant)
                    .into_bytes(),
            )
            .execute(cli.database.pool())
            .await
            .unwrap();
        }
        cli
    }

    async fn sql(&self, statements: &str) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned()))
            .execute(self.database.pool())
            .await
            .unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, &[], "")
    }

    fn run_with(&self, arguments: &[&str], more: &[(&str, &str)], input: &str) -> Ran {
        let arguments = [&["dead-letters"], arguments].concat();
        let mut environment = vec![("KURIR_DATABASE_URL", self.database.url())];
        environment.extend_from_slice(more);
        kurir(&arguments, &environment, input)
    }

    async fn dump(&self) -> String {
        sqlx::query_scalar(
            "select string_agg(t::text, '|' order by id) || (select count(*) from dead_letter_history)::text
               || (select count(*) from replay)::text from dead_letter t",
        )
        .fetch_one(self.database.pool())
        .await
        .unwrap()
    }
}

fn ids(rows: &Value) -> Vec<&str> {
    rows.as_array()
        .unwrap()
        .iter()
        .map(|row| row["id"].as_str().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_groups_are_what_people_and_scripts_read() {
    let cli = OperatorCli::with_dead_letters().await;
    insta::assert_snapshot!("list", cli.run(&["list"]).ok());
    insta::assert_snapshot!("groups", cli.run(&["groups", "--state", "any"]).ok());
    insta::assert_snapshot!(
        "groups_json",
        cli.run(&["groups", "--tenant", "acme", "--json"]).ok()
    );
    insta::assert_snapshot!(
        "list_json",
        cli.run(&["list", "--record", "org-3", "--json"]).ok()
    );
    // Page by page, and by the narrowest filters.
    let first = cli.run(&["list", "--limit", "2", "--json"]).json();
    assert_eq!(ids(&first), [DEAD_LETTERS[2], DEAD_LETTERS[1]]);
    let page = ["list", "--limit", "2", "--after", DEAD_LETTERS[1], "--json"];
    assert_eq!(ids(&cli.run(&page).json()), [DEAD_LETTERS[0]]);
    for (filter, found) in [
        (&["--text", "'b7"][..], &[DEAD_LETTERS[1]][..]),
        (&["--class", "exhausted"], &[DEAD_LETTERS[2]]),
        (&["--until", "2026-06-17T09:02:00Z"], &[DEAD_LETTERS[0]]),
        (&["--since", "2026-06-17T09:03:00Z"], &[DEAD_LETTERS[2]]),
        (&["--group", "exhausted:time-out"], &[DEAD_LETTERS[2]]),
        (&["--type", "crm.contact.deleted.v1"], &[]),
        (
            &[
                "--worker",
                "metakocka-sync",
                "--tenant",
                "mill",
                "--state",
                "any",
            ],
            &[DEAD_LETTERS[3]],
        ),
    ] {
        let arguments = [&["list", "--json"], filter].concat();
        assert_eq!(ids(&cli.run(&arguments).json()), found, "{filter:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn show_prints_the_whole_timeline_and_what_would_help() {
    let cli = OperatorCli::with_dead_letters().await;
    insta::assert_snapshot!("show_refused", cli.run(&["show", DEAD_LETTERS[0]]).ok());
    insta::assert_snapshot!("show_resolved", cli.run(&["show", DEAD_LETTERS[3]]).ok());
    let story = cli.run(&["show", DEAD_LETTERS[2], "--json"]).json();
    let commands: Vec<_> = story["next"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["command"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(
        commands,
        [
            format!(
                "kurir connection update {CONNECTION} < credentials.json && kurir connection test {CONNECTION}"
            ),
            format!("kurir connection test {CONNECTION}"),
            format!("kurir dead-letters replay {}", DEAD_LETTERS[2]),
            format!(
                "kurir dead-letters resolve {} --note '...'",
                DEAD_LETTERS[2]
            ),
        ]
    );
}

/// Every class has its own words, and every command among them can be run.
#[tokio::test(flavor = "multi_thread")]
async fn every_class_and_state_has_a_next_step() {
    let cli = OperatorCli::with_dead_letters().await;
    let mut told = String::new();
    for class in worker::DeadClass::ALL {
        cli.sql(&format!(
            "update dead_letter set class = '{class}' where id = '{}'",
            DEAD_LETTERS[0]
        ))
        .await;
        let story = cli.run(&["show", DEAD_LETTERS[0], "--json"]).json();
        let steps = story["next"].as_array().unwrap();
        // Credentials first, then what is special, then the way out.
        assert!(steps.len() >= 3, "{class}: {steps:?}");
        told.push_str(&format!("{class}\n"));
        for step in &steps[1..steps.len() - 1] {
            told.push_str(&format!(
                "- {}\n    {}\n",
                step["why"].as_str().unwrap(),
                step["command"].as_str().unwrap_or("-")
            ));
        }
    }
    for state in ["replaying", "resolved", "overtaken", "discarded"] {
        cli.sql(&format!(
            "update dead_letter set state = '{state}' where id = '{}'",
            DEAD_LETTERS[0]
        ))
        .await;
        let story = cli.run(&["show", DEAD_LETTERS[0], "--json"]).json();
        told.push_str(&format!("{state}: {}\n", story["next"][0]["why"]));
    }
    insta::assert_snapshot!("advice", told);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_planned_before_it_is_ordered() {
    let cli = OperatorCli::with_dead_letters().await;
    let before = cli.dump().await;
    insta::assert_snapshot!("plan", cli.run(&["replay", "--all", "--dry-run"]).ok());
    let plan = [
        "replay",
        "--group",
        "refused:Profit center …",
        "--dry-run",
        "--json",
    ];
    insta::assert_snapshot!("plan_json", cli.run(&plan).ok());
    // Without a terminal nobody can say yes to many.
    let many = cli.run(&["replay", "--class", "refused"]);
    assert_eq!(
        (many.code, many.stderr.contains("--yes")),
        (64, true),
        "{}",
        many.stderr
    );
    let unsaid = cli.run(&["replay"]);
    assert_eq!(
        (unsaid.code, unsaid.stderr.contains("which dead letters?")),
        (64, true)
    );
    assert_eq!(
        cli.run(&["replay", DEAD_LETTERS[0], "--class", "refused"])
            .code,
        64
    );
    assert_eq!(cli.run(&["replay", UNKNOWN]).code, 3);
    assert_eq!(cli.run(&["replay", DEAD_LETTERS[3]]).code, 4);
    assert_eq!(cli.run(&["replay", "--tenant", "mill", "--yes"]).code, 4);
    assert_eq!(cli.dump().await, before, "nothing has changed");
    // The same key is the same replay.
    let keyed = [
        "replay",
        "--class",
        "refused",
        "--yes",
        "--detach",
        "--idempotency-key",
        "k",
        "--json",
    ];
    let first = cli.run(&keyed).json();
    let again = cli.run(&keyed).json();
    assert_eq!(first["replay"], again["replay"]);
    assert_eq!(
        (&first["dead_letters"], &again["repeated"]),
        (&json!(2), &json!(true))
    );
    let id = first["replay"].as_str().unwrap();
    let shown = cli.run(&["replays", "show", id, "--json"]).json();
    insta::assert_json_snapshot!("replay_json", shown, {
        ".id" => "[replay]", ".created_at" => "[time]",
    });
    let listed = cli
        .run(&["replays", "list", "--state", "running", "--json"])
        .json();
    assert_eq!(ids(&listed), [id]);
    // Nobody works on it: said after seconds, not never.
    let alone = cli.run(&["replays", "show", id, "--follow"]);
    assert_eq!(
        (alone.code, alone.stderr.contains("start `kurir keeper`")),
        (69, true),
        "{}",
        alone.stderr
    );
    // Ctrl-C looks away, no more.
    let interrupted = std::process::Command::new("timeout")
        .args([
            "--preserve-status",
            "--signal=INT",
            "2",
            env!("CARGO_BIN_EXE_kurir"),
        ])
        .args(["dead-letters", "replays", "show", id, "--follow"])
        .env("KURIR_DATABASE_URL", cli.database.url())
        .output()
        .unwrap();
    let said = String::from_utf8(interrupted.stderr).unwrap();
    assert_eq!(
        (
            interrupted.status.code(),
            said.contains("the replay goes on in the keeper")
        ),
        (Some(1), true),
        "{said}"
    );
    cli.run(&["replays", "pause", id]).ok();
    assert_eq!(cli.run(&["replays", "show", id, "--follow"]).code, 1);
    cli.run(&["replays", "resume", id]).ok();
    cli.run(&["replays", "cancel", id]).ok();
    assert_eq!(cli.run(&["replays", "resume", id]).code, 4);
    assert_eq!(cli.run(&["replays", "cancel", UNKNOWN]).code, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tenant_can_do_nothing_with_a_dead_letter() {
    let cli = OperatorCli::with_dead_letters().await;
    let ordered = [
        "replay",
        DEAD_LETTERS[1],
        "--detach",
        "--tenant",
        "acme",
        "--json",
    ];
    let replay = cli.run(&ordered).json();
    let replay = replay["replay"].as_str().unwrap();
    let before = cli.dump().await;
    let body = cli.event.to_string();
    for arguments in [
        &["show", DEAD_LETTERS[0]][..],
        &["edit", DEAD_LETTERS[0], "--file", "-"],
        &["replay", DEAD_LETTERS[0], "--yes"],
        &["resolve", DEAD_LETTERS[0], "--note", "x"],
        &["reopen", DEAD_LETTERS[0]],
        &["replays", "show", replay],
        &["replays", "pause", replay],
        &["replays", "resume", replay],
        &["replays", "cancel", replay],
    ] {
        let scoped = [arguments, &["--tenant", "mill"]].concat();
        let ran = cli.run_with(&scoped, &[], &body);
        assert_eq!(ran.code, 3, "{arguments:?}: {}{}", ran.stdout, ran.stderr);
    }
    let mill = |arguments: &[&str]| {
        let scoped = [arguments, &["--tenant", "mill"]].concat();
        cli.run(&scoped)
    };
    assert_eq!(mill(&["list"]).ok(), "no dead letters\n");
    assert_eq!(mill(&["groups"]).ok(), "no dead letters\n");
    assert_eq!(mill(&["export"]).ok(), "");
    assert_eq!(mill(&["replays", "list"]).ok(), "no replays\n");
    assert_eq!(
        mill(&["resolve", "--note", "x", "--yes"]).ok(),
        "closed 0 dead letters\n"
    );
    assert_eq!(cli.dump().await, before, "nothing has changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_checked_shown_and_kept_if_it_is_refused() {
    let cli = OperatorCli::with_dead_letters().await;
    let edit = ["edit", DEAD_LETTERS[0]];
    // The editor breaks the event; what it made is not lost.
    let broken = cli.run_with(
        &edit,
        &[("EDITOR", "sed -i s/specversion/specvershun/")],
        "",
    );
    assert_eq!(broken.code, 4, "{}", broken.stderr);
    let kept = broken
        .stderr
        .split("--file ")
        .nth(1)
        .expect("where it is")
        .trim();
    assert!(
        std::fs::read_to_string(kept)
            .unwrap()
            .contains("specvershun")
    );
    std::fs::remove_file(kept).unwrap();
    let failing = cli.run_with(&edit, &[("EDITOR", "false")], "");
    assert_eq!(failing.code, 1, "{}", failing.stderr);
    let unchanged = cli.run_with(&edit, &[("EDITOR", "true")], "");
    assert_eq!(unchanged.ok(), "nothing was changed\n");
    let mut other = cli.event.clone();
    other["id"] = json!("evt-other");
    let edit = ["edit", DEAD_LETTERS[0], "--file", "-"];
    let refused = cli.run_with(&edit, &[], &other.to_string());
    assert!(
        refused.code == 4 && refused.stderr.contains("/id must stay evt-1"),
        "{}",
        refused.stderr
    );
    let mut repaired = cli.event.clone();
    repaired["data"]["contact"]["name"] = json!("Popravljeni d.o.o.");
    let stored = cli.run_with(&edit, &[], &repaired.to_string());
    assert_eq!(
        stored.ok(),
        format!(
            "1 member changed; `kurir dead-letters replay {}` sends it\n",
            DEAD_LETTERS[0]
        )
    );
    let shown = cli.run(&["show", DEAD_LETTERS[0], "--json"]).json();
    assert_eq!(shown["message"]["edited_body"], repaired);
    assert_eq!(shown["message"]["edited_by"], "tester");
    assert_eq!(cli.run(&["edit", DEAD_LETTERS[3], "--file", "-"]).code, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_closed_opened_and_exported() {
    let cli = OperatorCli::with_dead_letters().await;
    let many = ["resolve", "--class", "refused", "--note", "test data"];
    assert_eq!(cli.run(&many).code, 64, "many need --yes");
    let closed = cli.run(&[&many[..], &["--yes", "--json"]].concat()).json();
    assert_eq!(closed["dead_letters"], 2);
    assert_eq!(
        cli.run(&["resolve", DEAD_LETTERS[0], "--note", "x"]).code,
        4
    );
    assert_eq!(
        cli.run(&["resolve", DEAD_LETTERS[2], "--note", " "]).code,
        4
    );
    assert_eq!(cli.run(&["resolve", UNKNOWN, "--note", "x"]).code, 3);
    assert_eq!(
        cli.run(&["resolve", DEAD_LETTERS[0]]).code,
        64,
        "without a note"
    );
    cli.run(&["reopen", DEAD_LETTERS[0]]).ok();
    assert_eq!(cli.run(&["reopen", DEAD_LETTERS[0]]).code, 4, "it is open");
    let lines = cli.run(&["export", "--state", "any"]).ok();
    let exported: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(exported.len(), 4);
    assert_eq!(exported[3]["body"], cli.event);
    let csv = cli.run(&["export", "--csv"]).ok();
    insta::assert_snapshot!("export_csv", csv);
    let folder = std::env::temp_dir().join(format!("kurir-export-{}", std::process::id()));
    let path = folder.to_str().unwrap();
    cli.run(&["export", "--output", path]).ok();
    assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 2);
    assert_eq!(
        cli.run(&["export", "--output", path]).code,
        1,
        "it is there already"
    );
    std::fs::remove_file(path).unwrap();
}

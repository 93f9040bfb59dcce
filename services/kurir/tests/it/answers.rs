//! What commands answer to a person: strangers' text cannot lie to a terminal, times are read as they are printed, what does
//! not exist or is cut off is said, and whoever looks in the wrong place is sent to the right one.

use std::process::{Command, Stdio};

use lapin::types::FieldTable;
use serde_json::{Value, json};
use testkit::{Broker, Database, Route, structured_properties};

use crate::run::{Ran, kurir};

const CONNECTION: &str = "11111111-2222-4333-8444-555555555555";
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const DEAD_LETTER: &str = "3f0f6c0e-6c1b-5a54-9f56-0f6d9d8c8c11";
/// Clears a terminal, sets its title, turns around and hides what follows, and forges a line.
const POISON: &str = "\u{1b}[2J\u{1b}]0;x\u{7}\u{9b}31m\u{202e}gpj\u{2066}\u{200f}\u{61c}\u{200b}\u{feff}\u{ad}\r\nerror: forged";

struct House {
    database: Database,
}

impl House {
    async fn new() -> Self {
        let house = Self {
            database: testkit::database().await,
        };
        house
            .sql(&format!(
                "insert into tenant (id) values ('acme'), ('mill');
                 insert into connection (id, tenant, system, sealed, key_id, state, state_reason)
                   values ('{CONNECTION}', 'acme', 'metakocka', '\\x00', 'k1', 'suspended', 'code 3');"
            ))
            .await;
        house
    }

    async fn sql(&self, text: &str) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(text.to_owned()))
            .execute(self.database.pool())
            .await
            .unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, &[])
    }

    fn run_with(&self, arguments: &[&str], more: &[(&str, &str)]) -> Ran {
        let mut environment = vec![
            ("KURIR_DATABASE_URL", self.database.url()),
            ("KURIR_KEYS__CURRENT", "k1"),
            ("KURIR_KEYS__RING__K1", KEY),
        ];
        environment.extend_from_slice(more);
        kurir(arguments, &environment, "")
    }

    async fn dead_letter(&self, id: &str, died: &str) {
        self.sql(&format!(
            "insert into dead_letter (id, worker, tenant, source, event_id, type, subject, state, class, fingerprint, message, body,
               properties, headers, first_at, last_at)
             values ('{id}', 'metakocka-sync', 'acme', 'urn:x', 'e-{id}', 'crm.contact.updated.v1', 'contact/512', 'open', 'refused',
               'refused:x', 'm', '{{}}', '{{}}', '{{}}', '{died}', '{died}')"
        ))
        .await;
    }

    async fn held(&self, tenant: &str, record: &str, cause: &str) {
        self.sql(&format!(
            "insert into held (worker, tenant, target_system, reason, source, event_id, type, subject, body, properties, headers)
             values ('metakocka-sync', '{tenant}', 'metakocka', '{cause}', 'urn:x', 'held-{record}', 'crm.contact.created.v1',
               'contact/{record}', '{{}}', '{{}}', '{{}}')"
        ))
        .await;
    }

    async fn link(&self, id: &str) {
        self.sql(&format!(
            "insert into link (tenant, kind, source_system, source_account, source_id, target_system, connection_id, worker, state)
             values ('acme', 'contact', 'crm', 'main', '{id}', 'metakocka', '{CONNECTION}', 'metakocka-sync', 'pending')"
        ))
        .await;
    }

    /// One stranger's event, everywhere where rows of it can be.
    async fn poisoned(&self) {
        let statements = [
            "insert into dead_letter (id, worker, tenant, source, event_id, type, subject, state, class, fingerprint, message, body,
               properties, headers, first_at, last_at, note)
             values ($2::uuid, 'metakocka-sync', 'acme', $1, $1, $1, 'contact/' || $1, 'open', 'malformed', $1, $1, convert_to($1, 'UTF8'),
               '{}', '{}', now(), now(), $1)",
            "insert into held (worker, tenant, target_system, reason, detail, source, event_id, type, subject, body, properties, headers)
             select 'metakocka-sync', 'acme', 'metakocka', 'poison', $1, $1, $1, $1, 'contact/' || $1, '{}', '{}', '{}' where $2 <> ''",
            "insert into link (tenant, kind, source_system, source_account, source_id, target_system, connection_id, worker, state, target_id,
               last_error, base)
             select 'acme', 'contact', $1, $1, $1, 'metakocka', id, 'metakocka-sync', 'linked', $1, $1, jsonb_build_object('name', jsonb_build_object('sent', $1))
             from connection where $2 <> ''",
            "insert into link_history (link_id, tenant, at, what, event_id, target_id, detail)
             select id, tenant, now(), $1, $1, $1, jsonb_build_object('reason', $1) from link where $2 <> ''",
            "insert into notification (tenant, kind, text, at) select 'acme', 'connection_suspended', $1, now() where $2 <> ''",
            "update connection set state_reason = $1 where $2 <> ''",
        ];
        for statement in statements {
            sqlx::query(statement)
                .bind(POISON)
                .bind(DEAD_LETTER)
                .execute(self.database.pool())
                .await
                .unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
    }
}

#[track_caller]
fn is_harmless(what: &str, shown: &str) {
    for character in POISON.chars().filter(|one| *one != '\n') {
        let plain = character.is_ascii_graphic() || character == ' ';
        assert!(
            plain || !shown.contains(character),
            "{what} shows {character:?}:\n{shown:?}"
        );
    }
    assert!(
        !shown.lines().any(|line| line.starts_with("error: forged")),
        "{what} lets a line be forged:\n{shown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_text_is_harmless_on_a_terminal_and_exact_in_json() {
    let house = House::new().await;
    house.poisoned().await;
    let commands: [&[&str]; 11] = [
        &["dead-letters", "list"],
        &["dead-letters", "groups"],
        &["dead-letters", "show", DEAD_LETTER],
        &["held", "list"],
        &["held", "show", "1"],
        &["links", "list"],
        &["links", "show", "1"],
        &["notifications", "list"],
        &["connection", "list"],
        &["budgets"],
        &["doctor", "--no-partners"],
    ];
    for command in commands {
        let ran = house.run(command);
        is_harmless(&command.join(" "), &ran.stdout);
        is_harmless(&command.join(" "), &ran.stderr);
        let seen = ran.stdout.contains(r"\u{202e}gpj");
        assert!(
            seen || matches!(command[0], "budgets" | "doctor"),
            "{command:?}: {}",
            ran.stdout
        );
        let json = house.run(&[command, &["--json"]].concat());
        assert!(
            !json
                .stdout
                .contains(['\u{1b}', '\u{9b}', '\u{202e}', '\u{200b}'])
        );
        let read: Value = serde_json::from_str(&json.stdout).unwrap();
        if seen && command[1] != "groups" {
            assert!(holds(&read, POISON), "{command:?}: {read}");
        }
    }
    let ran = house.run(&["links", "show", &format!("contact/x{POISON}")]);
    assert_eq!(ran.code, 3);
    is_harmless("an error", &ran.stderr.replacen("error: no link", "", 1));
}

fn holds(value: &Value, text: &str) -> bool {
    match value {
        Value::String(one) => one.contains(text),
        Value::Array(many) => many.iter().any(|one| holds(one, text)),
        Value::Object(many) => many.values().any(|one| holds(one, text)),
        _ => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_unrouted_event_is_shown_harmlessly() {
    let broker = testkit::broker().await;
    let environment = environment_of(&broker);
    kurir(&["topology", "declare"], &environment, "").ok();
    let event = json!({ "specversion": "1.0", "id": POISON, "source": POISON, "type": format!("shop.{POISON}"), "tenantid": "acme",
        "subject": POISON, "data": {} });
    let route = broker
        .publisher()
        .await
        .unwrap()
        .raw(
            &broker.queue("unrouted"),
            "shop.x.acme",
            event.to_string().as_bytes(),
            structured_properties(&event).with_headers(FieldTable::default()),
        )
        .await
        .unwrap();
    assert_eq!(route, Route::Routed);
    let shown = kurir(&["unrouted", "list"], &environment, "").ok();
    is_harmless("unrouted list", &shown);
    assert!(shown.contains(r"\u{202e}gpj"), "{shown}");
    let json = kurir(&["unrouted", "list", "--json"], &environment, "").json();
    // The terminal's controls are replaced already where an event is no event.
    assert!(holds(&json, "31m\u{202e}gpj\u{2066}"), "{json}");
}

fn environment_of(broker: &Broker) -> Vec<(&str, &str)> {
    vec![
        ("KURIR_AMQP_URL", broker.amqp_url()),
        ("KURIR_AMQP__PREFIX", broker.prefix()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_time_that_a_list_prints_is_read_back_in_every_zone() {
    let house = House::new().await;
    // Winter, summer, and the hour that comes twice in Europe, both times.
    let deaths = [
        "2026-01-15T08:00:01Z",
        "2026-07-15T08:00:02Z",
        "2026-10-25T00:30:03Z",
        "2026-10-25T01:30:03Z",
        "2026-10-25T02:30:03Z",
    ];
    for (place, died) in deaths.iter().enumerate() {
        let id = format!("aaaaaaaa-0000-4000-8000-00000000000{place}");
        house.dead_letter(&id, died).await;
    }
    for zone in [
        "UTC",
        "Europe/Ljubljana",
        "Europe/London",
        "America/St_Johns",
        "Asia/Kathmandu",
        "Pacific/Apia",
    ] {
        let local = [("TZ", zone)];
        let list = |more: &[&str]| {
            let arguments = [&["dead-letters", "list"][..], more].concat();
            house.run_with(&arguments, &local).ok()
        };
        let all = list(&[]);
        for place in 0..deaths.len() {
            let id = format!("aaaaaaaa-0000-4000-8000-00000000000{place}");
            let line = all.lines().find(|line| line.starts_with(&id)).unwrap();
            let at = line.find("2026-").unwrap();
            let printed = line[at..].split("  ").next().unwrap();
            let since = list(&["--since", printed]);
            let until = list(&["--until", printed]);
            for (other, _) in deaths.iter().enumerate() {
                let id = format!("aaaaaaaa-0000-4000-8000-00000000000{other}");
                assert_eq!(since.contains(&id), other >= place, "{zone} {printed}");
                assert_eq!(until.contains(&id), other < place, "{zone} {printed}");
            }
        }
    }
    // A day is this machine's: the second dead letter of the double hour died on the 25th everywhere here, the first not.
    let of_day = |zone: &str, day: &str| {
        let ran = house.run_with(
            &["dead-letters", "list", "--since", day, "--json"],
            &[("TZ", zone)],
        );
        ran.json().as_array().unwrap().len()
    };
    house
        .dead_letter(
            "bbbbbbbb-0000-4000-8000-000000000001",
            "2026-11-29T23:30:00Z",
        )
        .await;
    assert_eq!(of_day("Europe/Ljubljana", "2026-11-30"), 1);
    assert_eq!(of_day("UTC", "2026-11-30"), 0);
    // Where the clock goes back at midnight, the day begins at the first one.
    house
        .dead_letter(
            "bbbbbbbb-0000-4000-8000-000000000002",
            "2026-11-01T04:30:00Z",
        )
        .await;
    let before = of_day("America/Havana", "2026-11-02");
    assert_eq!(of_day("America/Havana", "2026-11-01"), before + 1);
    let twice = house.run_with(
        &["dead-letters", "list", "--since", "2026-10-25 02:30"],
        &[("TZ", "Europe/Ljubljana")],
    );
    assert_eq!(twice.code, 64);
    assert!(
        twice.stderr.contains("'2026-10-25 02:30:00 +02:00' or"),
        "{}",
        twice.stderr
    );
}

#[test]
fn no_color_is_honoured_by_log_lines_on_a_terminal() {
    let role = format!("timeout 3 {} gateway", env!("CARGO_BIN_EXE_kurir"));
    let lines = |no_color: &str| {
        // Nothing that it needs is there, which it tells in log lines.
        let ended = Command::new("script")
            .args(["-qec", &role, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .env("KURIR_DATABASE_URL", "postgres://u:p@127.0.0.1:1/none")
            .env("KURIR_AMQP_URL", "amqp://u:p@127.0.0.1:1/%2f")
            .env("KURIR_GATEWAY__LISTEN", "127.0.0.1:0")
            .env("KURIR_HEALTH__GATEWAY", "")
            .env("KURIR_LOG__FORMAT", "human")
            .env("NO_COLOR", no_color)
            .stdin(Stdio::null())
            .output();
        ended.map(|ended| String::from_utf8_lossy(&ended.stdout).into_owned())
    };
    // A machine without util-linux has no terminal to offer.
    let Ok(coloured) = lines("") else { return };
    assert!(coloured.contains("\u{1b}["), "{coloured:?}");
    let plain = lines("1").unwrap();
    assert!(
        plain.contains("WARN") && !plain.contains('\u{1b}'),
        "{plain:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_does_not_exist_is_told_by_every_command() {
    let house = House::new().await;
    house.dead_letter(DEAD_LETTER, "2026-06-17T08:00Z").await;
    let commands: [&[&str]; 13] = [
        &["links", "list"],
        &["links", "show", "1"],
        &["links", "show", "contact/512"],
        &["held", "list"],
        &["held", "release"],
        &["dead-letters", "list"],
        &["dead-letters", "groups"],
        &["dead-letters", "export"],
        &["dead-letters", "replays", "list"],
        &["notifications", "list"],
        &["token", "list"],
        &["budgets"],
        &["doctor", "--no-partners"],
    ];
    for command in commands {
        let ran = house.run(&[command, &["--tenant", "nix"]].concat());
        assert_eq!(ran.code, 3, "{command:?}: {}", ran.stdout);
        assert!(
            ran.stderr.contains("no tenant 'nix'") && ran.stderr.contains("kurir tenant list"),
            "{command:?}: {}",
            ran.stderr
        );
    }
    house.run(&["links", "list", "--tenant", "mill"]).ok();
    // A dead letter of a tenant that is missing is just what somebody looks for.
    house
        .sql("update dead_letter set tenant = 'stranger'")
        .await;
    let found = house.run(&["dead-letters", "list", "--tenant", "stranger"]);
    assert!(found.ok().contains(DEAD_LETTER));
    assert_eq!(
        house.run(&["links", "list", "--tenant", "stranger"]).code,
        3
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_cut_says_how_to_see_the_rest() {
    let house = House::new().await;
    for number in 0..3 {
        let id = format!("aaaaaaaa-0000-4000-8000-00000000000{number}");
        house
            .dead_letter(&id, &format!("2026-06-17T08:0{number}Z"))
            .await;
        house.held("acme", &format!("h{number}"), "poison").await;
        house.link(&format!("r{number}")).await;
    }
    house
        .sql(
            "insert into notification (tenant, kind, text, at) select 'acme', 'connection_suspended', 'x', now() from generate_series(1, 3);
             update dead_letter set fingerprint = 'it''s ' || id;
             insert into tenant (id) values ('oak')",
        )
        .await;
    let lists: [(&[&str], &str); 6] = [
        (&["dead-letters", "list"], "--after aaaaaaaa"),
        (&["dead-letters", "groups"], r"--after 'it'\''s"),
        (&["held", "list"], "--after 2"),
        (&["links", "list"], "--after 2"),
        (&["notifications", "list"], "--limit 1000"),
        (&["tenant", "list"], "--after mill"),
    ];
    for (list, next) in lists {
        let cut = house.run(&[list, &["--limit", "2"]].concat()).ok();
        let said = format!("there are more: {next}");
        assert!(cut.contains(&said), "{list:?}: {cut}");
        let whole = house.run(&[list, &["--limit", "3"]].concat()).ok();
        assert!(!whole.contains("there are more"), "{list:?}: {whole}");
        let json = house.run(&[list, &["--limit", "2", "--json"]].concat());
        assert!(json.stderr.contains(&said), "{list:?}: {}", json.stderr);
        assert_eq!(json.json().as_array().unwrap().len(), 2, "{list:?}");
    }
    let after = house.run(&["links", "list", "--limit", "2", "--after", "2"]);
    assert!(after.ok().contains("contact/r2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_found_with_and_without_its_kind() {
    let house = House::new().await;
    for id in ["512", "a/b"] {
        house.link(id).await;
        for named in [id.to_owned(), format!("contact/{id}")] {
            let found = house.run(&["links", "list", "--record", &named]).ok();
            assert!(found.contains(&format!("contact/{id}")), "{named}: {found}");
        }
    }
    for other in ["other/512", "51", "contact/"] {
        let none = house.run(&["links", "list", "--record", other]).ok();
        assert_eq!(none, "no links\n", "{other}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_looks_for_a_held_event_elsewhere_is_told_where_it_is() {
    let house = House::new().await;
    house.held("mill", "512", "no_connection").await;
    house.held("acme", "7", "poison").await;
    let told = "1 event of mill is held: no_connection; \
                `kurir connection add --tenant mill --system metakocka < credentials.json` lets them go";
    let of = |arguments: &[&str]| house.run(arguments);
    let list = of(&["links", "list", "--tenant", "mill"]).ok();
    assert_eq!(list, format!("no links\n\n{told}\n"));
    let list = of(&["links", "list", "--record", "contact/512"]).ok();
    assert_eq!(list, format!("no links\n\n{told}\n"));
    let list = of(&["notifications", "list", "--tenant", "mill"]).ok();
    assert_eq!(list, format!("nothing to tell\n\n{told}\n"));
    let show = of(&["links", "show", "contact/512"]);
    assert_eq!(show.code, 3);
    assert!(show.stderr.contains(told), "{}", show.stderr);
    let doctor = of(&["doctor", "--no-partners"]).stdout;
    for line in [
        "1 event of mill is held: no_connection",
        "1 event of acme is held: poison",
        "`kurir held list --tenant acme --cause poison` says more",
    ] {
        assert!(doctor.contains(line), "no {line}: {doctor}");
    }
    let other = of(&["links", "list", "--record", "513"]).ok();
    assert_eq!(other, "no links\n");
}

#[test]
fn a_short_number_where_a_long_id_belongs_is_explained() {
    for (command, list) in [
        (
            &["dead-letters", "show", "17"][..],
            "kurir dead-letters list",
        ),
        (&["dead-letters", "replay", "17"], "kurir dead-letters list"),
        (
            &["dead-letters", "replays", "show", "17"],
            "kurir dead-letters replays list",
        ),
        (&["connection", "test", "17"], "kurir connection list"),
        (&["token", "revoke", "17"], "kurir token list"),
        (&["budgets", "--connection", "17"], "kurir connection list"),
    ] {
        let ran = kurir(command, &[], "");
        assert_eq!(ran.code, 64);
        assert!(
            ran.stderr.contains(list) && ran.stderr.contains("kurir held show 17"),
            "{command:?}: {}",
            ran.stderr
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_nothing_was_used_of_says_so_in_plain_words() {
    let house = House::new().await;
    house
        .sql(&format!("insert into budget (connection_id, tenant, spec) select id, tenant, '{{\"in_flight\": 4, \"windows\": []}}' from connection where id = '{CONNECTION}'"))
        .await;
    let told = house.run(&["budgets"]).ok();
    assert!(told.contains("nothing yet"), "{told}");
    assert!(
        !told.contains("permit") && !told.contains("steps"),
        "{told}"
    );
    // Calls were made, and none of them took a permit.
    house
        .sql("update budget set fine_at = now(), cost = 2.2258")
        .await;
    let told = house.run(&["budgets"]).ok();
    assert!(
        told.contains("not counted, because nothing limits it; about 2.2 requests for each event"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_login_says_what_was_refused() {
    let house = House::new().await;
    let url = house.database.url();
    let (user, rest) = url.split_once('@').unwrap();
    let wrong = format!("{}:wrong@{rest}", user.rsplit_once(':').unwrap().0);
    let ran = kurir(&["links", "list"], &[("KURIR_DATABASE_URL", &wrong)], "");
    assert!(
        ran.stderr.contains("user or password was refused") && !ran.stderr.contains("statement"),
        "{}",
        ran.stderr
    );
    let nowhere = format!("{}/absent", url.rsplit_once('/').unwrap().0);
    let ran = kurir(&["links", "list"], &[("KURIR_DATABASE_URL", &nowhere)], "");
    assert!(
        ran.stderr.contains("there is no such database"),
        "{}",
        ran.stderr
    );

    let broker = testkit::broker().await;
    let amqp = broker.amqp_url();
    let host = format!("{}/absent", amqp.rsplit_once('/').unwrap().0);
    let mut environment = vec![("KURIR_AMQP_URL", host.as_str())];
    if let Some(url) = broker.management_url() {
        environment.push(("KURIR_RABBITMQ_MANAGEMENT_URL", url));
    }
    let ran = kurir(&["unrouted", "list"], &environment, "");
    assert!(
        ran.stderr.contains("no such virtual host"),
        "{}",
        ran.stderr
    );
    let doctor = kurir(&["doctor"], &environment, "").stdout;
    assert!(
        doctor.contains("no such virtual host") && !doctor.contains("may not see"),
        "{doctor}"
    );
    let (user, rest) = amqp.split_once('@').unwrap();
    let wrong = format!("{}:wrong@{rest}", user.rsplit_once(':').unwrap().0);
    let ran = kurir(&["unrouted", "list"], &[("KURIR_AMQP_URL", &wrong)], "");
    assert!(
        ran.stderr.contains("the broker refused user or password"),
        "{}",
        ran.stderr
    );
}

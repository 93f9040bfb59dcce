//! What people read when they ask what became of a record, over rows as the roles write them.

use event::{OrderKey, SubjectVersion};
use serde_json::json;
use testkit::Database;

use crate::run::{Ran, kurir};

const CONNECTION: &str = "11111111-2222-4333-8444-555555555555";
const DEAD: &str = "3f0f6c0e-6c1b-5a54-9f56-0f6d9d8c8c11";

struct House {
    database: Database,
}

impl House {
    async fn with_a_story() -> Self {
        let house = Self {
            database: testkit::database().await,
        };
        let key = |version: i64, id: &str| {
            OrderKey::new(&SubjectVersion::from_micros(version), false, id, 0)
                .as_bytes()
                .to_vec()
        };
        let text = format!(
            "insert into tenant (id, name, created_at) values ('acme', 'Acme', '2026-06-17T08:00Z');
             insert into connection (id, tenant, system, sealed, key_id) values ('{CONNECTION}', 'acme', 'metakocka', '\\x00', 'k1');
             insert into link (tenant, kind, source_system, source_account, source_id, target_system, connection_id, worker, target_id,
                 state, base, last_error, created_at, updated_at)
               values ('acme', 'contact', 'crm', 'main', '512', 'metakocka', '{CONNECTION}', 'metakocka-sync', '1600246000', 'linked',
                 '{{\"name\": {{\"sent\": \"Čebelarstvo Žnidaršič d.o.o.\"}}, \"phone\": {{\"sent\": \"+38614567890\", \"stored\": \"014567890\"}}}}',
                 'the answer was cut off', '2026-06-17T08:35Z', '2026-06-17T08:41Z');
             insert into natural_key_claim (tenant, connection_id, kind, natural_key, link_id) select tenant, connection_id, kind, 'tax:87654321', id from link;
             insert into effect (id, link_id, tenant, source, event_id, generation, operation, state, last, request, target_id, outcome, sent_at, settle_at, resolved_at, created_at)
               select '0198a1c4-0000-7000-8000-000000000001', id, tenant, 'urn:kurir:acme:crm:main', 'e1', 0, 'create', 'abandoned', true, '{{}}', null, 'looked up: not there',
                 '2026-06-17T08:36Z', '2026-06-17T08:39Z', '2026-06-17T08:39:30Z', '2026-06-17T08:36Z' from link;
             insert into effect (id, link_id, tenant, source, event_id, generation, operation, state, last, request, target_id, outcome, sent_at, settle_at, resolved_at, created_at)
               select '0198a1c4-0000-7000-8000-000000000002', id, tenant, 'urn:kurir:acme:crm:main', 'e2', 1, 'create', 'confirmed', true, '{{}}', '1600246000', 'answered',
                 '2026-06-17T08:40Z', '2026-06-17T08:43Z', '2026-06-17T08:40:01Z', '2026-06-17T08:40Z' from link;
             insert into link_history (link_id, tenant, at, what, event_id, generation, target_id, detail)
               select id, tenant, '2026-06-17T08:39:30Z', 'abandoned', 'e1', 0, null, '{{\"operation\": \"create\", \"outcome\": null}}' from link;
             insert into link_history (link_id, tenant, at, what, event_id, generation, target_id)
               select id, tenant, '2026-06-17T08:40:01Z', 'created', 'e2', 1, '1600246000' from link;
             insert into held (worker, tenant, target_system, connection_id, reason, detail, link_key, source, event_id, type, subject, body, properties, headers, held_at)
               values ('metakocka-sync', 'acme', 'metakocka', '{CONNECTION}', 'poison', 'three handlings of it never came back', 'k', 'urn:kurir:acme:crm:main', 'e3', 'crm.contact.updated.v1', 'contact/512', '{{}}', '{{}}', '{{}}', '2026-06-17T09:00Z');"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(text))
            .execute(house.database.pool())
            .await
            .unwrap();
        sqlx::query("update link set desired_k = $1, applied_k = $2")
            .bind(key(1_781_692_800_000_003, "e3"))
            .bind(key(1_781_692_800_000_002, "e2"))
            .execute(house.database.pool())
            .await
            .unwrap();
        sqlx::query(
            "insert into dead_letter (id, worker, tenant, connection_id, source, event_id, type, subject, link_id, state, class,
               fingerprint, message, body, properties, headers, first_at, last_at)
             values ($1::uuid, 'metakocka-sync', 'acme', $2::uuid, 'urn:kurir:acme:crm:main', 'e0', 'crm.contact.updated.v1',
               'contact/512', 1, 'open', 'refused', 'refused:…', 'metakocka refused with code 2: Davčna številka ni v registru.',
               $3, '{}', $4, '2026-06-17T08:50Z', '2026-06-17T08:55Z')",
        )
        .bind(DEAD)
        .bind(CONNECTION)
        .bind(json!({ "id": "e0", "data": { "contact": { "id": "512", "name": "Čebelarstvo" } } }).to_string().into_bytes())
        .bind(json!({ "x-history": json!([{ "at": "2026-06-17T08:50:00Z", "class": "unavailable", "code": "503", "ms": 41 }]).to_string() }))
        .execute(house.database.pool())
        .await
        .unwrap();
        house
    }

    /// Two events of a tenant that has no connection yet.
    async fn let_events_wait_for(&self, tenant: &str) {
        for event in ["w1", "w2"] {
            sqlx::query(
                "insert into held (worker, tenant, target_system, reason, source, event_id, type, subject, body, properties, headers)
                 values ('metakocka-sync', $1, 'metakocka', 'no_connection', 'urn:x', $2, 'crm.contact.created.v1', 'contact/1', '{}', '{}', '{}')",
            )
            .bind(tenant)
            .bind(event)
            .execute(self.database.pool())
            .await
            .unwrap();
        }
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        kurir(
            arguments,
            &[("KURIR_DATABASE_URL", self.database.url())],
            "",
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_records_whole_story_is_told_in_words() {
    let house = House::with_a_story().await;
    insta::assert_snapshot!(house.run(&["links", "list"]).ok());
    let story = house
        .run(&["links", "show", "contact/512", "--tenant", "acme"])
        .ok();
    insta::assert_snapshot!(story);
    assert_eq!(house.run(&["links", "show", "1"]).ok(), story);
    let json = house.run(&["links", "show", "1", "--json"]).json();
    assert_eq!(json["effects"][1]["state"], "confirmed");
    assert_eq!(
        house.run(&["links", "show", "1", "--tenant", "other"]).code,
        3
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_says_why_and_is_replayed_once() {
    let house = House::with_a_story().await;
    insta::assert_snapshot!(house.run(&["dead-letters", "list"]).ok());
    insta::assert_snapshot!(house.run(&["dead-letters", "show", DEAD]).ok());
    assert_eq!(
        house
            .run(&["dead-letters", "list", "--class", "schema"])
            .ok(),
        "no dead letters\n"
    );
    let replay = ["dead-letters", "replay", DEAD, "--detach", "--json"];
    let ordered = house.run(&replay).json();
    assert_eq!(
        (&ordered["dead_letters"], &ordered["repeated"]),
        (&json!(1), &json!(false))
    );
    // One dead letter waits in one replay, whoever asks how often.
    let again = house.run(&replay);
    assert_eq!(
        (
            again.code,
            again
                .stderr
                .contains("1 dead letter waits in another replay already")
        ),
        (4, true),
        "{}",
        again.stderr
    );
    let shown = house.run(&["dead-letters", "show", DEAD, "--json"]).json();
    assert_eq!(shown["replays"][0]["requested_by"], "tester");
    assert_eq!(shown["replays"][0]["state"], "waiting");
}

#[tokio::test(flavor = "multi_thread")]
async fn held_events_are_listed_with_their_cause_and_released() {
    let house = House::with_a_story().await;
    insta::assert_snapshot!(house.run(&["held", "list"]).ok());
    assert_eq!(
        house.run(&["held", "list", "--cause", "suspended"]).ok(),
        "nothing is held\n"
    );
    let released = house
        .run(&["held", "release", "--tenant", "acme", "--cause", "poison"])
        .ok();
    assert_eq!(
        released,
        "released 1 event (1 poison); the keeper sends them to their workers\n"
    );
    assert_eq!(house.run(&["held", "list"]).ok(), "nothing is held\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn adding_a_connection_lets_go_what_waited_for_it_and_nothing_else() {
    let house = House::with_a_story().await;
    let environment = [
        ("KURIR_DATABASE_URL", house.database.url()),
        ("KURIR_KEYS__CURRENT", "k1"),
        (
            "KURIR_KEYS__RING__K1",
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        ),
    ];
    kurir(&["tenant", "add", "late"], &environment, "").ok();
    house.let_events_wait_for("late").await;
    let add = [
        "connection",
        "add",
        "--tenant",
        "late",
        "--system",
        "metakocka",
        "--json",
    ];
    let added = kurir(
        &add,
        &environment,
        r#"{"secret_key":"x","company_id":4711}"#,
    )
    .json();
    assert_eq!(added["released"], 2);
    let held = house.run(&["held", "list", "--json"]).json();
    assert_eq!(
        held.as_array()
            .unwrap()
            .iter()
            .map(|row| &row["reason"])
            .collect::<Vec<_>>(),
        ["poison"]
    );
}

//! Found, grouped, edited, closed and opened again.

use event::{OrderKey, SubjectVersion};
use serde_json::{Value, json};
use sqlx::PgPool;
use store::dead_letters::{
    After, Change, Edit, Filter, counts, edit, export, groups, list, reopen, resolve, show,
};
use store::{Error, Scope};
use testkit::{Contacts, database};
use uuid::Uuid;

use crate::rows::{insert_dead, insert_held, insert_link, pool};

const CHANGE: Change<'_> = Change {
    actor: "ana",
    note: "not needed any more",
};

async fn set(pool: &PgPool, id: Uuid, column: &str, value: &str) {
    let statement = format!("update dead_letter set {column} = $1 where id = $2");
    sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(value)
        .bind(id)
        .execute(pool)
        .await
        .expect("set");
}

/// A dead letter with this event, of version 100.
pub(crate) async fn insert_event(pool: &PgPool, link: Option<i64>, event: &Value) -> Uuid {
    let id = insert_dead(
        pool,
        event["tenantid"].as_str(),
        event["id"].as_str().expect("an id"),
        "open",
        link,
    )
    .await;
    sqlx::query(
        "update dead_letter set body = $2, source = $3, type = $4, subject = $5 where id = $1",
    )
    .bind(id)
    .bind(event.to_string().into_bytes())
    .bind(event["source"].as_str())
    .bind(event["type"].as_str())
    .bind(event["subject"].as_str())
    .execute(pool)
    .await
    .expect("a dead letter with an event");
    id
}

fn contact() -> Value {
    Contacts::new("shop", 1).organization().created()
}

#[tokio::test]
async fn lists_are_filtered_and_paged_without_gaps() {
    let database = database().await;
    let pool = pool(&database).await;
    // All died at the same moment: the id decides.
    for n in 0..5 {
        insert_dead(&pool, Some("shop"), &format!("evt-{n}"), "open", None).await;
    }
    insert_dead(&pool, Some("shop"), "other", "resolved", None).await;
    let open = Filter {
        state: Some("open".to_owned()),
        ..Filter::default()
    };
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = list(&pool, Scope::Everything, &open, after, 2)
            .await
            .expect("a page");
        let Some(last) = page.last() else { break };
        // By where it stood and by where it stands.
        after = Some(if seen.is_empty() {
            After::from(last)
        } else {
            After::Id(last.id)
        });
        seen.extend(page.into_iter().filter_map(|row| row.event_id));
    }
    seen.sort();
    assert_eq!(seen, ["evt-0", "evt-1", "evt-2", "evt-3", "evt-4"]);
    let states: Vec<(String, i64)> = counts(&pool, Scope::Everything)
        .await
        .expect("counts")
        .into_iter()
        .map(|count| (count.state, count.rows))
        .collect();
    assert_eq!(states, [("open".to_owned(), 5), ("resolved".to_owned(), 1)]);
}

#[tokio::test]
async fn every_filter_finds_its_dead_letters() {
    let database = database().await;
    let pool = pool(&database).await;
    let wanted = insert_dead(&pool, Some("shop"), "evt-3", "open", None).await;
    let other = insert_dead(&pool, Some("shop"), "evt-4", "open", None).await;
    for (column, value) in [
        ("worker", "krayin-push"),
        ("type", "chat.contact.created.v1"),
        ("class", "exhausted"),
        ("fingerprint", "exhausted:time out"),
        ("subject", "contact/77/b"),
        ("message", "gave up: 100% of_calls timed out"),
    ] {
        set(&pool, wanted, column, value).await;
    }
    sqlx::query("update dead_letter set last_at = '2026-03-01' where id = $1")
        .bind(wanted)
        .execute(&pool)
        .await
        .expect("later");
    let text = |text: &str| Some(text.to_owned());
    let date = |text: &str| Some(text.parse().expect("a time"));
    let filters = [
        Filter {
            ids: Some(vec![wanted]),
            ..Filter::default()
        },
        Filter {
            worker: text("krayin-push"),
            ..Filter::default()
        },
        Filter {
            event_type: text("chat.contact.created.v1"),
            ..Filter::default()
        },
        Filter {
            class: worker::DeadClass::parse("exhausted"),
            ..Filter::default()
        },
        Filter {
            fingerprint: text("exhausted:time out"),
            ..Filter::default()
        },
        Filter {
            since: date("2026-02-01T00:00:00Z"),
            ..Filter::default()
        },
        Filter {
            record: text("contact/77/b"),
            ..Filter::default()
        },
        Filter {
            record: text("77/b"),
            ..Filter::default()
        },
        Filter {
            text: text("100% OF_calls"),
            ..Filter::default()
        },
        Filter {
            text: text("EVT-3"),
            ..Filter::default()
        },
    ];
    for filter in &filters {
        let found: Vec<Uuid> = list(&pool, Scope::Everything, filter, None, 10)
            .await
            .expect("a page")
            .iter()
            .map(|row| row.id)
            .collect();
        assert_eq!(found, [wanted], "{filter:?}");
        let exported = export(&pool, Scope::Everything, filter, None)
            .await
            .expect("a page");
        assert_eq!(exported.len(), 1, "{filter:?}");
    }
    let before = Filter {
        until: date("2026-02-01T00:00:00Z"),
        ..Filter::default()
    };
    let found = list(&pool, Scope::Everything, &before, None, 10)
        .await
        .expect("a page");
    assert_eq!(found.iter().map(|row| row.id).collect::<Vec<_>>(), [other]);
    // What looks like a pattern is none.
    let no_pattern = Filter {
        text: text("100%evt"),
        ..Filter::default()
    };
    assert_eq!(
        list(&pool, Scope::Everything, &no_pattern, None, 10)
            .await
            .expect("a page"),
        []
    );
}

#[tokio::test]
async fn groups_are_counted_by_cause_the_largest_first() {
    let database = database().await;
    let pool = pool(&database).await;
    for n in 0..3 {
        insert_dead(&pool, Some("shop"), &format!("a{n}"), "open", None).await;
    }
    for (n, tenant) in ["shop", "mill"].into_iter().enumerate() {
        let id = insert_dead(&pool, Some(tenant), &format!("b{n}"), "open", None).await;
        set(&pool, id, "fingerprint", "exhausted:time out").await;
        set(&pool, id, "class", "exhausted").await;
    }
    let resolved = insert_dead(&pool, None, "c", "resolved", None).await;
    set(&pool, resolved, "fingerprint", "malformed:none").await;
    let open = Filter {
        state: Some("open".to_owned()),
        ..Filter::default()
    };
    let first = groups(&pool, Scope::Everything, &open, None, 1)
        .await
        .expect("a page");
    let shown = |group: &store::dead_letters::Group| {
        (
            group.fingerprint.clone(),
            group.dead_letters,
            group.tenants,
            group.class.clone(),
        )
    };
    assert_eq!(
        first.iter().map(shown).collect::<Vec<_>>(),
        [("refused:no".to_owned(), 3, 1, "refused".to_owned())]
    );
    let rest = groups(&pool, Scope::Everything, &open, Some("refused:no"), 10)
        .await
        .expect("a page");
    assert_eq!(
        rest.iter().map(shown).collect::<Vec<_>>(),
        [(
            "exhausted:time out".to_owned(),
            2,
            2,
            "exhausted".to_owned()
        )]
    );
}

#[tokio::test]
async fn an_edit_is_checked_and_noted() {
    let database = database().await;
    let pool = pool(&database).await;
    let original = contact();
    let id = insert_event(&pool, None, &original).await;
    let version = show(&pool, Scope::Everything, id)
        .await
        .expect("a timeline")
        .message
        .row_version;
    let with = |body: &Value, row_version| {
        let body = body.to_string();
        let pool = pool.clone();
        async move {
            let given = Edit {
                body: body.as_bytes(),
                row_version,
                actor: "ana",
                restamp: false,
            };
            edit(&pool, Scope::Everything, id, given).await
        }
    };
    let mut invalid = original.clone();
    invalid["data"]["contact"]["name"] = json!(7);
    let refused = with(&invalid, version).await.expect_err("not valid");
    assert!(
        refused.to_string().contains("/data/contact/name"),
        "{refused}"
    );
    let mut other = original.clone();
    other["id"] = json!("another");
    let refused = with(&other, version).await.expect_err("another event");
    assert_eq!(
        refused.to_string(),
        format!(
            "another event cannot take this one's place:\n/id must stay {}",
            original["id"].as_str().expect("a text")
        )
    );
    let mut repaired = original.clone();
    repaired["data"]["contact"]["name"] = json!("Popravljeni d.o.o.");
    let edited = with(&repaired, version).await.expect("edited");
    assert_eq!(edited.changed, ["/data/contact/name"]);
    let late = with(&repaired, version)
        .await
        .expect_err("seen too long ago");
    assert!(matches!(late, Error::Conflict(_)), "{late:?}");
    let timeline = show(&pool, Scope::Everything, id)
        .await
        .expect("a timeline");
    let body = timeline.message.edited_body.expect("edited");
    assert_eq!(
        serde_json::from_slice::<Value>(&body.0).expect("JSON"),
        repaired
    );
    assert_eq!(timeline.message.edited_by.as_deref(), Some("ana"));
    let noted: Vec<_> = timeline
        .history
        .iter()
        .map(|row| (row.kind.as_str(), row.actor.as_deref(), row.detail.clone()))
        .collect();
    assert_eq!(
        noted,
        [(
            "edit",
            Some("ana"),
            Some(json!({ "changed": ["/data/contact/name"], "restamped": false }))
        )]
    );
}

#[tokio::test]
async fn edit_of_an_overtaken_version_is_refused_unless_restamped() {
    let database = database().await;
    let pool = pool(&database).await;
    let mut event = contact();
    event["subjectversion"] = json!("1700000000000000");
    let link = insert_link(&pool, "shop", "org-1", Uuid::new_v4()).await;
    let id = insert_event(&pool, Some(link), &event).await;
    let newer = SubjectVersion::parse("1700000000000001").expect("digits");
    let newer = OrderKey::new(&newer, false, "newer", 0);
    let given = |body, row_version, restamp| Edit {
        body,
        row_version,
        actor: "ana",
        restamp,
    };
    event["data"]["contact"]["name"] = json!("Popravljeni d.o.o.");
    let body = event.to_string();
    for column in ["desired_k", "applied_k"] {
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
            "update link set desired_k = null, applied_k = null; update link set {column} = '\\x{}'",
            newer
                .as_bytes()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        )))
        .execute(&pool)
        .await
        .unwrap_or_else(|_| panic!("{column}"));
        let refused = edit(
            &pool,
            Scope::Everything,
            id,
            given(body.as_bytes(), 1, false),
        )
        .await
        .expect_err("overtaken");
        assert!(
            matches!(&refused, Error::Conflict(text) if text.contains("1700000000000001")),
            "{column}: {refused:?}"
        );
    }
    edit(
        &pool,
        Scope::Everything,
        id,
        given(body.as_bytes(), 1, true),
    )
    .await
    .expect("the newest now");
    let newest: bool =
        sqlx::query_scalar("select d.k > l.applied_k from dead_letter d, link l where d.id = $1")
            .bind(id)
            .fetch_one(&pool)
            .await
            .expect("keys");
    assert!(newest);
    // A time would beat every later revision of a source that counts.
    event["subjectversion"] = json!("7");
    let body = event.to_string();
    let refused = edit(
        &pool,
        Scope::Everything,
        id,
        given(body.as_bytes(), 2, true),
    )
    .await
    .expect_err("revisions");
    assert!(matches!(refused, Error::Invalid(_)), "{refused:?}");
}

#[tokio::test]
async fn dead_letters_are_closed_with_a_note_and_opened_again() {
    let database = database().await;
    let pool = pool(&database).await;
    let ids = [
        insert_dead(&pool, Some("shop"), "a", "open", None).await,
        insert_dead(&pool, Some("shop"), "b", "open", None).await,
    ];
    let replaying = insert_dead(&pool, Some("shop"), "c", "replaying", None).await;
    let all = Filter::default();
    let no_note = Change {
        actor: "ana",
        note: " ",
    };
    let refused = resolve(&pool, Scope::Everything, &all, no_note).await;
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    let resolved = resolve(&pool, Scope::Everything, &all, CHANGE)
        .await
        .expect("closed");
    assert_eq!(
        resolved.dead_letters, 2,
        "what is being replayed is left alone"
    );
    let again = resolve(&pool, Scope::Everything, &Filter::one(ids[0]), CHANGE)
        .await
        .expect_err("closed already");
    assert_eq!(
        again.to_string(),
        format!(
            "dead letter '{}' is resolved, only one that is open can be resolved",
            ids[0]
        )
    );
    let timeline = show(&pool, Scope::Everything, ids[0])
        .await
        .expect("a timeline");
    assert_eq!(
        (
            timeline.dead_letter.resolved_by.as_deref(),
            timeline.dead_letter.note.as_deref()
        ),
        (Some("ana"), Some("not needed any more"))
    );
    reopen(&pool, Scope::Everything, ids[0], CHANGE)
        .await
        .expect("open again");
    let timeline = show(&pool, Scope::Everything, ids[0])
        .await
        .expect("a timeline");
    assert_eq!(timeline.dead_letter.state, "open");
    let kinds: Vec<_> = timeline
        .history
        .iter()
        .map(|row| row.kind.as_str())
        .collect();
    assert_eq!(kinds, ["resolve", "reopen"]);
    for id in [ids[0], replaying] {
        let refused = reopen(&pool, Scope::Everything, id, CHANGE).await;
        assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
    }
    // Its event waits elsewhere: opened again it would be there twice.
    insert_held(&pool, "shop", "b", "suspended", None).await;
    let refused = reopen(&pool, Scope::Everything, ids[1], CHANGE).await;
    assert!(
        matches!(&refused, Err(Error::Conflict(text)) if text.contains("is held")),
        "{refused:?}"
    );
}

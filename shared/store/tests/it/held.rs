use serde_json::json;
use store::Scope;
use store::held::{Filter, Released, counts, get, list, release};
use testkit::database;
use uuid::Uuid;
use worker::HoldCause;

use crate::rows::{
    add_tenant, count, insert_held, insert_link, insert_unsettled, outbox, pool, prefix,
};

fn released(events: u64) -> Released {
    Released {
        events,
        left: 0,
        in_vain: Vec::new(),
    }
}

#[tokio::test]
async fn a_release_moves_exactly_what_was_asked_for() {
    let database = database().await;
    let pool = pool(&database).await;
    for (tenant, event, reason) in [
        ("shop", "poison-1", "poison"),
        ("shop", "poison-2", "poison"),
        ("shop", "panic-1", "panic"),
        ("bakery", "poison-3", "poison"),
    ] {
        insert_held(&pool, tenant, event, reason, None).await;
    }
    let shop = add_tenant(&pool, "shop").await;
    let scope = Scope::Tenant(&shop);
    let poison = Filter {
        cause: Some(HoldCause::Poison),
        ..Filter::default()
    };
    assert_eq!(
        list(&pool, scope, &poison, None, 10)
            .await
            .expect("a list")
            .len(),
        2
    );
    let by_text = Filter {
        text: Some("POISON-2".to_owned()),
        ..Filter::default()
    };
    let found = list(&pool, scope, &by_text, None, 10)
        .await
        .expect("a list");
    assert_eq!(found.len(), 1);

    let one = Filter {
        id: Some(found[0].id),
        ..Filter::default()
    };
    assert_eq!(
        release(&pool, &prefix(), scope, &one, "ana")
            .await
            .expect("released"),
        released(1)
    );
    assert_eq!(
        release(&pool, &prefix(), scope, &one, "ana")
            .await
            .expect("again"),
        released(0)
    );
    assert_eq!(
        release(&pool, &prefix(), scope, &poison, "ana")
            .await
            .expect("released"),
        released(1)
    );
    let left: Vec<(String, i64)> = counts(&pool, Scope::Everything, &Filter::default())
        .await
        .expect("counts")
        .into_iter()
        .map(|count| (count.reason, count.rows))
        .collect();
    assert_eq!(left, [("panic".to_owned(), 1), ("poison".to_owned(), 1)]);
}

#[tokio::test]
async fn a_released_event_begins_anew_in_its_own_generation() {
    let database = database().await;
    let pool = pool(&database).await;
    let (guilty, other) = (Uuid::new_v4(), Uuid::new_v4());
    let link = insert_link(&pool, "shop", "1", guilty).await;
    let elsewhere = insert_link(&pool, "shop", "1", other).await;
    let held = insert_held(&pool, "shop", "evt", "poison", Some(guilty)).await;
    insert_unsettled(&pool, "shop", link, "evt").await;
    insert_unsettled(&pool, "shop", link, "evt-of-somebody-else").await;
    insert_unsettled(&pool, "shop", elsewhere, "evt").await;

    let (row, message) = get(&pool, Scope::Everything, held).await.expect("the row");
    assert_eq!(
        (row.reason.as_str(), message.body.0.as_slice()),
        ("poison", br#"{"id":"evt"}"#.as_slice())
    );
    let all = Filter {
        id: Some(held),
        ..Filter::default()
    };
    release(&pool, &prefix(), Scope::Everything, &all, "ana")
        .await
        .expect("released");

    let sent = outbox(&pool).await;
    assert_eq!(sent.len(), 1);
    let (queue, body, headers) = &sent[0];
    assert_eq!(
        (queue.as_str(), body.as_str()),
        ("kurir.metakocka-sync", r#"{"id":"evt"}"#)
    );
    assert_eq!(
        *headers,
        json!({ "ce-extra": "kept", "traceparent": "00-1", "x-connection": "c", "x-generation": 2 })
    );
    assert_eq!(count(&pool, "held").await, 0);
    let unsettled: Vec<(i64, String)> =
        sqlx::query_as("select link_id, event_id from unsettled_claim order by link_id, event_id")
            .fetch_all(&pool)
            .await
            .expect("the rows");
    assert_eq!(
        unsettled,
        [
            (link, "evt-of-somebody-else".to_owned()),
            (elsewhere, "evt".to_owned())
        ]
    );
}

#[tokio::test]
async fn more_than_one_step_is_released_and_pages_follow_each_other() {
    let database = database().await;
    let pool = pool(&database).await;
    let rows = store::held::RELEASE_LIMIT + 5;
    sqlx::query(
        "insert into held (worker, tenant, target_system, reason, source, event_id, type, subject, body, properties, headers)
         select 'metakocka-sync', 'shop', 'metakocka', 'panic', 'urn:crm', n::text, 't', 's', '', '{}', '{}'
         from generate_series(1, $1) n",
    )
    .bind(rows)
    .execute(&pool)
    .await
    .expect("rows");
    let first = list(&pool, Scope::Everything, &Filter::default(), None, 2)
        .await
        .expect("a page");
    let second = list(
        &pool,
        Scope::Everything,
        &Filter::default(),
        Some(first[1].id),
        2,
    )
    .await
    .expect("a page");
    assert!(second[0].id > first[1].id);
    let released = release(
        &pool,
        &prefix(),
        Scope::Everything,
        &Filter::default(),
        "ana",
    )
    .await
    .expect("released");
    assert_eq!(released.events, rows.unsigned_abs());
    assert_eq!(
        (count(&pool, "held").await, count(&pool, "outbox").await),
        (0, rows)
    );
}

use sqlx::PgPool;
use store::janitor::{Due, take_due};
use testkit::database;
use uuid::Uuid;

use crate::rows::{insert_link, pool};

async fn due(pool: &PgPool) -> Vec<(i64, String)> {
    let mut transaction = pool.begin().await.expect("a transaction");
    let due = take_due(&mut transaction, 10).await.expect("a list");
    transaction.commit().await.expect("committed");
    due.into_iter()
        .map(|Due { link, what, .. }| (link, what))
        .collect()
}

async fn insert_effect(pool: &PgPool, link: i64, state: &str, age_seconds: i32) {
    sqlx::query(
        "insert into effect (id, link_id, tenant, source, event_id, generation, operation, state, last, request,
           sent_at, settle_at, created_at)
         values ($1, $2, 'shop', 's', 'e', 0, 'create', $3, true, '{}', now(), now() - $4 * interval '1 second', now() - $4 * interval '1 second')",
    )
    .bind(Uuid::new_v4())
    .bind(link)
    .bind(state)
    .bind(age_seconds)
    .execute(pool)
    .await
    .expect("an effect");
}

#[tokio::test]
async fn links_that_nobody_returns_to_are_asked_for_once() {
    let database = database().await;
    let pool = pool(&database).await;
    let mut links = Vec::new();
    for record in [
        "settled",
        "not settled",
        "leased",
        "recheck",
        "recheck later",
    ] {
        links.push(insert_link(&pool, "shop", record, Uuid::new_v4()).await);
    }
    insert_effect(&pool, links[0], "unknown", 5).await;
    insert_effect(&pool, links[1], "sent", -60).await;
    insert_effect(&pool, links[2], "sent", 5).await;
    for (place, column) in [
        (2, "lease_until = now() + interval '20 seconds'"),
        (3, "recheck_at = now() - interval '1 second'"),
        (4, "recheck_at = now() + interval '60 seconds'"),
    ] {
        let statement = format!("update link set {column} where id = {}", links[place]);
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .execute(&pool)
            .await
            .expect("set");
    }
    let mut asked = due(&pool).await;
    asked.sort();
    let resolve = |link: i64| (link, "resolve".to_owned());
    assert_eq!(asked, [resolve(links[0]), (links[3], "recheck".to_owned())]);
    assert_eq!(due(&pool).await, []);

    // Another due time is another request; a lost one is repeated.
    sqlx::query("update effect set settle_at = now() - interval '1 second' where link_id = $1")
        .bind(links[0])
        .execute(&pool)
        .await
        .expect("settled later");
    assert_eq!(due(&pool).await, [resolve(links[0])]);
    sqlx::query(
        "update janitor_request set asked_at = asked_at - interval '11 minutes' where link_id = $1",
    )
    .bind(links[3])
    .execute(&pool)
    .await
    .expect("long ago");
    assert_eq!(due(&pool).await, [(links[3], "recheck".to_owned())]);
}

#[tokio::test]
async fn replicas_share_the_requests() {
    let database = database().await;
    let pool = pool(&database).await;
    for n in 0..30 {
        let link = insert_link(&pool, "shop", &n.to_string(), Uuid::new_v4()).await;
        insert_effect(&pool, link, "unknown", 5).await;
    }
    let rounds = (0..12).map(|_| due(&pool));
    let mut asked: Vec<_> = futures_util::future::join_all(rounds)
        .await
        .into_iter()
        .flatten()
        .collect();
    // What a replica that looked earlier has noted is left out of its list: the next look has the rest.
    loop {
        let more = due(&pool).await;
        if more.is_empty() {
            break;
        }
        asked.extend(more);
    }
    asked.sort();
    let all = asked.len();
    asked.dedup();
    assert_eq!((all, asked.len()), (30, 30));
}

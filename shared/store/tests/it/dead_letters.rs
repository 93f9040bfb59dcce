use serde_json::json;
use store::Scope;
use store::dead_letters::{After, Filter, counts, list, replay_one, show};
use testkit::database;
use uuid::Uuid;

use crate::rows::{count, insert_dead, insert_link, insert_unsettled, outbox, pool, prefix};

#[tokio::test]
async fn a_replay_is_the_next_generation() {
    let database = database().await;
    let pool = pool(&database).await;
    let link = insert_link(&pool, "shop", "1", Uuid::new_v4()).await;
    insert_unsettled(&pool, "shop", link, "evt").await;
    let id = insert_dead(&pool, Some("shop"), "evt", "open", Some(link)).await;

    let replayed = replay_one(&pool, &prefix(), Scope::Everything, id, "ana")
        .await
        .expect("replayed");
    assert_eq!(
        (replayed.generation, replayed.queue.as_str()),
        (1, "kurir.metakocka-sync")
    );
    let sent = outbox(&pool).await;
    assert_eq!(
        sent,
        [(
            "kurir.metakocka-sync".to_owned(),
            r#"{"id":"evt"}"#.to_owned(),
            json!({ "ce-extra": "kept", "x-attempt": 1, "x-generation": 1, "x-replay": replayed.replay }),
        )]
    );
    assert_eq!(count(&pool, "unsettled_claim").await, 0);
    let story = show(&pool, Scope::Everything, id).await.expect("a story");
    assert_eq!(
        (story.letter.state.as_str(), story.letter.generation),
        ("replaying", 1)
    );
    assert_eq!(story.link.map(|link| link.id), Some(link));
    let happened: Vec<_> = story
        .history
        .iter()
        .map(|row| (row.kind.as_str(), row.generation, row.actor.as_deref()))
        .collect();
    assert_eq!(happened, [("replay", 1, Some("ana"))]);

    let again = replay_one(&pool, &prefix(), Scope::Everything, id, "ana")
        .await
        .expect_err("refused");
    assert_eq!(
        again.to_string(),
        format!("dead letter '{id}' is replaying, only an open one can be replayed")
    );
}

#[tokio::test]
async fn of_many_callers_one_replays() {
    let database = database().await;
    let pool = pool(&database).await;
    let id = insert_dead(&pool, Some("shop"), "evt", "open", None).await;
    let calls = (0..8).map(|n| {
        let pool = pool.clone();
        async move {
            replay_one(&pool, &prefix(), Scope::Everything, id, &n.to_string())
                .await
                .is_ok()
        }
    });
    let won = futures_util::future::join_all(calls).await;
    assert_eq!(won.into_iter().filter(|won| *won).count(), 1);
    assert_eq!(count(&pool, "outbox").await, 1);
}

#[tokio::test]
async fn an_edited_body_is_what_is_replayed() {
    let database = database().await;
    let pool = pool(&database).await;
    let id = insert_dead(&pool, Some("shop"), "evt", "open", None).await;
    sqlx::query("update dead_letter set edited_body = 'edited'")
        .execute(&pool)
        .await
        .expect("edited");
    replay_one(&pool, &prefix(), Scope::Everything, id, "ana")
        .await
        .expect("replayed");
    assert_eq!(outbox(&pool).await[0].1, "edited");
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
        after = Some(After::from(last));
        seen.extend(page.into_iter().filter_map(|row| row.event_id));
    }
    seen.sort();
    assert_eq!(seen, ["evt-0", "evt-1", "evt-2", "evt-3", "evt-4"]);
    let by_text = Filter {
        text: Some("EVT-3".to_owned()),
        ..Filter::default()
    };
    assert_eq!(
        list(&pool, Scope::Everything, &by_text, None, 10)
            .await
            .expect("a page")
            .len(),
        1
    );
    let states: Vec<(String, i64)> = counts(&pool, Scope::Everything)
        .await
        .expect("counts")
        .into_iter()
        .map(|count| (count.state, count.rows))
        .collect();
    assert_eq!(states, [("open".to_owned(), 5), ("resolved".to_owned(), 1)]);
}

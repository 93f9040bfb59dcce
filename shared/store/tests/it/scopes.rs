//! One tenant's caller reaches none of another one's rows, by any statement that takes a scope.

use secrecy::SecretString;
use store::{Error, Scope, connections, dead_letters, held, links_read, tokens};
use testkit::database;

use crate::replays;
use crate::rows::{
    add_connection, add_tenant, count, insert_dead, insert_held, insert_link, outbox, pool, prefix,
    ring,
};

fn missing<T: std::fmt::Debug>(result: Result<T, Error>, what: &str) {
    assert!(
        matches!(result, Err(Error::Missing { .. })),
        "{what}: {result:?}"
    );
}

#[tokio::test]
async fn another_tenants_rows_are_missing() {
    let database = database().await;
    let pool = pool(&database).await;
    let shop = add_tenant(&pool, "shop").await;
    let stranger = add_tenant(&pool, "stranger").await;
    let connection = add_connection(&pool, &shop).await.connection;
    let (token, _) = tokens::create(&pool, &shop, "crm", None)
        .await
        .expect("a token");
    let link = insert_link(&pool, "shop", "1", connection.id).await;
    let held_row = insert_held(&pool, "shop", "evt", "poison", None).await;
    let dead = insert_dead(&pool, Some("shop"), "evt", "open", Some(link)).await;
    let nobodys = insert_dead(&pool, None, "undecodable", "open", None).await;
    let before: String = dump(&pool).await;

    let theirs = Scope::Tenant(&stranger);
    missing(tokens::revoke(&pool, theirs, token.id).await, "revoke");
    missing(connections::get(&pool, theirs, connection.id).await, "get");
    missing(
        connections::credentials(&pool, &ring(), theirs, connection.id).await,
        "credentials",
    );
    let empty = SecretString::from("{}");
    missing(
        connections::update_credentials(&pool, &ring(), theirs, connection.id, &empty).await,
        "update",
    );
    missing(
        connections::set_enabled(&pool, theirs, connection.id, false).await,
        "set_enabled",
    );
    missing(
        connections::resume(&pool, theirs, connection.id, 1).await,
        "resume",
    );
    missing(held::get(&pool, theirs, held_row).await, "held");
    missing(dead_letters::show(&pool, theirs, dead).await, "dead letter");
    missing(
        dead_letters::show(&pool, theirs, nobodys).await,
        "nobody's dead letter",
    );
    scoped_dead_letters(&pool, theirs, dead).await;
    missing(links_read::timeline(&pool, theirs, link).await, "timeline");
    assert_eq!(
        links_read::summary(&pool, theirs, link)
            .await
            .expect("an answer"),
        None
    );
    assert!(
        tokens::list(&pool, theirs, 10)
            .await
            .expect("a list")
            .is_empty()
    );
    assert!(
        connections::list(&pool, theirs, 10)
            .await
            .expect("a list")
            .is_empty()
    );
    assert!(
        held::counts(&pool, theirs, &held::Filter::default())
            .await
            .expect("counts")
            .is_empty()
    );
    assert!(
        dead_letters::counts(&pool, theirs)
            .await
            .expect("counts")
            .is_empty()
    );
    assert!(
        held::list(&pool, theirs, &held::Filter::default(), None, 10)
            .await
            .expect("a list")
            .is_empty()
    );
    let all = dead_letters::Filter::default();
    assert!(
        dead_letters::list(&pool, theirs, &all, None, 10)
            .await
            .expect("a list")
            .is_empty()
    );
    let all = links_read::Filter::default();
    assert!(
        links_read::list(&pool, theirs, &all, None, 10)
            .await
            .expect("a list")
            .is_empty()
    );
    let released = held::release(&pool, &prefix(), theirs, &held::Filter::default(), "x")
        .await
        .expect("nothing");
    assert_eq!(released.events, 0);

    assert_eq!(
        dump(&pool).await,
        before,
        "nothing of the other tenant changed"
    );
    assert!(outbox(&pool).await.is_empty());
    // The same calls do reach the rows of their own tenant.
    let own = Scope::Tenant(&shop);
    replays::run_one(&pool, own, dead).await;
    held::release(&pool, &prefix(), own, &held::Filter::default(), "x")
        .await
        .expect("its own");
    assert_eq!(
        (outbox(&pool).await.len(), count(&pool, "held").await),
        (2, 0)
    );
}

/// Whatever a stranger does with this dead letter finds nothing.
async fn scoped_dead_letters(pool: &sqlx::PgPool, theirs: Scope<'_>, dead: uuid::Uuid) {
    let change = dead_letters::Change {
        actor: "x",
        note: "not mine",
    };
    let one = dead_letters::Filter::one(dead);
    missing(
        dead_letters::resolve(pool, theirs, &one, change).await,
        "resolve",
    );
    missing(
        dead_letters::reopen(pool, theirs, dead, change).await,
        "reopen",
    );
    let edit = dead_letters::Edit {
        body: b"{}",
        row_version: 1,
        actor: "x",
        restamp: false,
    };
    missing(dead_letters::edit(pool, theirs, dead, edit).await, "edit");
    let all = dead_letters::Filter::default();
    assert_eq!(
        dead_letters::groups(pool, theirs, &all, None, 10)
            .await
            .expect("groups"),
        []
    );
    assert_eq!(
        dead_letters::export(pool, theirs, &all, None)
            .await
            .expect("a page"),
        []
    );
    assert_eq!(
        dead_letters::resolve(pool, theirs, &all, change)
            .await
            .expect("nothing")
            .dead_letters,
        0
    );
    let plan = dead_letters::replay::plan(pool, theirs, &all, 1.0)
        .await
        .expect("a plan");
    assert_eq!((plan.dead_letters, plan.not_open), (0, 0));
    let order = replays::order_of(&all);
    let refused = dead_letters::replay::order(pool, theirs, order).await;
    assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
    let theirs_to_see =
        dead_letters::replay::order(pool, Scope::Everything, replays::order_of(&one))
            .await
            .expect("the operator's");
    for (what, result) in [
        (
            "show",
            dead_letters::replay::show(pool, theirs, theirs_to_see.id)
                .await
                .map(drop),
        ),
        (
            "pause",
            dead_letters::replay::pause(pool, theirs, theirs_to_see.id).await,
        ),
        (
            "resume",
            dead_letters::replay::resume(pool, theirs, theirs_to_see.id)
                .await
                .map(drop),
        ),
        (
            "cancel",
            dead_letters::replay::cancel(pool, theirs, theirs_to_see.id)
                .await
                .map(drop),
        ),
    ] {
        missing(result, what);
    }
    dead_letters::replay::cancel(pool, Scope::Everything, theirs_to_see.id)
        .await
        .expect("cancelled");
}

async fn dump(pool: &sqlx::PgPool) -> String {
    sqlx::query_scalar(
        "select concat_ws(E'\n', (select string_agg(t::text, '|') from api_token t),
           (select string_agg(t::text, '|') from connection t), (select string_agg(t::text, '|') from held t),
           (select string_agg(t::text, '|' order by id) from dead_letter t), (select string_agg(t::text, '|') from link t))",
    )
    .fetch_one(pool)
    .await
    .expect("a dump")
}

#[tokio::test]
async fn the_timeline_of_a_link_holds_all_its_parts() {
    let database = database().await;
    let pool = pool(&database).await;
    let shop = add_tenant(&pool, "shop").await;
    let connection = add_connection(&pool, &shop).await.connection;
    let link = insert_link(&pool, "shop", "evt", connection.id).await;
    let dead = insert_dead(&pool, Some("shop"), "evt", "open", Some(link)).await;
    let held_row = insert_held(&pool, "shop", "evt", "suspended", Some(connection.id)).await;
    insert_held(
        &pool,
        "shop",
        "evt-of-another-record",
        "suspended",
        Some(connection.id),
    )
    .await;
    insert_held(&pool, "stranger", "evt", "no_connection", None).await;
    crate::rows::insert_unsettled(&pool, "shop", link, "evt").await;
    sqlx::query("insert into natural_key_claim values ('shop', $1, 'contact', 'tax:SI1', $2)")
        .bind(connection.id)
        .bind(link)
        .execute(&pool)
        .await
        .expect("a key");
    sqlx::query(
        "insert into link_history (link_id, tenant, at, what) values ($1, 'shop', now(), 'dead')",
    )
    .bind(link)
    .execute(&pool)
    .await
    .expect("history");

    let timeline = links_read::timeline(&pool, Scope::Tenant(&shop), link)
        .await
        .expect("a timeline");
    assert_eq!(
        timeline
            .link
            .desired_k
            .as_ref()
            .map(ToString::to_string)
            .as_deref(),
        Some("7 evt-7")
    );
    assert_eq!(timeline.natural_keys, ["tax:SI1"]);
    assert_eq!(
        (
            timeline.unsettled.len(),
            timeline.history.len(),
            timeline.effects.len()
        ),
        (1, 1, 0)
    );
    assert_eq!(
        timeline
            .dead_letters
            .iter()
            .map(|row| row.id)
            .collect::<Vec<_>>(),
        [dead]
    );
    assert_eq!(
        timeline.held.iter().map(|row| row.id).collect::<Vec<_>>(),
        [held_row]
    );
    let json = serde_json::to_value(&timeline).expect("serialises");
    assert_eq!(json["link"]["desired_k"], "7 evt-7");
    let by_source = links_read::Filter {
        source_id: Some("evt".to_owned()),
        ..links_read::Filter::default()
    };
    assert_eq!(
        links_read::list(&pool, Scope::Tenant(&shop), &by_source, None, 10)
            .await
            .expect("a list")
            .len(),
        1
    );
}

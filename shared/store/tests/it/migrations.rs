use testkit::database;

use crate::rows::pool;

#[tokio::test]
async fn two_processes_may_migrate_an_empty_database_at_once() {
    let database = database().await;
    let (one, other) = (pool(&database).await, pool(&database).await);
    sqlx::raw_sql("drop schema public cascade; create schema public")
        .execute(&one)
        .await
        .expect("an empty database");
    assert_eq!(
        store::migrate::pending(&one).await.expect("an answer"),
        [
            "0001_baseline",
            "0002_many_links",
            "0003_terms",
            "all functions"
        ]
    );

    let (first, second) = tokio::join!(
        store::migrate::migrate(&one),
        store::migrate::migrate(&other)
    );
    first.expect("migrated");
    second.expect("migrated, or found migrated");
    store::migrate::migrate(&one)
        .await
        .expect("a third time does nothing");
    assert!(
        store::migrate::pending(&one)
            .await
            .expect("an answer")
            .is_empty()
    );
}

#[tokio::test]
async fn functions_of_another_build_are_named_and_made_anew() {
    let database = database().await;
    let (one, other) = (pool(&database).await, pool(&database).await);
    sqlx::raw_sql(
        "create or replace function link_json(l link) returns jsonb language sql as $$ select null::jsonb $$;
         update applied_function set hash = 'before' where name = 'link_json';
         drop function kept_limit();
         create function kept_limit(p_of text) returns text language sql as $$ select p_of $$;
         update applied_function set hash = 'before', signature = 'before' where name = 'kept_limit';
         create function given_away() returns int language sql as $$ select 1 $$;
         insert into applied_function (name, hash, signature, release) values ('given_away', 'x', 'x', '0.0.1');
         create function of_somebody_else() returns int language sql as $$ select 7 $$",
    )
    .execute(&one)
    .await
    .expect("functions of a build before");
    assert_eq!(
        store::migrate::pending(&one).await.expect("an answer"),
        [
            "function kept_limit",
            "function link_json",
            "function given_away (to be dropped)"
        ]
    );

    let (first, second) = tokio::join!(
        store::migrate::migrate(&one),
        store::migrate::migrate(&other)
    );
    first.expect("migrated");
    second.expect("migrated, or found migrated");
    let pending = store::migrate::pending(&one).await.expect("an answer");
    assert!(pending.is_empty(), "{pending:?}");
    let limit: i32 = sqlx::query_scalar("select kept_limit()")
        .fetch_one(&one)
        .await
        .expect("the signature of this build");
    assert_eq!(limit, 16);
    let left: Vec<String> = sqlx::query_scalar(
        "select oid::regprocedure::text from pg_proc
         where proname in ('kept_limit', 'given_away', 'of_somebody_else') order by 1",
    )
    .fetch_all(&one)
    .await
    .expect("functions");
    assert_eq!(left, ["kept_limit()", "of_somebody_else()"]);
    let body: bool = sqlx::query_scalar(
        "select prosrc like '%missing_since%' from pg_proc where proname = 'link_json'",
    )
    .fetch_one(&one)
    .await
    .expect("the text of this build");
    assert!(body);
}

#[tokio::test]
async fn functions_of_a_later_release_stay() {
    let database = database().await;
    let pool = pool(&database).await;
    sqlx::raw_sql(
        "create or replace function kept_limit() returns int language sql immutable as $$ select 17 $$;
         update applied_function set hash = 'later', release = '999.0.0' where name = 'kept_limit'",
    )
    .execute(&pool)
    .await
    .expect("a later release");
    let pending = store::migrate::pending(&pool).await.expect("an answer");
    assert!(pending.is_empty(), "{pending:?}");
    store::migrate::migrate(&pool).await.expect("nothing to do");
    let limit: i32 = sqlx::query_scalar("select kept_limit()")
        .fetch_one(&pool)
        .await
        .expect("the later one");
    assert_eq!(limit, 17);
}

/// Bodies are not checked when they are made: one may stand before what it calls.
#[tokio::test]
async fn the_body_of_every_function_can_be_read() {
    let database = database().await;
    let pool = pool(&database).await;
    let texts: Vec<String> = sqlx::query_scalar(
        "select pg_get_functiondef(f.oid) from pg_proc f join applied_function a on a.name = f.proname
         where f.pronamespace = current_schema()::regnamespace",
    )
    .fetch_all(&pool)
    .await
    .expect("functions");
    assert!(texts.len() > 30, "{}", texts.len());
    for text in texts {
        sqlx::raw_sql(sqlx::AssertSqlSafe(text.clone()))
            .execute(&pool)
            .await
            .unwrap_or_else(|error| panic!("{error}: {text}"));
    }
}

#[tokio::test]
async fn a_database_whose_migrations_were_others_is_refused() {
    let database = database().await;
    let pool = pool(&database).await;
    for other in [
        "update _sqlx_migrations set checksum = 'other' where version = 1",
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values (8, 'of before the baseline', true, 'x', 0)",
    ] {
        sqlx::raw_sql(other).execute(&pool).await.expect("done");
        let refused = store::migrate::migrate(&pool).await;
        assert!(
            matches!(refused, Err(store::Error::Migration(_))),
            "{other}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn a_role_does_not_wait_for_a_wrong_address_or_password() {
    use secrecy::SecretString;
    use std::time::{Duration, Instant};
    let database = database().await;
    let wrong = database
        .url()
        .replace(database.name(), "kurir_test_no_such_database");
    for url in ["mysql://nobody", &wrong] {
        let began = Instant::now();
        let settings = store::Settings::new(SecretString::from(url));
        let error = store::connect(&settings, Duration::from_secs(60))
            .await
            .expect_err("refused");
        assert!(!error.is_transient(), "{error:?}");
        assert!(began.elapsed() < Duration::from_secs(20), "{url}");
    }
}

#[tokio::test]
async fn an_unreachable_server_is_waited_for_and_then_named() {
    use secrecy::SecretString;
    use std::time::Duration;
    let closed = testkit::closed_port();
    let settings = store::Settings::new(SecretString::from(format!(
        "postgres://a:b@{}/c",
        closed.address()
    )));
    let error = store::connect(&settings, Duration::from_millis(500))
        .await
        .expect_err("nobody listens");
    assert!(error.is_transient());
    assert_eq!(error.to_string(), "the database cannot be reached");
}

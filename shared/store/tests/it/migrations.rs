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
    let names = [
        "0001_tenancy_and_messages",
        "0002_links",
        "0003_link_functions",
        "0004_budgets",
        "0005_replays",
        "0006_several_connections",
        "0007_holds",
        "0008_census",
    ];
    assert_eq!(
        store::migrate::pending(&one).await.expect("an answer"),
        names
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

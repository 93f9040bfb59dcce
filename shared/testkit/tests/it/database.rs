use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use testkit::{database, wait_until};

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_test_has_all_tables_and_no_rows() {
    let database = database().await;
    let tenants: i64 = sqlx::query_scalar("select count(*) from tenant")
        .fetch_one(database.pool())
        .await
        .expect("the migrations were applied");
    assert_eq!(tenants, 0);
}

#[tokio::test]
async fn two_databases_share_nothing() {
    let (one, other) = tokio::join!(database(), database());
    sqlx::query("insert into tenant (id) values ('orodje')")
        .execute(one.pool())
        .await
        .expect("a tenant");
    let seen: i64 = sqlx::query_scalar("select count(*) from tenant")
        .fetch_one(other.pool())
        .await
        .expect("a count");
    assert_eq!(seen, 0);
}

#[tokio::test]
async fn a_database_goes_with_its_test_even_while_somebody_is_connected() {
    let server = database().await;
    let (name, stranger) = {
        let database = database().await;
        let stranger = PgPoolOptions::new()
            .connect(database.url())
            .await
            .expect("anybody may connect");
        (database.name().to_owned(), stranger)
    };
    wait_until(
        "the database is gone",
        LIMIT,
        async || {
            sqlx::query_scalar::<_, bool>(
                "select exists (select from pg_database where datname = $1)",
            )
            .bind(&name)
            .fetch_one(server.pool())
            .await
            .expect("an answer")
        },
        |exists| !exists,
    )
    .await;
    assert!(sqlx::query("select 1").execute(&stranger).await.is_err());
}

#[tokio::test]
async fn a_dropped_database_is_dropped_without_a_runtime() {
    let database = database().await;
    std::thread::spawn(move || drop(database))
        .join()
        .expect("no panic");
}

#[tokio::test]
async fn statements_counts_the_product_and_not_the_test() {
    let database = database().await;
    let product = PgPoolOptions::new()
        .max_connections(1)
        .connect(database.url())
        .await
        .expect("a connection");
    database.reset_statements().await;
    for id in ["a", "b", "c"] {
        let mut transaction = product.begin().await.expect("begin");
        sqlx::query("insert into tenant (id) values ($1)")
            .bind(id)
            .execute(&mut *transaction)
            .await
            .expect("insert");
        transaction.commit().await.expect("commit");
    }
    sqlx::query("select count(*) from tenant")
        .execute(database.pool())
        .await
        .expect("a look of the test");

    let statements = database.statements().await;
    assert_eq!(
        statements.calls_of("insert into tenant"),
        3,
        "{statements:?}"
    );
    assert_eq!(
        statements.calls_of("select count(*) from tenant"),
        0,
        "{statements:?}"
    );
    // begin, insert, commit
    assert_eq!(statements.calls(), 9, "{statements:?}");
}

#[tokio::test]
async fn disconnecting_everybody_spares_nobody_but_the_test() {
    let database = database().await;
    let product = PgPoolOptions::new()
        .max_connections(1)
        .connect(database.url())
        .await
        .expect("a connection");
    let mut held = product.acquire().await.expect("a connection");
    assert_eq!(database.disconnect_everybody().await, 1);
    assert!(sqlx::query("select 1").execute(&mut *held).await.is_err());
}

//! `kurir demo` as `make demo` runs it: the whole fleet on a real broker and database.

use std::time::Duration;

use testkit::Kurir;

/// Its own time-outs are shorter and name what they waited for.
const END: Duration = Duration::from_secs(400);

#[tokio::test(flavor = "multi_thread")]
async fn a_day_ends_by_itself_with_every_contact_in_step() {
    let database = testkit::database().await;
    let broker = testkit::broker().await;
    let demo = Kurir::new(env!("CARGO_BIN_EXE_kurir"), ["demo", "--seed", "7"])
        .database(&database)
        .broker(&broker);
    let told = demo.run(END).await.expect(0).stdout;
    assert!(
        told.contains("What happened (DEMO_SEED=7)") && !told.contains("NOT AS IT MUST BE"),
        "{told}"
    );
    // What it tells is what is there.
    let links: i64 = sqlx::query_scalar(
        "select count(*) from link where state = 'linked' and applied_k = desired_k",
    )
    .fetch_one(database.pool())
    .await
    .unwrap();
    let rows: Vec<Vec<&str>> = told
        .lines()
        .filter(|line| {
            ["orodje", "pekarna", "vrtnar"]
                .iter()
                .any(|name| line.trim_start().starts_with(name))
        })
        .map(|line| line.split_whitespace().collect())
        .collect();
    let equal: i64 = rows.iter().map(|row| row[2].parse::<i64>().unwrap()).sum();
    assert_eq!((rows.len(), equal), (3, links), "{told}");
    let open: i64 = sqlx::query_scalar("select count(*) from dead_letter where state = 'open'")
        .fetch_one(database.pool())
        .await
        .unwrap();
    assert_eq!(open, 2, "{told}");
}

//! Dead letters that are sent again: how many come home per second when the pace does not hold them back. A replay starts
//! at one dead letter a second and doubles while all goes well; here it begins with its highest pace.

use std::time::{Duration, Instant};

use store::dead_letters::replay::HIGHEST_RATE;
use testkit::wait_for;

use crate::Size;
use crate::harness::Harness;
use crate::partner::Mood;
use crate::process::run;
use crate::report::Report;

const LIMIT: Duration = Duration::from_secs(120);

pub(crate) async fn measure(harness: &mut Harness, size: Size, report: &mut Report) {
    let (dead_letters, rounds) = (size.of(600, 150), size.of(2, 1));
    let (worker, keeper) = (harness.worker().await, harness.role(&["keeper"]).await);
    let (mut deaths, mut replays) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let numbers = harness.unknown(dead_letters);
        let messages = harness.messages(numbers, 1);
        harness.partner.mood(Mood::Refuses);
        let begun = Instant::now();
        harness.filler.fill(&harness.exchange(), &messages).await;
        are(harness, "open", dead_letters).await;
        deaths.push(dead_letters as f64 / begun.elapsed().as_secs_f64());
        harness.partner.mood(Mood::Answers);
        let rate = HIGHEST_RATE.to_string();
        run(harness.kurir(&[
            "dead-letters",
            "replay",
            "--all",
            "--rate",
            &rate,
            "--yes",
            "--detach",
        ]));
        let begun = Instant::now();
        sqlx::query("update replay set rate_now = rate_max")
            .execute(harness.database.pool())
            .await
            .unwrap();
        are(harness, "open", 0).await;
        are(harness, "replaying", 0).await;
        replays.push(dead_letters as f64 / begun.elapsed().as_secs_f64());
    }
    report.line(
        "replay",
        "events that die, from publish to their row",
        "events/s",
        &deaths,
    );
    report.line(
        "replay",
        "dead letters that are sent again and end",
        "dead letters/s",
        &replays,
    );
    harness.stop(worker).await;
    keeper.stop().await;
}

/// Waits until so many dead letters are in this state.
async fn are(harness: &Harness, state: &str, dead_letters: usize) {
    wait_for(
        &format!("{dead_letters} dead letters that are {state}"),
        LIMIT,
        async || {
            let count: i64 =
                sqlx::query_scalar("select count(*) from dead_letter where state = $1")
                    .bind(state)
                    .fetch_one(harness.database.pool())
                    .await
                    .unwrap();
            match count as usize == dead_letters {
                true => Ok(()),
                false => Err(count),
            }
        },
    )
    .await;
}

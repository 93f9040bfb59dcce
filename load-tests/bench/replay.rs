//! Dead letters that are sent again: how many come home per second when the pace does not hold them back. A replay starts
//! at one letter a second and doubles while all goes well; here it begins with its highest pace.

use std::time::{Duration, Instant};

use store::dead_letters::replay::HIGHEST_RATE;
use testkit::wait_for;

use crate::Size;
use crate::partner::Mood;
use crate::process::run;
use crate::report::Report;
use crate::stage::Stage;

const LIMIT: Duration = Duration::from_secs(120);

pub(crate) async fn measure(stage: &mut Stage, size: Size, report: &mut Report) {
    let (letters, rounds) = (size.of(600, 150), size.of(2, 1));
    let (worker, keeper) = (stage.worker().await, stage.role(&["keeper"]).await);
    let (mut deaths, mut replays) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let numbers = stage.unknown(letters);
        let messages = stage.messages(numbers, 1);
        stage.partner.mood(Mood::Refuses);
        let begun = Instant::now();
        stage.filler.fill(&stage.exchange(), &messages).await;
        are(stage, "open", letters).await;
        deaths.push(letters as f64 / begun.elapsed().as_secs_f64());
        stage.partner.mood(Mood::Answers);
        let rate = HIGHEST_RATE.to_string();
        run(stage.kurir(&[
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
            .execute(stage.database.pool())
            .await
            .unwrap();
        are(stage, "open", 0).await;
        are(stage, "replaying", 0).await;
        replays.push(letters as f64 / begun.elapsed().as_secs_f64());
    }
    report.line(
        "replay",
        "events that die, from publish to their row",
        "events/s",
        &deaths,
    );
    report.line(
        "replay",
        "letters that are sent again and end",
        "letters/s",
        &replays,
    );
    stage.stop(worker).await;
    keeper.stop().await;
}

/// Waits until so many letters are in this state.
async fn are(stage: &Stage, state: &str, letters: usize) {
    wait_for(
        &format!("{letters} letters that are {state}"),
        LIMIT,
        async || {
            let count: i64 =
                sqlx::query_scalar("select count(*) from dead_letter where state = $1")
                    .bind(state)
                    .fetch_one(stage.database.pool())
                    .await
                    .unwrap();
            match count as usize == letters {
                true => Ok(()),
                false => Err(count),
            }
        },
    )
    .await;
}

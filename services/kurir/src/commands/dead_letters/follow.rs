//! Waiting for the end of a replay: a bar on a terminal, a line now and then elsewhere. The keeper does the work; to
//! look away stops nothing.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use operations::count;
use operations::render_detail;
use store::dead_letters::replay::{self, Counts, Progress};
use store::{Pool, Scope};
use tokio::signal::unix::{SignalKind, signal};
use uuid::Uuid;

use super::replay::look;
use crate::exit::{Done, Exit, Failed};
use crate::output::{Output, at, at_or_empty, facts, table};

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(500);
/// Between two lines where there is no terminal.
const LINE: Duration = Duration::from_secs(5);
/// A replay that no keeper has for so long is not waited for.
const NO_KEEPER: Duration = Duration::from_secs(10);

/// Until its end, or until nobody works on it.
///
/// # Errors
/// Something of it did not end well, it does not go on by itself, or it was not waited for.
pub(super) async fn follow(pool: &Pool, scope: Scope<'_>, id: Uuid, output: Output) -> Done {
    let mut shown = Shown::new();
    // One for all rounds: a Ctrl-C during a look at the database is not missed.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut attended = Instant::now();
    let progress = loop {
        let progress = replay::show(pool, scope, id).await?;
        shown.update(&progress)?;
        if progress.replay.state != "running" {
            break progress;
        }
        if progress.replay.attended {
            attended = Instant::now();
        } else if attended.elapsed() > NO_KEEPER {
            shown.end();
            return Err(Failed::new(
                Exit::Unavailable,
                "no keeper works on the replay; it waits in the database",
            )
            .next(format!(
                "start `kurir keeper` (with keeper.replay = true); {}",
                look(id)
            )));
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = interrupt.recv() => {
                shown.end();
                return Err(Failed::new(Exit::Failed, "not waited for: the replay goes on in the keeper").next(look(id)));
            }
        }
    };
    shown.end();
    output.show(&progress, render)?;
    verdict(&progress)
}

enum Shown {
    Bar(ProgressBar),
    Lines(Option<(Instant, i64)>),
}

impl Shown {
    fn new() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines(None);
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) =
            ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}  {elapsed_precise}")
        {
            bar.set_style(style);
        }
        Self::Bar(bar)
    }

    fn update(&mut self, progress: &Progress) -> Done {
        let counts = &progress.counts;
        match self {
            Self::Bar(bar) => {
                bar.set_length(u64::try_from(counts.all()).unwrap_or_default());
                bar.set_position(u64::try_from(counts.ended()).unwrap_or_default());
                bar.set_message(words(counts, progress.replay.rate_now));
            }
            Self::Lines(last) => {
                let due = last.is_none_or(|(at, _)| at.elapsed() >= LINE);
                let news = last.is_none_or(|(_, ended)| ended != counts.ended());
                if due && news {
                    *last = Some((Instant::now(), counts.ended()));
                    writeln!(
                        std::io::stderr().lock(),
                        "replay {}: {} of {} ended; {}",
                        progress.replay.id,
                        counts.ended(),
                        counts.all(),
                        words(counts, progress.replay.rate_now)
                    )?;
                }
            }
        }
        Ok(())
    }

    fn end(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn words(counts: &Counts, rate: f32) -> String {
    let named = [
        (counts.done, "done"),
        (counts.overtaken, "overtaken"),
        (counts.failed, "failed"),
        (counts.held - counts.held_briefly, "held"),
        (counts.skipped, "skipped"),
        (counts.cancelled, "cancelled"),
        (counts.held_briefly, "held briefly"),
        (counts.retrying, "retrying"),
        (counts.sent, "on their way"),
        (counts.waiting, "waiting"),
    ];
    let mut words: Vec<String> = named
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, word)| format!("{number} {word}"))
        .collect();
    words.push(format!("{rate}/s"));
    words.join(", ")
}

/// The whole state of a replay, and what to do next.
pub(super) fn render(progress: &Progress) -> String {
    let (replay, counts) = (&progress.replay, &progress.counts);
    let number = |number: i64| match number {
        0 => String::new(),
        number => number.to_string(),
    };
    let mut parts = vec![facts(&[
        ("replay", replay.id.to_string()),
        ("state", replay.state.clone()),
        ("stopped", replay.stopped_reason.clone().unwrap_or_default()),
        ("of", render_detail(&replay.selection)),
        ("tenant", replay.tenant.clone().unwrap_or_default()),
        (
            "ordered",
            format!("{} by {}", at(replay.created_at), replay.requested_by),
        ),
        ("ended", at_or_empty(replay.ended_at)),
        (
            "pace",
            format!("{}/s, at most {}/s", replay.rate_now, replay.rate_max),
        ),
        ("dead letters", counts.all().to_string()),
        ("  done", number(counts.done)),
        ("  overtaken", number(counts.overtaken)),
        ("  failed", number(counts.failed)),
        ("  held", number(counts.held - counts.held_briefly)),
        ("  skipped", number(counts.skipped)),
        ("  retrying", number(counts.retrying)),
        ("  held briefly", number(counts.held_briefly)),
        ("  on their way", number(counts.sent)),
        ("  waiting", number(counts.waiting)),
        ("  cancelled", number(counts.cancelled)),
    ])];
    if !progress.failures.is_empty() {
        let causes = progress.failures.iter().map(|cause| {
            vec![
                cause.dead_letters.to_string(),
                cause.state.clone(),
                cause.detail.clone().unwrap_or_default(),
                cause.example.to_string(),
            ]
        });
        parts.push(table(
            &["dead letters", "what", "why", "example"],
            causes.collect(),
            "",
        ));
    }
    if let Some(next) = next(progress) {
        parts.push(format!("Next: {next}"));
    }
    parts.join("\n\n")
}

fn next(progress: &Progress) -> Option<String> {
    let replay = &progress.replay;
    match (replay.state.as_str(), progress.failures.first()) {
        ("stopped", example) => Some(format!(
            "{}repair the cause, then `kurir dead-letters replays resume {}`",
            example
                .map(|cause| format!("`kurir dead-letters show {}`, ", cause.example))
                .unwrap_or_default(),
            replay.id
        )),
        ("paused", _) => Some(format!("`kurir dead-letters replays resume {}`", replay.id)),
        ("running", _) if !replay.attended => {
            Some("no keeper works on it: start `kurir keeper`".to_owned())
        }
        ("running", _) => Some(format!(
            "`kurir dead-letters replays show {} --follow` waits for the end",
            replay.id
        )),
        (_, Some(cause)) if cause.state == "held" => {
            Some("`kurir held list` shows what they wait for".to_owned())
        }
        (_, Some(cause)) => Some(format!(
            "`kurir dead-letters show {}` tells why",
            cause.example
        )),
        _ => None,
    }
}

/// Only where every dead letter's content is where it belongs the command has done what it was asked.
fn verdict(progress: &Progress) -> Done {
    let counts = &progress.counts;
    if progress.replay.state == "done" && counts.all_well() {
        return Ok(());
    }
    let id = progress.replay.id;
    let message = match progress.replay.state.as_str() {
        "stopped" => "the replay stopped itself".to_owned(),
        "paused" => "the replay is paused".to_owned(),
        "cancelled" => "the replay was cancelled".to_owned(),
        _ => format!(
            "{} did not end well",
            count(
                u64::try_from(counts.all() - counts.done - counts.overtaken).unwrap_or_default(),
                "dead letter"
            )
        ),
    };
    let failed = Failed::new(Exit::Failed, message);
    Err(match next(progress) {
        Some(next) => failed.next(next),
        None => failed.next(look(id)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line that says "1 of 2 ended; 2 held" contradicts itself.
    #[test]
    fn the_words_of_a_line_add_up_to_what_it_says_has_ended() {
        let counts = Counts {
            waiting: 1,
            sent: 1,
            retrying: 1,
            done: 2,
            overtaken: 1,
            failed: 1,
            held: 3,
            held_briefly: 2,
            skipped: 1,
            cancelled: 1,
        };
        let said = words(&counts, 1.0);
        let (ended, under_way) = said.split_once(", 2 held briefly, ").expect("both parts");
        assert_eq!(
            ended,
            "2 done, 1 overtaken, 1 failed, 1 held, 1 skipped, 1 cancelled"
        );
        assert_eq!(under_way, "1 retrying, 1 on their way, 1 waiting, 1/s");
        assert_eq!((counts.ended(), counts.all()), (7, 12));
    }
}

//! An event repaired by a person: in an editor, from a file, or from standard input.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use event::TenantId;
use operations::count;
use operations::dead_letters;
use similar::TextDiff;
use store::dead_letters::{Edited, Timeline, checked};
use store::{Body, Pool, Scope};
use uuid::Uuid;

use super::confirm::confirm;
use super::json_text::{compact, pretty};
use super::replay;
use super::{Actor, dead_letter};
use crate::context::scope;
use crate::exit::{Done, Exit, Failed};
use crate::output::Output;
use crate::output::print_aside;
use crate::values::tenant;

#[derive(Debug, Args)]
pub(crate) struct Edit {
    /// Id of the dead letter
    #[arg(value_parser = dead_letter)]
    pub(crate) id: Uuid,
    /// Whose it must be
    #[arg(long, value_parser = tenant)]
    pub(crate) tenant: Option<TenantId>,
    /// The whole event from a file instead of $EDITOR; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Gives the event a new version, now: it counts as the newest content of its record
    #[arg(long)]
    pub(crate) restamp: bool,
    /// Replays it at once and waits for the end
    #[arg(long)]
    pub(crate) replay: bool,
    /// Does not ask whether the difference is right
    #[arg(long, short)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) actor: Actor,
    #[command(flatten)]
    pub(crate) output: Output,
}

/// Tried where neither VISUAL nor EDITOR is set.
const EDITOR: &str = "vi";
/// Lines around a change.
const AROUND: usize = 3;
/// An event with its derived attributes has at most so many bytes; laid out by a person twice as many are plenty.
const FILE_LIMIT: u64 = 2 * event::MAX_EVENT_BYTES as u64;

pub(super) async fn run(pool: &Pool, given: Edit) -> Done {
    let tenant = given.tenant.clone();
    let scope = scope(tenant.as_ref());
    let timeline = store::dead_letters::show(pool, scope, given.id).await?;
    dead_letters::check_open(&timeline)?;
    let before = laid_out(&timeline);
    let draft = match (&given.file, given.restamp) {
        (Some(file), _) => Draft::read(file)?,
        // Only a new version is wanted, and nobody is there to look at it.
        (None, true) if !std::io::stdin().is_terminal() => Draft::same(before.clone()),
        (None, _) => Draft::in_editor(&before)?,
    };
    match apply(pool, scope, &given, &timeline, &before, &draft).await {
        Ok(done) => {
            draft.forget();
            let Some(edited) = done else {
                return given.output.show(
                    &serde_json::json!({ "id": given.id, "changed": [] }),
                    |_| "nothing was changed".to_owned(),
                );
            };
            if given.replay {
                return replay::one(pool, scope, given.id, &given.actor.actor, given.output).await;
            }
            given.output.show(&edited, |edited| {
                format!(
                    "{} changed; `kurir dead-letters replay {}` sends it",
                    count(edited.changed.len() as u64, "member"),
                    edited.id
                )
            })
        }
        Err(failed) => Err(draft.keep(failed)),
    }
}

/// `None`: nothing was changed.
async fn apply(
    pool: &Pool,
    scope: Scope<'_>,
    given: &Edit,
    timeline: &Timeline,
    before: &str,
    draft: &Draft,
) -> Done<Option<Edited>> {
    let body = compact(&draft.text);
    let unchanged = body == compact(before);
    if unchanged && !given.restamp {
        return Ok(None);
    }
    // Before the question: nobody should agree to what is refused afterwards.
    checked(body.as_bytes())?;
    if !unchanged {
        let diff = TextDiff::from_lines(before, &pretty(&draft.text))
            .unified_diff()
            .context_radius(AROUND)
            .header("as it was", "as it will be")
            .to_string();
        print_aside(&diff)?;
        confirm("Store this?", given.yes, true)?;
    }
    let edit = store::dead_letters::Edit {
        body: body.as_bytes(),
        row_version: timeline.message.row_version,
        actor: &given.actor.actor,
        restamp: given.restamp,
    };
    Ok(Some(dead_letters::edit(pool, scope, given.id, edit).await?))
}

fn laid_out(timeline: &Timeline) -> String {
    let Body(body) = timeline
        .message
        .edited_body
        .as_ref()
        .unwrap_or(&timeline.message.body);
    let mut text = pretty(&String::from_utf8_lossy(event::unmarked(body)));
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// What a person made of the event.
struct Draft {
    text: String,
    /// Where the editor left it: kept if it cannot be stored.
    path: Option<PathBuf>,
}

impl Draft {
    fn same(text: String) -> Self {
        Self { text, path: None }
    }

    fn read(file: &Path) -> Done<Self> {
        let unreadable = |error: std::io::Error| {
            Failed::new(Exit::Usage, format!("{}: {error}", file.display()))
        };
        let mut bytes = Vec::new();
        if file == Path::new("-") {
            std::io::stdin()
                .lock()
                .take(FILE_LIMIT + 1)
                .read_to_end(&mut bytes)
        } else {
            std::fs::File::open(file)
                .and_then(|opened| opened.take(FILE_LIMIT + 1).read_to_end(&mut bytes))
        }
        .map_err(unreadable)?;
        if bytes.len() as u64 > FILE_LIMIT {
            return Err(Failed::new(
                Exit::Refused,
                "that is too long to be an event",
            ));
        }
        let text = String::from_utf8(bytes)
            .map_err(|_no_text| Failed::new(Exit::Refused, "that is no UTF-8 text"))?;
        Ok(Self::same(text))
    }

    /// Only this user can read the file: it is somebody's data.
    fn in_editor(text: &str) -> Done<Self> {
        let mut file = tempfile::Builder::new()
            .prefix("kurir-dead-letter-")
            .suffix(".json")
            .tempfile()?;
        file.write_all(text.as_bytes())?;
        file.flush()?;
        let (_, path) = file.keep().map_err(|error| error.error)?;
        let named = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let editor = named("VISUAL")
            .or_else(|| named("EDITOR"))
            .unwrap_or_else(|| EDITOR.to_owned());
        // By the shell, as git does it: an editor may be a command with arguments.
        let ended = Command::new("sh")
            .arg("-c")
            .arg(format!("{editor} \"$1\""))
            .arg("sh")
            .arg(&path)
            .status()?;
        let draft = Self::read(&path).map(|draft| Self {
            path: Some(path.clone()),
            ..draft
        })?;
        if ended.success() {
            Ok(draft)
        } else {
            let failed = Failed::new(
                Exit::Failed,
                format!("the editor '{editor}' failed: {ended}"),
            )
            .next("set EDITOR, or give the event with --file");
            Err(draft.keep(failed))
        }
    }

    /// The file is not needed any more.
    fn forget(&self) {
        if let Some(path) = &self.path {
            // It lies in the folder for temporary files, readable for its owner only.
            let _ = std::fs::remove_file(path);
        }
    }

    /// A refused edit is not lost.
    fn keep(&self, mut failed: Failed) -> Failed {
        if let Some(path) = &self.path {
            let kept = format!(
                "your text is in {path}: correct it there and give it with --file {path}",
                path = path.display()
            );
            failed.next = Some(match failed.next {
                Some(next) => format!("{next}\n       {kept}"),
                None => kept,
            });
        }
        failed
    }
}

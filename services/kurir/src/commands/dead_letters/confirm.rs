//! Yes or no, asked of a person at a terminal.

use std::io::{IsTerminal as _, Write as _};

use crate::exit::{Done, Exit, Failed};

/// Asks unless `yes`. Without a terminal nobody can be asked: refused, unless `alone` says that it is about one dead letter.
///
/// # Errors
/// The answer was no, or nobody could be asked.
pub(super) fn confirm(question: &str, yes: bool, alone: bool) -> Done {
    if yes {
        return Ok(());
    }
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return if alone {
            Ok(())
        } else {
            Err(Failed::new(
                Exit::Usage,
                "this is about more than one, and nobody can be asked without a terminal",
            )
            .next("look at the plan with --dry-run, then add --yes"))
        };
    }
    let mut out = std::io::stderr().lock();
    write!(out, "{question} [y/N] ")?;
    out.flush()?;
    drop(out);
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failed::new(Exit::Failed, "nothing was done")),
    }
}

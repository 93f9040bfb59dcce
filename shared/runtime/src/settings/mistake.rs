//! What is wrong with settings.

use std::fmt;

/// One thing that is wrong. Values of secrets are never part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The setting, or the file or variable where no setting could be found.
    pub path: String,
    pub problem: String,
}

/// Everything that is wrong, in the order of the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        writeln!(
            f,
            "{count} {} in the settings:",
            if count == 1 { "mistake" } else { "mistakes" }
        )?;
        for mistake in &self.0 {
            writeln!(f, "  {}: {}", mistake.path, mistake.problem)?;
        }
        write!(f, "`kurir config --help` explains where settings come from")
    }
}

impl std::error::Error for Mistakes {}

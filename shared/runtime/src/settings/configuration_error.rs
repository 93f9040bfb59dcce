//! What is wrong with settings.

use std::fmt;

/// One thing that is wrong. Values of secrets are never part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigurationError {
    /// The setting, or the file or variable where no setting could be found.
    pub path: String,
    pub problem: String,
}

/// Everything that is wrong, in the order of the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigurationErrors(pub Vec<ConfigurationError>);

impl fmt::Display for ConfigurationErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        writeln!(
            f,
            "{count} configuration {}:",
            if count == 1 { "error" } else { "errors" }
        )?;
        for configuration_error in &self.0 {
            writeln!(
                f,
                "  {}: {}",
                configuration_error.path, configuration_error.problem
            )?;
        }
        write!(f, "`kurir config --help` explains where settings come from")
    }
}

impl std::error::Error for ConfigurationErrors {}

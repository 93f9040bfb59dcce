//! Credentials from a file, a variable or standard input, never from the command line.

use std::io::{IsTerminal as _, Read as _};
use std::path::PathBuf;

use clap::Args;
use registry::System;
use secrecy::SecretString;

use crate::exit::{Done, Exit, Failed};

/// Longer credentials are no credentials.
const CREDENTIALS_LIMIT: u64 = 64 * 1024;

#[derive(Debug, Args)]
pub(crate) struct Credentials {
    /// File with the credentials as a JSON object
    #[arg(long, value_name = "FILE", conflicts_with = "credentials_env")]
    pub(crate) credentials_file: Option<PathBuf>,
    /// Environment variable with the credentials as a JSON object
    #[arg(long, value_name = "NAME")]
    pub(crate) credentials_env: Option<String>,
}

impl Credentials {
    /// # Errors
    /// They cannot be read, or they are not of the shape that the system wants.
    pub(super) fn read(&self, system: &System) -> Done<SecretString> {
        let mut text = String::new();
        match (&self.credentials_file, &self.credentials_env) {
            (Some(path), _) => {
                let file = std::fs::File::open(path).map_err(|error| {
                    Failed::new(
                        Exit::Refused,
                        format!("{} cannot be read: {error}", path.display()),
                    )
                })?;
                file.take(CREDENTIALS_LIMIT + 1).read_to_string(&mut text)?;
            }
            (None, Some(name)) => {
                text = std::env::var(name).map_err(|_unset| {
                    Failed::new(
                        Exit::Refused,
                        format!("the environment variable {name} is not set"),
                    )
                })?;
            }
            (None, None) => {
                if std::io::stdin().is_terminal() {
                    return Err(Failed::new(Exit::Usage, "credentials are read from standard input, and that is a terminal")
                    .next("kurir connection ... < credentials.json, or --credentials-file, or --credentials-env"));
                }
                std::io::stdin()
                    .lock()
                    .take(CREDENTIALS_LIMIT + 1)
                    .read_to_string(&mut text)?;
            }
        }
        if text.len() as u64 > CREDENTIALS_LIMIT {
            return Err(Failed::new(
                Exit::Refused,
                format!("credentials are at most {CREDENTIALS_LIMIT} bytes"),
            ));
        }
        let credentials = SecretString::from(text);
        operations::connections::check_credentials(system, &credentials)?;
        Ok(credentials)
    }
}

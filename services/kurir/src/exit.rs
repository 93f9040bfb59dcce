//! How a command ends: exit codes, and what a person is told to do next.

use std::fmt;
use std::process::ExitCode;

/// Why a command failed; with each goes an exit code.
pub(crate) use operations::Kind as Exit;

/// The table of `kurir --help`.
pub(crate) const TABLE: &str = "\
Exit codes:
   0  done
   1  failed; the message says why
   3  not found: what was named does not exist
   4  refused: it contradicts what is stored, or the input is not valid
  64  usage: the command line cannot be understood
  69  unavailable: broker, database, gateway or partner cannot be reached; try again later
  78  configuration: the settings have errors; all of them are listed
 130  ended by a second Ctrl-C (143: by a second SIGTERM)";

/// As in the table. From 64 on they are those of sysexits.h.
pub(crate) fn code(exit: Exit) -> ExitCode {
    let code: u8 = match exit {
        Exit::Failed => 1,
        Exit::NotFound => 3,
        Exit::Refused => 4,
        Exit::Usage => 64,
        Exit::Unavailable => 69,
        Exit::Configuration => 78,
    };
    code.into()
}

/// A command that did not do what was asked.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) exit: Exit,
    pub(crate) message: String,
    /// What to do next, where that can be known.
    pub(crate) next: Option<String>,
}

impl Failed {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            next: None,
        }
    }

    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", indented(&self.message))?;
        match &self.next {
            Some(next) => write!(f, "\n next: {}", indented(next)),
            None => Ok(()),
        }
    }
}

/// Further lines stand back: what strangers wrote there is not taken for a line of ours.
fn indented(text: &str) -> String {
    let lines = text.split('\n').enumerate();
    let lines = lines.map(|(place, line)| match place {
        0 => line.to_owned(),
        _ if line.starts_with("  ") => line.to_owned(),
        _ => format!("  {line}"),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What a command answers: nothing to say besides what it printed, or why not.
pub(crate) type Done<T = ()> = Result<T, Failed>;

/// Writes the failure to standard error.
pub(crate) fn report(failed: &Failed) -> ExitCode {
    // A closed standard error cannot be told to anybody.
    let _ = crate::output::print_aside(&failed.to_string());
    code(failed.exit)
}

impl From<operations::Failed> for Failed {
    fn from(failed: operations::Failed) -> Self {
        Self {
            exit: failed.kind,
            message: failed.message,
            next: failed.next,
        }
    }
}

/// For findings of the doctor.
impl From<&Failed> for operations::Failed {
    fn from(failed: &Failed) -> Self {
        Self {
            kind: failed.exit,
            message: failed.message.clone(),
            next: failed.next.clone(),
        }
    }
}

impl From<store::Error> for Failed {
    fn from(error: store::Error) -> Self {
        operations::Failed::from(error).into()
    }
}

impl From<runtime::ConfigurationErrors> for Failed {
    fn from(errors: runtime::ConfigurationErrors) -> Self {
        Self::new(Exit::Configuration, errors.to_string())
    }
}

impl From<broker::Error> for Failed {
    fn from(error: broker::Error) -> Self {
        let message = error.to_string();
        if let Some(next) = no_entry(&message) {
            return Self::new(Exit::Unavailable, message).next(next);
        }
        match error {
            broker::Error::Topology(_) => Self::new(Exit::Configuration, message),
            broker::Error::Address(problem) => {
                Self::new(Exit::Configuration, format!("amqp.url: {problem}"))
            }
            broker::Error::Authorities(problem) => {
                Self::new(Exit::Configuration, format!("amqp.ca_file: {problem}"))
            }
            broker::Error::Untrusted(why) => {
                Self::new(Exit::Unavailable, "not connected to the broker").next(why)
            }
            broker::Error::Disconnected(_)
            | broker::Error::TimedOut(_)
            | broker::Error::Amqp(_) => Self::new(Exit::Unavailable, message).next(
                "check KURIR_AMQP_URL and that RabbitMQ runs (`make dev` starts a local one)",
            ),
        }
    }
}

/// The broker is there and lets nobody in; its own words tell why.
pub(crate) fn no_entry(said: &str) -> Option<&'static str> {
    let said = said.to_lowercase();
    if said.contains("vhost") && said.contains("not found") {
        Some(
            "this broker has no such virtual host: name another in KURIR_AMQP_URL, or make it with `rabbitmqctl add_vhost <virtual host>` and set_permissions as docs/operations.md says",
        )
    } else if said.contains("access to vhost") {
        Some("the user may not use this virtual host: set_permissions as docs/operations.md says")
    } else if said.contains("access_refused") || said.contains("access refused") {
        Some(
            "the broker refused user or password: check them in KURIR_AMQP_URL; `rabbitmqctl authenticate_user <user> <password>` tries them",
        )
    } else {
        None
    }
}

/// Input that cannot be read, output that cannot be written.
impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self::new(Exit::Failed, error.to_string())
    }
}

//! Runs the real binary with an environment of its own and waits for its end.

use std::io::Write as _;
use std::process::{Command, Stdio};

/// What a finished command left behind.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self.stdout
    }

    #[track_caller]
    pub(crate) fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.ok()).unwrap()
    }

    /// Exit code and both outputs, for a snapshot.
    pub(crate) fn shown(&self) -> String {
        format!(
            "exit {}\n--- out\n{}--- err\n{}",
            self.code, self.stdout, self.stderr
        )
    }
}

/// `kurir` with no `KURIR_*` variable but these, in UTC, with `input` as its standard input.
pub(crate) fn kurir(arguments: &[&str], environment: &[(&str, &str)], input: &str) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kurir"));
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KURIR_") {
            command.env_remove(name);
        }
    }
    command
        .env("TZ", "UTC")
        .env("USER", "tester")
        .env_remove("KEEP")
        .env_remove("DEMO_SEED");
    command.envs(environment.iter().copied());
    let mut child = command.spawn().unwrap();
    // A command that reads nothing may be gone before all of it is written.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let ended = child.wait_with_output().unwrap();
    Ran {
        code: ended.status.code().unwrap_or(-1),
        stdout: String::from_utf8(ended.stdout).unwrap(),
        stderr: String::from_utf8(ended.stderr).unwrap(),
    }
}

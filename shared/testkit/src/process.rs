//! The real `kurir` binary as one process: started with an environment of its own, watched, frozen, killed.
//!
//! Crash tests need the real thing, because a killed task unwinds and a killed process does not. A fail point that
//! was armed and never reached fails its test, since that test then showed nothing.

mod log;

use std::ffi::OsStr;
use std::fmt::Display;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::broker::{self, Broker};
use crate::database::{self, Database};
use crate::http::Http;
use crate::ports::Port;
use crate::wait::{wait_for, wait_until};
use log::{Log, Stream};

/// Names its fail points to the process (`worker::failpoint`).
const FAILPOINT: &str = "KURIR_FAILPOINT";
/// What a reached point writes to standard error before it acts.
const REACHED: &str = "failpoint reached: ";
/// How `deploy/local/stack.sh run` finds what a test left behind; the only variable of ours that is inherited.
const RUN_MARK: &str = "KURIR_STACK_RUN";
const OUR_VARIABLES: &str = "KURIR_";
/// So do these: whoever runs the tests may trace something else.
const TRACING_VARIABLES: &str = "OTEL_";
const READY_PATH: &str = "/readyz";
/// The listener that answers `READY_PATH`.
const HEALTH: &str = "health";
const SHOWN_LINES: usize = 80;

/// A process that is not started yet.
#[derive(Debug)]
pub struct Kurir {
    command: Command,
    role: String,
    points: Vec<Point>,
    ports: Vec<(String, Port)>,
}

#[derive(Clone, Debug)]
struct Point {
    name: String,
    required: bool,
}

impl Kurir {
    /// `binary` is `env!("CARGO_BIN_EXE_kurir")` of the test; the arguments are its command, for example
    /// `["worker", "metakocka-sync"]`. No `KURIR_*` or `OTEL_*` variable of the test's own environment is passed on.
    pub fn new(
        binary: impl AsRef<Path>,
        arguments: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Self {
        let arguments: Vec<String> = arguments
            .into_iter()
            .map(|text| text.as_ref().to_owned())
            .collect();
        let mut command = Command::new(binary.as_ref());
        command.args(&arguments).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if [OUR_VARIABLES, TRACING_VARIABLES]
                .iter()
                .any(|ours| text.starts_with(ours))
                && name != RUN_MARK
            {
                command.env_remove(name);
            }
        }
        Self {
            command,
            role: arguments.join(" "),
            points: Vec::new(),
            ports: Vec::new(),
        }
    }

    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Points it to the test's database.
    pub fn database(self, database: &Database) -> Self {
        self.env(database::VARIABLE, database.url())
    }

    /// A setting by its path: `setting("sync.lease_seconds", 3)` is `KURIR_SYNC__LEASE_SECONDS=3`.
    pub fn setting(self, path: &str, value: impl Display) -> Self {
        self.env(variable_of(path), value.to_string())
    }

    /// Points it to the test's part of the broker, with its prefix.
    pub fn broker(self, broker: &Broker) -> Self {
        let kurir = self
            .env(broker::VARIABLE, broker.amqp_url())
            .setting("amqp.prefix", broker.prefix());
        match broker.management_url() {
            Some(url) => kurir.env(broker::MANAGEMENT_VARIABLE, url),
            None => kurir,
        }
    }

    /// Reserves a port for a listener of this process and writes `127.0.0.1:<port>` into a setting:
    /// `listen("gateway", "gateway.listen")`. `Running::http(name)` speaks to it. The one named "health" (its setting
    /// is `health.<role>`) tells `Running::ready`.
    pub fn listen(mut self, name: &str, setting: &str) -> Self {
        let port = Port::reserve();
        let address = format!("127.0.0.1:{}", port.number());
        self.ports.push((name.to_owned(), port));
        self.setting(setting, address)
    }

    /// As `listen`, for a listener that is told its port in a variable of its own.
    pub fn port(mut self, name: &str, variable: &str) -> Self {
        let port = Port::reserve();
        let number = port.number().to_string();
        self.ports.push((name.to_owned(), port));
        self.env(variable, number)
    }

    /// Arms a fail point: `after_sent:kill`, `after_sent:stop:1:evt-7`. The test fails if it is not reached before
    /// this process's value is dropped.
    pub fn failpoint(self, point: &str) -> Self {
        self.arm(point, true)
    }

    /// As `failpoint`, for one of several processes of which any may get there.
    pub fn failpoint_if_reached(self, point: &str) -> Self {
        self.arm(point, false)
    }

    fn arm(mut self, point: &str, required: bool) -> Self {
        let already = self
            .command
            .get_envs()
            .find(|(name, _)| *name == FAILPOINT)
            .and_then(|(_, value)| value)
            .map(|value| format!("{},", value.to_string_lossy()));
        self.command
            .env(FAILPOINT, already.unwrap_or_default() + point);
        let name = point.split(':').next().unwrap_or(point).to_owned();
        self.points.push(Point { name, required });
        self
    }

    /// Does not wait for anything.
    pub fn start(mut self) -> Running {
        let mut child = self
            .command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("kurir {} cannot be started: {error}", self.role));
        let log = Log::follow(&self.role, child.stdout.take(), child.stderr.take());
        Running {
            pid: child.id(),
            child: Mutex::new(child),
            role: self.role,
            log,
            points: self.points,
            ports: self.ports,
        }
    }

    /// For commands that end by themselves: starts it and waits for its end.
    pub async fn run(self, limit: Duration) -> Ended {
        let running = self.start();
        let status = running.ended(limit).await;
        running.log.finish();
        Ended {
            status,
            stdout: running.log.text(Stream::Out),
            stderr: running.log.text(Stream::Err),
        }
    }
}

fn variable_of(setting: &str) -> String {
    let name = setting.replace('.', "__").to_uppercase();
    format!("{OUR_VARIABLES}{name}")
}

/// A command that ran to its end.
#[derive(Clone, Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Itself, if the exit code is this one; panics with all it wrote if not.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.status.code(),
            Some(code),
            "{}\n--- stdout\n{}\n--- stderr\n{}",
            self.status,
            self.stdout,
            self.stderr
        );
        self
    }
}

/// A started process. Dropping it kills it, shows the end of its log if the test is failing, and fails the test if
/// a required fail point was not reached.
#[derive(Debug)]
pub struct Running {
    child: Mutex<Child>,
    pid: u32,
    role: String,
    log: Log,
    points: Vec<Point>,
    ports: Vec<(String, Port)>,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// A client of a listener that was named in `Kurir::listen`.
    #[track_caller]
    pub fn http(&self, listener: &str) -> Http {
        let (_, port) = self
            .ports
            .iter()
            .find(|(name, _)| name == listener)
            .unwrap_or_else(|| panic!("kurir {} has no listener named {listener}", self.role));
        Http::new(format!("http://127.0.0.1:{}", port.number()))
    }

    /// Waits until its listener "health" says that it is ready. Panics at once if the process ends instead.
    pub async fn ready(&self, limit: Duration) {
        self.ready_or_ended(limit).await;
        if let Some(status) = self.status() {
            panic!("kurir {} ended before it was ready: {status}", self.role);
        }
    }

    /// As `ready`, for a process that is to die: its work may find it before readiness is asked for.
    pub async fn ready_or_ended(&self, limit: Duration) {
        let health = self.http(HEALTH);
        wait_for(
            &format!("kurir {} is ready", self.role),
            limit,
            async || {
                if self.status().is_some() {
                    return Ok(());
                }
                match health.get(READY_PATH).await {
                    Ok(answer) if answer.status == 200 => Ok(()),
                    Ok(answer) => Err(format!("{} {}", answer.status, answer.text)),
                    Err(error) => Err(error.to_string()),
                }
            },
        )
        .await;
    }

    /// `kill -9`; answers when the process is gone. Nothing happens the second time.
    pub fn kill(&self) {
        let mut child = self.child();
        child.kill().expect("one may kill one's own child");
        child.wait().expect("one may wait for one's own child");
    }

    /// `SIGTERM`: asks it to drain. `ended` waits for it.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// `SIGSTOP`; answers when the process stands still.
    pub async fn freeze(&self) {
        self.signal("STOP");
        self.frozen(Duration::from_secs(5)).await;
    }

    /// Waits until the process stands still, whoever stopped it (a fail point with `stop`).
    pub async fn frozen(&self, limit: Duration) {
        wait_until(
            &format!("kurir {} stands still", self.role),
            limit,
            async || self.state(),
            |state| *state == Some('T'),
        )
        .await;
    }

    /// `SIGCONT`.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// Its exit status, if it has ended.
    pub fn status(&self) -> Option<ExitStatus> {
        self.child()
            .try_wait()
            .expect("one may look at one's own child")
    }

    /// Waits for its end.
    pub async fn ended(&self, limit: Duration) -> ExitStatus {
        wait_for(&format!("kurir {} ends", self.role), limit, async || {
            self.status().ok_or("still running")
        })
        .await
    }

    /// Waits until it was killed by a signal (a fail point with `kill`, mostly).
    pub async fn killed(&self, limit: Duration) {
        let status = self.ended(limit).await;
        assert!(
            status.signal().is_some(),
            "kurir {} was not killed, it ended by itself: {status}",
            self.role
        );
    }

    /// How often it has reached this fail point so far and acted on it.
    pub fn failpoint_hits(&self, name: &str) -> usize {
        let name = name.split(':').next().unwrap_or(name);
        self.log.count(|line| {
            line.strip_prefix(REACHED)
                .is_some_and(|rest| rest.split(' ').next() == Some(name))
        })
    }

    /// Waits until it has reached this fail point. Panics at once if the process ends without.
    pub async fn failpoint_reached(&self, name: &str, limit: Duration) {
        wait_for(
            &format!("kurir {} reaches {name}", self.role),
            limit,
            async || {
                let ended = self.status();
                if self.failpoint_hits(name) > 0 {
                    return Ok(());
                }
                // Its last line may still be on its way from the pipe to the log.
                if let Some(status) = ended {
                    self.log.finish();
                    assert!(
                        self.failpoint_hits(name) > 0,
                        "kurir {} ended without reaching {name}: {status}",
                        self.role
                    );
                    return Ok(());
                }
                Err("not yet")
            },
        )
        .await;
    }

    /// Waits for a line of its log (standard output or error) that satisfies `wanted`, and answers with it.
    pub async fn line(&self, what: &str, limit: Duration, wanted: impl Fn(&str) -> bool) -> String {
        wait_for(
            &format!("kurir {} writes {what}", self.role),
            limit,
            async || self.log.find(&wanted).ok_or("not yet"),
        )
        .await
    }

    /// Lines of its log so far that satisfy `wanted`.
    pub fn count_lines(&self, wanted: impl Fn(&str) -> bool) -> usize {
        self.log.count(wanted)
    }

    /// Its arguments, such as `worker metakocka-sync`.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// The whole log, as far as it was written.
    pub fn log_file(&self) -> &Path {
        self.log.file()
    }

    /// One letter, as in `ps`: `R`, `S`, `T` (stopped), `Z`. `None` if there is no such process.
    fn state(&self) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }

    fn signal(&self, name: &str) {
        // Under the lock, and only while it has not been waited for: after that the number may be somebody else's.
        let mut child = self.child();
        if child
            .try_wait()
            .expect("one may look at one's own child")
            .is_none()
        {
            let sent = Command::new("kill")
                .args([format!("-{name}"), self.pid.to_string()])
                .status()
                .expect("kill can be run");
            assert!(sent.success(), "SIG{name} to kurir {}: {sent}", self.role);
        }
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        self.log.finish();
        if std::thread::panicking() {
            self.log.show(SHOWN_LINES);
            return;
        }
        let missed = self
            .points
            .iter()
            .find(|point| point.required && self.failpoint_hits(&point.name) == 0);
        if let Some(point) = missed {
            self.log.show(SHOWN_LINES);
            panic!(
                "kurir {} never reached its fail point {}",
                self.role, point.name
            );
        }
        self.log.remove();
    }
}

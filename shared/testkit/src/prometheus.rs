//! A private Prometheus that scrapes what a test runs: the real judge of rules, expressions and metrics.
//!
//! The programs come from the distribution (`deploy/local/stack.sh monitoring-tools`); `PROMETHEUS_BIN` names another
//! folder. A test without them fails: it would show nothing.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::http::Http;
use crate::owner;
use crate::ports::Port;
use crate::wait::wait_for;

const VARIABLE: &str = "PROMETHEUS_BIN";
const USUAL_FOLDER: &str = "/usr/bin";
/// It replays an empty log and opens a port.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Killed and removed with this value.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    http: Http,
    folder: PathBuf,
    _port: Port,
}

/// What a question was answered.
#[derive(Clone, Debug)]
pub struct Asked {
    pub status: u16,
    pub body: Value,
}

impl Asked {
    /// Series of the answer, or why it is none.
    pub fn series(&self) -> Result<&[Value], String> {
        let found = self.body["data"]["result"].as_array();
        match found {
            Some(found) if self.status == 200 => Ok(found),
            _ => Err(self.body.to_string()),
        }
    }
}

impl Prometheus {
    /// `config` is a whole configuration; rule files in it are named with their whole path.
    pub async fn start(config: &str) -> Self {
        let folder = owner::folder().join(owner::name("prometheus_"));
        std::fs::create_dir_all(&folder).expect("the folder for temporary files can be written");
        let file = folder.join("prometheus.yaml");
        std::fs::write(&file, config).expect("the folder for temporary files can be written");
        let port = Port::reserve();
        let address = format!("127.0.0.1:{}", port.number());
        let log = std::fs::File::create(folder.join("log")).expect("a log file can be made");
        // It ends with its test, also if that is killed.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(program("prometheus"))
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("setpriv (util-linux) can be run");
        let mut prometheus = Self {
            child,
            http: Http::new(format!("http://{address}")),
            folder,
            _port: port,
        };
        wait_for("Prometheus is ready", START_LIMIT, async || {
            let ended = prometheus
                .child
                .try_wait()
                .expect("one may look at one's own child");
            if let Some(status) = ended {
                let log = std::fs::read_to_string(prometheus.folder.join("log"));
                panic!("Prometheus ended: {status}\n{}", log.unwrap_or_default());
            }
            match prometheus.http.get("/-/ready").await {
                Ok(answer) if answer.status == 200 => Ok(()),
                Ok(answer) => Err(answer.text),
                Err(error) => Err(error.to_string()),
            }
        })
        .await;
        prometheus
    }

    /// `GET /api/v1/<path>`, whatever the status.
    pub async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Asked {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(parameters);
        let path = format!("/api/v1/{path}?{}", query.finish());
        let answer = self.http.get(&path).await.expect("Prometheus answers");
        Asked {
            status: answer.status,
            body: answer.json(),
        }
    }

    /// The value of an expression at this moment.
    pub async fn query(&self, expression: &str) -> Asked {
        self.ask("query", &[("query", expression)]).await
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What `promtool` says of this exposition; `None`: nothing to object to.
pub fn promtool_check_metrics(exposition: &str) -> Option<String> {
    let file = owner::folder().join(owner::name("exposition_"));
    std::fs::write(&file, exposition).expect("the folder for temporary files can be written");
    let input = std::fs::File::open(&file).expect("it was just written");
    let checked = Command::new(program("promtool"))
        .args(["check", "metrics"])
        .stdin(input)
        .output()
        .expect("promtool can be run");
    let _ = std::fs::remove_file(&file);
    let said = [checked.stdout, checked.stderr].concat();
    (!checked.status.success()).then(|| String::from_utf8_lossy(&said).into_owned())
}

fn program(name: &str) -> PathBuf {
    let folder = std::env::var(VARIABLE).unwrap_or_else(|_| USUAL_FOLDER.to_owned());
    let program = Path::new(&folder).join(name);
    assert!(
        program.exists(),
        "{} is missing: `deploy/local/stack.sh monitoring-tools` installs it (or `apt-get install prometheus`); \
         {VARIABLE} names another folder",
        program.display()
    );
    program
}

use std::time::Duration;

use testkit::{Kurir, database};

const LIMIT: Duration = Duration::from_secs(60);

/// A process that does what this script says.
fn script(text: &str) -> Kurir {
    Kurir::new("/bin/sh", ["-c", text])
}

#[tokio::test]
async fn a_command_tells_its_code_and_what_it_wrote() {
    let ended = script("echo out; echo err >&2; exit 3")
        .run(LIMIT)
        .await
        .expect(3);
    assert_eq!(
        (ended.stdout.as_str(), ended.stderr.as_str()),
        ("out\n", "err\n")
    );
}

#[tokio::test]
async fn the_environment_is_the_one_that_was_given() {
    let database = database().await;
    let ended = script(
        "echo $KURIR_AMQP_URL; echo $KURIR_DATABASE_URL; echo $KURIR_SYNC__LEASE_SECONDS; echo $X",
    )
    .database(&database)
    .setting("sync.lease_seconds", 3)
    .env("X", "y")
    .run(LIMIT)
    .await
    .expect(0);
    assert_eq!(ended.stdout, format!("\n{}\n3\ny\n", database.url()));
}

#[tokio::test]
async fn a_point_that_was_reached_is_seen_and_counted() {
    let running = script("echo 'failpoint reached: after_sent Kill evt-1' >&2; kill -KILL $$")
        .failpoint("after_sent:kill")
        .start();
    running.failpoint_reached("after_sent", LIMIT).await;
    running.killed(LIMIT).await;
    assert_eq!(running.failpoint_hits("after_sent"), 1);
    assert_eq!(running.failpoint_hits("after"), 0);
}

#[tokio::test]
#[should_panic(expected = "never reached its fail point after_sent")]
async fn a_point_that_was_not_reached_fails_the_test() {
    script("exit 0")
        .failpoint("after_sent:kill")
        .run(LIMIT)
        .await;
}

#[tokio::test]
async fn several_points_are_armed_together() {
    let ended = script("echo $KURIR_FAILPOINT")
        .failpoint_if_reached("a:kill")
        .failpoint_if_reached("b:stop:2")
        .run(LIMIT)
        .await;
    assert_eq!(ended.stdout, "a:kill,b:stop:2\n");
}

#[tokio::test]
async fn a_frozen_process_stands_still_until_it_is_thawed() {
    let running = script("while :; do echo tick; sleep 0.02; done").start();
    running.line("tick", LIMIT, |line| line == "tick").await;
    running.freeze().await;
    running.thaw();
    running.freeze().await;
    running.kill();
    running.killed(LIMIT).await;
    running.kill();
}

#[tokio::test]
async fn a_terminated_process_may_clean_up() {
    let running =
        script("trap 'echo drained; exit 0' TERM; echo up; while :; do sleep 0.02; done").start();
    running.line("up", LIMIT, |line| line == "up").await;
    running.terminate();
    assert_eq!(running.ended(LIMIT).await.code(), Some(0));
    running
        .line("drained", LIMIT, |line| line == "drained")
        .await;
}

#[tokio::test]
async fn ready_is_what_the_health_route_says() {
    let server = r#"
import http.server, os
class Health(http.server.BaseHTTPRequestHandler):
    looks = 0
    def do_GET(self):
        Health.looks += 1
        self.send_response(200 if Health.looks > 2 else 503)
        self.end_headers()
host, port = os.environ["KURIR_HEALTH__WORKER"].split(":")
http.server.HTTPServer((host, int(port)), Health).serve_forever()
"#;
    let running = Kurir::new("python3", ["-c", server])
        .listen("health", "health.worker")
        .start();
    running.ready(LIMIT).await;
    let answer = running
        .http("health")
        .get("/readyz")
        .await
        .expect("an answer");
    answer.expect(200);
}

#[tokio::test]
#[should_panic(expected = "ended before it was ready: exit status: 64")]
async fn a_process_that_ends_is_not_waited_for() {
    let running = script("exit 64").listen("health", "health.worker").start();
    running.ready(LIMIT).await;
}

#[tokio::test]
async fn a_dropped_process_is_killed_and_leaves_no_log() {
    let running = script("sleep 600").start();
    let (pid, log) = (running.pid(), running.log_file().to_owned());
    assert!(log.exists());
    drop(running);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert!(!log.exists());
}

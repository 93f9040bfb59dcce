//! The inbound parts over real sockets.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use inbound::{
    Problem, Readiness, Served, fallbacks, health_routes, read_body, serve, with_request_id,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Nothing here takes longer unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);
const BODY_LIMIT: usize = 16;

struct Server {
    address: String,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Served>,
}

async fn start(router: Router, grace: Duration) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("address").to_string();
    let (stop, stopped) = oneshot::channel();
    let router = fallbacks(router).layer(axum::middleware::from_fn(with_request_id));
    let served = tokio::spawn(serve(
        listener,
        router,
        async { drop(stopped.await) },
        grace,
    ));
    Server {
        address,
        stop,
        served,
    }
}

impl Server {
    async fn stop(self) -> Served {
        self.stop.send(()).expect("still serving");
        timeout(PATIENCE, self.served)
            .await
            .expect("ends")
            .expect("no panic")
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

fn client() -> reqwest::Client {
    // reqwest refuses to build a client without one, even for plain HTTP; the second time it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .timeout(PATIENCE)
        .build()
        .expect("client")
}

async fn length(headers: HeaderMap, body: Body) -> Response {
    match read_body(&headers, body, BODY_LIMIT).await {
        Ok(body) => body.len().to_string().into_response(),
        Err(error) => Problem::from(error).into_response(),
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems_too() {
    let server = start(Router::new().route("/things", post(length)), PATIENCE).await;
    for (path, status, name) in [
        ("/nothing", 404, "not_found"),
        ("/things", 405, "method_not_allowed"),
    ] {
        let answer = client().get(server.url(path)).send().await.expect("answer");
        assert_eq!(answer.status().as_u16(), status);
        assert_eq!(answer.headers()["content-type"], inbound::PROBLEM_JSON);
        let problem: Problem = answer.json().await.expect("problem");
        assert_eq!((problem.status, problem.name()), (status, name));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_body_is_read_up_to_its_limit_announced_or_not() {
    let server = start(Router::new().route("/", post(length)), PATIENCE).await;
    for (bytes, status) in [(0, 200), (BODY_LIMIT, 200), (BODY_LIMIT + 1, 413)] {
        let announced = client()
            .post(server.url("/"))
            .body("x".repeat(bytes))
            .send()
            .await
            .expect("answer");
        assert_eq!(announced.status().as_u16(), status, "{bytes} announced");
        let mut raw = TcpStream::connect(&server.address).await.expect("connect");
        let chunk = if bytes == 0 {
            String::new()
        } else {
            format!("{bytes:x}\r\n{}\r\n", "x".repeat(bytes))
        };
        let request = format!(
            "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{chunk}0\r\n\r\n"
        );
        raw.write_all(request.as_bytes()).await.expect("write");
        let mut head = [0; 12];
        timeout(PATIENCE, raw.read_exact(&mut head))
            .await
            .expect("in time")
            .expect("answer");
        assert_eq!(
            std::str::from_utf8(&head).expect("ascii"),
            format!("HTTP/1.1 {status}"),
            "{bytes} in chunks"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn a_request_keeps_its_id_unless_it_is_no_plain_one() {
    let server = start(Router::new(), PATIENCE).await;
    let id_of = async |given: &str| {
        let answer = client()
            .get(server.url("/"))
            .header("x-request-id", given)
            .send()
            .await
            .expect("answer");
        answer.headers()["x-request-id"]
            .to_str()
            .expect("ascii")
            .to_owned()
    };
    assert_eq!(id_of("req-7").await, "req-7");
    for hostile in ["two words", "<script>", &"x".repeat(500)] {
        let id = id_of(hostile).await;
        assert!(id != hostile && id.len() == 36, "{id}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_role_is_ready_when_everything_it_named_has_said_so() {
    let readiness = Readiness::new();
    let (broker, consumer) = (readiness.check("broker"), readiness.check("consumer"));
    let server = start(health_routes(readiness.clone()), PATIENCE).await;
    let ready = async || {
        let answer = client()
            .get(server.url("/readyz"))
            .send()
            .await
            .expect("answer");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    };
    broker.ready("connected");
    // Whole seconds, and the machine may be busy.
    let shown = (1..30).fold(ready().await.1, |text, seconds| {
        text.replace(&format!(r#"_seconds":{seconds}}}"#), r#"_seconds":0}"#)
    });
    insta::assert_snapshot!(shown, @r#"{"ready":false,"draining":false,"checks":{"broker":{"ok":true,"detail":"connected","for_seconds":0},"consumer":{"ok":false,"detail":"starting","for_seconds":0}}}"#);
    consumer.ready("consuming");
    assert_eq!(ready().await.0, StatusCode::OK);
    consumer.not_ready("no sign of life");
    let (status, text) = ready().await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains("no sign of life"), "{text}");
    consumer.ready("consuming");
    readiness.drain();
    assert_eq!(ready().await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        client()
            .get(server.url("/livez"))
            .send()
            .await
            .expect("answer")
            .status(),
        200
    );
    server.stop().await;
}

/// A route that says when it was reached and answers when it is told to.
fn slow() -> (Router, std::sync::Arc<Notify>, std::sync::Arc<Notify>) {
    let (reached, go) = (
        std::sync::Arc::new(Notify::new()),
        std::sync::Arc::new(Notify::new()),
    );
    let (reach, wait) = (reached.clone(), go.clone());
    let router = Router::new().route(
        "/slow",
        get(async move || {
            reach.notify_one();
            wait.notified().await;
            "done"
        }),
    );
    (router, reached, go)
}

#[tokio::test]
async fn a_running_request_ends_before_the_server_does() {
    let (router, reached, go) = slow();
    let server = start(router, PATIENCE).await;
    let url = server.url("/slow");
    let request =
        tokio::spawn(async move { client().get(url).send().await.expect("answer").text().await });
    timeout(PATIENCE, reached.notified())
        .await
        .expect("reached");
    server.stop.send(()).expect("serving");
    go.notify_one();
    assert_eq!(request.await.expect("no panic").expect("text"), "done");
    assert_eq!(
        timeout(PATIENCE, server.served)
            .await
            .expect("ends")
            .expect("no panic"),
        Served { cut_off: 0 }
    );
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_off_after_the_grace_period() {
    let (router, reached, _go) = slow();
    let server = start(router, Duration::from_millis(50)).await;
    let url = server.url("/slow");
    let request = tokio::spawn(async move { client().get(url).send().await });
    timeout(PATIENCE, reached.notified())
        .await
        .expect("reached");
    assert_eq!(server.stop().await, Served { cut_off: 1 });
    assert!(request.await.expect("no panic").is_err());
}

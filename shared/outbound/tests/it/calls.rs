use std::time::{Duration, Instant};

use outbound::{Call, CallError, NotSent, StatusClass, StatusCode, TRIES, Unknown, WINDOW};

use crate::partner::{LONG, Partner, SECRET, SHORT, call, connection, settings};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: 2\r\n\r\n{}";

#[track_caller]
fn not_sent(outcome: Result<outbound::Reply, CallError>) -> (NotSent, String) {
    match outcome {
        Err(CallError::NotSent { kind, detail }) => (kind, detail),
        other => panic!("expected a call that never left, got {other:?}"),
    }
}

#[track_caller]
fn unknown(outcome: Result<outbound::Reply, CallError>) -> (Unknown, Option<u16>) {
    match outcome {
        Err(CallError::Unknown { kind, status, .. }) => {
            (kind, status.map(|status| status.as_u16()))
        }
        other => panic!("expected an unknown outcome, got {other:?}"),
    }
}

#[tokio::test]
async fn an_answer_comes_back_whole() {
    let partner = Partner::always(OK).await;
    let reply = connection(settings())
        .call(call(partner.url("/v1/x")))
        .await
        .unwrap();
    assert_eq!(reply.class(), StatusClass::Success);
    assert_eq!(reply.content_type.as_deref(), Some("application/json"));
    assert_eq!(&reply.body[..], b"{}");
    assert_eq!(partner.requests(), 1);
}

#[tokio::test]
async fn a_refused_connection_is_proven_unsent() {
    let closed = testkit::closed_port();
    let url = format!("http://{}/", closed.address());
    let start = Instant::now();
    let outcome = connection(settings())
        .call(call(url.parse().unwrap()))
        .await;
    assert_eq!(not_sent(outcome).0, NotSent::Connect);
    assert!(start.elapsed() < WINDOW);
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_proven_unsent() {
    let url = "http://nobody.invalid/".parse().unwrap();
    let outcome = connection(settings()).call(call(url)).await;
    assert_eq!(not_sent(outcome).0, NotSent::Dns);
}

#[tokio::test]
async fn a_scheme_that_is_not_http_is_proven_unsent() {
    let url = "ftp://127.0.0.1/".parse().unwrap();
    let outcome = connection(settings()).call(call(url)).await;
    assert!(matches!(outcome, Err(error) if error.never_left()));
}

#[tokio::test]
async fn a_reset_after_the_request_is_unknown_and_not_repeated() {
    let partner = Partner::start(|mut visitor| async move {
        visitor.request().await;
        visitor.reset();
    })
    .await;
    let outcome = connection(settings()).call(call(partner.url("/"))).await;
    assert_eq!(unknown(outcome), (Unknown::Lost, None));
    assert_eq!(partner.requests(), 1);
}

#[tokio::test]
async fn an_orderly_close_without_an_answer_is_unknown_and_not_repeated() {
    let partner = Partner::start(|mut visitor| async move {
        visitor.request().await;
    })
    .await;
    let outcome = connection(settings()).call(call(partner.url("/"))).await;
    assert_eq!(unknown(outcome), (Unknown::Lost, None));
    assert_eq!(partner.requests(), 1);
}

#[tokio::test]
async fn a_reset_before_the_request_is_never_a_reply() {
    let partner = Partner::start(|visitor| async move { visitor.reset() }).await;
    let outcome = connection(settings()).call(call(partner.url("/"))).await;
    // Whether the body had left when the reset came is the network's choice; each has its own honest answer.
    match outcome {
        Err(CallError::Unknown { kind, .. }) => assert_eq!(kind, Unknown::Lost),
        Err(CallError::NotSent { kind, .. }) => {
            assert_eq!(kind, NotSent::Dropped);
            assert_eq!(partner.connections(), TRIES as usize);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(partner.requests(), 0);
}

#[tokio::test]
async fn slow_headers_run_into_the_time_out() {
    let partner = Partner::start(|mut visitor| async move {
        visitor.request().await;
        visitor.write("HTTP/1.1 200 OK\r\ncontent-").await;
        visitor.hang().await;
    })
    .await;
    let call = Call {
        timeout: SHORT,
        ..call(partner.url("/"))
    };
    let outcome = connection(settings()).call(call).await;
    assert_eq!(unknown(outcome), (Unknown::Timeout, None));
    assert_eq!(partner.requests(), 1);
}

#[tokio::test]
async fn a_slow_body_runs_into_the_same_time_out() {
    let partner = Partner::start(|mut visitor| async move {
        visitor.request().await;
        visitor
            .write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{")
            .await;
        visitor.hang().await;
    })
    .await;
    let call = Call {
        timeout: SHORT,
        ..call(partner.url("/"))
    };
    let outcome = connection(settings()).call(call).await;
    assert_eq!(unknown(outcome), (Unknown::Timeout, Some(200)));
}

#[tokio::test]
async fn a_huge_body_is_given_up_on_whether_declared_or_not() {
    let mut small = settings();
    small.reply_limit_bytes = 1000;
    let connection = connection(small);

    let declared = Partner::start(|mut visitor| async move {
        visitor.request().await;
        visitor
            .write("HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n")
            .await;
        visitor.hang().await;
    })
    .await;
    let outcome = connection.call(call(declared.url("/"))).await;
    assert_eq!(unknown(outcome), (Unknown::TooLarge, Some(200)));

    let endless = Partner::start(|mut visitor| async move {
        visitor.request().await;
        visitor
            .write("HTTP/1.1 502 Bad\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        for _ in 0..200 {
            visitor.write("a\r\n0123456789\r\n").await;
        }
        visitor.hang().await;
    })
    .await;
    let outcome = connection.call(call(endless.url("/"))).await;
    assert_eq!(unknown(outcome), (Unknown::TooLarge, Some(502)));

    let fits = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123456789";
    let fits = Partner::always(fits).await;
    assert!(connection.call(call(fits.url("/"))).await.is_ok());
}

#[tokio::test]
async fn a_truncated_body_is_no_reply() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{\"a\"",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n",
    ] {
        let partner = Partner::start(move |mut visitor| async move {
            visitor.request().await;
            visitor.write(answer).await;
        })
        .await;
        let outcome = connection(settings()).call(call(partner.url("/"))).await;
        assert_eq!(
            unknown(outcome),
            (Unknown::BrokenReply, Some(200)),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_no_reply() {
    let partner = Partner::always("hello, this is telnet\r\n\r\n").await;
    let outcome = connection(settings()).call(call(partner.url("/"))).await;
    assert_eq!(unknown(outcome), (Unknown::BrokenReply, None));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let partner = Partner::always(
        "HTTP/1.1 302 Found\r\nlocation: /elsewhere?secret_key=sim-key-4711\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    let reply = connection(settings())
        .call(call(partner.url("/")))
        .await
        .unwrap();
    assert_eq!(reply.class(), StatusClass::Redirect);
    assert_eq!(
        reply.location.as_deref(),
        Some("/elsewhere?secret_key=[secret]")
    );
    assert_eq!(partner.requests(), 1);
}

#[tokio::test]
async fn retry_after_is_heard_as_seconds_and_as_a_date() {
    for (answer, expected) in [
        (
            "HTTP/1.1 429 Too Many\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n",
            7,
        ),
        (
            "HTTP/1.1 503 Busy\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\nretry-after: Sun, 06 Nov 1994 08:50:07 GMT\r\ncontent-length: 0\r\n\r\n",
            30,
        ),
    ] {
        let partner = Partner::always(answer).await;
        let reply = connection(settings())
            .call(call(partner.url("/")))
            .await
            .unwrap();
        assert_eq!(reply.retry_after, Some(Duration::from_secs(expected)));
    }
}

#[tokio::test]
async fn nothing_leaves_after_its_instant() {
    let partner = Partner::always(OK).await;
    let late = call(partner.url("/")).leaving_by(Instant::now());
    let outcome = connection(settings()).call(late).await;
    assert_eq!(not_sent(outcome).0, NotSent::TooLate);
    assert_eq!(partner.requests(), 0);
}

#[tokio::test]
async fn a_connection_that_stands_too_late_carries_nothing() {
    // The handshake never ends, so the connection never stands.
    let partner = Partner::start(|visitor| visitor.hang()).await;
    let url = format!("https://{}/", partner.address).parse().unwrap();
    let start = Instant::now();
    let window = start + Duration::from_millis(200);
    let outcome = connection(settings())
        .call(call(url).leaving_by(window))
        .await;
    assert_eq!(not_sent(outcome).0, NotSent::TooLate);
    assert!(start.elapsed() < settings().connect_timeout);
}

#[tokio::test]
async fn a_connection_that_never_stands_is_tried_again_and_proven_unsent() {
    let partner = Partner::start(|visitor| visitor.hang()).await;
    let url = format!("https://{}/", partner.address).parse().unwrap();
    let mut hasty = settings();
    hasty.connect_timeout = Duration::from_millis(100);
    let outcome = connection(hasty).call(call(url)).await;
    assert_eq!(not_sent(outcome).0, NotSent::ConnectTimeout);
    assert_eq!(partner.connections(), TRIES as usize);
}

#[tokio::test]
async fn a_call_time_out_before_the_connection_stands_is_proven_unsent() {
    let partner = Partner::start(|visitor| visitor.hang()).await;
    let url = format!("https://{}/", partner.address).parse().unwrap();
    let call = Call {
        timeout: Duration::from_millis(100),
        ..call(url)
    };
    let outcome = connection(settings()).call(call).await;
    assert_eq!(not_sent(outcome).0, NotSent::ConnectTimeout);
}

#[tokio::test]
async fn a_partner_without_trusted_encryption_gets_nothing() {
    let partner = Partner::always(OK).await;
    let plain = Partner::start(|mut visitor| async move {
        visitor.write("HTTP/1.1 400 Bad Request\r\n\r\n").await;
        visitor.hang().await;
    })
    .await;
    let url = format!("https://{}/", plain.address).parse().unwrap();
    let outcome = connection(settings()).call(call(url)).await;
    assert_eq!(not_sent(outcome).0, NotSent::Tls);
    assert_eq!(plain.connections(), 1, "trying again can't help");
    assert_eq!(partner.requests(), 0);
}

#[tokio::test]
async fn a_kept_connection_that_the_server_closed_costs_nothing() {
    let partner = Partner::start(|mut visitor| async move {
        visitor.request().await;
        visitor.write(OK).await;
    })
    .await;
    let connection = connection(settings());
    for expected in 1..=5 {
        let outcome = connection.call(call(partner.url("/"))).await;
        match outcome {
            Ok(reply) => assert_eq!(reply.status, StatusCode::OK),
            // The close can overtake the request after it left; then it is unknown, and never a silent repeat.
            Err(error) => assert!(!error.never_left(), "{error}"),
        }
        assert!(partner.requests() <= expected);
    }
}

#[tokio::test]
async fn a_get_without_a_body_works_and_keeps_to_the_window() {
    let partner = Partner::always(OK).await;
    let connection = connection(settings());
    let get = Call::get(partner.url("/x"), LONG);
    assert_eq!(
        connection.call(get.clone()).await.unwrap().status,
        StatusCode::OK
    );
    // It may still have to connect, so it starts that much earlier.
    let window = Instant::now() + settings().connect_timeout / 2;
    let outcome = connection.call(get.leaving_by(window)).await;
    assert_eq!(not_sent(outcome).0, NotSent::TooLate);
    assert_eq!(partner.requests(), 1);
}

#[tokio::test]
async fn debug_shows_neither_query_nor_body() {
    let partner = Partner::always(OK).await;
    let call = call(
        "https://partner.example/v1/x?secret_key=sim-key-4711"
            .parse()
            .unwrap(),
    );
    insta::assert_snapshot!(
        format!("{call:?}"),
        @r#"Call { method: POST, url: "https://partner.example/v1/x", body_bytes: 29, .. }"#
    );
    let mut reply = connection(settings())
        .call(Call {
            url: partner.url("/"),
            ..call
        })
        .await
        .unwrap();
    reply.elapsed = Duration::from_millis(5);
    insta::assert_snapshot!(
        format!("{reply:?}"),
        @r#"Reply { status: 200, content_type: Some("application/json"), retry_after: None, body_bytes: 2, elapsed: 5ms, .. }"#
    );
}

#[tokio::test]
async fn errors_carry_no_secret() {
    let closed = testkit::closed_port();
    let dead = closed.address();
    for url in [
        format!("http://{SECRET}.invalid/?secret_key={SECRET}"),
        format!("http://{dead}/{SECRET}?secret_key={SECRET}"),
        format!("ftp://{dead}/{SECRET}"),
    ] {
        let error = connection(settings())
            .call(call(url.parse().unwrap()))
            .await
            .unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(SECRET), "{shown}");
    }
}

//! The memory of tokens: cheap while the store answers, patient while it doesn't.

use std::sync::atomic::Ordering;
use std::time::Duration;

use gateway::Settings;

use crate::{PATH, contact, generous, start};

#[tokio::test]
async fn a_known_token_is_asked_for_once_per_cache_time() {
    let gateway = start(&generous()).await;
    for _ in 0..5 {
        gateway
            .http
            .post_event(PATH, &contact("evt-1"))
            .await
            .expect("answer")
            .expect(202);
    }
    assert_eq!(gateway.tokens.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_unknown_token_is_asked_for_each_time_so_that_it_works_once_it_exists() {
    let gateway = start(&generous()).await;
    *gateway.tokens.revoked.lock().expect("lock") = true;
    gateway
        .http
        .post_event(PATH, &contact("evt-1"))
        .await
        .expect("answer")
        .expect(401);
    *gateway.tokens.revoked.lock().expect("lock") = false;
    gateway
        .http
        .post_event(PATH, &contact("evt-1"))
        .await
        .expect("answer")
        .expect(202);
}

#[tokio::test]
async fn a_revoked_token_ends_with_the_cache_time() {
    let gateway = start(&Settings {
        token_cache: Duration::ZERO,
        ..generous()
    })
    .await;
    gateway
        .http
        .post_event(PATH, &contact("evt-1"))
        .await
        .expect("answer")
        .expect(202);
    *gateway.tokens.revoked.lock().expect("lock") = true;
    let answer = gateway
        .http
        .post_event(PATH, &contact("evt-1"))
        .await
        .expect("answer")
        .expect(401);
    assert_eq!(
        answer.header("www-authenticate"),
        Some(r#"Bearer realm="kurir", error="invalid_token""#)
    );
}

#[tokio::test]
async fn a_database_that_blinks_stops_only_tokens_that_were_never_seen() {
    let gateway = start(&Settings {
        token_cache: Duration::ZERO,
        ..generous()
    })
    .await;
    gateway
        .http
        .post_event(PATH, &contact("evt-1"))
        .await
        .expect("answer")
        .expect(202);
    *gateway.tokens.away.lock().expect("lock") = true;
    for _ in 0..3 {
        gateway
            .http
            .post_event(PATH, &contact("evt-1"))
            .await
            .expect("answer")
            .expect(202);
    }
    // One look-up found the store away; the next ones left it alone.
    assert_eq!(gateway.tokens.asked.load(Ordering::SeqCst), 2);
    let stranger = gateway.http.with_token("kurir_new");
    let answer = stranger
        .post_event(PATH, &contact("evt-1"))
        .await
        .expect("answer")
        .expect(503);
    assert_eq!(answer.header("retry-after"), Some("5"));
}

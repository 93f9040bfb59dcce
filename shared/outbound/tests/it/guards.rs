use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use outbound::address::Private;
use outbound::{CallError, Client, Connection, NotSent, Redactor, Settings};

use crate::lent::lent;
use crate::partner::{LONG, Partner, call, connection, settings};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

#[tokio::test]
async fn customers_urls_reach_no_private_address() {
    let partner = Partner::always(OK).await;
    let port = partner.address.port();
    let guarded = connection(Settings {
        private: Private::Refuse,
        ..settings()
    });
    for url in [
        format!("http://127.0.0.1:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("http://2130706433:{port}/"),
        // A name that resolves to a private address.
        format!("http://localhost:{port}/"),
    ] {
        match guarded.call(call(url.parse().unwrap())).await {
            Err(CallError::NotSent { kind, .. }) => assert_eq!(kind, NotSent::Address, "{url}"),
            other => panic!("{url}: {other:?}"),
        }
    }
    assert_eq!(partner.connections(), 0);
    let open = connection(settings());
    assert!(open.call(call(partner.url("/"))).await.is_ok());
}

fn within(slots: u32) -> Connection {
    let client = Client::new(settings()).unwrap();
    Connection::new(&client, "partner", Redactor::default()).with_permit_pool(lent(slots))
}

#[tokio::test]
async fn a_connection_never_has_more_calls_in_flight_than_it_may() {
    let now = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (running, peak) = (Arc::clone(&now), Arc::clone(&most));
    let partner = Partner::start(move |mut visitor| {
        let (running, peak) = (Arc::clone(&running), Arc::clone(&peak));
        async move {
            while visitor.request().await {
                peak.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                // Long enough that calls without a limit would overlap.
                tokio::time::sleep(Duration::from_millis(20)).await;
                running.fetch_sub(1, Ordering::SeqCst);
                visitor.write(OK).await;
            }
        }
    })
    .await;
    let connection = within(2);
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let (connection, call) = (connection.clone(), call(partner.url("/")));
            tokio::spawn(async move { connection.call(call).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(most.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_call_without_room_is_told_so_and_never_leaves() {
    let partner = Partner::start(|mut visitor| async move {
        visitor.request().await;
        visitor.hang().await;
    })
    .await;
    let connection = within(1);
    let busy = {
        let (connection, call) = (connection.clone(), call(partner.url("/")));
        tokio::spawn(async move { connection.call(call).await })
    };
    tokio::time::timeout(LONG, async {
        while partner.requests() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the first call arrives");
    let second = connection.call(call(partner.url("/"))).await;
    assert!(
        matches!(second, Err(CallError::Limited { .. })),
        "{second:?}"
    );
    assert_eq!(partner.requests(), 1);
    busy.abort();
}

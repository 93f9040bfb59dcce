//! The serving loop: bounded connections, bounded patience for request heads, and an end that waits only so long.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Connections open at once; who comes then waits in the listener's backlog.
pub const MAX_CONNECTIONS: usize = 1024;
/// Longest time from one request's end to the next one's last header line; also ends idle connections.
pub const HEADER_TIME_LIMIT: Duration = Duration::from_secs(30);
/// Pause after an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Connections that were still busy when the grace period was over.
    pub cut_off: usize,
}

/// Serves HTTP/1.1 until `shutdown` is done; then takes no new connection, lets running requests end, and cuts off
/// what is still busy after `grace`.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()>,
    grace: Duration,
) -> Served {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (ending, end) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = async {
            let place = Arc::clone(&places)
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            (listener.accept().await, place)
        };
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            (accepted, place) = accepted => match accepted {
                Ok((stream, _)) => {
                    let (router, end) = (router.clone(), end.clone());
                    connections.spawn(async move {
                        connection(stream, router, end).await;
                        drop(place);
                    });
                }
                Err(error) => pause_after(&error).await,
            },
        }
    }
    drop(listener);
    // The receivers live in the connections; without any there is nobody to tell.
    let _ = ending.send(true);
    let ended = timeout(grace, async {
        while connections.join_next().await.is_some() {}
    })
    .await;
    let cut_off = if ended.is_err() { connections.len() } else { 0 };
    connections.shutdown().await;
    Served { cut_off }
}

async fn connection(stream: TcpStream, router: Router, mut end: watch::Receiver<bool>) {
    let service = TowerToHyperService::new(tower_map(router));
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIME_LIMIT)
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        served = connection.as_mut() => return note(served),
        _ = end.wait_for(|ending| *ending) => connection.as_mut().graceful_shutdown(),
    }
    note(connection.await);
}

fn tower_map(
    router: Router,
) -> impl tower::Service<
    hyper::Request<hyper::body::Incoming>,
    Response = axum::response::Response,
    Error = std::convert::Infallible,
    Future: Send,
> + Clone {
    tower::ServiceExt::map_request(router, |request: hyper::Request<hyper::body::Incoming>| {
        request.map(Body::new)
    })
}

/// Broken connections are the client's business.
fn note(served: Result<(), hyper::Error>) {
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn pause_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    ) {
        tracing::error!(%error, "cannot accept connections");
        sleep(ACCEPT_PAUSE).await;
    }
}

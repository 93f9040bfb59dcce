//! Listens, and hands each request to the calls or to the control routes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::calls::answer;
use crate::control;
use crate::shared::Shared;
use crate::simulated::Simulated;
use crate::socket::{Ending, Socket};
use crate::wire::NoAnswer;

/// Connections at a time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 1_024;
/// Between two tries to listen again after an outage, or to accept after a failure.
const LISTEN_AGAIN: Duration = Duration::from_millis(20);
/// Connections that wait to be accepted, after an outage as before it.
const BACKLOG: u32 = 1_024;

pub(crate) async fn listen<S: Simulated>(
    shared: Arc<Shared<S>>,
    listener: TcpListener,
    address: SocketAddr,
    mut outages: mpsc::Receiver<Duration>,
) {
    let router = control::routes(Arc::clone(&shared));
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut listener = listener;
    let mut open = shared.stopped.child_token();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &room) => accepted,
            lasting = outages.recv() => {
                open.cancel();
                listener = tokio::select! {
                    back = away(listener, address, lasting.unwrap_or_default()) => back,
                    () = shared.stopped.cancelled() => return,
                };
                open = shared.stopped.child_token();
                continue;
            }
            () = shared.stopped.cancelled() => return,
        };
        match accepted {
            Ok((stream, from, permit)) => {
                let connection = connection(
                    Arc::clone(&shared),
                    router.clone(),
                    stream,
                    from,
                    open.clone(),
                );
                shared.calls.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(LISTEN_AGAIN).await;
            }
        }
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room)
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    let (stream, from) = listener.accept().await?;
    Ok((stream, from, permit))
}

/// Connections are refused for so long. The port stays bound meanwhile: it comes back, so nobody else may be given it.
async fn away(listener: TcpListener, address: SocketAddr, lasting: Duration) -> TcpListener {
    drop(listener);
    let end = Instant::now() + lasting;
    loop {
        match bound(address) {
            Ok(socket) => {
                tokio::time::sleep_until(end).await;
                match socket.listen(BACKLOG) {
                    Ok(listener) => return listener,
                    Err(error) => tracing::warn!(%error, %address, "cannot listen again"),
                }
            }
            Err(error) => tracing::warn!(%error, %address, "somebody took the port"),
        }
        tokio::time::sleep(LISTEN_AGAIN).await;
    }
}

fn bound(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Connections of before may still be ending.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn connection<S: Simulated>(
    shared: Arc<Shared<S>>,
    router: Router,
    stream: TcpStream,
    from: SocketAddr,
    open: CancellationToken,
) {
    let (socket, ending) = Socket::new(stream);
    let service = {
        let ending = ending.clone();
        service_fn(move |request| {
            route(
                Arc::clone(&shared),
                router.clone(),
                request,
                from,
                ending.clone(),
            )
        })
    };
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new());
    tokio::select! {
        // The caller's mistakes and our own faults end connections all the time; neither is worth a line.
        _ = http.serve_connection(TokioIo::new(socket), service) => {}
        () = open.cancelled() => ending.reset(),
    }
}

async fn route<S: Simulated>(
    shared: Arc<Shared<S>>,
    router: Router,
    request: Request<Incoming>,
    from: SocketAddr,
    ending: Ending,
) -> Result<Response<Body>, NoAnswer> {
    if request.uri().path().starts_with(control::ROOT) {
        let only_looks = request.method().is_safe();
        let answered: Result<_, Infallible> = router.oneshot(request.map(Body::new)).await;
        if !only_looks {
            shared.world().changed();
        }
        shared.keep().await;
        return answered.map_err(|never| match never {});
    }
    let answered = answer(Arc::clone(&shared), request, from.ip(), ending).await;
    // Before the caller knows of it: what it was told is never forgotten.
    shared.keep().await;
    answered
}

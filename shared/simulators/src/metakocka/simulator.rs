//! Listens, hands each request to the calls or to the control routes, and is the handle for tests in the same process.

use std::convert::Infallible;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use chrono::{DateTime, Utc};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::core::{Company, MkId, Partner, Readings};
use super::fault::{RandomFault, ScriptedFault};
use super::fault_queue::Script;
use super::log::{LogEntry, LogFilter};
use super::server::{ROOT, answer};
use super::shared::{Options, Shared};
use super::socket::{Ending, Socket};
use super::wire::NoAnswer;
use super::world::{Counts, Snapshot, StrictViolation};
use super::{Error, control};

/// Connections at a time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 1_024;
/// Between two tries to listen again after an outage, or to accept after a failure.
const LISTEN_AGAIN: Duration = Duration::from_millis(20);
/// Connections that wait to be accepted, after an outage as before it.
const BACKLOG: u32 = 1_024;

/// A running simulator. Stops when it is dropped.
pub struct Simulator {
    shared: Arc<Shared>,
    address: SocketAddr,
    listening: Option<JoinHandle<()>>,
}

/// Runs a simulator on this listener until `shutdown` is done; open connections are closed then.
pub async fn serve(
    options: Options,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let address = listener.local_addr().map_err(Error::Listen)?;
    let (shared, outages) = Shared::new(&options)?;
    tokio::select! {
        () = listen(Arc::clone(&shared), listener, address, outages) => {}
        () = shutdown => {}
    }
    shared.stopped.cancel();
    shared.calls.close();
    shared.calls.wait().await;
    shared.keep().await;
    Ok(())
}

async fn listen(
    shared: Arc<Shared>,
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
                listener = away(listener, address, lasting.unwrap_or_default()).await;
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

async fn connection(
    shared: Arc<Shared>,
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

async fn route(
    shared: Arc<Shared>,
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

impl Simulator {
    /// Listens on a free port of 127.0.0.1. Many can run in one process. Needs a tokio runtime.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(Error::Listen)?;
        Self::start_on(options, listener)
    }

    /// As [`Simulator::start`], on a listener of one's own.
    pub fn start_on(options: Options, listener: TcpListener) -> Result<Self, Error> {
        let address = listener.local_addr().map_err(Error::Listen)?;
        let (shared, outages) = Shared::new(&options)?;
        let tracker = TaskTracker::new();
        let listening = tracker.spawn(listen(Arc::clone(&shared), listener, address, outages));
        Ok(Simulator {
            shared,
            address,
            listening: Some(listening),
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the calls begin, with a `/` at the end: `<base>v1/add_partner`.
    pub fn base_url(&self) -> String {
        format!("http://{}{ROOT}", self.address)
    }

    /// Where the control routes begin, with a `/` at the end.
    pub fn control_url(&self) -> String {
        format!("http://{}{}/", self.address, control::ROOT)
    }

    /// Whether it goes on from a state file that was there.
    pub fn went_on(&self) -> bool {
        self.shared.went_on
    }

    /// Every partner of a company that exists now, in the order they were made.
    pub fn partners(&self, company_id: &str) -> Result<Vec<Partner>, Error> {
        self.with_company(company_id, |company, _| {
            company.partners().cloned().collect()
        })
    }

    pub fn partner(&self, company_id: &str, mk_id: MkId) -> Result<Partner, Error> {
        let unknown = || Error::UnknownPartner {
            company: company_id.to_owned(),
            mk_id,
        };
        self.with_company(company_id, |company, _| company.partner(mk_id).cloned())?
            .ok_or_else(unknown)
    }

    /// Works on a company directly: back-office actions ([`Company::person_edits`] and its siblings), access, own readings.
    /// The time is the simulator's.
    pub fn with_company<T>(
        &self,
        company_id: &str,
        work: impl FnOnce(&mut Company, DateTime<Utc>) -> T,
    ) -> Result<T, Error> {
        let mut world = self.shared.world();
        let now = self.shared.clock.now();
        world.changed();
        Ok(work(world.company(company_id)?, now))
    }

    pub fn log(&self, filter: &LogFilter) -> Vec<LogEntry> {
        self.shared.world().log.show(filter)
    }

    pub fn counts(&self) -> Counts {
        self.shared.world().counts()
    }

    /// Puts a fault at the end of the queue; returns its id.
    pub fn fault(&self, scripted: ScriptedFault) -> Result<u64, Error> {
        self.shared.world().faults.script(scripted)
    }

    /// The scripted faults that still wait.
    pub fn faults(&self) -> Vec<Script> {
        self.shared.world().faults.scripted().to_vec()
    }

    /// Replaces the random faults; the dice go on.
    pub fn set_random_faults(&self, random: Vec<RandomFault>) -> Result<(), Error> {
        self.shared.world().faults.set_random(random)
    }

    /// No more faults, scripted or random. Writes that were put off still come.
    pub fn clear_faults(&self) {
        self.shared.world().faults.clear();
    }

    pub fn readings(&self) -> Readings {
        self.shared.world().readings.clone()
    }

    /// For every company, from the next call on.
    pub fn set_readings(&self, readings: Readings) {
        self.shared.world().set_readings(readings);
    }

    pub fn set_strict(&self, strict: bool) {
        self.shared.world().set_strict(strict);
    }

    pub fn strict_violations(&self) -> Vec<StrictViolation> {
        self.shared.world().strict_violations()
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.shared.clock.now()
    }

    /// Moves a manual clock on; what is due is done when this returns, slow answers follow. [`Error::RealClock`] otherwise.
    pub fn advance(&self, by: Duration) -> Result<DateTime<Utc>, Error> {
        let now = self.shared.clock.advance(by)?;
        drop(self.shared.world());
        Ok(now)
    }

    /// Writes that were put off and have not happened yet, over all companies.
    pub fn late_writes(&self) -> usize {
        self.shared
            .world()
            .companies
            .values()
            .map(Company::scheduled)
            .sum()
    }

    /// What every company holds; starts another simulator with the same state ([`Options::snapshot`]).
    pub fn snapshot(&self) -> Snapshot {
        self.shared.world().snapshot()
    }

    pub fn restore(&self, snapshot: Snapshot) -> Result<(), Error> {
        self.shared.world().restore(snapshot)
    }

    /// Empties companies, log, counts and faults; readings, strictness, access and clock stay.
    pub fn reset(&self) {
        self.shared.world().reset();
    }

    /// Resets every connection and refuses new ones for a while, in real time.
    pub fn outage(&self, lasting: Duration) -> Result<(), Error> {
        self.shared.outage(lasting)
    }

    /// Stops and waits until nothing of it runs any more.
    pub async fn stop(mut self) {
        self.shared.stopped.cancel();
        if let Some(listening) = self.listening.take() {
            // It only ends by itself; a panic in it is nobody's concern any more.
            let _ = listening.await;
        }
        self.shared.calls.close();
        self.shared.calls.wait().await;
        self.shared.keep().await;
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.shared.stopped.cancel();
    }
}

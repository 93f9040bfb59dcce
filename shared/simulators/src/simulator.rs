//! A running simulator: the handle for tests in the same process, and for whoever starts one.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::control;
use crate::counts::Counts;
use crate::error::Error;
use crate::fault::{RandomFault, ScriptedFault};
use crate::fault_queue::Script;
use crate::kinds::Running;
use crate::listen::listen;
use crate::log::{LogEntry, LogFilter};
use crate::shared::{Settings, Shared};
use crate::simulated::Simulated;

/// A running simulator. Stops when it is dropped.
pub struct Simulator<S: Simulated> {
    shared: Arc<Shared<S>>,
    address: SocketAddr,
    listening: Option<JoinHandle<()>>,
}

impl<S: Simulated> Simulator<S> {
    /// Listens on this listener. Many can run in one process. Needs a tokio runtime.
    pub fn open(system: S, settings: Settings<S>, listener: TcpListener) -> Result<Self, Error> {
        let address = listener.local_addr().map_err(Error::Listen)?;
        let (shared, outages) = Shared::new(system, settings)?;
        let listening = tokio::spawn(listen(Arc::clone(&shared), listener, address, outages));
        Ok(Simulator {
            shared,
            address,
            listening: Some(listening),
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the calls begin, with a `/` at the end.
    pub fn base_url(&self) -> String {
        format!("http://{}{}", self.address, S::ROOT)
    }

    /// Where the control routes begin, with a `/` at the end.
    pub fn control_url(&self) -> String {
        format!("http://{}{}/", self.address, control::ROOT)
    }

    /// Whether it goes on from a state file that was there.
    pub fn went_on(&self) -> bool {
        self.shared.went_on == Some(true)
    }

    /// Works on the system directly, at the simulator's time; what is due is done before.
    pub fn with<T>(&self, work: impl FnOnce(&mut S, DateTime<Utc>) -> T) -> T {
        let mut world = self.shared.world();
        let now = self.shared.clock.now();
        world.changed();
        work(&mut world.system, now)
    }

    /// Looks at the system; what is due is done before.
    pub fn look<T>(&self, look: impl FnOnce(&S) -> T) -> T {
        look(&self.shared.world().system)
    }

    pub fn log(&self, filter: impl Into<LogFilter<S::Call>>) -> Vec<LogEntry<S::Call, S::Noted>> {
        self.shared.world().log.show(&filter.into(), S::account)
    }

    pub fn counts(&self) -> Counts {
        self.shared.world().counts()
    }

    /// Puts a fault at the end of the queue; returns its id.
    pub fn fault(&self, scripted: ScriptedFault<S::Fault, S::Call>) -> Result<u64, Error> {
        self.shared.world().faults.script(scripted)
    }

    /// The scripted faults that still wait.
    pub fn faults(&self) -> Vec<Script<S::Fault, S::Call>> {
        self.shared.world().faults.scripted().to_vec()
    }

    /// Replaces the random faults; the dice go on.
    pub fn set_random_faults(
        &self,
        random: Vec<RandomFault<S::Fault, S::Call>>,
    ) -> Result<(), Error> {
        self.shared.world().faults.set_random(random)
    }

    /// No more faults, scripted or random. Writes that were put off still come.
    pub fn clear_faults(&self) {
        self.shared.world().faults.clear();
    }

    pub fn readings(&self) -> S::Readings {
        self.shared.world().system.readings()
    }

    /// For every account, from the next call on.
    pub fn set_readings(&self, readings: S::Readings) {
        self.shared.world().system.set_readings(readings);
    }

    pub fn set_strict(&self, strict: bool) {
        self.shared.world().set_strict(strict);
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

    /// What every account holds; starts another simulator with the same state ([`Settings::snapshot`]).
    pub fn snapshot(&self) -> S::Snapshot {
        self.shared.world().system.snapshot()
    }

    pub fn restore(&self, snapshot: S::Snapshot) -> Result<(), Error> {
        self.shared.world().restore(snapshot)
    }

    /// Empties accounts, log, counts and faults; readings, strictness, access and clock stay.
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

impl<S: Simulated> Running for Simulator<S> {
    fn base_url(&self) -> String {
        Simulator::base_url(self)
    }

    fn control_url(&self) -> String {
        Simulator::control_url(self)
    }

    fn accounts(&self) -> Vec<String> {
        self.shared.world().system.accounts()
    }

    fn went_on(&self) -> Option<bool> {
        self.shared.went_on
    }

    fn stop(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(Simulator::stop(*self))
    }
}

impl<S: Simulated> Drop for Simulator<S> {
    fn drop(&mut self) {
        self.shared.stopped.cancel();
    }
}

//! A running simulator of Metakocka: the handle of every simulator, and what only this one has.

use std::future::Future;
use std::net::Ipv4Addr;

use chrono::{DateTime, Utc};
use tokio::net::TcpListener;

use super::core::{Company, MkId, Partner, Readings};
use super::options::Options;
use super::world::{Metakocka, StrictViolation};
use crate::error::Error;
use crate::kinds::{Kind, Running, Start};
use crate::simulated::Simulated;
use crate::simulator;

/// A running simulator of Metakocka. Stops when it is dropped.
pub type Simulator = simulator::Simulator<Metakocka>;

/// For a command line.
pub const KIND: Kind = Kind {
    name: Metakocka::NAME,
    title: "Metakocka",
    port: 8099,
    root: Metakocka::ROOT,
    accounts: "companies",
    credentials: r#"{"secret_key":"sim-key","company_id":"4711"}"#,
    start,
};

fn start(start: Start, listener: TcpListener) -> Result<Box<dyn Running>, Error> {
    let mut options = start.options::<Options>()?.unwrap_or_else(|| Options {
        readings: Readings::preset(start.readings),
        strict: start.strict,
        ..Options::default()
    });
    options.state = start.state.or(options.state);
    Ok(Box::new(Simulator::start_on(options, listener)?))
}

/// Runs a simulator on this listener until `shutdown` is done; open connections are closed then.
pub async fn serve(
    options: Options,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let simulator = Simulator::start_on(options, listener)?;
    shutdown.await;
    simulator.stop().await;
    Ok(())
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
        let (metakocka, settings) = options.parts()?;
        Self::open(metakocka, settings, listener)
    }

    /// Every partner of a company that exists now, in the order they were made.
    pub fn partners(&self, company_id: &str) -> Result<Vec<Partner>, Error> {
        self.with_company(company_id, |company, _| {
            company.partners().cloned().collect()
        })
    }

    pub fn partner(&self, company_id: &str, mk_id: MkId) -> Result<Partner, Error> {
        self.with_company(company_id, |company, _| {
            let partner = company.partner(mk_id).cloned();
            partner.ok_or_else(|| company.unknown_partner(mk_id))
        })?
    }

    /// Works on a company directly: operator actions ([`Company::person_edits`] and its siblings), access, own readings.
    /// The time is the simulator's.
    pub fn with_company<T>(
        &self,
        company_id: &str,
        work: impl FnOnce(&mut Company, DateTime<Utc>) -> T,
    ) -> Result<T, Error> {
        self.with(|metakocka, now| Ok(work(metakocka.company(company_id)?, now)))
    }

    pub fn strict_violations(&self) -> Vec<StrictViolation> {
        self.look(Metakocka::violations)
    }

    /// Writes that were put off and have not happened yet, over all companies.
    pub fn late_writes(&self) -> usize {
        self.look(|metakocka| metakocka.companies.values().map(Company::scheduled).sum())
    }
}

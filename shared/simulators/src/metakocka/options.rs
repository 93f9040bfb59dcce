//! How a simulator of Metakocka starts.

use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;

use super::core::{CompanyOptions, Readings};
use super::fault::RandomFault;
use super::world::{Metakocka, Snapshot};
use crate::clock::ClockKind;
use crate::error::Error;
use crate::shared::Settings;

/// How a simulator starts. The default is one company `4711` with the key `sim-key`, kind readings, no faults, the real clock.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    pub companies: Vec<CompanyOptions>,
    pub readings: Readings,
    pub strict: bool,
    /// Of the random faults: the same calls in the same order meet the same faults.
    pub seed: u64,
    pub random_faults: Vec<RandomFault>,
    pub clock: ClockKind,
    /// Asked for as `Authorization: Bearer …` on `/_sim/…`, if set.
    pub control_token: Option<SecretString>,
    /// What the companies hold at the start.
    pub snapshot: Option<Snapshot>,
    /// A file that keeps what they hold, for the next start. One that is there counts more than `snapshot`; one that is not
    /// is made, and the companies' ids begin where no earlier simulator's did, because somebody may remember those.
    pub state: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            companies: vec![CompanyOptions::new("4711", "sim-key")],
            readings: Readings::kind(),
            strict: false,
            seed: 0,
            random_faults: Vec::new(),
            clock: ClockKind::Real,
            control_token: None,
            snapshot: None,
            state: None,
        }
    }
}

impl Options {
    /// The companies, and what every simulator is told.
    pub(super) fn parts(self) -> Result<(Metakocka, Settings<Metakocka>), Error> {
        let settings = Settings {
            strict: self.strict,
            seed: self.seed,
            random_faults: self.random_faults,
            clock: self.clock,
            control_token: self.control_token,
            snapshot: self.snapshot,
            state: self.state,
        };
        Ok((Metakocka::new(self.companies, self.readings)?, settings))
    }
}

//! The simulator's time: the real one, or one that only moves when told to.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::error::Error;

/// Which clock slow answers, late commits, quotas and the index run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockKind {
    #[default]
    Real,
    /// Stands at this time until it is advanced.
    Manual(DateTime<Utc>),
}

#[derive(Debug)]
pub(crate) enum Clock {
    Real,
    Manual(watch::Sender<DateTime<Utc>>),
}

impl Clock {
    pub(crate) fn new(kind: ClockKind) -> Self {
        match kind {
            ClockKind::Real => Clock::Real,
            ClockKind::Manual(start) => Clock::Manual(watch::Sender::new(start)),
        }
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        match self {
            Clock::Real => Utc::now(),
            Clock::Manual(time) => *time.borrow(),
        }
    }

    /// Moves a manual clock on; who waits for a time that is reached now wakes up.
    pub(crate) fn advance(&self, by: Duration) -> Result<DateTime<Utc>, Error> {
        let Clock::Manual(time) = self else {
            return Err(Error::RealClock);
        };
        let by = TimeDelta::from_std(by).unwrap_or(TimeDelta::MAX);
        let mut moved = Ok(*time.borrow());
        time.send_modify(|now| match now.checked_add_signed(by) {
            Some(later) => {
                *now = later;
                moved = Ok(later);
            }
            None => moved = Err(Error::Invalid("the clock can't go that far".into())),
        });
        moved
    }

    pub(crate) async fn sleep_until(&self, due: DateTime<Utc>) {
        match self {
            Clock::Real => {
                tokio::time::sleep((due - Utc::now()).to_std().unwrap_or_default()).await
            }
            Clock::Manual(time) => {
                // The sender lives as long as the clock, so this only ends when the time has come.
                let _ = time.subscribe().wait_for(|now| *now >= due).await;
            }
        }
    }
}

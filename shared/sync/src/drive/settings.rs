//! What an operator may set of the engine.

use std::time::Duration;

#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// W: a call that has not left this long after `sent` is not sent any more.
    pub send_window: Duration,
    /// When a link is looked at again after an abandoned effect or a refused create.
    pub rechecks: Vec<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        Self {
            send_window: Duration::from_secs(5),
            rechecks: vec![minutes(1), minutes(5), minutes(60)],
        }
    }
}

//! SIGTERM and SIGINT: the first asks for an orderly end, the second ends at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A process ended by signal N answers with 128 + N, as shells expect.
const ENDED_BY_SIGNAL: i32 = 128;

/// A token that is cancelled by the first SIGTERM or SIGINT. After a second one the process ends without draining:
/// what it was doing is delivered again to somebody else.
///
/// # Errors
/// The operating system refuses to install the handlers.
pub fn shutdown() -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let asked = token.clone();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => SignalKind::terminate(),
                _ = interrupt.recv() => SignalKind::interrupt(),
            }
        };
        next().await;
        tracing::info!("asked to stop: finishing what is under way; ask again to stop at once");
        asked.cancel();
        let again = next().await;
        tracing::warn!("stopping at once");
        crate::telemetry::flush();
        std::process::exit(ENDED_BY_SIGNAL + again.as_raw_value());
    });
    Ok(token)
}

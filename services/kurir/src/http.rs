//! The command line's own HTTP calls: the gateway, the management API, a simulator. Partners are called by workers
//! only, through `outbound`.

use std::path::Path;
use std::time::Duration;

use crate::exit::{Done, Exit, Failed};

/// Where a server is not even there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// One client per command.
pub(crate) fn client(timeout: Duration) -> Done<reqwest::Client> {
    client_believing(timeout, None)
}

/// As `client`; certificates of these authorities are believed beside those of the system.
pub(crate) fn client_believing(
    timeout: Duration,
    authorities: Option<&Path>,
) -> Done<reqwest::Client> {
    // A second call changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(timeout)
        .redirect(reqwest::redirect::Policy::none());
    if let Some(file) = authorities {
        let believed = trust::of_file(file)
            .map_err(|error| Failed::new(Exit::Configuration, error.to_string()))?;
        let believed = believed
            .iter()
            .map(|one| reqwest::Certificate::from_der(one));
        let believed: Result<Vec<_>, _> = believed.collect();
        builder = builder.tls_certs_merge(believed.map_err(unbuilt)?);
    }
    builder.build().map_err(unbuilt)
}

fn unbuilt(error: reqwest::Error) -> Failed {
    Failed::new(Exit::Failed, error.to_string())
}

/// The body of a 2xx answer, at most `limit` bytes. Errors do not name the address, which may hold a password.
pub(crate) async fn get(
    client: &reqwest::Client,
    url: &str,
    limit: usize,
) -> Result<Vec<u8>, String> {
    let answer = client.get(url).send().await.map_err(without_address)?;
    let status = answer.status();
    let body = body(answer, limit).await?;
    if status.is_success() {
        Ok(body)
    } else {
        Err(format!("answered {status}"))
    }
}

/// The whole body, or an error where it is longer than `limit`.
pub(crate) async fn body(mut answer: reqwest::Response, limit: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(without_address)? {
        if body.len() + chunk.len() > limit {
            return Err(format!("answered more than {limit} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The innermost cause says what happened; the outer ones repeat the address.
pub(crate) fn without_address(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

//! The one place where HTTP clients are built, and one attempt of a call.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, LOCATION};
use reqwest::{Response, StatusCode};

use crate::address::{Guarded, NotPublic, Private};
use crate::call::{Call, Reply};
use crate::error::{CallError, Error, NotSent, Unknown};
use crate::gate::Gate;
use crate::metrics::Metrics;
use crate::redact::Redactor;
use crate::status::retry_after;

/// How the process talks to partners; the same for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Name resolution, TCP and TLS together, per attempt.
    pub connect_timeout: Duration,
    /// Replies beyond this are given up on, without reading them.
    pub reply_limit_bytes: usize,
    /// Kept open per host while idle: as many as a process has slots, or a busy one shakes hands for every second call.
    pub idle_connections: usize,
    /// Shorter than what servers commonly allow, so that they rarely close a connection just as we use it.
    pub idle_timeout: Duration,
    pub user_agent: String,
    pub private: Private,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            reply_limit_bytes: 8 * 1024 * 1024,
            idle_connections: 32,
            idle_timeout: Duration::from_secs(20),
            user_agent: concat!("kurir/", env!("CARGO_PKG_VERSION")).to_owned(),
            private: Private::default(),
        }
    }
}

/// What may differ from partner system to partner system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// As in `Settings`.
    pub connect_timeout: Duration,
    /// Which addresses its connections may name.
    pub private: Private,
}

impl Policy {
    /// The usual one, where connections may name private addresses or not.
    pub fn private(allowed: bool) -> Self {
        Self {
            connect_timeout: Settings::default().connect_timeout,
            private: match allowed {
                true => Private::Allow,
                false => Private::Refuse,
            },
        }
    }
}

/// A pool of connections. Clones share it; one per process and kind of address guard is enough.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    settings: Arc<Settings>,
    pub(crate) metrics: Metrics,
}

impl Client {
    pub fn new(settings: Settings) -> Result<Self, Error> {
        // Here and nowhere else, so that tests get a provider too. Only the first call installs it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .user_agent(&settings.user_agent)
            .connect_timeout(settings.connect_timeout)
            .pool_max_idle_per_host(settings.idle_connections)
            .pool_idle_timeout(settings.idle_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            // A proxy would resolve names for us, past the address guard.
            .no_proxy()
            // What may be sent again is decided in `retry.rs` alone.
            .retry(reqwest::retry::never())
            .dns_resolver(Guarded(settings.private))
            .build()
            .map_err(Error::Build)?;
        Ok(Self {
            http,
            settings: Arc::new(settings),
            metrics: Metrics::default(),
        })
    }

    /// Metrics of all calls through this client and its clones, to be registered once per process.
    pub fn collectors(&self) -> Vec<Box<dyn prometheus::core::Collector>> {
        self.metrics.collectors()
    }

    /// Calls that will be made: their metrics begin at 0 and not with the first call.
    pub fn expect(&self, system: &str, operations: impl IntoIterator<Item = &'static str>) {
        for operation in operations {
            self.metrics.expect(system, operation);
        }
    }

    /// The same way out under another policy: for a partner system of its own. Its calls count with those of this one.
    ///
    /// # Errors
    /// As `new`.
    pub fn under(&self, policy: Policy) -> Result<Self, Error> {
        let settings = Settings {
            connect_timeout: policy.connect_timeout,
            private: policy.private,
            ..(*self.settings).clone()
        };
        let mut client = Self::new(settings)?;
        client.metrics = self.metrics.clone();
        Ok(client)
    }

    pub(crate) async fn attempt(
        &self,
        call: &Call,
        redactor: &Redactor,
    ) -> Result<Reply, CallError> {
        let not_sent = |kind: NotSent, text: &str| CallError::NotSent {
            kind,
            detail: redactor.text(text),
        };
        if let Err(refused) = self.settings.private.check(&call.url) {
            return Err(not_sent(NotSent::Address, &refused.to_string()));
        }
        // A call without a body has no gate to leave through; it leaves at the latest when its connection stands.
        let latest_start = match call.body.is_empty() {
            true => call.leave_by.checked_sub(self.settings.connect_timeout),
            false => Some(call.leave_by),
        };
        let started = Instant::now();
        if latest_start.is_none_or(|latest| started >= latest) {
            return Err(not_sent(NotSent::TooLate, "the send window has passed"));
        }
        let give_up = started + call.timeout;
        let gate = Gate::until(call.leave_by);
        let mut request = self
            .http
            .request(call.method.clone(), call.url.clone())
            .headers(call.headers.clone());
        if !call.body.is_empty() {
            request = request.body(reqwest::Body::wrap(gate.body(call.body.clone())));
        }

        let sending = request.send();
        tokio::pin!(sending);
        let window = tokio::time::sleep_until(call.leave_by.into());
        tokio::pin!(window);
        let mut window_open = !call.body.is_empty();
        let response = loop {
            tokio::select! {
                biased;
                sent = &mut sending => {
                    break sent.map_err(|error| unsent_or_unknown(error, call, &gate, redactor))?;
                }
                () = &mut window, if window_open => {
                    window_open = false;
                    if gate.close() {
                        return Err(not_sent(NotSent::TooLate, "no connection within the send window"));
                    }
                }
                () = tokio::time::sleep_until(give_up.into()) => {
                    if !call.body.is_empty() && gate.close() {
                        return Err(not_sent(NotSent::ConnectTimeout, "no connection within the time-out"));
                    }
                    return Err(unknown(Unknown::Timeout, None, "no reply within the time-out"));
                }
            }
        };

        let status = response.status();
        let head = response.headers().clone();
        let reading = read(response, self.settings.reply_limit_bytes);
        let body = match tokio::time::timeout_at(give_up.into(), reading).await {
            Ok(Ok(body)) => body,
            Ok(Err((kind, text))) => {
                return Err(unknown(kind, Some(status), &redactor.text(&text)));
            }
            Err(_elapsed) => {
                let text = "no whole reply within the time-out";
                return Err(unknown(Unknown::Timeout, Some(status), text));
            }
        };
        Ok(Reply {
            status,
            content_type: header(&head, CONTENT_TYPE).map(|full| media_type(&full)),
            retry_after: retry_after(&head, SystemTime::now()),
            location: header(&head, LOCATION).map(|text| redactor.text(&text)),
            body,
            elapsed: started.elapsed(),
        })
    }
}

/// Reads in chunks and stops at the limit; a declared length beyond it isn't read at all.
async fn read(mut response: Response, limit: usize) -> Result<Bytes, (Unknown, String)> {
    let too_large = || {
        let text = format!("more than {limit} bytes");
        Err((Unknown::TooLarge, text))
    };
    let declared = response.content_length().unwrap_or(0);
    if declared > limit as u64 {
        return too_large();
    }
    let mut body = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > limit => return too_large(),
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body.freeze()),
            Err(error) => return Err((Unknown::BrokenReply, chain(error))),
        }
    }
}

fn unsent_or_unknown(
    error: reqwest::Error,
    call: &Call,
    gate: &Gate,
    redactor: &Redactor,
) -> CallError {
    // Whoever closes the gate first has the last word: hyper may hold on to the request for a moment.
    let never_left = error.is_builder()
        || error.is_connect()
        || (!call.body.is_empty() && !gate.has_left() && gate.close());
    let kind = if never_left {
        Ok(not_sent_kind(&error))
    } else if is_lost(&error) {
        Err(Unknown::Lost)
    } else {
        Err(Unknown::BrokenReply)
    };
    let detail = redactor.text(&chain(error));
    match kind {
        Ok(kind) => CallError::NotSent { kind, detail },
        Err(kind) => unknown(kind, None, &detail),
    }
}

fn not_sent_kind(error: &reqwest::Error) -> NotSent {
    if finds::<NotPublic>(error) {
        NotSent::Address
    } else if finds::<crate::gate::Shut>(error) {
        NotSent::TooLate
    } else if error.is_builder() {
        NotSent::Request
    } else if error.is_dns() {
        NotSent::Dns
    } else if finds::<rustls::Error>(error) {
        NotSent::Tls
    } else if error.is_timeout() {
        NotSent::ConnectTimeout
    } else if error.is_connect() {
        NotSent::Connect
    } else {
        NotSent::Dropped
    }
}

/// Whether the connection ended, as against a reply that isn't HTTP.
fn is_lost(error: &reqwest::Error) -> bool {
    causes(error).any(|cause| {
        cause.is::<io::Error>()
            || cause
                .downcast_ref::<hyper::Error>()
                .is_some_and(|http| http.is_incomplete_message() || http.is_canceled())
    })
}

fn finds<T: std::error::Error + 'static>(error: &reqwest::Error) -> bool {
    causes(error).any(|cause| cause.is::<T>())
}

/// All causes, also those inside I/O errors, whose `source` skips what they wrap.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    let mut next = error.source();
    std::iter::from_fn(move || {
        let cause = next?;
        next = match cause
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(wrapped) => Some(wrapped),
            None => cause.source(),
        };
        Some(cause)
    })
}

fn unknown(kind: Unknown, status: Option<StatusCode>, detail: &str) -> CallError {
    CallError::Unknown {
        kind,
        status,
        detail: detail.to_owned(),
    }
}

/// The error and its causes in one line, without the URL, whose query may hold a key.
fn chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

fn header(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

fn media_type(full: &str) -> String {
    let end = full.find(';').unwrap_or(full.len());
    full[..end].trim().to_ascii_lowercase()
}

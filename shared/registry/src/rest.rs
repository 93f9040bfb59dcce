//! A partner that speaks JSON over HTTP, keeps to the meaning of the standard's statuses and takes a bearer token: what
//! its answers mean for the link engine. A partner with habits of its own has a client of its own (`shared/clients`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{TestError, Tested};
use outbound::{
    Call, CallError, Client, Connection, HeaderValue, Method, Observation, PermitPool, Redactor,
    Reply, StatusClass, Url, WINDOW,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use sync::{LookError, SendError};
use worker::{DeadClass, Failure, HoldCause};

/// From the start of a call to the last byte of its answer.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// One account with opened credentials.
#[derive(Clone)]
pub struct Rest {
    connection: Connection,
    root: Url,
    token: SecretString,
    epoch: i64,
}

impl Rest {
    /// The account of a connection. `usual`: where the paths begin, unless the connection names an address of its own;
    /// `credentials`: JSON with the member `token`; `epoch`: theirs.
    ///
    /// # Errors
    /// The connection cannot be used as it is stored, and why; never quotes the credentials.
    pub fn open(
        client: &Client,
        system: &'static str,
        usual: &str,
        connection: &Value,
        credentials: &SecretString,
        epoch: i64,
    ) -> Result<Self, String> {
        let credentials: Value = serde_json::from_str(credentials.expose_secret())
            .map_err(|_quotes_them| "the credentials are not a JSON object")?;
        let token = credentials["token"].as_str();
        let token = SecretString::from(token.ok_or("the credentials lack `token`")?);
        let usual = Url::parse(usual).map_err(|error| error.to_string())?;
        Ok(Self {
            connection: Connection::new(client, system, Redactor::new([&token])),
            root: crate::root(connection, &usual)?,
            token,
            epoch,
        })
    }

    /// The system's connection test, of an account as `open` answered: `path` is one that changes nothing, whether it is there or not.
    ///
    /// # Errors
    /// As `System::test`.
    pub async fn test(opened: Result<Self, String>, path: &[&str]) -> Result<Tested, TestError> {
        let account = opened.map_err(TestError::Unusable)?;
        match account.look("test", path, &[]).await {
            Ok(_) => Ok(Tested {
                warnings: Vec::new(),
            }),
            Err(LookError(Failure::Blocked { message, .. })) => Err(TestError::Refused(message)),
            Err(LookError(
                Failure::Transient { message, .. } | Failure::Permanent { message, .. },
            )) => Err(TestError::Unavailable(message)),
        }
    }

    /// Calls take permits of the fleet-wide budget, and tell it what they learn.
    pub fn with_permit_pool(self, permit_pool: Arc<PermitPool>) -> Self {
        Self {
            connection: self.connection.with_permit_pool(permit_pool),
            ..self
        }
    }

    /// A `GET`; `None` is "not there" (404, 410).
    ///
    /// # Errors
    /// Refused credentials suspend, another refusal is final, everything else passes.
    pub async fn look(
        &self,
        operation: &'static str,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Option<Value>, LookError> {
        let call = Call::get(self.url(path, query), PATIENCE);
        let reply = match self.ask(call.named(operation)).await {
            Ok(reply) => reply,
            Err(error) => return Err(LookError(self.unsent(error))),
        };
        match reply.class() {
            StatusClass::NotFound => Ok(None),
            StatusClass::Success => serde_json::from_slice(&reply.body)
                .map(Some)
                .map_err(|error| LookError::unavailable(self.said(&error))),
            class => Err(LookError(self.failure(class, &reply))),
        }
    }

    /// A call that changes something; `Null` for an answer without a body. Nothing leaves after `left`.
    ///
    /// # Errors
    /// 4xx provably changed nothing. A 5xx, or no readable answer at all, may have.
    pub async fn send(
        &self,
        operation: &'static str,
        method: Method,
        path: &[&str],
        body: Value,
        left: Duration,
    ) -> Result<Value, SendError> {
        let mut call = Call::post_json(self.url(path, &[]), body.to_string(), PATIENCE)
            .leaving_by(Instant::now() + left)
            .named(operation);
        call.method = method;
        let reply = match self.ask(call).await {
            Ok(reply) => reply,
            Err(error) if error.never_left() => return Err(SendError::NotSent(self.unsent(error))),
            Err(error) => return Err(SendError::Unknown(error.to_string())),
        };
        match reply.class() {
            StatusClass::Success if reply.body.is_empty() => Ok(Value::Null),
            StatusClass::Success => serde_json::from_slice(&reply.body)
                .map_err(|error| SendError::Unknown(self.said(&error))),
            StatusClass::Server | StatusClass::Redirect | StatusClass::Odd => {
                Err(SendError::Unknown(format!("status {}", reply.status)))
            }
            class => Err(SendError::Refused(self.failure(class, &reply))),
        }
    }

    async fn ask(&self, mut call: Call) -> Result<Reply, CallError> {
        let bearer = format!("Bearer {}", self.token.expose_secret());
        // A token that is no header value is refused as a wrong one would be.
        let mut bearer = HeaderValue::from_str(&bearer).unwrap_or(HeaderValue::from_static(""));
        bearer.set_sensitive(true);
        call.headers.insert("authorization", bearer);
        let operation = call.operation;
        let outcome = self.connection.call(call).await;
        let observation = match &outcome {
            Ok(reply) => match reply.class() {
                StatusClass::TooMany => Some(Observation::QuotaUsedUp {
                    least: reply.retry_after.unwrap_or(WINDOW),
                    named: reply.retry_after.is_some(),
                    reason: "the partner said that its quota is used up".to_owned(),
                }),
                StatusClass::Server => {
                    Some(Observation::Failing(format!("status {}", reply.status)))
                }
                StatusClass::Credentials => None,
                _ => Some(Observation::Fine),
            },
            Err(CallError::Limited { .. }) => None,
            Err(error) => Some(Observation::Failing(error.to_string())),
        };
        if let Some(observation) = observation {
            self.connection.record(operation, observation);
        }
        outcome
    }

    fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.root.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// Of a call that provably changed nothing.
    fn unsent(&self, error: CallError) -> Failure {
        match error {
            CallError::Limited { until, reason } => Failure::Transient {
                retry_after: Some(until.saturating_duration_since(Instant::now())),
                class: DeadClass::RateLimited,
                message: reason,
            },
            other => Failure::transient(DeadClass::Unavailable, other.to_string()),
        }
    }

    /// Of an answer that says so.
    fn failure(&self, class: StatusClass, reply: &Reply) -> Failure {
        let text = self.connection.redactor().excerpt(&reply.body);
        let text = format!("status {}: {text}", reply.status);
        match class {
            StatusClass::Credentials => {
                Failure::blocked(HoldCause::Suspended, Some(self.epoch), text)
            }
            StatusClass::TooMany => Failure::Transient {
                retry_after: reply.retry_after,
                class: DeadClass::RateLimited,
                message: text,
            },
            StatusClass::Refused | StatusClass::NotFound | StatusClass::Success => {
                Failure::permanent(DeadClass::Refused, text)
            }
            StatusClass::RequestTimeout
            | StatusClass::Redirect
            | StatusClass::Server
            | StatusClass::Odd => Failure::transient(DeadClass::Unavailable, text),
        }
    }

    /// What is wrong with an answer, which it may quote.
    fn said(&self, error: &serde_json::Error) -> String {
        self.connection.redactor().text(&error.to_string())
    }
}

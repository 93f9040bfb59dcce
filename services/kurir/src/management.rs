//! RabbitMQ's management API: what AMQP does not tell.

use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::ExposeSecret as _;
use serde_json::Value;

use crate::context::Context;
use crate::exit::{Done, Exit, Failed};
use crate::http;

const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer that is read.
const ANSWER_LIMIT: usize = 16 * 1024 * 1024;

pub(crate) struct Management {
    client: reqwest::Client,
    /// May hold a password.
    base: String,
    /// The one of the connection, as it stands in a path.
    virtual_host: String,
}

/// An answer to a question of `kurir doctor`; a refusal is one too.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The broker's clock, in whole seconds.
    pub(crate) date: Option<DateTime<Utc>>,
    /// Null where it is no JSON.
    pub(crate) body: Value,
}

impl Management {
    /// `None` where no address is set.
    pub(crate) fn of(context: &Context) -> Done<Option<Self>> {
        let amqp = &context.settings().amqp;
        let (Some(management), Some(address)) = (&amqp.management_url, context.broker_address())
        else {
            return Ok(None);
        };
        Ok(Some(Self {
            client: http::client_believing(TIMEOUT, amqp.ca_file.as_deref())?,
            base: management.expose_secret().trim_end_matches('/').to_owned(),
            virtual_host: broker::as_segment(address.virtual_host()),
        }))
    }

    pub(crate) async fn queues(&self) -> Done<Value> {
        self.list("queues").await
    }

    pub(crate) async fn bindings(&self) -> Done<Value> {
        self.list("bindings").await
    }

    /// `GET /api/<path>`, whatever the status.
    ///
    /// # Errors
    /// Nobody answers, or too much.
    pub(crate) async fn ask(&self, path: &str) -> Done<Answer> {
        let asked = self.client.get(format!("{}/api/{path}", self.base));
        let answer = asked.send().await;
        let answer = answer.map_err(|error| unavailable(http::without_address(error)))?;
        let status = answer.status().as_u16();
        let date = answer.headers().get(reqwest::header::DATE);
        let date = date.and_then(|date| DateTime::parse_from_rfc2822(date.to_str().ok()?).ok());
        let body = http::body(answer, ANSWER_LIMIT)
            .await
            .map_err(unavailable)?;
        Ok(Answer {
            status,
            date: date.map(|date| date.to_utc()),
            body: serde_json::from_slice(&body).unwrap_or_default(),
        })
    }

    /// `GET /api/<kind>/<virtual host>`
    pub(crate) async fn ask_of_host(&self, kind: &str) -> Done<Answer> {
        self.ask(&format!("{kind}/{}", self.virtual_host)).await
    }

    /// `GET /api/permissions/<virtual host>/<user>`
    pub(crate) async fn permissions(&self, user: &str) -> Done<Answer> {
        let user = broker::as_segment(user);
        self.ask(&format!("permissions/{}/{user}", self.virtual_host))
            .await
    }

    /// Deletes queues and exchanges whose names begin with `<prefix>.`, with everything in them.
    #[cfg(feature = "demo")]
    pub(crate) async fn remove(&self, prefix: &str) -> Done {
        for what in ["queues", "exchanges"] {
            let found = self.list(what).await?;
            let names = found
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|one| one["name"].as_str());
            let below = format!("{prefix}.");
            for name in names.filter(|name| name.starts_with(&below)) {
                let url = format!("{}/api/{what}/{}/{name}", self.base, self.virtual_host);
                let answer = self.client.delete(url).send().await;
                let answer = answer.map_err(|error| unavailable(http::without_address(error)))?;
                if !answer.status().is_success() {
                    return Err(unavailable(format!(
                        "deleting {name} was answered {}",
                        answer.status()
                    )));
                }
            }
        }
        Ok(())
    }

    async fn list(&self, what: &str) -> Done<Value> {
        let url = format!("{}/api/{what}/{}", self.base, self.virtual_host);
        let answer = http::get(&self.client, &url, ANSWER_LIMIT)
            .await
            .map_err(unavailable)?;
        serde_json::from_slice(&answer).map_err(|error| unavailable(format!("no JSON: {error}")))
    }
}

fn unavailable(why: String) -> Failed {
    Failed::new(Exit::Unavailable, format!("the management API: {why}"))
        .next("check KURIR_RABBITMQ_MANAGEMENT_URL, or unset it")
}

/// Why the management API did not tell something.
pub(crate) fn no_answer(status: u16) -> String {
    let why = match status {
        401 => "it refuses this user or password",
        403 => "its user may not see that",
        404 => "it knows no such virtual host",
        _ => "it could not tell",
    };
    format!("the management API answered {status}: {why}")
}

//! The broker's management API, as far as tests need it.

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use crate::http;

/// A client of one broker's management API.
#[derive(Clone, Debug)]
pub struct Management {
    base: Url,
    client: reqwest::Client,
}

/// A queue as the management API sees it: some seconds late. `Broker::depth` asks the queue itself.
#[derive(Clone, Debug, Deserialize)]
pub struct QueueState {
    pub name: String,
    #[serde(default)]
    pub consumers: u64,
    #[serde(default)]
    pub messages_ready: u64,
    #[serde(default)]
    pub messages_unacknowledged: u64,
    #[serde(default)]
    pub arguments: Value,
}

impl Management {
    /// `base` with user and password in it.
    pub fn new(base: &str) -> anyhow::Result<Self> {
        Ok(Self {
            base: Url::parse(base).context("the management API's address is no URL")?,
            client: http::client(),
        })
    }

    pub(crate) fn reconnected(&self) -> Self {
        Self {
            base: self.base.clone(),
            client: http::client(),
        }
    }

    /// All queues of a virtual host.
    pub async fn queues(&self, vhost: &str) -> anyhow::Result<Vec<QueueState>> {
        let found = self
            .request(reqwest::Method::GET, &["queues", vhost], None)
            .await?;
        Ok(serde_json::from_value(found)?)
    }

    /// What the clients call their connections. The server lists a connection some seconds after it was opened.
    pub async fn connections(&self, vhost: &str) -> anyhow::Result<Vec<String>> {
        let found = self.listed(vhost).await?;
        let names = found.as_array().into_iter().flatten();
        Ok(names
            .filter_map(|connection| connection["user_provided_name"].as_str().map(str::to_owned))
            .collect())
    }

    async fn listed(&self, vhost: &str) -> anyhow::Result<Value> {
        let path = ["vhosts", vhost, "connections"];
        self.request(reqwest::Method::GET, &path, None).await
    }

    /// Closes all connections of a virtual host from the server's side; answers how many there were.
    pub async fn close_connections(&self, vhost: &str) -> anyhow::Result<usize> {
        let found = self.listed(vhost).await?;
        let names: Vec<&str> = found
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|connection| connection["name"].as_str())
            .collect();
        for name in &names {
            self.request(reqwest::Method::DELETE, &["connections", name], None)
                .await?;
        }
        Ok(names.len())
    }

    /// Makes or replaces what is there, for example a policy: `["policies", vhost, name]`.
    pub async fn put(&self, path: &[&str], body: Value) -> anyhow::Result<()> {
        self.request(reqwest::Method::PUT, path, Some(body))
            .await
            .map(drop)
    }

    pub(crate) async fn vhosts(&self) -> anyhow::Result<Vec<String>> {
        let found = self
            .request(reqwest::Method::GET, &["vhosts"], None)
            .await?;
        Ok(found
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|vhost| vhost["name"].as_str().map(str::to_owned))
            .collect())
    }

    /// The user of this client has all rights in it.
    pub async fn make_vhost(&self, name: &str) -> anyhow::Result<()> {
        self.request(reqwest::Method::PUT, &["vhosts", name], Some(json!({})))
            .await
            .map(drop)
    }

    /// With everything in it.
    pub async fn delete_vhost(&self, name: &str) -> anyhow::Result<()> {
        self.request(reqwest::Method::DELETE, &["vhosts", name], None)
            .await
            .map(drop)
    }

    async fn request(
        &self,
        method: reqwest::Method,
        path: &[&str],
        body: Option<Value>,
    ) -> anyhow::Result<Value> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| anyhow::anyhow!("{} cannot have a path", self.base.scheme()))?
            .pop_if_empty()
            .push("api")
            .extend(path);
        let (user, password) = (url.username().to_owned(), url.password().map(str::to_owned));
        let _ = (url.set_username(""), url.set_password(None));
        let mut request = self
            .client
            .request(method.clone(), url)
            .basic_auth(user, password);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await?;
        let (status, text) = (response.status(), response.text().await?);
        ensure!(
            status.is_success(),
            "{method} {path:?} was answered {status}: {text}"
        );
        if text.is_empty() {
            return Ok(Value::Null);
        }
        Ok(serde_json::from_str(&text)?)
    }
}

//! HTTP as a stranger's tool speaks it: no retries, no redirects, and every answer is shown whole.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);

/// A client of one server.
#[derive(Clone, Debug)]
pub struct Http {
    client: reqwest::Client,
    base: String,
    token: Option<String>,
}

/// One answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    /// The body as JSON; panics with the whole answer if it is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {self:#?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Itself, if the status is this one; panics with the whole answer if not.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:#?}");
        self
    }
}

impl Http {
    /// `base` without a slash at its end.
    pub fn new(base: impl Into<String>) -> Self {
        Self {
            client: client(),
            base: base.into(),
            token: None,
        }
    }

    /// Where it speaks to, without a slash at its end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The same with `Authorization: Bearer <token>`.
    pub fn with_token(&self, token: impl Into<String>) -> Self {
        Self {
            token: Some(token.into()),
            ..self.clone()
        }
    }

    pub async fn get(&self, path: &str) -> reqwest::Result<Answer> {
        self.send(self.client.get(self.address(path))).await
    }

    /// One event in the structured mode of CloudEvents.
    pub async fn post_event(&self, path: &str, event: &Value) -> reqwest::Result<Answer> {
        self.post(path, "application/cloudevents+json", event.to_string())
            .await
    }

    /// Several events in the batch format.
    pub async fn post_batch(&self, path: &str, events: &[Value]) -> reqwest::Result<Answer> {
        let body = Value::Array(events.to_vec()).to_string();
        self.post(path, "application/cloudevents-batch+json", body)
            .await
    }

    /// One event in the binary mode: its attributes become `ce-` headers, its `data` the body.
    pub async fn post_binary(&self, path: &str, event: &Value) -> reqwest::Result<Answer> {
        let attributes = event.as_object().expect("an event is an object");
        let mut request = self
            .client
            .post(self.address(path))
            .header(CONTENT_TYPE, "application/json")
            .body(event["data"].to_string());
        for (name, value) in attributes.iter().filter(|(name, _)| *name != "data") {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            request = request.header(format!("ce-{name}"), percent_encoded(&text));
        }
        self.send(request).await
    }

    /// Anything.
    pub async fn post(
        &self,
        path: &str,
        content_type: &str,
        body: impl Into<reqwest::Body>,
    ) -> reqwest::Result<Answer> {
        let request = self.client.post(self.address(path));
        self.send(request.header(CONTENT_TYPE, content_type).body(body))
            .await
    }

    /// A request of the caller's own making; `address` and `client` help to make one.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let response = request.send().await?;
        Ok(Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await?,
        })
    }

    pub fn address(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }
}

/// The HTTP binding of CloudEvents, 3.1.3.2: what is not printable ASCII, and space, quote and percent.
fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b' ' | b'"' | b'%' => format!("%{byte:02X}"),
            0x21..=0x7e => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

pub(crate) fn client() -> reqwest::Client {
    // Fails if somebody was faster, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .timeout(LIMIT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .expect("a client with these settings")
}

#[cfg(test)]
mod tests {
    use super::percent_encoded;

    #[test]
    fn headers_carry_what_is_not_ascii() {
        assert_eq!(
            percent_encoded("contact/Živa 5%"),
            "contact/%C5%BDiva%205%25"
        );
    }
}

//! A caller of one simulator, and a company without a server.

use std::time::Duration;

use serde_json::{Value, json};
use simulators::metakocka::core::{Call, Company};
use simulators::metakocka::{CompanyOptions, Options, Readings, Simulator};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The longest any condition may take to come true.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Caller {
    pub(crate) simulator: Simulator,
    http: reqwest::Client,
}

pub(crate) fn http_client() -> reqwest::Client {
    // Another test of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().build().unwrap()
}

impl Caller {
    pub(crate) async fn open(options: Options) -> Self {
        Caller {
            simulator: Simulator::start(options).await.unwrap(),
            http: http_client(),
        }
    }

    pub(crate) async fn with(readings: Readings) -> Self {
        Caller::open(Options {
            readings,
            ..Options::default()
        })
        .await
    }

    /// A call with the right credentials; whatever answer there is.
    pub(crate) async fn send(&self, path: &str, body: Value) -> reqwest::Result<reqwest::Response> {
        let url = format!("{}{path}", self.simulator.base_url());
        self.http
            .post(url)
            .json(&with_credentials(body))
            .send()
            .await
    }

    /// A call that gets JSON and HTTP 200.
    pub(crate) async fn call(&self, path: &str, body: Value) -> Value {
        let response = self.send(path, body).await.unwrap();
        assert_eq!(response.status(), 200);
        response.json().await.unwrap()
    }

    pub(crate) async fn add(&self, customer: &str) -> Value {
        self.call("v1/add_partner", json!({"partner": {"customer": customer}}))
            .await
    }

    pub(crate) async fn control(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Value,
    ) -> (u16, Value) {
        let url = format!("{}{path}", self.simulator.control_url());
        let response = self
            .http
            .request(method, url)
            .json(&body)
            .send()
            .await
            .unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub(crate) async fn look(&self, path: &str) -> Value {
        let url = format!("{}{path}", self.simulator.control_url());
        self.http
            .get(url)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    }

    pub(crate) fn customers(&self) -> Vec<String> {
        self.simulator
            .partners("4711")
            .unwrap()
            .into_iter()
            .map(|partner| partner.customer)
            .collect()
    }

    /// The bare bytes of an answer, and how the connection ended.
    pub(crate) async fn raw(&self, path: &str, body: Value) -> (String, std::io::Result<()>) {
        let mut stream = TcpStream::connect(self.simulator.address()).await.unwrap();
        let body = with_credentials(body).to_string();
        let request = format!(
            "POST /rest/eshop/{path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .expect("the connection ends");
        (String::from_utf8(answer).unwrap(), end.map(|_| ()))
    }
}

pub(crate) fn with_credentials(mut body: Value) -> Value {
    body["secret_key"] = json!("sim-key");
    body["company_id"] = json!("4711");
    body
}

/// Waits until it is so.
pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let waiting = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"));
}

/// A company without a server, and a clock that stands.
pub(crate) struct Books {
    pub(crate) company: Company,
    pub(crate) now: chrono::DateTime<chrono::Utc>,
}

impl Books {
    pub(crate) fn with(readings: Readings) -> Self {
        let mut company = Company::new(CompanyOptions::new("4711", "sim-key"));
        company.set_readings(readings);
        Books {
            company,
            now: "2026-01-15T09:00:00Z".parse().unwrap(),
        }
    }

    pub(crate) fn call(&mut self, call: Call, body: Value) -> Value {
        self.call_text(call, &with_credentials(body).to_string())
    }

    pub(crate) fn call_text(&mut self, call: Call, body: &str) -> Value {
        self.company
            .call(call, body.as_bytes(), self.now)
            .json()
            .expect("JSON")
            .clone()
    }

    pub(crate) fn add(&mut self, partner: Value) -> Value {
        self.call(Call::AddPartner, json!({"partner": partner}))
    }

    pub(crate) fn update(&mut self, partner: Value) -> Value {
        self.call(Call::UpdatePartner, json!({"partner": partner}))
    }

    /// The names a search finds.
    pub(crate) fn find(&mut self, filter: Value) -> Vec<String> {
        names(&self.call(Call::GetPartner, filter))
    }

    pub(crate) fn later(&mut self, seconds: i64) {
        self.now += chrono::TimeDelta::seconds(seconds);
    }
}

/// The names in a list of partners, whether or not it collapsed; nobody found is none.
pub(crate) fn names(answer: &Value) -> Vec<String> {
    let name = |partner: &Value| partner["customer"].as_str().unwrap().to_owned();
    match &answer["partner_list"] {
        Value::Array(partners) => partners.iter().map(name).collect(),
        Value::Null => Vec::new(),
        one => vec![name(one)],
    }
}

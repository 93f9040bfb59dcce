//! `/metrics` in Prometheus' text format, and what an HTTP entrance counts of its own requests.

use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::core::Collector;
use prometheus::{
    Encoder as _, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TEXT_FORMAT,
    TextEncoder,
};

/// Upper bounds in seconds.
const BUCKETS: [f64; 11] = [
    0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];
/// The route of what no route matched: a path of somebody else's choosing is no label.
const UNMATCHED: &str = "unmatched";

/// `GET /metrics`: everything that is registered, as it is now.
pub fn metrics_routes(registry: Registry) -> Router {
    Router::new()
        .route("/metrics", get(scrape))
        .with_state(registry)
}

async fn scrape(State(registry): State<Registry>) -> Response {
    let mut text = Vec::new();
    match TextEncoder::new().encode(&registry.gather(), &mut text) {
        Ok(()) => ([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Rate, errors and duration of requests. Clones count together.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
}

fn made<T>(metric: prometheus::Result<T>) -> T {
    metric.expect("a metric's name, labels and help are well formed")
}

impl Default for HttpMetrics {
    fn default() -> Self {
        let labels = ["route", "method", "status_class"];
        Self {
            requests: made(IntCounterVec::new(
                Opts::new(
                    "kurir_http_requests_total",
                    "Requests answered, by route and class of status.",
                ),
                &labels,
            )),
            seconds: made(HistogramVec::new(
                HistogramOpts::new(
                    "kurir_http_request_duration_seconds",
                    "How long requests took, from the head until the answer's head.",
                )
                .buckets(BUCKETS.to_vec()),
                &labels,
            )),
        }
    }
}

impl HttpMetrics {
    /// Series that exist from the start.
    pub fn expect(&self, method: &str, route: &str) {
        for class in ["2xx", "4xx", "5xx"] {
            self.requests.with_label_values(&[route, method, class]);
            self.seconds.with_label_values(&[route, method, class]);
        }
    }

    /// Everything, to be registered once per process.
    pub fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![
            Box::new(self.requests.clone()),
            Box::new(self.seconds.clone()),
        ]
    }
}

/// Middleware (`axum::middleware::from_fn_with_state`): counts and times every request.
pub async fn measured(
    State(metrics): State<HttpMetrics>,
    request: Request,
    next: Next,
) -> Response {
    let matched = request.extensions().get::<MatchedPath>().cloned();
    // Methods are the sender's words: those of the standard only.
    let method = match request.method().as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => {
            known.to_owned()
        }
        _ => "other".to_owned(),
    };
    let began = Instant::now();
    let response = next.run(request).await;
    let class = match response.status().as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    };
    let route = matched.as_ref().map_or(UNMATCHED, MatchedPath::as_str);
    let labels = [route, method.as_str(), class];
    metrics.requests.with_label_values(&labels).inc();
    metrics
        .seconds
        .with_label_values(&labels)
        .observe(began.elapsed().as_secs_f64());
    response
}

//! A server that answers a TCP connection with whatever a test writes, and counts the whole requests it read.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use outbound::address::Private;
use outbound::{Call, Client, Connection, Redactor, Settings, Url};
use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Long enough for any machine; a test that waits for it has failed.
pub(crate) const LONG: Duration = Duration::from_secs(20);
/// The time-out of calls that are meant to run into it.
pub(crate) const SHORT: Duration = Duration::from_millis(300);

pub(crate) const SECRET: &str = "sim-key-4711";

pub(crate) struct Partner {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Partner {
    /// Runs `answer` for every connection.
    pub(crate) async fn start<F, Answer>(answer: F) -> Self
    where
        F: Fn(Visitor) -> Answer + Send + Sync + 'static,
        Answer: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let requests = Arc::new(AtomicUsize::new(0));
        let (seen, read) = (Arc::clone(&connections), Arc::clone(&requests));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                seen.fetch_add(1, Ordering::SeqCst);
                let requests = Arc::clone(&read);
                tokio::spawn(answer(Visitor { stream, requests }));
            }
        });
        Self {
            address,
            connections,
            requests,
            task,
        }
    }

    /// Answers every request on every connection with these bytes.
    pub(crate) async fn always(answer: &'static str) -> Self {
        Self::start(move |mut visitor| async move {
            while visitor.request().await {
                visitor.write(answer).await;
            }
        })
        .await
    }

    pub(crate) fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://{}{path}", self.address)).unwrap()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Whole requests read.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Partner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) struct Visitor {
    stream: TcpStream,
    requests: Arc<AtomicUsize>,
}

impl Visitor {
    /// Reads one request with a `content-length` (or none); false at the end of the connection.
    pub(crate) async fn request(&mut self) -> bool {
        let mut bytes = Vec::new();
        let head_end = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if self.stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return false;
            }
        };
        let head = String::from_utf8_lossy(&bytes[..head_end]).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.trim().parse().unwrap());
        while bytes.len() < head_end + length {
            if self.stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return false;
            }
        }
        self.requests.fetch_add(1, Ordering::SeqCst);
        true
    }

    pub(crate) async fn write(&mut self, answer: &str) {
        // A client that has given up is part of these tests.
        let _ = self.stream.write_all(answer.as_bytes()).await;
    }

    /// Ends with a reset instead of an orderly close.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// Until the client goes away.
    pub(crate) async fn hang(mut self) {
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest).await;
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        private: Private::Allow,
        ..Settings::default()
    }
}

pub(crate) fn connection(settings: Settings) -> Connection {
    let client = Client::new(settings).unwrap();
    let redactor = Redactor::new([&SecretString::from(SECRET)]);
    Connection::new(&client, "partner", redactor)
}

pub(crate) fn call(url: Url) -> Call {
    Call::post_json(url, format!(r#"{{"secret_key":"{SECRET}"}}"#), LONG)
}

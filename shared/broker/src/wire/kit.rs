//! Connects as lapin does, and puts [`Mended`] between it and the socket, plain or TLS.

use std::future::Future;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio, TokioRuntime};
use futures_util::Stream;
use futures_util::io::{AsyncRead, AsyncWrite};
use lapin::tcp::{AMQPUriTcpExt as _, AsyncTcpStream, OwnedTLSConfig};
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};

use super::stream::Mended;

/// Opens one connection on the current tokio runtime.
pub(crate) async fn connect(
    address: AMQPUri,
    properties: ConnectionProperties,
    tls: OwnedTLSConfig,
) -> lapin::Result<Connection> {
    let kit = RuntimeParts::new(Tokio::current(), Mending(Tokio::current()));
    let open = async move |address: AMQPUri, _: Runtime<RuntimeParts<Tokio, Mending>>| {
        let tokio = TokioRuntime::tokio_current();
        let stream = address
            .connect_with_config_async(tls.as_ref(), &tokio)
            .await?;
        Ok(AsyncTcpStream::Plain(Mended::new(stream)))
    };
    Connection::connector(address, Runtime::new(kit), open, properties).await
}

/// Tokio's reactor, with our kind of stream: what lapin's loop reads from is the reactor's own type.
#[derive(Clone, Debug)]
struct Mending(Tokio);

impl Reactor for Mending {
    type TcpStream = Mended<AsyncTcpStream<<Tokio as Reactor>::TcpStream>>;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.0.register(socket)
    }

    fn sleep(&self, time: Duration) -> Self::Sleep {
        self.0.sleep(time)
    }

    fn interval(&self, time: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(time)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let connecting = self.0.tcp_connect_addr(address);
        async move { Ok(Mended::new(AsyncTcpStream::Plain(connecting.await?))) }
    }
}

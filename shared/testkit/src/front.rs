//! A listener in front of a server: another address for it, such as one of IPv6, or TLS with a certificate of an authority
//! that nobody knows. What comes through is passed on as it is.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::owner;

/// What a client of Postgres asks before TLS, and the answer that lets it begin.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const WILLING: u8 = b'S';

/// An authority of one's own, with a file as it is given to those who shall believe it.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are valid ones");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.self_signed(&key).expect("it signs itself");
        let file = owner::folder().join(owner::name("authority_"));
        std::fs::write(&file, certificate.pem()).expect("the temporary folder can be written");
        Self {
            issuer: Issuer::new(params, key),
            file,
        }
    }

    /// PEM.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// With a certificate for these hosts.
    fn server(&self, hosts: &[&str]) -> Arc<ServerConfig> {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let params = CertificateParams::new(hosts).expect("names of hosts");
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("it is signed");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has the usual versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("the key is that of the certificate");
        Arc::new(server)
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

#[derive(Clone)]
enum Speaks {
    Plain,
    Tls(TlsAcceptor),
    /// TLS once it is asked for, as Postgres does.
    Postgres(TlsAcceptor),
}

/// Serves until it is dropped; what was passed through ends then too.
pub struct Front {
    address: SocketAddr,
    taken: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

impl Front {
    /// `at`: where it listens, such as `[::1]:0`.
    pub async fn plain(at: &str, target: SocketAddr) -> Self {
        Self::start(at, target, Speaks::Plain).await
    }

    /// TLS with a certificate for these hosts.
    pub async fn tls(authority: &Authority, hosts: &[&str], target: SocketAddr) -> Self {
        let acceptor = TlsAcceptor::from(authority.server(hosts));
        Self::start("127.0.0.1:0", target, Speaks::Tls(acceptor)).await
    }

    /// As `tls`, in the manner of Postgres.
    pub async fn postgres(authority: &Authority, hosts: &[&str], target: SocketAddr) -> Self {
        let acceptor = TlsAcceptor::from(authority.server(hosts));
        Self::start("127.0.0.1:0", target, Speaks::Postgres(acceptor)).await
    }

    async fn start(at: &str, target: SocketAddr, speaks: Speaks) -> Self {
        let listener = TcpListener::bind(at).await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener");
        let taken = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&taken);
        let server = tokio::spawn(async move {
            let mut passing = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let speaks = speaks.clone();
                passing.spawn(async move {
                    // Whoever is refused, or leaves, leaves.
                    let _ = pass(client, target, speaks).await;
                });
                while passing.try_join_next().is_some() {}
            }
        });
        Self {
            address,
            taken,
            server,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections that were begun here.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn pass(mut client: TcpStream, target: SocketAddr, speaks: Speaks) -> std::io::Result<()> {
    let acceptor = match speaks {
        Speaks::Plain => return join(client, target).await,
        Speaks::Tls(acceptor) => acceptor,
        Speaks::Postgres(acceptor) => {
            let mut asked = [0; SSL_REQUEST.len()];
            client.read_exact(&mut asked).await?;
            if asked != SSL_REQUEST {
                return Ok(());
            }
            client.write_all(&[WILLING]).await?;
            acceptor
        }
    };
    join(acceptor.accept(client).await?, target).await
}

async fn join(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    target: SocketAddr,
) -> std::io::Result<()> {
    let mut server = TcpStream::connect(target).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

//! Ports of 127.0.0.1 that nobody else gets while a test has them.
//!
//! Asking the kernel for a free port and closing it again leaves a gap in which it gives it to somebody else. So the
//! port stays bound for as long as the test needs it, without listening: the kernel gives such a port to nobody who
//! asks for any, and refuses whoever connects.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use tokio::net::TcpSocket;

/// For a server that is told its port before it is started, and may be stopped and started again on it. Until dropped.
///
/// Whoever names this very port and sets `SO_REUSEADDR`, as servers do, may listen on it.
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    _bound: TcpSocket,
}

impl Port {
    pub fn reserve() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket can be made");
        socket.set_reuseaddr(true).expect("an option of any socket");
        let address = bound(&socket);
        Self {
            address,
            _bound: socket,
        }
    }

    pub fn number(&self) -> u16 {
        self.address.port()
    }
}

/// An address at which every connection is refused. Until dropped.
#[derive(Debug)]
pub struct ClosedPort {
    address: SocketAddr,
    _bound: TcpSocket,
}

impl ClosedPort {
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// For "nobody listens there": no other test's server can come to be at it.
pub fn closed_port() -> ClosedPort {
    let socket = TcpSocket::new_v4().expect("a socket can be made");
    ClosedPort {
        address: bound(&socket),
        _bound: socket,
    }
}

fn bound(socket: &TcpSocket) -> SocketAddr {
    let any = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
    socket.bind(any).expect("a free port of 127.0.0.1");
    socket.local_addr().expect("a bound socket has an address")
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_reserved_port_is_given_once_and_listened_on_again_and_again() {
        let ports: Vec<Port> = (0..50).map(|_| Port::reserve()).collect();
        let mut numbers: Vec<u16> = ports.iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 50);
        for _ in 0..2 {
            let listener = TcpListener::bind(ports[0].address).expect("the port's server");
            TcpStream::connect(ports[0].address).expect("it listens");
            drop(listener);
            let refused = TcpStream::connect(ports[0].address).expect_err("it has ended");
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        }
    }

    #[test]
    fn a_closed_port_refuses_and_nobody_can_open_it() {
        let closed = closed_port();
        let refused = TcpStream::connect(closed.address()).expect_err("nobody listens");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let taken = TcpListener::bind(closed.address()).expect_err("it is taken");
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        let others: Vec<TcpListener> = (0..200)
            .map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"))
            .collect();
        let is = |listener: &&TcpListener| listener.local_addr().ok() == Some(closed.address());
        assert!(others.iter().find(is).is_none());
    }
}

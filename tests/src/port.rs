//! A port of loopback that stays ours while nobody listens at it.
//!
//! Servers of the tests come and go at one port. Between the two, any program that asks for a free port could be given it: so
//! a socket that does not listen is bound there all the while. The server's own socket shares it, since both have
//! `SO_REUSEADDR` (tokio and Go set it); whoever connects while only this one is there is refused.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt};
use tokio::net::{TcpListener, TcpSocket};

/// A reserved port.
pub struct Port {
    address: SocketAddr,
    _reserved: OwnedFd,
}

impl Port {
    /// A port that was free.
    ///
    /// # Panics
    ///
    /// Where none is.
    pub fn reserve() -> Self {
        // No process that a test starts may inherit it.
        let reserved = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let reserved = reserved.expect("a socket can be made");
        sockopt::set_socket_reuseaddr(&reserved, true).expect("a socket has this option");
        bind(&reserved, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a loopback port is free");
        let address = getsockname(&reserved).and_then(SocketAddr::try_from);
        Self { address: address.expect("a bound socket has an address"), _reserved: reserved }
    }

    /// The address that is reserved.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens at it, for the present runtime.
    ///
    /// # Panics
    ///
    /// Where somebody listens there already.
    pub fn listen(&self) -> TcpListener {
        let socket = TcpSocket::new_v4().expect("a socket can be made");
        socket.set_reuseaddr(true).expect("a socket has this option");
        socket.bind(self.address).expect("the port is reserved");
        socket.listen(1024).expect("nobody else listens at the reserved port")
    }
}

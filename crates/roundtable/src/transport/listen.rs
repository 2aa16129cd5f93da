//! Listening: one accept loop per address; every connection goes to the next shard in turn.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;

use super::Listener;
use super::shard::{Shards, ToShard};

/// An address that is bound and not served yet.
pub struct Bound {
    socket: TcpListener,
    /// Where it is bound; with port 0 asked for, the port that the system chose.
    pub address: SocketAddr,
}

/// Binds an address. Must be called within a runtime. Fails as the system does: the port may be in use.
pub fn bind(address: SocketAddr) -> std::io::Result<Bound> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    // Ten thousand clients may come back at once.
    socket.listen(4096)?;
    let socket = TcpListener::from_std(socket.into())?;
    let address = socket.local_addr()?;
    Ok(Bound { socket, address })
}

impl Bound {
    /// Accepts until the returned task is aborted.
    pub fn serve(self, shards: Shards, number: usize, anonymous: bool) -> tokio::task::JoinHandle<()> {
        let listener = Arc::new(Listener { address: self.address, number, anonymous });
        tokio::spawn(async move {
            loop {
                match self.socket.accept().await.and_then(|(stream, _)| stream.into_std()) {
                    Ok(stream) => shards.to_next(ToShard::Accept(stream, Arc::clone(&listener))),
                    Err(error) => {
                        // Out of file descriptors, mostly: others must end before somebody new can come.
                        tracing::warn!(address = %listener.address, %error, "a connection could not be accepted");
                        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    }
                }
            }
        })
    }
}

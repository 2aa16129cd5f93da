//! Listening: one accept loop per address; every connection goes to the next shard in turn.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpListener;

use super::Listener;
use super::shard::{Shards, ToShard};
use crate::tls::Pair;
use crate::watch::Watch;

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

/// How many connections each address has, so that one machine cannot use up the sockets. Loopback addresses do not count.
#[derive(Debug, Default)]
pub struct Crowd {
    most: Option<u32>,
    here: Mutex<HashMap<IpAddr, u32>>,
}

/// A connection's place in the crowd.
#[derive(Debug)]
pub struct Place(Option<(Arc<Crowd>, IpAddr)>);

impl Crowd {
    /// At most so many connections per address; `None` is any number.
    pub fn new(most: Option<u32>) -> Arc<Self> {
        Arc::new(Self { most, here: Mutex::default() })
    }

    /// A place for one more, if there is one.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let Some(most) = self.most.filter(|_| !address.is_loopback()) else { return Some(Place(None)) };
        let mut here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        let count = here.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Place(Some((Arc::clone(self), address))))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((crowd, address)) = self.0.take() else { return };
        let mut here = crowd.here.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = here.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                here.remove(&address);
            }
        }
    }
}

/// What is done at an address.
pub struct Door {
    /// Its number among the listeners.
    pub number: usize,
    /// Connections without credentials are guests there.
    pub anonymous: bool,
    /// What it presents, if it speaks TLS.
    pub tls: Option<Arc<Pair>>,
    /// How many may come from one address.
    pub crowd: Arc<Crowd>,
    /// Who may not come.
    pub watch: Arc<Watch>,
}

impl Bound {
    /// Accepts until the returned task is aborted.
    pub fn serve(self, shards: Shards, door: Door) -> tokio::task::JoinHandle<()> {
        let Door { number, anonymous, tls, crowd, watch } = door;
        let listener = Arc::new(Listener { address: self.address, number, anonymous, tls });
        tokio::spawn(async move {
            loop {
                let accepted = self.socket.accept().await;
                match accepted.and_then(|(stream, peer)| Ok((stream.into_std()?, crowd.enter(peer.ip())))) {
                    Ok((stream, Some(place))) => {
                        let peer = stream.peer_addr().map(|peer| peer.ip());
                        if peer.is_ok_and(|peer| !watch.comes((peer, &listener))) {
                            continue;
                        }
                        shards.to_next(ToShard::Accept(stream, Arc::clone(&listener), Arc::new(place)));
                    }
                    // One address has all it may have; closing at once costs the least.
                    Ok((_, None)) => {}
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

#[cfg(test)]
mod tests {
    use super::{Crowd, IpAddr};

    #[test]
    fn an_address_gets_its_places_back() {
        let crowd = Crowd::new(Some(1));
        let address: IpAddr = "192.0.2.7".parse().unwrap();
        let place = crowd.enter(address).unwrap();
        assert!(crowd.enter(address).is_none());
        assert!(crowd.enter("192.0.2.8".parse().unwrap()).is_some());
        drop(place);
        assert!(crowd.enter(address).is_some());
    }

    #[test]
    fn this_machine_is_not_counted() {
        let crowd = Crowd::new(Some(1));
        let held: Vec<_> = (0..5).map(|_| crowd.enter("127.0.0.1".parse().unwrap()).unwrap()).collect();
        assert_eq!(held.len(), 5);
    }
}

//! Listening: one accept loop per address; every connection goes to the next shard in turn.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpListener;

use super::Listener;
use super::shard::{Shards, ToShard};
use crate::auth::failures::counted_address;
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

/// How many connections each address has, so that one machine cannot use up the sockets. Loopback addresses do not count, and
/// of IPv6 a whole /64 counts as one.
#[derive(Debug, Default)]
pub struct Crowd {
    most: Option<u32>,
    here: Mutex<HashMap<IpAddr, Arc<AtomicU32>>>,
}

/// A connection's place in the crowd.
#[derive(Debug, Default)]
pub struct Place(Option<Held>);

#[derive(Debug)]
struct Held {
    crowd: Arc<Crowd>,
    address: IpAddr,
    /// How many places the address has; another number once the operator has forgiven it.
    count: Arc<AtomicU32>,
}

impl Crowd {
    /// At most so many connections per address; `None` is any number.
    pub fn new(most: Option<u32>) -> Arc<Self> {
        Arc::new(Self { most, here: Mutex::default() })
    }

    /// A place for one more, if there is one.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = counted_address(address);
        let Some(most) = self.most.filter(|_| !address.is_loopback()) else { return Some(Place(None)) };
        let mut here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        let count = here.entry(address).or_default();
        if count.load(Ordering::Relaxed) >= most {
            return None;
        }
        count.fetch_add(1, Ordering::Relaxed);
        Some(Place(Some(Held { crowd: Arc::clone(self), address, count: Arc::clone(count) })))
    }

    /// The addresses that have all they may have.
    pub fn full(&self) -> Vec<IpAddr> {
        let Some(most) = self.most else { return Vec::new() };
        let here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |(address, count): (&IpAddr, &Arc<AtomicU32>)| {
            (count.load(Ordering::Relaxed) >= most).then_some(*address)
        };
        here.iter().filter_map(full).collect()
    }

    /// The connections that an address has now count no more, for the operator.
    pub fn forgive(&self, address: IpAddr) {
        self.here.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(Held { crowd, address, count }) = self.0.take() else { return };
        let mut here = crowd.here.lock().unwrap_or_else(PoisonError::into_inner);
        let last = count.fetch_sub(1, Ordering::Relaxed) <= 1;
        if last && here.get(&address).is_some_and(|known| Arc::ptr_eq(known, &count)) {
            here.remove(&address);
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
        assert_eq!(crowd.here.lock().unwrap().len(), 0);
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_whom_the_operator_forgives_begins_anew() {
        let crowd = Crowd::new(Some(1));
        let [one, other] = ["2001:db8::1", "2001:db8::2"].map(|a| a.parse::<IpAddr>().unwrap());
        let first = crowd.enter(one).unwrap();
        assert!(crowd.enter(other).is_none());
        assert_eq!(crowd.full().len(), 1);
        crowd.full().into_iter().for_each(|address| crowd.forgive(address));
        let second = crowd.enter(other).unwrap();
        drop(first);
        assert!(crowd.enter(one).is_none(), "the forgiven one gives nothing back");
        drop(second);
        assert_eq!(crowd.here.lock().unwrap().len(), 0);
    }

    #[test]
    fn this_machine_is_not_counted() {
        let crowd = Crowd::new(Some(1));
        let held: Vec<_> = (0..5).map(|_| crowd.enter("127.0.0.1".parse().unwrap()).unwrap()).collect();
        assert_eq!(held.len(), 5);
    }
}

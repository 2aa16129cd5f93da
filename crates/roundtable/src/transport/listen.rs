//! Listening: one accept loop per address; every connection goes to the next shard in turn.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpListener;

use super::Listener;
use super::shard::{Shards, ToShard};
use crate::auth::failures::counted_address;
use crate::config::Networks;
use crate::telemetry::recurring::{Recurring, Told};
use crate::telemetry::sparse::Sparse;
use crate::tls::Pair;
use crate::watch::{Spot, Watch};

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

/// When somebody whose address has all the connections it may have is to come again, in milliseconds: one may have ended then.
pub const FULL_MS: u64 = 10_000;

/// How many connections and polling sessions each address has, so that one machine cannot use up sockets and memory. Loopback
/// addresses do not count, and of IPv6 a whole /64 counts as one.
#[derive(Debug, Default)]
pub struct Crowd {
    most: Option<u32>,
    here: Mutex<HashMap<IpAddr, Arc<AtomicU32>>>,
}

/// A connection's place in the crowd.
#[derive(Debug, Default)]
pub struct Place {
    held: Option<Held>,
    /// It is counted as one that came.
    counted: AtomicBool,
}

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
        let Some(most) = self.most.filter(|_| !address.is_loopback()) else { return Some(Place::default()) };
        let mut here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        let count = here.entry(address).or_default();
        if count.load(Ordering::Relaxed) >= most {
            return None;
        }
        count.fetch_add(1, Ordering::Relaxed);
        let held = Held { crowd: Arc::clone(self), address, count: Arc::clone(count) };
        Some(Place { held: Some(held), counted: AtomicBool::default() })
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

impl Place {
    /// One more place for the same address, if there is one.
    pub fn another(&self) -> Option<Self> {
        match &self.held {
            None => Some(Self::default()),
            Some(held) => held.crowd.enter(held.address),
        }
    }

    /// The same, counted as one that came.
    #[must_use]
    pub fn counted(self) -> Self {
        self.counted.store(true, Ordering::Relaxed);
        self
    }

    /// Whether it is counted; from now on it is not.
    pub fn uncount(&self) -> bool {
        self.counted.swap(false, Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(Held { crowd, address, count }) = self.held.take() else { return };
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
    /// It is for whoever watches the server.
    pub watch_only: bool,
    /// How many may come from one address.
    pub crowd: Arc<Crowd>,
    /// Who may not come.
    pub watch: Arc<Watch>,
    /// Whose connections are those of many clients.
    pub trusted: Networks,
    /// Each connection begins with a header of the PROXY protocol.
    pub proxy_protocol: bool,
}

impl Bound {
    /// Accepts until the returned task is aborted.
    pub fn serve(self, shards: Shards, door: Door) -> tokio::task::JoinHandle<()> {
        let Door { number, anonymous, tls, watch_only, crowd, watch, trusted, proxy_protocol } = door;
        let address = self.address;
        let encrypted = tls.is_some();
        let listener = Arc::new(Listener { address, number, anonymous, tls, proxy_protocol, watch_only });
        tracing::info!(%address, guests = anonymous, encrypted, watch_only, "listening");
        tokio::spawn(async move {
            let mut trouble = Recurring::default();
            loop {
                let accepted = self.socket.accept().await;
                if accepted.is_ok()
                    && let Some(times) = trouble.stays_away()
                {
                    tracing::info!(address = %listener.address, times, "connections are accepted again");
                }
                match accepted.and_then(|(stream, peer)| Ok((stream.into_std()?, peer.ip()))) {
                    // Its clients are counted one by one, as soon as it says who they are.
                    Ok((stream, peer)) if trusted.contains(peer) => {
                        shards.to_next(ToShard::Accept(stream, Arc::clone(&listener), Arc::default()));
                    }
                    Ok((stream, peer)) => match crowd.enter(peer) {
                        Some(place) if watch.comes((peer, &listener)) => {
                            let place = Arc::new(place.counted());
                            shards.to_next(ToShard::Accept(stream, Arc::clone(&listener), place));
                        }
                        Some(_) => {
                            let left = watch.refuses((peer, &listener)).unwrap_or(FULL_MS);
                            turn_away(&stream, (peer, &listener), left);
                        }
                        None => turn_away(&stream, (peer, &listener), FULL_MS),
                    },
                    Err(error) => {
                        // Out of file descriptors, mostly: others must end before somebody new can come.
                        let address = listener.address;
                        match trouble.came() {
                            Told::First => tracing::warn!(%address, %error, "no connection can be accepted"),
                            Told::Again(times) => {
                                tracing::warn!(%address, %error, times, "still no connection can be accepted");
                            }
                            Told::Nothing => {}
                        }
                        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    }
                }
            }
        })
    }
}

/// Tells somebody who may come again after so many milliseconds, as far as that costs nothing: nothing of it is read.
fn turn_away(mut stream: &std::net::TcpStream, (peer, listener): Spot<'_>, ms: u64) {
    static LINES: Sparse = Sparse::new();
    if let Some(left_out) = LINES.turn() {
        let listener = listener.address;
        tracing::info!(%peer, %listener, retry_after_ms = ms, left_out, "a connection is refused: too many from its address");
    }
    if listener.tls.is_none() {
        let body = r#"{"error":"Too many connections from this address"}"#;
        let head = format!(
            "HTTP/1.1 429 Too Many Requests\r\nRetry-After: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            ms.div_ceil(1_000),
            body.len()
        );
        // A fresh socket takes it at once, or it goes without.
        let _ = stream.write(head.as_bytes());
        let _ = stream.shutdown(std::net::Shutdown::Write);
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
        assert!(crowd.enter(address).is_none() && place.another().is_none());
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

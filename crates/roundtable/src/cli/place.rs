//! Where a running server is: noted in its data directory, so that the command line finds it.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::auth::secrets::write_private;
use crate::config::BareWs;

/// Name of the file in the data directory.
pub const FILE: &str = "server.json";

/// A listener that is open.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Bound {
    /// Where, with the port that was really taken.
    pub address: SocketAddr,
    /// What a bare `/ws` means there.
    pub bare_ws: BareWs,
    /// Guests may come in there.
    pub anonymous: bool,
    /// It speaks TLS.
    #[serde(default)]
    pub tls: bool,
}

/// The content of `server.json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Place {
    /// The server's process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Its listeners; at least one.
    pub listeners: Vec<Bound>,
}

impl Bound {
    /// Where somebody on this machine reaches it: a wildcard address is reached through loopback.
    pub fn reachable(&self) -> SocketAddr {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        SocketAddr::new(ip, self.address.port())
    }
}

impl Bound {
    /// Where somebody on this machine reaches it, as a URL: `scheme` is that of plain connections.
    fn url(&self, scheme: &str) -> String {
        format!("{scheme}{}://{}", if self.tls { "s" } else { "" }, self.reachable())
    }
}

impl Place {
    /// This process with these listeners.
    pub fn here(listeners: &[Bound]) -> Self {
        Self {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").into(),
            listeners: listeners.to_vec(),
        }
    }

    /// Notes it in a data directory.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        write_private(&dir.join(FILE), self)
    }

    /// What is noted in a data directory; `None` if nothing is, or nothing that can be understood. Fails when it may not be
    /// read.
    pub fn read(dir: &Path) -> io::Result<Option<Self>> {
        match fs::read_to_string(dir.join(FILE)) {
            Ok(text) => Ok(serde_json::from_str(&text).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes the note of this process away again.
    pub fn forget(dir: &Path) {
        if Self::read(dir).is_ok_and(|found| found.is_some_and(|place| place.pid == std::process::id())) {
            // A note that stays is harmless: nobody answers there.
            let _ = fs::remove_file(dir.join(FILE));
        }
    }

    /// Where requests of the command line go, such as `http://127.0.0.1:3001`: a loopback listener if there is one.
    pub fn address(&self) -> Option<String> {
        let loopback = self.for_clients().find(|bound| bound.reachable().ip().is_loopback());
        loopback.or(self.for_clients().next()).map(|bound| bound.url("http"))
    }

    fn for_clients(&self) -> impl Iterator<Item = &Bound> {
        self.listeners.iter().filter(|bound| bound.bare_ws != BareWs::Metrics)
    }

    /// The address of each dialect, in the words of its clients.
    pub fn dialects(&self) -> Vec<(&'static str, String)> {
        let first = |wanted: BareWs| self.listeners.iter().find(|bound| bound.bare_ws == wanted);
        let any = self.for_clients().next();
        let at = |bound: Option<&Bound>, scheme: &str, path: &str| {
            bound.map(|bound| bound.url(scheme) + path).unwrap_or_default()
        };
        let socketio = first(BareWs::Hive).or(any);
        let bare = |wanted, prefix: &str| match first(wanted) {
            found @ Some(_) => at(found, "ws", "/ws"),
            None => at(any, "ws", &format!("{prefix}/ws")),
        };
        vec![
            ("MXF", at(socketio, "http", "")),
            ("AIWM", at(socketio, "http", "/dev/aiwm/chat")),
            ("Hive", bare(BareWs::Hive, "/hive")),
            ("MegaBot", bare(BareWs::MegaBot, "/megabot")),
            ("Open-A.G.I", at(first(BareWs::Auto).or(any), "ws", "/api/v1/ws")),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::{BareWs, Bound, FILE, Place};

    fn place(listeners: &[(&str, BareWs)]) -> Place {
        let bound = |(address, bare_ws): &(&str, BareWs)| Bound {
            address: address.parse().unwrap(),
            bare_ws: *bare_ws,
            anonymous: true,
            tls: false,
        };
        Place::here(&listeners.iter().map(bound).collect::<Vec<_>>())
    }

    #[test]
    fn every_dialect_has_an_address() {
        let place = place(&[
            ("127.0.0.1:3001", BareWs::Hive),
            ("127.0.0.1:3000", BareWs::MegaBot),
            ("127.0.0.1:8080", BareWs::Auto),
        ]);
        let addresses: Vec<String> = place.dialects().into_iter().map(|(_, address)| address).collect();
        assert_eq!(
            addresses,
            [
                "http://127.0.0.1:3001",
                "http://127.0.0.1:3001/dev/aiwm/chat",
                "ws://127.0.0.1:3001/ws",
                "ws://127.0.0.1:3000/ws",
                "ws://127.0.0.1:8080/api/v1/ws",
            ]
        );
    }

    #[test]
    fn one_listener_serves_all() {
        let place = place(&[("0.0.0.0:9000", BareWs::Auto)]);
        let addresses: Vec<String> = place.dialects().into_iter().map(|(_, address)| address).collect();
        assert_eq!(
            addresses,
            [
                "http://127.0.0.1:9000",
                "http://127.0.0.1:9000/dev/aiwm/chat",
                "ws://127.0.0.1:9000/hive/ws",
                "ws://127.0.0.1:9000/megabot/ws",
                "ws://127.0.0.1:9000/api/v1/ws",
            ]
        );
    }

    #[test]
    fn a_listener_for_metrics_is_nobodys_address() {
        let place = place(&[("127.0.0.1:9", BareWs::Metrics), ("127.0.0.1:1", BareWs::Auto)]);
        assert_eq!(place.address().unwrap(), "http://127.0.0.1:1");
        assert!(place.dialects().into_iter().all(|(_, address)| address.contains("127.0.0.1:1")));
    }

    #[test]
    fn the_command_line_goes_through_loopback_if_it_can() {
        let outside_first = place(&[("192.0.2.1:1", BareWs::Hive), ("[::]:2", BareWs::Auto)]);
        assert_eq!(outside_first.address().unwrap(), "http://[::1]:2");
        let mut only = place(&[("192.0.2.1:1", BareWs::Hive)]);
        assert_eq!(only.address().unwrap(), "http://192.0.2.1:1");
        only.listeners[0].tls = true;
        assert_eq!(only.address().unwrap(), "https://192.0.2.1:1");
        let hive = only.dialects()[2].1.clone();
        assert_eq!(hive, "wss://192.0.2.1:1/ws");
    }

    #[test]
    fn the_note_is_found_again_and_only_its_writer_takes_it_away() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Place::read(dir.path()).unwrap(), None);
        let mut place = place(&[("127.0.0.1:1", BareWs::Hive)]);
        place.write(dir.path()).unwrap();
        assert_eq!(Place::read(dir.path()).unwrap(), Some(place.clone()));
        place.pid += 1;
        place.write(dir.path()).unwrap();
        Place::forget(dir.path());
        assert!(dir.path().join(FILE).exists());
        place.pid -= 1;
        place.write(dir.path()).unwrap();
        Place::forget(dir.path());
        assert!(!dir.path().join(FILE).exists());
    }
}

//! Who a client is: whoever sent it, or, where a proxy that the operator trusts stands between, whom that one names.

use std::net::IpAddr;
use std::sync::{Arc, Once};

use axum::body::Body;
use http::{HeaderMap, Response, StatusCode, header};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::http::{From, plain};
use super::preface::{self, Preface};
use super::{Hub, forwarded};
use crate::telemetry::sparse::Sparse;

/// Reads the header of the PROXY protocol, and nothing behind it. `None` if there is none that can be believed, or its client
/// has all the connections that an address may have.
pub async fn introduced(hub: &Hub, stream: &mut TcpStream, from: From) -> Option<From> {
    static LINES: Sparse = Sparse::new();
    let refuse = |why: &str| {
        if let Some(left_out) = LINES.turn() {
            let (peer, listener) = (from.peer, from.listener.address);
            tracing::warn!(%peer, %listener, left_out, "no PROXY protocol: {why}");
        }
    };
    if !hub.settings.trusted_proxies.contains(from.peer) {
        refuse("the sender is not in server.trusted_proxies");
        return None;
    }
    let mut header = Vec::new();
    loop {
        match preface::read(&header) {
            Ok(Preface::More(more)) => {
                let have = header.len();
                header.resize(have + more, 0);
                stream.read_exact(header.get_mut(have..)?).await.ok()?;
            }
            // The proxy's own checks, and clients of whom it knows nothing.
            Ok(Preface::Whole(None)) => return Some(From { guest: false, ..from }),
            Ok(Preface::Whole(Some(client))) => {
                let from = From::new(client.ip(), Arc::clone(&from.listener), from.place);
                return seated(hub, from).ok();
            }
            Err(why) => {
                refuse(why);
                return None;
            }
        }
    }
}

/// Who sent a request, by its headers if a trusted proxy passed it on. Fails with the answer to a request whose headers
/// contradict one another.
pub fn of_request(hub: &Hub, from: From, headers: &HeaderMap) -> Result<From, Box<Response<Body>>> {
    if !forwarded::is_forwarded(headers) {
        return Ok(from);
    }
    let trusted = &hub.settings.trusted_proxies;
    if !trusted.contains(from.peer) {
        hint(from.peer);
        return Ok(from);
    }
    match forwarded::client(from.peer, headers, trusted) {
        Ok((address, known)) => {
            let client = From::new(address, from.listener, from.place);
            Ok(From { guest: client.guest && known, forwarded: true, ..client })
        }
        Err(forwarded::Contradiction) => {
            static LINES: Sparse = Sparse::new();
            if let Some(left_out) = LINES.turn() {
                let peer = from.peer;
                tracing::warn!(%peer, left_out, "X-Forwarded-For and Forwarded name different clients: the proxy must remove one");
            }
            let body = r#"{"error":"X-Forwarded-For and Forwarded name different clients","message":"The proxy must remove the one that it does not write"}"#;
            Err(Box::new(plain(StatusCode::BAD_REQUEST, body, "application/json")))
        }
    }
}

/// Said once: somebody who stands behind a proxy wants to know why everybody has one address.
fn hint(peer: IpAddr) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing::info!(
            %peer,
            "a request says for whom it was forwarded, and is not believed: its sender is not in server.trusted_proxies"
        );
    });
}

/// A client behind a proxy, whose connection is not one of the proxy's own, takes a place among those of its address. Fails
/// with the milliseconds after which it may come again.
pub fn seated(hub: &Hub, from: From) -> Result<From, u64> {
    let place = hub.crowd.enter(from.peer).ok_or(super::listen::FULL_MS)?;
    if !hub.watch.comes(from.spot()) {
        return Err(hub.watch.refuses(from.spot()).unwrap_or(super::listen::FULL_MS));
    }
    Ok(From { place: Arc::new(place.counted()), ..from })
}

/// The answer to somebody who may come again after so many milliseconds.
pub fn crowded(ms: u64) -> Response<Body> {
    let body = r#"{"error":"Too many connections from this address"}"#;
    let mut response = plain(StatusCode::TOO_MANY_REQUESTS, body, "application/json");
    response.headers_mut().insert(header::RETRY_AFTER, ms.div_ceil(1_000).into());
    response
}

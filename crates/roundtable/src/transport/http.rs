//! HTTP on a shard: upgrades to WebSocket, Engine.IO requests, and the REST router behind them.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::{Body as _, Incoming as HyperBody};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use roundtable_dialects::session::query_value;
use roundtable_dialects::websocket::{Decoder, handshake};
use tokio::net::TcpStream;
use tower_service::Service as _;

use answer::{Answer, Exchange};
pub use bodies::{Memory, Reach, Unread};
use pace::{Pace, Paced};

use super::client;
use super::connection::{Connection, Pings, Slot};
use super::listen::Place;
use super::origin;
use super::polling::engine;
use super::shard::Shard;
use super::stream::{self, Stream};
use super::turn::Meter;
use super::workers::Unworked;
use super::{Entry, Head, Listener, Way};
use crate::clock;
use crate::shares::Share;
use crate::watch::Spot;

mod answer;
pub(super) mod bodies;
pub(super) mod pace;

/// Bytes of a request's head.
const MAX_HEAD: usize = 16 << 10;
/// What is left for a request's head after a slow handshake, in milliseconds.
const LEAST_PATIENCE: u64 = 1_000;
/// How much longer a connection is kept than its client is told, in milliseconds: a request that is on its way when the time
/// is up still gets its answer.
const GRACE: u64 = 2_000;

/// Who sent a request, for REST handlers (a request extension).
#[derive(Clone, Debug)]
pub struct From {
    /// The client's address.
    pub peer: std::net::IpAddr,
    /// Where it came in.
    pub listener: Arc<Listener>,
    /// Its place among the connections of its address; given back when nobody holds it any more.
    pub place: Arc<Place>,
    /// It may come in without a credential: a client on this machine, where the operator lets such in.
    pub guest: bool,
    /// A trusted proxy passed this request on, among those of others.
    pub forwarded: bool,
}

impl From {
    /// A client of its own, at this address.
    pub fn new(peer: std::net::IpAddr, listener: Arc<Listener>, place: Arc<Place>) -> Self {
        let peer = peer.to_canonical();
        Self { peer, guest: listener.anonymous && peer.is_loopback(), listener, place, forwarded: false }
    }

    /// Where it is, for whoever counts signs of attacks.
    pub fn spot(&self) -> Spot<'_> {
        (self.peer, &self.listener)
    }
}

/// Serves one TCP connection until it ends or becomes a WebSocket.
pub async fn serve(shard: Rc<Shard>, mut stream: TcpStream, (listener, place): (Arc<Listener>, Arc<Place>)) {
    let _ = stream.set_nodelay(true);
    let Ok(peer) = stream.peer_addr() else { return };
    let mut from = From::new(peer.ip(), listener, place);
    let settings = &shard.hub.settings;
    let mut spent = 0;
    if from.listener.proxy_protocol {
        let patience = Duration::from_millis(settings.patience);
        let header = client::introduced(&shard.hub, &mut stream, from);
        let Ok(Some(introduced)) = tokio::time::timeout(patience, header).await else { return };
        from = introduced;
    }
    let stream = match from.listener.tls.as_ref() {
        None => Stream::Plain(stream),
        Some(pair) => {
            let began = clock::monotonic_ms();
            let patience = Duration::from_millis(settings.patience);
            let stream = match tokio::time::timeout(patience, stream::accept(stream, pair.config())).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => return tracing::debug!("a TLS handshake took too long"),
            };
            // What is left is for the request's head.
            spent = (clock::monotonic_ms() - began).min(settings.patience.saturating_sub(LEAST_PATIENCE));
            stream
        }
    };
    let pace = Pace::new(settings.patience, spent, settings.keep_alive + GRACE);
    let answer = {
        let (shard, pace, meter) = (Rc::clone(&shard), Arc::clone(&pace), Rc::new(Meter::default()));
        hyper::service::service_fn(move |request: Request<HyperBody>| {
            pace.asked();
            let exchange = Exchange::begin(&shard, Arc::clone(&pace));
            let (shard, meter, from) = (Rc::clone(&shard), Rc::clone(&meter), from.clone());
            async move {
                shard.begin_request(&meter).await;
                Ok::<_, Infallible>(answer(shard, from, request, exchange).await)
            }
        })
    };
    let served = http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(Paced::new(stream, pace)), answer)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

async fn answer(shard: Rc<Shard>, from: From, request: Request<HyperBody>, exchange: Exchange) -> Answer {
    let from = match client::of_request(&shard.hub, from, request.headers()) {
        Ok(from) => from,
        Err(refusal) => return exchange.end(*refusal, None),
    };
    let settings = &shard.hub.settings;
    if let Err(foreign) = origin::check(request.headers(), from.guest, &settings.origins, &shard.hub.ports) {
        if from.place.uncount() {
            shard.hub.watch.never_came(from.spot());
        }
        return exchange.end(origin::refuse(&foreign, from.peer), None);
    }
    let origin = request.headers().get(header::ORIGIN).cloned();
    if request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
    {
        let asked = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        return exchange.end(origin::preflight(origin.as_ref(), asked), None);
    }
    let head = head_of(&request);
    let upgrade = wants_websocket(&request);
    let way = shard.doors.way(&head, upgrade, &from);
    let is_rest = matches!(way, Way::Rest | Way::AtOnce);
    let opens = from.forwarded && !is_rest && query_value(&head.query, "sid").is_none();
    let from = match if opens { client::seated(&shard.hub, from) } else { Ok(from) } {
        Ok(from) => from,
        Err(ms) => return exchange.end(client::crowded(ms), None),
    };
    let (mut response, turn) = match way {
        Way::Rest => rest(&shard, from, head, request, exchange.pace()).await,
        Way::AtOnce => (at_once(&shard, from, request).await, None),
        Way::WebSocket(entry) => (websocket(&shard, from, head, request, entry), None),
        Way::SocketIo => (engine(&shard, (from, head), request, None, exchange.pace()).await, None),
        Way::Engine(entry) => {
            (engine(&shard, (from, head), request, Some(entry), exchange.pace()).await, None)
        }
    };
    origin::permit(origin.as_ref(), response.headers_mut());
    keep_alive(&shard, response.headers_mut());
    exchange.end(response, turn)
}

/// Whether a request asks for a WebSocket in a way that can lead to one. What else somebody would upgrade to is passed over,
/// as it is when a proxy speaks an older HTTP.
pub(super) fn wants_websocket(request: &Request<HyperBody>) -> bool {
    let mut wished = request.headers().get_all(header::UPGRADE).iter();
    request.version() >= Version::HTTP_11 && wished.any(|wish| handshake::is_wished(wish.as_bytes()))
}

/// How long a client may use the connection again. Less than is true: it shall be the one that gives it up.
fn keep_alive(shard: &Shard, headers: &mut HeaderMap) {
    if shard.stops() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let seconds = shard.hub.settings.keep_alive / 1_000;
    if seconds > 0
        && !headers.contains_key(header::CONNECTION)
        && let Ok(value) = HeaderValue::from_str(&format!("timeout={seconds}"))
    {
        headers.insert(HeaderName::from_static("keep-alive"), value);
    }
}

fn head_of(request: &Request<HyperBody>) -> Head {
    let text = |name| {
        request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok()).map(str::to_owned)
    };
    Head {
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        authorization: text("authorization"),
        api_key: text("x-api-key"),
        channel_key: text("x-key-id").zip(text("x-secret-key")),
    }
}

pub(super) fn plain(status: StatusCode, body: impl Into<Body>, content_type: &'static str) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Answers on the shard itself: what is asked takes no time.
async fn at_once(shard: &Shard, from: From, mut request: Request<HyperBody>) -> Response<Body> {
    request.extensions_mut().insert(from);
    let (head, _) = request.into_parts();
    match shard.router.clone().call(Request::from_parts(head, Body::empty())).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// Answers on the threads that are there for it, with the turn at which that was done.
async fn rest(
    shard: &Shard,
    from: From,
    asked: Head,
    mut request: Request<HyperBody>,
    pace: &Pace,
) -> (Response<Body>, Option<Share>) {
    let hub = &shard.hub;
    let address = from.peer;
    let reach = match request.body().is_end_stream() {
        true => Reach { limit: 0, proven: false },
        false => shard.doors.reach(&asked, &from),
    };
    drop(asked);
    request.extensions_mut().insert(from);
    let (mut head, body) = request.into_parts();
    // Read whole before it is answered: a body left unread would cut off the end of a long answer.
    let read =
        bodies::read(&hub.workers.bodies, (&hub.settings, address), (&head.headers, body), reach, pace).await;
    let read_whole = read.is_ok();
    let (body, held) = match read {
        Ok(read) => read,
        Err(Unread::Cut) => return (plain(StatusCode::BAD_REQUEST, "", "text/plain"), None),
        Err(why) => {
            head.extensions.insert(why);
            (Bytes::new(), None)
        }
    };
    let request = Request::from_parts(head, Body::from(body));
    let worked = hub.workers.answer(address, shard.router.clone(), request).await;
    drop(held);
    let (response, turn) = match worked {
        Ok((response, turn)) => (response, Some(turn)),
        Err(unworked) => (unworked_answer(unworked), None),
    };
    (if read_whole { response } else { last(response) }, turn)
}

fn unworked_answer(why: Unworked) -> Response<Body> {
    let (status, error) = match why {
        Unworked::Busy => (StatusCode::SERVICE_UNAVAILABLE, "Too much is asked at present"),
        Unworked::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "Internal server error"),
    };
    let body = serde_json::json!({"error": error, "message": error}).to_string();
    let mut response = plain(status, body, "application/json");
    if why == Unworked::Busy {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// The last answer on a connection: what the client still sends belongs to a body that nobody reads.
pub(super) fn last(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

// ---- WebSocket ----

/// The answer to an upgrade request, and the window of compressed frames if compression was agreed on.
pub(super) type Shaken = (Response<Body>, Option<u8>);

pub(super) fn shake_hands(
    shard: &Shard,
    request: &Request<HyperBody>,
) -> Result<Shaken, Box<Response<Body>>> {
    let headers = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let checked = match request.version() {
        Version::HTTP_09 | Version::HTTP_10 => Err(handshake::Refusal::NotAnUpgrade),
        _ => handshake::check(request.method().as_str(), headers),
    };
    let accepted = checked.map_err(|refusal| {
        let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
        let body = serde_json::json!({ "error": refusal.to_string() }).to_string();
        let mut response = plain(status, body, "application/json");
        if status == StatusCode::UPGRADE_REQUIRED {
            response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            response
                .headers_mut()
                .insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static(handshake::VERSION));
        }
        Box::new(response)
    })?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(key) = HeaderValue::from_str(&accepted.accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    }
    if let Some(protocol) = accepted.protocol.and_then(|name| HeaderValue::from_str(&name).ok()) {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    let deflate = accepted.deflate.filter(|_| shard.hub.settings.compress_from.is_some());
    if let Some(deflate) = deflate {
        headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(deflate.response()));
    }
    Ok((response, deflate.map(|deflate| deflate.server_max_window_bits)))
}

/// Waits for the end of the HTTP part and hands over the bare socket; hyper's buffers are given back.
pub(super) async fn bare_socket(upgrade: hyper::upgrade::OnUpgrade) -> Option<(Stream, Bytes)> {
    let upgraded = upgrade.await.ok()?;
    let parts = upgraded.downcast::<TokioIo<Paced>>().ok()?;
    // An empty rest would keep hyper's whole read buffer alive.
    let early =
        if parts.read_buf.is_empty() { Bytes::new() } else { Bytes::copy_from_slice(&parts.read_buf) };
    Some((parts.io.into_inner().into_stream(), early))
}

fn websocket(
    shard: &Rc<Shard>,
    from: From,
    head: Head,
    mut request: Request<HyperBody>,
    entry: Entry,
) -> Response<Body> {
    let (response, deflate) = match shake_hands(shard, &request) {
        Ok(shaken) => shaken,
        Err(refusal) => return *refusal,
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let shard = Rc::clone(shard);
    tokio::task::spawn_local(async move {
        if let Some((stream, early)) = bare_socket(upgrade).await {
            shard.open_socket(&from, &head, entry, (stream, early, deflate));
        }
    });
    response
}

impl Shard {
    /// A plain WebSocket has opened.
    fn open_socket(
        self: &Rc<Self>,
        from: &From,
        head: &Head,
        entry: Entry,
        (stream, early, deflate): (Stream, Bytes, Option<u8>),
    ) {
        let Some(home) = self.home(self.hub.workspaces.default_id()) else { return };
        let connection = Connection::new(self.fresh_id(), from.clone());
        let stream = Rc::new(stream);
        {
            let mut wire = connection.wire.borrow_mut();
            wire.stream = Some(Rc::clone(&stream));
            wire.deflate = deflate;
        }
        let every = entry.ping_ms;
        connection.put_slot(0, Slot::new(self, entry, None, home, None));
        self.admit(&connection);
        let next = clock::monotonic_ms() + every;
        connection.pings.set(Pings { every, next, unanswered: 0 });
        if every > 0 {
            self.remind(&connection, next);
        }
        self.with_session(&connection, 0, |session, scene, out| {
            connection.frame_limit.set(session.frame_limit());
            session.open(&head.opening(&connection, deflate.is_some()), scene, out);
        });
        let decoder = Decoder::new(self.hub.settings.max_message, deflate.is_some());
        tokio::task::spawn_local(Rc::clone(self).read_socket(connection, stream, decoder, early));
    }
}

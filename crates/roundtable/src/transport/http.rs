//! HTTP on a shard: upgrades to WebSocket, Engine.IO requests, and the REST router behind them.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body as _, Incoming as HyperBody};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use roundtable_dialects::engineio::{self, CloseReason, Request as EngineRequest, RequestError, Sid};
use roundtable_dialects::websocket::{Decoder, handshake};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tower_service::Service as _;

use super::connection::{Connection, Pings, Slot};
use super::engine::{EngineCall, PollReply, shard_of};
use super::listen::Place;
use super::origin;
use super::shard::{Shard, Socket, ToShard};
use super::stream::{self, Stream};
use super::{Entry, Head, Listener, Way};
use crate::clock;
use crate::watch::Spot;

/// Bytes of a request's head.
const MAX_HEAD: usize = 16 << 10;
/// What is left for a request's head after a slow handshake.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);
/// Silence after which nobody waits any more for the rest of a body that is thrown away.
const SILENCE: Duration = Duration::from_secs(1);

/// Who sent a request, for REST handlers (a request extension).
#[derive(Clone, Debug)]
pub struct From {
    /// The client's address.
    pub peer: std::net::IpAddr,
    /// Where it came in.
    pub listener: Arc<Listener>,
    /// Its place among the connections of its address; given back when nobody holds it any more.
    pub place: Arc<Place>,
}

impl From {
    /// Where it is, for whoever counts signs of attacks.
    pub fn spot(&self) -> Spot<'_> {
        (self.peer, &self.listener)
    }
}

/// Why the body of a request was left out (a request extension).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unread {
    /// It is larger than the server reads.
    TooLarge,
    /// It did not come whole in the time that one may take.
    TooSlow,
    /// The client went, or what it sent is no body.
    Cut,
}

/// Serves one TCP connection until it ends or becomes a WebSocket.
pub async fn serve(shard: Rc<Shard>, stream: TcpStream, (listener, place): (Arc<Listener>, Arc<Place>)) {
    let _ = stream.set_nodelay(true);
    let Ok(peer) = stream.peer_addr() else { return };
    let from = From { peer: peer.ip().to_canonical(), listener, place };
    let mut patience = Duration::from_millis(shard.hub.settings.patience);
    let stream = match from.listener.tls.as_ref() {
        None => Stream::Plain(stream),
        Some(pair) => {
            let began = clock::monotonic_ms();
            let stream = match tokio::time::timeout(patience, stream::accept(stream, pair.config())).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => return tracing::debug!("a TLS handshake took too long"),
            };
            // What is left is for the request's head.
            let took = Duration::from_millis(clock::monotonic_ms() - began);
            patience = patience.saturating_sub(took).max(LEAST_PATIENCE);
            stream
        }
    };
    let answer = {
        let shard = Rc::clone(&shard);
        hyper::service::service_fn(move |request| {
            let (shard, from) = (Rc::clone(&shard), from.clone());
            async move { Ok::<_, Infallible>(answer(shard, from, request).await) }
        })
    };
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), answer)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

async fn answer(shard: Rc<Shard>, from: From, request: Request<HyperBody>) -> Response<Body> {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    let door = (host.as_deref(), from.listener.anonymous);
    if !origin::allowed(origin.as_ref(), door, &shard.hub.settings.origins, &shard.hub.ports) {
        return plain(StatusCode::FORBIDDEN, r#"{"code":4,"message":"Forbidden"}"#, "application/json");
    }
    if request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
    {
        let asked = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        return origin::preflight(origin.as_ref(), asked);
    }
    let head = head_of(&request);
    let upgrade = request.headers().contains_key(header::UPGRADE);
    let mut response = match shard.doors.way(&head, upgrade, &from) {
        Way::Rest => rest(&shard, from, request).await,
        Way::WebSocket(entry) => websocket(&shard, from, head, request, entry),
        Way::SocketIo => engine(shard, from, head, request, None).await,
        Way::Engine(entry) => engine(shard, from, head, request, Some(entry)).await,
    };
    origin::permit(origin.as_ref(), response.headers_mut());
    response
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
    }
}

fn plain(status: StatusCode, body: impl Into<Body>, content_type: &'static str) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

async fn rest(shard: &Shard, from: From, mut request: Request<HyperBody>) -> Response<Body> {
    request.extensions_mut().insert(from);
    let (mut head, body) = request.into_parts();
    // Read whole before it is answered: a body left unread would cut off the end of a long answer.
    let read = read_body(shard, (&head.headers, body), shard.hub.settings.max_body).await;
    let read_whole = read.is_ok();
    let body = match read {
        Ok(body) => body,
        Err(Unread::Cut) => return plain(StatusCode::BAD_REQUEST, "", "text/plain"),
        Err(why) => {
            head.extensions.insert(why);
            Bytes::new()
        }
    };
    let response = match shard.router.clone().call(Request::from_parts(head, Body::from(body))).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    if read_whole { response } else { last(response) }
}

/// The last answer on a connection: what the client still sends belongs to a body that nobody reads.
fn last(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Reads a body of at most `limit` bytes in the time that one may take. One that is said to be larger is not begun with: the
/// client that asks whether to send it is not told to.
async fn read_body(
    shard: &Shard,
    (headers, body): (&HeaderMap, HyperBody),
    limit: usize,
) -> Result<Bytes, Unread> {
    let patience = Duration::from_millis(shard.hub.settings.body_patience);
    if body.size_hint().lower() > limit as u64 {
        if !headers.contains_key(header::EXPECT) {
            tokio::task::spawn_local(tokio::time::timeout(patience, discard(body)));
        }
        return Err(Unread::TooLarge);
    }
    match tokio::time::timeout(patience, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Unread::TooLarge),
        Ok(Err(_)) => Err(Unread::Cut),
        Err(_) => Err(Unread::TooSlow),
    }
}

/// Throws away what still comes of a body: closed at once, with bytes unread, the connection would take the refusal with it.
async fn discard(mut body: HyperBody) {
    while let Ok(Some(Ok(_))) = tokio::time::timeout(SILENCE, body.frame()).await {}
}

// ---- WebSocket ----

/// The answer to an upgrade request, and the window of compressed frames if compression was agreed on.
type Shaken = (Response<Body>, Option<u8>);

fn shake_hands(shard: &Shard, request: &Request<HyperBody>) -> Result<Shaken, Box<Response<Body>>> {
    let headers = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let accepted = handshake::check(request.method().as_str(), headers).map_err(|refusal| {
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
    let deflate = accepted.deflate.filter(|_| shard.hub.settings.compress_from.is_some());
    if let Some(deflate) = deflate {
        headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(deflate.response()));
    }
    Ok((response, deflate.map(|deflate| deflate.server_max_window_bits)))
}

/// Waits for the end of the HTTP part and hands over the bare socket; hyper's buffers are given back.
async fn bare_socket(upgrade: hyper::upgrade::OnUpgrade) -> Option<(Stream, Bytes)> {
    let upgraded = upgrade.await.ok()?;
    let parts = upgraded.downcast::<TokioIo<Stream>>().ok()?;
    // An empty rest would keep hyper's whole read buffer alive.
    let early =
        if parts.read_buf.is_empty() { Bytes::new() } else { Bytes::copy_from_slice(&parts.read_buf) };
    Some((parts.io.into_inner(), early))
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
            session.open(&head.opening(&connection, deflate.is_some()), scene, out);
        });
        let decoder = Decoder::new(self.hub.settings.max_message, deflate.is_some());
        tokio::task::spawn_local(Rc::clone(self).read_socket(connection, stream, decoder, early));
    }

    /// An Engine.IO session has opened over a WebSocket.
    fn open_engine_socket(
        self: &Rc<Self>,
        from: &From,
        head: Head,
        alone: Option<Entry>,
        (stream, early, deflate): (Stream, Bytes, Option<u8>),
    ) {
        let connection = Connection::new(self.fresh_id(), from.clone());
        let stream = Rc::new(stream);
        {
            let mut wire = connection.wire.borrow_mut();
            wire.stream = Some(Rc::clone(&stream));
            wire.deflate = deflate;
        }
        let packet = self.open_engine(&connection, head, alone, true);
        self.put_text(&connection, &packet);
        let decoder = Decoder::new(self.hub.settings.engine.max_payload, deflate.is_some());
        tokio::task::spawn_local(Rc::clone(self).read_socket(connection, stream, decoder, early));
    }
}

// ---- Engine.IO ----

fn engine_error(error: RequestError) -> Response<Body> {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    plain(status, error.body(), "application/json")
}

fn payload(body: impl Into<Body>) -> Response<Body> {
    plain(StatusCode::OK, body, "text/plain; charset=UTF-8")
}

async fn engine(
    shard: Rc<Shard>,
    from: From,
    head: Head,
    request: Request<HyperBody>,
    alone: Option<Entry>,
) -> Response<Body> {
    let upgrade = request.headers().contains_key(header::UPGRADE);
    let method = match *request.method() {
        Method::GET => engineio::Method::Get,
        Method::POST => engineio::Method::Post,
        _ => engineio::Method::Other,
    };
    match EngineRequest::parse(method, upgrade, &head.query) {
        Err(error) => engine_error(error),
        Ok(EngineRequest::OpenPolling) => {
            let connection = Connection::new(shard.fresh_id(), from);
            payload(shard.open_engine(&connection, head, alone, false))
        }
        Ok(EngineRequest::Poll(sid)) => poll(&shard, sid).await,
        Ok(EngineRequest::Post(sid)) => post(&shard, sid, request).await,
        Ok(EngineRequest::OpenWebSocket) => engine_socket(&shard, request, move |shard, socket| {
            shard.open_engine_socket(&from, head, alone, socket);
        }),
        Ok(EngineRequest::Upgrade(sid)) => {
            let Some(owner) = shard_of(&sid) else { return engine_error(RequestError::UnknownSid) };
            engine_socket(&shard, request, move |shard, (stream, early, deflate)| {
                if let Ok(stream) = stream.detach() {
                    let call = EngineCall::Upgrade(sid, Socket { stream, early, deflate });
                    shard.shards.to(owner, ToShard::Engine(call));
                }
            })
        }
    }
}

fn engine_socket(
    shard: &Rc<Shard>,
    mut request: Request<HyperBody>,
    then: impl FnOnce(Rc<Shard>, (Stream, Bytes, Option<u8>)) + 'static,
) -> Response<Body> {
    let (response, deflate) = match shake_hands(shard, &request) {
        Ok(shaken) => shaken,
        Err(_) => return engine_error(RequestError::BadRequest),
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let shard = Rc::clone(shard);
    tokio::task::spawn_local(async move {
        if let Some((stream, early)) = bare_socket(upgrade).await {
            then(shard, (stream, early, deflate));
        }
    });
    response
}

/// Tells the session when the HTTP connection of a waiting poll is cut.
struct PollGuard<'a> {
    shard: &'a Shard,
    owner: u16,
    sid: Sid,
    answered: bool,
}

impl Drop for PollGuard<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.shard.shards.to(self.owner, ToShard::Engine(EngineCall::PollGone(self.sid)));
        }
    }
}

async fn poll(shard: &Rc<Shard>, sid: Sid) -> Response<Body> {
    let Some(owner) = shard_of(&sid) else { return engine_error(RequestError::UnknownSid) };
    let (reply, answer) = oneshot::channel::<PollReply>();
    shard.shards.to(owner, ToShard::Engine(EngineCall::Poll(sid, reply)));
    let mut guard = PollGuard { shard, owner, sid, answered: false };
    let answer = answer.await;
    guard.answered = true;
    match answer {
        Ok(Ok(body)) => payload(body),
        Ok(Err(error)) => engine_error(error),
        Err(_) => engine_error(RequestError::UnknownSid),
    }
}

async fn post(shard: &Rc<Shard>, sid: Sid, request: Request<HyperBody>) -> Response<Body> {
    let Some(owner) = shard_of(&sid) else { return engine_error(RequestError::UnknownSid) };
    let (reply, welcome) = oneshot::channel();
    shard.shards.to(owner, ToShard::Engine(EngineCall::PostStart(sid, reply)));
    if let Err(error) = welcome.await.unwrap_or(Err(RequestError::UnknownSid)) {
        return engine_error(error);
    }
    let (head, body) = request.into_parts();
    let read = read_body(shard, (&head.headers, body), shard.hub.settings.engine.max_payload).await;
    let why = read.as_ref().err().copied();
    let body = read.map_err(|why| match why {
        Unread::TooLarge => CloseReason::TooLarge,
        Unread::TooSlow | Unread::Cut => CloseReason::TransportClosed,
    });
    let (reply, done) = oneshot::channel();
    shard.shards.to(owner, ToShard::Engine(EngineCall::Post(sid, body, reply)));
    match (done.await.unwrap_or(Err(RequestError::UnknownSid)), why) {
        (_, Some(Unread::TooSlow)) => last(plain(StatusCode::REQUEST_TIMEOUT, "", "text/plain")),
        (Ok(()), _) => plain(StatusCode::OK, "ok", "text/html"),
        (Err(error), Some(_)) => last(engine_error(error)),
        (Err(error), None) => engine_error(error),
    }
}

//! Long-polling: the HTTP requests of Engine.IO sessions, and what sessions do with them.

use std::rc::Rc;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming as HyperBody;
use roundtable_dialects::engineio::{
    self, Action, CloseReason, Get, Mode, PollAnswer, Post, Request as EngineRequest, RequestError, Sid,
    payload,
};
use roundtable_dialects::websocket::Opcode;
use tokio::sync::oneshot;

use super::client;
use super::connection::Connection;
use super::engine::{EngineCall, PollReply, shard_of};
use super::http::pace::Pace;
use super::http::{From, Reach, Unread, bare_socket, bodies, last, plain, shake_hands, wants_websocket};
use super::listen::FULL_MS;
use super::mailbox::Mailbox;
use super::shard::{Shard, Socket, ToShard};
use super::stream::Stream;
use super::turn::FRAME;
use super::{Entry, Head};
use crate::clock;

fn engine_error(error: RequestError) -> Response<Body> {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    plain(status, error.body(), "application/json")
}

fn packets(body: impl Into<Body>) -> Response<Body> {
    plain(StatusCode::OK, body, "text/plain; charset=UTF-8")
}

/// Answers a request to an Engine.IO path. `alone` is the one session where Engine.IO is used without Socket.IO.
pub async fn engine(
    shard: &Rc<Shard>,
    (from, head): (From, Head),
    request: Request<HyperBody>,
    alone: Option<Entry>,
    pace: &Pace,
) -> Response<Body> {
    let upgrade = wants_websocket(&request);
    let method = match *request.method() {
        Method::GET => engineio::Method::Get,
        Method::POST => engineio::Method::Post,
        _ => engineio::Method::Other,
    };
    match EngineRequest::parse(method, upgrade, &head.query) {
        Err(error) => engine_error(error),
        Ok(EngineRequest::OpenPolling | EngineRequest::OpenWebSocket)
            if alone.is_none() && head.kept().is_none() =>
        {
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            plain(status, RequestError::BadRequest.body(), "application/json")
        }
        Ok(EngineRequest::OpenPolling) => {
            // The session outlives the connection of its first request, so it has a place of its own.
            let place = if from.forwarded {
                Some(Arc::clone(&from.place))
            } else {
                from.place.another().map(Arc::new)
            };
            let Some(place) = place else { return client::crowded(FULL_MS) };
            let connection = Connection::new(shard.fresh_id(), From { place, ..from });
            packets(shard.open_engine(&connection, head, alone, false))
        }
        Ok(EngineRequest::Poll(sid)) => {
            // A poll waits for as long as its client does.
            pace.open_ended();
            poll(shard, sid).await
        }
        Ok(EngineRequest::Post(sid)) => post(shard, (from.peer, sid), request, pace).await,
        Ok(EngineRequest::OpenWebSocket) => engine_socket(shard, request, move |shard, socket| {
            shard.open_engine_socket(&from, head, alone, socket);
        }),
        Ok(EngineRequest::Upgrade(sid)) => {
            let Some(owner) = shard_of(&sid) else { return engine_error(RequestError::UnknownSid) };
            let (reply, known) = oneshot::channel();
            shard.shards.to(owner, ToShard::Engine(EngineCall::UpgradeStart(sid, reply)));
            if let Err(error) = known.await.unwrap_or(Err(RequestError::UnknownSid)) {
                return engine_error(error);
            }
            engine_socket(shard, request, move |shard, (stream, early, deflate)| {
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
        Ok(Ok(body)) => packets(body),
        Ok(Err(error)) => engine_error(error),
        Err(_) => engine_error(RequestError::UnknownSid),
    }
}

async fn post(
    shard: &Rc<Shard>,
    (peer, sid): (std::net::IpAddr, Sid),
    request: Request<HyperBody>,
    pace: &Pace,
) -> Response<Body> {
    let Some(owner) = shard_of(&sid) else { return engine_error(RequestError::UnknownSid) };
    let (reply, welcome) = oneshot::channel();
    shard.shards.to(owner, ToShard::Engine(EngineCall::PostStart(sid, reply)));
    let reach = match welcome.await.unwrap_or(Err(RequestError::UnknownSid)) {
        Ok(reach) => reach,
        Err(error) => return engine_error(error),
    };
    let (head, body) = request.into_parts();
    let hub = &shard.hub;
    let read =
        bodies::read(&hub.workers.bodies, (&hub.settings, peer), (&head.headers, body), reach, pace).await;
    let why = read.as_ref().err().copied();
    let (body, held) = read.map_or_else(|why| (Err(why), None), |(body, held)| (Ok(body), held));
    let body = body.map_err(|why| match why {
        Unread::TooLarge | Unread::Unproven => CloseReason::TooLarge,
        _ => CloseReason::TransportClosed,
    });
    let (reply, done) = oneshot::channel();
    shard.shards.to(owner, ToShard::Engine(EngineCall::Post(sid, body, reply)));
    let done = done.await.unwrap_or(Err(RequestError::UnknownSid));
    drop(held);
    match (done, why) {
        (_, Some(Unread::TooSlow)) => last(plain(StatusCode::REQUEST_TIMEOUT, "", "text/plain")),
        (Ok(()), _) => plain(StatusCode::OK, "ok", "text/html"),
        (Err(error), Some(_)) => last(engine_error(error)),
        (Err(error), None) => engine_error(error),
    }
}

impl Shard {
    /// A poll came in.
    pub fn poll(self: &Rc<Self>, connection: &Rc<Connection>, reply: oneshot::Sender<PollReply>) {
        self.prove_polled(connection);
        let queued = !connection.wire.borrow().mailbox.is_empty();
        let now = clock::monotonic_ms();
        let get = connection.engine.borrow_mut().as_mut().map(|side| side.engine.on_poll_get(queued, now));
        match get.unwrap_or(Get::Refuse(RequestError::UnknownSid)) {
            Get::Wait => {
                if let Some(side) = connection.engine.borrow_mut().as_mut() {
                    side.waiting_poll = Some(reply);
                }
            }
            Get::Packets => drop(reply.send(Ok(self.take_payload(connection)))),
            Get::Noop => drop(reply.send(Ok(b"6".to_vec()))),
            Get::Last => {
                let body = payload::encode_last(outgoing(&connection.wire.borrow().mailbox));
                let _ = reply.send(Ok(body));
                self.engine_closed(connection, CloseReason::ServerClose);
            }
            Get::Refuse(error) => drop(reply.send(Err(error))),
            Get::Close(error, waiting, reason) => {
                let _ = reply.send(Err(error));
                if let Some(answer) = waiting {
                    self.answer_waiting(connection, answer);
                }
                self.engine_closed(connection, reason);
            }
        }
    }

    fn take_payload(&self, connection: &Connection) -> Vec<u8> {
        let mut wire = connection.wire.borrow_mut();
        let (body, taken) = payload::encode(outgoing(&wire.mailbox), self.hub.settings.engine.max_payload);
        self.unqueued(wire.mailbox.take(taken));
        let empty = wire.mailbox.is_empty();
        drop(wire);
        if empty {
            connection.took_all();
        } else {
            self.watch_flow(connection, true);
        }
        connection.polled(taken);
        connection.relief.notify_waiters();
        body
    }

    /// Gives what waits to the poll that waits for it. Says whether this connection is polling.
    pub fn answer_poll(&self, connection: &Connection) -> bool {
        let taken = {
            let mut side = connection.engine.borrow_mut();
            let Some(side) = side.as_mut() else { return false };
            if side.engine.mode() == Mode::WebSocket || connection.wire.borrow().stream.is_some() {
                return false;
            }
            if connection.wire.borrow().mailbox.is_empty() {
                return true;
            }
            if !side.engine.take_poll() {
                self.watch_flow(connection, false);
                return true;
            }
            side.waiting_poll.take()
        };
        if let Some(reply) = taken {
            let _ = reply.send(Ok(self.take_payload(connection)));
        }
        true
    }

    /// Answers the poll that waits.
    pub fn answer_waiting(&self, connection: &Connection, answer: PollAnswer) {
        let waiting = connection.engine.borrow_mut().as_mut().and_then(|side| side.waiting_poll.take());
        if let Some(reply) = waiting {
            let body = match answer {
                PollAnswer::Noop => b"6".to_vec(),
                PollAnswer::Last => payload::encode_last(outgoing(&connection.wire.borrow().mailbox)),
            };
            let _ = reply.send(Ok(body));
        }
    }

    /// The head of a post came in.
    pub fn post_start(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        reply: oneshot::Sender<Result<Reach, RequestError>>,
    ) {
        let post = connection.engine.borrow_mut().as_mut().map(|side| side.engine.on_post_start());
        match post.unwrap_or(Post::Refuse(RequestError::UnknownSid)) {
            Post::Read => {
                let (limit, proven) = (self.allowance(connection).message, connection.known.get());
                let _ = reply.send(Ok(Reach { limit, proven }));
            }
            Post::Refuse(error) => drop(reply.send(Err(error))),
            Post::Close(error, waiting, reason) => {
                let _ = reply.send(Err(error));
                if let Some(answer) = waiting {
                    self.answer_waiting(connection, answer);
                }
                self.engine_closed(connection, reason);
            }
        }
    }

    /// The body of a post came in, or did not. Its packets are handled in turns, like frames.
    pub async fn post(
        self: Rc<Self>,
        connection: Rc<Connection>,
        body: Result<Bytes, CloseReason>,
        reply: oneshot::Sender<Result<(), RequestError>>,
    ) {
        let read = match &body {
            Ok(body) => {
                connection.meter.received(body.len());
                std::str::from_utf8(body).map_err(|_| CloseReason::InvalidPacket)
            }
            Err(reason) => Err(*reason),
        };
        let ended = match read {
            Ok(text) => self.packets(&connection, text).await,
            Err(reason) => {
                self.step(&connection, |side, _| side.engine.on_post_failed(reason));
                Some(reason)
            }
        };
        self.watch_half(&connection, false);
        // Whoever asked may have gone.
        let _ = reply.send(ended.and_then(CloseReason::post_error).map_or(Ok(()), Err));
    }

    /// Handles the packets of a post. Says why the session ended, if one of them ended it.
    async fn packets(self: &Rc<Self>, connection: &Rc<Connection>, text: &str) -> Option<CloseReason> {
        let mut packets = payload::decode(text);
        while self.its_turn(connection).await {
            let now = clock::monotonic_ms();
            let step = {
                let mut side = connection.engine.borrow_mut();
                let side = side.as_mut()?;
                // Nothing is decoded any more that comes after the end.
                let packet = if side.engine.is_open() { packets.next() } else { None };
                let Some(packet) = packet else {
                    side.engine.on_post_end();
                    return None;
                };
                side.engine.on_post_packet(packet, now, &self.hub.settings.engine)
            };
            connection.meter.spend(FRAME);
            let ended = if let Action::Closed(reason) = step.action { Some(reason) } else { None };
            self.do_step(connection, step);
            if ended.is_some() {
                return ended;
            }
        }
        None
    }
}

/// What waits in a mailbox, as packets of a polling payload.
fn outgoing(mailbox: &Mailbox) -> impl Iterator<Item = payload::Outgoing<'_>> + Clone {
    mailbox.frames().map(|frame| match frame.opcode() {
        Opcode::Binary => payload::Outgoing::Binary(frame.payload()),
        _ => payload::Outgoing::Text(frame.payload()),
    })
}

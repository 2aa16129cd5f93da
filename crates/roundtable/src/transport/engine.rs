//! Driving Engine.IO and Socket.IO: polls, posts, upgrades, heartbeats, namespaces.

use std::rc::Rc;

use bytes::Bytes;
use roundtable_dialects::engineio::{
    Action, CloseReason, Engine, Message, Mode, PING, PROBE_ANSWER, RequestError, Sid, Step,
};
use roundtable_dialects::session::{Input, Opening, Sign};
use roundtable_dialects::socketio::{self, Attempt, INVALID_NAMESPACE, Namespaces};
use roundtable_dialects::websocket::{Decoder, Frame, Incoming};
use tokio::sync::oneshot;

use super::connection::{Connection, Ending, Slot};
use super::deliver::Frames;
use super::http::{From, Reach};
use super::probes::Probe;
use super::shard::{Shard, Socket};
use super::stream::Stream;
use super::{Entry, Head};
use crate::clock;

/// What a poll is answered with: the body, or an error.
pub type PollReply = Result<Vec<u8>, RequestError>;

/// An HTTP request for an Engine.IO session, on its way to the shard that has it.
pub enum EngineCall {
    /// A poll.
    Poll(Sid, oneshot::Sender<PollReply>),
    /// The connection of a waiting poll was cut.
    PollGone(Sid),
    /// The head of a post came; how much of its body is wanted?
    PostStart(Sid, oneshot::Sender<Result<Reach, RequestError>>),
    /// The body of a post, or why there is none.
    Post(Sid, Result<Bytes, CloseReason>, oneshot::Sender<Result<(), RequestError>>),
    /// A request for a WebSocket came; is there such a session?
    UpgradeStart(Sid, oneshot::Sender<Result<(), RequestError>>),
    /// A WebSocket for a session that polls.
    Upgrade(Sid, Socket),
}

/// The Engine.IO side of a connection.
pub struct EngineSide {
    /// The state of the transport.
    pub engine: Engine,
    /// The state of Socket.IO; none where Engine.IO is used alone.
    namespaces: Option<Namespaces>,
    /// What every CONNECT may look at of the request that opened the session.
    head: Head,
    /// The poll that waits.
    pub waiting_poll: Option<oneshot::Sender<PollReply>>,
    /// When the newest ping was put into the mailbox.
    pinged_at: u64,
    /// Probes of a client that polls, each with how many frames wait before it.
    pub probes: Vec<(Probe, usize)>,
    /// A WebSocket that has not taken over yet, and the compression agreed on for it.
    probing: Option<(Rc<Stream>, Option<u8>)>,
    /// Code and reason of the close frame, if it is for a broken rule.
    broken: Option<(u16, String)>,
}

impl EngineSide {
    /// Whether half of a Socket.IO packet is here.
    pub fn is_assembling(&self) -> bool {
        self.namespaces.as_ref().is_some_and(Namespaces::is_assembling)
    }

    /// Somebody has shown who it is.
    pub fn becomes_known(&mut self) {
        self.namespaces.iter_mut().for_each(Namespaces::becomes_known);
    }
}

/// How long a client that has ended its session has to close its socket.
const LEFT_MS: u64 = 1_000;
/// The first character of a session id says which shard has it.
const SHARD_MARKS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The shard that made this session id.
pub fn shard_of(sid: &Sid) -> Option<u16> {
    let mark = sid.as_str().bytes().next()?;
    SHARD_MARKS.iter().position(|known| *known == mark).and_then(|place| u16::try_from(place).ok())
}

impl Shard {
    fn fresh_sid(&self) -> Sid {
        let mut random = clock::random_bytes::<15>();
        if let (Some(first), Ok(number)) = (random.first_mut(), u8::try_from(self.number)) {
            *first = (number << 2) | (*first & 3);
        }
        Sid::from_random(random)
    }

    /// Opens an Engine.IO session. `alone` is its one session where Engine.IO is used without Socket.IO.
    pub fn open_engine(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        head: Head,
        alone: Option<Entry>,
        websocket: bool,
    ) -> String {
        let settings = &self.hub.settings;
        let now = clock::monotonic_ms();
        let engine = Engine::open(self.fresh_sid(), websocket, now, &settings.engine);
        let packet = engine.open_packet(&settings.engine);
        self.sids.borrow_mut().insert(*engine.sid(), connection.id);
        let namespaces = alone.is_none().then(|| Namespaces::new(now, &settings.sockets));
        let kept = head.kept().filter(|_| namespaces.is_some()).unwrap_or_default();
        let side = EngineSide {
            engine,
            namespaces,
            head: kept,
            waiting_poll: None,
            pinged_at: 0,
            probes: Vec::new(),
            probing: None,
            broken: None,
        };
        *connection.engine.borrow_mut() = Some(Box::new(side));
        self.admit(connection);
        self.engine_time(connection, now);
        if let (Some(entry), Some(home)) = (alone, self.home(self.hub.workspaces.default_id())) {
            // The namespace marks the session as one within an engine; its name is never seen.
            connection.put_slot(0, Slot::new(self, entry, Some(Rc::from("/")), home, None));
            self.with_session(connection, 0, |session, scene, out| {
                session.open(&head.opening(connection, false), scene, out);
            });
        }
        packet
    }

    /// An Engine.IO session has opened over a WebSocket.
    pub fn open_engine_socket(
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

    /// Handles a request for a session of this shard.
    pub fn engine_call(self: &Rc<Self>, call: EngineCall) {
        let (EngineCall::Poll(sid, _)
        | EngineCall::PollGone(sid)
        | EngineCall::PostStart(sid, _)
        | EngineCall::Post(sid, ..)
        | EngineCall::UpgradeStart(sid, _)
        | EngineCall::Upgrade(sid, _)) = &call;
        let id = self.sids.borrow().get(sid).copied();
        let connection = id.and_then(|id| self.connections.borrow().get(&id).cloned());
        match (call, connection) {
            (EngineCall::Poll(_, reply), Some(connection)) => self.poll(&connection, reply),
            (EngineCall::PollGone(_), Some(connection)) => {
                self.step(&connection, |side, _| side.engine.on_poll_aborted());
            }
            (EngineCall::PostStart(_, reply), Some(connection)) => self.post_start(&connection, reply),
            (EngineCall::Post(_, body, reply), Some(connection)) => {
                tokio::task::spawn_local(Rc::clone(self).post(connection, body, reply));
            }
            (EngineCall::UpgradeStart(_, reply), connection) => {
                let _ = reply.send(connection.map(drop).ok_or(RequestError::UnknownSid));
            }
            (EngineCall::Upgrade(_, socket), Some(connection)) => self.upgrade(&connection, socket),
            (EngineCall::Poll(_, reply), None) => drop(reply.send(Err(RequestError::UnknownSid))),
            (EngineCall::PostStart(_, reply), None) => drop(reply.send(Err(RequestError::UnknownSid))),
            (EngineCall::Post(_, _, reply), None) => drop(reply.send(Err(RequestError::UnknownSid))),
            (EngineCall::PollGone(_) | EngineCall::Upgrade(..), None) => {}
        }
    }

    /// Lets the engine take an input and does what follows from it.
    pub fn step<'a>(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        input: impl FnOnce(&mut EngineSide, &super::Settings) -> Step<'a>,
    ) {
        let step = connection.engine.borrow_mut().as_mut().map(|side| input(side, &self.hub.settings));
        if let Some(step) = step {
            self.do_step(connection, step);
        }
    }

    /// Does what follows from a step.
    pub fn do_step(self: &Rc<Self>, connection: &Rc<Connection>, step: Step<'_>) {
        if let Some(answer) = step.waiting_poll {
            self.answer_waiting(connection, answer);
        }
        match step.action {
            Action::Nothing => {}
            Action::Message(message) => self.engine_message(connection, message),
            Action::SendPing => {
                if let Some(side) = connection.engine.borrow_mut().as_mut() {
                    side.pinged_at = clock::monotonic_ms();
                }
                self.put_text(connection, PING);
            }
            Action::AnswerProbe => {
                let probing = connection.engine.borrow().as_ref().and_then(|side| side.probing.clone());
                if let Some((stream, _)) = probing {
                    // The first bytes on a fresh socket always fit.
                    let _ = stream.try_write(Frame::text(PROBE_ANSWER).wire());
                }
            }
            Action::Upgraded => {
                let probing = connection.engine.borrow_mut().as_mut().and_then(|side| side.probing.take());
                if let Some((stream, deflate)) = probing {
                    let mut wire = connection.wire.borrow_mut();
                    wire.stream = Some(stream);
                    wire.deflate = deflate;
                }
                self.mark_dirty(connection);
                self.carry_probes_over(connection);
            }
            Action::AbandonUpgrade => self.abandon_probe(connection),
            Action::Closed(reason) => {
                connection.because(reason.as_str());
                self.engine_closed(connection, reason);
            }
        }
        self.engine_time_set(connection);
    }

    /// Queues an Engine.IO text packet.
    pub fn put_text(self: &Rc<Self>, connection: &Rc<Connection>, packet: &str) {
        self.put(connection, Frames::from_iter([Frame::text(packet)]));
    }

    fn abandon_probe(&self, connection: &Connection) {
        let probing = connection.engine.borrow_mut().as_mut().and_then(|side| side.probing.take());
        if let Some((stream, _)) = probing {
            stream.shut();
        }
    }

    /// The session is over; its transport follows it.
    pub fn engine_closed(self: &Rc<Self>, connection: &Rc<Connection>, reason: CloseReason) {
        self.abandon_probe(connection);
        let sid = connection.engine.borrow().as_ref().map(|side| *side.engine.sid());
        if let Some(sid) = sid {
            self.sids.borrow_mut().remove(&sid);
        }
        let stream = connection.wire.borrow().stream.clone();
        match (stream, reason) {
            (None, _) => self.forget(connection),
            (Some(stream), CloseReason::PingTimeout | CloseReason::TransportClosed) => {
                stream.shut();
                self.forget(connection);
            }
            (Some(_), CloseReason::ClientClose) => self.leave_socket(connection),
            (Some(_), _) => {
                let broken = connection.engine.borrow_mut().as_mut().and_then(|side| side.broken.take());
                let (code, why) = broken.unwrap_or((reason.close_code(), String::new()));
                self.put(connection, Frames::from_iter([Frame::close(Some(code), &why)]));
                self.cut_after_writing(connection);
            }
        }
    }

    /// The client has ended the session by a packet and is about to close its socket: whoever closes first has ended it for
    /// good, and some client libraries come back if that is the server.
    fn leave_socket(self: &Rc<Self>, connection: &Rc<Connection>) {
        for slot in 0..connection.slot_count() {
            self.end_session(connection, slot);
        }
        let until = clock::monotonic_ms() + LEFT_MS;
        connection.ending.set(Ending::Left(until));
        self.remind(connection, until);
    }

    /// Ends an Engine.IO connection for a broken rule, with this code and reason where it has a WebSocket.
    pub fn break_engine(self: &Rc<Self>, connection: &Rc<Connection>, code: u16, reason: impl Into<String>) {
        if let Some(side) = connection.engine.borrow_mut().as_mut() {
            side.broken = Some((code, reason.into()));
        }
        self.close_engine(connection);
    }

    /// Ends an Engine.IO connection from the server's side; what waits is written first.
    pub fn close_engine(self: &Rc<Self>, connection: &Rc<Connection>) {
        let now = clock::monotonic_ms();
        self.step(connection, |side, settings| side.engine.close(now, &settings.engine));
        let waits = |side: &EngineSide| side.engine.mode() != Mode::Closed && !side.engine.is_open();
        let waits = connection.engine.borrow().as_deref().is_some_and(waits);
        // For a stranger that does not ask nothing is kept until it does.
        if waits && !connection.known.get() {
            self.forget(connection);
        }
    }

    /// Puts a client out of namespaces, then ends its transport.
    pub fn kick(self: &Rc<Self>, connection: &Rc<Connection>, slots: std::ops::Range<u8>) {
        connection.because("put out");
        for slot in slots {
            let packet = connection.engine.borrow_mut().as_mut().and_then(|side| {
                let namespaces = side.namespaces.as_mut()?;
                let place = namespaces.connected().find(|place| place.index() == usize::from(slot))?;
                namespaces.disconnect(place)
            });
            if let Some(packet) = packet {
                self.put_text(connection, &packet);
            }
        }
        // A client that gets this and the end of the transport in one poll takes it for a transport that broke, and comes back.
        self.flush(connection);
        self.close_engine(connection);
    }

    // ---- WebSocket ----

    fn upgrade(self: &Rc<Self>, connection: &Rc<Connection>, socket: Socket) {
        let Ok(stream) = socket.stream.attach().map(Rc::new) else { return };
        let now = clock::monotonic_ms();
        let taken = {
            let mut side = connection.engine.borrow_mut();
            let Some(side) = side.as_mut() else { return stream.shut() };
            let welcome = side.engine.on_upgrade_open(now, &self.hub.settings.engine);
            if welcome {
                side.probing = Some((Rc::clone(&stream), socket.deflate));
            }
            welcome
        };
        if !taken {
            return stream.shut();
        }
        self.engine_time_set(connection);
        let decoder = Decoder::new(self.hub.settings.engine.max_payload, socket.deflate.is_some());
        let reader = Rc::clone(self).read_socket(Rc::clone(connection), stream, decoder, socket.early);
        tokio::task::spawn_local(reader);
    }

    /// A frame from the WebSocket of an Engine.IO session.
    pub fn engine_frame(self: &Rc<Self>, connection: &Rc<Connection>, incoming: Incoming<'_>) {
        let now = clock::monotonic_ms();
        match incoming {
            Incoming::Text(text) => {
                self.step(connection, |side, settings| side.engine.on_ws_text(text, now, &settings.engine));
            }
            Incoming::Binary(bytes) => self.step(connection, |side, _| side.engine.on_ws_binary(bytes)),
            Incoming::Part
            | Incoming::Unread
            | Incoming::Ping(_)
            | Incoming::Pong(_)
            | Incoming::Close { .. } => {}
        }
    }

    /// The client closes its WebSocket: the frame is answered, then the engine hears of it.
    pub fn engine_socket_closed(self: &Rc<Self>, connection: &Rc<Connection>, code: Option<u16>) {
        let stream = connection.wire.borrow().stream.clone();
        if let Some(stream) = stream {
            let _ = stream.try_write(Frame::close(code, "").wire());
            stream.shut();
        } else {
            self.abandon_probe(connection);
        }
    }

    /// The WebSocket of an Engine.IO session has ended, or one that only tried to take over.
    pub fn engine_socket_ended(self: &Rc<Self>, connection: &Rc<Connection>, stream: &Rc<Stream>) {
        let current = connection.wire.borrow().stream.as_ref().is_some_and(|own| Rc::ptr_eq(own, stream));
        let probing = connection
            .engine
            .borrow()
            .as_ref()
            .and_then(|side| side.probing.as_ref())
            .is_some_and(|(own, _)| Rc::ptr_eq(own, stream));
        if current || probing {
            self.step(connection, |side, _| side.engine.on_ws_closed());
            if probing {
                self.abandon_probe(connection);
            }
        }
        if current && !connection.lives() {
            self.forget(connection);
        }
    }

    // ---- Socket.IO ----

    fn engine_message(self: &Rc<Self>, connection: &Rc<Connection>, message: Message<'_>) {
        let alone = connection.engine.borrow().as_ref().is_some_and(|side| side.namespaces.is_none());
        if alone {
            return self.with_session(connection, 0, |session, scene, out| match &message {
                Message::Text(text) => session.input(Input::Text(text), scene, out),
                Message::Binary(bytes) => session.input(Input::Binary(bytes), scene, out),
            });
        }
        let step = {
            let mut side = connection.engine.borrow_mut();
            let Some(namespaces) = side.as_mut().and_then(|side| side.namespaces.as_mut()) else { return };
            let config = &self.hub.settings.sockets;
            match message {
                Message::Text(text) => namespaces.on_text(text, config),
                Message::Binary(bytes) => namespaces.on_binary(bytes, config),
            }
        };
        self.socketio_step(connection, step);
    }

    pub fn socketio_step(self: &Rc<Self>, connection: &Rc<Connection>, step: socketio::Step<'_>) {
        match step {
            socketio::Step::Nothing => {}
            socketio::Step::Connect { attempt, namespace, auth } => {
                self.knock(connection, attempt, namespace, auth);
            }
            socketio::Step::Event(event) => {
                let slot = u8::try_from(event.slot.index()).unwrap_or(u8::MAX);
                let input = Input::Event {
                    name: &event.name,
                    args: event.args.raw(),
                    attachments: event.args.attachments(),
                    ack: event.ack,
                };
                self.with_session(connection, slot, |session, scene, out| session.input(input, scene, out));
            }
            socketio::Step::Ack(ack) => {
                let slot = u8::try_from(ack.slot.index()).unwrap_or(u8::MAX);
                let input = Input::Answer {
                    number: ack.id,
                    args: ack.args.raw(),
                    attachments: ack.args.attachments(),
                };
                self.with_session(connection, slot, |session, scene, out| session.input(input, scene, out));
            }
            socketio::Step::Complete(assembled) => self.socketio_step(connection, assembled.read()),
            socketio::Step::Disconnect(slot) => {
                self.end_session(connection, u8::try_from(slot.index()).unwrap_or(u8::MAX));
                let (now, config) = (clock::monotonic_ms(), &self.hub.settings.sockets);
                let mut side = connection.engine.borrow_mut();
                side.iter_mut()
                    .flat_map(|side| &mut side.namespaces)
                    .for_each(|all| all.on_left(now, config));
            }
            socketio::Step::Close(violation) => {
                tracing::debug!(%violation, "a Socket.IO client broke the rules");
                self.hub.watch.saw(Sign::Malformed, connection.from.spot());
                self.break_engine(connection, violation.close_code(), violation.to_string());
            }
        }
    }

    /// Somebody is at the door of a namespace.
    fn knock(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        attempt: Attempt,
        namespace: &str,
        auth: Option<&serde_json::value::RawValue>,
    ) {
        let Some(head) = connection.engine.borrow().as_ref().map(|side| side.head.clone()) else { return };
        let deflate = connection.wire.borrow().deflate.is_some();
        let opening = Opening { namespace, auth, ..head.opening(connection, deflate) };
        let entry = self.doors.namespace(&opening);
        let (Some(entry), Some(home)) = (entry, self.home(self.hub.workspaces.default_id())) else {
            return self.answer_attempt(connection, |namespaces| {
                namespaces.refuse(attempt, INVALID_NAMESPACE, None)
            });
        };
        let number = attempt.slot().index();
        self.end_session(connection, u8::try_from(number).unwrap_or(u8::MAX));
        connection.put_slot(number, Slot::new(self, entry, Some(namespace.into()), home, Some(attempt)));
        self.with_session(connection, u8::try_from(number).unwrap_or(u8::MAX), |session, scene, out| {
            session.open(&opening, scene, out);
        });
    }

    fn answer_attempt(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        answer: impl FnOnce(&mut Namespaces) -> Option<String>,
    ) {
        let packet = {
            let mut side = connection.engine.borrow_mut();
            side.as_mut().and_then(|side| side.namespaces.as_mut()).and_then(answer)
        };
        if let Some(packet) = packet {
            self.put_text(connection, &packet);
        }
    }

    /// The session lets its client in.
    pub fn accept(self: &Rc<Self>, connection: &Rc<Connection>, slot: u8) {
        let sid = self.fresh_sid();
        if let Some(attempt) = connection.with_slot(slot, |slot| slot.attempt.take()).flatten() {
            self.answer_attempt(connection, |namespaces| namespaces.accept(attempt, sid));
        }
    }

    /// The session keeps its client out; it may knock again.
    pub fn refuse(self: &Rc<Self>, connection: &Rc<Connection>, slot: u8, message: &str, data: Option<&str>) {
        if let Some(attempt) = connection.with_slot(slot, |slot| slot.attempt.take()).flatten() {
            self.answer_attempt(connection, |namespaces| namespaces.refuse(attempt, message, data));
        }
        if connection.engine.borrow().is_none() {
            self.close_socket(connection, Some(roundtable_dialects::websocket::close::POLICY), message);
        }
        self.end_session(connection, slot);
    }

    // ---- time ----

    fn engine_time_set(&self, connection: &Connection) {
        let due = connection.engine.borrow().as_ref().and_then(|side| {
            let sockets = side.namespaces.as_ref().and_then(Namespaces::next_deadline);
            side.engine.next_deadline().into_iter().chain(sockets).min()
        });
        if let (Some(due), true) = (due, connection.ending.get() == Ending::No) {
            self.remind(connection, due);
        }
    }

    /// A client that takes what waits for it has not come to the ping yet: it has more time for its pong.
    fn bear_with(&self, connection: &Connection, now: u64) {
        let (waiting, taken_at) = (connection.waiting_bytes() > 0, connection.flow.get().taken_at);
        if let Some(side) = connection.engine.borrow_mut().as_mut()
            && waiting
            && taken_at > side.pinged_at
        {
            side.pinged_at = now;
            side.engine.on_bytes(now, &self.hub.settings.engine);
        }
    }

    /// Lets time pass for the engine and its namespaces.
    pub fn engine_time(self: &Rc<Self>, connection: &Rc<Connection>, now: u64) {
        let late = connection
            .engine
            .borrow_mut()
            .as_mut()
            .and_then(|side| side.namespaces.as_mut())
            .map(|namespaces| namespaces.on_tick(now));
        if let Some(step) = late {
            self.socketio_step(connection, step);
        }
        for _ in 0..3 {
            let due = connection.engine.borrow().as_ref().and_then(|side| side.engine.next_deadline());
            if due.is_none_or(|due| due > now) {
                break;
            }
            self.bear_with(connection, now);
            let sends = connection.meter.proves_life(self.hub.settings.engine.ping_timeout);
            self.step(connection, |side, settings| {
                if sends {
                    side.engine.on_bytes(now, &settings.engine);
                }
                side.engine.on_tick(now, &settings.engine)
            });
        }
        self.engine_time_set(connection);
    }
}

//! Reading and writing sockets: buffers on loan, vectored writes, time.

use std::io::{ErrorKind, IoSlice};
use std::ops::ControlFlow;
use std::rc::Rc;

use bytes::Bytes;
use roundtable_dialects::session::{Input, Sign};
use roundtable_dialects::websocket::{self, Decoder, Frame, Incoming, Sink};

use super::connection::{Connection, Ending};
use super::deliver::Frames;
use super::probes::Probe;
use super::shard::Shard;
use super::stream::Stream;
use super::turn::{FRAME, REFUSED};
use crate::clock;

/// What a stranger is told whose message stays half.
const HALF: &str = "the rest of a message did not come in time";
/// Slices of one vectored write.
const SLICES: usize = 64;

/// The receiving side of a WebSocket.
struct Reader {
    decoder: Decoder,
    /// Bytes that came and were not decoded yet, and how many of them were.
    held: Vec<u8>,
    used: usize,
}

/// Takes what the decoder hands out, and says when it is enough.
struct Turn<'a> {
    shard: &'a Rc<Shard>,
    connection: &'a Rc<Connection>,
}

impl Sink for Turn<'_> {
    /// Nothing is read that comes after a refusal or a close, or beyond what the dialect allows.
    fn wants(&mut self) -> bool {
        let limit = self.connection.frame_limit.get();
        self.connection.lives() && limit.is_none_or(|limit| self.connection.meter.admits_frame(limit))
    }

    fn inflated(&mut self, bytes: usize) {
        self.connection.meter.inflated(bytes);
    }

    fn take(&mut self, item: Incoming<'_>) -> ControlFlow<()> {
        self.connection.meter.spend(FRAME);
        self.shard.take_incoming(self.connection, item);
        if self.connection.meter.is_over() || self.shard.must_wait(self.connection) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

impl Shard {
    /// Reads a WebSocket until it ends. `early` is what came with the upgrade request.
    pub async fn read_socket(
        self: Rc<Self>,
        connection: Rc<Connection>,
        stream: Rc<Stream>,
        decoder: Decoder,
        early: Bytes,
    ) {
        let mut reader = Reader { decoder, held: Vec::from(early), used: 0 };
        while self.its_turn(&connection).await {
            if !reader.held.is_empty() {
                self.feed_held(&connection, &mut reader);
            } else if connection.meter.rest(stream.readable()).await.is_err()
                || !self.read_once(&connection, &stream, &mut reader)
            {
                break;
            }
        }
        self.socket_ended(&connection, &stream);
    }

    /// Reads what is there. Says `false` at the end of the socket.
    fn read_once(self: &Rc<Self>, connection: &Rc<Connection>, stream: &Stream, reader: &mut Reader) -> bool {
        let mut buffer = self.read_buffer.borrow_mut();
        let most = self.allowance(connection).read.min(buffer.len());
        match stream.try_read(buffer.get_mut(..most).unwrap_or_default()) {
            Ok(0) => false,
            Ok(count) => {
                connection.meter.received(count);
                let Some(bytes) = buffer.get_mut(..count) else { return false };
                let used = self.feed(connection, &mut reader.decoder, bytes);
                if let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) {
                    reader.held = Vec::from(rest);
                }
                true
            }
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }

    fn feed_held(self: &Rc<Self>, connection: &Rc<Connection>, reader: &mut Reader) {
        let bytes = reader.held.get_mut(reader.used..).unwrap_or_default();
        reader.used += self.feed(connection, &mut reader.decoder, bytes);
        if reader.used >= reader.held.len() {
            (reader.held, reader.used) = (Vec::new(), 0);
        }
    }

    /// Decodes bytes until they or the connection's turn are at their end. Says how many were used.
    fn feed(self: &Rc<Self>, connection: &Rc<Connection>, decoder: &mut Decoder, bytes: &mut [u8]) -> usize {
        decoder.set_max_message(self.allowance(connection).message);
        let fed = {
            let mut inflater = self.inflater.borrow_mut();
            decoder.feed(bytes, &mut inflater, &mut Turn { shard: self, connection })
        };
        self.watch_half(connection, decoder.is_waiting());
        fed.unwrap_or_else(|error| {
            if connection.lives() {
                self.break_off(connection, error);
            }
            // What follows cannot be understood.
            bytes.len()
        })
    }

    /// The client broke the rules of the framing.
    fn break_off(self: &Rc<Self>, connection: &Rc<Connection>, error: websocket::Error) {
        self.hub.watch.saw(Sign::Malformed, connection.from.spot());
        if connection.engine.borrow().is_some() {
            return self.break_engine(connection, error.code, error.reason);
        }
        if error.code == websocket::close::TOO_BIG {
            self.with_session(connection, 0, |session, scene, out| session.oversized(scene, out));
        }
        self.close_socket(connection, Some(error.code), error.reason);
        // Whoever breaks the rules is not waited for (RFC 6455 section 7.1.7).
        self.cut_after_writing(connection);
    }

    /// Half of something of a stranger has to become whole in time.
    pub fn watch_half(&self, connection: &Connection, decoding: bool) {
        let half = decoding || connection.engine.borrow().as_ref().is_some_and(|side| side.is_assembling());
        let since = connection.meter.half(half && !connection.known.get());
        if let Some(since) = since.filter(|_| connection.lives()) {
            self.remind(connection, since + self.hub.settings.patience);
        }
    }

    fn take_incoming(self: &Rc<Self>, connection: &Rc<Connection>, incoming: Incoming<'_>) {
        connection.alive();
        if let Incoming::Close { code, .. } = incoming {
            if connection.engine.borrow().is_some() {
                return self.engine_socket_closed(connection, code);
            }
            // The answer carries the same code; a client that answers our own close frame gets none.
            if connection.lives() {
                self.put(connection, Frames::from_iter([Frame::close(code, "")]));
            }
            return self.cut_after_writing(connection);
        }
        if !connection.lives() {
            return;
        }
        match incoming {
            Incoming::Ping(payload) => {
                self.put(connection, Frames::from_iter([Frame::pong(payload)]));
            }
            Incoming::Text(_) | Incoming::Binary(_) if connection.engine.borrow().is_some() => {
                self.engine_frame(connection, incoming);
            }
            Incoming::Text(text) => {
                self.with_session(connection, 0, |session, scene, out| {
                    session.input(Input::Text(text), scene, out);
                });
            }
            Incoming::Binary(bytes) => {
                self.with_session(connection, 0, |session, scene, out| {
                    session.input(Input::Binary(bytes), scene, out);
                });
            }
            Incoming::Unread => {
                connection.meter.spend(REFUSED);
                let after = connection.meter.frames_after();
                self.with_session(connection, 0, |session, scene, out| session.too_fast(after, scene, out));
            }
            Incoming::Pong(payload) => {
                if let Some(probe) = Probe::read(payload) {
                    self.proven(connection, probe);
                }
            }
            Incoming::Part | Incoming::Close { .. } => {}
        }
    }

    /// Writes what waits, as far as the socket takes it. A task waits for a full socket, and only for a full one.
    pub fn flush(self: &Rc<Self>, connection: &Rc<Connection>) {
        if connection.draining.get() || self.answer_poll(connection) {
            return;
        }
        let Some(stream) = connection.wire.borrow().stream.clone() else { return };
        let mut took = false;
        loop {
            let mut wire = connection.wire.borrow_mut();
            let written = if wire.mailbox.is_empty() {
                match stream.try_flush() {
                    Ok(()) => break,
                    Err(error) => Err(error),
                }
            } else {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let used = wire.mailbox.slices(&mut slices);
                stream.try_write_vectored(slices.get(..used).unwrap_or_default())
            };
            match written {
                Ok(count) => {
                    took |= count > 0;
                    self.unqueued(count);
                    wire.mailbox.advance(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    drop(wire);
                    self.watch_flow(connection, took);
                    if took {
                        connection.relief.notify_waiters();
                    }
                    connection.draining.set(true);
                    tokio::task::spawn_local(
                        Rc::clone(self).drain(Rc::clone(connection), Rc::clone(&stream)),
                    );
                    return;
                }
                Err(_) => {
                    drop(wire);
                    return stream.shut();
                }
            }
        }
        connection.took_all();
        connection.relief.notify_waiters();
        if let Ending::Cutting(_) = connection.ending.get() {
            // Only this direction: cutting both would throw away what was just written if the client still sends.
            stream.finish();
        }
    }

    /// Something waits for a client, which `took` some of it or nothing: it is looked after whether it takes more.
    pub fn watch_flow(&self, connection: &Connection, took: bool) {
        let stuck_since = connection.waits(took, clock::monotonic_ms());
        self.remind(connection, stuck_since + self.hub.settings.stall);
    }

    /// Whether a client has taken nothing for too long of what waits for it.
    fn has_stalled(&self, connection: &Connection, now: u64) -> bool {
        let since = connection.flow.get().stuck_since;
        if since == 0 || connection.waiting_bytes() == 0 {
            return false;
        }
        let until = since + self.hub.settings.stall;
        if now < until {
            self.remind(connection, until);
        }
        now >= until
    }

    async fn drain(self: Rc<Self>, connection: Rc<Connection>, stream: Rc<Stream>) {
        let writable = stream.writable().await;
        connection.draining.set(false);
        match writable {
            Ok(()) => self.flush(&connection),
            Err(_) => stream.shut(),
        }
    }

    /// The socket of a connection has ended.
    fn socket_ended(self: &Rc<Self>, connection: &Rc<Connection>, stream: &Rc<Stream>) {
        if connection.engine.borrow().is_some() {
            return self.engine_socket_ended(connection, stream);
        }
        self.forget(connection);
    }

    /// A time that a connection asked for has come.
    pub fn on_time(self: &Rc<Self>, connection: &Rc<Connection>, now: u64) {
        match connection.ending.get() {
            Ending::Gone => return,
            Ending::Closing(until) | Ending::Cutting(until) => {
                if now < until {
                    return self.remind(connection, until);
                }
                let stream = connection.wire.borrow().stream.clone();
                if let Some(stream) = stream {
                    stream.shut();
                }
                return self.forget(connection);
            }
            Ending::Left(until) if now < until => return self.remind(connection, until),
            Ending::Left(_) => {
                self.queue(connection, Frame::close(Some(websocket::close::NORMAL), ""));
                return self.cut_after_writing(connection);
            }
            Ending::No => {}
        }
        self.end_half(connection, now);
        if self.has_stalled(connection, now) {
            return self.stalled(connection);
        }
        self.ping(connection, now);
        self.engine_time(connection, now);
        self.wake(connection, now);
    }

    /// A stranger that sent half of something and not the rest has to go.
    fn end_half(self: &Rc<Self>, connection: &Rc<Connection>, now: u64) {
        let Some(since) = connection.meter.half_since().filter(|_| !connection.known.get()) else { return };
        let until = since + self.hub.settings.patience;
        if now < until {
            return self.remind(connection, until);
        }
        tracing::debug!(connection = connection.id.0, "half a message of a stranger stayed half");
        if connection.engine.borrow().is_some() {
            self.break_engine(connection, websocket::close::POLICY, HALF);
        } else {
            self.close_socket(connection, Some(websocket::close::POLICY), HALF);
        }
    }

    fn ping(self: &Rc<Self>, connection: &Rc<Connection>, now: u64) {
        let mut pings = connection.pings.get();
        if pings.every == 0 {
            return;
        }
        if now >= pings.next && connection.waiting_bytes() > 0 {
            // A ping would wait behind what its client has not taken yet. That it takes it is a sign of life as good.
            pings.next = now + pings.every;
            connection.pings.set(pings);
        } else if now >= pings.next {
            if connection.meter.proves_life(pings.every) {
                pings.unanswered = 0;
            }
            if pings.unanswered >= self.hub.settings.missed_pings {
                connection.because("no sign of life");
                let stream = connection.wire.borrow().stream.clone();
                return stream.iter().for_each(|stream| stream.shut());
            }
            pings.unanswered += 1;
            pings.next = now + pings.every;
            connection.pings.set(pings);
            self.put(connection, Frames::from_iter([Frame::ping(b"")]));
        }
        self.remind(connection, pings.next);
    }

    fn wake(self: &Rc<Self>, connection: &Rc<Connection>, now: u64) {
        for number in 0..connection.slot_count() {
            let due = connection.with_slot(number, |slot| match slot.wake_at {
                Some(at) if at <= now => {
                    slot.wake_at = None;
                    Some(true)
                }
                Some(at) => {
                    self.remind(connection, at);
                    Some(false)
                }
                None => None,
            });
            if due.flatten() == Some(true) {
                self.with_session(connection, number, |session, scene, out| session.woken(scene, out));
            }
        }
    }
}

impl Connection {
    /// Something came from the client.
    fn alive(&self) {
        let mut pings = self.pings.get();
        pings.unanswered = 0;
        self.pings.set(pings);
    }
}

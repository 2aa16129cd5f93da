//! Reading and writing sockets: buffers on loan, vectored writes, time.

use std::io::{ErrorKind, IoSlice};
use std::ops::ControlFlow;
use std::rc::Rc;

use bytes::Bytes;
use roundtable_dialects::session::{Input, Sign};
use roundtable_dialects::websocket::{Decoder, Frame, Incoming};

use super::connection::{Connection, Ending};
use super::deliver::Frames;
use super::mailbox::Weight;
use super::probes::Probe;
use super::shard::Shard;
use super::stream::Stream;
use crate::clock;

/// Slices of one vectored write.
const SLICES: usize = 64;

/// What the reader does next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Wait for more bytes.
    Read,
    /// Wait until the connection may take more.
    Wait,
    /// The connection is over.
    Stop,
}

impl Shard {
    /// Reads a WebSocket until it ends. `early` is what came with the upgrade request.
    pub async fn read_socket(
        self: Rc<Self>,
        connection: Rc<Connection>,
        stream: Rc<Stream>,
        mut decoder: Decoder,
        early: Bytes,
    ) {
        let mut held = Vec::from(early);
        let mut next = self.feed_held(&connection, &mut decoder, &mut held);
        loop {
            match next {
                Next::Stop => break,
                Next::Wait => {
                    connection.relief.notified().await;
                    next = self.feed_held(&connection, &mut decoder, &mut held);
                }
                Next::Read => {
                    if stream.readable().await.is_err() {
                        break;
                    }
                    next = self.read_once(&connection, &stream, &mut decoder, &mut held);
                }
            }
        }
        self.socket_ended(&connection, &stream);
    }

    fn read_once(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        stream: &Stream,
        decoder: &mut Decoder,
        held: &mut Vec<u8>,
    ) -> Next {
        let mut buffer = self.read_buffer.borrow_mut();
        match stream.try_read(&mut buffer) {
            Ok(0) => Next::Stop,
            Ok(count) => {
                let Some(bytes) = buffer.get_mut(..count) else { return Next::Stop };
                self.feed(connection, decoder, bytes, held)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Next::Read,
            Err(_) => Next::Stop,
        }
    }

    fn feed_held(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        decoder: &mut Decoder,
        held: &mut Vec<u8>,
    ) -> Next {
        if self.must_wait(connection) {
            return Next::Wait;
        }
        let mut bytes = std::mem::take(held);
        if bytes.is_empty() {
            self.after(connection)
        } else {
            self.feed(connection, decoder, &mut bytes, held)
        }
    }

    fn must_wait(&self, connection: &Connection) -> bool {
        connection.lives() && connection.unfinished.get() >= self.hub.settings.max_unfinished
    }

    fn after(&self, connection: &Connection) -> Next {
        match connection.ending.get() {
            Ending::Gone => Next::Stop,
            _ if self.must_wait(connection) => Next::Wait,
            _ => Next::Read,
        }
    }

    fn feed(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        decoder: &mut Decoder,
        bytes: &mut [u8],
        held: &mut Vec<u8>,
    ) -> Next {
        let fed = {
            let mut inflater = self.inflater.borrow_mut();
            decoder.feed(bytes, &mut inflater, &mut |incoming| {
                self.take_incoming(connection, incoming);
                if self.must_wait(connection) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
        };
        match fed {
            Ok(used) => {
                held.extend_from_slice(bytes.get(used..).unwrap_or_default());
                self.after(connection)
            }
            Err(error) => {
                self.hub.watch.saw(Sign::Malformed, connection.from.spot());
                if connection.engine.borrow().is_some() {
                    self.close_engine(connection);
                } else {
                    if error.code == roundtable_dialects::websocket::close::TOO_BIG {
                        self.with_session(connection, 0, |session, scene, out| session.oversized(scene, out));
                    }
                    self.close_socket(connection, Some(error.code), error.reason);
                    // Whoever breaks the rules is not waited for (RFC 6455 section 7.1.7).
                    self.cut_after_writing(connection);
                }
                Next::Read
            }
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
                self.put(connection, Frames::from_iter([Frame::close(code, "")]), Weight::Control);
            }
            return self.cut_after_writing(connection);
        }
        if !connection.lives() {
            return;
        }
        match incoming {
            Incoming::Ping(payload) => {
                self.put(connection, Frames::from_iter([Frame::pong(payload)]), Weight::Control);
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
            Incoming::Pong(payload) => {
                if let Some(probe) = Probe::read(payload) {
                    self.proven(connection, probe);
                }
            }
            Incoming::Close { .. } => {}
        }
    }

    /// Writes what waits, as far as the socket takes it. A task waits for a full socket, and only for a full one.
    pub fn flush(self: &Rc<Self>, connection: &Rc<Connection>) {
        if connection.draining.get() || self.answer_poll(connection) {
            return;
        }
        let Some(stream) = connection.wire.borrow().stream.clone() else { return };
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
                Ok(count) => wire.mailbox.advance(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
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
        connection.relief.notify_waiters();
        if let Ending::Cutting(_) = connection.ending.get() {
            // Only this direction: cutting both would throw away what was just written if the client still sends.
            stream.finish();
        }
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
            Ending::No => {}
        }
        self.ping(connection, now);
        self.engine_time(connection, now);
        self.wake(connection, now);
    }

    fn ping(self: &Rc<Self>, connection: &Rc<Connection>, now: u64) {
        let mut pings = connection.pings.get();
        if pings.every == 0 {
            return;
        }
        if now >= pings.next {
            if pings.unanswered >= self.hub.settings.missed_pings {
                let stream = connection.wire.borrow().stream.clone();
                return stream.iter().for_each(|stream| stream.shut());
            }
            pings.unanswered += 1;
            pings.next = now + pings.every;
            connection.pings.set(pings);
            self.put(connection, Frames::from_iter([Frame::ping(b"")]), Weight::Control);
        }
        self.remind(connection, pings.next);
    }

    fn wake(self: &Rc<Self>, connection: &Rc<Connection>, now: u64) {
        let present = clock::now();
        for number in 0..connection.slot_count() {
            let due = connection.with_slot(number, |slot| match slot.wake_at {
                Some(at) if at <= present => {
                    slot.wake_at = None;
                    Some(true)
                }
                Some(at) => {
                    self.remind(connection, now + u64::try_from(at.since(present)).unwrap_or(0).max(1));
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

//! One connection: its socket, its mailbox, its sessions. Everything here lives on one shard's thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use roundtable_core::following::Following;
use roundtable_core::ids::ConnectionId;
use roundtable_core::time::Time;
use roundtable_dialects::pace::Limit;
use roundtable_dialects::session::{Identity, Session};
use roundtable_dialects::socketio::Attempt;
use smallvec::SmallVec;
use tokio::sync::Notify;

use super::engine::EngineSide;
use super::following::{Held, Reader};
use super::http::From;
use super::mailbox::Mailbox;
use super::report::Tally;
use super::shard::{Home, Shard};
use super::stream::Stream;
use super::turn::Meter;
use super::{Encode, Farewell, Head};
use crate::clock;

/// A client's connection: a plain WebSocket, or an Engine.IO session over whatever transport.
pub struct Connection {
    /// Its id.
    pub id: ConnectionId,
    /// Where it came from and in.
    pub from: From,
    /// Since when it is open.
    pub since: Time,
    /// Socket and mailbox.
    pub wire: RefCell<Wire>,
    /// Engine.IO's side, unless it is a plain WebSocket.
    pub engine: RefCell<Option<Box<EngineSide>>>,
    /// Its sessions by slot: one on a plain WebSocket, one per namespace on Socket.IO.
    pub slots: RefCell<SmallVec<[Option<Box<Slot>>; 1]>>,
    /// Questions that are not answered yet.
    pub unfinished: Cell<u32>,
    /// Credentials that are being checked.
    pub checking: Cell<u32>,
    /// Somebody has shown who it is. Until then this is a stranger's connection.
    pub known: Cell<bool>,
    /// The work done for it.
    pub meter: Meter,
    /// How many messages are read, where the dialect of a plain WebSocket limits them.
    pub frame_limit: Cell<Option<Limit>>,
    /// It waits in the shard's list of those to be written.
    pub dirty: Cell<bool>,
    /// It waits for an answer that can be written: it comes before those that only listen.
    pub answered: Cell<bool>,
    /// Its socket is full and a task waits until it is not.
    pub draining: Cell<bool>,
    /// How far its end has come.
    pub ending: Cell<Ending>,
    /// Why the server ends it, in words; nothing where the client does.
    pub why: RefCell<Option<Box<str>>>,
    /// Protocol pings of a plain WebSocket.
    pub pings: Cell<Pings>,
    /// When the wheel asks next, in monotonic milliseconds.
    pub due: Cell<u64>,
    /// The log is being read for it.
    pub reads: Cell<bool>,
    /// How its client takes what waits for it.
    pub flow: Cell<Flow>,
    /// Signals, and news of comings and goings, that it did not get for want of room.
    pub lost: Cell<u64>,
    /// Told when whoever waits for room, for answers or for the log may look again.
    pub relief: Notify,
}

/// How a client takes what waits for it: monotonic milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flow {
    /// Since when something waits of which it has taken nothing; 0 if nothing is known to wait.
    pub stuck_since: u64,
    /// When it last took something of what had to wait.
    pub taken_at: u64,
}

/// How far the end of a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// It lives.
    No,
    /// The client has ended the session and has until this time to end its socket too.
    Left(u64),
    /// A close frame is on its way; the client has until this time to answer.
    Closing(u64),
    /// After what waits is written, the socket is cut.
    Cutting(u64),
    /// It is gone.
    Gone,
}

/// Protocol pings of a plain WebSocket.
#[derive(Clone, Copy, Debug)]
pub struct Pings {
    /// Milliseconds between two; 0 means none are sent.
    pub every: u64,
    /// When the next one is due.
    pub next: u64,
    /// How many were sent since the last sign of life.
    pub unanswered: u8,
}

/// Socket and mailbox.
#[derive(Default)]
pub struct Wire {
    /// The socket; none while an Engine.IO session is polling.
    pub stream: Option<Rc<Stream>>,
    /// What waits to be written.
    pub mailbox: Mailbox,
    /// The window of compressed frames towards this client, if compression is on.
    pub deflate: Option<u8>,
}

/// One session of a connection.
pub struct Slot {
    /// Of which dialect it is, and where what happens in it is counted.
    pub tally: Rc<Tally>,
    /// The dialect's state machine.
    pub session: Box<dyn Session>,
    /// How its shared forms are made.
    pub encode: Encode,
    /// How it ends at a restart.
    pub farewell: Farewell,
    /// Its namespace; none on a plain WebSocket.
    pub namespace: Option<Rc<str>>,
    /// Who it is.
    pub identity: Option<Rc<Identity>>,
    /// Where it is: the default workspace until its identity is known.
    pub home: Rc<Home>,
    /// What it receives, and how far it has come.
    pub following: Following<Held>,
    /// Whoever reads the log for it, while it is behind.
    pub reader: Option<Reader>,
    /// When it wants to be woken.
    pub wake_at: Option<u64>,
    /// Its CONNECT waits for an answer.
    pub attempt: Option<Attempt>,
}

impl Connection {
    /// A new connection without sessions.
    pub fn new(id: ConnectionId, from: From) -> Rc<Self> {
        Rc::new(Self {
            id,
            from,
            since: clock::now(),
            wire: RefCell::default(),
            engine: RefCell::default(),
            slots: RefCell::default(),
            unfinished: Cell::new(0),
            checking: Cell::new(0),
            known: Cell::new(false),
            meter: Meter::default(),
            frame_limit: Cell::new(None),
            dirty: Cell::new(false),
            answered: Cell::new(false),
            draining: Cell::new(false),
            ending: Cell::new(Ending::No),
            why: RefCell::default(),
            pings: Cell::new(Pings { every: 0, next: u64::MAX, unanswered: 0 }),
            due: Cell::new(u64::MAX),
            reads: Cell::new(false),
            flow: Cell::default(),
            lost: Cell::new(0),
            relief: Notify::new(),
        })
    }

    /// Notes why it ends; the first reason is the one.
    pub fn because(&self, why: &str) {
        self.why.borrow_mut().get_or_insert_with(|| why.into());
    }

    /// Whether input still counts.
    pub fn lives(&self) -> bool {
        self.ending.get() == Ending::No
    }

    /// Runs something on one of its sessions.
    pub fn with_slot<T>(&self, slot: u8, run: impl FnOnce(&mut Slot) -> T) -> Option<T> {
        let mut slots = self.slots.borrow_mut();
        slots.get_mut(usize::from(slot)).and_then(Option::as_mut).map(|slot| run(slot))
    }

    /// Puts a session into a slot.
    pub fn put_slot(&self, number: usize, slot: Slot) {
        let mut slots = self.slots.borrow_mut();
        while slots.len() <= number {
            slots.push(None);
        }
        if let Some(place) = slots.get_mut(number) {
            *place = Some(Box::new(slot));
        }
    }

    /// How many slots there are, empty ones included.
    pub fn slot_count(&self) -> u8 {
        u8::try_from(self.slots.borrow().len()).unwrap_or(u8::MAX)
    }

    /// Bytes that wait in its mailbox.
    pub fn waiting_bytes(&self) -> usize {
        self.wire.borrow().mailbox.bytes()
    }

    /// Something waits after its client took what it could, `took` or nothing. Says since when nothing was taken.
    pub fn waits(&self, took: bool, now: u64) -> u64 {
        let Flow { mut stuck_since, mut taken_at } = self.flow.get();
        if took {
            taken_at = now;
        }
        if took || stuck_since == 0 {
            stuck_since = now;
        }
        self.flow.set(Flow { stuck_since, taken_at });
        stuck_since
    }

    /// A session of it did not get so many things for want of room.
    pub fn loses(&self, slot: &Slot, count: usize) {
        self.lost.set(self.lost.get() + count as u64);
        slot.tally.lost.set(slot.tally.lost.get() + count as u64);
    }

    /// Nothing waits for its client any more.
    pub fn took_all(&self) {
        let flow = self.flow.get();
        if flow.stuck_since != 0 {
            self.flow.set(Flow { stuck_since: 0, ..flow });
        }
    }
}

impl Slot {
    /// A session at the door.
    pub fn new(
        shard: &Shard,
        entry: super::Entry,
        namespace: Option<Rc<str>>,
        home: Rc<Home>,
        attempt: Option<Attempt>,
    ) -> Self {
        Self {
            tally: shard.tally(entry.name),
            session: entry.session,
            encode: entry.encode,
            farewell: entry.farewell,
            namespace,
            identity: None,
            home,
            following: Following::default(),
            reader: None,
            wake_at: None,
            attempt,
        }
    }
}

impl Head {
    /// What a session sees of the request.
    pub fn opening<'a>(
        &'a self,
        connection: &Connection,
        deflate: bool,
    ) -> roundtable_dialects::session::Opening<'a> {
        roundtable_dialects::session::Opening {
            connection: connection.id,
            peer: connection.from.peer,
            anonymous: connection.from.guest,
            namespace: "/",
            path: &self.path,
            query: &self.query,
            authorization: self.authorization.as_deref(),
            api_key: self.api_key.as_deref(),
            auth: None,
            deflate,
            random: clock::random_u128(),
        }
    }
}

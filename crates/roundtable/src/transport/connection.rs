//! One connection: its socket, its mailbox, its sessions. Everything here lives on one shard's thread.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use roundtable_core::delivery::Topic;
use roundtable_core::ids::ConnectionId;
use roundtable_core::time::Time;
use roundtable_dialects::pace::Limit;
use roundtable_dialects::session::{Identity, Session};
use roundtable_dialects::socketio::Attempt;
use smallvec::SmallVec;
use tokio::sync::Notify;

use super::engine::EngineSide;
use super::http::From;
use super::mailbox::Mailbox;
use super::report::Tally;
use super::shard::{Home, Shard};
use super::stream::Stream;
use super::turn::Meter;
use super::{Encode, Farewell, Head};
use crate::clock;
use crate::runner::Committed;

/// Records that are held for one subscription.
const MAX_HELD: usize = 256;

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
    /// Protocol pings of a plain WebSocket.
    pub pings: Cell<Pings>,
    /// When the wheel asks next, in monotonic milliseconds.
    pub due: Cell<u64>,
    /// Told when the reader, or a resume that waits for a slow client, may look again.
    pub relief: Notify,
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
    /// What it receives.
    pub topics: SmallVec<[Topic; 4]>,
    /// What it receives once older records have been read from the log.
    pub catching_up: Vec<CatchUp>,
    /// When it wants to be woken.
    pub wake_at: Option<u64>,
    /// Its CONNECT waits for an answer.
    pub attempt: Option<Attempt>,
}

/// A subscription that is still reading the log; newer records are held meanwhile.
pub struct CatchUp {
    /// Which topic.
    pub topic: Topic,
    /// Held records, oldest first: the batch, and the place in it.
    pub held: VecDeque<(Arc<Committed>, usize)>,
    /// More came than may be held: what was and what comes is to be read from the log.
    pub behind: bool,
}

impl CatchUp {
    /// Nothing is held yet.
    pub fn new(topic: Topic) -> Self {
        Self { topic, held: VecDeque::new(), behind: false }
    }

    /// Holds a record, or notes that it cannot: each keeps a whole batch in memory.
    pub fn hold(&mut self, batch: &Arc<Committed>, place: usize) {
        if self.held.len() >= MAX_HELD {
            self.held = VecDeque::new();
            self.behind = true;
        }
        if !self.behind {
            self.held.push_back((Arc::clone(batch), place));
        }
    }
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
            pings: Cell::new(Pings { every: 0, next: u64::MAX, unanswered: 0 }),
            due: Cell::new(u64::MAX),
            relief: Notify::new(),
        })
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
            topics: SmallVec::new(),
            catching_up: Vec::new(),
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

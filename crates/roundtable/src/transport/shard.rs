//! A shard: one thread that owns its connections outright and shares nothing with the other shards but messages.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use indexmap::IndexMap;
use roundtable_core::delivery::Topic;
use roundtable_core::ids::{ConnectionId, WorkspaceId};
use roundtable_core::time::Offset;
use roundtable_dialects::engineio::Sid;
use roundtable_dialects::session::Outputs;
use roundtable_dialects::websocket::{Deflater, Frame, Inflater};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::LocalSet;

use super::connection::{Connection, Ending};
use super::engine::EngineCall;
use super::listen::Place;
use super::report::Tally;
use super::stream::Detached;
use super::turn::Line;
use super::wheel::Wheel;
use super::{Doors, Hub, Listener};
use crate::clock;
use crate::runner::{Audience, Committed, Handle, View};

/// Connections written in one go before the shard looks for news.
pub const SLICE: usize = 256;
/// Threads of a shard that wait for the disk or check passwords. When thousands come back at once, each reads the log: in
/// hundreds of threads, as tokio would have it, each with a database connection of its own, that takes longer and much memory.
const BLOCKING: usize = 4;
/// Of these, those that may read the log for connections at a time.
const READS: usize = 2;
/// Bytes that may wait for a connection even when far too much waits for all of them together.
const LEAST_QUEUE: usize = 16 << 10;
/// Bytes of the read buffer that connections borrow in turn.
const READ_BUFFER: usize = 64 << 10;

/// Something that somebody wants of a shard itself.
pub type Wish = Box<dyn FnOnce(&Rc<Shard>) + Send>;

/// A message to a shard.
pub enum ToShard {
    /// A batch was committed.
    Committed(Arc<Committed>),
    /// Somebody connected.
    Accept(std::net::TcpStream, Arc<Listener>, Arc<Place>),
    /// An HTTP request for an Engine.IO session of this shard.
    Engine(EngineCall),
    /// Somebody wants something of the shard itself.
    Do(Wish),
    /// End all connections, each in its dialect's way.
    Drain,
}

/// A connected and upgraded socket, with what was read behind the request.
pub struct Socket {
    /// The socket, on no runtime.
    pub stream: Detached,
    /// Bytes that came with the request.
    pub early: Bytes,
    /// The window of compressed frames, if compression was agreed on.
    pub deflate: Option<u8>,
}

/// The ways to all shards.
#[derive(Clone)]
pub struct Shards {
    ways: Arc<[mpsc::UnboundedSender<ToShard>]>,
    next: Arc<AtomicU64>,
    /// Ids of connections count on from the time of the start in units of a 4,096th of a millisecond: new across restarts
    /// too, and below 2^53, as some clients read numbers.
    next_connection: Arc<AtomicU64>,
}

impl Shards {
    /// To a shard by its number.
    pub fn to(&self, shard: u16, message: ToShard) {
        if let Some(way) = self.ways.get(usize::from(shard)) {
            // A shard that ended needs nothing any more.
            let _ = way.send(message);
        }
    }

    /// To the next shard in turn.
    pub fn to_next(&self, message: ToShard) {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let count = self.ways.len().max(1) as u64;
        self.to(u16::try_from(turn % count).unwrap_or(0), message);
    }

    /// To each shard a message of its own; gives what came with the messages.
    pub(super) fn each<T>(&self, message: impl Fn() -> (ToShard, T)) -> Vec<T> {
        let send = |way: &mpsc::UnboundedSender<ToShard>| {
            let (message, with) = message();
            // A shard that ended drops the message, and with it whatever waits for an answer learns of it.
            let _ = way.send(message);
            with
        };
        self.ways.iter().map(send).collect()
    }

    /// To all shards.
    pub fn to_all(&self, message: impl Fn() -> ToShard) {
        for shard in 0..self.ways.len() {
            self.to(u16::try_from(shard).unwrap_or(0), message());
        }
    }
}

impl Audience for Shards {
    fn committed(&self, batch: Arc<Committed>) {
        self.to_all(|| ToShard::Committed(Arc::clone(&batch)));
    }
}

/// Ways to shards that do not run yet: what the runner needs before the hub exists that shards need.
pub struct Prepared {
    shards: Shards,
    inboxes: Vec<mpsc::UnboundedReceiver<ToShard>>,
}

/// Shards that run.
pub struct Started {
    /// The ways to them.
    pub shards: Shards,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Shards {
    /// Makes the ways to `count` shards.
    pub fn prepare(count: u16) -> Prepared {
        let (ways, inboxes): (Vec<_>, Vec<_>) =
            (0..count.clamp(1, 64)).map(|_| mpsc::unbounded_channel()).unzip();
        Prepared {
            shards: Shards { ways: ways.into(), next: Arc::default(), next_connection: Arc::default() },
            inboxes,
        }
    }
}

impl Prepared {
    /// The ways.
    pub fn shards(&self) -> Shards {
        self.shards.clone()
    }

    /// Starts the threads. Fails when the system gives no threads or no event queue.
    pub fn start(self, hub: &Arc<Hub>, doors: &Arc<dyn Doors>) -> std::io::Result<Started> {
        // Log time goes on over restarts, so no number comes again, whatever the wall clock is set to.
        let home = hub.workspaces.get(hub.workspaces.default_id());
        let began = home.map_or_else(clock::now, |home| home.moment().t);
        self.shards.next_connection.store(u64::try_from(began.0).unwrap_or(0) << 12, Ordering::Relaxed);
        let mut threads = Vec::new();
        for (number, inbox) in self.inboxes.into_iter().enumerate() {
            let number = u16::try_from(number).unwrap_or(0);
            let (hub, doors, shards) = (Arc::clone(hub), Arc::clone(doors), self.shards.clone());
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().max_blocking_threads(BLOCKING).build()?;
            let run = move || {
                let _alive = EndsTheProcess;
                let local = LocalSet::new();
                let shard = Shard::new(number, hub, doors, shards);
                local.block_on(&runtime, shard.run(inbox));
            };
            threads.push(std::thread::Builder::new().name(format!("shard-{number}")).spawn(run)?);
        }
        Ok(Started { shards: self.shards, threads })
    }
}

/// A shard whose own loop fails takes all its connections with it and answers nobody any more: then the process ends, and
/// whoever watches it starts it again. (Faults in the task of one connection never get here.)
struct EndsTheProcess;

impl Drop for EndsTheProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

impl Started {
    /// Ends all connections, waits until they are gone or their time is up, and ends the threads.
    pub fn stop(self) {
        self.shards.to_all(|| ToShard::Drain);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a shard ended with a panic");
            }
        }
    }
}

/// Who receives a topic.
pub type Subscribers = IndexMap<(ConnectionId, u8), Rc<Connection>>;

/// A workspace as this shard sees it.
pub struct Home {
    /// Where questions go.
    pub handle: Handle,
    /// The state after the newest batch this shard has handled.
    pub view: RefCell<View>,
    /// The newest record that this shard has begun to hand out.
    pub told: Cell<Offset>,
    /// Who receives what.
    pub topics: RefCell<HashMap<Topic, Subscribers>>,
}

/// The thread's own data. Nothing here is shared with other threads.
pub struct Shard {
    /// Its number.
    pub number: u16,
    /// The rest of the server.
    pub hub: Arc<Hub>,
    /// Where paths lead.
    pub doors: Arc<dyn Doors>,
    /// The ways to all shards.
    pub shards: Shards,
    /// The REST router.
    pub router: axum::Router,
    /// All connections.
    pub connections: RefCell<HashMap<ConnectionId, Rc<Connection>>>,
    /// Engine.IO sessions by their secret id.
    pub sids: RefCell<HashMap<Sid, ConnectionId>>,
    homes: RefCell<HashMap<WorkspaceId, Rc<Home>>>,
    pub(super) tallies: RefCell<BTreeMap<&'static str, Rc<Tally>>>,
    pub(super) dirty: RefCell<VecDeque<Rc<Connection>>>,
    /// Those among them that were answered. A sender in a large room need not wait for thousands of others, and what it
    /// sends next goes out in the same writes to all who still wait.
    answered: RefCell<Vec<Rc<Connection>>>,
    wheel: RefCell<Wheel>,
    pub(super) read_buffer: RefCell<Vec<u8>>,
    pub(super) inflater: RefCell<Inflater>,
    pub(super) deflater: RefCell<Deflater>,
    /// Told when there is something to write, a nearer deadline, or somebody in the line.
    pub(super) work: Notify,
    /// Who has had its turn and wants another.
    pub(super) line: Line,
    /// Bytes that wait in all mailboxes.
    queued: Cell<usize>,
    /// Who may read the log for a connection: the other threads that wait for the disk are for those who come.
    pub(super) reads: Semaphore,
    /// An output list to use again, so that handling a frame allocates none.
    pub(super) spare: RefCell<Outputs>,
    /// When the last connections are cut, once the server stops.
    stop_by: Cell<Option<u64>>,
    /// HTTP requests that are not answered yet.
    requests: Cell<u32>,
}

impl Shard {
    fn new(number: u16, hub: Arc<Hub>, doors: Arc<dyn Doors>, shards: Shards) -> Rc<Self> {
        Rc::new(Self {
            number,
            router: doors.router(),
            hub,
            doors,
            shards,
            connections: RefCell::default(),
            sids: RefCell::default(),
            homes: RefCell::default(),
            tallies: RefCell::default(),
            dirty: RefCell::default(),
            answered: RefCell::default(),
            wheel: RefCell::new(Wheel::new(clock::monotonic_ms())),
            read_buffer: RefCell::new(vec![0; READ_BUFFER]),
            inflater: RefCell::new(Inflater::new()),
            deflater: RefCell::new(Deflater::new()),
            work: Notify::new(),
            line: Line::default(),
            queued: Cell::new(0),
            reads: Semaphore::new(READS),
            spare: RefCell::default(),
            stop_by: Cell::new(None),
            requests: Cell::new(0),
        })
    }

    /// Handles news, writes in slices, watches the time; looks for news between two slices.
    async fn run(self: Rc<Self>, mut inbox: mpsc::UnboundedReceiver<ToShard>) {
        loop {
            let message = tokio::select! {
                biased;
                message = inbox.recv() => message,
                () = self.work.notified() => None,
                () = self.next_deadline() => None,
            };
            if let Some(message) = message {
                self.take_message(message);
            }
            loop {
                while let Ok(message) = inbox.try_recv() {
                    self.take_message(message);
                }
                self.fire_deadlines();
                let others_wait = self.write_slice();
                // One of those that want more than a turn: whoever became ready meanwhile comes before the next of them.
                if !self.line.next() && !others_wait {
                    break;
                }
                // Others get their turn: members that still wait then get newer frames in the same write.
                tokio::task::yield_now().await;
            }
            if let Some(by) = self.stop_by.get()
                && (clock::monotonic_ms() >= by
                    || (self.connections.borrow().is_empty() && self.requests.get() == 0))
            {
                return self.forget_all();
            }
        }
    }

    fn take_message(self: &Rc<Self>, message: ToShard) {
        match message {
            ToShard::Committed(batch) => self.hand_out(&batch),
            ToShard::Accept(stream, listener, place) => {
                if stream.set_nonblocking(true).is_ok()
                    && let Ok(stream) = TcpStream::from_std(stream)
                {
                    tokio::task::spawn_local(super::http::serve(Rc::clone(self), stream, (listener, place)));
                }
            }
            ToShard::Engine(call) => self.engine_call(call),
            ToShard::Do(what) => what(self),
            ToShard::Drain => {
                self.stop_by.set(Some(clock::monotonic_ms() + self.hub.settings.drain));
                let all: Vec<_> = self.connections.borrow().values().cloned().collect();
                for connection in all {
                    self.farewell(&connection);
                }
                self.work.notify_one();
            }
        }
    }

    /// An HTTP request has come.
    pub fn asked_one(&self) {
        self.requests.set(self.requests.get() + 1);
    }

    /// It has its answer, or nobody waits for one any more.
    pub fn answered_one(&self) {
        self.requests.set(self.requests.get().saturating_sub(1));
        if self.stop_by.get().is_some() {
            self.work.notify_one();
        }
    }

    /// Whether the server stops: answers are the last ones on their connections.
    pub fn stops(&self) -> bool {
        self.stop_by.get().is_some()
    }

    /// The workspace as this shard sees it.
    pub fn home(&self, workspace: &WorkspaceId) -> Option<Rc<Home>> {
        if let Some(home) = self.homes.borrow().get(workspace) {
            return Some(Rc::clone(home));
        }
        let handle = self.hub.workspaces.get(workspace)?;
        let view = (*handle.view()).clone();
        let told = Cell::new(view.state.head);
        let home = Rc::new(Home { handle, view: RefCell::new(view), told, topics: RefCell::default() });
        self.homes.borrow_mut().insert(workspace.clone(), Rc::clone(&home));
        Some(home)
    }

    /// The workspace if somebody of this shard is in it.
    pub fn known_home(&self, workspace: &WorkspaceId) -> Option<Rc<Home>> {
        self.homes.borrow().get(workspace).map(Rc::clone)
    }

    /// A fresh id for a connection.
    pub fn fresh_id(&self) -> ConnectionId {
        ConnectionId(self.shards.next_connection.fetch_add(1, Ordering::Relaxed))
    }

    /// Takes a connection in.
    pub fn admit(&self, connection: &Rc<Connection>) {
        self.connections.borrow_mut().insert(connection.id, Rc::clone(connection));
        let (id, peer, listener) = (connection.id.0, connection.from.peer, connection.from.listener.address);
        tracing::debug!(id, %peer, %listener, "a connection opened");
        self.hub.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Asks to be reminded of a connection at `due`, if nothing nearer is noted for it.
    pub fn remind(&self, connection: &Connection, due: u64) {
        if due < connection.due.get() {
            connection.due.set(due);
            let before = self.wheel.borrow().next_due();
            self.wheel.borrow_mut().set(connection.id, due);
            if before.is_none_or(|before| due < before) {
                self.work.notify_one();
            }
        }
    }

    async fn next_deadline(&self) {
        let due = self.wheel.borrow().next_due().into_iter().chain(self.stop_by.get()).min();
        match due {
            Some(due) => {
                let wait = due.saturating_sub(clock::monotonic_ms());
                tokio::time::sleep(std::time::Duration::from_millis(wait)).await;
            }
            None => std::future::pending().await,
        }
    }

    fn fire_deadlines(self: &Rc<Self>) {
        let now = clock::monotonic_ms();
        if self.wheel.borrow().next_due().is_none_or(|due| due > now) {
            return;
        }
        let asked = self.wheel.borrow_mut().take(now);
        for id in asked {
            let Some(connection) = self.connections.borrow().get(&id).cloned() else { continue };
            if connection.due.get() > now {
                // It was noted for an earlier time that does not count any more, or lies a turn away.
                self.wheel.borrow_mut().set(id, connection.due.get());
                continue;
            }
            connection.due.set(u64::MAX);
            self.on_time(&connection, now);
        }
    }

    /// Writes to some of those that wait. Says whether others are left.
    fn write_slice(self: &Rc<Self>) -> bool {
        let answered = self.answered.take();
        for connection in &answered {
            connection.answered.set(false);
            self.flush(connection);
        }
        drop(answered);
        for _ in 0..SLICE {
            let Some(connection) = self.dirty.borrow_mut().pop_front() else { return false };
            connection.dirty.set(false);
            self.flush(&connection);
        }
        let mut dirty = self.dirty.borrow_mut();
        if dirty.is_empty() && dirty.capacity() > 4 * SLICE {
            *dirty = VecDeque::new();
        }
        !dirty.is_empty()
    }

    /// Puts a frame into a connection's mailbox.
    pub fn queue(&self, connection: &Connection, frame: Frame) {
        self.queued.set(self.queued.get().saturating_add(frame.wire().len()));
        connection.wire.borrow_mut().mailbox.put(frame);
    }

    /// So many bytes wait no longer.
    pub fn unqueued(&self, bytes: usize) {
        self.queued.set(self.queued.get().saturating_sub(bytes));
    }

    /// Whether a connection may take one more delivery. One of any size fits while its queue is not full.
    pub fn has_room(&self, connection: &Connection) -> bool {
        self.within(connection, self.hub.settings.mailbox_bytes)
    }

    /// Whether more may be read from the log for a connection: half of its queue stays free for what happens meanwhile.
    pub fn has_room_to_read(&self, connection: &Connection) -> bool {
        self.within(connection, self.hub.settings.mailbox_bytes / 2)
    }

    fn within(&self, connection: &Connection, most: usize) -> bool {
        let settings = &self.hub.settings;
        let all = || settings.all_mailboxes_bytes / usize::from(settings.shards.max(1));
        let waiting = connection.waiting_bytes();
        waiting < most && (waiting < LEAST_QUEUE || self.queued.get() < all())
    }

    /// Notes that something waits to be written.
    pub fn mark_dirty(&self, connection: &Rc<Connection>) {
        if !connection.dirty.replace(true) {
            let mut dirty = self.dirty.borrow_mut();
            dirty.push_back(Rc::clone(connection));
            if dirty.len() == 1 {
                self.work.notify_one();
            }
        }
    }

    /// Notes that a connection got an answer: it is written to before the others.
    pub fn mark_answered(&self, connection: &Rc<Connection>) {
        if connection.dirty.get() && !connection.answered.replace(true) {
            self.answered.borrow_mut().push(Rc::clone(connection));
        }
    }

    /// The time is up: whoever is still here is cut off, after its sessions' last words.
    fn forget_all(self: &Rc<Self>) {
        let all: Vec<_> = self.connections.borrow().values().cloned().collect();
        for connection in all {
            self.forget(&connection);
        }
    }

    /// Says in the process's own log who has gone, and why.
    fn note_end(&self, connection: &Connection) {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let sessions: Vec<String> = connection
            .slots
            .borrow()
            .iter()
            .flatten()
            .map(|slot| {
                let who = slot.identity.as_ref().map(|identity| identity.principal.to_string());
                format!("{} {}", slot.tally.name, who.as_deref().unwrap_or("nobody"))
            })
            .collect();
        let why = connection.why.borrow();
        let (id, reason) = (connection.id.0, why.as_deref().unwrap_or("the client went"));
        let lasted_ms = clock::now().since(connection.since);
        let peer = connection.from.peer;
        tracing::debug!(id, %peer, sessions = sessions.join(", "), lasted_ms, reason, "a connection ended");
    }

    /// The connection is gone: its sessions say their last words, nothing of it stays.
    pub fn forget(self: &Rc<Self>, connection: &Rc<Connection>) {
        if connection.ending.replace(Ending::Gone) == Ending::Gone {
            return;
        }
        if self.connections.borrow_mut().remove(&connection.id).is_some() {
            self.hub.connections.fetch_sub(1, Ordering::Relaxed);
        }
        self.note_end(connection);
        for slot in 0..connection.slot_count() {
            self.end_session(connection, slot);
        }
        if let Some(side) = connection.engine.borrow_mut().take() {
            self.sids.borrow_mut().remove(side.engine.sid());
        }
        let wire = connection.wire.take();
        self.unqueued(wire.mailbox.bytes());
        connection.relief.notify_waiters();
        if self.stop_by.get().is_some() {
            self.work.notify_one();
        }
    }
}

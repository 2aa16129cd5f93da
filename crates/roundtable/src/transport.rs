//! The transport: listeners, shards and connections, knowing nothing of any dialect.
//!
//! A connection belongs to one shard (a thread) for its whole life. The shard reads it, runs its sessions, fills its mailbox
//! and writes. What the sessions ask goes to the [`runner`](crate::runner); what is committed comes back to every shard once
//! per batch. Which path and which Socket.IO namespace leads to which session is said by the [`Doors`].

pub mod alone;
mod client;
mod connection;
mod deliver;
mod engine;
mod following;
pub mod forwarded;
pub mod http;
pub mod listen;
mod mailbox;
mod origin;
mod outputs;
mod polling;
pub mod preface;
mod probes;
pub mod report;
mod shard;
mod socket;
mod stream;
mod survey;
mod turn;
mod wheel;
pub mod workers;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use roundtable_core::delivery::{Delivery, Topic};
use roundtable_core::feeds::Feed;
use roundtable_dialects::pace::Limit;
use roundtable_dialects::session::{Form, Messages, Opening, Scene, Session};
use roundtable_dialects::{engineio, socketio};

use crate::live::Live;
pub use shard::{Prepared, Shards, Started};
pub use turn::Allowance;

/// Makes the messages of a shared form.
pub type Encode = fn(Form, &Delivery<'_>, Scene<'_>) -> Messages;

/// How a connection ends when the server restarts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Farewell {
    /// A close frame with code 1012.
    Restart,
    /// What waits is written, then the TCP connection is cut without a close frame.
    Cut,
}

/// A session for somebody who came to a door.
pub struct Entry {
    /// What the operator calls the dialect.
    pub name: &'static str,
    /// The session.
    pub session: Box<dyn Session>,
    /// How its shared forms are made.
    pub encode: Encode,
    /// How it ends at a restart.
    pub farewell: Farewell,
    /// Milliseconds between protocol pings of a plain WebSocket; two unanswered ones end it.
    pub ping_ms: u64,
}

/// Bytes that are kept of the head of a request that opens a Socket.IO connection: credentials that this server made are
/// far shorter.
pub const MAX_KEPT_HEAD: usize = 4 << 10;

/// Where an HTTP path leads.
pub enum Way {
    /// A plain WebSocket.
    WebSocket(Entry),
    /// Socket.IO; [`Doors::namespace`] is asked for each CONNECT.
    SocketIo,
    /// Engine.IO alone.
    Engine(Entry),
    /// The REST router, on threads of its own.
    Rest,
    /// The REST router, on the shard: a probe that must be answered whatever else is asked.
    AtOnce,
}

/// The head of a request, as far as doors look at it.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// The path.
    pub path: String,
    /// The query, undecoded, without `?`.
    pub query: String,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// The `X-API-Key` header.
    pub api_key: Option<String>,
    /// The `X-Key-Id` and `X-Secret-Key` headers, if both are there.
    pub channel_key: Option<(String, String)>,
}

impl Head {
    /// What a later CONNECT may look at: path, credential, and the query without what belongs to Engine.IO. `None` if that is
    /// more than is kept.
    fn kept(&self) -> Option<Self> {
        let own = |pair: &&str| {
            let name = pair.split('=').next().unwrap_or_default();
            !matches!(name, "EIO" | "transport" | "sid" | "t" | "b64" | "j")
        };
        let query = self.query.split('&').filter(own).collect::<Vec<_>>().join("&");
        let authorization = self.authorization.clone();
        let size = self.path.len() + query.len() + authorization.as_ref().map_or(0, String::len);
        (size <= MAX_KEPT_HEAD).then(|| Self {
            path: self.path.clone(),
            query,
            authorization,
            ..Self::default()
        })
    }
}

/// Which path and which namespace leads to which session.
pub trait Doors: Send + Sync + 'static {
    /// Where a request leads.
    fn way(&self, head: &Head, upgrade: bool, from: &http::From) -> Way;
    /// How much of a REST request's body is read; nothing where there is no REST.
    fn reach(&self, _head: &Head, _from: &http::From) -> http::Reach {
        http::Reach { limit: 0, proven: false }
    }
    /// The session for a Socket.IO namespace; `None` if nobody serves it.
    fn namespace(&self, opening: &Opening<'_>) -> Option<Entry>;
    /// Everything that is not a socket.
    fn router(&self) -> axum::Router;
}

/// One address the server listens on.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Where it is bound.
    pub address: SocketAddr,
    /// Its number, for doors that tell listeners apart.
    pub number: usize,
    /// Connections without credentials are guests here.
    pub anonymous: bool,
    /// What it presents, where it speaks TLS.
    pub tls: Option<Arc<crate::tls::Pair>>,
    /// Each connection begins with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// It is for whoever watches the server, and for nothing else.
    pub watch_only: bool,
}

/// Limits and intervals of all connections. Times in milliseconds.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Engine.IO.
    pub engine: engineio::Config,
    /// Socket.IO.
    pub sockets: socketio::Config,
    /// Bytes of one message of a plain WebSocket, after inflation.
    pub max_message: usize,
    /// Bytes that may wait for one slow reader; one frame of any size fits besides.
    pub mailbox_bytes: usize,
    /// Bytes that may wait for all clients together; beyond that nobody's queue fills further.
    pub all_mailboxes_bytes: usize,
    /// How long a client may take nothing of what waits for it.
    pub stall: u64,
    /// Work for one connection in a second; `turn` says what counts how much.
    pub pace: Limit,
    /// What somebody may take who has not shown who it is.
    pub strangers: Allowance,
    /// Questions of one connection that may wait for their answers; at the bound its socket is not read.
    pub max_unfinished: u32,
    /// How long a client may take for its request head.
    pub patience: u64,
    /// How long it may take for the body that follows.
    pub body_patience: u64,
    /// How long a connection is kept after an answer.
    pub keep_alive: u64,
    /// How long a client may take to answer a close frame, or to take what is written before a cut.
    pub close_wait: u64,
    /// Unanswered protocol pings after which a plain WebSocket counts as gone.
    pub missed_pings: u8,
    /// Messages from so many bytes on are compressed, at least 1,024; `None`: compression is never agreed to.
    pub compress_from: Option<usize>,
    /// How long a stop waits for connections to end.
    pub drain: u64,
    /// REST requests of one address that are worked on at the same time.
    pub requests_each: u32,
    /// Bytes of a REST request's body.
    pub max_body: usize,
    /// The same while nobody has shown who it is, and where somebody logs in.
    pub stranger_body: usize,
    /// Bytes of all bodies that stand in memory together.
    pub bodies: usize,
    /// Origins that may come besides the server's own, as browsers send them; `*` lets all come.
    pub origins: Vec<String>,
    /// Whose word on where a client is counts.
    pub trusted_proxies: crate::config::Networks,
    /// Shards; each is a thread.
    pub shards: u16,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            engine: engineio::Config::default(),
            sockets: socketio::Config::default(),
            max_message: 1 << 20,
            mailbox_bytes: 1 << 20,
            all_mailboxes_bytes: 256 << 20,
            stall: 30_000,
            pace: Limit { per_second: 32 << 20, burst: 8 << 20 },
            strangers: Allowance::STRANGER,
            max_unfinished: 256,
            patience: 10_000,
            body_patience: 30_000,
            keep_alive: 75_000,
            close_wait: 2_000,
            missed_pings: 2,
            compress_from: Some(1_024),
            drain: 5_000,
            requests_each: 8,
            max_body: 1 << 20,
            stranger_body: 16 << 10,
            bodies: 64 << 20,
            origins: Vec::new(),
            trusted_proxies: crate::config::Networks::default(),
            shards: std::thread::available_parallelism()
                .map_or(1, |n| u16::try_from(n.get()).unwrap_or(64).min(64)),
        }
    }
}

impl Settings {
    /// Those that a configuration asks for.
    pub fn of(config: &crate::config::Config) -> Self {
        let sockets = &config.socketio;
        let max_payload = sockets.max_payload.bytes();
        let defaults = Self::default();
        let pace = u32::try_from(config.limits.bytes_per_second.bytes()).unwrap_or(u32::MAX);
        let message = config.limits.unauthenticated_message.bytes();
        Self {
            engine: engineio::Config {
                ping_interval: sockets.ping_interval.ms(),
                ping_timeout: sockets.ping_timeout.ms(),
                upgrade_timeout: sockets.upgrade_timeout.ms(),
                max_payload,
            },
            sockets: socketio::Config {
                connect_timeout: sockets.connect_timeout.ms(),
                max_before_connect: config.limits.unauthenticated_message.bytes(),
                max_packet: max_payload,
            },
            max_message: config.websocket.max_message.bytes(),
            mailbox_bytes: config.limits.queue.bytes(),
            all_mailboxes_bytes: config.limits.all_queues.bytes(),
            stall: config.limits.stall_timeout.ms(),
            pace: Limit { per_second: pace, burst: pace / 4 },
            strangers: Allowance { message, ..Allowance::STRANGER },
            max_unfinished: config.limits.unfinished_commands.get(),
            patience: config.server.header_timeout.ms(),
            body_patience: config.server.body_timeout.ms(),
            keep_alive: config.server.keep_alive.ms(),
            close_wait: config.websocket.close_timeout.ms(),
            missed_pings: u8::try_from(config.websocket.missed_pings.get()).unwrap_or(u8::MAX),
            compress_from: config.websocket.compression.then(|| config.websocket.compress_from.bytes()),
            // The rest of the time is for what they asked, and for the log.
            drain: config.server.drain_timeout.ms() / 5 * 3,
            requests_each: config.server.requests_per_address.get(),
            max_body: config.server.max_body.bytes(),
            stranger_body: config.limits.unauthenticated_message.bytes().min(config.server.max_body.bytes()),
            bodies: config.server.bodies.bytes(),
            origins: config.server.allowed_origins.as_slice().to_vec(),
            trusted_proxies: config.server.trusted_proxies.clone(),
            shards: if config.server.shards == 0 { defaults.shards } else { config.server.shards },
        }
    }
}

/// Everything a shard needs from the rest of the server.
pub struct Hub {
    /// The running workspaces.
    pub workspaces: Arc<crate::runner::Workspaces>,
    /// Who checks credentials.
    pub identity: Arc<crate::auth::Identifier>,
    /// Who counts signs of attacks and refuses those who are blocked.
    pub watch: Arc<crate::watch::Watch>,
    /// How many connections one address has.
    pub crowd: Arc<listen::Crowd>,
    /// The newest figures.
    pub figures: Arc<arc_swap::ArcSwap<roundtable_dialects::figures::Figures>>,
    /// What was measured in the last day.
    pub history: Mutex<roundtable_dialects::figures::history::History>,
    /// Open connections.
    pub connections: AtomicU64,
    /// How many connections watch each feed.
    pub watched: Watched,
    /// Limits and intervals.
    pub settings: Live<Settings>,
    /// How often one address may ask over REST.
    pub rates: arc_swap::ArcSwap<crate::rates::Rates>,
    /// The settings in force.
    pub config: Arc<arc_swap::ArcSwap<crate::config::Config>>,
    /// Who works on REST requests.
    pub workers: workers::Workers,
    /// The certificates that listeners present.
    pub tls: Arc<crate::tls::Pairs>,
    /// The ports this installation listens on.
    pub ports: Vec<u16>,
}

/// How many connections watch each feed, so that nothing is reported to nobody.
#[derive(Debug, Default)]
pub struct Watched {
    activity: AtomicU64,
    network: AtomicU64,
    consensus: AtomicU64,
    security: AtomicU64,
    monitoring: AtomicU64,
}

impl Watched {
    fn counter(&self, feed: Feed) -> &AtomicU64 {
        match feed {
            Feed::Activity => &self.activity,
            Feed::Network => &self.network,
            Feed::Consensus => &self.consensus,
            Feed::Security => &self.security,
            Feed::Monitoring => &self.monitoring,
        }
    }

    /// How many watch a feed.
    pub fn of(&self, feed: Feed) -> u64 {
        self.counter(feed).load(Ordering::Relaxed)
    }

    fn come(&self, topic: &Topic) {
        if let Topic::Feed(feed) = topic {
            self.counter(*feed).fetch_add(1, Ordering::Relaxed);
        }
    }

    fn go(&self, topic: &Topic) {
        if let Topic::Feed(feed) = topic {
            self.counter(*feed).fetch_sub(1, Ordering::Relaxed);
        }
    }
}

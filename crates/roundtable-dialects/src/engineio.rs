//! Engine.IO v4 for a server: packets, payloads, request checks, and the state of one session.
//!
//! Nothing here does I/O, reads a clock or queues messages. Times are milliseconds since any fixed start.
//! How a server drives a session:
//!
//! - [`Request::parse`] tells what an HTTP request wants. New sessions: [`Engine::open`], then answer with
//!   (or send as the first frame) [`Engine::open_packet`].
//! - **Outgoing.** While [`Engine::mode`] is [`Mode::WebSocket`], frames go straight to the socket and never
//!   touch the engine. Otherwise they wait in the caller's own queue; after adding to it the caller asks
//!   [`Engine::take_poll`] and, on `true`, answers the waiting poll with [`payload::encode`]. After
//!   [`Action::Upgraded`] the whole queue goes out over the WebSocket, first to last.
//! - **Incoming.** Every input gives a [`Step`]: what to do with the poll that waits, and one [`Action`].
//! - **Time.** [`Engine::on_tick`] whenever [`Engine::next_deadline`] has passed.
//! - After [`Action::Closed`], [`Get::Last`] and [`Get::Close`] the session is over: forget its id, close its
//!   WebSocket.
//!
//! Source: Engine.IO protocol, revision 4.

mod packet;
pub mod payload;
mod request;
mod sid;

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::websocket::close;

pub use packet::{InvalidPacket, Message, PING, PROBE_ANSWER, Packet};
pub use request::{Method, Request, RequestError};
pub use sid::Sid;

/// What all sessions of a listener share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Milliseconds from the opening, or the last pong, to the next ping.
    pub ping_interval: u64,
    /// Milliseconds a client has to answer a ping. Also how long a polling session that the server closed
    /// waits for the poll that takes its last packets.
    pub ping_timeout: u64,
    /// Milliseconds from the opening of the second transport to its upgrade packet.
    pub upgrade_timeout: u64,
    /// Bytes of a request body or a WebSocket message that are accepted, and of a polling answer.
    pub max_payload: usize,
}

impl Default for Config {
    /// 25 s and 20 s as in every Engine.IO server, so that clients need no settings; 1 MiB as for all
    /// dialects.
    fn default() -> Self {
        Self { ping_interval: 25_000, ping_timeout: 20_000, upgrade_timeout: 10_000, max_payload: 1 << 20 }
    }
}

/// How packets reach the client now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Outgoing packets wait for polls.
    Polling,
    /// As [`Mode::Polling`], with a WebSocket open that has not been probed.
    Probing,
    /// The WebSocket was probed: outgoing packets wait for the upgrade packet, polls get a noop.
    Upgrading,
    /// Outgoing packets are WebSocket frames.
    WebSocket,
    /// The session is over.
    Closed,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The client sent a close packet.
    ClientClose,
    /// [`Engine::close`].
    ServerClose,
    /// The WebSocket, or a request under way, was cut.
    TransportClosed,
    /// No answer to a ping.
    PingTimeout,
    /// A packet that a client may not send.
    InvalidPacket,
    /// A second poll or a second post while one was under way.
    Overlap,
    /// A request body above [`Config::max_payload`].
    TooLarge,
}

impl CloseReason {
    /// In words, for whoever reads the server's own log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientClose => "the client closed",
            Self::ServerClose => "the server closed",
            Self::TransportClosed => "the connection was cut",
            Self::PingTimeout => "no sign of life",
            Self::InvalidPacket => "a packet that no client sends",
            Self::Overlap => "two requests at the same time",
            Self::TooLarge => "a body that is too large",
        }
    }

    /// How the post is answered whose packets ended the session; `None` means 200 `ok`.
    pub fn post_error(self) -> Option<RequestError> {
        match self {
            Self::ClientClose | Self::ServerClose => None,
            _ => Some(RequestError::BadRequest),
        }
    }

    /// The code of the close frame that ends a WebSocket for it.
    pub const fn close_code(self) -> u16 {
        match self {
            Self::InvalidPacket | Self::Overlap => close::PROTOCOL_ERROR,
            Self::TooLarge => close::TOO_BIG,
            Self::ClientClose | Self::ServerClose | Self::TransportClosed | Self::PingTimeout => {
                close::NORMAL
            }
        }
    }
}

/// Answer for a poll that has been waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PollAnswer {
    /// The packet `6` alone, whatever is queued.
    Noop,
    /// [`payload::encode_last`]: what is queued, then a close packet.
    Last,
}

/// What an input leads to.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Step<'a> {
    /// Answer the waiting poll with this.
    pub waiting_poll: Option<PollAnswer>,
    /// And do this.
    pub action: Action<'a>,
}

/// What the caller does after an input.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Nothing.
    Nothing,
    /// Hand the message on.
    Message(Message<'a>),
    /// Send [`PING`] the way messages go now.
    SendPing,
    /// Send [`PROBE_ANSWER`] as a frame of the WebSocket, past the queue.
    AnswerProbe,
    /// Send what is queued over the WebSocket; from now on packets go there.
    Upgraded,
    /// Close the WebSocket that tried to take over; the session goes on polling.
    AbandonUpgrade,
    /// The session is over. After [`CloseReason::ServerClose`] with a WebSocket, what is queued still goes
    /// out first.
    Closed(CloseReason),
}

/// Answer to a poll.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Get {
    /// Keep the request open; a [`Step`] or [`Engine::take_poll`] will answer it.
    Wait,
    /// Answer with what is queued ([`payload::encode`]).
    Packets,
    /// Answer with the packet `6`.
    Noop,
    /// Answer with [`payload::encode_last`]; the session is over ([`CloseReason::ServerClose`]).
    Last,
    /// Answer with the error; the session goes on.
    Refuse(RequestError),
    /// Answer with the error, the waiting poll as told; the session is over.
    Close(RequestError, Option<PollAnswer>, CloseReason),
}

/// Answer to the head of a post.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Post {
    /// Read the body, pass its packets to [`Engine::on_post_packet`], then [`Engine::on_post_end`] and 200
    /// `ok` (`text/html`), unless a step closed the session ([`CloseReason::post_error`]).
    Read,
    /// Answer with the error; the session goes on.
    Refuse(RequestError),
    /// Answer with the error, the waiting poll as told; the session is over.
    Close(RequestError, Option<PollAnswer>, CloseReason),
}

/// Deadline of something that is not under way.
const NEVER: u64 = u64::MAX;

/// One Engine.IO session: which transport carries it, its heartbeat, its upgrade. Owns no memory beyond
/// itself.
#[derive(Debug)]
pub struct Engine {
    sid: Sid,
    mode: Mode,
    awaiting_pong: bool,
    poll_waits: bool,
    post_open: bool,
    /// Closed by the server, but a polling client has not taken its last packets yet.
    closing: bool,
    /// When the next ping is due or, while one is unanswered, when the client counts as gone.
    heartbeat_at: u64,
    /// End of the attempt to upgrade, or of `closing`.
    limit_at: u64,
}

impl Engine {
    /// Opens a session. `websocket`: over a WebSocket from the start, else over polling.
    pub fn open(sid: Sid, websocket: bool, now: u64, config: &Config) -> Self {
        Self {
            sid,
            mode: if websocket { Mode::WebSocket } else { Mode::Polling },
            awaiting_pong: false,
            poll_waits: false,
            post_open: false,
            closing: false,
            heartbeat_at: now.saturating_add(config.ping_interval),
            limit_at: NEVER,
        }
    }

    /// The open packet with its handshake (protocol, "Handshake"): the first frame of a WebSocket session, or
    /// the whole answer to the request that opened a polling one.
    pub fn open_packet(&self, config: &Config) -> String {
        let upgrades = if self.mode == Mode::WebSocket { "" } else { r#""websocket""# };
        let Config { ping_interval, ping_timeout, max_payload, .. } = config;
        let mut packet = String::with_capacity(144);
        // Writing to a String cannot fail.
        let _ = write!(
            packet,
            r#"0{{"sid":"{}","upgrades":[{upgrades}],"pingInterval":{ping_interval},"pingTimeout":{ping_timeout},"maxPayload":{max_payload}}}"#,
            self.sid.as_str(),
        );
        packet
    }

    /// The session's id.
    pub fn sid(&self) -> &Sid {
        &self.sid
    }

    /// How packets go out now.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether what the client sends still counts.
    pub fn is_open(&self) -> bool {
        self.mode != Mode::Closed && !self.closing
    }

    /// Bytes come from the client, if no whole packet yet, or it takes what was sent before the ping: its time to answer begins
    /// anew.
    pub fn on_bytes(&mut self, now: u64, config: &Config) {
        if self.awaiting_pong {
            self.heartbeat_at = self.heartbeat_at.max(now.saturating_add(config.ping_timeout));
        }
    }

    /// When [`Engine::on_tick`] has something to do, in milliseconds; `None` once the session is over.
    pub fn next_deadline(&self) -> Option<u64> {
        match self.mode {
            Mode::Closed => None,
            _ if self.closing => Some(self.limit_at),
            _ => Some(self.heartbeat_at.min(self.limit_at)),
        }
    }

    /// After packets were queued: whether a poll waits for them. `true` at most once per poll; the caller
    /// answers it.
    #[must_use]
    pub fn take_poll(&mut self) -> bool {
        matches!(self.mode, Mode::Polling | Mode::Probing) && std::mem::take(&mut self.poll_waits)
    }

    /// A poll came in; `queued` says whether packets wait for it.
    pub fn on_poll_get(&mut self, queued: bool, now: u64) -> Get {
        match self.mode {
            Mode::Closed => return Get::Refuse(RequestError::UnknownSid),
            Mode::WebSocket => return Get::Refuse(RequestError::BadRequest),
            Mode::Upgrading => return Get::Noop,
            Mode::Polling | Mode::Probing => {}
        }
        if self.closing {
            self.mode = Mode::Closed;
            return Get::Last;
        }
        if self.awaiting_pong && !self.post_open && now >= self.heartbeat_at {
            // The timer is late; the client must not be able to tell.
            let waiting = self.end(CloseReason::PingTimeout).waiting_poll;
            return Get::Close(RequestError::UnknownSid, waiting, CloseReason::PingTimeout);
        }
        if self.poll_waits {
            let waiting = self.end(CloseReason::Overlap).waiting_poll;
            return Get::Close(RequestError::BadRequest, waiting, CloseReason::Overlap);
        }
        self.poll_waits = !queued;
        if queued { Get::Packets } else { Get::Wait }
    }

    /// The client cut the connection of a poll that waited: it cannot know what it missed, so the session
    /// ends.
    pub fn on_poll_aborted(&mut self) -> Step<'static> {
        if !std::mem::take(&mut self.poll_waits) {
            return Step::NOTHING;
        }
        self.end(CloseReason::TransportClosed)
    }

    /// A post came in; its body has not been read.
    pub fn on_post_start(&mut self) -> Post {
        match self.mode {
            Mode::Closed => Post::Refuse(RequestError::UnknownSid),
            Mode::WebSocket => Post::Refuse(RequestError::BadRequest),
            _ if self.post_open => {
                let waiting = self.end(CloseReason::Overlap).waiting_poll;
                Post::Close(RequestError::BadRequest, waiting, CloseReason::Overlap)
            }
            _ => {
                self.post_open = true;
                Post::Read
            }
        }
    }

    /// One packet of the body ([`payload::decode`]), in order. The caller stops at [`Action::Closed`].
    pub fn on_post_packet<'a>(
        &mut self,
        packet: Result<Packet<'a>, InvalidPacket>,
        now: u64,
        config: &Config,
    ) -> Step<'a> {
        if self.mode == Mode::Closed || self.closing {
            return Step::NOTHING;
        }
        match packet {
            Ok(packet) => self.on_packet(packet, now, config),
            Err(InvalidPacket) => self.end(CloseReason::InvalidPacket),
        }
    }

    /// All packets of the post were handled.
    pub fn on_post_end(&mut self) {
        self.post_open = false;
    }

    /// The body was cut off, not UTF-8, or too large: `reason` says which. What it held is lost, so the
    /// session ends.
    pub fn on_post_failed(&mut self, reason: CloseReason) -> Step<'static> {
        self.post_open = false;
        self.end(reason)
    }

    /// A second transport was opened for this session. `false`: not now, or not again; complete the WebSocket
    /// handshake, then close that socket and tell the engine nothing about it.
    #[must_use]
    pub fn on_upgrade_open(&mut self, now: u64, config: &Config) -> bool {
        if self.mode != Mode::Polling || self.closing {
            return false;
        }
        self.mode = Mode::Probing;
        self.limit_at = now.saturating_add(config.upgrade_timeout);
        true
    }

    /// A text frame of the session's WebSocket.
    pub fn on_ws_text<'a>(&mut self, text: &'a str, now: u64, config: &Config) -> Step<'a> {
        match self.mode {
            Mode::WebSocket => match Packet::from_frame(text) {
                Ok(packet) => self.on_packet(packet, now, config),
                Err(InvalidPacket) => self.end(CloseReason::InvalidPacket),
            },
            Mode::Probing | Mode::Upgrading => self.on_probe(text, now, config),
            Mode::Polling | Mode::Closed => Step::NOTHING,
        }
    }

    /// A binary frame of the session's WebSocket.
    pub fn on_ws_binary<'a>(&mut self, bytes: &'a [u8]) -> Step<'a> {
        match self.mode {
            Mode::WebSocket => Action::Message(Message::Binary(Cow::Borrowed(bytes))).into(),
            Mode::Probing | Mode::Upgrading => self.abandon_upgrade(),
            Mode::Polling | Mode::Closed => Step::NOTHING,
        }
    }

    /// The session's WebSocket is gone. While it only tried to take over, the session goes on polling.
    pub fn on_ws_closed(&mut self) -> Step<'static> {
        match self.mode {
            Mode::WebSocket => self.end(CloseReason::TransportClosed),
            Mode::Probing | Mode::Upgrading => {
                let _ = self.abandon_upgrade();
                Step::NOTHING
            }
            Mode::Polling | Mode::Closed => Step::NOTHING,
        }
    }

    /// Time has passed. One thing at a time: call again while [`Engine::next_deadline`] is not in the future.
    pub fn on_tick(&mut self, now: u64, config: &Config) -> Step<'static> {
        if self.mode == Mode::Closed {
            return Step::NOTHING;
        }
        if now >= self.limit_at {
            return if self.closing { self.end(CloseReason::ServerClose) } else { self.abandon_upgrade() };
        }
        if now < self.heartbeat_at || self.closing {
            return Step::NOTHING;
        }
        if self.awaiting_pong && self.post_open {
            // The pong cannot come before the post that is under way, whose time is bounded by the caller.
            self.on_bytes(now, config);
            return Step::NOTHING;
        }
        if self.awaiting_pong {
            return self.end(CloseReason::PingTimeout);
        }
        // Timers fire a little late; counting from when the ping was due keeps the promise of the handshake
        // exact. After a long stall the client gets the whole time.
        let late = now - self.heartbeat_at;
        let sent = if late < config.ping_timeout / 2 { self.heartbeat_at } else { now };
        self.heartbeat_at = sent.saturating_add(config.ping_timeout);
        self.awaiting_pong = true;
        Action::SendPing.into()
    }

    /// The server ends the session. A polling client without an open poll gets what is queued, and a close
    /// packet, with its next one; until then inputs are ignored.
    pub fn close(&mut self, now: u64, config: &Config) -> Step<'static> {
        if self.mode == Mode::Closed || self.closing {
            return Step::NOTHING;
        }
        if self.mode == Mode::WebSocket || self.poll_waits {
            return self.end(CloseReason::ServerClose);
        }
        self.closing = true;
        self.limit_at = now.saturating_add(config.ping_timeout);
        Step::NOTHING
    }

    fn on_packet<'a>(&mut self, packet: Packet<'a>, now: u64, config: &Config) -> Step<'a> {
        match packet {
            Packet::Message(message) => Action::Message(message).into(),
            Packet::Pong => {
                if std::mem::take(&mut self.awaiting_pong) {
                    self.heartbeat_at = now.saturating_add(config.ping_interval);
                }
                Step::NOTHING
            }
            Packet::Noop => Step::NOTHING,
            Packet::Close => self.end(CloseReason::ClientClose),
            Packet::Ping(_) | Packet::Upgrade => self.end(CloseReason::InvalidPacket),
        }
    }

    fn on_probe(&mut self, text: &str, now: u64, config: &Config) -> Step<'static> {
        match (Packet::from_frame(text), self.mode) {
            (Ok(Packet::Ping("probe")), _) => {
                self.mode = Mode::Upgrading;
                let waiting_poll = std::mem::take(&mut self.poll_waits).then_some(PollAnswer::Noop);
                Step { waiting_poll, action: Action::AnswerProbe }
            }
            (Ok(Packet::Upgrade), Mode::Upgrading) => {
                self.mode = Mode::WebSocket;
                if self.closing {
                    return self.end(CloseReason::ServerClose);
                }
                self.limit_at = NEVER;
                if self.awaiting_pong {
                    // The ping may have waited in the queue and leave only now.
                    self.heartbeat_at = self.heartbeat_at.max(now.saturating_add(config.ping_timeout));
                }
                Action::Upgraded.into()
            }
            _ => self.abandon_upgrade(),
        }
    }

    fn abandon_upgrade(&mut self) -> Step<'static> {
        self.mode = Mode::Polling;
        if !self.closing {
            self.limit_at = NEVER;
        }
        Action::AbandonUpgrade.into()
    }

    fn end(&mut self, reason: CloseReason) -> Step<'static> {
        if self.mode == Mode::Closed {
            return Step::NOTHING;
        }
        self.mode = Mode::Closed;
        let answer = if reason == CloseReason::ClientClose { PollAnswer::Noop } else { PollAnswer::Last };
        let waiting_poll = std::mem::take(&mut self.poll_waits).then_some(answer);
        Step { waiting_poll, action: Action::Closed(reason) }
    }
}

impl Step<'_> {
    const NOTHING: Self = Step { waiting_poll: None, action: Action::Nothing };
}

impl<'a> From<Action<'a>> for Step<'a> {
    fn from(action: Action<'a>) -> Self {
        Self { waiting_poll: None, action }
    }
}

#[cfg(test)]
mod tests;

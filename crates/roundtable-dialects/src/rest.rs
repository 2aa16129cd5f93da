//! REST without a web framework: a dialect's routes are plain async functions over a [`Request`] and a [`Desk`].

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use roundtable_core::engine::Outcome;
use roundtable_core::error::Error;
use roundtable_core::event::Record;
use roundtable_core::ids::{MessageId, NodeId, Principal, RoomId, WorkspaceId};
use roundtable_core::state::State;
use roundtable_core::time::{Offset, Time};
use roundtable_core::users::Incarnation;

use crate::figures::Figures;
use crate::figures::history::Mean;
use crate::session::{Ask, Credentials, Dialect, Family, Identity, Refusal, query_value};

/// A request, whole: the body is bounded by the server.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// `GET`, `POST`, …
    pub method: &'a str,
    /// The path, undecoded, without query.
    pub path: &'a str,
    /// The query string, undecoded, without `?`.
    pub query: &'a str,
    /// The body.
    pub body: &'a [u8],
    /// The `Authorization` header.
    pub authorization: Option<&'a str>,
    /// The `X-API-Key` header.
    pub api_key: Option<&'a str>,
    /// The `X-Key-Id` and `X-Secret-Key` headers, if both are there.
    pub channel_key: Option<(&'a str, &'a str)>,
    /// The `X-Correlation-Id` header, or an id that the server made for this request.
    pub request_id: &'a str,
    /// The client's address.
    pub peer: IpAddr,
    /// Credentials may be left out here.
    pub anonymous: bool,
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
    /// Its type.
    pub content_type: &'static str,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
}

impl Response {
    /// A JSON body.
    pub fn json(status: u16, body: &impl serde::Serialize) -> Self {
        let body = serde_json::to_string(body).unwrap_or_else(|_| "null".into());
        Self { status, body, content_type: "application/json", headers: Vec::new() }
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// Why no handler gets a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unserved {
    /// Nothing is served at its path.
    UnknownPath,
    /// Its body is larger than the server reads.
    TooLarge,
    /// Its body is larger than the server reads of somebody who has not shown who it is in the head of the request.
    Unproven,
    /// Its body did not come in the time that one may take.
    TooSlow,
    /// Its body is encoded.
    Encoded,
    /// There is no memory for its body at present.
    Busy,
}

impl Unserved {
    /// The HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            Self::UnknownPath => 404,
            Self::TooLarge => 413,
            Self::Unproven => 401,
            Self::TooSlow => 408,
            Self::Encoded => 415,
            Self::Busy => 503,
        }
    }

    /// A sentence for people.
    pub const fn message(self) -> &'static str {
        match self {
            Self::UnknownPath => "Nothing is served here",
            Self::TooLarge => "The body is larger than allowed",
            Self::Unproven => "A body this large needs a good credential in the head of the request",
            Self::TooSlow => "The body did not come in time",
            Self::Encoded => "Content-Encoding: bodies are read as they are, not compressed",
            Self::Busy => "Too many bodies are on their way at present",
        }
    }
}

/// What is served: a pattern of a path, divided by `/`, where `:` is any one part and `*` at the end any rest; and what may be
/// done there. Of several that fit the first counts.
pub type Served = (&'static str, &'static [&'static str]);

/// What may be done at a path; `None` if nothing is there.
pub fn methods_of(served: &'static [Served], parts: &[&str]) -> Option<&'static [&'static str]> {
    served.iter().find(|(pattern, _)| fits(pattern, parts)).map(|(_, methods)| *methods)
}

fn fits(pattern: &str, parts: &[&str]) -> bool {
    let mut parts = parts.iter();
    for wanted in pattern.split('/') {
        match (wanted, parts.next()) {
            ("*", _) => return true,
            (":", Some(_)) => {}
            (wanted, Some(part)) if wanted == *part => {}
            _ => return false,
        }
    }
    parts.next().is_none()
}

/// What an address may ask only so often.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limited {
    /// Anything of a dialect's REST.
    Requests(Dialect),
    /// An agent to be made.
    NewAgents,
    /// The state of the whole.
    Status,
    /// A challenge for a node, or its answer; counted by network, since a node chooses its id and key.
    NodeProofs,
}

/// The network of an address, as bounds count it that one address could walk around: /24 of IPv4, /48 of IPv6.
pub fn network_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            IpAddr::from([a, b, c, 0])
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            IpAddr::from([a, b, c, 0, 0, 0, 0, 0])
        }
    }
}

/// How bad a log line is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LogLevel {
    /// For whoever works on the server.
    Debug,
    /// What happens.
    Info,
    /// What should not.
    Warning,
    /// What went wrong.
    Error,
}

/// A line of the server's log, without secrets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogLine {
    /// When.
    pub at: Time,
    /// How bad.
    pub level: LogLevel,
    /// Which part of the server.
    pub component: String,
    /// What it says.
    pub message: String,
}

/// A token to be made.
#[derive(Clone, PartialEq, Debug)]
pub struct TokenOrder {
    /// Which key signs it.
    pub family: Family,
    /// For whom.
    pub subject: Principal,
    /// For which bearer of that name.
    pub incarnation: Incarnation,
    /// In which workspace.
    pub workspace: WorkspaceId,
    /// How long it lives, in seconds.
    pub ttl_s: u32,
    /// Further claims: an object. `sub`, `iat`, `exp`, `jti`, `iss`, `aud` are the server's.
    pub claims: serde_json::Value,
}

/// A token that was made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IssuedToken {
    /// The token.
    pub token: String,
    /// Its own id.
    pub jti: String,
    /// Its end.
    pub expires_at: Time,
}

/// One part of a path, percent-decoded; what cannot be decoded stays as it is and names nothing.
pub fn decoded(part: &str) -> String {
    query_value(&format!("p={part}"), "p").unwrap_or_else(|| part.to_owned())
}

/// Which messages of a room to read: the newest, or the oldest after an offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PageOf {
    /// Only what is before this offset.
    pub before: Option<Offset>,
    /// Only what is after this offset, and the oldest of it.
    pub after: Option<Offset>,
    /// So many of them are passed over first.
    pub skip: usize,
    /// At most so many.
    pub limit: usize,
}

/// Messages of a room, oldest first.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Page {
    /// As many as were asked for, or as there was room for in bytes: at least one, if there is any.
    pub records: Vec<Record>,
    /// There are more in that direction.
    pub more: bool,
}

impl PageOf {
    /// The page of all messages there are before its offset, oldest first: for desks that have them in memory.
    pub fn of(self, mut all: Vec<Record>) -> Page {
        let after = self.after.unwrap_or_default();
        all.retain(|record| record.offset > after);
        let (skipped, rest) = (self.skip.min(all.len()), all.len().saturating_sub(self.skip));
        let (start, end) = match self.after {
            Some(_) => (skipped, skipped + rest.min(self.limit)),
            None => (rest.saturating_sub(self.limit), rest),
        };
        let more = if self.after.is_some() { end < all.len() } else { start > 0 };
        all.truncate(end);
        Page { records: all.split_off(start), more }
    }
}

/// What a node shows to prove that a key is its own.
#[derive(Clone, Copy, Debug)]
pub struct KeyProof<'a> {
    /// Who it says it is.
    pub node: &'a NodeId,
    /// Its Ed25519 key.
    pub key: &'a [u8; 32],
    /// The challenge, as it was given.
    pub challenge: &'a str,
    /// The signature over the node id, a line feed and the challenge.
    pub signature: &'a [u8; 64],
}

/// Why a proof proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unproven {
    /// The challenge was never given to this node and key, was answered already, or has ended.
    Challenge,
    /// The signature was not made with this key.
    Signature,
    /// More challenges were answered lately than are remembered.
    Busy,
}

/// What the server does for REST handlers.
pub trait Desk: Send + Sync {
    /// The present by the wall clock: for what is shown.
    fn now(&self) -> Time;
    /// 128 fresh random bits.
    fn random(&self) -> u128;
    /// The newest figures.
    fn figures(&self) -> Arc<Figures>;
    /// Means of the figures over spans of `step_ms` that begin in a span of time, oldest first. Nothing where nobody samples.
    fn history(&self, _span: (Time, Time), _step_ms: i64) -> Vec<Mean> {
        Vec::new()
    }
    /// The newest log lines that are at least so bad, at most so many, oldest first. Nothing where nobody keeps any.
    fn logs(&self, _least: LogLevel, _limit: usize) -> Vec<LogLine> {
        Vec::new()
    }
    /// The workspace of the three dialects that know none.
    fn default_workspace(&self) -> WorkspaceId;
    /// The committed state of a workspace.
    fn state(&self, workspace: &WorkspaceId) -> Option<Arc<State>>;
    /// Counts a request of an address. Fails with the milliseconds after which there may be another. Without settings there
    /// is no limit.
    fn spend(&self, _what: Limited, _peer: IpAddr) -> Result<(), u64> {
        Ok(())
    }
    /// Whether the operator binds each node id to its key before the node gets a token off loopback; else the first key that
    /// is proved is bound.
    fn approves_nodes(&self) -> bool {
        false
    }
    /// A fresh challenge for a node and its key, and when it ends. One that has ended already where no keys are checked.
    fn challenge(&self, _node: &NodeId, _key: &[u8; 32]) -> (String, Time) {
        (String::new(), self.now())
    }
    /// Checks the answer to a challenge, which is worth nothing after a good one.
    fn proves(&self, _proof: &KeyProof<'_>) -> Result<(), Unproven> {
        Err(Unproven::Challenge)
    }
    /// For how many milliseconds more nobody from the request's address is let in, if it is blocked.
    fn refused_ms(&self) -> Option<u64> {
        None
    }
    /// Checks credentials; counts failures by address and account.
    fn identify(
        &self,
        credentials: Credentials,
        peer: IpAddr,
    ) -> impl Future<Output = Result<Identity, Refusal>> + Send;
    /// The slow hash of a password or an agent's secret, for the log. Fails with `InvalidField` when it is empty or too long,
    /// with `Unavailable` when too many wait.
    fn hash_secret(&self, secret: String) -> impl Future<Output = Result<String, Error>> + Send;
    /// How long tokens of a family live, in seconds; the protocol notes' values unless the operator says otherwise.
    fn lifetime_s(&self, family: Family) -> u32 {
        match family {
            Family::Mxf | Family::Aiwm => 24 * 3_600,
            Family::OpenAgi | Family::Login => 3_600,
            Family::Refresh => 30 * 24 * 3_600,
        }
    }
    /// Messages per minute of one MXF agent, over everything that speaks for it; `None` is no limit. 100, as documented.
    fn messages_per_minute(&self) -> Option<u32> {
        Some(100)
    }
    /// Makes a token. Fails with `Internal` only.
    fn issue(&self, order: TokenOrder) -> Result<IssuedToken, Error>;
    /// Asks the engine; resolves when it is in the log. The state is the one after it.
    fn ask(
        &self,
        who: &Identity,
        ask: Ask,
    ) -> impl Future<Output = Result<(Outcome, Arc<State>), Error>> + Send;
    /// Messages of a room, at most [`MOST_BYTES`](crate::pages::MOST_BYTES) of them but for a single one.
    fn page(
        &self,
        who: &Identity,
        room: &RoomId,
        page: PageOf,
    ) -> impl Future<Output = Result<Page, Error>> + Send;
    /// Lets others have their turn. Called where an answer takes many steps; nothing waits where there is nobody else.
    fn breathe(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
    /// The message with this id, of any room that the asker may read; not one that was taken back.
    fn find(
        &self,
        who: &Identity,
        message: &MessageId,
    ) -> impl Future<Output = Result<Option<Record>, Error>> + Send;
}

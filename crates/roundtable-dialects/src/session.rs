//! What a dialect is to the server: one state machine per connection. Input in, [`Output`]s out; no I/O, no clock, no locks.
//!
//! How things flow. The server opens a session with an [`Opening`]. The session asks for identity with
//! [`Output::Authenticate`] and gets it back through [`Session::identified`]. From then on each [`Input`] becomes commands
//! ([`Output::Ask`]); the engine's answer comes back, in the order of the commands, through [`Session::replied`] and
//! usually becomes an acknowledgement. What others do arrives as [`Delivery`]s of the topics the session subscribed to:
//! [`Session::route`] says which shared form this connection gets, and its `encode` makes each form once for all.

use bytes::Bytes;
use roundtable_core::command::Command;
use roundtable_core::delivery::{Delivery, Topic};
use roundtable_core::engine::Outcome;
use roundtable_core::error::Error;
use roundtable_core::event::Record;
use roundtable_core::ids::{ClientId, ConnectionId, KeyId, MessageId, Principal, RoomId, WorkspaceId};
use roundtable_core::state::State;
use roundtable_core::time::{Cursor, Moment, Offset, Time};
use roundtable_core::users::Incarnation;
use serde_json::value::RawValue;
use smallvec::SmallVec;

use crate::figures::Figures;
use crate::pace::Limit;

/// The five dialects.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Dialect {
    /// Socket.IO, namespace `/`.
    Mxf,
    /// Socket.IO, namespaces `/dev/aiwm/chat`, `/chat`, `/ws`, `/ws/chat`, `/`; raw WebSocket.
    Aiwm,
    /// WebSocket `/ws` on 3001.
    Hive,
    /// WebSocket `/api/v1/ws` on 8080.
    OpenAgi,
    /// WebSocket `/ws` on 3000.
    MegaBot,
}

/// Which signing key a token was made with. A token of one family fails in every other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Family {
    /// MXF.
    Mxf,
    /// AIWM.
    Aiwm,
    /// Open-A.G.I.
    OpenAgi,
    /// Hive and MegaBot, which share a login.
    Login,
    /// Refresh tokens of that login: they open nothing but a new token.
    Refresh,
}

/// What every call of a session may look at.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The present in the workspace's log time: what rules and time-outs compare, and what [`Output::WakeAt`] names.
    pub now: Time,
    /// The present by the wall clock: for what is shown.
    pub at: Time,
    /// The workspace after the newest committed batch this shard has seen. Before identity: the default workspace.
    pub state: &'a State,
    /// The epoch of its log, for cursors.
    pub epoch: u32,
    /// Measured figures of this server process.
    pub figures: &'a Figures,
}

impl Scene<'_> {
    /// The present by both clocks.
    pub const fn moment(&self) -> Moment {
        Moment { t: self.now, at: self.at }
    }
}

/// What is known when a client comes to the door.
#[derive(Clone, Debug)]
pub struct Opening<'a> {
    /// The connection.
    pub connection: ConnectionId,
    /// The client's address, without port.
    pub peer: std::net::IpAddr,
    /// Credentials may be left out here (loopback listener, not switched off).
    pub anonymous: bool,
    /// The Socket.IO namespace; `/` on plain WebSockets.
    pub namespace: &'a str,
    /// The request's path.
    pub path: &'a str,
    /// The request's query string, undecoded, without `?`; the session decodes what it needs with [`query_value`].
    pub query: &'a str,
    /// The `Authorization` header.
    pub authorization: Option<&'a str>,
    /// The `X-API-Key` header.
    pub api_key: Option<&'a str>,
    /// The payload of the Socket.IO CONNECT packet.
    pub auth: Option<&'a RawValue>,
    /// permessage-deflate is on.
    pub deflate: bool,
    /// Fresh random bits, for secrets and names that the session makes.
    pub random: u128,
}

/// Something to check. Fields are exactly what the client sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// A workspace's domain key; `None` means the default workspace or the one the credential names.
    pub domain_key: Option<String>,
    /// The proof.
    pub proof: Proof,
}

/// How somebody proves who they are.
#[derive(Clone, PartialEq, Eq)]
pub enum Proof {
    /// A signed token.
    Token(Family, String),
    /// A user's API key `key_id:secret`.
    ApiKey(String),
    /// First as a token of the family, then as an API key, then (with a family of MXF) as a channel key `key_id:secret`.
    Bearer(Family, String),
    /// A user's password.
    Password {
        /// The account.
        username: String,
        /// The password.
        password: String,
    },
    /// An MXF channel key.
    ChannelKey {
        /// Its public half.
        key_id: String,
        /// Its secret half.
        secret: String,
    },
    /// An agent's own secret.
    AgentSecret {
        /// The agent.
        agent: String,
        /// Its secret.
        secret: String,
    },
    /// Nothing: a guest, by the name it wants or one that is made.
    Guest(Option<String>),
}

/// Why somebody may not come in. The dialect finds its own words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Refusal {
    /// Nothing was shown where something is needed.
    Missing,
    /// Nobody issued this, or it is damaged.
    Invalid,
    /// This server made it, but for something else: another dialect, another kind of access, another workspace. No guess.
    Elsewhere,
    /// It is past its end.
    Expired,
    /// It was revoked.
    Revoked,
    /// The account is disabled or the agent suspended.
    Suspended,
    /// The agent or user that it names is no more.
    Gone,
    /// No workspace has this domain key.
    UnknownDomain,
    /// The server has no workspace.
    NoDomain,
    /// A guest wants the name of a registered account.
    NameTaken,
    /// Too many failures from this address, or from there for this account: what is shown is read again after so many
    /// milliseconds.
    TooManyFailures(u64),
}

impl Refusal {
    /// In how many seconds there may be another try, at least 1; `None` where waiting does not help.
    pub fn retry_after_s(self) -> Option<u64> {
        match self {
            Self::TooManyFailures(ms) => Some(ms.div_ceil(1_000).max(1)),
            _ => None,
        }
    }

    /// A few words for a close frame.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "credential missing",
            Self::Invalid => "credential invalid",
            Self::Elsewhere => "credential for something else",
            Self::Expired => "credential expired",
            Self::Revoked => "credential revoked",
            Self::Suspended => "account disabled or agent suspended",
            Self::Gone => "account or agent removed",
            Self::UnknownDomain => "domain unknown",
            Self::NoDomain => "no workspace",
            Self::NameTaken => "name taken",
            Self::TooManyFailures(_) => "too many failures",
        }
    }
}

/// Who a connection is.
#[derive(Clone, PartialEq, Debug)]
pub struct Identity {
    /// Where.
    pub workspace: WorkspaceId,
    /// Who.
    pub principal: Principal,
    /// By what.
    pub credential: Credential,
    /// Which bearer of the name it was when it came in.
    pub incarnation: Incarnation,
    /// When the credential ends.
    pub expires_at: Option<Time>,
}

/// By what somebody came in.
#[derive(Clone, PartialEq, Debug)]
pub enum Credential {
    /// A token, by its own id.
    Token {
        /// Claim `jti`.
        jti: String,
    },
    /// A user's API key.
    ApiKey(KeyId),
    /// An MXF channel key, with the room it names.
    ChannelKey(KeyId, RoomId),
    /// A password or an agent's secret.
    Secret,
    /// None.
    Guest,
}

/// Something that came from the client.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// A text message of a plain WebSocket.
    Text(&'a str),
    /// A binary message of a plain WebSocket.
    Binary(&'a [u8]),
    /// A Socket.IO event. `args` are the arguments after the name, each as raw JSON.
    Event {
        /// Its name.
        name: &'a str,
        /// Its arguments; binary ones stand as `{"_placeholder":true,"num":n}`.
        args: &'a [&'a RawValue],
        /// The binary attachments, by number.
        attachments: &'a [Bytes],
        /// The acknowledgement the client waits for.
        ack: Option<u64>,
    },
    /// The client's answer to a [`Message::Question`]. Only a number that was asked and not answered yet counts.
    Answer {
        /// The number the question was sent with.
        number: u64,
        /// The answer's arguments.
        args: &'a [&'a RawValue],
        /// Their binary attachments, by number.
        attachments: &'a [Bytes],
    },
}

/// Something to the client.
#[derive(Clone, PartialEq, Debug)]
pub enum Message {
    /// A text message of a plain WebSocket.
    Text(String),
    /// A binary message of a plain WebSocket.
    Binary(Bytes),
    /// A Socket.IO event: its name and its arguments as JSON texts joined by commas (usually one object).
    Event(&'static str, String),
    /// A Socket.IO event with a name that is not fixed, or with binary arguments (placeholders in `args`).
    BinaryEvent(&'static str, String, Vec<Bytes>),
    /// A Socket.IO event that asks for an acknowledgement under a number of the session's choice: name, arguments, binary
    /// attachments, number.
    Question(&'static str, String, Vec<Bytes>, u64),
    /// The answer to an acknowledgement: its id and the arguments as JSON texts joined by commas.
    Ack(u64, String),
    /// The same with binary arguments (placeholders in the text).
    BinaryAck(u64, String, Vec<Bytes>),
}

/// What a session calls one of its questions, to recognise the answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Token(pub u32);

/// How a connection ends.
#[derive(Clone, PartialEq, Debug)]
pub enum Ending {
    /// A close frame (on Socket.IO: the disconnect packet, then the transport closes).
    Close(u16, String),
    /// The transport closes without a word.
    Drop,
}

/// One question to the engine.
#[derive(Clone, PartialEq, Debug)]
pub struct Ask {
    /// What the session calls it.
    pub token: Token,
    /// What is asked.
    pub command: Command,
    /// Who acts, if not the connection's own principal: one that it may act as (an agent of a user).
    pub actor: Option<Principal>,
    /// The client's own name for it, so that asking twice has one effect.
    pub client: Option<ClientId>,
    /// What it counts against.
    pub budget: Option<Budget>,
}

impl Ask {
    /// A question of the connection's own principal.
    pub fn new(token: Token, command: Command) -> Self {
        Self { token, command, actor: None, client: None, budget: None }
    }
}

/// How often a principal may do something, counted over all its connections in a sliding window. A refused question does not
/// count; its reply is `RateLimited`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// Which class of questions share it.
    pub class: &'static str,
    /// How many in the window.
    pub most: u32,
    /// The window in milliseconds.
    pub window_ms: u32,
}

/// A sign of an attack that only a dialect sees. What was asked is refused in any case; the server counts how often.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sign {
    /// A frame that is none: not JSON, or not what every frame has to be.
    Malformed,
    /// A frame beyond the allowed rate.
    TooFast,
    /// A payload that claims to come from somebody else.
    Impersonation,
}

/// What a session wants done, in order.
#[derive(Clone)]
pub enum Output {
    /// Send to this client.
    Send(Message),
    /// Socket.IO: answer CONNECT with success. Everything a client may use at once must be ready before.
    Accept,
    /// Socket.IO: answer CONNECT with `{message, data}`; `data` is JSON. The session is over.
    Refuse {
        /// The text a client sees as `error.message`.
        message: String,
        /// JSON for `error.data`.
        data: Option<String>,
    },
    /// Find out who this is; [`Session::identified`] gets the answer.
    Authenticate(Credentials),
    /// Ask the engine. Replies come through [`Session::replied`] in order.
    Ask(Ask),
    /// Receive what goes to a topic, from now on or, with a cursor, from there without gap or repeat.
    Subscribe(Topic, Option<Cursor>),
    /// Receive it no longer.
    Unsubscribe(Topic),
    /// Read a page of a room's messages; [`Session::paged`] gets it.
    Read {
        /// What the session calls it.
        token: Token,
        /// Which room.
        room: RoomId,
        /// Only what is before this offset.
        before: Option<Offset>,
        /// At most so many, the newest of them, oldest first.
        limit: u32,
    },
    /// Find a message by its id, in whichever room; [`Session::found`] gets it.
    Find {
        /// What the session calls it.
        token: Token,
        /// Which.
        message: MessageId,
    },
    /// Find out from where on at most `most` of what a client missed in some topics reaches it. Where there may be more, the
    /// server shows records after the cursors to [`Session::reaches`]; [`Session::surveyed`] gets the answer.
    Survey {
        /// The topics, each with the cursor after which something was missed.
        missed: Vec<(Topic, Cursor)>,
        /// How many.
        most: Most,
    },
    /// Plain WebSocket: a protocol ping with this number, in its place after everything sent before (not ahead of it).
    /// [`Session::proven`] is called when its pong comes.
    Probe(u32),
    /// Count a sign of an attack against this client's address.
    Notice(Sign),
    /// So many bytes came out of something that the session unpacked by itself: they count as if they had been received.
    Unpacked(usize),
    /// Call [`Session::woken`] at this time, once; a later request replaces an earlier one.
    WakeAt(Time),
    /// The connection ends after what was sent before.
    End(Ending),
}

/// How many missed records a client gets, the newest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Most {
    /// Of all topics together.
    Together(usize),
    /// Of each topic.
    Each(usize),
}

/// Where a session puts its outputs.
pub type Outputs = Vec<Output>;

/// A wire form that several connections share: small, comparable, chosen by the dialect.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Form(pub u16);

/// What one connection gets of one delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// Nothing.
    Skip,
    /// What the dialect's `encode` makes for this form; the same bytes for everybody who gets it.
    Shared(Form),
    /// Something of its own: [`Session::deliver`] is called.
    Own,
}

/// The messages of one form of one delivery, in order; usually one.
pub type Messages = SmallVec<[Message; 1]>;

/// One dialect's side of one connection.
pub trait Session: Send {
    /// The client is at the door. On plain WebSockets the upgrade is done; on Socket.IO the CONNECT packet waits for
    /// [`Output::Accept`] or [`Output::Refuse`].
    fn open(&mut self, opening: &Opening<'_>, scene: Scene<'_>, out: &mut Outputs);

    /// The answer to [`Output::Authenticate`]. Afterwards `scene` shows the identity's workspace.
    fn identified(&mut self, who: Result<&Identity, Refusal>, scene: Scene<'_>, out: &mut Outputs);

    /// Something from the client.
    fn input(&mut self, input: Input<'_>, scene: Scene<'_>, out: &mut Outputs);

    /// The engine's answer to a command; `scene.state` is the state after it. What the command caused was delivered before.
    fn replied(&mut self, token: Token, reply: Result<&Outcome, &Error>, scene: Scene<'_>, out: &mut Outputs);

    /// The answer to [`Output::Read`].
    fn paged(
        &mut self,
        _token: Token,
        _page: Result<&[Record], &Error>,
        _scene: Scene<'_>,
        _out: &mut Outputs,
    ) {
    }

    /// The answer to [`Output::Find`]: the message, if it was not taken back and the client may read its room.
    fn found(
        &mut self,
        _token: Token,
        _message: Result<Option<&Record>, &Error>,
        _scene: Scene<'_>,
        _out: &mut Outputs,
    ) {
    }

    /// Whether a record that is read back would reach this client; asked for [`Output::Survey`] only.
    fn reaches(&self, _delivery: &Delivery<'_>, _scene: Scene<'_>) -> bool {
        true
    }

    /// The answer to [`Output::Survey`]: the topics of which too much was missed, each with the newest record that is too many.
    /// Those after it are few enough.
    fn surveyed(&mut self, _lost: &[(Topic, Offset)], _scene: Scene<'_>, _out: &mut Outputs) {}

    /// What this connection gets of a delivery. The session may note things here (it may have to leave a room).
    fn route(&mut self, delivery: &Delivery<'_>, scene: Scene<'_>) -> Route;

    /// The connection's own messages for a delivery it answered with [`Route::Own`].
    fn deliver(&mut self, _delivery: &Delivery<'_>, _scene: Scene<'_>, _out: &mut Outputs) {}

    /// All that was missed was handed out: what happens now comes as it happens. Follows every subscription with a cursor, at
    /// once if nothing was missed.
    fn caught_up(&mut self, _scene: Scene<'_>, _out: &mut Outputs) {}

    /// A log time asked for with [`Output::WakeAt`] has come.
    fn woken(&mut self, _scene: Scene<'_>, _out: &mut Outputs) {}

    /// The pong for an [`Output::Probe`] came: all that was sent before the probe has arrived.
    fn proven(&mut self, _probe: u32, _scene: Scene<'_>, _out: &mut Outputs) {}

    /// Plain WebSocket: how many messages of this connection are read; `None` for any number.
    fn frame_limit(&self) -> Option<Limit> {
        None
    }

    /// Plain WebSocket: a message beyond [`Session::frame_limit`] came. It was left unread, neither inflated nor parsed; one
    /// that comes after so many milliseconds is read again.
    fn too_fast(&mut self, _after_ms: u64, _scene: Scene<'_>, _out: &mut Outputs) {}

    /// Plain WebSocket: a message was larger than allowed, so it was not read. After what the session sends now, the server
    /// closes with 1009.
    fn oversized(&mut self, _scene: Scene<'_>, _out: &mut Outputs) {}

    /// A resume could not be done: the cursor of this topic is outside of what is kept. The first one possible is given.
    fn cannot_resume(&mut self, _topic: &Topic, _first: Cursor, _scene: Scene<'_>, _out: &mut Outputs) {}

    /// The credential was revoked, the account disabled, the agent suspended or removed: the connection ends.
    fn expelled(&mut self, refusal: Refusal, _scene: Scene<'_>, out: &mut Outputs) {
        out.push(Output::End(Ending::Close(1008, refusal.as_str().into())));
    }

    /// The connection is gone or about to go; last commands (leaving, presence) go into `out`.
    fn closed(&mut self, scene: Scene<'_>, out: &mut Outputs);
}

/// The first value of a query parameter, percent-decoded, `+` as space. `None` if absent or not UTF-8.
pub fn query_value(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode_query(key).as_deref() == Some(name)).then(|| decode_query(value)).flatten()
    })
}

fn decode_query(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |b: Option<u8>| {
                    b.and_then(|b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok())
                };
                let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
                (high << 4) | low
            }
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

/// The text of an `Authorization: Bearer …` header; the scheme's case does not matter.
pub fn bearer(header: &str) -> Option<&str> {
    let (scheme, rest) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| rest.trim())
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::{bearer, query_value};

    #[test]
    fn query_values_are_decoded_and_the_first_one_counts() {
        assert_eq!(query_value("a=1&token=x%2By+z&token=2", "token").as_deref(), Some("x+y z"));
        assert_eq!(query_value("token", "token").as_deref(), Some(""));
        assert_eq!(query_value("a=1", "token"), None);
        assert_eq!(query_value("token=%zz", "token"), None);
    }

    #[test]
    fn bearer_ignores_the_case_of_its_scheme() {
        assert_eq!(bearer("bearer  abc "), Some("abc"));
        assert_eq!(bearer("Basic abc"), None);
    }
}

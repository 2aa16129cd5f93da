//! MXF: agents in channels over Socket.IO, in the document's flat events and in the envelopes of its SDK.

mod encode;
mod errors;
mod input;
mod login;
mod reply;
pub mod rest;
mod route;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use roundtable_core::command::Command;
use roundtable_core::delivery::{Delivery, Topic};
use roundtable_core::engine::Outcome;
use roundtable_core::error::Error;
use roundtable_core::ids::{AgentId, ConnectionId, KeyId, MessageId, Principal, RoomId};
use roundtable_core::json::Json;
use roundtable_core::limits::WAITING_DIRECT_MS;
use roundtable_core::time::{Cursor, Offset, Time};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::session::{
    Ask, Budget, Form, Identity, Input, Message, Opening, Output, Outputs, Refusal, Route, Scene, Session,
    Sign, Token,
};
use encode::shapes::{self, Superset};
use errors::Domain;

pub use encode::encode;

/// What an operator may set.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// Messages per minute of one agent (of one user, if it speaks for itself), over all its sockets; `None` is no limit.
    /// 100, as documented.
    pub messages_per_minute: Option<u32>,
    /// Memory operations per minute, counted alike; `None` is no limit. 200, as documented.
    pub memory_per_minute: Option<u32>,
    /// Milliseconds until a socket without login is kicked. 60,000: time for a person to type a password, no home for idlers.
    pub login_ms: i64,
    /// `agent:register` of a user makes a missing channel. On, as the document's samples never create one.
    pub register_creates_channel: bool,
    /// Up to how many members of a channel coming, going and status are told to the others. 100: the traffic grows with the
    /// square of the members.
    pub announced_members: usize,
    /// How many agents one user's socket may speak for. 256: each is remembered for as long as the socket lives.
    pub agents_per_socket: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            messages_per_minute: Some(100),
            memory_per_minute: Some(200),
            login_ms: 60_000,
            register_creates_channel: true,
            announced_members: 100,
            agents_per_socket: 256,
        }
    }
}

/// How far a socket has come in.
enum Stage {
    /// CONNECT was accepted, no login succeeded yet.
    Outside,
    /// Credentials are being checked.
    Checking(Box<login::Attempt>),
    /// They are good; agent, channel and presence are being prepared.
    Entering(Box<login::Attempt>),
    /// It may act.
    Inside,
}

/// What the client asked: failures go to the domain of its event, and its acknowledgement is answered once.
#[derive(Clone, Copy)]
struct Call {
    event: &'static str,
    ack: Option<u64>,
}

impl Call {
    /// Nothing that a client asked.
    const NONE: Self = Self { event: "", ack: None };
}

/// A question to the engine whose answer is awaited.
struct Pending {
    token: Token,
    call: Call,
    then: Then,
}

/// An event that came while a channel was being entered: it waits until what goes to that channel reaches this socket.
struct Held {
    name: String,
    payload: Option<Box<RawValue>>,
    attachments: Vec<Bytes>,
    ack: Option<u64>,
}

impl Held {
    /// Bytes of its payload.
    fn size(&self) -> usize {
        let text = self.payload.as_ref().map_or(0, |payload| payload.get().len());
        text + self.attachments.iter().map(Bytes::len).sum::<usize>()
    }
}

/// What an answer leads to.
enum Then {
    /// Nothing, not even when it fails.
    Nothing,
    /// One of several; a failure is told with the last one.
    Step,
    /// The last step of a login.
    Login,
    /// The last step of `agent:register`.
    Registered { agent: AgentId, room: RoomId, adopted: bool },
    /// The last step of `channel:join`.
    Joined { room: RoomId, who: Principal, adopted: bool },
    /// `channel:leave`.
    Left { room: RoomId, who: Principal },
    /// `channel:update`.
    ChannelUpdated { room: RoomId },
    /// `message:send`, `message:broadcast` and `message:channel`.
    Sent,
    /// `message:direct`, and `message:agent` with an event for its sender.
    SentDirect { to: AgentId, sdk: bool },
    /// The last step of `agent:update`.
    Updated { agent: AgentId, updates: Json },
    /// `agent:status`.
    Status { agent: AgentId },
    /// `memory:get`.
    Recalled { wish: Box<input::memory::Recall> },
    /// An event that is answered by its acknowledgement alone.
    Accepted,
    /// `agent:register` in an envelope.
    SdkRegistered { agent: AgentId, room: Option<RoomId> },
    /// `agent:allowed_tools:update`.
    ToolsAllowed { agent: AgentId, tools: Vec<String> },
    /// `channel:create`.
    ChannelCreated { room: RoomId },
    /// The last step of `key:generate`, with what is shown once.
    KeyMade { shown: Box<FreshKey> },
    /// `key:deactivate`.
    KeyRevoked { key: KeyId, room: Option<RoomId> },
}

/// A channel key right after it was made.
struct FreshKey {
    room: RoomId,
    agent: AgentId,
    key: KeyId,
    secret: String,
    expires_at: Option<Time>,
}

/// MXF's side of one connection.
pub struct MxfSession {
    settings: Arc<Settings>,
    connection: ConnectionId,
    random: u128,
    /// CONNECT was answered.
    accepted: bool,
    stage: Stage,
    who: Option<Identity>,
    form: Form,
    /// The agents that a user's socket speaks for; the last one by default.
    agents: Vec<AgentId>,
    rooms: BTreeSet<RoomId>,
    pending: VecDeque<Pending>,
    held: VecDeque<Held>,
    /// The first failure among the steps of one request.
    failure: Option<Error>,
    tokens: u32,
    events: u32,
    /// Records up to here that come again with a resumed topic are old, but for direct messages.
    live_after: Offset,
    /// The last record that goes to several rooms at once: one delivery per socket.
    seen: Offset,
    /// When the login began.
    came_after: Offset,
    /// Up to where the client has everything, as its login said.
    since: Option<Cursor>,
    /// Tells the credentials that it came in by from others.
    mark: String,
    /// The newest message of this connection's own, for its acknowledgement.
    said: Option<(MessageId, Time)>,
}

impl MxfSession {
    /// A session for one CONNECT.
    pub fn new(settings: Arc<Settings>) -> Self {
        Self {
            settings,
            connection: ConnectionId(0),
            random: 0,
            accepted: false,
            stage: Stage::Outside,
            who: None,
            form: encode::UNDETERMINED,
            agents: Vec::new(),
            rooms: BTreeSet::new(),
            pending: VecDeque::new(),
            held: VecDeque::new(),
            failure: None,
            tokens: 0,
            events: 0,
            live_after: Offset(0),
            seen: Offset(0),
            came_after: Offset(0),
            since: None,
            mark: String::new(),
            said: None,
        }
    }

    /// Who acts where no payload names one of this socket's agents (MXF notes §1).
    fn acting(&self, named: Option<&AgentId>, out: &mut Outputs) -> Principal {
        let own = self.principal();
        if let Some(agent) = own.agent() {
            // It speaks for itself, whatever it says; that it says so is worth knowing.
            if named.is_some_and(|named| named != agent) {
                out.push(Output::Notice(Sign::Impersonation));
            }
            return own;
        }
        let named = named.filter(|agent| self.agents.contains(agent));
        named.or(self.agents.last()).map_or(own, |agent| Principal::Agent(agent.clone()))
    }

    /// Who the connection is. Only asked inside.
    fn principal(&self) -> Principal {
        self.who.as_ref().map_or(Principal::System, |who| who.principal.clone())
    }

    /// Whether a channel holds this socket's principal or one of its agents.
    fn is_in(&self, room: &RoomId, scene: Scene<'_>) -> bool {
        let Some(room) = scene.state.room(room) else { return false };
        let agent_in = |agent: &AgentId| room.members.contains_key(&Principal::Agent(agent.clone()));
        room.members.contains_key(&self.principal()) || self.agents.iter().any(agent_in)
    }

    /// Asks the engine as the connection itself.
    fn ask(&mut self, command: Command, pending: (Call, Then), out: &mut Outputs) {
        self.ask_as(None, command, pending, out);
    }

    /// Asks the engine as somebody whom the connection may act as; `None` is the connection itself.
    fn ask_as(
        &mut self,
        actor: Option<Principal>,
        command: Command,
        pending: (Call, Then),
        out: &mut Outputs,
    ) {
        let ask = self.question(actor, command, pending);
        out.push(Output::Ask(ask));
    }

    /// A question under a token of its own, which the answer will find again.
    fn question(&mut self, actor: Option<Principal>, command: Command, pending: (Call, Then)) -> Ask {
        self.tokens = self.tokens.wrapping_add(1);
        let token = Token(self.tokens);
        let (call, then) = pending;
        self.pending.push_back(Pending { token, call, then });
        let actor = actor.filter(|actor| self.who.as_ref().is_none_or(|who| who.principal != *actor));
        Ask { actor, ..Ask::new(token, command) }
    }

    /// The limit on messages, if there is one.
    fn message_budget(&self) -> Option<Budget> {
        let most = self.settings.messages_per_minute?;
        Some(Budget { class: "mxf.messages", most, window_ms: errors::WINDOW_MS })
    }

    /// The limit on memory operations, if there is one.
    fn memory_budget(&self) -> Option<Budget> {
        let most = self.settings.memory_per_minute?;
        Some(Budget { class: "mxf.memory", most, window_ms: errors::WINDOW_MS })
    }

    /// Receives what goes to a channel from now on.
    fn follow(&mut self, room: &RoomId, out: &mut Outputs) {
        self.follow_since(room, None, out);
    }

    fn follow_since(&mut self, room: &RoomId, since: Option<Cursor>, out: &mut Outputs) {
        if self.rooms.insert(room.clone()) {
            out.push(Output::Subscribe(Topic::Room(room.clone()), since));
        }
    }

    /// Receives what goes to somebody, and first the direct messages that waited and, if the login says up to where it has
    /// everything, what was missed in the channels that it was in before.
    fn listen(&mut self, who: &Principal, scene: Scene<'_>, out: &mut Outputs) {
        self.live_after = self.live_after.max(scene.state.head);
        let fresh = |(_, t): &&(Offset, Time)| scene.now.since(*t) <= WAITING_DIRECT_MS;
        let first = scene.state.waiting(who).iter().find(fresh);
        let before = |(offset, _): &(Offset, Time)| Cursor {
            epoch: scene.epoch,
            offset: Offset(offset.0.saturating_sub(1)),
        };
        out.push(Output::Subscribe(Topic::Principal(who.clone()), first.map(before)));
        for room in scene.state.rooms_of(who) {
            let joined = scene.state.room(room).and_then(|room| room.members.get(who)).map(|m| m.joined);
            let before = joined.is_some_and(|joined| joined <= self.came_after);
            self.follow_since(room, self.since.filter(|_| before), out);
        }
    }

    /// The event of a domain that failed, `error`, and the refusing acknowledgement.
    fn refuse(&mut self, call: Call, error: &Error, scene: Scene<'_>, out: &mut Outputs) {
        let body = errors::body(error);
        out.push(Output::Send(Message::Event("error", shapes::text(&body))));
        match Domain::of(call.event).event() {
            Some((name, true)) => {
                let mut data = body.clone();
                data.insert("error".into(), errors::message(error).into());
                let message = self.superset(name, None, scene.at).message(&body, &data);
                out.push(Output::Send(message));
            }
            Some((name, false)) => out.push(Output::Send(Message::Event(name, shapes::text(&body)))),
            None => {}
        }
        if let Some(id) = call.ack {
            out.push(Output::Send(Message::Ack(id, errors::ack(error))));
        }
    }

    /// A superset event of this connection's own about `about` (agent, channel), or about itself.
    fn superset<'a>(
        &mut self,
        name: &'static str,
        about: Option<(&'a str, &'a str)>,
        at: Time,
    ) -> Superset<'a> {
        Superset { name, id: self.event_id(), at, about: about.unwrap_or((shapes::NOWHERE, shapes::NOWHERE)) }
    }

    /// An envelope of this connection's own about an agent and a channel.
    fn envelope(&mut self, name: &'static str, about: (&str, &str), data: Value, scene: Scene<'_>) -> Output {
        Output::Send(self.superset(name, Some(about), scene.at).message(&Map::new(), &members(data)))
    }

    /// A fresh `eventId` for an event that only this client gets.
    fn event_id(&mut self) -> String {
        self.events = self.events.wrapping_add(1);
        shapes::uuid(&self.random.to_be_bytes(), &self.events.to_be_bytes())
    }

    /// What the SDK calls `socketId`.
    fn socket_id(&self) -> String {
        format!("{:016x}", self.connection.0)
    }
}

/// Acknowledges with `{success:true, …fields}`.
fn acknowledge(ack: Option<u64>, fields: Map<String, Value>, out: &mut Outputs) {
    let Some(id) = ack else { return };
    let mut whole = Map::new();
    whole.insert("success".into(), true.into());
    whole.extend(fields);
    out.push(Output::Send(Message::Ack(id, shapes::text(&whole))));
}

/// The members of a `json!` object.
fn members(value: Value) -> Map<String, Value> {
    if let Value::Object(members) = value { members } else { Map::new() }
}

/// Sends an event with one payload.
fn send(name: &'static str, payload: &impl serde::Serialize, out: &mut Outputs) {
    out.push(Output::Send(Message::Event(name, shapes::text(payload))));
}

impl Session for MxfSession {
    fn open(&mut self, opening: &Opening<'_>, _scene: Scene<'_>, out: &mut Outputs) {
        self.connection = opening.connection;
        self.random = opening.random;
        self.knock(opening, out);
    }

    fn identified(&mut self, who: Result<&Identity, Refusal>, scene: Scene<'_>, out: &mut Outputs) {
        self.checked(who, scene, out);
    }

    fn input(&mut self, input: Input<'_>, scene: Scene<'_>, out: &mut Outputs) {
        if let Input::Event { name, args, attachments, ack } = input {
            self.take((name, ack), (args.first().copied(), attachments), scene, out);
        }
    }

    fn replied(
        &mut self,
        token: Token,
        reply: Result<&Outcome, &Error>,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) {
        self.answered(token, reply, scene, out);
        self.release(scene, out);
    }

    fn route(&mut self, delivery: &Delivery<'_>, scene: Scene<'_>) -> Route {
        self.way_of(delivery, scene)
    }

    fn deliver(&mut self, delivery: &Delivery<'_>, scene: Scene<'_>, out: &mut Outputs) {
        self.hand_over(delivery, scene, out);
    }

    fn woken(&mut self, _scene: Scene<'_>, out: &mut Outputs) {
        self.kick_idler(out);
    }

    fn cannot_resume(&mut self, topic: &Topic, first: Cursor, _scene: Scene<'_>, out: &mut Outputs) {
        Self::tell_gap(topic, first, out);
    }

    fn closed(&mut self, _scene: Scene<'_>, out: &mut Outputs) {
        if self.who.is_none() {
            return;
        }
        for agent in std::mem::take(&mut self.agents) {
            let actor = Some(Principal::Agent(agent));
            self.ask_as(actor, Command::Disconnect, (Call::NONE, Then::Nothing), out);
        }
        self.ask(Command::Disconnect, (Call::NONE, Then::Nothing), out);
    }
}

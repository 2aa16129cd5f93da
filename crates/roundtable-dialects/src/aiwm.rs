//! AIWM: an agent and users talk in a conversation, over Socket.IO or a plain WebSocket with the same events.

pub mod encode;
pub mod errors;
mod input;
mod login;
mod reply;
pub mod rest;
mod route;
#[cfg(test)]
mod tests;
pub mod wire;

use std::collections::VecDeque;
use std::sync::Arc;

use roundtable_core::command::Command;
use roundtable_core::delivery::{Delivery, Topic};
use roundtable_core::engine::Outcome;
use roundtable_core::error::Error;
use roundtable_core::event::Record;
use roundtable_core::ids::{AgentId, ConnectionId, MessageId, Principal, RoomId};
use roundtable_core::messages::Post;
use roundtable_core::time::{Cursor, Offset, Time};

pub use encode::encode;
use encode::{Door, ServerEvent, json};
use input::{Held, Reply, Seeking};
use login::Arrival;
use route::Reach;

use crate::iso::iso;
use crate::probes::Probes;
use crate::session::{
    Ask, Identity, Input, Message, Opening, Output, Outputs, Refusal, Route, Scene, Session, Sign, Token,
};

/// What an operator may change.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// On namespace `/` every event goes out under `message:new` and `message_new`, and both are taken. Python's decorators
    /// can only name the latter (notes §1).
    pub underscore_names: bool,
    /// How long "is typing" holds without being renewed, in milliseconds, from 200 (notes §6).
    pub typing_ms: i64,
    /// At most so many missed messages of one conversation are replayed, the newest (notes §5).
    pub replay_messages: u32,
    /// Shortest time between two probes of what has arrived, in milliseconds: a burst shall not be answered by another. What
    /// was sent within it before a client goes comes again when it is back, under the same `_id`.
    pub probe_ms: i64,
    /// Shortest time between two records of what has arrived, in milliseconds: what came within it before the server dies
    /// comes again.
    pub note_ms: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            underscore_names: true,
            typing_ms: 10_000,
            replay_messages: 200,
            probe_ms: 250,
            note_ms: 5_000,
        }
    }
}

/// A question to the engine that is under way.
#[derive(Debug)]
enum Pending {
    OwnRoom,
    Opened,
    Presence,
    Paired { reply: Reply, agent: AgentId, before: Option<RoomId> },
    Said(Reply, Box<Post>),
    Joined { reply: Reply, room: Option<RoomId>, before: Option<RoomId> },
    Left(Reply, RoomId),
    Typed(Reply, RoomId),
    Read(Reply, RoomId),
    Online(Reply, RoomId),
    Unanswered,
}

/// One AIWM connection.
#[derive(Debug)]
pub struct AiwmSession {
    settings: Arc<Settings>,
    door: Door,
    connection: ConnectionId,
    me: Option<Principal>,
    arrival: Option<Box<Arrival>>,
    present: bool,
    own: Option<RoomId>,
    current: Option<RoomId>,
    /// CONNECT was answered.
    greeted: bool,
    /// The rooms this connection hears; up to the offset it gets only messages of others (what it missed).
    rooms: Vec<(RoomId, Offset)>,
    /// Own messages that it was told of before they came from the log: this connection was behind.
    told: VecDeque<MessageId>,
    tokens: u32,
    pending: VecDeque<(Token, Pending)>,
    /// Pages of history that are being read.
    reading: Vec<(Token, Reply)>,
    seeking: Vec<(Token, Seeking)>,
    typing: Vec<(RoomId, Time)>,
    /// Own messages that were delivered and not yet confirmed.
    sent: Vec<(MessageId, Time, String)>,
    held: VecDeque<Held>,
    /// What was missed is still on its way: what the client says waits, so that nothing it causes overtakes that.
    catching_up: bool,
    reach: Reach,
    probes: Probes,
}

impl AiwmSession {
    /// A session before its client is known.
    pub fn new(settings: Arc<Settings>) -> Self {
        Self {
            settings,
            door: Door::Named,
            connection: ConnectionId(0),
            me: None,
            arrival: None,
            present: false,
            own: None,
            current: None,
            greeted: false,
            rooms: Vec::new(),
            told: VecDeque::new(),
            tokens: 0,
            pending: VecDeque::new(),
            reading: Vec::new(),
            seeking: Vec::new(),
            typing: Vec::new(),
            sent: Vec::new(),
            held: VecDeque::new(),
            catching_up: false,
            reach: Reach::default(),
            probes: Probes::default(),
        }
    }

    fn token(&mut self) -> Token {
        self.tokens = self.tokens.wrapping_add(1);
        Token(self.tokens)
    }

    fn ask(&mut self, pending: Pending, command: Command, out: &mut Outputs) {
        let token = self.token();
        self.pending.push_back((token, pending));
        out.push(Output::Ask(Ask::new(token, command)));
    }

    fn emit(&self, event: ServerEvent, data: String, out: &mut Outputs) {
        out.extend(self.door.event(event, data).into_iter().map(Output::Send));
    }

    fn answer(&self, reply: &Reply, data: &str, out: &mut Outputs) {
        match reply {
            Reply::Nowhere => {}
            Reply::Ack(id) => out.push(Output::Send(Message::Ack(*id, data.to_owned()))),
            Reply::Frame(id) => {
                let frame = format!("{{\"event\":\"ack\",\"id\":{id},\"data\":{data}}}");
                out.push(Output::Send(Message::Text(frame)));
            }
        }
    }

    fn answer_done(&self, reply: &Reply, room: Option<&RoomId>, out: &mut Outputs) {
        let data = match room {
            Some(room) => format!("{{\"success\":true,\"conversationId\":{}}}", json(&room.as_str())),
            None => "{\"success\":true}".to_owned(),
        };
        self.answer(reply, &data, out);
    }

    fn answer_failed(&self, reply: &Reply, error: &str, out: &mut Outputs) {
        let data = format!("{{\"success\":false,\"error\":{}}}", json(&error));
        self.answer(reply, &data, out);
    }

    /// A message was not sent: an event, then the acknowledgement with the same text (notes §5).
    fn fail(&self, reply: &Reply, error: &str, now: Time, out: &mut Outputs) {
        let (text, at) = (json(&error), iso(now));
        let data = format!("{{\"success\":false,\"error\":{text},\"timestamp\":\"{at}\"}}");
        self.emit(ServerEvent::Failed, data, out);
        self.answer_failed(reply, error, out);
    }

    fn hears(&self, room: &RoomId) -> bool {
        self.rooms.iter().any(|(known, _)| known == room)
    }

    /// Hears a room from now on, or from a cursor; up to `missed_to` only messages of others.
    fn hear(&mut self, room: &RoomId, from: Option<Cursor>, missed_to: Offset, out: &mut Outputs) {
        if !self.hears(room) {
            self.rooms.push((room.clone(), missed_to));
            self.catching_up |= from.is_some();
            out.push(Output::Subscribe(Topic::Room(room.clone()), from));
        }
    }

    fn stop_hearing(&mut self, room: &RoomId, out: &mut Outputs) {
        if self.hears(room) {
            self.rooms.retain(|(known, _)| known != room);
            self.typing.retain(|(known, _)| known != room);
            out.push(Output::Unsubscribe(Topic::Room(room.clone())));
        }
        if self.current.as_ref() == Some(room) {
            self.current = None;
        }
    }
}

/// The room that an outcome names.
fn room_of(outcome: &Outcome) -> Option<RoomId> {
    match outcome.first() {
        Outcome::Room(room) => Some(room.clone()),
        Outcome::Done | Outcome::Message(_) | Outcome::Repeated(_) => None,
    }
}

impl Session for AiwmSession {
    fn open(&mut self, opening: &Opening<'_>, scene: Scene<'_>, out: &mut Outputs) {
        self.show_token(opening, scene, out);
    }

    fn identified(&mut self, who: Result<&Identity, Refusal>, scene: Scene<'_>, out: &mut Outputs) {
        match who {
            Ok(identity) => self.welcome(identity, scene, out),
            Err(refusal) => self.not_known(refusal, scene, out),
        }
    }

    fn input(&mut self, input: Input<'_>, scene: Scene<'_>, out: &mut Outputs) {
        // Before CONNECT is answered Socket.IO clients have nothing to say; the plain WebSocket is open at once. What comes
        // while it is found out what was missed waits (see `event`).
        if !self.greeted && self.door != Door::Raw {
            return;
        }
        self.probe_early(scene, out);
        match input {
            Input::Event { name, args, ack, .. } => {
                let reply = ack.map_or(Reply::Nowhere, Reply::Ack);
                self.named_event(name, (args.first().copied(), reply), scene, out);
            }
            Input::Text(text) => {
                let frame = serde_json::from_str::<wire::Frame<'_>>(text)
                    .ok()
                    .filter(|_| text.trim_start().starts_with('{'));
                let Some(frame) = frame else {
                    out.push(Output::Notice(Sign::Malformed));
                    return self.fail(&Reply::Nowhere, NO_FRAME, scene.at, out);
                };
                let reply = frame.id.map_or(Reply::Nowhere, |id| Reply::Frame(id.get().into()));
                self.named_event(&frame.event, (frame.data, reply), scene, out);
            }
            Input::Binary(_) => self.fail(&Reply::Nowhere, NO_FRAME, scene.at, out),
            // Nothing is ever asked of these clients.
            Input::Answer { .. } => {}
        }
    }

    fn replied(
        &mut self,
        token: Token,
        reply: Result<&Outcome, &Error>,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) {
        let Some(at) = self.pending.iter().position(|(asked, _)| *asked == token) else { return };
        let Some((_, pending)) = self.pending.remove(at) else { return };
        match (pending, reply) {
            (Pending::OwnRoom, reply) => {
                self.entered(reply.map(room_of), scene, out);
                if self.me.is_some() {
                    self.appear(out);
                }
            }
            (Pending::Opened, reply) => self.entered(reply.map(room_of), scene, out),
            (Pending::Presence, Ok(_)) => self.come_in(scene, out),
            (Pending::Presence, Err(error)) => {
                self.present = false;
                self.turn_away(errors::at_start(error), scene.at, out);
            }
            (Pending::Said(to, post), reply) => self.said(reply, to, post, (scene, out)),
            (Pending::Joined { reply: to, room, before }, reply) => {
                self.joined(reply, (to, room, before), (scene, out));
            }
            (Pending::Left(to, room), reply) => {
                if reply.is_ok() {
                    self.stop_hearing(&room, out);
                }
                self.done(reply, (&to, &room), true, (scene, out));
            }
            (Pending::Typed(to, room), reply) => {
                if reply.is_err() {
                    self.typing.retain(|(known, _)| *known != room);
                }
                self.done(reply, (&to, &room), false, (scene, out));
            }
            (Pending::Read(to, room), reply) => self.done(reply, (&to, &room), false, (scene, out)),
            (Pending::Paired { reply: to, agent, before }, reply) => {
                self.paired(reply, (&to, &agent, before), (scene, out));
            }
            (Pending::Online(to, room), _) => self.who_is_there(&to, &room, scene, out),
            (Pending::Unanswered, _) => {}
        }
    }

    fn paged(&mut self, token: Token, page: Result<&[Record], &Error>, scene: Scene<'_>, out: &mut Outputs) {
        let Some(at) = self.reading.iter().position(|(asked, _)| *asked == token) else { return };
        let (_, reply) = self.reading.remove(at);
        match page {
            Ok(page) => self.page(&reply, page, scene, out),
            Err(_) => self.answer_failed(&reply, "Service unavailable: the log cannot be read", out),
        }
    }

    fn found(
        &mut self,
        token: Token,
        message: Result<Option<&Record>, &Error>,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) {
        let Some(at) = self.seeking.iter().position(|(asked, _)| *asked == token) else { return };
        let (_, seeking) = self.seeking.remove(at);
        match message {
            Ok(message) => self.sought(seeking, message, scene, out),
            Err(error) => self.cannot_seek(&seeking, error, scene, out),
        }
        self.release(scene, out);
    }

    fn reaches(&self, delivery: &Delivery<'_>, scene: Scene<'_>) -> bool {
        self.missed(delivery, scene)
    }

    fn surveyed(&mut self, lost: &[(Topic, Offset)], scene: Scene<'_>, out: &mut Outputs) {
        self.begin(lost, scene, out);
    }

    fn route(&mut self, delivery: &Delivery<'_>, scene: Scene<'_>) -> Route {
        self.hear_of(delivery, scene)
    }

    fn deliver(&mut self, delivery: &Delivery<'_>, scene: Scene<'_>, out: &mut Outputs) {
        self.hand_out(delivery, scene, out);
    }

    fn caught_up(&mut self, scene: Scene<'_>, out: &mut Outputs) {
        self.probe_all(scene, out);
        self.catching_up = false;
        self.release(scene, out);
    }

    fn proven(&mut self, probe: u32, scene: Scene<'_>, out: &mut Outputs) {
        self.has_arrived(probe, scene, out);
    }

    fn woken(&mut self, scene: Scene<'_>, out: &mut Outputs) {
        let over = |(_, at): &(RoomId, Time)| *at <= scene.now;
        let ended: Vec<RoomId> =
            self.typing.iter().filter(|t| over(t)).map(|(room, _)| room.clone()).collect();
        self.typing.retain(|t| !over(t));
        for room in ended {
            self.ask(Pending::Unanswered, Command::Type(room, false), out);
        }
        self.probe_if_due(scene, out);
        self.note_if_due(scene, out);
        self.arm(out);
    }

    fn closed(&mut self, _scene: Scene<'_>, out: &mut Outputs) {
        for (room, _) in std::mem::take(&mut self.typing) {
            self.ask(Pending::Unanswered, Command::Type(room, false), out);
        }
        if self.present {
            self.present = false;
            self.note(out);
            self.ask(Pending::Unanswered, Command::Disconnect, out);
        }
    }
}

const NO_FRAME: &str = "Validation error: a frame must be a JSON object with an event";

//! The engine's answers as MegaBot clients see them, and the command agent that answers when nobody else does
//! (MegaBot notes §5, §8).

use roundtable_core::delivery;
use roundtable_core::engine::Outcome;
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::ids::{MessageId, Principal, RoomId};
use roundtable_core::rooms::{Durability, Room};
use roundtable_core::state::State;
use roundtable_core::time::{Cursor, Offset, Time};
use serde::Serialize;

use super::errors::Fault;
use super::{Asked, Heard, MAX_SAID, MegaBotSession, Said, Waiting, encode};
use crate::pages::here;
use crate::session::{Output, Outputs, Scene};

/// How long to wait before a room is tried again that could not be entered, in milliseconds.
const REJOIN_MS: i64 = 1_000;

/// What the command agent was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Topic {
    /// What it can do.
    Help,
    /// Who is here.
    Who,
    /// Something that it cannot answer.
    Other,
}

impl Topic {
    /// The topic of a chat message: a word of its own, in any case, with or without a slash.
    pub(super) fn of(content: &str) -> Self {
        match content.trim().trim_start_matches('/').to_ascii_lowercase().as_str() {
            "help" => Self::Help,
            "who" => Self::Who,
            _ => Self::Other,
        }
    }

    fn answer(self, room: &Room, state: &State) -> String {
        const COMMANDS: &str = "help: this list. who: who is here.";
        match self {
            Self::Help => format!("I am the command agent. I understand: {COMMANDS}"),
            Self::Other => format!(
                "No agent or model is configured, so there is nobody to answer. \
                 I am the command agent and understand: {COMMANDS}"
            ),
            Self::Who => {
                let here = names(here(room, state).map(Principal::id));
                let online = |agent: &&roundtable_core::agents::Agent| {
                    state.online(&Principal::Agent(agent.id.clone()))
                };
                let agents = names(state.agents().filter(online).map(|agent| agent.id.as_str()));
                format!("In this session: {here}. Agents online: {agents}.")
            }
        }
    }
}

/// At most 50 names, and how many more there are.
fn names<'a>(all: impl Iterator<Item = &'a str>) -> String {
    let mut all = all;
    let mut shown: Vec<String> = all.by_ref().take(50).map(str::to_owned).collect();
    match all.count() {
        0 if shown.is_empty() => return "nobody".to_owned(),
        0 => {}
        more => shown.push(format!("{more} more")),
    }
    shown.join(", ")
}

impl MegaBotSession {
    /// An answer came.
    pub(super) fn answered(
        &mut self,
        purpose: Waiting,
        reply: Result<&Outcome, &Error>,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) {
        match (purpose, reply) {
            (Waiting::Seat, reply) => self.seated(reply.is_ok(), scene, out),
            (Waiting::Rejoin(room), Ok(_)) => self.rejoined(room, out),
            (Waiting::Rejoin(room), Err(error)) if passing(error) => self.rejoin_later(room, scene, out),
            (Waiting::Rejoin(room), Err(_)) => self.lost(&room, scene, out),
            (Waiting::OwnRoom, reply) => self.own_room(reply.is_ok(), scene, out),
            (Waiting::Join(..), Ok(Outcome::Repeated(_))) => {}
            (Waiting::Chat(asked), Ok(Outcome::Repeated(first))) => {
                if let Outcome::Message(id) = &**first {
                    let at = last_in(&asked.room, id, scene.state);
                    self.acknowledge((&asked.request, &asked.room, id), (at, true), scene, out);
                }
            }
            (Waiting::Join(_, room), Ok(_)) => self.joined(&room, scene, out),
            (Waiting::Join(request, room), Err(error)) => {
                // Who asks again for a room that it is in stays there, whatever comes of it.
                if !self.has_kept(&room, scene.state) {
                    self.rooms.remove(&room);
                }
                self.error(Some(&request), &not_entered(error), scene, out);
            }
            (Waiting::Chat(asked), Ok(Outcome::Message(id))) => self.spoken(*asked, id, scene, out),
            (Waiting::Chat(asked), Err(error)) => {
                self.error(Some(&asked.request), &Fault::of(error), scene, out);
            }
            (Waiting::Quiet(request), Err(error)) => {
                self.error(Some(&request), &Fault::of(error), scene, out);
            }
            (Waiting::Nothing | Waiting::Quiet(_) | Waiting::Chat(_), _) => {}
        }
    }

    fn rejoined(&mut self, room: RoomId, out: &mut Outputs) {
        self.again.0.retain(|waiting| *waiting != room);
        if let Some(heard) = self.rooms.get(&room) {
            let since = Cursor { epoch: self.epoch, offset: heard.arrived };
            out.push(Output::Subscribe(delivery::Topic::Room(room), Some(since)));
        }
    }

    /// A room cannot be entered again just now. It stays in the seat; what was missed there comes when it is entered.
    fn rejoin_later(&mut self, room: RoomId, scene: Scene<'_>, out: &mut Outputs) {
        let (waiting, due) = &mut self.again;
        let first = !waiting.contains(&room);
        due.get_or_insert(scene.now.plus(REJOIN_MS));
        if first {
            let message = format!("Session {room} cannot be entered at present; this is tried again");
            waiting.push(room);
            self.send("notification", encode::Notice::warning("Session waits", &message), scene, out);
        }
    }

    /// Tries once more to enter the rooms that the session was in.
    pub(super) fn rejoin_if_due(&mut self, scene: Scene<'_>, out: &mut Outputs) {
        let Some(who) = self.who.clone().filter(|_| self.again.1.is_some_and(|at| at <= scene.now)) else {
            return;
        };
        let (waiting, due) = &mut self.again;
        *due = None;
        // What was left or lost meanwhile stays so.
        waiting.retain(|room| self.rooms.contains_key(room));
        for room in waiting.clone() {
            let join = self.joining(&room, &who);
            self.ask(join, Waiting::Rejoin(room), out);
        }
    }

    /// A room that the session was in is closed to it now.
    pub(super) fn lost(&mut self, room: &RoomId, scene: Scene<'_>, out: &mut Outputs) {
        self.rooms.remove(room);
        let message = format!("You are no longer in session {room}");
        self.send("notification", encode::Notice::warning("Session left", &message), scene, out);
    }

    fn own_room(&mut self, made: bool, scene: Scene<'_>, out: &mut Outputs) {
        let Some(own) = self.own.clone() else { return };
        if made {
            self.enter(own, scene, out);
        } else {
            self.rooms.remove(&own);
        }
    }

    /// From now on the connection hears a room. What has arrived there stays as it was noted when it asked: of what the head
    /// holds by now some is still on its way.
    fn enter(&mut self, room: RoomId, scene: Scene<'_>, out: &mut Outputs) {
        if self.again.0.contains(&room) {
            return self.rejoined(room, out);
        }
        let kept = self.has_kept(&room, scene.state);
        let from = self.place(scene).filter(|_| !kept);
        if let (Some(from), Some(heard)) = (from, self.rooms.get_mut(&room)) {
            *heard = Heard::from(from.offset);
        }
        out.push(Output::Subscribe(delivery::Topic::Room(room), from));
        if !kept {
            self.keep_seat(Waiting::Nothing, scene, out);
        }
    }

    /// Whether the seat holds a room already.
    fn has_kept(&self, room: &RoomId, state: &State) -> bool {
        let seat = self.own.as_ref().and_then(|id| state.seat(id));
        seat.is_some_and(|seat| seat.rooms.contains_key(room))
    }

    fn joined(&mut self, room: &RoomId, scene: Scene<'_>, out: &mut Outputs) {
        #[derive(Serialize)]
        struct Joined<'a> {
            session_id: &'a RoomId,
            user_id: &'a str,
            participants: Vec<encode::Person<'a>>,
        }
        let (Some(who), Some(found)) = (self.who.clone(), scene.state.room(room)) else { return };
        if !self.rooms.contains_key(room) {
            return;
        }
        self.enter(room.clone(), scene, out);
        if let Some(heard) = self.rooms.get_mut(room) {
            heard.listed = scene.state.head;
        }
        let participants = encode::participants(found, scene.state);
        self.send("session_joined", Joined { session_id: room, user_id: who.id(), participants }, scene, out);
    }

    /// A chat message is in the log. In the connection's own session somebody is to answer: if nobody else is there, the
    /// command agent does. A session for several people may be silent.
    fn spoken(&mut self, asked: Asked, id: &MessageId, scene: Scene<'_>, out: &mut Outputs) {
        let Some(room) = scene.state.room(&asked.room) else { return };
        if asked.ack {
            self.acknowledge_new(&asked, id, scene, out);
        }
        let own = self.own.as_ref() == Some(&asked.room);
        let agents = room.agents().next().is_some();
        if own && !agents && room.members.len() == 1 {
            return self.command_agent(&asked, room, scene, out);
        }
        let expected = asked.agent.is_some() || (own && agents);
        let due = expected.then(|| scene.now.plus(self.settings.answer_timeout_ms));
        if self.said.len() == MAX_SAID {
            self.said.pop_front();
        }
        self.said.push_back(Said {
            message: id.clone(),
            request: asked.request,
            room: asked.room,
            agent: asked.agent,
            answered: false,
            due,
        });
    }

    /// Tells the sender that its message is on the disk, and where in the log; in ephemeral rooms, that it was handed out.
    fn acknowledge_new(&mut self, asked: &Asked, id: &MessageId, scene: Scene<'_>, out: &mut Outputs) {
        let passed = self.acks.as_ref().and_then(|acks| acks.passed.as_ref());
        let at = passed.filter(|(passed, _)| passed == id).map(|(_, at)| *at);
        let at = at.or_else(|| last_in(&asked.room, id, scene.state));
        let ephemeral = |room: &Room| room.card.durability == Durability::Ephemeral;
        if at.is_some() || scene.state.room(&asked.room).is_some_and(ephemeral) {
            return self.acknowledge((&asked.request, &asked.room, id), (at, false), scene, out);
        }
        let behind = &mut self.acks.get_or_insert_default().behind;
        behind.push_back((id.clone(), asked.request.clone()));
    }

    /// `chat_sent` (MegaBot notes §2).
    pub(super) fn acknowledge(
        &mut self,
        (request, room, id): (&str, &RoomId, &MessageId),
        (at, repeated): (Option<Offset>, bool),
        scene: Scene<'_>,
        out: &mut Outputs,
    ) {
        #[derive(Serialize)]
        struct Sent<'a> {
            message_id: &'a MessageId,
            request_id: &'a str,
            session_id: &'a RoomId,
            cursor: Option<String>,
            repeated: bool,
        }
        let cursor = at.map(|offset| Cursor { epoch: scene.epoch, offset }.to_string());
        let sent = Sent { message_id: id, request_id: request, session_id: room, cursor, repeated };
        self.send("chat_sent", sent, scene, out);
    }

    fn command_agent(&mut self, asked: &Asked, room: &Room, scene: Scene<'_>, out: &mut Outputs) {
        #[derive(Serialize)]
        struct Answer<'a> {
            content: &'a str,
            sender: &'static str,
            platform: &'static str,
            timestamp: i64,
            message_id: String,
            session_id: &'a RoomId,
            request_id: &'a str,
        }
        let content = asked.topic.answer(room, scene.state);
        let answer = Answer {
            content: &content,
            sender: "system",
            platform: "megabot",
            timestamp: scene.at.as_seconds(),
            message_id: format!("{:016x}_{}", self.connection.0, self.made.wrapping_add(1)),
            session_id: &asked.room,
            request_id: &asked.request,
        };
        self.send("chat_receive", answer, scene, out);
    }

    /// Tells of chat messages that nobody answered in time.
    pub(super) fn complain(&mut self, scene: Scene<'_>, out: &mut Outputs) {
        let late = |due: &Time| *due <= scene.now;
        let overdue = self
            .said
            .iter_mut()
            .filter_map(|said| said.due.take_if(|due| late(due)).map(|_| said.request.clone()));
        for request in overdue.collect::<Vec<_>>() {
            self.error(Some(&request), &Fault::no_answer(), scene, out);
        }
    }
}

/// Where a message is in the log, if it is the newest of its room.
fn last_in(room: &RoomId, id: &MessageId, state: &State) -> Option<Offset> {
    let last = state.room(room)?.last.as_ref()?;
    (last.id == *id).then_some(last.offset)
}

/// Whether the same question may find another answer in a moment.
fn passing(error: &Error) -> bool {
    matches!(error.kind, ErrorKind::Unavailable | ErrorKind::RateLimited)
}

/// Why a session cannot be entered; whether it exists is nobody's business.
fn not_entered(error: &Error) -> Fault {
    match error.kind {
        ErrorKind::RoomNotFound | ErrorKind::Forbidden => Fault::not_entered(),
        _ => Fault::of(error),
    }
}

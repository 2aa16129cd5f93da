//! Coming in: the token, the own conversation, presence, what was missed; then the CONNECT reply.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use roundtable_core::command::Command;
use roundtable_core::delivery::Topic;
use roundtable_core::error::Error;
use roundtable_core::ids::{AgentId, Principal, RoomId};
use roundtable_core::json::Json;
use roundtable_core::pairs::OpenPair;
use roundtable_core::rooms::{EnterOwnRoom, RoomCard, RoomStatus};
use roundtable_core::state::State;
use roundtable_core::time::{Cursor, Offset, Time};
use serde::Deserialize;

use super::encode::{self, Door, ServerEvent};
use super::input::Reply;
use super::route::Reach;
use super::{AiwmSession, Pending, errors, wire};
use crate::cursor;
use crate::probes::Probes;
use crate::session::{
    Credentials, Ending, Family, Identity, Most, Opening, Output, Outputs, Proof, Refusal, Scene, query_value,
};

/// What is known between the door and the CONNECT reply.
#[derive(Debug, Default)]
pub(super) struct Arrival {
    /// What the token says, which counts once it is found good.
    claims: Claims,
    /// Up to where everything is known to have reached this principal; unknown if it was never here.
    since: Option<Offset>,
    /// The cursor that the client gave, which counts instead if it can be read.
    asked: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Claims {
    /// Whose token it is, in the server's own words.
    principal: String,
}

const NO_SUCH_PLACE: &str = "Validation error: since must be a cursor of this server's log";

/// What a token says, read before anybody has checked it.
fn claims_of(token: &str) -> Option<Claims> {
    let body = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&body).ok()
}

/// The question that opens the conversation of the asker with an agent (notes §9, §11).
pub(super) fn open_pair(agent: &AgentId) -> Command {
    let card = RoomCard {
        name: format!("Conversation with agent {agent}"),
        metadata: Json::of(&serde_json::json!({ "agentId": agent.as_str() })),
        ..RoomCard::default()
    };
    Command::OpenPair(OpenPair { agent: agent.clone(), card })
}

/// The token, looked for in the order of notes §3; the first one there decides.
fn token_of(opening: &Opening<'_>) -> Option<String> {
    let in_auth = opening.auth.and_then(wire::auth_token);
    in_auth.or_else(|| super::rest::token_of(opening.authorization, opening.query))
}

/// The cursor to go on from, if the client has one of its own.
fn since_of(opening: &Opening<'_>) -> Option<String> {
    let given = opening.auth.and_then(wire::auth_since).or_else(|| query_value(opening.query, "since"));
    given.filter(|since| !since.is_empty())
}

fn door_of(opening: &Opening<'_>) -> Door {
    match opening.namespace {
        "/" if !opening.path.trim_end_matches('/').ends_with("/socket.io") => Door::Raw,
        "/" => Door::Root,
        "/ws/chat" => Door::Later,
        _ => Door::Named,
    }
}

/// Arriving: the own conversation, presence, what was missed; then the CONNECT reply.
impl AiwmSession {
    /// The client shows its token.
    pub(super) fn show_token(&mut self, opening: &Opening<'_>, scene: Scene<'_>, out: &mut Outputs) {
        self.connection = opening.connection;
        self.door = door_of(opening);
        self.probes = Probes::after((opening.random & 0xffff_ffff) as u32);
        let Some(token) = token_of(opening) else {
            return self.refuse(errors::at_door(Refusal::Missing), scene.at, out);
        };
        self.arrival = Some(Box::new(Arrival {
            claims: claims_of(&token).unwrap_or_default(),
            asked: since_of(opening),
            ..Arrival::default()
        }));
        let proof = Proof::Token(Family::Aiwm, token);
        out.push(Output::Authenticate(Credentials { domain_key: None, proof }));
    }

    /// The client is known: an agent enters its own conversation, somebody without an account the one with its agent.
    pub(super) fn welcome(&mut self, identity: &Identity, scene: Scene<'_>, out: &mut Outputs) {
        let me = identity.principal.clone();
        if let Some(arrival) = &mut self.arrival {
            arrival.since = scene.state.presence(&me).map(|before| before.seen).filter(|seen| seen.0 > 0);
        }
        let place = |asked: &String| {
            let cursor = cursor::read(asked, scene.epoch)?;
            (cursor.epoch == scene.epoch && cursor.offset <= scene.state.head).then_some(cursor.offset)
        };
        if let Some(arrival) = &mut self.arrival
            && let Some(offset) = arrival.asked.as_ref().and_then(place)
        {
            (arrival.since, arrival.asked) = (Some(offset), None);
        }
        self.me = Some(me.clone());
        match &me {
            Principal::Agent(agent) => self.enter_own(agent, Pending::OwnRoom, out),
            Principal::User(_) => self.appear(out),
            Principal::Visitor(visitor) => {
                self.ask(Pending::Opened, open_pair(&visitor.agent()), out);
                self.appear(out);
            }
            Principal::Guest(_) | Principal::Node(_) | Principal::System => {
                self.turn_away(errors::at_door(Refusal::Invalid), scene.at, out)
            }
        }
    }

    /// The client's token does not open.
    pub(super) fn not_known(&mut self, refusal: Refusal, scene: Scene<'_>, out: &mut Outputs) {
        // Who is suspended has shown a good token. The scene is that of the default workspace, so it knows nobody of another.
        let is_agent =
            self.arrival.as_ref().is_some_and(|arrival| arrival.claims.principal.starts_with("agent:"));
        let answer = match refusal {
            Refusal::Suspended if !is_agent => errors::DISABLED,
            other => errors::at_door(other),
        };
        self.turn_away(answer, scene.at, out);
    }

    pub(super) fn appear(&mut self, out: &mut Outputs) {
        self.present = true;
        self.ask(Pending::Presence, Command::Connect(None), out);
    }

    /// What the engine said to one of these questions.
    pub(super) fn entered(
        &mut self,
        room: Result<Option<RoomId>, &Error>,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) {
        match room {
            Err(error) => self.turn_away(errors::at_start(error), scene.at, out),
            Ok(None) => {}
            Ok(Some(room)) => (self.own, self.current) = (Some(room.clone()), Some(room)),
        }
    }

    /// Refused after all. Presence that was asked for already is taken back.
    pub(super) fn turn_away(&mut self, answer: errors::AtDoor, now: Time, out: &mut Outputs) {
        if self.arrival.take().is_none() {
            return;
        }
        if self.present {
            self.present = false;
            self.ask(Pending::Unanswered, Command::Disconnect, out);
        }
        self.me = None;
        self.refuse(answer, now, out);
    }

    fn refuse(&self, answer: errors::AtDoor, now: Time, out: &mut Outputs) {
        if self.door == Door::Raw {
            self.fail(&Reply::Nowhere, &answer.message, now, out);
            return out.push(Output::End(Ending::Close(1008, answer.message.into_owned())));
        }
        let data = Some(answer.data());
        out.push(Output::Refuse { message: answer.message.into_owned(), data });
    }

    pub(super) fn enter_own(&mut self, agent: &AgentId, pending: Pending, out: &mut Outputs) {
        let card = RoomCard {
            name: format!("Agent {agent} - Auto Conversation"),
            description: "Automatically created conversation for agent".into(),
            ..RoomCard::default()
        };
        self.ask(pending, Command::EnterOwnRoom(EnterOwnRoom { agent: agent.clone(), card }), out);
    }

    /// Presence is in the log, and everything is ready: the reply and the own presence. Then it is found out where what was
    /// missed begins, and that is handed over; what the client says meanwhile waits, so that nothing overtakes it.
    pub(super) fn come_in(&mut self, scene: Scene<'_>, out: &mut Outputs) {
        let (Some(me), Some(arrival)) = (self.me.clone(), &mut self.arrival) else { return };
        let (since, unread) = (arrival.since, arrival.asked.take());
        self.greeted = true;
        if self.door != Door::Raw {
            out.push(Output::Accept);
        }
        if let Some(data) = encode::presence(&me, self.own.as_ref(), scene) {
            self.emit(ServerEvent::Presence, data, out);
        }
        if unread.is_some() {
            self.fail(&Reply::Nowhere, NO_SUCH_PLACE, scene.at, out);
        }
        let most = self.settings.replay_messages as usize;
        match since {
            // Each record is one message at most.
            Some(since) if scene.state.head.0.saturating_sub(since.0) > most as u64 => {
                let since = Cursor { epoch: scene.epoch, offset: since };
                let rooms = missed_rooms(scene.state, &me, since.offset);
                let missed = rooms.map(|room| (Topic::Room(room.clone()), since)).collect();
                out.push(Output::Survey { missed, most: Most::Each(most) });
            }
            _ => self.begin(&[], scene, out),
        }
    }

    /// What was missed, at most so much of each room, and from then on everything as it happens.
    pub(super) fn begin(&mut self, lost: &[(Topic, Offset)], scene: Scene<'_>, out: &mut Outputs) {
        let (Some(me), Some(arrival)) = (self.me.clone(), self.arrival.take()) else { return };
        let head = scene.state.head;
        let since = arrival.since.unwrap_or(head);
        let missed: Vec<&RoomId> = missed_rooms(scene.state, &me, since).collect();
        self.reach = Reach::new(since, if missed.is_empty() { head } else { since });
        if arrival.since.is_none() {
            self.ask(Pending::Unanswered, Command::MarkReached(head), out);
        }
        out.push(Output::Subscribe(Topic::Principal(me.clone()), None));
        let active = |room: &&RoomId| scene.state.room(room).is_some_and(|r| r.status == RoomStatus::Active);
        for room in scene.state.rooms_of(&me).filter(active) {
            let lost = lost.iter().filter(|(topic, _)| matches!(topic, Topic::Room(lost) if lost == room));
            let after = lost.map(|(_, last)| *last).fold(since, Offset::max);
            let cursor = Cursor { epoch: scene.epoch, offset: after };
            self.hear(room, missed.contains(&room).then_some(cursor), head, out);
        }
        self.release(scene, out);
    }
}

/// The rooms of somebody in which something was said after an offset.
fn missed_rooms<'a>(state: &'a State, who: &Principal, since: Offset) -> impl Iterator<Item = &'a RoomId> {
    let last = |room: &RoomId| state.room(room).and_then(|room| room.last.as_ref());
    state.rooms_of(who).filter(move |room| last(room).is_some_and(|last| last.offset > since))
}

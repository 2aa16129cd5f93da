//! What a client asks for: limits first, then one question to the engine per message (MegaBot notes §4–§6, §8).

use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};

use roundtable_core::actions as core;
use roundtable_core::command::Command;
use roundtable_core::delivery::Topic;
use roundtable_core::ids::{AgentId, ClientId, Principal, RoomId};
use roundtable_core::json::Json;
use roundtable_core::limits::MAX_SEAT_ROOMS;
use roundtable_core::messages::Post;
use roundtable_core::rooms::Entry;
use roundtable_core::state::State;
use sha2::{Digest, Sha256};

use super::errors::Fault;
use super::wire::{self, Act, Chat, Request};
use super::{
    Asked, Early, Heard, MAX_EARLY, MAX_RECENT, MegaBotSession, OWN_PREFIX, Phase, SECRET_PREFIX, Waiting,
    login, reply,
};
use crate::pace::Limit;
use crate::session::{Ask, Input, Output, Outputs, Scene, Sign};
use crate::websocket::close;

/// The one known action that is worth nothing later (MegaBot notes §7).
const PASSING: &str = "cursor_move";

impl MegaBotSession {
    /// Something came. What comes before the session is ready waits.
    pub(super) fn take(&mut self, input: Input<'_>, scene: Scene<'_>, out: &mut Outputs) {
        if self.phase == Phase::Over {
            return;
        }
        match input {
            Input::Text(text) if self.phase == Phase::Open => {
                self.done(scene, out, |me, out| me.text(text, scene, out));
            }
            Input::Binary(bytes) if self.phase == Phase::Open => {
                self.done(scene, out, |me, out| me.binary(bytes, scene, out));
            }
            Input::Text(text) => self.wait(Early::Text(text.to_owned()), out),
            Input::Binary(bytes) => self.wait(Early::Binary(bytes.to_vec()), out),
            Input::Event { .. } | Input::Answer { .. } => {}
        }
    }

    /// A frame came too early after others; nobody has looked at it.
    pub(super) fn refuse_unread(&mut self, after_ms: u64, scene: Scene<'_>, out: &mut Outputs) {
        if self.phase == Phase::Over {
            return;
        }
        out.push(Output::Notice(Sign::TooFast));
        let fault = Fault::too_often(after_ms);
        if self.phase == Phase::Open {
            self.error(None, &fault, scene, out);
        } else {
            self.wait(Early::Refused(fault), out);
        }
    }

    fn wait(&mut self, early: Early, out: &mut Outputs) {
        let held: usize = self.early.iter().map(Early::size).sum();
        let fits = self.early.is_empty() || held + early.size() <= self.settings.max_message_bytes;
        if fits && self.early.len() < MAX_EARLY {
            self.early.push(early);
        } else {
            self.end(close::POLICY, "Too many messages before the first answer", out);
        }
    }

    /// Does something for the client, and takes its frame as an occasion to find out what has arrived.
    fn done(&mut self, scene: Scene<'_>, out: &mut Outputs, run: impl FnOnce(&mut Self, &mut Outputs)) {
        run(self, out);
        self.probe_early(scene, out);
        self.arm(out);
    }

    /// A text frame.
    pub(super) fn text(&mut self, text: &str, scene: Scene<'_>, out: &mut Outputs) {
        if text.len() > self.settings.max_message_bytes {
            return self.too_large(scene, out);
        }
        match wire::read(text) {
            Ok(incoming) => match incoming.request {
                Request::Batch(items) => self.batch(incoming.id.as_deref(), &items, scene, out),
                request => self.single(incoming.id, request, scene, out),
            },
            Err((id, fault)) => self.error(id.as_deref(), &fault, scene, out),
        }
    }

    /// A binary frame: only gzip has a meaning.
    pub(super) fn binary(&mut self, bytes: &[u8], scene: Scene<'_>, out: &mut Outputs) {
        match wire::unpack(bytes, self.settings.max_message_bytes) {
            Ok(text) => {
                out.push(Output::Unpacked(text.len()));
                self.text(&text, scene, out);
            }
            Err(fault) if fault.code == 413 => self.too_large(scene, out),
            Err(fault) => self.error(None, &fault, scene, out),
        }
    }

    fn too_large(&mut self, scene: Scene<'_>, out: &mut Outputs) {
        let fault = Fault::too_large();
        self.error(None, &fault, scene, out);
        self.end(close::TOO_BIG, fault.message, out);
    }

    fn batch(
        &mut self,
        id: Option<&str>,
        items: &[&serde_json::value::RawValue],
        scene: Scene<'_>,
        out: &mut Outputs,
    ) {
        if items.len() > self.settings.max_batch {
            return self.error(id, &Fault::field("messages"), scene, out);
        }
        let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
        let (burst, now) = (self.settings.batched_burst, u64::try_from(scene.now.0).unwrap_or(0));
        if let Some(per_second) = self.settings.batched_per_second
            && let Err(after) = self.batched.take(count, Limit { per_second, burst }, now)
        {
            out.push(Output::Notice(Sign::TooFast));
            return self.error(id, &Fault::too_often(after), scene, out);
        }
        for item in items {
            match wire::read(item.get()) {
                Ok(incoming) => self.single(incoming.id, incoming.request, scene, out),
                Err((id, fault)) => self.error(id.as_deref(), &fault, scene, out),
            }
        }
    }

    /// One message that is not a batch, or an item of one.
    fn single(&mut self, id: Option<String>, request: Request<'_>, scene: Scene<'_>, out: &mut Outputs) {
        let asked = match (request, id.clone()) {
            (Request::Ping, _) => {
                self.send("pong", serde_json::Map::new(), scene, out);
                Ok(())
            }
            (Request::Batch(_), _) => Err(Fault::field("type")),
            (Request::Chat(chat), Some(id)) => self.chat(id, chat, scene, out),
            (_, Some(id)) if self.repeats(&id) => Ok(()),
            (Request::Join(room), Some(id)) => self.join(id, room, scene, out),
            (Request::Leave(room), Some(id)) => self.leave(id, room, scene, out),
            (Request::Act(act), Some(id)) => self.act(id, act, scene, out),
            (_, None) => Err(Fault::incomplete()),
        };
        if let Err(fault) = asked {
            self.error(id.as_deref(), &fault, scene, out);
        }
    }

    fn chat(&mut self, id: String, chat: Chat, scene: Scene<'_>, out: &mut Outputs) -> Result<(), Fault> {
        let (Some(who), Some(own)) = (self.who.clone(), self.own.clone()) else { return Ok(()) };
        let hint = chat.hint.and_then(|hint| self.meant(hint, scene));
        let hint = hint.filter(|room| self.rooms.contains_key(room));
        let room = match chat.session {
            Some(room) => self.meant(room, scene).ok_or_else(Fault::not_in_session)?,
            None => hint.unwrap_or_else(|| own.clone()),
        };
        if chat.agent.as_ref().is_some_and(|agent| scene.state.agent(agent).is_none()) {
            return Err(Fault::new("not_found", 404, "No such agent"));
        }
        if !self.rooms.contains_key(&room) {
            if room != own {
                return Err(Fault::not_in_session());
            }
            self.rooms.insert(own.clone(), Heard::from(scene.state.head));
            let join = self.joining(&own, &who);
            self.ask(join, Waiting::OwnRoom, out);
        }
        if let Some(agent) = self.who_shall_answer(chat.agent.as_ref(), &room, scene.state) {
            self.ask(Command::Invite(room.clone(), agent), Waiting::Quiet(id.clone()), out);
        }
        let parts = chat.attachments.map(|list| Json::of(&serde_json::json!({ "attachments": list })));
        let topic = reply::Topic::of(&chat.content);
        let post = Post {
            parts,
            platform: Some(chat.platform.unwrap_or_else(|| self.platform.clone())),
            ..Post::text(room.clone(), who, chat.content)
        };
        let client = client_id(&id);
        if chat.ack {
            self.acks.get_or_insert_default();
        }
        let asked = Asked { request: id, room, agent: chat.agent, topic, ack: chat.ack };
        let token = self.expect(Waiting::Chat(Box::new(asked)));
        out.push(Output::Ask(Ask { client, ..Ask::new(token, Command::Post(Box::new(post))) }));
        Ok(())
    }

    /// The agent that has to be brought in for an answer: the one that is named, or the configured one where there is none.
    fn who_shall_answer(&self, named: Option<&AgentId>, room: &RoomId, state: &State) -> Option<Principal> {
        let own = self.own.as_ref() == Some(room);
        let configured =
            self.settings.default_agent.as_ref().filter(|agent| own && state.agent(agent).is_some());
        let found = state.room(room);
        let agent = match (named, configured) {
            (Some(named), _) => Principal::Agent(named.clone()),
            (None, Some(agent)) if found.is_none_or(|room| room.agents().next().is_none()) => {
                Principal::Agent(agent.clone())
            }
            _ => return None,
        };
        found.is_none_or(|room| !room.members.contains_key(&agent)).then_some(agent)
    }

    fn join(&mut self, id: String, room: RoomId, scene: Scene<'_>, out: &mut Outputs) -> Result<(), Fault> {
        let Some(who) = self.who.clone() else { return Ok(()) };
        let room = self.meant(room, scene).ok_or_else(Fault::not_entered)?;
        // The name of a guest is anybody's: its rooms are for who has the secret.
        let guest = matches!(who, Principal::Guest(_)) && self.own.as_ref() != Some(&room);
        let seat = scene.state.seat(&room).is_some_and(|seat| guest || seat.owner != who);
        let chat = [OWN_PREFIX, SECRET_PREFIX].iter().any(|own| room.as_str().starts_with(own))
            && scene.state.room(&room).is_some_and(|r| r.owner != who && !r.members.contains_key(&who));
        if seat || chat || self.rooms.len() >= MAX_SEAT_ROOMS {
            return Err(Fault::not_entered());
        }
        self.rooms.entry(room.clone()).or_insert_with(|| Heard::from(scene.state.head));
        let command = self.joining(&room, &who);
        self.ask(command, Waiting::Join(id, room), out);
        Ok(())
    }

    fn leave(&mut self, id: String, room: RoomId, scene: Scene<'_>, out: &mut Outputs) -> Result<(), Fault> {
        let Some(who) = self.who.clone() else { return Ok(()) };
        let room = self.meant(room, scene).ok_or_else(Fault::not_in_session)?;
        if self.own.as_ref() == Some(&room) || self.rooms.remove(&room).is_none() {
            return Err(Fault::not_in_session());
        }
        out.push(Output::Unsubscribe(Topic::Room(room.clone())));
        let joined_by_itself = scene.state.room(&room).is_none_or(|r| r.card.entry == Entry::Open);
        if joined_by_itself && !self.others_in(&room, scene.state) {
            self.ask(Command::LeaveRoom(room, who), Waiting::Quiet(id), out);
        }
        self.keep_seat(Waiting::Nothing, scene, out);
        Ok(())
    }

    /// The room that a `session_id` of the client's means: its own where the client shows its own secret. What is another's
    /// secret names no room.
    fn meant(&self, named: RoomId, scene: Scene<'_>) -> Option<RoomId> {
        match scene.state.seat_of_secret(&login::hash(named.as_str())) {
            _ if named.as_str() == self.secret => self.own.clone(),
            Some((room, seat)) if Some(&seat.owner) == self.who.as_ref() => Some(room.clone()),
            Some(_) => None,
            None => Some(named),
        }
    }

    fn act(&mut self, id: String, act: Act, scene: Scene<'_>, out: &mut Outputs) -> Result<(), Fault> {
        let session = self.meant(act.session, scene).ok_or_else(Fault::not_in_session)?;
        let act = Act { session, ..act };
        if !self.rooms.contains_key(&act.session) {
            return Err(Fault::not_in_session());
        }
        let keep = act.action != PASSING;
        let command = core::Act { room: act.session, action: act.action, data: act.data, keep };
        let client = client_id(&id).filter(|_| keep);
        let token = self.expect(Waiting::Quiet(id));
        out.push(Output::Ask(Ask { client, ..Ask::new(token, Command::Act(command)) }));
        Ok(())
    }

    /// Whether an id came before on this connection. Chat messages need no such memory: the log has one for a day.
    fn repeats(&mut self, id: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        let hash = hasher.finish();
        if self.recent.contains(&hash) {
            return true;
        }
        if self.recent.len() == MAX_RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(hash);
        false
    }
}

/// The client's name for a message as the log remembers it: longer ones by their hash.
fn client_id(id: &str) -> Option<ClientId> {
    ClientId::new(id).ok().or_else(|| {
        let mut hash = String::from("sha256:");
        for byte in Sha256::digest(id.as_bytes()) {
            let _ = write!(hash, "{byte:02x}");
        }
        ClientId::new(&hash).ok()
    })
}

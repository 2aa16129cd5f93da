//! What the engine's answers become: acknowledgements, the caller's own events, and new subscriptions.

use roundtable_core::access::may_manage_room;
use roundtable_core::command::Command;
use roundtable_core::delivery::Topic;
use roundtable_core::engine::Outcome;
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::ids::{AgentId, Principal, RoomId};
use roundtable_core::rooms::visible;
use serde_json::{Map, Value, json};

use super::encode::shapes::{self, iso, value};
use super::{Call, FreshKey, MxfSession, Pending, Then, acknowledge, members, send};
use crate::session::{Output, Outputs, Scene, Token};

impl MxfSession {
    /// One answer, in the order of the questions.
    pub(super) fn answered(
        &mut self,
        token: Token,
        reply: Result<&Outcome, &Error>,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) {
        let Some(at) = self.pending.iter().position(|pending| pending.token == token) else { return };
        let Some(Pending { call, then, .. }) = self.pending.remove(at) else { return };
        let ready = self.failure.is_none();
        let result = match then {
            Then::Nothing => return,
            Then::Step => {
                if let Err(error) = reply {
                    self.failure.get_or_insert_with(|| error.clone());
                }
                return;
            }
            _ => self.failure.take().map_or_else(|| reply.map_err(Clone::clone), Err),
        };
        match (then, result) {
            (Then::Login, Err(error)) if ready && self.key_room().is_some() && stays_outside(&error) => {
                self.entered((Ok(()), Some(error)), scene, out);
            }
            (Then::Login, result) => self.entered((result.map(|_| ()), None), scene, out),
            (Then::ChannelCreated { room }, Err(error)) if self.owns_already(&room, &error, scene) => {
                self.has_created(call, &room, scene, out);
            }
            (then, Ok(outcome)) => self.fulfilled(call, then, (outcome, scene), out),
            (then, Err(error)) => {
                if let Then::ChannelCreated { room } = &then {
                    self.tell_sdk(call, room.as_str(), &error, (scene, out));
                } else if let Then::KeyMade { shown } = &then {
                    self.tell_sdk(call, shown.room.as_str(), &error, (scene, out));
                } else if let Then::Recalled { wish } = &then {
                    self.cannot_recall(wish, &error, (scene, out));
                }
                self.undo(then, out);
                self.refuse(call, &error, scene, out);
            }
        }
    }

    /// Gives back the presence of an agent that could not be taken on.
    fn undo(&mut self, then: Then, out: &mut Outputs) {
        let agent = match then {
            Then::Registered { agent, adopted: true, .. } => Principal::Agent(agent),
            Then::Joined { who, adopted: true, .. } => who,
            _ => return,
        };
        self.ask_as(Some(agent), Command::Disconnect, (Call::NONE, Then::Nothing), out);
    }

    fn fulfilled(
        &mut self,
        call: Call,
        then: Then,
        (outcome, scene): (&Outcome, Scene<'_>),
        out: &mut Outputs,
    ) {
        match then {
            Then::Nothing | Then::Step | Then::Login => {}
            Then::Registered { agent, room, .. } => self.has_registered(call, (agent, room), scene, out),
            Then::Joined { room, who, adopted } => self.has_joined(call, (room, who, adopted), scene, out),
            Then::Left { room, who } => self.has_left(call, (room, who), scene, out),
            Then::ChannelUpdated { room } => {
                let channel = scene.state.room(&room).map(shapes::channel);
                acknowledge(call.ack, members(json!({"channelId": room.as_str(), "channel": channel})), out);
            }
            Then::Sent => self.has_sent(call, outcome, scene, out),
            Then::SentDirect { to, sdk } => self.has_sent_direct(call, (outcome, &to, sdk), scene, out),
            Then::Updated { agent, updates } => {
                let shown = scene.state.agent(&agent).map(|known| {
                    let mut shown = shapes::agent(known);
                    shown.insert("status".into(), value(&known.status));
                    shown
                });
                send("agent:updated", &shapes::agent_updated(&agent, &value(&updates), scene.at), out);
                acknowledge(call.ack, members(json!({"agentId": agent.as_str(), "agent": shown})), out);
            }
            Then::Status { agent } => self.tell_status(call, &agent, scene, out),
            Then::Recalled { wish } => self.has_recalled(call, &wish, scene, out),
            Then::Accepted => acknowledge(call.ack, Map::new(), out),
            Then::SdkRegistered { agent, room } => {
                let channel = room.as_ref().map_or(shapes::NOWHERE, RoomId::as_str);
                self.registered(&agent, channel, scene, out);
                acknowledge(call.ack, members(json!({"agentId": agent.as_str(), "channelId": channel})), out);
            }
            Then::ToolsAllowed { agent, tools } => {
                let allowed = json!({"agentId": agent.as_str(), "allowedTools": tools, "success": true});
                send("agent:allowed_tools:updated", &allowed, out);
                acknowledge(call.ack, members(allowed), out);
            }
            Then::ChannelCreated { room } => self.has_created(call, &room, scene, out),
            Then::KeyMade { shown } => self.has_made_key(call, &shown, scene, out),
            Then::KeyRevoked { key, room } => {
                let channel = room.as_ref().map_or(shapes::NOWHERE, RoomId::as_str);
                let data = json!({"keyId": key.as_str(), "channelId": channel});
                let who = self.principal();
                out.push(self.envelope("key:deactivated", (who.id(), channel), data.clone(), scene));
                acknowledge(call.ack, members(data), out);
            }
        }
    }

    /// Making a channel that is one's own already changes nothing and succeeds: the SDK makes its channels at every start.
    fn owns_already(&self, room: &RoomId, error: &Error, scene: Scene<'_>) -> bool {
        let own = |room| may_manage_room(scene.state, room, &self.principal());
        error.kind == ErrorKind::Conflict && scene.state.room(room).is_some_and(own)
    }

    /// `channel:created`.
    fn has_created(&mut self, call: Call, room: &RoomId, scene: Scene<'_>, out: &mut Outputs) {
        if self.is_in(room, scene) {
            self.follow(room, out);
        }
        let name = scene.state.room(room).map(|room| room.card.name.as_str());
        let data = json!({"channelId": room.as_str(), "name": name});
        let who = self.principal();
        out.push(self.envelope("channel:created", (who.id(), room.as_str()), data.clone(), scene));
        acknowledge(call.ack, members(data), out);
    }

    /// `key:generated`, to its requester alone: the secret is shown once.
    fn has_made_key(&mut self, call: Call, shown: &FreshKey, scene: Scene<'_>, out: &mut Outputs) {
        let data = json!({
            "keyId": shown.key.as_str(),
            "secretKey": shown.secret,
            "channelId": shown.room.as_str(),
            "agentId": shown.agent.as_str(),
            "expiresAt": shown.expires_at.map(iso),
        });
        let about = (shown.agent.as_str(), shown.room.as_str());
        out.push(self.envelope("key:generated", about, data.clone(), scene));
        acknowledge(call.ack, members(data), out);
    }

    /// The acknowledgement of a direct message; the SDK's sender gets an event too.
    fn has_sent_direct(
        &mut self,
        call: Call,
        (outcome, to, sdk): (&Outcome, &AgentId, bool),
        scene: Scene<'_>,
        out: &mut Outputs,
    ) {
        // An agent that is here in another way hears of it when it comes by one that takes direct messages.
        let delivered = scene.state.hears_direct(&Principal::Agent(to.clone()));
        let data = json!({"messageId": message_id(outcome), "delivered": delivered});
        if sdk {
            let mut shown = members(data.clone());
            shown.insert("receiverId".into(), to.as_str().into());
            shown.insert("timestamp".into(), scene.at.0.into());
            let who = self.principal();
            let about = (who.id(), shapes::NOWHERE);
            out.push(self.envelope("message:agent:delivered", about, Value::Object(shown), scene));
        }
        acknowledge(call.ack, members(data), out);
    }

    /// `agent:registered` to the caller.
    fn has_registered(
        &mut self,
        call: Call,
        (agent, room): (AgentId, RoomId),
        scene: Scene<'_>,
        out: &mut Outputs,
    ) {
        let who = Principal::Agent(agent.clone());
        if self.principal() != who {
            let known = self.agents.iter().position(|known| *known == agent);
            if let Some(at) = known {
                self.agents.remove(at);
            }
            self.agents.push(agent.clone());
            if known.is_none() {
                self.listen(&who, scene, out);
            }
        }
        self.follow(&room, out);
        self.registered(&agent, room.as_str(), scene, out);
        let fields = json!({"agentId": agent.as_str(), "channelId": room.as_str()});
        acknowledge(call.ack, members(fields), out);
    }

    /// `channel:joined` and `channel:participants` to the caller.
    fn has_joined(
        &mut self,
        call: Call,
        (room, who, adopted): (RoomId, Principal, bool),
        scene: Scene<'_>,
        out: &mut Outputs,
    ) {
        if let (true, Some(agent)) = (adopted, who.agent()) {
            self.agents.insert(0, agent.clone());
            self.listen(&who, scene, out);
        }
        self.follow(&room, out);
        let Some(found) = scene.state.room(&room) else { return };
        if call.event == "agent:join_channel" {
            let data = json!({"agentId": who.id(), "channelId": room.as_str()});
            out.push(self.envelope("agent:joined_channel", (who.id(), room.as_str()), data.clone(), scene));
            acknowledge(call.ack, members(data), out);
            return;
        }
        send("channel:joined", &shapes::joined(found, &who, scene.at), out);
        let participants = shapes::participants(scene.state, found);
        send("channel:participants", &participants, out);
        let listed = participants.get("participants");
        acknowledge(call.ack, members(json!({"channelId": room.as_str(), "participants": listed})), out);
    }

    /// `channel:left` to the caller.
    fn has_left(
        &mut self,
        call: Call,
        (room, who): (RoomId, Principal),
        scene: Scene<'_>,
        out: &mut Outputs,
    ) {
        if !self.is_in(&room, scene) && self.rooms.remove(&room) {
            out.push(Output::Unsubscribe(Topic::Room(room.clone())));
        }
        let left = shapes::left(&room, &who, scene.at);
        send("channel:left", &left, out);
        acknowledge(call.ack, members(left), out);
    }

    /// The acknowledgement of a message, with the time that everybody else sees too.
    fn has_sent(&mut self, call: Call, outcome: &Outcome, scene: Scene<'_>, out: &mut Outputs) {
        let id = message_id(outcome);
        let at = match &self.said {
            Some((said, at)) if Some(said.as_str()) == id => *at,
            _ => scene.at,
        };
        acknowledge(call.ack, members(json!({"messageId": id, "timestamp": iso(at)})), out);
    }

    /// `agent:status:response`. Channels that the asker may not know of are left out.
    fn tell_status(&mut self, call: Call, agent: &AgentId, scene: Scene<'_>, out: &mut Outputs) {
        let Some(known) = scene.state.agent(agent) else {
            let error = Error::new(ErrorKind::AgentNotFound, format!("there is no agent {agent}"));
            self.refuse(call, &error, scene, out);
            return;
        };
        let (who, asker) = (Principal::Agent(agent.clone()), self.principal());
        let seen = scene.state.presence(&who).map(|presence| iso(presence.last_seen));
        let rooms = scene.state.rooms_of(&who).filter(|room| visible(scene.state, room, &asker).is_ok());
        let channels: Vec<&str> = rooms.map(RoomId::as_str).collect();
        let status = members(json!({
            "agentId": agent.as_str(),
            "online": scene.state.online(&who),
            "lastSeen": seen,
            "status": known.status,
            "name": scene.state.name_of(&who),
            "role": known.card.role,
            "capabilities": shapes::capabilities(known),
            "channels": channels,
        }));
        send("agent:status:response", &status, out);
        acknowledge(call.ack, status, out);
    }
}

/// The message that an outcome names, new or repeated.
fn message_id(outcome: &Outcome) -> Option<&str> {
    if let Outcome::Message(id) = outcome.first() { Some(id.as_str()) } else { None }
}

/// Whether a channel that cannot be entered is no reason to refuse a login: it is full, closed, or gone.
fn stays_outside(error: &Error) -> bool {
    use ErrorKind::{Conflict, Forbidden, RoomClosed, RoomNotFound};
    matches!(error.kind, Conflict | Forbidden | RoomClosed | RoomNotFound)
}

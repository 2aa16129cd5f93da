//! What the SDK asks for on its way in: channels, keys, its agent's card (MXF notes §9).

use base64::Engine as _;
use roundtable_core::access::{may_act_as, may_manage_room};
use roundtable_core::agents::{AgentCard, AgentChanges, RegisterAgent};
use roundtable_core::command::Command;
use roundtable_core::error::Error;
use roundtable_core::ids::{AgentId, KeyId, Principal, RoomId};
use roundtable_core::json::Json;
use roundtable_core::rooms::{CreateRoom, Entry, JoinRoom, visible};
use roundtable_core::users::{Key, KeyAdded, KeyFor};
use serde_json::{Value, json};
use sha2::Digest as _;

use super::super::encode::shapes::{self, iso};
use super::super::wire::STATUSES;
use super::super::wire::envelope::{CreateChannel, Envelope, GenerateKey, SdkRegister};
use super::super::{FreshKey, errors, members};
use super::{Call, MxfSession, Output, Outputs, Scene, Sign, Then, acknowledge};

impl MxfSession {
    /// The event by which the SDK learns that a request failed, where it waits for one.
    pub(in super::super) fn tell_sdk(
        &mut self,
        call: Call,
        channel: &str,
        error: &Error,
        (scene, out): (Scene<'_>, &mut Outputs),
    ) {
        let name = match call.event {
            "channel:create" => "channel:creation:failed",
            "key:generate" => "key:generation:failed",
            _ => return,
        };
        let data = json!({"channelId": channel, "error": errors::message(error)});
        let channel = if channel.is_empty() { shapes::NOWHERE } else { channel };
        let who = self.principal();
        let event = self.envelope(name, (who.id(), channel), data, scene);
        out.push(event);
    }

    /// `channel:create`.
    pub(super) fn create_channel(
        &mut self,
        call: Call,
        envelope: &Envelope<'_>,
        out: &mut Outputs,
    ) -> Result<(), Error> {
        let CreateChannel { room, mut card } = CreateChannel::read(envelope)?;
        if self.key_room().is_some() {
            card.entry = Entry::Private;
        }
        let command = Command::CreateRoom(CreateRoom { room: Some(room.clone()), card });
        self.ask(command, (call, Then::ChannelCreated { room }), out);
        Ok(())
    }

    /// `key:generate`. An agent that nobody knows yet becomes the requester's own, so that it may speak for it.
    pub(super) fn generate_key(
        &mut self,
        call: Call,
        envelope: &Envelope<'_>,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) -> Result<(), Error> {
        let GenerateKey { room, agent, name, expires_at } = GenerateKey::read(envelope)?;
        self.managed(&room, scene)?;
        if scene.state.agent(&agent).is_none() {
            let card = AgentCard { name: agent.as_str().to_owned(), ..AgentCard::default() };
            let register = Command::RegisterAgent(RegisterAgent { agent: agent.clone(), card });
            self.ask(register, (call, Then::Step), out);
        }
        let (key, secret) = self.draw_key()?;
        let hash = sha2::Sha256::digest(secret.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        let opens = KeyFor::Room { agent: agent.clone(), room: room.clone() };
        let added = KeyAdded { key: key.clone(), hash, opens, expires_at, name };
        let shown = Box::new(FreshKey { room, agent, key, secret, expires_at });
        self.ask(Command::AddKey(added), (call, Then::KeyMade { shown }), out);
        Ok(())
    }

    /// A fresh key: `key_` and 24 hex digits, and 32 bytes in base64, both drawn from the connection's own random bits.
    fn draw_key(&mut self) -> Result<(KeyId, String), Error> {
        self.events = self.events.wrapping_add(1);
        let draw = |what: &[u8]| {
            let seed = sha2::Sha256::new().chain_update(what).chain_update(self.random.to_be_bytes());
            seed.chain_update(self.events.to_be_bytes()).finalize()
        };
        let digits: String = draw(b"key id").iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        let secret = base64::engine::general_purpose::STANDARD.encode(draw(b"key secret"));
        Ok((KeyId::new(&format!("key_{digits}"))?, secret))
    }

    /// `key:deactivate`.
    pub(super) fn deactivate_key(
        &mut self,
        call: Call,
        envelope: &Envelope<'_>,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) -> Result<(), Error> {
        let key = envelope.fields()?.id("keyId", KeyId::new)?;
        let room = match scene.state.key(&key).map(|key| &key.opens) {
            Some(KeyFor::Room { room, .. }) => Some(room.clone()),
            _ => None,
        };
        let command = Command::RevokeKey(key.clone());
        self.ask(command, (call, Then::KeyRevoked { key, room }), out);
        Ok(())
    }

    /// `key:list`: the keys of a channel, without their secrets, which nobody has.
    pub(super) fn list_keys(
        &mut self,
        call: Call,
        envelope: &Envelope<'_>,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) -> Result<(), Error> {
        let fields = envelope.fields()?;
        let room = fields.id("channelId", RoomId::new)?;
        let active_only = fields.flag("activeOnly")?.unwrap_or(false);
        self.managed(&room, scene)?;
        let is_active = |key: &Key| !key.revoked && !key.is_over(scene.moment());
        let keys: Vec<Value> = scene
            .state
            .keys_to(&room)
            .filter(|key| !active_only || is_active(key))
            .map(|key| {
                json!({
                    "keyId": key.id.as_str(),
                    "name": key.name,
                    "isActive": is_active(key),
                    "expiresAt": key.expires_at.map(iso),
                    "createdAt": iso(key.created_at),
                    "lastUsed": null,
                })
            })
            .collect();
        let data = json!({"channelId": room.as_str(), "keys": keys});
        let who = self.principal();
        out.push(self.envelope("key:listed", (who.id(), room.as_str()), data.clone(), scene));
        acknowledge(call.ack, members(data), out);
        Ok(())
    }

    /// Fails unless this connection may manage the channel.
    fn managed(&self, room: &RoomId, scene: Scene<'_>) -> Result<(), Error> {
        let who = self.principal();
        if may_manage_room(scene.state, visible(scene.state, room, &who)?, &who) {
            return Ok(());
        }
        Err(Error::forbidden(format!("{} may not give keys to channel {room}", who.id())))
    }

    /// `agent:register` in an envelope. On a user's socket it says who the agent is; the agent's own socket is yet to come.
    pub(super) fn register_sdk(
        &mut self,
        call: Call,
        envelope: &Envelope<'_>,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) -> Result<(), Error> {
        let own = self.principal();
        let agent = AgentId::new(&envelope.agent)
            .map_err(|_| Error::invalid("agentId", "must be 1 to 128 characters of A-Z a-z 0-9 . _ : @ -"))?;
        let known = scene.state.agent(&agent);
        let who = Principal::Agent(agent.clone());
        let allowed = own == who || (own.user().is_some() && known.is_none());
        if !allowed && may_act_as(scene.state, &own, &who).is_err() {
            self.reject(call, out, scene);
            return Ok(());
        }
        let SdkRegister { mut card, room } = SdkRegister::read(envelope)?;
        if card.name.is_empty() {
            card.name = known.map_or(agent.as_str(), |known| &known.card.name).to_owned();
        }
        let register = Command::RegisterAgent(RegisterAgent { agent: agent.clone(), card });
        let room = room.filter(|room| scene.state.room(room).is_some());
        let then = Then::SdkRegistered { agent, room: room.clone() };
        let Some(room) = room else {
            self.ask(register, (call, then), out);
            return Ok(());
        };
        self.ask(register, (call, Then::Step), out);
        let by_key = self.key_room().as_ref() == Some(&room);
        let join = Command::JoinRoom(JoinRoom { room, member: who, create: None, by_key });
        self.ask(join, (call, then), out);
        Ok(())
    }

    /// `agent:status:change`: the four statuses that agents give themselves are taken from agents that are here; the SDK's
    /// others (`connecting`, `registering`, …) are accepted without effect.
    pub(super) fn change_status(
        &mut self,
        call: Call,
        envelope: &Envelope<'_>,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) -> Result<(), Error> {
        let wanted = envelope.fields()?.loose("status").unwrap_or_default();
        let status = STATUSES.iter().find(|(name, _)| *name == wanted).map(|(_, status)| *status);
        let agent = self.claimed(envelope, scene).filter(|who| scene.state.online(who));
        match (status, agent.as_ref().and_then(Principal::agent)) {
            (Some(status), Some(agent)) => {
                let command = Command::SetAgentStatus(agent.clone(), status, "set_by_agent".into());
                self.ask(command, (call, Then::Accepted), out);
            }
            _ => acknowledge(call.ack, serde_json::Map::new(), out),
        }
        Ok(())
    }

    /// `agent:allowed_tools:update`.
    pub(super) fn allow_tools(
        &mut self,
        call: Call,
        envelope: &Envelope<'_>,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) -> Result<(), Error> {
        let who = self.claimed(envelope, scene);
        let Some(agent) = who.as_ref().and_then(Principal::agent).cloned() else {
            if who.is_none() {
                out.push(Output::Notice(Sign::Impersonation));
            }
            self.reject(call, out, scene);
            return Ok(());
        };
        let fields = envelope.fields()?;
        let tools = fields.strings("allowedTools")?.unwrap_or_default();
        let metadata = Some(Json::of(&json!({"allowedTools": tools})));
        let command =
            Command::UpdateAgent(agent.clone(), AgentChanges { metadata, ..AgentChanges::default() });
        self.ask(command, (call, Then::ToolsAllowed { agent, tools }), out);
        Ok(())
    }
}

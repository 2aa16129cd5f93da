//! The SDK's events: who they claim to come from is checked, then they do what their flat counterparts do (MXF notes §9).

use roundtable_core::error::Error;
use roundtable_core::ids::{AgentId, Principal};
use roundtable_core::messages::{Direct, Post};
use serde_json::value::RawValue;

use super::super::members;
use super::super::wire::envelope::{Envelope, ToolMessage};
use super::super::wire::fields::Fields;
use super::messages::part;
use super::{
    Call, Message, MxfSession, Output, Outputs, Scene, Sign, acknowledge, heartbeat, not_served, send,
};

impl MxfSession {
    /// One envelope.
    pub(super) fn enveloped(
        &mut self,
        call: Call,
        envelope: &Envelope<'_>,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) -> Result<(), Error> {
        match call.event {
            "message:channel" | "message:agent" => self.tool_message(call, envelope, scene, out),
            "channel:update" => self.update_channel(call, &envelope.fields()?, out),
            "channel:create" => self.create_channel(call, envelope, out),
            "key:generate" => self.generate_key(call, envelope, scene, out),
            "key:deactivate" => self.deactivate_key(call, envelope, scene, out),
            "key:list" => self.list_keys(call, envelope, scene, out),
            "agent:register" => self.register_sdk(call, envelope, scene, out),
            "agent:status:change" => self.change_status(call, envelope, scene, out),
            "agent:allowed_tools:update" => self.allow_tools(call, envelope, scene, out),
            "agent:join_channel" => self.join_channel(call, Some(envelope.data), scene, out),
            "mxf:tool:list" | "mcp:tool:list" => self.list_tools(call, envelope, scene, out),
            "memory:get" | "memory:update" | "memory:delete" => self.memory(call, envelope, scene, out),
            "agent:connect" => {
                acknowledge(call.ack, serde_json::Map::new(), out);
                Ok(())
            }
            "heartbeat" => {
                heartbeat(call, scene, out);
                Ok(())
            }
            _ => {
                not_served(call, out);
                Ok(())
            }
        }
    }

    /// Whom an envelope's `agentId` means, if it may: the socket's own agent or user, or an agent of that user.
    pub(super) fn claimed(&self, envelope: &Envelope<'_>, scene: Scene<'_>) -> Option<Principal> {
        let own = self.principal();
        if own.id() == envelope.agent {
            return Some(own);
        }
        let user = own.user()?;
        let agent = AgentId::new(&envelope.agent).ok()?;
        let owned = scene.state.agent(&agent).and_then(|agent| agent.owner.as_ref()) == Some(user);
        (owned || self.agents.contains(&agent)).then_some(Principal::Agent(agent))
    }

    /// `message:channel` and `message:agent`.
    fn tool_message(
        &mut self,
        call: Call,
        envelope: &Envelope<'_>,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) -> Result<(), Error> {
        let Some(from) = self.claimed(envelope, scene) else {
            out.push(Output::Notice(Sign::Impersonation));
            self.reject(call, out, scene);
            return Ok(());
        };
        let fields = envelope.fields()?;
        let ToolMessage { content, metadata, client, receiver } = ToolMessage::read(&fields)?;
        if call.event == "message:agent" {
            let to = receiver.ok_or_else(|| fields.wrong("receiverId", "is required"))?;
            self.post_direct(call, Direct { to, from, content, metadata }, client, out);
            return Ok(());
        }
        let room = envelope.room()?;
        let inside = |room| scene.state.room(room).is_some_and(|room| room.members.contains_key(&from));
        if scene.state.room(&room).is_some() && !inside(&room) {
            self.reject(call, out, scene);
            return Ok(());
        }
        let role = part(&room, &from, scene.state);
        self.post(call, Post { role, content, metadata, ..Post::text(room, from, "") }, client, out);
        Ok(())
    }

    /// A claim that is not the socket's, or a channel it is not in: nobody receives it, and its sender is told.
    pub(super) fn reject(&mut self, call: Call, out: &mut Outputs, scene: Scene<'_>) {
        let event = call.event;
        let text = format!("Rejected {event}: payload agentId/channelId must match the authenticated socket");
        let error = Error::forbidden(text.clone());
        let flat = super::super::errors::body(&error);
        send("error", &flat, out);
        let data = members(serde_json::json!({"error": text, "rejectedEvent": event}));
        let message = self.superset("message:error", None, scene.at).message(&flat, &data);
        out.push(Output::Send(message));
        if let Some(id) = call.ack {
            out.push(Output::Send(Message::Ack(id, super::super::errors::ack(&error))));
        }
    }

    /// The raw `agent:join_channel {agentId, channelId}` after an agent's login.
    pub(super) fn join_channel(
        &mut self,
        call: Call,
        raw: Option<&RawValue>,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) -> Result<(), Error> {
        let fields = Fields::payload(raw)?;
        self.join(call, &fields, scene, out)
    }
}

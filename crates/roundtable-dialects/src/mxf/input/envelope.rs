//! The SDK's events: who they claim to come from is checked, then they do what their flat counterparts do (MXF notes §9).

use roundtable_core::error::Error;
use roundtable_core::ids::{AgentId, Principal, RoomId};
use roundtable_core::messages::{Direct, Post};
use serde_json::value::RawValue;

use super::super::members;
use super::super::wire::envelope::{Envelope, ToolMessage};
use super::super::wire::fields::Fields;
use super::messages::part;
use super::{Call, Message, MxfSession, Output, Outputs, Scene, not_served, send};

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
            _ => {
                not_served(call, out);
                Ok(())
            }
        }
    }

    /// Whom an envelope's `agentId` means, if it may: the socket's own agent or user, or an agent of that user.
    fn claimed(&self, envelope: &Envelope<'_>, scene: Scene<'_>) -> Option<Principal> {
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
        let room = RoomId::new(&envelope.channel).map_err(|_| {
            Error::invalid("channelId", "must be 1 to 128 characters of A-Z a-z 0-9 . _ : @ -")
        })?;
        let inside = |room| scene.state.room(room).is_some_and(|room| room.members.contains_key(&from));
        if scene.state.room(&room).is_some() && !inside(&room) {
            self.reject(call, out, scene);
            return Ok(());
        }
        let role = part(&room, &from, scene);
        self.post(call, Post { role, content, metadata, ..Post::text(room, from, "") }, client, out);
        Ok(())
    }

    /// A claim that is not the socket's: nobody receives it, and its sender is told.
    fn reject(&mut self, call: Call, out: &mut Outputs, scene: Scene<'_>) {
        let event = call.event;
        let text = format!("Rejected {event}: payload agentId/channelId must match the authenticated socket");
        let error = Error::forbidden(text.clone());
        let flat = super::super::errors::body(&error);
        send("error", &flat, out);
        let data = members(serde_json::json!({"error": text, "rejectedEvent": event}));
        let message = self.superset("message:error", None, scene.now).message(&flat, &data);
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

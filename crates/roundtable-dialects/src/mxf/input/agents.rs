//! `agent:register`, `agent:update` and `agent:status`.

use roundtable_core::agents::{AgentCard, AgentChanges, Capability, RegisterAgent};
use roundtable_core::command::Command;
use roundtable_core::error::Error;
use roundtable_core::ids::{AgentId, Principal};
use roundtable_core::rooms::{JoinRoom, RoomCard};

use super::super::wire::fields::Fields;
use super::super::wire::{AgentUpdate, Register};
use super::{Call, MxfSession, Outputs, Then};

impl MxfSession {
    /// Makes an agent known, present and a member of a channel, in one go. It is present before the channel hears of it.
    pub(super) fn register(
        &mut self,
        call: Call,
        fields: &Fields<'_>,
        out: &mut Outputs,
    ) -> Result<(), Error> {
        let request = Register::read(fields)?;
        let card = AgentCard {
            name: request.name,
            role: request.role,
            model: request.model,
            description: request.description,
            capabilities: named(request.capabilities.unwrap_or_default()),
            metadata: request.metadata.unwrap_or_default(),
            ..AgentCard::default()
        };
        let Register { agent, room, .. } = request;
        let who = Principal::Agent(agent.clone());
        self.only_own(&who, out)?;
        let adopted = self.would_adopt(&who)?;
        let register = RegisterAgent { agent: agent.clone(), card };
        self.ask(Command::RegisterAgent(register), (call, Then::Step), out);
        self.ask_as(Some(who.clone()), Command::ConnectForDirect, (call, Then::Step), out);
        let by_user = self.principal().agent().is_none() && self.settings.register_creates_channel;
        let create = by_user.then(|| RoomCard { name: room.as_str().to_owned(), ..RoomCard::default() });
        let by_key = self.key_room().as_ref() == Some(&room);
        let join = JoinRoom { room: room.clone(), member: who, create, by_key };
        self.ask(Command::JoinRoom(join), (call, Then::Registered { agent, room, adopted }), out);
        Ok(())
    }

    /// Whether the socket begins to speak for an agent; fails when it speaks for too many.
    pub(super) fn would_adopt(&self, who: &Principal) -> Result<bool, Error> {
        let Some(agent) = who.agent() else { return Ok(false) };
        if self.principal() == *who || self.agents.contains(agent) {
            return Ok(false);
        }
        let most = self.settings.agents_per_socket;
        if self.agents.len() >= most {
            return Err(Error::forbidden(format!("one connection speaks for at most {most} agents")));
        }
        Ok(true)
    }

    /// Changes an own agent's card and status.
    pub(super) fn update_agent(
        &mut self,
        call: Call,
        fields: &Fields<'_>,
        out: &mut Outputs,
    ) -> Result<(), Error> {
        let AgentUpdate { agent, changes, status, updates } = AgentUpdate::read(fields)?;
        let then = Then::Updated { agent: agent.clone(), updates };
        let command = match status {
            Some(status) if changes == AgentChanges::default() => {
                Command::SetAgentStatus(agent, status, "set_by_agent".into())
            }
            status => Command::UpdateAgent(agent, AgentChanges { status, ..changes }),
        };
        self.ask(command, (call, then), out);
        Ok(())
    }

    /// Asks how an agent is, after everything asked before.
    pub(super) fn ask_status(
        &mut self,
        call: Call,
        fields: &Fields<'_>,
        out: &mut Outputs,
    ) -> Result<(), Error> {
        let agent = fields.id("agentId", AgentId::new)?;
        self.ask(Command::Look, (call, Then::Status { agent }), out);
        Ok(())
    }
}

/// Capabilities of which only the names are known.
fn named(names: Vec<String>) -> Vec<Capability> {
    names.iter().map(|name| Capability::named(name)).collect()
}

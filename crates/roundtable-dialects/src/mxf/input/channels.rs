//! `channel:join`, `channel:leave` and `channel:update`.

use roundtable_core::command::Command;
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::ids::{AgentId, Principal};
use roundtable_core::rooms::{JoinRoom, visible};

use super::super::wire::fields::Fields;
use super::super::wire::{ChannelUpdate, Membership};
use super::{Call, MxfSession, Outputs, Scene, Then};

impl MxfSession {
    /// Whom an `agentId` means: an agent, or the user of this socket itself.
    fn meant(&self, id: AgentId, scene: Scene<'_>, out: &mut Outputs) -> Result<Principal, Error> {
        let own = self.principal();
        let agent = Principal::Agent(id.clone());
        self.only_own(&agent, out)?;
        if scene.state.agent(&id).is_none() && own != agent {
            if own.id() == id.as_str() {
                return Ok(own);
            }
            return Err(Error::new(ErrorKind::AgentNotFound, format!("there is no agent {id}")));
        }
        Ok(agent)
    }

    /// Brings an agent into a channel that exists.
    pub(super) fn join(
        &mut self,
        call: Call,
        fields: &Fields<'_>,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) -> Result<(), Error> {
        let Membership { room, agent } = Membership::read(fields)?;
        let who = self.meant(agent, scene, out)?;
        let adopted = self.would_adopt(&who)?;
        let by_key = self.key_room().as_ref() == Some(&room);
        let join = JoinRoom { room: room.clone(), member: who.clone(), create: None, by_key };
        if adopted {
            self.ask_as(Some(who.clone()), Command::ConnectForDirect, (call, Then::Step), out);
        }
        self.ask(Command::JoinRoom(join), (call, Then::Joined { room, who, adopted }), out);
        Ok(())
    }

    /// Takes an agent out of a channel that it is in.
    pub(super) fn leave(
        &mut self,
        call: Call,
        fields: &Fields<'_>,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) -> Result<(), Error> {
        let Membership { room, agent } = Membership::read(fields)?;
        let who = self.meant(agent, scene, out)?;
        if !visible(scene.state, &room, &self.principal())?.members.contains_key(&who) {
            return Err(Error::forbidden(format!("{} is not in channel {room}", who.id())));
        }
        let command = Command::LeaveRoom(room.clone(), who.clone());
        self.ask(command, (call, Then::Left { room, who }), out);
        Ok(())
    }

    /// Changes what a channel says about itself.
    pub(super) fn update_channel(
        &mut self,
        call: Call,
        fields: &Fields<'_>,
        out: &mut Outputs,
    ) -> Result<(), Error> {
        let ChannelUpdate { room, changes } = ChannelUpdate::read(fields)?;
        let command = Command::UpdateRoom(room.clone(), changes);
        self.ask(command, (call, Then::ChannelUpdated { room }), out);
        Ok(())
    }
}

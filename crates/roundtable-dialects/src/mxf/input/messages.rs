//! `message:send`, `message:broadcast` and `message:direct`.

use bytes::Bytes;
use roundtable_core::command::Command;
use roundtable_core::error::Error;
use roundtable_core::ids::{AgentId, ClientId, Principal, RoomId};
use roundtable_core::messages::{Direct, MessageKind, Post, Role};
use roundtable_core::state::State;

use super::super::wire::fields::Fields;
use super::super::wire::{BROADCASTS, Saying};
use super::{Call, MxfSession, Output, Outputs, Scene, Then};

impl MxfSession {
    /// Says something to a channel.
    pub(super) fn say(
        &mut self,
        call: Call,
        (fields, binary): (&Fields<'_>, Option<&Bytes>),
        scene: Scene<'_>,
        out: &mut Outputs,
    ) -> Result<(), Error> {
        let room = fields.id("channelId", RoomId::new)?;
        let saying = Saying::read(fields, binary)?;
        let kind = if call.event == "message:broadcast" {
            fields.one_of("type", &BROADCASTS)?.ok_or_else(|| fields.wrong("type", "is required"))?
        } else {
            MessageKind::Text
        };
        let from = self.acting(saying.agent.as_ref(), out);
        let post = Post {
            role: part(&room, &from, scene.state),
            kind,
            content: saying.content,
            metadata: saying.metadata,
            reply_to: saying.reply_to,
            ..Post::text(room, from, "")
        };
        self.post(call, post, saying.client, out);
        Ok(())
    }

    /// Asks for a message in a channel; counts as one.
    pub(super) fn post(&mut self, call: Call, post: Post, client: Option<ClientId>, out: &mut Outputs) {
        let from = Some(post.from.clone());
        let mut ask = self.question(from, Command::Post(Box::new(post)), (call, Then::Sent));
        (ask.client, ask.budget) = (client, self.message_budget());
        out.push(Output::Ask(ask));
    }

    /// Says something to one agent.
    pub(super) fn say_direct(
        &mut self,
        call: Call,
        (fields, binary): (&Fields<'_>, Option<&Bytes>),
        out: &mut Outputs,
    ) -> Result<(), Error> {
        let to = fields.id("targetAgentId", AgentId::new)?;
        let Saying { content, metadata, client, agent, .. } = Saying::read(fields, binary)?;
        let from = self.acting(agent.as_ref(), out);
        self.post_direct(call, Direct { to, from, content, metadata }, client, out);
        Ok(())
    }

    /// Asks for a direct message; counts as one.
    pub(super) fn post_direct(
        &mut self,
        call: Call,
        direct: Direct,
        client: Option<ClientId>,
        out: &mut Outputs,
    ) {
        let (from, to) = (Some(direct.from.clone()), direct.to.clone());
        let then = Then::SentDirect { to, sdk: call.event == "message:agent" };
        let mut ask = self.question(from, Command::Direct(Box::new(direct)), (call, then));
        (ask.client, ask.budget) = (client, self.message_budget());
        out.push(Output::Ask(ask));
    }
}

/// Whose part a message plays: an agent assists in the channel that is its own and asks everywhere else.
pub fn part(room: &RoomId, from: &Principal, state: &State) -> Role {
    let serving = state.room(room).and_then(|room| room.card.agent.as_ref());
    if serving.is_some() && serving == from.agent() { Role::Assistant } else { Role::User }
}

//! Pairs: the one conversation that somebody has with an agent, closed to everybody else.

use serde::Serialize;

use crate::engine::{Context, Decision, Outcome};
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::ids::{AgentId, Principal, RoomId};
use crate::rooms::{self, Entry, RoomCard, RoomCreated, RoomJoined};
use crate::state::State;

/// Command: the one active conversation of the actor with an agent, made under a fresh id if there is none; both are in it
/// afterwards. Users open one with any agent, visitors with the agent of their token alone.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct OpenPair {
    /// The agent.
    pub agent: AgentId,
    /// What a new one says about itself; who may come in is not its to say.
    pub card: RoomCard,
}

pub(crate) fn open(state: &State, ctx: &Context, command: &OpenPair) -> Result<Decision, Error> {
    let allowed = match &ctx.actor {
        Principal::User(_) => true,
        Principal::Visitor(visitor) => visitor.agent() == command.agent,
        Principal::Agent(_) | Principal::Guest(_) | Principal::Node(_) | Principal::System => false,
    };
    if !allowed {
        return Err(Error::forbidden(format!("{} opens no conversation with this agent", ctx.actor.id())));
    }
    let unknown = || Error::new(ErrorKind::AgentNotFound, format!("there is no agent {}", command.agent));
    state.agent(&command.agent).ok_or_else(unknown)?;
    let mut decision = Decision::default();
    let room = match state.pair(&ctx.actor, &command.agent) {
        Some(room) => room.clone(),
        None => {
            rooms::check_card(&command.card)?;
            let pair = Some(command.agent.clone());
            let card = RoomCard { entry: Entry::Members, pair, agent: None, ..command.card.clone() };
            let room = RoomId::fresh(ctx.at, ctx.random);
            decision.in_room(&room, Event::RoomCreated(RoomCreated { card, owner: ctx.actor.clone() }));
            room
        }
    };
    let agent = Principal::Agent(command.agent.clone());
    for (member, by) in [(&ctx.actor, None), (&agent, Some(ctx.actor.clone()))] {
        if state.room(&room).is_none_or(|found| !found.members.contains_key(member)) {
            decision.in_room(&room, Event::RoomJoined(RoomJoined::of(state, member.clone(), by)));
        }
    }
    decision.outcome(Outcome::Room(room));
    Ok(decision)
}

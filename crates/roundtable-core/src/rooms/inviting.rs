//! Bringing others into a room, or asking them to come.

use serde::{Deserialize, Serialize};

use super::{RoomJoined, takes_another, visible};
use crate::access;
use crate::engine::{Context, Decision};
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::ids::{Principal, RoomId};
use crate::limits;
use crate::state::State;

/// Event: somebody is asked to come in; it is a member once it joins.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RoomInvited {
    /// Who.
    pub member: Principal,
}

/// An agent or a user becomes a member without having asked; it is told. Members invite, guests only into their own rooms.
///
/// Agents serve their workspace: that they are registered is their consent. A user is brought in by who runs the workspace; any
/// other member asks it, which tells nobody whether there is such a user, and it comes in when it joins.
pub(crate) fn invite(
    state: &State,
    ctx: &Context,
    room: &RoomId,
    member: &Principal,
) -> Result<Decision, Error> {
    let found = visible(state, room, &ctx.actor)?;
    let stranger = matches!(ctx.actor, Principal::Guest(_) | Principal::Visitor(_));
    let inside = found.members.contains_key(&ctx.actor) && !stranger;
    if !inside && !access::may_manage_room(state, found, &ctx.actor) {
        return Err(Error::forbidden(format!("{} may not bring others into room {room}", ctx.actor.id())));
    }
    let brings = match member {
        Principal::Agent(id) if state.agent(id).is_none() => {
            return Err(Error::new(ErrorKind::AgentNotFound, format!("there is no agent {id}")));
        }
        Principal::Agent(_) => true,
        Principal::User(id) if access::may_operate(state, &ctx.actor) => {
            let unknown = || Error::new(ErrorKind::UserNotFound, format!("there is no user {id}"));
            state.user(id).map(|_| true).ok_or_else(unknown)?
        }
        Principal::User(_) => false,
        Principal::Guest(_) | Principal::Visitor(_) | Principal::Node(_) | Principal::System => {
            return Err(Error::invalid("member", "must be an agent or a user"));
        }
    };
    let mut decision = Decision::default();
    if found.members.contains_key(member) || (!brings && access::is_invited(state, found, member)) {
        return Ok(decision);
    }
    takes_another(found)?;
    if brings {
        let event = RoomJoined::of(state, member.clone(), Some(ctx.actor.clone()));
        decision.in_room(room, Event::RoomJoined(event));
    } else if found.invited.len() >= limits::MAX_INVITED {
        return Err(Error::new(ErrorKind::Conflict, "too many are invited and have not come"));
    } else {
        decision.in_room(room, Event::RoomInvited(RoomInvited { member: member.clone() }));
    }
    Ok(decision)
}

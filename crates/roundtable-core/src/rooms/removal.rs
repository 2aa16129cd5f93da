//! Removing a room for good.

use serde::{Deserialize, Serialize};

use super::{RoomStatus, RoomUpdated, visible};
use crate::access;
use crate::engine::{Context, Decision};
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::ids::RoomId;
use crate::limits;
use crate::state::State;
use crate::users::KeyRevoked;

/// Event: the room is gone. Its records stay in the log, and its id is nobody's any more.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RoomRemoved {
    /// Nobody ever used it, so whoever wants the id may have it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unused: bool,
}

/// A new room under the id of a removed one would show what was said in that one.
pub(super) fn never_removed(state: &State, room: &RoomId) -> Result<(), Error> {
    if !state.room_removed(room) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::RoomClosed, format!("room {room} was removed")).field("roomId"))
}

/// Whoever runs the workspace removes a room for good: it is closed for its members, and its keys open nothing any more.
pub(crate) fn remove(state: &State, ctx: &Context, room: &RoomId) -> Result<Decision, Error> {
    visible(state, room, &ctx.actor)?;
    if !access::may_operate(state, &ctx.actor) {
        return Err(Error::forbidden(format!("{} may not remove room {room}", ctx.actor.id())));
    }
    let mut decision = Decision::default();
    for key in state.keys_to(room).filter(|key| !key.revoked) {
        decision.event(Event::KeyRevoked(KeyRevoked { key: key.id.clone() }));
    }
    let closed = RoomUpdated { status: Some(RoomStatus::Closed), ..RoomUpdated::default() };
    decision.in_room(room, Event::RoomUpdated(closed));
    decision.in_room(room, Event::RoomRemoved(RoomRemoved { unused: false }));
    Ok(decision)
}

/// Ends the rooms that nobody ever used and that nobody has been in for a day.
pub(crate) fn end_unused(state: &State, ctx: &Context, decision: &mut Decision) {
    for room in state.unused_rooms(ctx.now).take(limits::MAX_UNUSED_AT_ONCE) {
        decision.in_room(room, Event::RoomRemoved(RoomRemoved { unused: true }));
    }
}

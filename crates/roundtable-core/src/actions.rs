//! Actions: what members of a room do together there, in the clients' own words.

use serde::{Deserialize, Serialize};

use crate::engine::{Context, Decision};
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::ids::{ConnectionId, MessageId, Principal, RoomId};
use crate::json::Json;
use crate::limits;
use crate::repeats;
use crate::rooms::{self, Durability, RoomStatus};
use crate::signal::SignalBody;
use crate::state::State;

/// Event: something was done in a room that whoever was away has to know of (a text was edited, …).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Acted {
    /// Who.
    pub who: Principal,
    /// What, in the clients' own words.
    pub action: String,
    /// Any JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Json>,
    /// The connection it was done on, so that a client that comes back is spared its own doings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<ConnectionId>,
}

/// Command: do something in a room. Idempotent with a client id if it is kept.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Act {
    /// Where.
    pub room: RoomId,
    /// What, in the clients' own words.
    pub action: String,
    /// Any JSON.
    #[serde(serialize_with = "repeats::sorted")]
    pub data: Option<Json>,
    /// It is worth something later. Ephemeral rooms keep nothing all the same.
    pub keep: bool,
}

pub(crate) fn act(state: &State, ctx: &Context, command: &Act) -> Result<Decision, Error> {
    let room = rooms::as_member(state, &command.room, &ctx.actor)?;
    if room.status != RoomStatus::Active {
        return Err(Error::new(ErrorKind::RoomClosed, format!("room {} is closed", command.room)));
    }
    if !(1..=limits::MAX_NAME_CHARS).contains(&command.action.chars().count()) {
        return Err(Error::invalid("action", "must be 1 to 200 characters"));
    }
    if command.data.as_ref().is_some_and(|data| data.as_str().len() > limits::MAX_CONTENT_BYTES) {
        return Err(Error::invalid("data", "must be at most 1 MiB"));
    }
    let (who, action, data) = (ctx.actor.clone(), command.action.clone(), command.data.clone());
    let mut decision = Decision::default();
    if command.keep && room.card.durability != Durability::Ephemeral {
        let acted = Acted { who, action, data, via: ctx.connection };
        decision.in_room(&command.room, Event::RoomActed(acted));
    } else {
        let id = MessageId::fresh(ctx.at, ctx.random);
        decision.signal(Some(&command.room), SignalBody::Action { id, who, action, data });
    }
    Ok(decision)
}

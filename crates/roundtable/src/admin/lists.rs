//! Who and what there is, for the operator: users, agents, keys and rooms, by id and without any secret.

use axum::response::Response;
use roundtable_core::ids::{AgentId, KeyId, Principal, RoomId, UserId};
use roundtable_core::users::KeyFor;
use roundtable_dialects::iso::iso;

use crate::admin::answer::{Refused, json_response};
use crate::admin::asked::Asked;
use crate::admin::pages::PageQuery;
use crate::admin::wire::{Agents, Keys, ListedAgent, ListedKey, ListedRoom, ListedUser, Rooms, Users};
use crate::admin::{Desk, Office};

/// `GET /users`.
pub async fn users<O: Office>(
    Desk(admin): Desk<O>,
    Asked(asked): Asked<PageQuery>,
) -> Result<Response, Refused> {
    let (state, after) = (admin.office.state(), asked.after(UserId::new)?);
    let users = state.users_after(after.as_ref()).map(|user| ListedUser {
        username: user.id.to_string(),
        role: user.role,
        disabled: user.disabled,
        online: state.online(&Principal::User(user.id.clone())),
        created_at: iso(user.created_at),
    });
    let (users, next) = asked.of(users, |user| user.username.clone());
    Ok(json_response(200, &Users { users, next }))
}

/// `GET /agents`.
pub async fn agents<O: Office>(
    Desk(admin): Desk<O>,
    Asked(asked): Asked<PageQuery>,
) -> Result<Response, Refused> {
    let (state, after) = (admin.office.state(), asked.after(AgentId::new)?);
    let agents = state.agents_after(after.as_ref()).map(|agent| ListedAgent {
        agent_id: agent.id.to_string(),
        name: agent.card.name.clone(),
        status: agent.status,
        suspended: agent.suspended,
        online: state.online(&Principal::Agent(agent.id.clone())),
        owner: agent.owner.as_ref().map(ToString::to_string),
        created_at: iso(agent.created_at),
    });
    let (agents, next) = asked.of(agents, |agent| agent.agent_id.clone());
    Ok(json_response(200, &Agents { agents, next }))
}

/// `GET /keys`: what they open, never what opens with them.
pub async fn keys<O: Office>(
    Desk(admin): Desk<O>,
    Asked(asked): Asked<PageQuery>,
) -> Result<Response, Refused> {
    let (state, after) = (admin.office.state(), asked.after(KeyId::new)?);
    let keys = state.keys_after(after.as_ref()).map(|key| {
        let (user, agent, room) = match &key.opens {
            KeyFor::User(user) => (Some(user.to_string()), None, None),
            KeyFor::Room { agent, room } => (None, Some(agent.to_string()), Some(room.to_string())),
        };
        ListedKey {
            key_id: key.id.to_string(),
            name: key.name.clone(),
            user,
            agent,
            room,
            revoked: key.revoked,
            expires_at: key.expires_at.map(iso),
            created_at: iso(key.created_at),
        }
    });
    let (keys, next) = asked.of(keys, |key| key.key_id.clone());
    Ok(json_response(200, &Keys { keys, next }))
}

/// `GET /rooms`.
pub async fn rooms<O: Office>(
    Desk(admin): Desk<O>,
    Asked(asked): Asked<PageQuery>,
) -> Result<Response, Refused> {
    let (state, after) = (admin.office.state(), asked.after(RoomId::new)?);
    let rooms = state.rooms_after(after.as_ref()).map(|room| ListedRoom {
        room: room.id.to_string(),
        name: room.card.name.clone(),
        durability: room.card.durability,
        status: room.status,
        members: room.members.len(),
        messages: room.messages,
        created_at: iso(room.created_at),
    });
    let (rooms, next) = asked.of(rooms, |room| room.room.clone());
    Ok(json_response(200, &Rooms { rooms, next }))
}

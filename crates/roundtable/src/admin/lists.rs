//! Who and what there is, for the operator: users, agents, keys and rooms, by id and without any secret.

use axum::response::Response;
use roundtable_core::ids::Principal;
use roundtable_core::users::KeyFor;
use roundtable_dialects::iso::iso;

use crate::admin::answer::json_response;
use crate::admin::wire::{Agents, Keys, ListedAgent, ListedKey, ListedRoom, ListedUser, Rooms, Users};
use crate::admin::{Desk, Office};

/// `GET /users`.
pub async fn users<O: Office>(Desk(admin): Desk<O>) -> Response {
    let state = admin.office.state();
    let mut users: Vec<ListedUser> = state
        .users()
        .map(|user| ListedUser {
            username: user.id.to_string(),
            role: user.role,
            disabled: user.disabled,
            online: state.online(&Principal::User(user.id.clone())),
            created_at: iso(user.created_at),
        })
        .collect();
    users.sort_by(|a, b| a.username.cmp(&b.username));
    json_response(200, &Users { users })
}

/// `GET /agents`.
pub async fn agents<O: Office>(Desk(admin): Desk<O>) -> Response {
    let state = admin.office.state();
    let mut agents: Vec<ListedAgent> = state
        .agents()
        .map(|agent| ListedAgent {
            agent_id: agent.id.to_string(),
            name: agent.card.name.clone(),
            status: agent.status,
            suspended: agent.suspended,
            online: state.online(&Principal::Agent(agent.id.clone())),
            owner: agent.owner.as_ref().map(ToString::to_string),
            created_at: iso(agent.created_at),
        })
        .collect();
    agents.sort_by(|a, b| a.agent_id.cmp(&b.agent_id));
    json_response(200, &Agents { agents })
}

/// `GET /keys`: what they open, never what opens with them.
pub async fn keys<O: Office>(Desk(admin): Desk<O>) -> Response {
    let state = admin.office.state();
    let mut keys: Vec<ListedKey> = state
        .keys()
        .map(|key| {
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
        })
        .collect();
    keys.sort_by(|a, b| a.key_id.cmp(&b.key_id));
    json_response(200, &Keys { keys })
}

/// `GET /rooms`.
pub async fn rooms<O: Office>(Desk(admin): Desk<O>) -> Response {
    let state = admin.office.state();
    let mut rooms: Vec<ListedRoom> = state
        .rooms()
        .map(|room| ListedRoom {
            room: room.id.to_string(),
            name: room.card.name.clone(),
            durability: room.card.durability,
            status: room.status,
            members: room.members.len(),
            messages: room.messages,
            created_at: iso(room.created_at),
        })
        .collect();
    rooms.sort_by(|a, b| a.room.cmp(&b.room));
    json_response(200, &Rooms { rooms })
}

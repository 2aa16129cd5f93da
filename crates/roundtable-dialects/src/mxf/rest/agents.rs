//! A key's agent, and memory as far as there is any: it can be read, and is empty (MXF notes §10).

use roundtable_core::access::may_act_as;
use roundtable_core::ids::{AgentId, KeyId, Principal, RoomId};
use roundtable_core::users::KeyFor;
use serde_json::json;

use super::super::encode::shapes::{self, iso, value};
use super::super::input::memory::{Owner, Recall};
use super::{Answer, Answered, Call, Failure};
use crate::pages::MOST_MEMBERS;
use crate::rest::Desk;

/// The agent and the channel of a key that the asker may speak for.
fn of_key<D: Desk>(call: &Call<'_, D>, key: &str) -> Result<(AgentId, RoomId), Failure> {
    let found = KeyId::new(key).ok().and_then(|key| call.state.key(&key));
    let Some(KeyFor::Room { agent, room }) = found.map(|key| &key.opens) else {
        return Err(Failure::new(404, "Key not found"));
    };
    let bearer = Principal::Agent(agent.clone());
    if may_act_as(&call.state, &call.who.principal, &bearer).is_err() {
        return Err(Failure::new(403, "This key is somebody else's"));
    }
    Ok((agent.clone(), room.clone()))
}

/// `GET agents/context/:keyId`.
pub(super) fn context<D: Desk>(call: &Call<'_, D>, key: &str) -> Answered {
    let (id, room) = of_key(call, key)?;
    let agent = call.state.agent(&id).ok_or_else(|| Failure::new(404, "Agent not found"))?;
    let who = Principal::Agent(id);
    let mut rooms = call.state.rooms_of(&who).map(RoomId::as_str);
    let channels: Vec<&str> = rooms.by_ref().take(MOST_MEMBERS).collect();
    let mut view = shapes::agent(agent);
    view.insert("keyId".into(), key.into());
    view.insert("channelId".into(), room.as_str().into());
    view.insert("status".into(), value(&agent.status));
    view.insert("channels".into(), json!(channels));
    if rooms.next().is_some() {
        view.insert("truncated".into(), true.into());
    }
    view.insert("createdAt".into(), iso(agent.created_at).into());
    view.insert("updatedAt".into(), iso(agent.updated_at).into());
    Ok(Answer::data(200, view))
}

fn recalled<D: Desk>(call: &Call<'_, D>, owner: Owner, ids: &[&str]) -> Answered {
    Ok(Answer::data(200, Recall::of(owner, ids)?.memory(&call.who.principal, &call.state)?))
}

/// `GET agents/memory/:keyId`.
pub(super) fn memory<D: Desk>(call: &Call<'_, D>, key: &str) -> Answered {
    let (agent, _) = of_key(call, key)?;
    recalled(call, Owner::Agent, &[agent.as_str()])
}

/// `GET channels/memory/:id`.
pub(super) fn channel_memory<D: Desk>(call: &Call<'_, D>, id: &str) -> Answered {
    recalled(call, Owner::Channel, &[id])
}

/// `GET memory/relationships/:channelId/:agentId/:otherAgentId`: what two agents have with one another is the same in every
/// channel.
pub(super) fn relationship<D: Desk>(call: &Call<'_, D>, (one, other): (&str, &str)) -> Answered {
    recalled(call, Owner::Relationship, &[one, other])
}

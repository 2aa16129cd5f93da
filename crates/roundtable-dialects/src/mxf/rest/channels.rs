//! Channels: what they are, who is in them, and their metadata (MXF notes §10).

use roundtable_core::access::may_act_as;
use roundtable_core::command::Command;
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::ids::{AgentId, Principal, RoomId};
use roundtable_core::json::Json;
use roundtable_core::rooms::{CreateRoom, Entry, JoinRoom, Room, RoomUpdated};
use roundtable_core::state::State;
use serde_json::{Map, Value, json};

use super::super::encode::shapes::{self, iso};
use super::super::members;
use super::super::wire::envelope::CreateChannel;
use super::{Answer, Answered, Call, Failure, fields, raw};
use crate::rest::Desk;
use crate::session::Credential;

/// A channel with who is in it.
fn view(state: &State, room: &Room) -> Value {
    let mut view = members(shapes::channel(room));
    view.extend(members(shapes::participants(state, room)));
    view.insert("activeAgents".into(), json!(shapes::active_agents(state, room)));
    view.insert("messageCount".into(), room.messages.into());
    view.insert("createdAt".into(), iso(room.created_at).into());
    view.insert("updatedAt".into(), iso(room.updated_at).into());
    Value::Object(view)
}

fn gone() -> Failure {
    Failure::new(404, "Channel not found")
}

/// `GET channels/:id/context`.
pub(super) fn show<D: Desk>(call: &Call<'_, D>, id: &str) -> Answered {
    let room = call.inside(id)?;
    Ok(Answer::data(200, view(&call.state, room)))
}

/// `POST channels/:id/context`: makes the channel.
pub(super) async fn create<D: Desk>(call: &Call<'_, D>, id: &str) -> Answered {
    let id = RoomId::new(id)
        .map_err(|_| Failure::new(400, "channelId must be 1 to 128 characters of A-Z a-z 0-9 . _ : @ -"))?;
    let CreateChannel { room, mut card } = CreateChannel::of(id, &fields(call.request)?)?;
    if matches!(call.who.credential, Credential::ChannelKey(..)) {
        card.entry = Entry::Private;
    }
    let command = Command::CreateRoom(CreateRoom { room: Some(room.clone()), card });
    let state = match call.command(command).await {
        Err(failure) if failure.status == 409 => {
            return Err(Failure::new(409, format!("Channel {room} already exists")));
        }
        other => other?,
    };
    let made = state.room(&room).ok_or_else(gone)?;
    Ok(Answer::data(201, view(&state, made)))
}

/// `PATCH channels/:id/context`: name, description, metadata.
pub(super) async fn change<D: Desk>(call: &Call<'_, D>, id: &str) -> Answered {
    let room = call.channel(id)?.id.clone();
    let fields = fields(call.request)?;
    let changes = RoomUpdated {
        name: fields.name("name")?,
        description: fields.words("description")?,
        metadata: fields.json_object("metadata")?,
        status: None,
    };
    if changes == RoomUpdated::default() {
        return Err(Failure::new(400, "The body must have name, description or metadata"));
    }
    update(call, &room, changes).await
}

async fn update<D: Desk>(call: &Call<'_, D>, id: &RoomId, changes: RoomUpdated) -> Answered {
    let state = call.command(Command::UpdateRoom(id.clone(), changes)).await?;
    let room = state.room(id).ok_or_else(gone)?;
    Ok(Answer::data(200, view(&state, room)))
}

fn known<D: Desk>(call: &Call<'_, D>, agent: &str) -> Result<Principal, Failure> {
    let id = AgentId::new(agent).ok().filter(|id| call.state.agent(id).is_some());
    let unknown = || Error::new(ErrorKind::AgentNotFound, "there is no such agent");
    Ok(Principal::Agent(id.ok_or_else(unknown)?))
}

/// `POST channels/:id/agents/:agentId`: one's own agent joins, another's is brought in by a member.
pub(super) async fn bring_in<D: Desk>(call: &Call<'_, D>, id: &str, agent: &str) -> Answered {
    let room = call.channel(id)?.id.clone();
    let member = known(call, agent)?;
    let command = if may_act_as(&call.state, &call.who.principal, &member).is_ok() {
        let by_key = call.is_of_key(&room);
        Command::JoinRoom(JoinRoom { room: room.clone(), member, create: None, by_key })
    } else {
        Command::Invite(room.clone(), member)
    };
    let state = call.command(command).await?;
    let found = state.room(&room).ok_or_else(gone)?;
    let mut data = members(shapes::participants(&state, found));
    data.insert("agentId".into(), agent.into());
    Ok(Answer::data(200, data))
}

/// `DELETE channels/:id/agents/:agentId`.
pub(super) async fn take_out<D: Desk>(call: &Call<'_, D>, id: &str, agent: &str) -> Answered {
    let room = call.channel(id)?;
    let member = known(call, agent)?;
    if !room.members.contains_key(&member) {
        return Err(Failure::new(404, format!("{agent} is not in channel {id}")));
    }
    call.command(Command::LeaveRoom(room.id.clone(), member)).await?;
    Ok(Answer::data(200, json!({"channelId": id, "agentId": agent})))
}

/// `GET channels/:id/metadata` and `…/:key`.
pub(super) fn metadata<D: Desk>(call: &Call<'_, D>, id: &str, key: Option<&str>) -> Answered {
    let all: Map<String, Value> = call.inside(id)?.card.metadata.read().unwrap_or_default();
    let Some(key) = key else { return Ok(Answer::data(200, all)) };
    let value = all.get(key).ok_or_else(|| Failure::new(404, format!("There is no metadata {key}")))?;
    Ok(Answer::data(200, json!({"key": key, "value": value})))
}

/// `POST channels/:id/metadata` lays an object over what is there, `…/:key` sets one member to `{value}`.
pub(super) async fn set_metadata<D: Desk>(call: &Call<'_, D>, id: &str, key: Option<&str>) -> Answered {
    let room = call.channel(id)?.id.clone();
    let fields = fields(call.request)?;
    let metadata = match key {
        Some(key) => {
            let value = fields.carried("value", fields.required("value")?)?;
            Json::of(&Map::from_iter([(key.to_owned(), shapes::value(&value))]))
        }
        None => match fields.json_object("metadata")? {
            Some(inner) => inner,
            None => fields.carried("metadata", raw(call.request)?)?,
        },
    };
    let changes = RoomUpdated { metadata: Some(metadata), ..RoomUpdated::default() };
    update(call, &room, changes).await?;
    let state = call.desk.state(&call.who.workspace).ok_or_else(gone)?;
    let all = state.room(&room).map(|room| shapes::value(&room.card.metadata));
    Ok(Answer::data(200, all.ok_or_else(gone)?))
}

//! The JSON shapes that answers and deliveries share: channels, agents, participants, supersets, times and ids.

use roundtable_core::agents::{Agent, AgentChanges, AgentStatus};
use roundtable_core::ids::{AgentId, Principal, RoomId};
use roundtable_core::json::Json;
use roundtable_core::messages::Content;
use roundtable_core::rooms::{Entry, Room};
use roundtable_core::state::State;
use roundtable_core::time::Time;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use sha1::Digest as _;

pub use crate::iso::iso;
use crate::pages::{MOST_MEMBERS, here};
use crate::session::Message;

/// What stands in an envelope's `agentId` or `channelId` where there is none; they are never empty (MXF notes §9).
pub const NOWHERE: &str = "system";

/// JSON text of a payload of ours; none of them can fail.
pub fn text(payload: &impl Serialize) -> String {
    serde_json::to_string(payload).unwrap_or_else(|_| "null".into())
}

/// The same as a value.
pub fn value(payload: &impl Serialize) -> Value {
    serde_json::to_value(payload).unwrap_or_default()
}

/// A UUID (version 5) that depends only on the workspace and what the event is about, so that all receivers see one id.
pub fn event_id(state: &State, about: &str) -> String {
    uuid(state.domain_key_hash.as_bytes(), about.as_bytes())
}

/// A UUID of version 5 (RFC 9562 §5.5) for a name within a name space.
pub fn uuid(space: &[u8], name: &[u8]) -> String {
    let hash = sha1::Sha1::new().chain_update(space).chain_update(name).finalize();
    let mut bits = hash.iter().take(16).fold(0u128, |bits, byte| (bits << 8) | u128::from(*byte));
    bits = (bits & !(0xf << 76)) | (5 << 76);
    bits = (bits & !(0x3 << 62)) | (2 << 62);
    let hex = format!("{bits:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default().to_owned();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

/// A message's content in a flat event.
#[derive(Debug)]
pub enum ContentOut<'a> {
    /// Words.
    Text(&'a str),
    /// JSON, spliced in.
    Json(&'a Json),
    /// The first attachment.
    Attachment,
}

impl<'a> ContentOut<'a> {
    /// Words and JSON as they are, bytes as an attachment.
    pub fn flat(content: &'a Content) -> Self {
        match content {
            Content::Text(text) => Self::Text(text),
            Content::Json(json) => Self::Json(json),
            Content::Base64(_) => Self::Attachment,
        }
    }
}

impl Serialize for ContentOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Json(json) => json.serialize(serializer),
            Self::Attachment => {
                let raw = RawValue::from_string(super::first_attachment());
                raw.map_err(serde::ser::Error::custom)?.serialize(serializer)
            }
        }
    }
}

/// A message's content in an envelope: `{format, data}`.
pub fn wrapped(content: &Content) -> Value {
    match content {
        Content::Text(text) => json!({"format": "text", "data": text}),
        Content::Json(json) => json!({"format": "json", "data": json}),
        Content::Base64(text) => json!({"format": "base64", "data": text}),
    }
}

/// A channel, as `channel:joined` and `channel:updated` show it.
pub fn channel(room: &Room) -> Value {
    let card = &room.card;
    let mut shown = json!({
        "channelId": room.id.as_str(),
        "name": card.name,
        "description": card.description,
        "metadata": card.metadata,
        "isPrivate": card.entry == Entry::Private,
        "requireApproval": card.entry == Entry::Members,
        "maxAgents": card.max_members,
        "allowAnonymous": false,
        "allowedTools": [],
        "systemLlmEnabled": false,
        "showActiveAgents": true,
        "owner": room.owner.id(),
    });
    let options: Map<String, Value> = card.options.as_ref().and_then(Json::read).unwrap_or_default();
    if let Some(object) = shown.as_object_mut() {
        for (name, option) in options {
            if let Some(slot) = object.get_mut(&name) {
                *slot = option;
            }
        }
    }
    shown
}

/// The part of a channel that a login shows.
pub fn channel_config(room: &Room) -> Value {
    let whole = channel(room);
    let names = ["channelId", "name", "description", "showActiveAgents", "systemLlmEnabled"];
    let pick = |name: &&str| whole.get(*name).map(|value| ((*name).to_owned(), value.clone()));
    Value::Object(names.iter().filter_map(pick).collect())
}

/// `channel:joined`.
pub fn joined(room: &Room, who: &Principal, at: Time) -> Value {
    let (id, who) = (room.id.as_str(), who.id());
    json!({"channelId": id, "agentId": who, "channel": channel(room), "timestamp": iso(at)})
}

/// `channel:left`.
pub fn left(room: &RoomId, who: &Principal, at: Time) -> Value {
    json!({"channelId": room.as_str(), "agentId": who.id(), "timestamp": iso(at)})
}

/// `{channelId, participants, count}`; a list that is cut says `truncated: true`. A user who only owns the channel takes no part.
pub fn participants(state: &State, room: &Room) -> Value {
    let owner = room.owner.agent().is_none() && room.members.contains_key(&room.owner);
    let count = room.members.len() - usize::from(owner);
    let takes_part = |who: &&Principal| !owner || **who != room.owner;
    let listed: Vec<Value> = room
        .members
        .keys()
        .filter(takes_part)
        .take(MOST_MEMBERS)
        .map(|who| participant(state, who))
        .collect();
    let mut event = json!({"channelId": room.id.as_str(), "participants": listed, "count": count});
    if let (true, Some(object)) = (count > MOST_MEMBERS, event.as_object_mut()) {
        object.insert("truncated".into(), true.into());
    }
    event
}

fn participant(state: &State, who: &Principal) -> Value {
    match who.agent().and_then(|id| state.agent(id)) {
        Some(agent) => json!({
            "agentId": who.id(),
            "name": state.name_of(who),
            "role": agent.card.role,
            "status": agent.status,
            "capabilities": capabilities(agent),
        }),
        None => {
            let status = if state.online(who) { AgentStatus::Online } else { AgentStatus::Offline };
            let name = state.name_of(who);
            json!({"agentId": who.id(), "name": name, "role": "user", "status": status, "capabilities": []})
        }
    }
}

/// The names of what an agent can do.
pub fn capabilities(agent: &Agent) -> Vec<&str> {
    agent.card.capabilities.iter().map(|c| c.name.as_str()).collect()
}

/// The agents of a channel that are here.
pub fn active_agents(state: &State, room: &Room) -> Vec<String> {
    here(room, state).filter_map(Principal::agent).map(|id| id.as_str().to_owned()).collect()
}

/// An agent's card, as acknowledgements show it.
pub fn agent(agent: &Agent) -> Map<String, Value> {
    let card = &agent.card;
    let mut shown = Map::new();
    shown.insert("agentId".into(), agent.id.as_str().into());
    shown.insert("name".into(), card.name.as_str().into());
    shown.insert("role".into(), value(&card.role));
    shown.insert("capabilities".into(), value(&capabilities(agent)));
    shown.insert("model".into(), value(&card.model));
    shown.insert("description".into(), value(&card.description));
    shown.insert("metadata".into(), value(&card.metadata));
    shown
}

/// The changes of a card that this dialect shows.
pub fn updates(changes: &AgentChanges) -> Map<String, Value> {
    let mut updates = Map::new();
    let words = [
        ("name", &changes.name),
        ("role", &changes.role),
        ("model", &changes.model),
        ("description", &changes.description),
    ];
    for (name, new) in words {
        updates.extend(new.as_deref().map(|new| (name.to_owned(), Value::from(new))));
    }
    if let Some(list) = &changes.capabilities {
        let names: Vec<&str> = list.iter().map(|c| c.name.as_str()).collect();
        updates.insert("capabilities".into(), value(&names));
    }
    updates.extend(changes.metadata.as_ref().map(|new| ("metadata".to_owned(), value(new))));
    updates.extend(changes.status.map(|new| ("status".to_owned(), value(&new))));
    updates
}

/// `agent:updated`.
pub fn agent_updated(agent: &AgentId, updates: &Value, at: Time) -> Value {
    json!({"agentId": agent.as_str(), "updates": updates, "timestamp": iso(at)})
}

/// An event whose name both sub-dialects use: the full envelope, and the flat fields beside it (MXF notes §4).
#[derive(Debug)]
pub struct Superset<'a> {
    /// The event's name.
    pub name: &'static str,
    /// Its `eventId`.
    pub id: String,
    /// When.
    pub at: Time,
    /// Its agent and its channel.
    pub about: (&'a str, &'a str),
}

impl Superset<'_> {
    /// The event: `flat` at top level, `data` inside. Where both want one name, the envelope has it.
    pub fn message(self, flat: &Map<String, Value>, data: &Map<String, Value>) -> Message {
        let (agent, channel) = self.about;
        let mut whole = Map::new();
        whole.insert("eventId".into(), self.id.into());
        whole.insert("eventType".into(), self.name.into());
        whole.insert("timestamp".into(), self.at.0.into());
        whole.insert("agentId".into(), agent.into());
        whole.insert("channelId".into(), channel.into());
        whole.insert("data".into(), Value::Object(data.clone()));
        for (name, value) in flat {
            if !whole.contains_key(name) {
                whole.insert(name.clone(), value.clone());
            }
        }
        Message::Event(self.name, text(&whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_ids_are_uuids_of_version_5() {
        // RFC 9562, appendix A.4: the name space of domain names and `www.example.com`.
        let dns = 0x6ba7b810_9dad_11d1_80b4_00c04fd430c8_u128.to_be_bytes();
        assert_eq!(uuid(&dns, b"www.example.com"), "2ed6657d-e927-568b-95e1-2665a8aea6a2");
    }
}

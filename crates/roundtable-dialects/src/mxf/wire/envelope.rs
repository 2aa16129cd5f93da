//! The SDK's envelopes, and what stands in the `data` of those that are understood (MXF notes §9).

use std::borrow::Cow;

use roundtable_core::agents::{AgentCard, Capability};
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::ids::{AgentId, ClientId, RoomId};
use roundtable_core::json::Json;
use roundtable_core::messages::Content;
use roundtable_core::rooms::{Entry, RoomCard};
use roundtable_core::time::Time;
use serde::Deserialize;
use serde_json::Map;
use serde_json::value::RawValue;

use super::super::encode::shapes;
use super::fields::{Fields, string};

/// `{eventId, eventType, timestamp, agentId, channelId, data}`; anything that lacks one of them is no envelope (MXF notes §4).
#[derive(Debug)]
pub struct Envelope<'a> {
    /// Who says to speak; checked against the socket before it is believed.
    pub agent: Cow<'a, str>,
    /// Where it says to be.
    pub channel: Cow<'a, str>,
    /// What it is about.
    pub data: &'a RawValue,
}

/// All six fields, present and not `null`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw<'a> {
    #[serde(borrow, rename = "eventId")]
    _event_id: &'a RawValue,
    #[serde(borrow, rename = "eventType")]
    _event_type: &'a RawValue,
    #[serde(borrow, rename = "timestamp")]
    _timestamp: &'a RawValue,
    #[serde(borrow)]
    agent_id: &'a RawValue,
    #[serde(borrow)]
    channel_id: &'a RawValue,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl<'a> Envelope<'a> {
    /// Reads a payload; `None` if it is no envelope.
    pub fn read(payload: &'a RawValue) -> Option<Self> {
        // Most payloads are flat, and this tells them apart without reading them.
        if !payload.get().contains("\"eventType\"") {
            return None;
        }
        let raw: Raw<'a> = serde_json::from_str(payload.get()).ok()?;
        let agent = string(raw.agent_id).unwrap_or_default();
        let channel = string(raw.channel_id).unwrap_or_default();
        Some(Self { agent, channel, data: raw.data })
    }

    /// The channel it names.
    pub fn room(&self) -> Result<RoomId, Error> {
        let rule = "must be 1 to 128 characters of A-Z a-z 0-9 . _ : @ -";
        RoomId::new(&self.channel).map_err(|_| Error::invalid("channelId", rule))
    }

    /// The fields of `data`; fails when it is no object.
    pub fn fields(&self) -> Result<Fields<'a>, Error> {
        Fields::payload(Some(self.data))
    }
}

/// `channel:create`.
#[derive(Clone, PartialEq, Debug)]
pub struct CreateChannel {
    /// Which; the envelope's own `channelId`.
    pub room: RoomId,
    /// What is said about it.
    pub card: RoomCard,
}

/// What the SDK may say about a channel that no rule reads.
const OPTIONS: [&str; 5] =
    ["requireApproval", "allowAnonymous", "allowedTools", "systemLlmEnabled", "showActiveAgents"];

impl CreateChannel {
    /// Reads the envelope.
    pub fn read(envelope: &Envelope<'_>) -> Result<Self, Error> {
        let fields = envelope.fields()?;
        Self::of(envelope.room()?, &fields)
    }

    /// Reads what is said about a channel.
    pub fn of(room: RoomId, fields: &Fields<'_>) -> Result<Self, Error> {
        let name = fields.loose("name").filter(|name| !name.is_empty());
        let set = |name| fields.flag(name).map(|flag| flag.unwrap_or(false));
        let entry = match (set("isPrivate")?, set("requireApproval")?) {
            (true, _) => Entry::Private,
            (false, true) => Entry::Members,
            (false, false) => Entry::Open,
        };
        let mut options = Map::new();
        for name in OPTIONS {
            if let Some(raw) = fields.raw(name) {
                options.insert(name.into(), shapes::value(&fields.carried(name, raw)?));
            }
        }
        let most = fields.raw("maxAgents").and_then(|raw| serde_json::from_str(raw.get()).ok());
        let card = RoomCard {
            name: name.unwrap_or_else(|| room.as_str().to_owned()),
            description: fields.loose("description").unwrap_or_default(),
            metadata: fields.json_object("metadata")?.unwrap_or_default(),
            options: (!options.is_empty()).then(|| Json::of(&options)),
            entry,
            max_members: most.filter(|most| *most > 0),
            ..RoomCard::default()
        };
        Ok(Self { room, card })
    }
}

/// `key:generate`.
#[derive(Clone, PartialEq, Debug)]
pub struct GenerateKey {
    /// For which channel.
    pub room: RoomId,
    /// For which agent.
    pub agent: AgentId,
    /// Shown name.
    pub name: String,
    /// Its end.
    pub expires_at: Option<Time>,
}

impl GenerateKey {
    /// Reads the envelope. `expiresAt` is ISO 8601 or milliseconds.
    pub fn read(envelope: &Envelope<'_>) -> Result<Self, Error> {
        let fields = envelope.fields()?;
        let room = match fields.id_if_any("channelId", RoomId::new)? {
            Some(room) => room,
            None => envelope.room()?,
        };
        let end = |raw: &RawValue| {
            let text = string(raw).and_then(|text| text.parse::<jiff::Timestamp>().ok());
            let number = || serde_json::from_str::<i64>(raw.get()).ok();
            text.map(jiff::Timestamp::as_millisecond).or_else(number).map(Time)
        };
        let wrong = || fields.wrong("expiresAt", "must be an ISO date or milliseconds");
        let expires_at = fields.raw("expiresAt").map(|raw| end(raw).ok_or_else(wrong)).transpose()?;
        let name = fields.loose("name").unwrap_or_default();
        Ok(Self { room, agent: fields.id("agentId", AgentId::new)?, name, expires_at })
    }
}

/// `agent:register` in an envelope.
#[derive(Clone, PartialEq, Debug)]
pub struct SdkRegister {
    /// Its card; the name is empty if the SDK gave none.
    pub card: AgentCard,
    /// The channel, if the envelope names one.
    pub room: Option<RoomId>,
}

impl SdkRegister {
    /// Reads the envelope.
    pub fn read(envelope: &Envelope<'_>) -> Result<Self, Error> {
        let fields = envelope.fields()?;
        let mut metadata = fields.json_object("metadata")?.unwrap_or_default();
        if let Some(tools) = fields.strings("allowedTools")? {
            metadata = metadata.merged(&Json::of(&serde_json::json!({"allowedTools": tools})));
        }
        let capabilities = fields.strings("capabilities")?.unwrap_or_default();
        let card = AgentCard {
            name: fields.loose("name").unwrap_or_default(),
            kind: fields.loose("type").unwrap_or_default(),
            role: fields.loose("role").filter(|role| !role.is_empty()),
            description: fields.loose("description").filter(|text| !text.is_empty()),
            capabilities: capabilities.iter().map(|name| Capability::named(name)).collect(),
            metadata,
            ..AgentCard::default()
        };
        Ok(Self { card, room: envelope.room().ok() })
    }
}

/// The `data` of `message:channel` and `message:agent`.
#[derive(Clone, PartialEq, Debug)]
pub struct ToolMessage {
    /// What is said.
    pub content: Content,
    /// The SDK's own `messageId`, timestamp and the like, unchanged: receivers drop repeats by that id.
    pub metadata: Option<Json>,
    /// The SDK's id again, so that sending twice has one effect.
    pub client: Option<ClientId>,
    /// To whom; only of `message:agent`.
    pub receiver: Option<AgentId>,
}

impl ToolMessage {
    /// Reads `data`. Content may also be a plain string, as the document's own samples emit it.
    pub fn read(fields: &Fields<'_>) -> Result<Self, Error> {
        let raw = fields.required("content")?;
        let content = match string(raw) {
            Some(text) => Content::Text(text.into_owned()),
            None => wrapped(fields, &fields.object("content", "content.")?)?,
        };
        if content.as_text().is_empty() {
            return Err(fields.wrong("content", "is required"));
        }
        let metadata = fields.json_object("metadata")?;
        let id = match &metadata {
            Some(_) => fields.object("metadata", "metadata.")?.words("messageId")?,
            None => None,
        };
        let client = id.and_then(|id| ClientId::new(&id).ok());
        Ok(Self { content, metadata, client, receiver: fields.id_if_any("receiverId", AgentId::new)? })
    }
}

/// `{format, data}`.
fn wrapped(fields: &Fields<'_>, content: &Fields<'_>) -> Result<Content, Error> {
    let formats = [("text", false), ("json", false), ("binary", true), ("base64", true)];
    let bytes = content.one_of("format", &formats)?.unwrap_or(false);
    let data = content.required("data")?;
    match (string(data), bytes) {
        (Some(text), true) => {
            use base64::Engine as _;
            let valid = base64::engine::general_purpose::STANDARD.decode(text.as_bytes()).is_ok();
            let rule =
                || Error::new(ErrorKind::InvalidField, "content.data must be base64").field("content.data");
            if valid { Ok(Content::Base64(text.into_owned())) } else { Err(rule()) }
        }
        (Some(text), false) => Ok(Content::Text(text.into_owned())),
        (None, _) => fields.carried("content", data).map(Content::Json),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn an_envelope_has_all_six_fields() {
        let whole =
            r#"{"eventId":"e","eventType":"x","timestamp":1,"agentId":"a","channelId":"c","data":{}}"#;
        let whole_raw = raw(whole);
        let envelope = Envelope::read(&whole_raw).unwrap();
        assert_eq!((&*envelope.agent, &*envelope.channel, envelope.data.get()), ("a", "c", "{}"));
        for name in ["eventId", "eventType", "timestamp", "agentId", "channelId", "data"] {
            let without = whole.replace(&format!("\"{name}\""), "\"other\"");
            assert!(Envelope::read(&raw(&without)).is_none(), "{name}");
        }
        assert!(Envelope::read(&raw("[]")).is_none());
    }

    #[test]
    fn contents_keep_their_format() {
        let read = |json: &str| {
            let raw = raw(json);
            ToolMessage::read(&Fields::payload(Some(&raw)).unwrap())
        };
        let text =
            read(r#"{"content":{"format":"text","data":"hi"},"metadata":{"messageId":"m-1"}}"#).unwrap();
        assert_eq!(text.content, Content::Text("hi".into()));
        assert_eq!(text.client.unwrap().as_str(), "m-1");
        let json = read(r#"{"content":{"format":"json","data":{"a":1}}}"#).unwrap();
        assert_eq!(json.content.as_text(), r#"{"a":1}"#);
        assert_eq!(
            read(r#"{"content":{"format":"base64","data":"!"}}"#).unwrap_err().field.unwrap(),
            "content.data"
        );
        assert_eq!(read(r#"{"content":{"format":"text","data":""}}"#).unwrap_err().field.unwrap(), "content");
        assert_eq!(read(r#"{"content":"plain"}"#).unwrap().content, Content::Text("plain".into()));
    }
}

//! What clients send, checked field by field (MXF notes §5, §8, §9).

pub mod envelope;
pub mod fields;

use bytes::Bytes;
use roundtable_core::agents::{AgentChanges, AgentStatus, Capability};
use roundtable_core::error::Error;
use roundtable_core::ids::{AgentId, ClientId, RoomId};
use roundtable_core::json::Json;
use roundtable_core::limits::MAX_CONTENT_BYTES;
use roundtable_core::messages::{Content, MessageKind};
use roundtable_core::rooms::RoomUpdated;
use serde_json::Value;
use serde_json::value::RawValue;

use fields::{Fields, string};

/// The event names that the document itself defines; the first one without an envelope makes a socket flat (MXF notes §4).
pub const DOCUMENT_EVENTS: [&str; 22] = [
    "agent:register",
    "agent:update",
    "agent:status",
    "message:send",
    "message:direct",
    "message:broadcast",
    "channel:join",
    "channel:leave",
    "channel:update",
    "task:create",
    "task:assign",
    "task:progress",
    "task:complete",
    "memory:get",
    "memory:update",
    "memory:delete",
    "memory:bulk",
    "control_loop:init",
    "control_loop:observation",
    "mcp:tool:list",
    "mcp:tool:execute",
    "mcp:tool:register",
];

/// The event names that only the SDK uses.
pub const SDK_EVENTS: [&str; 30] = [
    "heartbeat",
    "agent:connect",
    "agent:status:change",
    "agent:join_channel",
    "agent:allowed_tools:update",
    "channel:create",
    "key:generate",
    "key:deactivate",
    "key:list",
    "message:channel",
    "message:agent",
    "task:create_request",
    "task:complete_request",
    "task:fail_request",
    "task:cancel_request",
    "task:request",
    "task:response",
    "mcp:tool:call",
    "mcp:tool:unregister",
    "mxf:tool:list",
    "mcp:external:server:register",
    "mcp:external:server:unregister",
    "mcp:channel:server:register",
    "mcp:channel:server:unregister",
    "controlLoop:initialize",
    "controlLoop:started",
    "controlLoop:stopped",
    "controlLoop:observation",
    "controlLoop:execution",
    "user_input:response",
];

/// `agent:register`.
#[derive(Clone, PartialEq, Debug)]
pub struct Register {
    /// Who.
    pub agent: AgentId,
    /// Shown name.
    pub name: String,
    /// The channel it wants to be in.
    pub room: RoomId,
    /// The part it plays.
    pub role: Option<String>,
    /// What it can do; absent leaves what is known.
    pub capabilities: Option<Vec<String>>,
    /// The model behind it.
    pub model: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// An object of the client's own.
    pub metadata: Option<Json>,
}

impl Register {
    /// Reads the payload.
    pub fn read(fields: &Fields<'_>) -> Result<Self, Error> {
        let mut metadata = fields.json_object("metadata")?;
        let formats = [("auto", "auto"), ("mxp", "mxp"), ("natural-language", "natural-language")];
        let enabled = fields.flag("mxpEnabled")?;
        let format = fields.one_of("mxpPreferredFormat", &formats)?;
        if enabled.is_some() || format.is_some() {
            let mut wishes = serde_json::Map::new();
            wishes.extend(enabled.map(|on| ("mxpEnabled".to_owned(), Value::Bool(on))));
            wishes.extend(format.map(|name| ("mxpPreferredFormat".to_owned(), name.into())));
            metadata = Some(metadata.unwrap_or_default().merged(&Json::of(&wishes)));
        }
        Ok(Self {
            agent: fields.id("agentId", AgentId::new)?,
            name: fields.name("name")?.ok_or_else(|| fields.wrong("name", "is required"))?,
            room: fields.id("channelId", RoomId::new)?,
            role: fields.words("role")?,
            capabilities: fields.strings("capabilities")?,
            model: fields.words("model")?,
            description: fields.words("description")?,
            metadata,
        })
    }
}

/// `agent:update`.
#[derive(Clone, PartialEq, Debug)]
pub struct AgentUpdate {
    /// Whose.
    pub agent: AgentId,
    /// What changes on its card.
    pub changes: AgentChanges,
    /// Its new status.
    pub status: Option<AgentStatus>,
    /// The changes as the client put them.
    pub updates: Json,
}

/// The statuses an agent may give itself.
pub const STATUSES: [(&str, AgentStatus); 4] = [
    ("online", AgentStatus::Online),
    ("busy", AgentStatus::Busy),
    ("away", AgentStatus::Away),
    ("offline", AgentStatus::Offline),
];

impl AgentUpdate {
    /// Reads the payload.
    pub fn read(fields: &Fields<'_>) -> Result<Self, Error> {
        let agent = fields.id("agentId", AgentId::new)?;
        let updates = fields.object("updates", "updates.")?;
        let capabilities = updates.strings("capabilities")?;
        let changes = AgentChanges {
            name: updates.name("name")?,
            capabilities: capabilities.map(|list| list.iter().map(|c| Capability::named(c)).collect()),
            metadata: updates.json_object("metadata")?,
            ..AgentChanges::default()
        };
        let status = updates.one_of("status", &STATUSES)?;
        let updates = fields.carried("updates", fields.required("updates")?)?;
        Ok(Self { agent, changes, status, updates })
    }
}

/// `channel:join` and `channel:leave`.
#[derive(Clone, PartialEq, Debug)]
pub struct Membership {
    /// Which channel.
    pub room: RoomId,
    /// Who joins or leaves: an agent, or the user itself.
    pub agent: AgentId,
}

impl Membership {
    /// Reads the payload.
    pub fn read(fields: &Fields<'_>) -> Result<Self, Error> {
        let room = fields.id("channelId", RoomId::new)?;
        Ok(Self { room, agent: fields.id("agentId", AgentId::new)? })
    }
}

/// `channel:update`.
#[derive(Clone, PartialEq, Debug)]
pub struct ChannelUpdate {
    /// Which channel.
    pub room: RoomId,
    /// What changes.
    pub changes: RoomUpdated,
}

impl ChannelUpdate {
    /// Reads the payload.
    pub fn read(fields: &Fields<'_>) -> Result<Self, Error> {
        let room = fields.id("channelId", RoomId::new)?;
        let updates = fields.object("updates", "updates.")?;
        let changes = RoomUpdated {
            name: updates.name("name")?,
            description: updates.words("description")?,
            metadata: updates.json_object("metadata")?,
            status: None,
        };
        Ok(Self { room, changes })
    }
}

/// What all messages have.
#[derive(Clone, PartialEq, Debug)]
pub struct Saying {
    /// What is said.
    pub content: Content,
    /// An object of the client's own.
    pub metadata: Option<Json>,
    /// The message it answers.
    pub reply_to: Option<String>,
    /// The client's own name for it.
    pub client: Option<ClientId>,
    /// The agent that speaks, if the payload names one.
    pub agent: Option<AgentId>,
}

impl Saying {
    /// Reads what is common to `message:send`, `message:direct` and `message:broadcast`. `binary` is the content if it came as an attachment.
    pub fn read(fields: &Fields<'_>, binary: Option<&Bytes>) -> Result<Self, Error> {
        use base64::Engine as _;
        let content = match binary {
            Some(bytes) => Content::Base64(base64::engine::general_purpose::STANDARD.encode(bytes)),
            None => content(fields, fields.required("content")?)?,
        };
        let agent = fields.id_if_any("agentId", AgentId::new)?;
        let mut saying =
            Self { content, metadata: fields.json_object("metadata")?, reply_to: None, client: None, agent };
        if saying.metadata.is_some() {
            let metadata = fields.object("metadata", "metadata.")?;
            metadata.one_of("priority", &[("low", ()), ("normal", ()), ("high", ())])?;
            metadata.strings("tags")?;
            saying.reply_to = metadata.words("replyTo")?;
            let client = metadata.text("clientMessageId", fields::MAX_STRING_CHARS)?;
            let too_long = |_| metadata.wrong("clientMessageId", "must have 1 to 256 bytes");
            saying.client = client.map(|text| ClientId::new(&text).map_err(too_long)).transpose()?;
        }
        Ok(saying)
    }
}

/// The kinds that `message:broadcast` takes.
pub const BROADCASTS: [(&str, MessageKind); 3] = [
    ("announcement", MessageKind::Announcement),
    ("alert", MessageKind::Alert),
    ("update", MessageKind::Update),
];

/// A non-empty string or an MXP object.
fn content(fields: &Fields<'_>, raw: &RawValue) -> Result<Content, Error> {
    let rule = "must be a non-empty string, an MXP object or binary";
    if let Some(text) = string(raw) {
        if text.is_empty() {
            return Err(fields.wrong("content", rule));
        }
        if text.len() > MAX_CONTENT_BYTES {
            return Err(fields.wrong("content", "must be at most 1 MiB"));
        }
        return Ok(Content::Text(text.into_owned()));
    }
    if !raw.get().starts_with('{') {
        return Err(fields.no_string("content", raw, rule));
    }
    check_mxp(fields)?;
    fields.carried("content", raw).map(Content::Json)
}

/// An MXP object says version, type and payload (MXF notes §8). One that is encrypted cannot be read without a key and is never
/// passed on as if it were plain.
fn check_mxp(fields: &Fields<'_>) -> Result<(), Error> {
    let message = fields.object("content", "content.")?;
    let version = message.one_of("version", &[("1.0", ()), ("2.0", ())])?;
    version.ok_or_else(|| message.wrong("version", "is required"))?;
    let kinds = ["operation", "reasoning", "coordination", "task", "response"].map(|kind| (kind, ()));
    message.one_of("type", &kinds)?.ok_or_else(|| message.wrong("type", "is required"))?;
    let payload = message.object("payload", "content.payload.")?;
    if payload.raw("algorithm").is_some() && payload.raw("authTag").is_some() {
        let error = "MXP decryption failed: this server has no key";
        return Err(Error::new(roundtable_core::error::ErrorKind::InvalidField, error).field("content"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field<T: std::fmt::Debug>(
        json: &str,
        read: impl Fn(&Fields<'_>) -> Result<T, Error>,
    ) -> Option<String> {
        let raw = RawValue::from_string(json.to_owned()).unwrap();
        let fields = Fields::payload(Some(&raw)).unwrap();
        read(&fields).err().and_then(|e| e.field).map(std::borrow::Cow::into_owned)
    }

    #[test]
    fn contents_are_words_mxp_or_bytes() {
        let said = |json| field(json, |f| Saying::read(f, None));
        assert_eq!(said(r#"{"content":"x"}"#), None);
        assert_eq!(said(r#"{"content":{"version":"1.0","type":"operation","payload":{"op":"a"}}}"#), None);
        for bad in [r#"{"content":""}"#, r#"{"content":3}"#, r#"{"content":["x"]}"#, "{}"] {
            assert_eq!(said(bad).as_deref(), Some("content"), "{bad}");
        }
        assert_eq!(said(r#"{"content":{"text":"x"}}"#).as_deref(), Some("content.version"));
        let encrypted = r#"{"content":{"version":"2.0","type":"task","payload":{"algorithm":"aes-256-gcm","data":"","iv":"","authTag":""}}}"#;
        assert_eq!(said(encrypted).as_deref(), Some("content"));
    }

    #[test]
    fn known_metadata_is_checked_and_the_rest_is_left_alone() {
        let said = |json: &str| {
            let json = format!(r#"{{"content":"x","metadata":{json}}}"#);
            field(&json, |f| Saying::read(f, None))
        };
        assert_eq!(said(r#"{"priority":"high","tags":["a"],"replyTo":"m1","own":[{}]}"#), None);
        assert_eq!(said(r#"{"priority":"urgent"}"#).as_deref(), Some("metadata.priority"));
        assert_eq!(said(r#"{"tags":"a"}"#).as_deref(), Some("metadata.tags"));
        assert_eq!(said(r#"{"replyTo":7}"#).as_deref(), Some("metadata.replyTo"));
        assert_eq!(said("[]").as_deref(), Some("metadata"));
        assert_eq!(said(r#"{"clientMessageId":""}"#).as_deref(), Some("metadata.clientMessageId"));
    }

    #[test]
    fn updates_may_change_nothing() {
        let update = |json| field(json, AgentUpdate::read);
        assert_eq!(update(r#"{"agentId":"a","updates":{"status":"busy"}}"#), None);
        assert_eq!(update(r#"{"agentId":"a","updates":{}}"#), None);
        assert_eq!(update(r#"{"agentId":"a","updates":[]}"#).as_deref(), Some("updates"));
        assert_eq!(
            update(r#"{"agentId":"a","updates":{"status":"gone"}}"#).as_deref(),
            Some("updates.status")
        );
        assert_eq!(update(r#"{"updates":{"status":"busy"}}"#).as_deref(), Some("agentId"));
    }

    #[test]
    fn wishes_about_mxp_are_kept_with_the_metadata() {
        let json = r#"{"agentId":"a","name":"A","channelId":"c","mxpEnabled":true,"metadata":{"v":1}}"#;
        let raw = RawValue::from_string(json.to_owned()).unwrap();
        let register = Register::read(&Fields::payload(Some(&raw)).unwrap()).unwrap();
        assert_eq!(register.metadata.unwrap().as_str(), r#"{"v":1,"mxpEnabled":true}"#);
    }
}

//! The SDK's envelopes, and what stands in the `data` of those that are understood (MXF notes §9).

use std::borrow::Cow;

use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::ids::{AgentId, ClientId};
use roundtable_core::json::Json;
use roundtable_core::messages::Content;
use serde::Deserialize;
use serde_json::value::RawValue;

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
        let raw: Raw<'a> = serde_json::from_str(payload.get()).ok()?;
        let agent = string(raw.agent_id).unwrap_or_default();
        let channel = string(raw.channel_id).unwrap_or_default();
        Some(Self { agent, channel, data: raw.data })
    }

    /// The fields of `data`; fails when it is no object.
    pub fn fields(&self) -> Result<Fields<'a>, Error> {
        Fields::payload(Some(self.data))
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

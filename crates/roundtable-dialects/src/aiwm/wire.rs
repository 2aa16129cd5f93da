//! What AIWM clients send: names of events, their payloads, and how a message is found by its id.

pub mod send;

use serde::Deserialize;
use serde_json::value::RawValue;

/// An event of a client (API document, "WebSocket Events (Client → Server)"; notes §9 for the last two).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientEvent {
    /// Say something.
    Send,
    /// Typing began or stopped.
    Typing,
    /// A message was read.
    Read,
    /// Enter a conversation.
    Join,
    /// Leave a conversation.
    Leave,
    /// Who is there.
    Online,
    /// A page of messages.
    History,
    /// Open the conversation with an agent.
    AgentConnect,
}

impl ClientEvent {
    /// The event of a name; with `underscores`, `message_send` is taken for `message:send` (notes §1).
    pub fn named(name: &str, underscores: bool) -> Option<Self> {
        let (noun, verb) = match name.split_once(':') {
            Some(parts) => parts,
            None if underscores => name.split_once('_')?,
            None => return None,
        };
        match (noun, verb) {
            ("message", "send") => Some(Self::Send),
            ("message", "typing") => Some(Self::Typing),
            ("message", "read") => Some(Self::Read),
            ("conversation", "join") => Some(Self::Join),
            ("conversation", "leave") => Some(Self::Leave),
            ("conversation", "online") => Some(Self::Online),
            ("conversation", "history") => Some(Self::History),
            ("agent", "connect") => Some(Self::AgentConnect),
            _ => None,
        }
    }
}

/// A frame of the plain WebSocket endpoint: `{event, data, id?}` (notes §8).
#[derive(Debug, Deserialize)]
pub struct Frame<'a> {
    /// The event's name.
    pub event: String,
    /// Its payload.
    #[serde(borrow, default)]
    pub data: Option<&'a RawValue>,
    /// Echoed in the acknowledgement.
    #[serde(borrow, default)]
    pub id: Option<&'a RawValue>,
}

/// A CONNECT payload.
#[derive(Debug, Deserialize)]
struct Auth<'a> {
    #[serde(borrow, default)]
    token: Option<&'a RawValue>,
    #[serde(borrow, default)]
    since: Option<&'a RawValue>,
}

/// A CONNECT payload that is an object; a list would be read as its fields in order.
fn read_auth(auth: &RawValue) -> Option<Auth<'_>> {
    auth.get().starts_with('{').then(|| serde_json::from_str(auth.get()).ok()).flatten()
}

/// The token of a CONNECT payload, as the client wrote it; what is no text counts as a token nobody issued. `None` if there is none.
pub fn auth_token(auth: &RawValue) -> Option<String> {
    loose(read_auth(auth)?.token?)
}

/// The cursor of a CONNECT payload, text or number.
pub fn auth_since(auth: &RawValue) -> Option<String> {
    loose(read_auth(auth)?.since?)
}

fn loose(raw: &RawValue) -> Option<String> {
    let text = serde_json::from_str::<String>(raw.get()).unwrap_or_else(|_| raw.get().to_owned());
    (!text.is_empty()).then_some(text)
}

/// The payload of the small events; a field that is absent and one that is null are the same.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Small<'a> {
    #[serde(borrow)]
    conversation_id: Option<&'a RawValue>,
    #[serde(borrow)]
    message_id: Option<&'a RawValue>,
    #[serde(borrow)]
    is_typing: Option<&'a RawValue>,
    #[serde(borrow)]
    agent_id: Option<&'a RawValue>,
    #[serde(borrow)]
    limit: Option<&'a RawValue>,
    #[serde(borrow)]
    before: Option<&'a RawValue>,
}

impl<'a> Small<'a> {
    /// Reads a payload; none at all counts as an empty object. Fails with the text for the client.
    pub fn read(data: Option<&'a RawValue>) -> Result<Self, String> {
        match data.map(RawValue::get) {
            None | Some("null") => Ok(Self::default()),
            Some(text) => object(text),
        }
    }

    /// `conversationId`; empty counts as absent.
    pub fn conversation(&self) -> Result<Option<String>, String> {
        Ok(text("conversationId", self.conversation_id)?.filter(|id| !id.is_empty()))
    }

    /// `messageId`, which is required.
    pub fn message(&self) -> Result<String, String> {
        let id = text("messageId", self.message_id)?.filter(|id| !id.is_empty());
        id.ok_or_else(|| "Validation error: messageId is required".into())
    }

    /// `agentId`, which is required.
    pub fn agent(&self) -> Result<String, String> {
        let id = text("agentId", self.agent_id)?.filter(|id| !id.is_empty());
        id.ok_or_else(|| "Validation error: agentId is required".into())
    }

    /// `isTyping`, which is required.
    pub fn typing(&self) -> Result<bool, String> {
        let value = self.is_typing.and_then(|raw| serde_json::from_str(raw.get()).ok());
        value.ok_or_else(|| "Validation error: isTyping must be a boolean".into())
    }

    /// `limit`: how many messages a page has, 1 to 200; 50 if it does not say (notes §9).
    pub fn limit(&self) -> Result<u32, String> {
        let Some(raw) = self.limit.filter(|raw| raw.get() != "null") else { return Ok(50) };
        let limit = serde_json::from_str::<u32>(raw.get()).ok().filter(|n| *n > 0);
        limit.map(|n| n.min(200)).ok_or_else(|| "Validation error: limit must be a number of 1 to 200".into())
    }

    /// `before`: the message that the page ends at.
    pub fn before(&self) -> Result<Option<String>, String> {
        text("before", self.before)
    }
}

/// Reads an object; serde alone would take a list for a struct too.
fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    if !text.starts_with('{') {
        return Err("Validation error: the payload must be an object".into());
    }
    serde_json::from_str(text).map_err(|error| {
        let whole = error.to_string();
        let reason = whole.split_once(" at line ").map_or(whole.as_str(), |(reason, _)| reason);
        format!("Validation error: the payload is not as expected: {reason}")
    })
}

/// A text field; `None` if it is absent or null.
fn text(field: &str, raw: Option<&RawValue>) -> Result<Option<String>, String> {
    let Some(raw) = raw.filter(|raw| raw.get() != "null") else { return Ok(None) };
    let read = serde_json::from_str(raw.get());
    read.map(Some).map_err(|_| format!("Validation error: {field} must be a string"))
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::{ClientEvent, Small, auth_token};

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.into()).unwrap()
    }

    #[test]
    fn underscore_names_count_only_where_they_are_allowed() {
        assert_eq!(ClientEvent::named("message:send", false), Some(ClientEvent::Send));
        assert_eq!(ClientEvent::named("message_send", true), Some(ClientEvent::Send));
        assert_eq!(ClientEvent::named("message_send", false), None);
        assert_eq!(ClientEvent::named("conversation:nap", true), None);
    }

    #[test]
    fn a_token_is_a_text_that_is_not_empty() {
        assert_eq!(auth_token(&raw(r#"{"token":"t"}"#)).as_deref(), Some("t"));
        assert_eq!(auth_token(&raw(r#"{"token":5}"#)).as_deref(), Some("5"));
        for none in [r#"{"token":""}"#, r#"{"token":null}"#, "{}", "[]", "3"] {
            assert_eq!(auth_token(&raw(none)), None, "{none}");
        }
    }

    #[test]
    fn small_payloads_name_the_field_that_is_wrong() {
        let data = raw(r#"{"conversationId":"","messageId":7,"isTyping":"yes"}"#);
        let small = Small::read(Some(&data)).unwrap();
        assert_eq!(small.conversation(), Ok(None));
        assert_eq!(small.message().unwrap_err(), "Validation error: messageId must be a string");
        assert_eq!(small.typing().unwrap_err(), "Validation error: isTyping must be a boolean");
        assert!(Small::read(Some(&raw("[1]"))).is_err() && Small::read(Some(&raw("3"))).is_err());
    }
}

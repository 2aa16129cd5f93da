//! Frames of clients (Hive notes §5): actions, and the one `type` a client may send.

use roundtable_core::ids::AlertId;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::errors::Fault;
use super::wire::{FieldError, MAX_ECHO_BYTES};
use crate::members::Members;

/// Most names of one filter.
const MAX_FILTER: usize = 64;
/// Longest list of them that is read, in bytes of JSON.
const MAX_FILTER_BYTES: usize = 64 << 10;

/// A frame of a client.
#[derive(Clone, PartialEq, Debug)]
pub struct ClientFrame {
    /// What it calls its request.
    pub correlation: Option<String>,
    /// What it wants.
    pub wish: Wish,
    /// It is of the older front-end, which wants the lists from now on.
    pub wants_lists: bool,
}

/// What a client wants.
#[derive(Clone, PartialEq, Debug)]
pub enum Wish {
    /// An answer with this number; without one, none.
    Ping(Option<Value>),
    /// The status.
    Status,
    /// A new agent, as posted.
    CreateAgent(Map<String, Value>),
    /// Nothing; it only tries the connection.
    Test,
    /// An alert is being looked at.
    Acknowledge(AlertId),
    /// Only these events from now on; all with `None`.
    Filter(Option<Vec<String>>),
}

/// Reads a text frame. An error comes with what the client calls its request and whether it still wants the lists.
pub fn decode(text: &str) -> Result<ClientFrame, (Fault, Option<String>, bool)> {
    let Some(frame) = Members::of(text) else {
        return Err((Fault::format(), None, false));
    };
    let correlation = frame.string("correlation_id").filter(|id| id.len() <= MAX_ECHO_BYTES);
    let action = frame.string("action");
    let wants_lists = match action.as_deref() {
        Some("ping") => frame.get("sequenceId").is_some(),
        Some("acknowledge_alert") | None => false,
        Some(_) => true,
    };
    match wish(action.as_deref(), &frame) {
        Ok(wish) => Ok(ClientFrame { correlation, wish, wants_lists }),
        Err(fault) => Err((fault, correlation, wants_lists)),
    }
}

fn wish(action: Option<&str>, frame: &Members<'_>) -> Result<Wish, Fault> {
    match action {
        Some("ping") => Ok(Wish::Ping(frame.get("sequenceId").and_then(short))),
        Some("get_status") => Ok(Wish::Status),
        Some("create_agent") => {
            let posted = frame.get("payload").map(|raw| serde_json::from_str(raw.get()));
            match posted {
                Some(Ok(posted)) => Ok(Wish::CreateAgent(posted)),
                _ => Err(wrong("payload", "must be an object", frame.get("payload"))),
            }
        }
        Some("connection_test") => Ok(Wish::Test),
        Some("acknowledge_alert") => {
            let within = |name: &str| Members::of(frame.get(name)?.get())?.get("alert_id");
            let given = within("data").or_else(|| within("payload"));
            let id = given.and_then(|raw| serde_json::from_str::<AlertId>(raw.get()).ok());
            id.map(Wish::Acknowledge).ok_or_else(|| wrong("alert_id", "must be the id of an alert", given))
        }
        Some(other) => Err(Fault::unknown_action(other)),
        None if frame.get("action").is_some() => Err(Fault::format()),
        None if frame.string("type").as_deref() == Some("subscribe") => {
            filter(frame.given("events")).map(Wish::Filter)
        }
        None => Err(Fault::format()),
    }
}

/// What a client gave, if it is short enough to be sent back.
fn short(raw: &RawValue) -> Option<Value> {
    let value = (raw.get().len() <= MAX_ECHO_BYTES).then(|| serde_json::from_str(raw.get()).ok());
    value.flatten()
}

fn wrong(field: &'static str, rule: &str, value: Option<&RawValue>) -> Fault {
    let message = format!("{field} {rule}");
    let value = value.and_then(short).unwrap_or_default();
    Fault::fields(vec![FieldError { field, message, value }])
}

fn filter(events: Option<&RawValue>) -> Result<Option<Vec<String>>, Fault> {
    let names: Option<Vec<String>> = match events {
        None => Some(Vec::new()),
        Some(raw) if raw.get().len() > MAX_FILTER_BYTES => {
            return Err(wrong("events", "must be at most 64 names", None));
        }
        Some(raw) => serde_json::from_str(raw.get()).ok(),
    };
    let names = names.ok_or_else(|| wrong("events", "must be a list of names", events))?;
    if names.len() > MAX_FILTER || names.iter().any(|name| name.len() > MAX_ECHO_BYTES) {
        return Err(wrong("events", "must be at most 64 names", None));
    }
    Ok(only(names))
}

/// No names, or `*` among them, are all events.
fn only(names: Vec<String>) -> Option<Vec<String>> {
    (!names.is_empty() && names.iter().all(|name| name != "*")).then_some(names)
}

/// The filter in a URL: names joined by commas.
pub fn filter_in_query(value: &str) -> Option<Vec<String>> {
    let names =
        value.split(',').map(str::trim).filter(|name| !name.is_empty() && name.len() <= MAX_ECHO_BYTES);
    only(names.take(MAX_FILTER).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::{Wish, decode, filter_in_query};
    use serde_json::json;

    fn fails(text: &str) -> String {
        decode(text).unwrap_err().0.message
    }

    #[test]
    fn frames_are_read() {
        let frame = decode(r#"{"action":"ping","sequenceId":7,"correlation_id":"c"}"#).unwrap();
        assert_eq!(frame.wish, Wish::Ping(Some(json!(7))));
        assert_eq!((frame.correlation.as_deref(), frame.wants_lists), (Some("c"), true));
        let bare = decode(r#"{"action":"ping"}"#).unwrap();
        assert_eq!((bare.wish, bare.wants_lists), (Wish::Ping(None), false));
        assert_eq!(decode(r#"{"action":"get_status","timeout_ms":5}"#).unwrap().wish, Wish::Status);
        let only = decode(r#"{"type":"subscribe","events":["task_completed"]}"#).unwrap();
        assert_eq!(only.wish, Wish::Filter(Some(vec!["task_completed".into()])));
        for all in [r#"{"type":"subscribe","events":["*"]}"#, r#"{"type":"subscribe","events":[]}"#] {
            assert_eq!(decode(all).unwrap().wish, Wish::Filter(None));
        }
        assert_eq!(filter_in_query("a, b,"), Some(vec!["a".into(), "b".into()]));
        assert_eq!(filter_in_query(""), None);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for text in ["hello", "[]", "{}", r#"{"type":"shout"}"#, r#"{"action":7}"#] {
            assert_eq!(fails(text), "Invalid message format", "{text}");
        }
        assert_eq!(fails(r#"{"action":"dance"}"#), "Unknown action: dance");
        assert_eq!(fails(r#"{"action":"create_agent"}"#), "payload must be an object");
        assert_eq!(fails(r#"{"type":"subscribe","events":"a"}"#), "events must be a list of names");
        assert_eq!(
            fails(r#"{"action":"acknowledge_alert","data":{}}"#),
            "alert_id must be the id of an alert"
        );
    }
}

//! The superset frame, its numbers and ids, and what clients post (Hive notes §2, §3, §6).

use roundtable_core::agents::{AgentCard, Capability};
use roundtable_core::json::Json;
use roundtable_core::time::{Offset, Time};
use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::cursor::NUMBERS_PER_RECORD;
use crate::iso::iso;
use crate::session::Message;
/// Longest text of a client's that an answer repeats, in bytes.
pub const MAX_ECHO_BYTES: usize = 256;

/// The number of a record's event.
pub const fn number_of(offset: Offset) -> u64 {
    offset.0.saturating_mul(NUMBERS_PER_RECORD)
}

/// How urgent a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum Priority {
    /// Nice to know.
    Low,
    /// The usual.
    Normal,
    /// Look at it.
    High,
}

/// One frame to a client. `type` and `data` are the document's, `message_type` and the rest the front-end's.
#[derive(Clone, PartialEq, Debug)]
pub struct Frame<'a> {
    /// Its name in the document.
    pub name: &'a str,
    /// What it says: an object.
    pub data: Value,
    /// When.
    pub at: Time,
    /// The same for all receivers.
    pub message_id: String,
    /// Its number on the connection.
    pub sequence: u64,
    /// What the requester called its request.
    pub correlation_id: Option<&'a str>,
    /// How urgent it is.
    pub priority: Priority,
    /// A pong repeats this number.
    pub pong: Option<&'a Value>,
}

#[derive(Serialize)]
struct Shape<'a> {
    r#type: &'a str,
    message_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<&'a str>,
    #[serde(rename = "sequenceId", skip_serializing_if = "Option::is_none")]
    sequence_id: Option<&'a Value>,
    data: &'a Value,
    timestamp: String,
    message_id: &'a str,
    sequence: u64,
    correlation_id: Option<&'a str>,
    priority: Priority,
}

impl Frame<'_> {
    /// As a text message.
    pub fn message(&self) -> Message {
        let shape = Shape {
            r#type: self.name,
            message_type: if self.name == "hive_status_update" { "hive_status" } else { self.name },
            action: self.pong.map(|_| "pong"),
            sequence_id: self.pong,
            data: &self.data,
            timestamp: iso(self.at),
            message_id: &self.message_id,
            sequence: self.sequence,
            correlation_id: self.correlation_id,
            priority: self.priority,
        };
        Message::Text(serde_json::to_string(&shape).unwrap_or_default())
    }
}

/// A UUID (version 8) that depends on nothing but `about` and `parts`, so that whoever makes it gets the same.
pub fn uuid(about: &str, parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    hash.update(about.as_bytes());
    for part in parts {
        // With its length, so that different parts never read alike.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let high = digest.iter().take(16).fold(0_u128, |sum, byte| (sum << 8) | u128::from(*byte));
    let bits = (high & !(0xf << 76) & !(0b11 << 62)) | (0x8 << 76) | (0b10 << 62);
    let hex = format!("{bits:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or("");
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

/// A field of a posted object that is wrong.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct FieldError {
    /// Its name.
    pub field: &'static str,
    /// What it must be.
    pub message: String,
    /// What it was.
    pub value: Value,
}

impl FieldError {
    /// A field, what it must be, and what it was unless that is long.
    pub fn new(field: &'static str, rule: &str, value: Option<&Value>) -> Self {
        let shown = value.filter(|value| value.to_string().len() <= MAX_ECHO_BYTES);
        Self { field, message: format!("{field} {rule}"), value: shown.cloned().unwrap_or(Value::Null) }
    }
}

/// The kinds of agents that can be made here; `specialist` also with a subject: `specialist:<x>`.
const KINDS: [&str; 4] = ["worker", "coordinator", "specialist", "learner"];

/// Reads a posted agent (Hive notes §6, §9). Whether `name` and `capabilities` may be absent is the caller's to say: `unnamed`
/// is what an agent of a kind is called then. Fails with everything that is wrong.
pub fn agent_card(
    posted: &Map<String, Value>,
    unnamed: Option<&dyn Fn(&str) -> String>,
) -> Result<AgentCard, Vec<FieldError>> {
    let mut wrong = Vec::new();
    let kind = kind(posted).map_err(|error| wrong.push(error)).unwrap_or_default();
    let name = match (posted.get("name"), unnamed) {
        (Some(Value::String(name)), _) if !name.trim().is_empty() => name.clone(),
        (None | Some(Value::Null), Some(unnamed)) => unnamed(&kind),
        (other, _) => {
            wrong.push(FieldError::new("name", "must be a non-empty string", other));
            String::new()
        }
    };
    let capabilities = match posted.get("capabilities") {
        None | Some(Value::Null) if unnamed.is_some() => Vec::new(),
        list => capabilities(list).map_err(|error| wrong.push(error)).unwrap_or_default(),
    };
    let energy = match posted.get("initial_energy") {
        None | Some(Value::Null) => json!(100.0),
        Some(energy) if energy.as_f64().is_some_and(|e| (0.0..=1_000_000.0).contains(&e)) => energy.clone(),
        other => {
            wrong.push(FieldError::new("initial_energy", "must be a number from 0 on", other));
            Value::Null
        }
    };
    let learning = match posted.get("auto_learning") {
        None | Some(Value::Null) => true,
        Some(Value::Bool(on)) => *on,
        other => {
            wrong.push(FieldError::new("auto_learning", "must be true or false", other));
            true
        }
    };
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let metadata = Json::from(&json!({"initial_energy": energy, "auto_learning": learning}));
    Ok(AgentCard { name, kind, capabilities, metadata, ..AgentCard::default() })
}

fn kind(posted: &Map<String, Value>) -> Result<String, FieldError> {
    let given = posted.get("type").or_else(|| posted.get("agent_type"));
    let rule = "must be worker, coordinator, specialist, learner or specialist:<subject>";
    let Some(text) = given.and_then(Value::as_str) else { return Err(FieldError::new("type", rule, given)) };
    let lower = text.to_lowercase();
    let subject = lower.strip_prefix("specialist:").is_some_and(|subject| !subject.trim().is_empty());
    if (KINDS.contains(&lower.as_str()) || subject) && text.len() <= MAX_ECHO_BYTES {
        return Ok(text.to_owned());
    }
    Err(FieldError::new("type", rule, given))
}

/// A list of capabilities, each with a proficiency and, if it likes, a learning rate of 0 to 1.
pub fn capabilities(list: Option<&Value>) -> Result<Vec<Capability>, FieldError> {
    let wrong = |rule: &str| FieldError::new("capabilities", rule, list);
    let list = list.and_then(Value::as_array).ok_or_else(|| wrong("must be a list"))?;
    let unit = |value: Option<&Value>, absent: Option<f64>| match value {
        None | Some(Value::Null) => absent,
        Some(number) => number.as_f64().filter(|x| (0.0..=1.0).contains(x)),
    };
    let one = |item: &Value| {
        let name = item.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| wrong("must each have a name"))?.to_owned();
        let proficiency = unit(item.get("proficiency"), None);
        let proficiency = proficiency.ok_or_else(|| wrong("must each have a proficiency of 0 to 1"))?;
        let learning_rate = unit(item.get("learning_rate"), Some(0.1));
        let learning_rate = learning_rate.ok_or_else(|| wrong("must have learning_rates of 0 to 1"))?;
        Ok(Capability { name, proficiency, learning_rate })
    };
    list.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::{agent_card, uuid};
    use serde_json::{Value, json};

    fn card(posted: Value) -> Result<roundtable_core::agents::AgentCard, Vec<&'static str>> {
        let Value::Object(posted) = posted else { panic!("an object") };
        agent_card(&posted, None).map_err(|wrong| wrong.iter().map(|error| error.field).collect())
    }

    #[test]
    fn ids_have_their_version_and_tell_parts_apart() {
        let id = uuid("x", &[b"ab", b"c"]);
        assert_eq!(id.len(), 36);
        assert_eq!(id.as_bytes()[14], b'8');
        assert!(b"89ab".contains(&id.as_bytes()[19]));
        assert_ne!(id, uuid("x", &[b"a", b"bc"]));
        assert_eq!(id, uuid("x", &[b"ab", b"c"]));
    }

    #[test]
    fn a_posted_agent_is_read_as_written() {
        let made = card(json!({
            "name": "A", "agent_type": "Specialist:Data", "capabilities": [{"name": "x", "proficiency": 0.85}],
        }))
        .unwrap();
        assert_eq!((made.name.as_str(), made.kind.as_str()), ("A", "Specialist:Data"));
        assert_eq!(made.capabilities[0].learning_rate, 0.1);
        assert_eq!(made.metadata.as_str(), r#"{"initial_energy":100.0,"auto_learning":true}"#);
    }

    #[test]
    fn everything_that_is_wrong_is_named() {
        assert_eq!(card(json!({})).unwrap_err(), ["type", "name", "capabilities"]);
        let posted = json!({
            "name": " ", "type": "boss", "capabilities": [{"name": "x", "proficiency": 1.5}],
            "initial_energy": -1, "auto_learning": 1,
        });
        assert_eq!(
            card(posted).unwrap_err(),
            ["type", "name", "capabilities", "initial_energy", "auto_learning"]
        );
    }
}

//! Records as the operator sees them: JSON without hashes, or one line of text.

use roundtable_core::event::{Event, Record};
use roundtable_core::time::Cursor;
use roundtable_dialects::iso::iso;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// A record of the log.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Seen {
    /// Where it stands, for going on after it: `epoch:offset`.
    pub cursor: String,
    /// Position in its room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room_seq: Option<u64>,
    /// When, ISO 8601.
    pub at: String,
    /// Who caused it.
    pub actor: String,
    /// The room it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    /// What kind of event.
    pub kind: String,
    /// The event.
    pub event: Value,
}

/// Members of events that are hashes of secrets: of no use to anybody who looks on.
const HASHES: [&str; 4] = ["password", "hash", "secret", "domain_key_hash"];

impl Seen {
    /// A record of the log's present epoch as it is shown.
    pub fn of(record: &Record, epoch: u32) -> Self {
        let body = record.event.body().unwrap_or_default();
        let mut event: Value = serde_json::from_str(&body).unwrap_or(Value::Null);
        let secret_bearing = matches!(
            record.event,
            Event::WorkspaceCreated(_)
                | Event::DomainKeySet(_)
                | Event::UserAdded(_)
                | Event::UserChanged(_)
                | Event::KeyAdded(_)
                | Event::AgentSecretSet(_)
        );
        if let (true, Some(members)) = (secret_bearing, event.as_object_mut()) {
            members.retain(|name, _| !HASHES.contains(&name.as_str()));
        }
        Self {
            cursor: Cursor { epoch, offset: record.offset }.to_string(),
            room_seq: record.room_seq,
            at: iso(record.at),
            actor: record.actor.to_string(),
            room: record.room.as_ref().map(ToString::to_string),
            kind: record.event.kind().to_owned(),
            event,
        }
    }

    /// One line for a person: messages as speech, everything else as its kind and body.
    pub fn line(&self) -> String {
        let room = self.room.as_deref().map(|room| format!(" [{room}]")).unwrap_or_default();
        let member = |name: &str| self.event.get(name).and_then(Value::as_str);
        match (self.kind.as_str(), member("from_name")) {
            ("message.posted" | "message.direct", Some(name)) => {
                let content = self.event.get("content");
                let of_form = content.and_then(Value::as_object).and_then(|forms| forms.values().next());
                let text = match of_form {
                    Some(Value::String(text)) => printable(text),
                    Some(other) => other.to_string(),
                    None => String::new(),
                };
                format!("{} {}{room} {}: {text}", self.at, self.cursor, printable(name))
            }
            _ => format!("{} {}{room} {} {} {}", self.at, self.cursor, self.actor, self.kind, self.event),
        }
    }
}

/// Text of others on an operator's terminal: control characters would steer it.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use roundtable_core::event::{Event, Record};
    use roundtable_core::ids::{Principal, UserId};
    use roundtable_core::time::{Offset, Time};
    use roundtable_core::users::{UserAdded, UserRole};
    use serde_json::json;

    use super::{Seen, iso};

    #[test]
    fn hashes_are_not_shown() {
        let user = UserAdded {
            user: UserId::new("ann").unwrap(),
            role: UserRole::Viewer,
            password: Some("$argon2".into()),
        };
        let record = Record {
            offset: Offset(3),
            room_seq: None,
            at: Time(1_500),
            t: Time(1_500),
            actor: Principal::System,
            room: None,
            client: None,
            event: Event::UserAdded(user),
        };
        let seen = Seen::of(&record, 1);
        assert_eq!(seen.event, json!({"user": "ann", "role": "viewer"}));
        assert_eq!(
            seen.line(),
            "1970-01-01T00:00:01.500Z 1:3 system user.added {\"user\":\"ann\",\"role\":\"viewer\"}"
        );
    }

    #[test]
    fn messages_are_lines_of_speech_that_cannot_steer_a_terminal() {
        let seen = Seen {
            cursor: "2:7".into(),
            room_seq: Some(1),
            at: iso(Time(0)),
            actor: "user:ann".into(),
            room: Some("lobby".into()),
            kind: "message.posted".into(),
            event: json!({"from_name": "Ann\u{1b}[2J", "content": {"text": "hi\nthere\u{7}"}}),
        };
        assert_eq!(seen.line(), "1970-01-01T00:00:00.000Z 2:7 [lobby] Ann [2J: hi there ");
    }
}

//! Failures in MXF's words: codes, details, and the event of the domain they belong to (MXF notes §6).

use std::borrow::Cow;

use roundtable_core::error::{Error, ErrorKind};
use serde_json::{Value, json};

use crate::session::Refusal;

/// What a rate limit's `windowMs` says: all limits count over a minute (MXF notes §7).
pub const WINDOW_MS: u32 = 60_000;
/// The answer to every failed login (MXF notes §2).
pub const LOGIN_FAILED: &str = "Authentication failed - please provide valid accessToken (PAT), JWT token, username/password, or key credentials";
/// The answer to whatever comes before a login succeeded.
pub const LOGIN_FIRST: &str = "Authentication required";

/// Which events a failure belongs to: besides `error` the sender gets the domain's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Domain {
    /// Agents.
    Agent,
    /// Channels.
    Channel,
    /// Messages.
    Message,
    /// Tasks.
    Task,
    /// Memory.
    Memory,
    /// Tools.
    Tool,
    /// Control loops.
    Loop,
    /// Logins and what belongs nowhere.
    None,
}

impl Domain {
    /// The domain of an event's name.
    pub fn of(event: &str) -> Self {
        match event.split(':').next().unwrap_or("") {
            "agent" => Self::Agent,
            "channel" => Self::Channel,
            "message" => Self::Message,
            "task" => Self::Task,
            "memory" => Self::Memory,
            "mcp" => Self::Tool,
            "control_loop" => Self::Loop,
            _ => Self::None,
        }
    }

    /// The event besides `error`, and whether it is a superset (envelope and flat fields in one).
    pub fn event(self) -> Option<(&'static str, bool)> {
        match self {
            Self::Agent => Some(("agent:error", true)),
            Self::Channel => Some(("channel:error", false)),
            Self::Message => Some(("message:error", true)),
            Self::Task => Some(("task:error", true)),
            Self::Memory => Some(("memory:error", false)),
            Self::Tool => Some(("mcp:error", false)),
            Self::Loop => Some(("control_loop:error", false)),
            Self::None => None,
        }
    }
}

/// The code of a failure.
pub fn code(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidField
        | ErrorKind::MessageNotFound
        | ErrorKind::KeyNotFound
        | ErrorKind::Conflict
        | ErrorKind::TooLarge
        | ErrorKind::CannotResume => "VALIDATION_ERROR",
        ErrorKind::Unauthenticated | ErrorKind::CredentialExpired => "AUTH_FAILED",
        ErrorKind::InvalidCredential => "INVALID_KEY",
        ErrorKind::Forbidden | ErrorKind::RoomClosed | ErrorKind::Suspended | ErrorKind::QuotaExceeded => {
            "PERMISSION_DENIED"
        }
        ErrorKind::RoomNotFound => "CHANNEL_NOT_FOUND",
        ErrorKind::AgentNotFound | ErrorKind::UserNotFound => "AGENT_NOT_FOUND",
        ErrorKind::RateLimited => "RATE_LIMITED",
        ErrorKind::Unavailable | ErrorKind::Internal => "INTERNAL_ERROR",
    }
}

/// The sentence for a person. The engine says "room" where this dialect says "channel".
pub fn message(error: &Error) -> Cow<'_, str> {
    match error.kind {
        ErrorKind::RoomNotFound => Cow::Borrowed("Channel not found"),
        ErrorKind::AgentNotFound | ErrorKind::UserNotFound => Cow::Borrowed("Agent not found"),
        // Which limit it was is the engine's own word; a refused login speaks for itself.
        ErrorKind::RateLimited if error.limit.is_some() => Cow::Borrowed("Too many requests"),
        _ => channels(&error.message),
    }
}

/// Names have no spaces, so only the word itself is changed.
fn channels(message: &str) -> Cow<'_, str> {
    let (first, rest) = message.strip_prefix("room ").map_or(("", message), |rest| ("channel ", rest));
    if first.is_empty() && !rest.contains(" room ") {
        return Cow::Borrowed(message);
    }
    Cow::Owned(format!("{first}{}", rest.replace(" room ", " channel ")))
}

/// What a program needs to react: the wrong field, or the limit and when to try again.
pub fn details(error: &Error) -> Option<Value> {
    if error.kind == ErrorKind::RateLimited && error.limit.is_some() {
        let wait = error.retry_after_ms.unwrap_or(0);
        return Some(json!({"limit": error.limit, "windowMs": WINDOW_MS, "retryAfterMs": wait}));
    }
    if let Some(field) = &error.field {
        let known = match field.as_ref() {
            "roomId" => "channelId",
            "clientMessageId" => "metadata.clientMessageId",
            other => other,
        };
        return Some(json!({"field": known}));
    }
    error.retry_after_ms.map(|wait| json!({"retryAfterMs": wait}))
}

/// The fields that `error` and the domain's event share: `{code, message, details?}`.
pub fn body(error: &Error) -> serde_json::Map<String, Value> {
    let mut body = serde_json::Map::new();
    body.insert("code".into(), code(error.kind).into());
    body.insert("message".into(), message(error).into());
    if let Some(details) = details(error) {
        body.insert("details".into(), details);
    }
    body
}

/// The refusing acknowledgement: `{success:false, error, code, details?}`.
pub fn ack(error: &Error) -> String {
    let mut ack = json!({"success": false, "error": message(error), "code": code(error.kind)});
    if let (Some(details), Some(object)) = (details(error), ack.as_object_mut()) {
        object.insert("details".into(), details);
    }
    ack.to_string()
}

/// A failed login as a failure: key credentials and all others have a code each, and one that was not read says so.
pub fn of_refusal(refusal: Refusal, with_key: bool) -> Error {
    if let (Refusal::TooManyFailures(ms), Some(wait)) = (refusal, refusal.retry_after_s()) {
        let message = format!("Too many failed logins: try again in {wait} s");
        let mut error = Error::new(ErrorKind::RateLimited, message);
        error.retry_after_ms = Some(ms);
        return error;
    }
    let kind = if with_key { ErrorKind::InvalidCredential } else { ErrorKind::Unauthenticated };
    Error::new(kind, LOGIN_FAILED)
}

/// What a refused CONNECT says, for the refusals that come before any login (MXF notes §2, layer 1).
pub fn of_connect(refusal: Refusal) -> Option<&'static str> {
    match refusal {
        Refusal::UnknownDomain => Some("Invalid domain key"),
        Refusal::NoDomain => Some("Server authentication not configured"),
        Refusal::Missing
        | Refusal::Invalid
        | Refusal::Elsewhere
        | Refusal::Expired
        | Refusal::Revoked
        | Refusal::Suspended
        | Refusal::Gone
        | Refusal::NameTaken
        | Refusal::TooManyFailures(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_limit_says_when_to_come_back() {
        let mut error = Error::new(ErrorKind::RateLimited, "too often");
        (error.limit, error.retry_after_ms) = (Some(100), Some(1_234));
        let expected = r#"{"success":false,"error":"Too many requests","code":"RATE_LIMITED","details":{"limit":100,"windowMs":60000,"retryAfterMs":1234}}"#;
        assert_eq!(ack(&error), expected);
    }

    #[test]
    fn a_login_that_is_not_read_says_until_when() {
        let error = of_refusal(Refusal::TooManyFailures(9_200), true);
        let expected = r#"{"success":false,"error":"Too many failed logins: try again in 10 s","code":"RATE_LIMITED","details":{"retryAfterMs":9200}}"#;
        assert_eq!(ack(&error), expected);
    }

    #[test]
    fn the_engines_rooms_are_channels_here() {
        let error = Error::forbidden("a-room is not in room lobby-room");
        assert_eq!(message(&error), "a-room is not in channel lobby-room");
        assert_eq!(channels("room r is full"), "channel r is full");
        assert_eq!(channels("nothing of the kind"), "nothing of the kind");
        let error = Error::new(ErrorKind::Conflict, "taken").field("roomId");
        assert_eq!(details(&error).unwrap(), json!({"field": "channelId"}));
    }
}

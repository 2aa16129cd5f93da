//! What MegaBot clients are told when something is refused (MegaBot notes §1 and §9).

use std::borrow::Cow;

use roundtable_core::error::{Error, ErrorKind};
use serde::Serialize;

use crate::session::Refusal;

/// The payload of an `error` or `connection_error` frame, without the id of the message it answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Fault {
    /// A word for programs.
    pub error: &'static str,
    /// A sentence for people.
    pub message: Cow<'static, str>,
    /// The HTTP status that means the same.
    pub code: u16,
    /// When to try again, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Fault {
    /// A fault without a time to try again.
    pub fn new(error: &'static str, code: u16, message: impl Into<Cow<'static, str>>) -> Self {
        Self { error, message: message.into(), code, retry_after_ms: None }
    }

    /// The text is not JSON.
    pub fn not_json() -> Self {
        Self::new("invalid_json", 400, "Invalid JSON")
    }

    /// Something is missing or wrong in a message.
    pub fn validation(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new("validation_error", 400, message)
    }

    /// `id`, `type` or `payload` is missing or counts as nothing.
    pub fn incomplete() -> Self {
        Self::validation("Missing required message fields")
    }

    /// A field of a payload is missing or wrong.
    pub fn field(name: &str) -> Self {
        Self::validation(format!("Invalid payload: {name}"))
    }

    /// Nobody here knows this type. Only its first 100 characters are repeated.
    pub fn unknown_type(name: &str) -> Self {
        let start: String = name.chars().take(100).collect();
        Self::new("unknown_message_type", 400, format!("Unknown message type: {start}"))
    }

    /// A session that is not for this client, or is none.
    pub fn not_entered() -> Self {
        Self::new("forbidden", 403, "This session cannot be entered")
    }

    /// The connection is not in the session.
    pub fn not_in_session() -> Self {
        Self::new("forbidden", 403, "Not in this session")
    }

    /// The message is larger than allowed.
    pub fn too_large() -> Self {
        Self::new("message_too_large", 413, "Message too large")
    }

    /// Too many messages; the next one is taken in so many milliseconds.
    pub fn too_often(retry_after_ms: u64) -> Self {
        let retry_after_ms = Some(retry_after_ms);
        Self { retry_after_ms, ..Self::new("rate_limited", 429, "Rate limit exceeded") }
    }

    /// No answer came in time.
    pub fn no_answer() -> Self {
        Self::new("agent_timeout", 504, "No answer came in time")
    }

    /// What the engine refused.
    pub fn of(error: &Error) -> Self {
        let said = error.message.clone();
        match error.kind {
            ErrorKind::InvalidField => Self::field(error.field.as_deref().map_or("payload", own_name)),
            ErrorKind::Unauthenticated
            | ErrorKind::InvalidCredential
            | ErrorKind::CredentialExpired
            | ErrorKind::Suspended
            | ErrorKind::Forbidden => Self::new("forbidden", 403, said),
            ErrorKind::RoomNotFound
            | ErrorKind::AgentNotFound
            | ErrorKind::UserNotFound
            | ErrorKind::MessageNotFound
            | ErrorKind::KeyNotFound
            | ErrorKind::CannotResume => Self::new("not_found", 404, said),
            ErrorKind::Conflict if error.field.as_deref() == Some("clientMessageId") => {
                Self::new("conflict", 409, "This id was used for another message")
            }
            ErrorKind::RoomClosed | ErrorKind::Conflict => Self::new("conflict", 409, said),
            ErrorKind::TooLarge => Self::validation("Message content too long"),
            ErrorKind::RateLimited => Self::too_often(error.retry_after_ms.unwrap_or(1_000)),
            ErrorKind::Unavailable => {
                let retry_after_ms = error.retry_after_ms;
                Self { retry_after_ms, ..Self::new("unavailable", 503, "Nothing can be stored at present") }
            }
            ErrorKind::QuotaExceeded => Self::new("quota_exceeded", 507, said),
            ErrorKind::Internal => Self::new("internal_error", 500, "Internal error"),
        }
    }

    /// Why somebody may not come in. `key` says that an API key was shown, not a token.
    pub fn refusal(refusal: Refusal, key: bool) -> Self {
        let failed = |code, message: &'static str| Self::new("authentication_failed", code, message);
        match refusal {
            Refusal::Missing => Self::new("authentication_required", 401, "Authentication required"),
            Refusal::Expired => failed(401, "Token expired"),
            Refusal::NameTaken => failed(403, "User id belongs to a registered account"),
            Refusal::Suspended => failed(403, "Account disabled"),
            Refusal::TooManyFailures(after) => {
                let wait = refusal.retry_after_s().unwrap_or_default();
                let said = format!("Too many failed attempts: try again in {wait} s");
                Self { retry_after_ms: Some(after), ..Self::new("rate_limited", 429, said) }
            }
            Refusal::Invalid
            | Refusal::Elsewhere
            | Refusal::Revoked
            | Refusal::Gone
            | Refusal::UnknownDomain
            | Refusal::NoDomain => {
                failed(401, if key { "Invalid API key provided" } else { "Invalid token provided" })
            }
        }
    }
}

/// The engine's name of a field as MegaBot's clients know it.
fn own_name(field: &str) -> &str {
    match field {
        "roomId" | "rooms" => "session_id",
        "agentId" => "agent_id",
        "userId" => "user_id",
        "clientMessageId" => "id",
        other => other,
    }
}

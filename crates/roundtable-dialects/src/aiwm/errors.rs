//! What AIWM clients are told when something is refused: at the door, on a socket, over HTTP.

use std::borrow::Cow;

use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::ids::{Principal, RoomId};
use roundtable_core::state::State;
use roundtable_core::{access, rooms};

use crate::session::Refusal;

/// Said when there is no current conversation. Samples look for `No conversation` and then rejoin.
pub const NO_CONVERSATION: &str = "No conversation found. Please join a conversation first.";

/// A refusal at the door: what the client reads, a word for programs, and the HTTP status.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AtDoor {
    /// `error.message`. The lowercase word `token` is in it exactly if a new token can help (notes §3).
    pub message: Cow<'static, str>,
    /// `error.data.code`.
    pub code: &'static str,
    /// `error.data.status`.
    pub status: u16,
    /// `error.data.retryAfter`: in how many seconds there may be another try, where that helps.
    pub retry_after_s: Option<u64>,
}

impl AtDoor {
    const fn new(message: &'static str, code: &'static str, status: u16) -> Self {
        Self { message: Cow::Borrowed(message), code, status, retry_after_s: None }
    }

    /// `error.data` as JSON.
    pub fn data(&self) -> String {
        let wait = self.retry_after_s.map_or_else(String::new, |s| format!(",\"retryAfter\":{s}"));
        format!("{{\"code\":\"{}\",\"status\":{}{wait}}}", self.code, self.status)
    }
}

const INVALID: AtDoor = AtDoor::new("Invalid token (401)", "INVALID_TOKEN", 401);
const SUSPENDED: AtDoor = AtDoor::new("Agent suspended (403)", "AGENT_SUSPENDED", 403);
/// An account that an operator disabled.
pub const DISABLED: AtDoor = AtDoor::new("User disabled (403)", "USER_DISABLED", 403);
const GONE: AtDoor = AtDoor::new("Agent not found (403)", "AGENT_NOT_FOUND", 403);

/// The answer to a credential that does not open (notes §3).
pub fn at_door(refusal: Refusal) -> AtDoor {
    match refusal {
        Refusal::Missing => AtDoor::new("Missing token (401)", "MISSING_TOKEN", 401),
        Refusal::Invalid
        | Refusal::Elsewhere
        | Refusal::Revoked
        | Refusal::UnknownDomain
        | Refusal::NoDomain
        | Refusal::NameTaken => INVALID,
        Refusal::Expired => {
            AtDoor::new("Token expired (401): jwt expired, refresh token", "TOKEN_EXPIRED", 401)
        }
        Refusal::Suspended => SUSPENDED,
        Refusal::Gone => GONE,
        Refusal::TooManyFailures(_) => {
            let retry_after_s = refusal.retry_after_s();
            let told = AtDoor::new("", "TOO_MANY_FAILURES", 429);
            let wait = retry_after_s.unwrap_or_default();
            let message = format!("Too many failed attempts (429): try again in {wait} s").into();
            AtDoor { message, retry_after_s, ..told }
        }
    }
}

/// The answer when the engine refuses what a connection needs at its start.
pub fn at_start(error: &Error) -> AtDoor {
    match error.kind {
        ErrorKind::Suspended => SUSPENDED,
        ErrorKind::AgentNotFound => GONE,
        ErrorKind::Unauthenticated | ErrorKind::InvalidCredential | ErrorKind::CredentialExpired => INVALID,
        ErrorKind::RateLimited => AtDoor::new("Too many requests (429)", "RATE_LIMITED", 429),
        ErrorKind::Unavailable => AtDoor::new("Service unavailable (503)", "UNAVAILABLE", 503),
        ErrorKind::QuotaExceeded => AtDoor::new("Quota exceeded (507)", "QUOTA_EXCEEDED", 507),
        ErrorKind::InvalidField
        | ErrorKind::Forbidden
        | ErrorKind::RoomNotFound
        | ErrorKind::UserNotFound
        | ErrorKind::MessageNotFound
        | ErrorKind::KeyNotFound
        | ErrorKind::RoomClosed
        | ErrorKind::Conflict
        | ErrorKind::TooLarge
        | ErrorKind::CannotResume
        | ErrorKind::Internal => AtDoor::new("Internal error (500)", "INTERNAL", 500),
    }
}

/// One text for a conversation that is unknown, malformed or closed to the asker, so that ids cannot be probed.
pub fn no_access(conversation: &str) -> String {
    let shown: String = conversation.chars().take(128).collect();
    format!("Permission denied: no access to conversation {shown}")
}

/// What a client is told about a refused command on a conversation (notes §5).
pub fn refused(error: &Error, who: &Principal, room: &RoomId, state: &State) -> String {
    match error.kind {
        ErrorKind::InvalidField | ErrorKind::TooLarge => format!("Validation error: {}", error.message),
        ErrorKind::RoomClosed => "No conversation found: the conversation is closed".into(),
        ErrorKind::Forbidden if could_join(state, who, room) => NO_CONVERSATION.into(),
        ErrorKind::Forbidden | ErrorKind::RoomNotFound => no_access(room.as_str()),
        ErrorKind::AgentNotFound => "Permission denied: the agent is not known".into(),
        ErrorKind::MessageNotFound => "Message not found".into(),
        ErrorKind::Suspended => "Permission denied: the account is suspended".into(),
        ErrorKind::Unauthenticated
        | ErrorKind::InvalidCredential
        | ErrorKind::CredentialExpired
        | ErrorKind::UserNotFound
        | ErrorKind::KeyNotFound => "Permission denied: the account is not known".into(),
        ErrorKind::RateLimited => "Rate limit exceeded: try again later".into(),
        ErrorKind::Unavailable => format!("Service unavailable: {}", error.message),
        ErrorKind::QuotaExceeded => format!("Quota exceeded: {}", error.message),
        // The name of the message is at fault, not what it meets.
        ErrorKind::Conflict if error.field.as_deref() == Some("clientMessageId") => {
            format!("Validation error: {}", error.message)
        }
        ErrorKind::Conflict => format!("Conflict: {}", error.message),
        ErrorKind::CannotResume | ErrorKind::Internal => "Internal error".into(),
    }
}

/// Whether somebody who is no member of a room would be let in.
fn could_join(state: &State, who: &Principal, room: &RoomId) -> bool {
    let found = rooms::visible(state, room, who).ok();
    found.is_some_and(|room| !room.members.contains_key(who) && access::may_join_room(state, room, who, who))
}

/// The body of an HTTP error (notes §10).
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Body<'a> {
    /// The HTTP status again.
    pub status_code: u16,
    /// A sentence.
    pub message: &'a str,
    /// When.
    pub timestamp: String,
    /// What was asked for.
    pub path: &'a str,
    /// The id of the request.
    pub correlation_id: &'a str,
    /// Each thing that was wrong.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub errors: &'a [String],
}

#[cfg(test)]
mod tests {
    use super::{at_door, at_start};
    use crate::session::Refusal;
    use roundtable_core::error::{Error, ErrorKind};

    #[test]
    fn the_word_token_stands_exactly_where_a_new_one_helps() {
        use Refusal::{Expired, Gone, Invalid, Missing, Revoked, Suspended, TooManyFailures};
        for (refusal, helps) in [
            (Missing, true),
            (Invalid, true),
            (Expired, true),
            (Revoked, true),
            (Suspended, false),
            (Gone, false),
            (TooManyFailures(1), false),
        ] {
            assert_eq!(at_door(refusal).message.contains("token"), helps, "{refusal:?}");
        }
    }

    #[test]
    fn a_full_disk_is_no_fault_of_the_token() {
        let answer = at_start(&Error::new(ErrorKind::Unavailable, "full"));
        assert_eq!((answer.status, answer.data().as_str()), (503, r#"{"code":"UNAVAILABLE","status":503}"#));
    }
}

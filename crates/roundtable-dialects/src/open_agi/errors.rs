//! Failures in this dialect's words: error frames on the WebSocket, `{"error":{…}}` in REST (Open-A.G.I notes §1, §3, §8).

use roundtable_core::error::{Error, ErrorKind};
use serde_json::{Map, Value, json};

use crate::rest::Response;
use crate::session::Refusal;

/// Longest part of a client's own words that an error repeats, in characters.
const ECHO_CHARS: usize = 128;

/// One failure as the client is told: a status of HTTP, a sentence, and what it is about.
#[derive(Clone, PartialEq, Debug)]
pub struct Fault {
    /// 400, 401, 429, …
    pub code: u16,
    /// The sentence.
    pub message: String,
    /// What it is about: `channel` or `field`, and its name.
    pub about: Option<(&'static str, String)>,
}

impl Fault {
    /// A failure that is about nothing in particular.
    pub fn new(code: u16, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), about: None }
    }

    /// Neither JSON nor an object.
    pub fn not_json() -> Self {
        Self::new(400, "Invalid JSON")
    }

    /// A `type` that there is not.
    pub fn unknown_type(name: &str) -> Self {
        Self::new(400, format!("Unknown message type: {}", shortened(name)))
    }

    /// A channel that there is not.
    pub fn unknown_channel(name: &str) -> Self {
        let name = shortened(name);
        Self { about: Some(("channel", name.clone())), ..Self::new(400, format!("Unknown channel: {name}")) }
    }

    /// A field that is missing or wrong.
    pub fn field(name: &'static str, rule: &str) -> Self {
        Self { about: Some(("field", name.into())), ..Self::new(400, format!("{name} {rule}")) }
    }

    /// More frames than `most` in a second.
    pub fn too_many(most: u32) -> Self {
        Self::new(429, format!("Too many frames: at most {most} per second"))
    }

    /// What the frame's `data` holds.
    pub fn data(&self) -> Value {
        let mut data = Map::new();
        data.insert("code".into(), self.code.into());
        data.insert("message".into(), self.message.as_str().into());
        if let Some((what, name)) = &self.about {
            data.insert((*what).into(), name.as_str().into());
        }
        Value::Object(data)
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(ECHO_CHARS).collect()
}

/// The reason of the close frame, which is the error's text too (Open-A.G.I notes §1). What exactly is wrong with a token
/// that is not good is nobody's business.
pub fn reason_of(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Missing => "Missing token",
        Refusal::Expired => "Token expired",
        Refusal::Invalid
        | Refusal::Elsewhere
        | Refusal::Revoked
        | Refusal::Suspended
        | Refusal::Gone
        | Refusal::UnknownDomain
        | Refusal::NoDomain
        | Refusal::NameTaken => "Invalid token",
        Refusal::TooManyFailures(_) => "This address is blocked",
    }
}

/// The status of HTTP that a refusal would have.
pub fn status_of_refusal(refusal: Refusal) -> u16 {
    if matches!(refusal, Refusal::TooManyFailures(_)) { 403 } else { 401 }
}

/// The status of HTTP for a failure of the engine.
pub fn status_of(kind: ErrorKind) -> u16 {
    match kind {
        ErrorKind::InvalidField | ErrorKind::CannotResume => 400,
        ErrorKind::Unauthenticated | ErrorKind::InvalidCredential | ErrorKind::CredentialExpired => 401,
        ErrorKind::Suspended | ErrorKind::Forbidden => 403,
        ErrorKind::RoomNotFound
        | ErrorKind::AgentNotFound
        | ErrorKind::UserNotFound
        | ErrorKind::MessageNotFound
        | ErrorKind::KeyNotFound => 404,
        ErrorKind::Conflict | ErrorKind::RoomClosed => 409,
        ErrorKind::TooLarge => 413,
        ErrorKind::RateLimited => 429,
        ErrorKind::Internal => 500,
        ErrorKind::Unavailable => 503,
        ErrorKind::QuotaExceeded => 507,
    }
}

/// A failure as REST tells it; `details` is `null` or says more.
pub fn response(status: u16, message: &str, details: Value) -> Response {
    Response::json(status, &json!({"error": {"code": status, "message": message, "details": details}}))
}

/// A failure of the engine as REST tells it.
pub fn of_engine(error: &Error) -> Response {
    let details = error.field.as_ref().map_or(Value::Null, |field| json!({ "field": field }));
    let answer = response(status_of(error.kind), &error.message, details);
    match error.retry_after_ms {
        Some(ms) => answer.header("Retry-After", ms.div_ceil(1000).to_string()),
        None => answer,
    }
}

/// Why somebody may not come in, as REST tells it.
pub fn of_refusal(refusal: Refusal) -> Response {
    let answer = response(status_of_refusal(refusal), reason_of(refusal), Value::Null);
    match refusal.retry_after_s() {
        Some(wait) => answer.header("Retry-After", wait.to_string()),
        None => answer.header("WWW-Authenticate", "Bearer"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, reason_of};
    use crate::session::Refusal;

    #[test]
    fn an_error_names_what_it_is_about_and_repeats_little() {
        let fault = Fault::unknown_channel(&"x".repeat(500));
        assert_eq!(fault.message.len(), "Unknown channel: ".len() + 128);
        assert_eq!(
            Fault::field("channel", "must be a string").data().to_string(),
            r#"{"code":400,"message":"channel must be a string","field":"channel"}"#
        );
    }

    #[test]
    fn a_refusal_tells_missing_and_expired_from_the_rest() {
        assert_eq!(reason_of(Refusal::Missing), "Missing token");
        assert_eq!(reason_of(Refusal::Expired), "Token expired");
        assert_eq!(reason_of(Refusal::Revoked), "Invalid token");
    }
}

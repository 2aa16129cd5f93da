//! Failures in this dialect's words: error frames on the WebSocket, `error` objects and statuses in REST (Hive notes §5, §9).

use roundtable_core::error::{Error, ErrorKind};
use serde_json::{Map, Value, json};

use super::wire::{FieldError, MAX_ECHO_BYTES};
use crate::session::Refusal;

/// One failure as the client is told.
#[derive(Clone, PartialEq, Debug)]
pub struct Fault {
    /// A word for programs.
    pub code: &'static str,
    /// The status of HTTP.
    pub status: u16,
    /// A sentence for people.
    pub message: String,
    /// The fields that were wrong.
    pub fields: Vec<FieldError>,
    /// When to try again, in seconds.
    pub retry_after_s: Option<u64>,
}

impl Fault {
    /// A failure without further particulars.
    pub fn new(code: &'static str, status: u16, message: impl Into<String>) -> Self {
        Self { code, status, message: message.into(), fields: Vec::new(), retry_after_s: None }
    }

    /// A `since` that names no place.
    pub fn since(given: &str) -> Self {
        let rule = "must be the sequence of a frame or a cursor EPOCH:OFFSET";
        Self::fields(vec![FieldError::new("since", rule, Some(&given.into()))])
    }

    /// A frame that says nothing here: not JSON, or neither an action nor a known type.
    pub fn format() -> Self {
        Self::new("VALIDATION_ERROR", 400, "Invalid message format")
    }

    /// An action that there is not.
    pub fn unknown_action(action: &str) -> Self {
        let shown: String = action.chars().take(MAX_ECHO_BYTES / 2).collect();
        Self::new("UNKNOWN_ACTION", 400, format!("Unknown action: {shown}"))
    }

    /// Fields that are wrong; the sentence is about the first.
    pub fn fields(fields: Vec<FieldError>) -> Self {
        let message = fields.first().map_or_else(String::new, |first| first.message.clone());
        Self { fields, ..Self::new("VALIDATION_ERROR", 400, message) }
    }

    /// Who only reads may not write.
    pub fn read_only() -> Self {
        Self::new("FORBIDDEN", 403, "This credential may read, not write")
    }

    /// There may be another in so many milliseconds.
    pub fn too_often(ms: u64) -> Self {
        let fault = Self::new("RATE_LIMIT_EXCEEDED", 429, "Too many requests");
        Self { retry_after_s: Some(ms.div_ceil(1000)), ..fault }
    }

    /// The `data` of an error frame.
    pub fn data(&self) -> Value {
        let mut data = Map::new();
        data.insert("error".into(), self.message.as_str().into());
        data.insert("code".into(), self.code.into());
        if !self.fields.is_empty() {
            data.insert("field_errors".into(), json!(self.fields));
        }
        if let Some(seconds) = self.retry_after_s {
            data.insert("retry_after_seconds".into(), seconds.into());
        }
        Value::Object(data)
    }
}

impl From<&Error> for Fault {
    fn from(error: &Error) -> Self {
        let (code, status) = match error.kind {
            ErrorKind::InvalidField => ("VALIDATION_ERROR", 400),
            ErrorKind::TooLarge => ("VALIDATION_ERROR", 413),
            ErrorKind::Unauthenticated | ErrorKind::InvalidCredential | ErrorKind::CredentialExpired => {
                ("UNAUTHORIZED", 401)
            }
            ErrorKind::Suspended | ErrorKind::Forbidden => ("FORBIDDEN", 403),
            ErrorKind::AgentNotFound => ("AGENT_NOT_FOUND", 404),
            ErrorKind::RoomNotFound
            | ErrorKind::UserNotFound
            | ErrorKind::MessageNotFound
            | ErrorKind::KeyNotFound => ("NOT_FOUND", 404),
            ErrorKind::Conflict | ErrorKind::RoomClosed => ("CONFLICT", 409),
            ErrorKind::CannotResume => ("CANNOT_RESUME", 410),
            ErrorKind::RateLimited => ("RATE_LIMIT_EXCEEDED", 429),
            ErrorKind::Internal => ("INTERNAL_ERROR", 500),
            ErrorKind::Unavailable => ("SERVICE_UNAVAILABLE", 503),
            ErrorKind::QuotaExceeded => ("QUOTA_EXCEEDED", 507),
        };
        // Which limit it was is the server's own word.
        let message = if status == 429 { "Too many requests" } else { &*error.message };
        Self {
            retry_after_s: error.retry_after_ms.map(|ms| ms.div_ceil(1000)),
            ..Self::new(code, status, message)
        }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let (status, text) = match refusal {
            Refusal::Missing => (401, "Authentication required"),
            Refusal::Expired => (401, "Token expired"),
            Refusal::Invalid | Refusal::Elsewhere | Refusal::Revoked | Refusal::Gone => {
                (401, "Invalid credentials")
            }
            Refusal::Suspended => (403, "The account is disabled"),
            Refusal::UnknownDomain | Refusal::NoDomain => (401, "There is no such workspace"),
            Refusal::NameTaken => (401, "The name belongs to an account"),
            Refusal::TooManyFailures(_) => {
                let wait = refusal.retry_after_s();
                let text =
                    format!("Too many failed authentications: try again in {} s", wait.unwrap_or_default());
                return Self { retry_after_s: wait, ..Self::new("RATE_LIMIT_EXCEEDED", 429, text) };
            }
        };
        Self::new(if status == 403 { "FORBIDDEN" } else { "UNAUTHORIZED" }, status, text)
    }
}

#[cfg(test)]
mod tests {
    use super::Fault;
    use crate::session::Refusal;
    use roundtable_core::error::{Error, ErrorKind};

    #[test]
    fn failures_have_a_sentence_and_a_code() {
        let fault = Fault::from(&Error::invalid("name", "must have 1 to 200 characters"));
        assert_eq!(
            fault.data().to_string(),
            r#"{"error":"name must have 1 to 200 characters","code":"VALIDATION_ERROR"}"#
        );
        let mut late = Error::new(ErrorKind::RateLimited, "too often");
        late.retry_after_ms = Some(1_200);
        assert_eq!(Fault::from(&late).data()["retry_after_seconds"], 2);
        assert_eq!(Fault::from(Refusal::TooManyFailures(500)).status, 429);
        assert_eq!(Fault::unknown_action(&"x".repeat(999)).message.len(), "Unknown action: ".len() + 128);
    }
}

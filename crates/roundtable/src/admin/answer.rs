//! How the operator's interface answers: JSON bodies, one error form, a status per kind of error.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use roundtable_core::error::{Error, ErrorKind};
use serde::Serialize;

use crate::admin::wire::{Fault, Problem};

/// A refusal: an error and its HTTP status.
#[derive(Debug)]
pub struct Refused {
    /// The status.
    pub status: u16,
    /// What is wrong.
    pub error: Error,
}

/// The HTTP status of each kind of error.
pub const fn status_of(kind: ErrorKind) -> u16 {
    match kind {
        ErrorKind::InvalidField => 400,
        ErrorKind::Unauthenticated | ErrorKind::InvalidCredential | ErrorKind::CredentialExpired => 401,
        ErrorKind::Suspended | ErrorKind::Forbidden => 403,
        ErrorKind::RoomNotFound
        | ErrorKind::AgentNotFound
        | ErrorKind::UserNotFound
        | ErrorKind::MessageNotFound
        | ErrorKind::KeyNotFound => 404,
        ErrorKind::RoomClosed | ErrorKind::Conflict => 409,
        ErrorKind::CannotResume => 410,
        ErrorKind::TooLarge => 413,
        ErrorKind::RateLimited => 429,
        ErrorKind::Unavailable => 503,
        ErrorKind::QuotaExceeded => 507,
        ErrorKind::Internal => 500,
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { status: status_of(error.kind), error }
    }
}

impl IntoResponse for Refused {
    /// `{"error":{"kind","message","field"}}`.
    fn into_response(self) -> Response {
        let Error { kind, message, field, retry_after_ms, .. } = self.error;
        let body = Problem {
            error: Fault { kind: format!("{kind:?}"), message: message.into(), field: field.map(Into::into) },
        };
        let mut response = json_response(self.status, &body);
        if let Some(ms) = retry_after_ms
            && let Ok(value) = HeaderValue::from_str(&ms.div_ceil(1000).to_string())
        {
            response.headers_mut().insert(RETRY_AFTER, value);
        }
        response
    }
}

/// The answer where a path is served, but not with this method; the router adds which ones are.
pub async fn wrong_method() -> Refused {
    Refused { status: 405, error: Error::new(ErrorKind::InvalidField, "this method does nothing here") }
}

/// An answer with a JSON body.
pub fn json_response(status: u16, body: &impl Serialize) -> Response {
    let text = serde_json::to_vec(body).unwrap_or_else(|_| b"null".to_vec());
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A body read as a type. Fails with what is wrong about it.
pub fn body<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::new(ErrorKind::InvalidField, format!("the body: {error}")).into())
}

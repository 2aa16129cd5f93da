//! Everything that can go wrong, as one closed list that each dialect translates into its own words.

use std::borrow::Cow;

/// What went wrong. Dialects match on it without a wildcard arm, so a new kind cannot be forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum ErrorKind {
    /// A field is missing, has the wrong type or an impossible value; [`Error::field`] names it.
    InvalidField,
    /// No credential where one is needed.
    Unauthenticated,
    /// A credential that nobody issued, or a wrong password.
    InvalidCredential,
    /// A token past its end.
    CredentialExpired,
    /// The account is disabled or the agent suspended.
    Suspended,
    /// Known, but not allowed.
    Forbidden,
    /// No such room, or none that the asker may know of.
    RoomNotFound,
    /// No such agent.
    AgentNotFound,
    /// No such user.
    UserNotFound,
    /// No such message in that room.
    MessageNotFound,
    /// No such key.
    KeyNotFound,
    /// The room is archived or closed.
    RoomClosed,
    /// It exists already, or contradicts what exists.
    Conflict,
    /// Too often; [`Error::retry_after_ms`] says when again.
    RateLimited,
    /// What the workspace may keep on the disk, or what it or somebody in it may have of something, is used up;
    /// [`Error::field`] says of what.
    QuotaExceeded,
    /// Larger than a limit allows.
    TooLarge,
    /// The cursor lies outside of what is kept.
    CannotResume,
    /// The log refuses writes at present (full disk, shutting down); nothing happened.
    Unavailable,
    /// A fault of the server's; the message carries an id for the operator, no internals.
    Internal,
}

/// One failure: its kind, a sentence for a person, and what a program needs to react.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What went wrong.
    pub kind: ErrorKind,
    /// A sentence for a person, without secrets.
    pub message: Cow<'static, str>,
    /// The offending field, in the name the engine gives it.
    pub field: Option<Cow<'static, str>>,
    /// When to try again, in milliseconds; only with [`ErrorKind::RateLimited`] and `Unavailable`.
    pub retry_after_ms: Option<u64>,
    /// How many were allowed in the window; only with [`ErrorKind::RateLimited`].
    pub limit: Option<u32>,
}

impl Error {
    /// A failure without further particulars.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), field: None, retry_after_ms: None, limit: None }
    }

    /// Names the field that was wrong.
    #[must_use]
    pub fn field(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.field = Some(name.into());
        self
    }

    /// A field that is missing or wrong: `<field> <rule>`.
    pub fn invalid(field: &'static str, rule: &str) -> Self {
        Self::new(ErrorKind::InvalidField, format!("{field} {rule}")).field(field)
    }

    /// Somebody may not do this.
    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Forbidden, message)
    }
}

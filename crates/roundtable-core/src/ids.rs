//! Names of things: identifiers that clients choose are checked here once, fresh ones are made from given randomness.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::time::Time;

/// Longest identifier a client may choose, in bytes (MXF notes §5).
pub const MAX_ID_BYTES: usize = 128;

fn check(what: &'static str, text: &str) -> Result<(), Error> {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b"._:@-".contains(&b);
    if (1..=MAX_ID_BYTES).contains(&text.len()) && text.bytes().all(ok) {
        return Ok(());
    }
    let message = format!("{what} must be 1 to {MAX_ID_BYTES} characters of A-Z a-z 0-9 . _ : @ -");
    Err(Error::new(ErrorKind::InvalidField, message).field(what))
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $what:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }

        impl $name {
            /// Checks the form `[A-Za-z0-9._:@-]{1,128}`; fails with [`ErrorKind::InvalidField`].
            pub fn new(text: &str) -> Result<Self, Error> {
                check($what, text).map(|()| Self(text.into()))
            }

            /// A new one, from the wall clock and the randomness a command brought along: 24 hex digits.
            pub fn fresh(at: Time, random: u64) -> Self {
                Self(hex24(at, random).into())
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    )*};
}

ids! {
    /// A tenant.
    WorkspaceId = "workspace";
    /// An agent, in every dialect.
    AgentId = "agentId";
    /// A user account.
    UserId = "userId";
    /// Somebody without credentials.
    GuestId = "user_id";
    /// A server process or an Open-A.G.I node.
    NodeId = "node_id";
    /// A room: MXF channel, AIWM conversation, MegaBot session.
    RoomId = "roomId";
    /// A message.
    MessageId = "messageId";
    /// An API key or a channel key.
    KeyId = "keyId";
    /// An alert or a security event.
    AlertId = "alertId";
}

impl AgentId {
    /// The first of all in their order.
    pub(crate) fn least() -> Self {
        Self("-".into())
    }
}

/// A time in seconds and 64 random bits as 24 hex digits: sorts by the wall clock, fits what AIWM calls an id.
fn hex24(at: Time, random: u64) -> String {
    format!("{:08x}{random:016x}", at.as_seconds() as u32)
}

/// A visitor of a site: the agent that its token names, and its name there, as `agent/name`. Visitors of two agents are two.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VisitorId(Arc<str>);

impl VisitorId {
    /// Checks the form of the name; fails with [`ErrorKind::InvalidField`].
    pub fn new(agent: &AgentId, name: &str) -> Result<Self, Error> {
        check("anonymousId", name).map(|()| Self(format!("{agent}/{name}").into()))
    }

    fn parse(text: &str) -> Result<Self, Error> {
        let wrong = || Error::new(ErrorKind::InvalidField, "a visitor is agent/name").field("principal");
        let (agent, name) = text.split_once('/').ok_or_else(wrong)?;
        Self::new(&AgentId::new(agent)?, name)
    }

    /// The agent, the only one that it talks with.
    pub fn agent(&self) -> AgentId {
        AgentId(self.halves().0.into())
    }

    /// The name, as clients know it.
    pub fn name(&self) -> &str {
        self.halves().1
    }

    fn halves(&self) -> (&str, &str) {
        self.0.split_once('/').unwrap_or((&self.0, &self.0))
    }
}

impl fmt::Debug for VisitorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A connection, for as long as the server process lives and, by its upper bits, across restarts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConnectionId(pub u64);

/// What a client calls one of its writes, so that sending it twice has one effect. At most 256 bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClientId(Arc<str>);

impl ClientId {
    /// Fails with [`ErrorKind::InvalidField`] when empty or longer than 256 bytes.
    pub fn new(text: &str) -> Result<Self, Error> {
        if (1..=256).contains(&text.len()) {
            return Ok(Self(text.into()));
        }
        Err(Error::new(ErrorKind::InvalidField, "a client id has 1 to 256 bytes").field("clientMessageId"))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Who acts. Decided by the server from a credential, never by a payload. As text `agent:a1`, `user:ann`, …
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Principal {
    /// A program that takes part in rooms.
    Agent(AgentId),
    /// An account.
    User(UserId),
    /// Nobody in particular, on a loopback listener.
    Guest(GuestId),
    /// The bearer of a token for somebody without an account, who talks with one agent and is nowhere else.
    Visitor(VisitorId),
    /// A server process or a node that subscribes to it.
    Node(NodeId),
    /// The server itself and its operator's command line.
    System,
}

impl Principal {
    /// The bare id, as clients know it.
    pub fn id(&self) -> &str {
        match self {
            Self::Agent(id) => id.as_str(),
            Self::User(id) => id.as_str(),
            Self::Guest(id) => id.as_str(),
            Self::Visitor(id) => id.name(),
            Self::Node(id) => id.as_str(),
            Self::System => "system",
        }
    }

    /// The agent's id, if it is one.
    pub fn agent(&self) -> Option<&AgentId> {
        if let Self::Agent(id) = self { Some(id) } else { None }
    }

    /// The user's id, if it is one.
    pub fn user(&self) -> Option<&UserId> {
        if let Self::User(id) = self { Some(id) } else { None }
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Result<Self, Error> {
        match text.split_once(':') {
            Some(("agent", id)) => AgentId::new(id).map(Self::Agent),
            Some(("user", id)) => UserId::new(id).map(Self::User),
            Some(("guest", id)) => GuestId::new(id).map(Self::Guest),
            Some(("visitor", id)) => VisitorId::parse(id).map(Self::Visitor),
            Some(("node", id)) => NodeId::new(id).map(Self::Node),
            None if text == "system" => Ok(Self::System),
            _ => Err(Error::new(ErrorKind::InvalidField, "not a principal").field("principal")),
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(id) => write!(f, "agent:{id}"),
            Self::User(id) => write!(f, "user:{id}"),
            Self::Guest(id) => write!(f, "guest:{id}"),
            Self::Visitor(id) => write!(f, "visitor:{id:?}"),
            Self::Node(id) => write!(f, "node:{id}"),
            Self::System => f.write_str("system"),
        }
    }
}

impl Serialize for Principal {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Principal {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::{Principal, RoomId};
    use crate::time::Time;

    #[test]
    fn ids_of_clients_are_checked() {
        assert!(RoomId::new("a.b_c:d@e-1").is_ok());
        for bad in ["", "a b", "ä", "a/b", &"x".repeat(129)] {
            assert!(RoomId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn fresh_ids_are_24_hex_digits_and_sort_by_time() {
        let (a, b) = (RoomId::fresh(Time(1_000_000), u64::MAX), RoomId::fresh(Time(2_000_000), 0));
        assert_eq!(a.as_str().len(), 24);
        assert!(a < b);
    }

    #[test]
    fn principals_have_one_text_form() {
        for text in ["agent:a", "user:u", "guest:g", "visitor:a/v", "node:n", "system"] {
            assert_eq!(Principal::parse(text).unwrap().to_string(), text);
        }
        for wrong in ["robot:r", "visitor:a", "visitor:/v", "visitor:a/", "visitor:a/b/c"] {
            assert!(Principal::parse(wrong).is_err(), "{wrong}");
        }
        let Principal::Visitor(visitor) = Principal::parse("visitor:a/v").unwrap() else {
            panic!("a visitor")
        };
        assert_eq!((visitor.agent().as_str(), visitor.name()), ("a", "v"));
    }
}

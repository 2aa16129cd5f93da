//! Facts: what the log holds. Each has a stable `kind` and a JSON body that a person can read.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::ids::{Principal, RoomId};
use crate::json::Json;
use crate::repeats::ClientWrite;
use crate::time::{Moment, Offset, Time};
use crate::{
    actions, agents, alerts, cluster, components, feeds, messages, presence, rooms, seats, thresholds, users,
};

/// One entry of a workspace's log.
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    /// Position in the workspace's log, from 1, dense.
    pub offset: Offset,
    /// Position within its room, from 1, dense; only for events of a room.
    pub room_seq: Option<u64>,
    /// When the engine decided it, by the wall clock: shown, and read by no rule.
    pub at: Time,
    /// The same in log time, which every rule uses. Never less than that of the record before.
    pub t: Time,
    /// Who caused it.
    pub actor: Principal,
    /// The room it belongs to.
    pub room: Option<RoomId>,
    /// The actor's own name for this write, if it gave one.
    pub client: Option<ClientWrite>,
    /// What happened.
    pub event: Event,
}

impl Record {
    /// When the engine decided it, by both clocks.
    pub const fn moment(&self) -> Moment {
        Moment { t: self.t, at: self.at }
    }
}

/// What a record takes on the disk beside what its event says: columns, hash, indexes. About, in bytes.
pub const RECORD_BYTES: u64 = 256;

impl Event {
    /// How much of the disk is taken by what clients say in it, in bytes, about. Comings and goings and marks have nothing of
    /// the kind.
    pub fn said_bytes(&self) -> u64 {
        let json = |json: &Option<Json>| json.as_ref().map_or(0, |json| json.as_str().len());
        let bytes = match self {
            Self::MessagePosted(e) => e.content.as_text().len() + json(&e.parts) + json(&e.metadata),
            Self::MessageDirect(e) => e.content.as_text().len() + json(&e.metadata),
            Self::RoomActed(e) => e.action.len() + json(&e.data),
            Self::RoomCreated(_)
            | Self::RoomUpdated(_)
            | Self::RoomSummarised(_)
            | Self::AgentRegistered(_)
            | Self::AgentUpdated(_)
            | Self::KeyAdded(_)
            | Self::ThresholdSet(_) => self.body().map_or(0, |body| body.len()),
            _ => 0,
        };
        bytes as u64
    }
}

macro_rules! events {
    ($($(#[$doc:meta])* $kind:literal $name:ident($body:ty),)*) => {
        /// What happened. The body's type lives with its noun.
        #[derive(Clone, PartialEq, Debug)]
        pub enum Event { $($(#[$doc])* $name($body),)* }

        impl Event {
            /// Every kind there is, as the log's table shows it.
            pub const KINDS: &'static [&'static str] = &[$($kind),*];

            /// The stable name in the log.
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$name(_) => $kind,)* }
            }

            /// The body as JSON. Fails with [`ErrorKind::Internal`]; no body of ours can.
            pub fn body(&self) -> Result<String, Error> {
                match self { $(Self::$name(body) => encode(body),)* }
            }

            /// About how many bytes it takes: those of its body, and something for what stands around it.
            pub fn weight(&self) -> usize {
                match self { $(Self::$name(body) => weigh(body),)* }
            }

            /// Reads back what [`Event::kind`] and [`Event::body`] gave. Fails with [`ErrorKind::Internal`] on a foreign log.
            pub fn read(kind: &str, body: &str) -> Result<Self, Error> {
                match kind {
                    $($kind => decode(kind, body).map(Self::$name),)*
                    other => Err(Error::new(ErrorKind::Internal, format!("the log holds an unknown kind `{other}`"))),
                }
            }
        }
    };
}

fn encode<T: Serialize>(body: &T) -> Result<String, Error> {
    serde_json::to_string(body)
        .map_err(|e| Error::new(ErrorKind::Internal, format!("an event has no JSON form: {e}")))
}

/// What a record takes beside its body.
const BESIDE: usize = 256;

fn weigh<T: Serialize>(body: &T) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(BESIDE);
    // No body of ours fails; one that did would weigh what was counted.
    let _ = serde_json::to_writer(&mut count, body);
    count.0
}

fn decode<'a, T: Deserialize<'a>>(kind: &str, body: &'a str) -> Result<T, Error> {
    serde_json::from_str(body)
        .map_err(|e| Error::new(ErrorKind::Internal, format!("`{kind}` in the log: {e}")))
}

events! {
    /// The first record of every log.
    "workspace.created" WorkspaceCreated(users::WorkspaceCreated),
    /// The workspace has another domain key; the old one is worth nothing.
    "workspace.key_set" DomainKeySet(users::DomainKeySet),
    /// A server process began; whoever was connected to it before is not any more.
    "server.started" ServerStarted(cluster::ServerStarted),
    /// A node became part of the network.
    "node.joined" NodeJoined(cluster::NodeJoined),
    /// A node went away.
    "node.left" NodeLeft(cluster::NodeLeft),
    /// A node id belongs to a key from now on, or to none.
    "node.key_set" NodeKeySet(cluster::NodeKeySet),
    /// An account was made.
    "user.added" UserAdded(users::UserAdded),
    /// An account was changed, disabled or enabled.
    "user.changed" UserChanged(users::UserChanged),
    /// An account was removed.
    "user.removed" UserRemoved(users::UserRemoved),
    /// A key was made.
    "key.added" KeyAdded(users::KeyAdded),
    /// A key is worth nothing any more.
    "key.revoked" KeyRevoked(users::KeyRevoked),
    /// A token is worth nothing any more.
    "token.revoked" TokenRevoked(users::TokenRevoked),
    /// A token was made for somebody without an account.
    "token.noted" TokenNoted(users::TokenNoted),
    /// An agent is known for the first time, or again after its removal.
    "agent.registered" AgentRegistered(agents::AgentRegistered),
    /// An agent's card changed.
    "agent.updated" AgentUpdated(agents::AgentUpdated),
    /// An agent's status changed.
    "agent.status_changed" AgentStatusChanged(agents::AgentStatusChanged),
    /// An agent got a new secret; the old one is worth nothing.
    "agent.secret_set" AgentSecretSet(agents::AgentSecretSet),
    /// An agent was removed.
    "agent.removed" AgentRemoved(agents::AgentRemoved),
    /// A room was made.
    "room.created" RoomCreated(rooms::RoomCreated),
    /// A room's card or state changed.
    "room.updated" RoomUpdated(rooms::RoomUpdated),
    /// Somebody became a member.
    "room.joined" RoomJoined(rooms::RoomJoined),
    /// Somebody is asked to come in.
    "room.invited" RoomInvited(rooms::inviting::RoomInvited),
    /// Somebody is no member any more.
    "room.left" RoomLeft(rooms::RoomLeft),
    /// A member has read up to a message.
    "room.read" RoomRead(rooms::RoomRead),
    /// What was said in a room was summed up.
    "room.summarised" RoomSummarised(rooms::RoomSummarised),
    /// A room was removed; nobody gets its id again.
    "room.removed" RoomRemoved(rooms::removal::RoomRemoved),
    /// Something was done in a room.
    "room.acted" RoomActed(actions::Acted),
    /// Something was said in a room.
    "message.posted" MessagePosted(messages::Message),
    /// A message of a room was taken back.
    "message.deleted" MessageDeleted(messages::Deleted),
    /// Something was said to one principal.
    "message.direct" MessageDirect(messages::DirectMessage),
    /// Direct messages reached their addressee.
    "message.delivered" MessageDelivered(messages::Delivered),
    /// Direct messages waited too long and are given up.
    "message.expired" MessageExpired(messages::Expired),
    /// A connection of a principal came.
    "presence.connected" PresenceConnected(presence::Connected),
    /// What was said to a principal reached it.
    "presence.reached" PresenceReached(presence::Reached),
    /// A connection of a principal went.
    "presence.disconnected" PresenceDisconnected(presence::Disconnected),
    /// A seat was taken, or more has reached it.
    "seat.kept" SeatKept(seats::SeatKept),
    /// A threshold was crossed.
    "alert.raised" AlertRaised(alerts::AlertRaised),
    /// Somebody looks after an active alert.
    "alert.acknowledged" AlertAcknowledged(alerts::AlertAcknowledged),
    /// A value is well again.
    "alert.cleared" AlertCleared(alerts::AlertCleared),
    /// Somebody wants an alert when a value is beyond a limit.
    "threshold.set" ThresholdSet(thresholds::Threshold),
    /// Nobody wants it any more.
    "threshold.removed" ThresholdRemoved(thresholds::ThresholdRemoved),
    /// A component of the server works better or worse than before.
    "component.changed" HealthChanged(components::HealthChanged),
    /// Something went wrong inside the server.
    "fault.noticed" FaultNoticed(components::FaultNoticed),
    /// A rule noticed something about safety.
    "security.noticed" SecurityNoticed(alerts::SecurityNoticed),
    /// A block is over.
    "block.ended" BlockEnded(alerts::BlockEnded),
    /// A position was taken in the log for the watchers of a feed.
    "feed.marked" FeedMarked(feeds::FeedMarked),
}

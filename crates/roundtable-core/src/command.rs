//! Commands: what connections, the command line and workers ask for.

use serde::Serialize;

use crate::actions::Act;
use crate::agents::{AgentChanges, AgentStatus, RegisterAgent};
use crate::alerts::{AlertRaised, SecurityNoticed};
use crate::cluster::{NodeJoined, NodeKeySet, NodeLeft, ServerStarted};
use crate::components::{FaultNoticed, SetHealth};
use crate::feeds::Feed;
use crate::ids::{AgentId, AlertId, KeyId, MessageId, Principal, RoomId, UserId};
use crate::messages::{Delete, Direct, Post};
use crate::pairs::OpenPair;
use crate::rooms::{CreateRoom, EnterOwnRoom, JoinRoom, RoomUpdated};
use crate::seats::KeepSeat;
use crate::signal::Metric;
use crate::thresholds::Threshold;
use crate::time::{Offset, Time};
use crate::users::{KeyAdded, TokenNoted, TokenRevoked, UserAdded, UserChanged, WorkspaceCreated};

/// One thing asked for. What each does is said where its rule stands.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub enum Command {
    /// Nothing; the reply comes in its turn, with the state after everything asked before.
    Look,
    /// Time has passed: do what is due by itself. Asked by the server alone.
    Tick,
    /// Begin a workspace.
    CreateWorkspace(WorkspaceCreated),
    /// Give the workspace another domain key, by its SHA-256 in 64 hex digits.
    SetDomainKey(String),
    /// A server process begins.
    StartServer(ServerStarted),
    /// A node joins.
    JoinNetwork(NodeJoined),
    /// A node leaves.
    LeaveNetwork(NodeLeft),
    /// Bind a node id to a key, or to none.
    SetNodeKey(NodeKeySet),
    /// Make an account.
    AddUser(UserAdded),
    /// Change an account.
    ChangeUser(UserChanged),
    /// Remove an account, with its keys.
    RemoveUser(UserId),
    /// Make a key.
    AddKey(KeyAdded),
    /// Revoke a key.
    RevokeKey(KeyId),
    /// Revoke a token.
    RevokeToken(TokenRevoked),
    /// Remember a token of somebody without an account.
    NoteToken(TokenNoted),
    /// Make an agent known or change its card.
    RegisterAgent(RegisterAgent),
    /// Make an agent known that has no connection of its own: others work for it, so it is here from the start.
    HostAgent(RegisterAgent),
    /// Change an agent's card.
    UpdateAgent(AgentId, AgentChanges),
    /// Set an agent's status, with the reason.
    SetAgentStatus(AgentId, AgentStatus, String),
    /// Hold an agent, until a moment or until somebody lets it go on.
    PauseAgent(AgentId, Option<Time>),
    /// Let a held agent go on.
    ResumeAgent(AgentId),
    /// Set the hash of an agent's secret.
    SetAgentSecret(AgentId, String),
    /// Remove an agent, with the reason.
    RemoveAgent(AgentId, String),
    /// Make a room.
    CreateRoom(CreateRoom),
    /// Become a member.
    JoinRoom(JoinRoom),
    /// Bring an agent or a user into a room.
    Invite(RoomId, Principal),
    /// Enter the one room that belongs to an agent.
    EnterOwnRoom(EnterOwnRoom),
    /// Open the actor's conversation with an agent.
    OpenPair(OpenPair),
    /// Stop being a member.
    LeaveRoom(RoomId, Principal),
    /// Change a room's card or status.
    UpdateRoom(RoomId, RoomUpdated),
    /// Remove a room, with the keys that open it.
    RemoveRoom(RoomId),
    /// Keep a short account of what was said in a room.
    Summarise(RoomId, String),
    /// Note that the actor has read up to a message at an offset.
    MarkRead(RoomId, MessageId, Offset),
    /// Say something in a room.
    Post(Box<Post>),
    /// Take back what was said in a room.
    DeleteMessage(Delete),
    /// Say something to one agent.
    Direct(Box<Direct>),
    /// Note that the actor's waiting direct messages up to an offset have reached it.
    MarkDelivered(Offset),
    /// The connection is there; with its platform.
    Connect(Option<String>),
    /// The connection is there and takes what is said to its principal alone.
    ConnectForDirect,
    /// Note that everything up to an offset has reached the actor on one of its connections.
    MarkReached(Offset),
    /// The connection is gone.
    Disconnect,
    /// Take a seat or say what has reached it.
    KeepSeat(KeepSeat),
    /// Typing began or stopped.
    Type(RoomId, bool),
    /// Do something in a room, in the clients' words.
    Act(Act),
    /// Raise an alert.
    RaiseAlert(AlertRaised),
    /// Say that the actor looks after an active alert.
    AcknowledgeAlert(AlertId),
    /// Clear the active alert of a source.
    ClearAlert(String),
    /// Ask for an alert beyond a limit.
    SetThreshold(Threshold),
    /// Ask for it no longer.
    RemoveThreshold(AlertId),
    /// Say how a component of the server is.
    SetHealth(SetHealth),
    /// Note that something went wrong inside the server.
    NoteFault(FaultNoticed),
    /// Tell the watchers of measured values what was measured.
    Measure(Vec<Metric>),
    /// Note a security event.
    Notice(SecurityNoticed),
    /// End every block of a source before its time.
    LiftBlocks(String),
    /// Take a position in the log for the watchers of a feed; with a report to all of them.
    Mark(Feed, bool),
}

//! Bodies of the operator's interface, shared with the command line that sends and reads them.

use roundtable_core::agents::AgentStatus;
use roundtable_core::rooms::{Durability, Entry, RoomStatus};
use roundtable_core::users::UserRole;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::admin::records::Seen;

/// `POST /users`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddUser {
    /// The name.
    pub username: String,
    /// The password; without one the server draws one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// What the user may do.
    #[serde(default)]
    pub role: UserRole,
}

/// Its answer.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedUser {
    /// The name.
    pub username: String,
    /// What the user may do.
    pub role: UserRole,
    /// The password, if the server drew it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// `PATCH /users/{name}`: what is given changes.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeUser {
    /// New role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<UserRole>,
    /// New password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Disabled or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
}

/// `POST /agents`. An agent that is known but has no secret gets one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddAgent {
    /// Its id.
    pub agent_id: String,
    /// Its shown name; without one its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Its answer.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedAgent {
    /// Its id.
    pub agent_id: String,
    /// Its secret, shown this once.
    pub secret: String,
}

/// `PATCH /agents/{id}`.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeAgent {
    /// Suspended or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<bool>,
}

/// `POST /keys`: either `user`, or `agent` and `room`.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddKey {
    /// Whose API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Which agent's channel key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// For which room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    /// A name for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its life in milliseconds; without one it has no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
}

/// Its answer.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedKey {
    /// The public half.
    pub key_id: String,
    /// The secret half, shown this once.
    pub secret: String,
    /// Both, `key_id:secret`.
    pub key: String,
}

/// For which dialect a token is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lowercase")]
pub enum TokenDialect {
    /// MXF.
    Mxf,
    /// AIWM.
    Aiwm,
    /// Hive; the same as MegaBot.
    Hive,
    /// MegaBot; the same as Hive.
    MegaBot,
    /// Open-A.G.I.
    OpenAgi,
}

/// `POST /tokens`: one of `user`, `agent`, `node`.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssueToken {
    /// For a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// For an agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// For a node, or anything that subscribes as one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// For which dialect. Without one: MegaBot and Hive for users, AIWM for agents, Open-A.G.I for nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialect: Option<TokenDialect>,
    /// Its life in milliseconds; without one what the settings say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
}

/// Its answer.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedToken {
    /// The token.
    pub token: String,
    /// Its end, ISO 8601.
    pub expires_at: String,
}

/// `POST /tokens/revoke`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeToken {
    /// The token itself.
    pub token: String,
}

/// `POST /rooms`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddRoom {
    /// Its id.
    pub room: String,
    /// Its shown name; without one its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How much it promises.
    #[serde(default)]
    pub durability: Durability,
}

/// `POST /rooms/{id}/messages`. Who speaks becomes a member.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SendMessage {
    /// What is said.
    pub content: String,
    /// Who says it, `user:NAME` or `agent:ID`; without one the user `admin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// Its answer.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentMessage {
    /// The message's id.
    pub message_id: String,
}

/// `GET /rooms/{id}/messages`.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HistoryQuery {
    /// Only what is before this cursor.
    pub before: Option<String>,
    /// At most so many, 1 to 1,000; 50 if absent.
    pub limit: Option<usize>,
}

/// Its answer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct History {
    /// The room.
    pub room: String,
    /// The messages, oldest first.
    pub messages: Vec<Seen>,
}

/// `GET /tail`: newline-delimited JSON until the client goes.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TailQuery {
    /// Only this room.
    pub room: Option<String>,
    /// Begin after this cursor; without one with what comes from now on.
    pub since: Option<String>,
}

/// `POST /workspaces`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddWorkspace {
    /// Its name, which is its id.
    pub workspace: String,
}

/// Its answer.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedWorkspace {
    /// Its name.
    pub workspace: String,
    /// Its domain key, shown this once.
    pub domain_key: String,
}

/// Answer of `GET /workspaces`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ListedWorkspaces {
    /// By name.
    pub workspaces: Vec<ListedWorkspace>,
}

/// A workspace in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ListedWorkspace {
    /// Its name.
    pub workspace: String,
    /// It is the one of clients that name none.
    pub default: bool,
    /// How many accounts it has.
    pub users: usize,
    /// How many agents.
    pub agents: usize,
    /// How many rooms.
    pub rooms: usize,
    /// Offset of its newest record.
    pub head: u64,
    /// Since when it exists, ISO 8601.
    pub created_at: String,
}

/// Which workspace a list or a check is of.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OnlyWorkspace {
    /// Only this workspace.
    pub workspace: Option<String>,
}

/// Answer of `GET /rooms/{id}`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ShownRoom {
    /// Its id.
    pub room: String,
    /// Its shown name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Who made it.
    pub owner: String,
    /// Whether it takes messages.
    pub status: RoomStatus,
    /// Who may come in.
    pub entry: Entry,
    /// How much it promises.
    pub durability: Durability,
    /// The most members it takes, if it has a limit of its own.
    pub max_members: Option<u32>,
    /// The agent whose own room it is, if it is one's.
    pub agent: Option<String>,
    /// An object of the clients' own.
    pub metadata: Value,
    /// Its members.
    pub members: Vec<ShownMember>,
    /// How many messages were said in it.
    pub messages: u64,
    /// Tokens spent in it, as the messages report.
    pub tokens: u64,
    /// The cursor of its newest message.
    pub last: Option<String>,
    /// Since when it exists, ISO 8601.
    pub created_at: String,
    /// When anything in it changed, ISO 8601.
    pub updated_at: String,
}

/// A member of a room.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ShownMember {
    /// Who, `agent:ID`, `user:NAME` or `guest:NAME`.
    pub member: String,
    /// It is here on at least one connection.
    pub online: bool,
    /// Since when it is a member, ISO 8601.
    pub joined_at: String,
    /// The cursor of the last message it has read.
    pub read: Option<String>,
}

/// Answer of `GET /connections`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Connections {
    /// The oldest first.
    pub connections: Vec<ListedConnection>,
}

/// An open connection.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ListedConnection {
    /// Its id.
    pub id: u64,
    /// How it is open.
    pub transport: Transport,
    /// The listener it came in by.
    pub listener: String,
    /// The client's address.
    pub peer: String,
    /// Since when it is open, ISO 8601.
    pub since: String,
    /// Bytes that wait for its client.
    pub queued_bytes: u64,
    /// Its sessions: one, or one for each Socket.IO namespace.
    pub sessions: Vec<ListedSession>,
}

/// How a connection is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// By a WebSocket.
    WebSocket,
    /// By requests that wait.
    Polling,
}

/// A session of a connection.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ListedSession {
    /// `mxf`, `aiwm`, `hive`, `open-agi` or `megabot`.
    pub dialect: String,
    /// The Socket.IO namespace.
    pub namespace: Option<String>,
    /// Who it is, `agent:ID`, `user:NAME`, `guest:NAME` or `node:ID`, once that is known.
    pub principal: Option<String>,
    /// Where, once that is known.
    pub workspace: Option<String>,
}

/// Answer of `POST /verify`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Verification {
    /// Every workspace that has a log.
    pub workspaces: Vec<Checked>,
}

/// What was found in one workspace's log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Checked {
    /// Which workspace.
    pub workspace: String,
    /// How many records stand as they were written, from the first on.
    pub sound: u64,
    /// The first record that does not.
    pub broken: Option<Broken>,
}

/// A record that is not as it was written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Broken {
    /// Its offset.
    pub offset: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// `POST /backup`, and its answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// The file to make, as an absolute path on the server's machine.
    pub file: String,
}

/// Answer of `GET /users`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Users {
    /// By name.
    pub users: Vec<ListedUser>,
}

/// An account in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ListedUser {
    /// The name.
    pub username: String,
    /// What the user may do.
    pub role: UserRole,
    /// It may not come in.
    pub disabled: bool,
    /// It is here on at least one connection.
    pub online: bool,
    /// Since when it exists, ISO 8601.
    pub created_at: String,
}

/// Answer of `GET /agents`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Agents {
    /// By id.
    pub agents: Vec<ListedAgent>,
}

/// An agent in a list.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ListedAgent {
    /// Its id.
    pub agent_id: String,
    /// Its shown name.
    pub name: String,
    /// What it is doing.
    pub status: AgentStatus,
    /// It may not connect.
    pub suspended: bool,
    /// It is here on at least one connection.
    pub online: bool,
    /// The user who registered it, if one did.
    pub owner: Option<String>,
    /// Since when it is known, ISO 8601.
    pub created_at: String,
}

/// Answer of `GET /keys`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Keys {
    /// By public half.
    pub keys: Vec<ListedKey>,
}

/// A key in a list: for a user, or for an agent and a room.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ListedKey {
    /// The public half.
    pub key_id: String,
    /// Its name for people.
    pub name: String,
    /// Whose API key.
    pub user: Option<String>,
    /// Which agent's channel key.
    pub agent: Option<String>,
    /// For which room.
    pub room: Option<String>,
    /// It opens nothing any more.
    pub revoked: bool,
    /// Its end, ISO 8601, if it has one.
    pub expires_at: Option<String>,
    /// Since when it exists, ISO 8601.
    pub created_at: String,
}

/// Answer of `GET /rooms`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rooms {
    /// By id.
    pub rooms: Vec<ListedRoom>,
}

/// A room in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ListedRoom {
    /// Its id.
    pub room: String,
    /// Its shown name.
    pub name: String,
    /// How much it promises.
    pub durability: Durability,
    /// Whether it takes messages.
    pub status: RoomStatus,
    /// How many members it has.
    pub members: usize,
    /// How many messages were said in it.
    pub messages: u64,
    /// Since when it exists, ISO 8601.
    pub created_at: String,
}

//! Bodies of the operator's interface, shared with the command line that sends and reads them.

use roundtable_core::agents::AgentStatus;
use roundtable_core::rooms::{Durability, Entry, RoomStatus};
use roundtable_core::users::UserRole;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Number, Value};
use utoipa::ToSchema;

use crate::admin::openapi::words;
use crate::admin::records::Seen;

/// A whole number, also as JSON has it where all numbers are floating: `60000.0`.
fn whole<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let Some(number) = Option::<Number>::deserialize(from)? else { return Ok(None) };
    let floating =
        || number.as_f64().filter(|n| n.fract() == 0.0 && (0.0..9e15).contains(n)).map(|n| n as u64);
    let wrong = || D::Error::custom("must be a whole number");
    number.as_u64().or_else(floating).ok_or_else(wrong).map(Some)
}

/// Answer of everything that is refused.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// What is wrong.
    pub error: Fault,
}

/// What is wrong with a request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Fault {
    /// The kind of error, for programs.
    pub kind: String,
    /// What is wrong, for people.
    pub message: String,
    /// The field it is about, if it is about one.
    pub field: Option<String>,
}

/// `POST /users`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddUser {
    /// The name.
    #[schema(pattern = "^[A-Za-z0-9._:@-]{1,128}$")]
    pub username: String,
    /// The password; without one the server draws one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 8, max_length = 256)]
    pub password: Option<String>,
    /// What the user may do.
    #[serde(default)]
    #[schema(schema_with = words::roles)]
    pub role: UserRole,
}

/// Its answer.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AddedUser {
    /// The name.
    pub username: String,
    /// What the user may do.
    #[schema(schema_with = words::roles)]
    pub role: UserRole,
    /// The password, if the server drew it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// `PATCH /users/{name}`: what is given changes.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeUser {
    /// New role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = words::roles)]
    pub role: Option<UserRole>,
    /// New password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 8, max_length = 256)]
    pub password: Option<String>,
    /// Disabled or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
}

/// Answer of `PATCH` and `DELETE /users/{name}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ChangedUser {
    /// The name.
    pub username: String,
}

/// Answer of `POST /users/{name}/password`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrawnPassword {
    /// The name.
    pub username: String,
    /// The password, shown this once.
    pub password: String,
}

/// `POST /agents`. An agent that is known but has no secret gets one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddAgent {
    /// Its id.
    #[schema(pattern = "^[A-Za-z0-9._:@-]{1,128}$")]
    pub agent_id: String,
    /// Its shown name; without one its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 200)]
    pub name: Option<String>,
}

/// Its answer.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AddedAgent {
    /// Its id.
    pub agent_id: String,
    /// Its secret, shown this once.
    pub secret: String,
}

/// `PATCH /agents/{id}`.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeAgent {
    /// Suspended or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<bool>,
}

/// Answer of `PATCH` and `DELETE /agents/{id}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ChangedAgent {
    /// Its id.
    pub agent_id: String,
}

/// `POST /keys`: either `user`, or `agent` and `room`.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddKey {
    /// Whose API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Za-z0-9._:@-]{1,128}$")]
    pub user: Option<String>,
    /// Which agent's channel key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Za-z0-9._:@-]{1,128}$")]
    pub agent: Option<String>,
    /// For which room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Za-z0-9._:@-]{1,128}$")]
    pub room: Option<String>,
    /// A name for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its life in milliseconds; without one it has no end.
    #[serde(default, deserialize_with = "whole", skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 315360000000u64)]
    pub ttl_ms: Option<u64>,
}

/// Its answer.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AddedKey {
    /// The public half.
    pub key_id: String,
    /// The secret half, shown this once.
    pub secret: String,
    /// Both, `key_id:secret`.
    pub key: String,
}

/// Answer of `DELETE /keys/{id}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct RevokedKey {
    /// Its public half.
    pub key_id: String,
}

/// For which dialect a token is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema, clap::ValueEnum)]
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
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IssueToken {
    /// For a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Za-z0-9._:@-]{1,128}$")]
    pub user: Option<String>,
    /// For an agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Za-z0-9._:@-]{1,128}$")]
    pub agent: Option<String>,
    /// For a node, or anything that subscribes as one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Za-z0-9._:@-]{1,128}$")]
    pub node: Option<String>,
    /// For which dialect. Without one: MegaBot and Hive for users, AIWM for agents, Open-A.G.I for nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialect: Option<TokenDialect>,
    /// Its life in milliseconds; without one what the settings say.
    #[serde(default, deserialize_with = "whole", skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1000, maximum = 315360000000u64)]
    pub ttl_ms: Option<u64>,
}

/// Its answer.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IssuedToken {
    /// The token.
    pub token: String,
    /// Its end, ISO 8601.
    pub expires_at: String,
}

/// `POST /tokens/revoke`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeToken {
    /// The token itself.
    pub token: String,
}

/// Answer of `POST /tokens/revoke`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct RevokedToken {
    /// The token's own id.
    pub jti: String,
}

/// `POST /rooms`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddRoom {
    /// Its id.
    #[schema(pattern = "^[A-Za-z0-9._:@-]{1,128}$")]
    pub room: String,
    /// Its shown name; without one its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 200)]
    pub name: Option<String>,
    /// How much it promises.
    #[serde(default)]
    #[schema(schema_with = words::durabilities)]
    pub durability: Durability,
}

/// Answer of `POST /rooms` and `DELETE /rooms/{id}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct AddedRoom {
    /// Its id.
    pub room: String,
}

/// `POST /rooms/{id}/messages`. Who speaks becomes a member.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SendMessage {
    /// What is said.
    #[schema(min_length = 1)]
    pub content: String,
    /// Who says it, `user:NAME` or `agent:ID`; without one the user `admin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^(user|agent):[A-Za-z0-9._:@-]{1,128}$")]
    pub from: Option<String>,
}

/// Its answer.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SentMessage {
    /// The message's id.
    pub message_id: String,
}

/// `GET /rooms/{id}/messages`.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HistoryQuery {
    /// Only what is before this cursor.
    pub before: Option<String>,
    /// At most so many, 1 to 1,000; 50 if absent. A page has at most 200.
    pub limit: Option<usize>,
}

/// Its answer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct History {
    /// The room.
    pub room: String,
    /// The messages, oldest first.
    pub messages: Vec<Seen>,
    /// The cursor before which older ones are, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
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
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddWorkspace {
    /// Its name, which is its id.
    #[schema(pattern = "^[A-Za-z0-9._:@-]{1,128}$")]
    pub workspace: String,
}

/// Its answer.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AddedWorkspace {
    /// Its name.
    pub workspace: String,
    /// Its domain key, shown this once.
    pub domain_key: String,
}

/// Answer of `GET /workspaces`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ListedWorkspaces {
    /// By name.
    pub workspaces: Vec<ListedWorkspace>,
    /// What the next page comes after, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A workspace in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
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
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
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
    #[schema(schema_with = words::room_statuses)]
    pub status: RoomStatus,
    /// Who may come in.
    #[schema(schema_with = words::entries)]
    pub entry: Entry,
    /// How much it promises.
    #[schema(schema_with = words::durabilities)]
    pub durability: Durability,
    /// The most members it takes, if it has a limit of its own.
    pub max_members: Option<u32>,
    /// The agent whose own room it is, if it is one's.
    pub agent: Option<String>,
    /// An object of the clients' own.
    pub metadata: Value,
    /// A page of its members.
    pub members: Vec<ShownMember>,
    /// How many members it has.
    pub member_count: usize,
    /// The member after which the next page is, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
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
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
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

/// Answer of `POST /verify`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Verification {
    /// Every workspace that has a log.
    pub workspaces: Vec<Checked>,
}

/// What was found in one workspace's log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Checked {
    /// Which workspace.
    pub workspace: String,
    /// How many records stand as they were written, from the first on.
    pub sound: u64,
    /// The first record that does not.
    pub broken: Option<Broken>,
    /// Ids that several have at once, such as a user and an agent. They keep working; no new ones are given out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubles: Vec<String>,
}

/// A record that is not as it was written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Broken {
    /// Its offset.
    pub offset: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// `POST /backup`, and its answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// The file to make, as an absolute path on the server's machine.
    #[schema(pattern = "^/")]
    pub file: String,
}

/// Answer of `GET /users`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Users {
    /// By name.
    pub users: Vec<ListedUser>,
    /// What the next page comes after, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// An account in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ListedUser {
    /// The name.
    pub username: String,
    /// What the user may do.
    #[schema(schema_with = words::roles)]
    pub role: UserRole,
    /// It may not come in.
    pub disabled: bool,
    /// It is here on at least one connection.
    pub online: bool,
    /// Since when it exists, ISO 8601.
    pub created_at: String,
}

/// Answer of `GET /agents`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Agents {
    /// By id.
    pub agents: Vec<ListedAgent>,
    /// What the next page comes after, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// An agent in a list.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ListedAgent {
    /// Its id.
    pub agent_id: String,
    /// Its shown name.
    pub name: String,
    /// What it is doing.
    #[schema(schema_with = words::statuses)]
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
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Keys {
    /// By public half.
    pub keys: Vec<ListedKey>,
    /// What the next page comes after, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A key in a list: for a user, or for an agent and a room.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
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
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Rooms {
    /// By id.
    pub rooms: Vec<ListedRoom>,
    /// What the next page comes after, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A room in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ListedRoom {
    /// Its id.
    pub room: String,
    /// Its shown name.
    pub name: String,
    /// How much it promises.
    #[schema(schema_with = words::durabilities)]
    pub durability: Durability,
    /// Whether it takes messages.
    #[schema(schema_with = words::room_statuses)]
    pub status: RoomStatus,
    /// How many members it has.
    pub members: usize,
    /// How many messages were said in it.
    pub messages: u64,
    /// Since when it exists, ISO 8601.
    pub created_at: String,
}

//! Commands about users, agents, keys and tokens.

use clap::{Args, Subcommand};
use roundtable_core::users::UserRole;
use serde_json::{Value, json};

use crate::admin::wire::{
    AddAgent, AddKey, AddUser, AddedAgent, AddedKey, AddedUser, Agents, ChangeAgent, ChangeUser,
    DrawnPassword, IssueToken, IssuedToken, Keys, ListedAgent, ListedKey, ListedUser, RevokeToken,
    TokenDialect, Users,
};
use crate::cli::client::{Failure, encoded};
use crate::cli::{Target, Terminal, changed, client, done, list};
use crate::config::Span;

#[derive(Subcommand, Debug)]
pub enum UserCommand {
    /// Make an account. The password is the first line of standard input; on a terminal, or where the input is empty, one is
    /// drawn and shown once.
    Add {
        /// The name.
        name: String,
        /// What the user may do: take part, run agents and rooms of others, everything.
        #[arg(long, default_value = "viewer", value_parser = role)]
        role: UserRole,
        /// Draw the password, whatever the input is.
        #[arg(long)]
        generate: bool,
    },
    /// Give a user a new password: the first line of standard input; on a terminal, or where the input is empty, one is drawn
    /// and shown once. The old one opens nothing any more, nor do tokens and refresh tokens made before, and the user's
    /// connections end. API keys stay.
    Password {
        /// The name.
        name: String,
        /// Draw the password, whatever the input is.
        #[arg(long)]
        generate: bool,
    },
    /// Remove an account with its keys. Its tokens open nothing any more, its connections end, it leaves its rooms; its agents
    /// and rooms stay and belong to nobody. What it said stays.
    Remove {
        /// The name.
        name: String,
    },
    /// All accounts.
    List,
    /// Let a user in no more; live connections end.
    Disable {
        /// The name.
        name: String,
    },
    /// Let a user in again.
    Enable {
        /// The name.
        name: String,
    },
}

fn role(text: &str) -> Result<UserRole, String> {
    serde_json::from_value(Value::from(text)).map_err(|_| "must be viewer, editor or owner".into())
}

fn password(terminal: &mut Terminal<'_>) -> Result<Option<String>, Failure> {
    if terminal.interactive {
        return Ok(None);
    }
    let mut line = String::new();
    let unreadable =
        |error| Failure::Refused(format!("the password cannot be read from standard input: {error}"));
    terminal.input.read_line(&mut line).map_err(unreadable)?;
    let password = line.trim_end_matches(['\n', '\r']);
    Ok((!password.is_empty()).then(|| password.to_owned()))
}

impl UserCommand {
    pub(super) fn run(self, target: &Target, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let (name, disabled) = match self {
            Self::Add { name, role, generate } => return add_user(name, (role, generate), target, terminal),
            Self::Password { name, generate } => return renew_password(&name, generate, target, terminal),
            Self::Remove { name } => return remove_user(&name, target, terminal),
            Self::List => return list_users(target, terminal),
            Self::Disable { name } => (name, true),
            Self::Enable { name } => (name, false),
        };
        let body = ChangeUser { disabled: Some(disabled), ..ChangeUser::default() };
        let done: Value = client(target)?.ask("PATCH", &format!("/users/{}", encoded(&name)), &body)?;
        let word = if disabled { "disabled" } else { "enabled" };
        changed(terminal, target, &done, &format!("user {name} is {word}"))
    }
}

fn renew_password(
    name: &str,
    generate: bool,
    target: &Target,
    terminal: &mut Terminal<'_>,
) -> Result<(), Failure> {
    const ENDS: &str =
        "the old one, tokens and refresh tokens made before open nothing any more; its connections end";
    let client = client(target)?;
    let path = format!("/users/{}", encoded(name));
    let given = if generate { None } else { password(terminal)? };
    if given.is_some() {
        let body = ChangeUser { password: given, ..ChangeUser::default() };
        let answer: Value = client.ask("PATCH", &path, &body)?;
        return changed(terminal, target, &answer, &format!("user {name} has a new password: {ENDS}"));
    }
    let drawn: DrawnPassword = client.ask("POST", &format!("{path}/password"), &json!({}))?;
    let words = format!("user {name} has the new password {}: {ENDS}", drawn.password);
    let lost = format!("user {name} has a new password, which is lost: draw another one; {ENDS}");
    done(terminal, target, (&drawn, &words), &lost)
}

fn remove_user(name: &str, target: &Target, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let answer: Value = client(target)?.ask("DELETE", &format!("/users/{}", encoded(name)), &Value::Null)?;
    let words =
        format!("user {name} is removed: its keys and tokens open nothing any more; its connections end");
    changed(terminal, target, &answer, &words)
}

fn list_users(target: &Target, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let all: Users = client(target)?.all("/users", "users")?;
    let line = |user: &ListedUser| {
        let notes = notes([("disabled", user.disabled), ("online", user.online)]);
        format!("{}  {}{notes}", user.username, role_name(user.role))
    };
    list(terminal, target, &all, all.users.iter().map(line))
}

const fn role_name(role: UserRole) -> &'static str {
    match role {
        UserRole::Viewer => "viewer",
        UserRole::Editor => "editor",
        UserRole::Owner => "owner",
    }
}

/// Those that are so, each after two spaces.
fn notes<const N: usize>(all: [(&str, bool); N]) -> String {
    all.iter().filter(|(_, so)| *so).map(|(note, _)| format!("  {note}")).collect()
}

fn add_user(
    username: String,
    (role, generate): (UserRole, bool),
    target: &Target,
    terminal: &mut Terminal<'_>,
) -> Result<(), Failure> {
    let client = client(target)?;
    let password = if generate { None } else { password(terminal)? };
    let added: AddedUser = client.ask("POST", "/users", &AddUser { username, password, role })?;
    let words = match &added.password {
        Some(password) => format!("user {} with password {password}", added.username),
        None => format!("user {}", added.username),
    };
    let lost = match &added.password {
        Some(_) => {
            format!("user {0} is made, its password is lost: `user password {0}` draws one", added.username)
        }
        None => words.clone(),
    };
    done(terminal, target, (&added, &words), &lost)
}

#[derive(Subcommand, Debug)]
pub enum AgentCommand {
    /// Make an agent known and give it a secret, shown once.
    Add {
        /// Its id.
        id: String,
        /// Its shown name; without one its id.
        #[arg(long)]
        name: Option<String>,
    },
    /// All agents that are known.
    List,
    /// Draw a new secret, shown once. The old one and tokens made before open nothing any more; their connections end.
    Rotate {
        /// Its id.
        id: String,
    },
    /// Remove an agent and its keys; live connections end. What it said stays.
    Remove {
        /// Its id.
        id: String,
    },
    /// Let an agent in no more; live connections end.
    Suspend {
        /// Its id.
        id: String,
    },
    /// Let an agent in again.
    Resume {
        /// Its id.
        id: String,
    },
}

impl AgentCommand {
    pub(super) fn run(self, target: &Target, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let client = client(target)?;
        let (id, suspended) = match self {
            Self::Add { id, name } => {
                let added: AddedAgent = client.ask("POST", "/agents", &AddAgent { agent_id: id, name })?;
                return show_secret(&added, target, terminal);
            }
            Self::List => {
                let all: Agents = client.all("/agents", "agents")?;
                let line = |agent: &ListedAgent| {
                    let notes = notes([("suspended", agent.suspended), ("online", agent.online)]);
                    format!("{}  {}{notes}", agent.agent_id, agent.name)
                };
                return list(terminal, target, &all, all.agents.iter().map(line));
            }
            Self::Rotate { id } => {
                let added: AddedAgent =
                    client.ask("POST", &format!("/agents/{}/secret", encoded(&id)), &json!({}))?;
                return show_secret(&added, target, terminal);
            }
            Self::Remove { id } => {
                let done: Value = client.ask("DELETE", &format!("/agents/{}", encoded(&id)), &Value::Null)?;
                return changed(terminal, target, &done, &format!("agent {id} is removed"));
            }
            Self::Suspend { id } => (id, true),
            Self::Resume { id } => (id, false),
        };
        let body = ChangeAgent { suspended: Some(suspended) };
        let done: Value = client.ask("PATCH", &format!("/agents/{}", encoded(&id)), &body)?;
        let words =
            if suspended { format!("agent {id} is suspended") } else { format!("agent {id} may come in") };
        changed(terminal, target, &done, &words)
    }
}

fn show_secret(added: &AddedAgent, target: &Target, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let AddedAgent { agent_id: id, secret } = added;
    let lost = format!("agent {id} has a new secret, which is lost: `agent rotate {id}` draws another one");
    done(terminal, target, (added, &format!("agent {id} with secret {secret}")), &lost)
}

#[derive(Subcommand, Debug)]
pub enum KeyCommand {
    /// Make a key, shown once: an API key with --user, an MXF channel key with --agent and --room.
    Add(KeyArgs),
    /// All keys, by their public halves.
    List,
    /// Make a key worthless; connections it opened end.
    Revoke {
        /// Its public half.
        key_id: String,
    },
}

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("opens").required(true).args(["user", "agent"]))]
pub struct KeyArgs {
    /// Whose API key.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Which agent's channel key.
    #[arg(long, value_name = "ID", requires = "room")]
    agent: Option<String>,
    /// For which room.
    #[arg(long, value_name = "ROOM", requires = "agent")]
    room: Option<String>,
    /// A name, to tell keys apart.
    #[arg(long, default_value = "")]
    name: String,
    /// Its life, such as 24h or 30d; without it the key has no end.
    #[arg(long, value_name = "TIME", value_parser = Span::parse)]
    ttl: Option<Span>,
}

impl KeyCommand {
    pub(super) fn run(self, target: &Target, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let client = client(target)?;
        match self {
            Self::Add(KeyArgs { user, agent, room, name, ttl }) => {
                let body = AddKey { user, agent, room, name, ttl_ms: ttl.map(Span::ms) };
                let added: AddedKey = client.ask("POST", "/keys", &body)?;
                let words =
                    format!("key id  {}\nsecret  {}\nwhole   {}", added.key_id, added.secret, added.key);
                let lost =
                    format!("key {0} is made, its secret is lost: `key revoke {0}` ends it", added.key_id);
                done(terminal, target, (&added, &words), &lost)
            }
            Self::List => {
                let all: Keys = client.all("/keys", "keys")?;
                list(terminal, target, &all, all.keys.iter().map(key_line))
            }
            Self::Revoke { key_id } => {
                let done: Value = client.ask("DELETE", &format!("/keys/{}", encoded(&key_id)), &json!({}))?;
                changed(terminal, target, &done, &format!("key {key_id} is revoked"))
            }
        }
    }
}

fn key_line(key: &ListedKey) -> String {
    let opens = match (&key.user, &key.agent, &key.room) {
        (Some(user), ..) => format!("user {user}"),
        (None, Some(agent), Some(room)) => format!("agent {agent} in {room}"),
        _ => "nothing".into(),
    };
    let end = key.expires_at.as_ref().map(|end| format!("  ends {end}")).unwrap_or_default();
    format!("{}  {opens}{end}{}", key.key_id, notes([("revoked", key.revoked)]))
}

#[derive(Subcommand, Debug)]
pub enum TokenCommand {
    /// Sign a token for a user (Hive and MegaBot), an agent (AIWM) or a node (Open-A.G.I).
    Issue(IssueArgs),
    /// Make a token worthless; connections it opened end.
    Revoke {
        /// The token.
        token_to_revoke: String,
    },
}

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("subject").required(true).args(["user", "agent", "node"]))]
pub struct IssueArgs {
    /// For a user.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// For an agent.
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
    /// For a node, or a dashboard that subscribes as one.
    #[arg(long, value_name = "ID")]
    node: Option<String>,
    /// For another dialect than the usual one of its bearer.
    #[arg(long, value_enum)]
    dialect: Option<TokenDialect>,
    /// Its life, such as 15m or 24h, at least 1s; without it what the settings say.
    #[arg(long, value_name = "TIME", value_parser = life)]
    ttl: Option<Span>,
}

/// Tokens end at a second of the clock.
fn life(text: &str) -> Result<Span, String> {
    Span::parse_from(text, Span::of_ms(1_000))
}

impl TokenCommand {
    pub(super) fn run(self, target: &Target, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let client = client(target)?;
        match self {
            Self::Issue(IssueArgs { user, agent, node, dialect, ttl }) => {
                let body = IssueToken { user, agent, node, dialect, ttl_ms: ttl.map(Span::ms) };
                let issued: IssuedToken = client.ask("POST", "/tokens", &body)?;
                let words = format!("{}\nends {}", issued.token, issued.expires_at);
                let lost = format!("a token is signed and lost; it ends {}", issued.expires_at);
                done(terminal, target, (&issued, &words), &lost)
            }
            Self::Revoke { token_to_revoke: token } => {
                let done: Value = client.ask("POST", "/tokens/revoke", &RevokeToken { token })?;
                changed(terminal, target, &done, "the token is revoked")
            }
        }
    }
}

//! What is there before the clients come, and what the server itself does: `@` lines and the commands they are.

use std::collections::BTreeMap;

use roundtable_core::agents::{AgentCard, AgentChanges, Capability, RegisterAgent};
use roundtable_core::alerts::{AlertRaised, SecurityNoticed};
use roundtable_core::command::Command;
use roundtable_core::components::{FaultNoticed, SetHealth};
use roundtable_core::error::Error;
use roundtable_core::feeds::Feed;
use roundtable_core::ids::{AgentId, KeyId, Principal, RoomId, UserId};
use roundtable_core::rooms::{CreateRoom, RoomCard};
use roundtable_core::signal::Metric;
use roundtable_core::time::Time;
use roundtable_core::users::{KeyAdded, KeyFor, UserAdded, UserChanged, UserRole};
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::line::{milliseconds, word};
use crate::session::Family;

/// One `@` line.
#[derive(Clone, PartialEq, Debug)]
pub enum SetUp {
    /// The server asks its engine, in this order. Secrets in the commands are still to be hashed: see `SetUp::commands`.
    Ask(Vec<Wish>),
    /// A token is made and gets a name.
    Token {
        /// Its name.
        name: String,
        /// Which key signs it.
        family: Family,
        /// For whom.
        subject: Principal,
        /// How long it lives, in seconds.
        ttl_s: u32,
        /// Further claims.
        claims: serde_json::Value,
    },
    /// A key is made: `$NAME` is `id:secret`, `$NAME_id` and `$NAME_secret` its halves.
    Key {
        /// Its name.
        name: String,
        /// What it opens.
        opens: KeyFor,
        /// How long it lives, in milliseconds.
        ttl_ms: Option<i64>,
    },
    /// The token or key of a name is worth nothing from here on.
    Revoke(String),
    /// The log takes no writes, or does again.
    Full(bool),
}

/// A question of the server's.
#[derive(Clone, PartialEq, Debug)]
pub struct Wish {
    /// In whose name.
    pub actor: Principal,
    /// What is asked.
    pub command: Command,
}

/// `name=value` words of a line.
type Options<'a> = BTreeMap<&'a str, &'a str>;

fn wish(actor: Principal, command: Command) -> Wish {
    Wish { actor, command }
}

fn told(error: Error) -> String {
    error.message.into_owned()
}

/// A name that a client would write the same way as JSON: `viewer`, `private`, `activity`.
fn named<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

fn json<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn variable(text: &str) -> Result<String, String> {
    text.strip_prefix('$').map(str::to_owned).ok_or_else(|| format!("`{text}` is no $name"))
}

impl SetUp {
    /// Reads what stands after `@`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (what, rest) = word(text);
        let (first, more) = word(rest);
        match what {
            "user" => user(first, &options(more)?),
            "agent" => agent(first, &options(more)?),
            "room" => room(first, &options(more)?),
            "token" => token(&variable(first)?, more),
            "key" => key(&variable(first)?, &options(more)?),
            "revoke" => variable(first).map(Self::Revoke),
            "suspend" => suspend(first),
            "disable" => disable(first),
            "alert" => json::<AlertRaised>(rest).map(|e| Self::system(Command::RaiseAlert(e))),
            "clear" => Ok(Self::system(Command::ClearAlert(first.into()))),
            "notice" => json::<SecurityNoticed>(rest).map(|e| Self::system(Command::Notice(e))),
            "health" => json::<SetHealth>(rest).map(|e| Self::system(Command::SetHealth(e))),
            "fault" => json::<FaultNoticed>(rest).map(|e| Self::system(Command::NoteFault(e))),
            "measure" => measure(first, more),
            "status" => status(first, more),
            "remove" => {
                let agent = AgentId::new(first).map_err(told)?;
                Ok(Self::system(Command::RemoveAgent(agent, more.into())))
            }
            "report" => named::<Feed>(first).map(|feed| Self::system(Command::Mark(feed, true))),
            "log" if first == "full" => Ok(Self::Full(true)),
            "log" if first == "free" => Ok(Self::Full(false)),
            _ => Err(format!("`@ {what}` is nothing the server does")),
        }
    }

    fn system(command: Command) -> Self {
        Self::Ask(vec![wish(Principal::System, command)])
    }

    /// The command that makes a key which gets this name, and its secret half.
    pub fn key_added(
        name: &str,
        opens: &KeyFor,
        expires_at: Option<Time>,
    ) -> Result<(KeyAdded, String), String> {
        let secret = format!("{name}-secret-0123456789abcdef");
        let key = KeyId::new(&format!("key_{name}")).map_err(told)?;
        let hash = super::frame::hex(&Sha256::digest(secret.as_bytes()));
        Ok((KeyAdded { key, hash, opens: opens.clone(), expires_at, name: name.to_owned() }, secret))
    }

    /// The questions of an [`SetUp::Ask`], with passwords and secrets hashed by `hash`.
    pub fn hashed(wishes: &[Wish], hash: impl Fn(&str) -> String) -> Vec<Wish> {
        let mut wishes = wishes.to_vec();
        for wish in &mut wishes {
            match &mut wish.command {
                Command::AddUser(UserAdded { password: Some(secret), .. })
                | Command::SetAgentSecret(_, secret) => {
                    *secret = hash(secret);
                }
                _ => {}
            }
        }
        wishes
    }
}

fn options(text: &str) -> Result<Options<'_>, String> {
    let mut options = Options::new();
    for word in text.split_whitespace() {
        let (name, value) = word.split_once('=').ok_or_else(|| format!("`{word}` is no name=value"))?;
        options.insert(name, value);
    }
    Ok(options)
}

fn known(options: &Options<'_>, names: &[&str]) -> Result<(), String> {
    match options.keys().find(|name| !names.contains(name)) {
        Some(name) => Err(format!("`{name}` is none of {}", names.join(", "))),
        None => Ok(()),
    }
}

fn user(id: &str, options: &Options<'_>) -> Result<SetUp, String> {
    known(options, &["password", "role"])?;
    let user = UserId::new(id).map_err(told)?;
    let role = options.get("role").map_or(Ok(UserRole::Viewer), |role| named(role))?;
    let password = options.get("password").map(|text| (*text).to_owned());
    Ok(SetUp::system(Command::AddUser(UserAdded { user, role, password })))
}

fn agent(id: &str, options: &Options<'_>) -> Result<SetUp, String> {
    known(options, &["name", "owner", "secret", "kind", "role", "model", "can", "metadata"])?;
    let agent = AgentId::new(id).map_err(told)?;
    let text = |name: &str| options.get(name).map(|text| (*text).to_owned());
    let owner = options.get("owner").map(|owner| UserId::new(owner).map_err(told)).transpose()?;
    let card = AgentCard {
        name: text("name").unwrap_or_else(|| id.to_owned()),
        kind: text("kind").unwrap_or_default(),
        role: text("role"),
        model: text("model"),
        capabilities: options
            .get("can")
            .map_or_else(Vec::new, |can| can.split(',').map(Capability::named).collect()),
        metadata: options
            .get("metadata")
            .map_or_else(|| Ok(roundtable_core::json::Json::default()), |m| json(m))?,
        ..AgentCard::default()
    };
    let actor = owner.map_or(Principal::System, Principal::User);
    let mut wishes = vec![wish(actor, Command::RegisterAgent(RegisterAgent { agent: agent.clone(), card }))];
    wishes
        .extend(text("secret").map(|secret| wish(Principal::System, Command::SetAgentSecret(agent, secret))));
    Ok(SetUp::Ask(wishes))
}

fn room(id: &str, options: &Options<'_>) -> Result<SetUp, String> {
    known(options, &["name", "entry", "durability", "owner", "members"])?;
    let room = RoomId::new(id).map_err(told)?;
    let principal = |text: &str| Principal::parse(text).map_err(told);
    let card = RoomCard {
        name: (*options.get("name").unwrap_or(&id)).to_owned(),
        entry: options.get("entry").map_or_else(|| Ok(Default::default()), |entry| named(entry))?,
        durability: options.get("durability").map_or_else(|| Ok(Default::default()), |kind| named(kind))?,
        ..RoomCard::default()
    };
    let owner = options.get("owner").map_or(Ok(Principal::System), |owner| principal(owner))?;
    let mut wishes = vec![wish(owner, Command::CreateRoom(CreateRoom { room: Some(room.clone()), card }))];
    for member in options.get("members").map_or("", |members| *members).split(',').filter(|m| !m.is_empty()) {
        wishes.push(wish(Principal::System, Command::Invite(room.clone(), principal(member)?)));
    }
    Ok(SetUp::Ask(wishes))
}

/// `FAMILY SUBJECT [ttl=60s] [{claims}]`
fn token(name: &str, text: &str) -> Result<SetUp, String> {
    let (signed, rest) = word(text);
    let (subject, mut rest) = word(rest);
    let family = super::family(signed).ok_or_else(|| format!("`{signed}` is no family of tokens"))?;
    let mut ttl_ms = 86_400_000;
    if rest.starts_with("ttl=") {
        let (ttl, after) = word(rest);
        (ttl_ms, rest) = (milliseconds(ttl.trim_start_matches("ttl="))?, after);
    }
    let claims = if rest.is_empty() { serde_json::json!({}) } else { json(rest)? };
    let subject = Principal::parse(subject).map_err(told)?;
    let ttl_s = u32::try_from(ttl_ms / 1000).map_err(|_| "a token does not live so long".to_owned())?;
    Ok(SetUp::Token { name: name.to_owned(), family, subject, ttl_s, claims })
}

fn key(name: &str, options: &Options<'_>) -> Result<SetUp, String> {
    known(options, &["user", "agent", "room", "ttl"])?;
    let opens = match (options.get("user"), options.get("agent"), options.get("room")) {
        (Some(user), None, None) => KeyFor::User(UserId::new(user).map_err(told)?),
        (None, Some(agent), Some(room)) => {
            KeyFor::Room { agent: AgentId::new(agent).map_err(told)?, room: RoomId::new(room).map_err(told)? }
        }
        _ => return Err("a key is for user=… or for agent=… room=…".into()),
    };
    let ttl_ms = options.get("ttl").map(|ttl| milliseconds(ttl)).transpose()?;
    Ok(SetUp::Key { name: name.to_owned(), opens, ttl_ms })
}

/// `NAME VALUE [WARNING CRITICAL]`
fn measure(name: &str, text: &str) -> Result<SetUp, String> {
    let known = [
        ("cpu_usage", "percent"),
        ("memory_usage", "percent"),
        ("disk_usage", "percent"),
        ("network_in", "bytes/s"),
        ("network_out", "bytes/s"),
    ];
    let found = known.into_iter().find(|(known, _)| *known == name);
    let (name, unit) = found.ok_or_else(|| format!("`{name}` is nothing that is measured"))?;
    let numbers: Vec<f64> = text
        .split_whitespace()
        .map(|number| number.parse().map_err(|_| format!("`{number}` is no number")))
        .collect::<Result<_, String>>()?;
    let (value, warning, critical) = match numbers.as_slice() {
        [value] => (*value, None, None),
        [value, warning, critical] => (*value, Some(*warning), Some(*critical)),
        _ => return Err("a measure is a name, a value and, if it likes, two limits".into()),
    };
    Ok(SetUp::system(Command::Measure(vec![Metric { name, value, warning, critical, unit }])))
}

/// `AGENT STATUS REASON`
fn status(agent: &str, text: &str) -> Result<SetUp, String> {
    let (status, reason) = word(text);
    let agent = AgentId::new(agent).map_err(told)?;
    Ok(SetUp::system(Command::SetAgentStatus(agent, named(status)?, reason.into())))
}

fn suspend(agent: &str) -> Result<SetUp, String> {
    let changes = AgentChanges { suspended: Some(true), ..AgentChanges::default() };
    Ok(SetUp::system(Command::UpdateAgent(AgentId::new(agent).map_err(told)?, changes)))
}

fn disable(user: &str) -> Result<SetUp, String> {
    let user = UserId::new(user).map_err(told)?;
    let changed = UserChanged { user, role: None, password: None, disabled: Some(true) };
    Ok(SetUp::system(Command::ChangeUser(changed)))
}

#[cfg(test)]
mod tests {
    use super::SetUp;
    use roundtable_core::command::Command;

    #[test]
    fn what_the_server_does_is_read() {
        for good in [
            "user ann password=pw role=editor",
            "agent a1 name=Helper owner=ann secret=s can=search,chat",
            "room lobby entry=private members=user:ann,agent:a1",
            "token $t mxf user:ann ttl=60s {\"agentId\":\"a1\"}",
            "key $k agent=a1 room=lobby ttl=1h",
            "key $k user=ann",
            "revoke $k",
            "suspend a1",
            "disable ann",
            "report activity",
            "health {\"component\":\"storage\",\"health\":\"degraded\",\"reason\":\"slow\"}",
            "measure cpu_usage 85.2 80 90",
            "status a1 busy task_assigned",
            "remove a1 manual_removal",
            "clear cpu",
            "log full",
        ] {
            assert!(SetUp::parse(good).is_ok(), "{good}: {:?}", SetUp::parse(good));
        }
    }

    #[test]
    fn what_it_cannot_do_is_refused() {
        for bad in [
            "dance",
            "user a/b",
            "user ann colour=red",
            "user ann loud",
            "user ann role=king",
            "room r members=ann",
            "token t mxf user:ann",
            "token $t other user:ann",
            "key $k user=ann room=r",
            "alert {}",
            "measure weather 3",
            "measure cpu_usage 3 4",
            "status a1 sleepy",
        ] {
            assert!(SetUp::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn secrets_are_hashed_on_their_way() {
        let Ok(SetUp::Ask(wishes)) = SetUp::parse("agent a1 secret=s") else { panic!("an agent") };
        let hashed = SetUp::hashed(&wishes, |secret| format!("hash of {secret}"));
        assert!(matches!(&hashed[1].command, Command::SetAgentSecret(_, hash) if hash == "hash of s"));
        assert_ne!(wishes, hashed);
    }
}

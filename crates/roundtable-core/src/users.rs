//! Accounts and keys: what the log knows of who may come in. Only hashes of secrets are kept.

use serde::{Deserialize, Serialize};

use crate::engine::{Context, Decision, Outcome};
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::ids::{AgentId, KeyId, Principal, RoomId, UserId};
use crate::rooms::RoomLeft;
use crate::state::State;
use crate::time::{Moment, Offset, Time};
use crate::{access, limits, names};

/// What a user may do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserRole {
    /// Takes part.
    #[default]
    Viewer,
    /// Also runs agents and rooms of others.
    Editor,
    /// Everything.
    Owner,
}

/// Which bearer of a name a credential was made for: whoever takes the name later is somebody else.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Incarnation {
    /// Where the record is that made the bearer, `agent.registered` or `user.added`; 0 for those that no record makes.
    pub born: Offset,
    /// Where its password or secret was replaced last; 0 if never.
    pub secret: Offset,
}

/// An account.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct User {
    /// Its name, which is its id.
    pub id: UserId,
    /// What it may do.
    pub role: UserRole,
    /// Hash of the password (argon2id, PHC text); without one nobody logs in by password.
    pub password: Option<String>,
    /// It may not come in.
    pub disabled: bool,
    /// Since when it exists.
    pub created_at: Time,
    /// Which bearer of the name it is.
    #[serde(default)]
    pub incarnation: Incarnation,
    /// When its password was replaced; tokens of 0.1.0, which do not name an incarnation, are older or younger than that.
    #[serde(default)]
    pub rotated_at: Option<Time>,
}

/// What a key opens.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyFor {
    /// Everything its user may do.
    User(UserId),
    /// One agent in one room (MXF channel key).
    Room {
        /// The agent that it makes of its bearer.
        agent: AgentId,
        /// The room it lets into.
        room: RoomId,
    },
}

/// A key.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Key {
    /// Its public half.
    pub id: KeyId,
    /// SHA-256 of the secret half, 64 hex digits: the secret has at least 128 random bits, so no slow hash is needed.
    pub hash: String,
    /// What it opens.
    pub opens: KeyFor,
    /// Its end, if it has one, as people are told.
    pub expires_at: Option<Time>,
    /// The same in log time.
    pub ends: Option<Time>,
    /// Shown name.
    pub name: String,
    /// Revoked.
    pub revoked: bool,
    /// Since when it exists.
    pub created_at: Time,
}

/// Event: the workspace began.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct WorkspaceCreated {
    /// Shown name.
    pub name: String,
    /// SHA-256 of the domain key, 64 hex digits.
    pub domain_key_hash: String,
}

/// Event: the workspace has another domain key.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DomainKeySet {
    /// SHA-256 of the new one, 64 hex digits.
    pub domain_key_hash: String,
}

/// Event and command: an account is made.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct UserAdded {
    /// Its name.
    pub user: UserId,
    /// What it may do.
    #[serde(default)]
    pub role: UserRole,
    /// Hash of the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// Event and command: what is given changes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct UserChanged {
    /// Whose account.
    pub user: UserId,
    /// New role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<UserRole>,
    /// New hash of the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Disabled or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
}

/// Event: an account was removed. What belonged to it belongs to nobody: whoever takes the name next is somebody else.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct UserRemoved {
    /// Whose.
    pub user: UserId,
}

/// Event and command: a key is made.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct KeyAdded {
    /// Its public half.
    pub key: KeyId,
    /// SHA-256 of its secret half, 64 hex digits.
    pub hash: String,
    /// What it opens.
    pub opens: KeyFor,
    /// Its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// Shown name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// Event: a key is revoked.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct KeyRevoked {
    /// Which.
    pub key: KeyId,
}

/// Event and command: a token is revoked.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TokenRevoked {
    /// The token's own id (claim `jti`).
    pub jti: String,
    /// Its end; after that it needs no remembering.
    pub expires_at: Time,
    /// Whose token it is, as the server knows it from the token itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer: Option<Principal>,
}

/// A token that is remembered because its bearer has no account that could be disabled.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct NotedToken {
    /// What was noted.
    pub noted: TokenNoted,
    /// When.
    pub at: Time,
    /// Its end in log time; after that it is forgotten.
    pub ends: Time,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Time>,
    /// Which bearer of the agent's name it is for.
    #[serde(default)]
    pub born: Offset,
}

/// Event and command: a token was made for somebody without an account.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TokenNoted {
    /// The token's own id (claim `jti`).
    pub jti: String,
    /// For whom.
    pub bearer: Principal,
    /// With which agent its bearer talks.
    pub agent: AgentId,
    /// Its end; after that it is forgotten.
    pub expires_at: Time,
}

pub(crate) fn note_token(state: &State, ctx: &Context, event: &TokenNoted) -> Result<Decision, Error> {
    operator(state, ctx)?;
    match &event.bearer {
        Principal::Visitor(visitor) if visitor.agent() == event.agent => {}
        _ => return Err(Error::invalid("bearer", "must be a visitor of the agent")),
    }
    let unknown = || Error::new(ErrorKind::AgentNotFound, format!("there is no agent {}", event.agent));
    state.agent(&event.agent).ok_or_else(unknown)?;
    Ok(Decision::of(Event::TokenNoted(event.clone())))
}

pub(crate) fn create_workspace(
    state: &State,
    ctx: &Context,
    event: &WorkspaceCreated,
) -> Result<Decision, Error> {
    if state.head.0 != 0 || ctx.actor != Principal::System {
        return Err(Error::new(ErrorKind::Conflict, "the workspace exists already"));
    }
    Ok(Decision::of(Event::WorkspaceCreated(event.clone())))
}

pub(crate) fn set_domain_key(ctx: &Context, hash: &str) -> Result<Decision, Error> {
    if ctx.actor != Principal::System {
        return Err(Error::forbidden("only the server's operator does this"));
    }
    Ok(Decision::of(Event::DomainKeySet(DomainKeySet { domain_key_hash: hash.to_owned() })))
}

fn operator(state: &State, ctx: &Context) -> Result<(), Error> {
    if access::may_operate(state, &ctx.actor) {
        return Ok(());
    }
    Err(Error::forbidden("only owners and editors do this"))
}

/// Nobody hands out more than they have.
fn no_more_than_own(state: &State, ctx: &Context, role: UserRole) -> Result<(), Error> {
    let own = ctx.actor.user().and_then(|id| state.user(id)).map(|u| u.role);
    if ctx.actor == Principal::System || own.is_some_and(|own| own >= role) {
        return Ok(());
    }
    Err(Error::forbidden("nobody hands out a role above their own"))
}

pub(crate) fn add(state: &State, ctx: &Context, event: &UserAdded) -> Result<Decision, Error> {
    operator(state, ctx)?;
    no_more_than_own(state, ctx, event.role)?;
    if event.user.as_str().len() > limits::MAX_NAME_CHARS {
        return Err(Error::invalid("username", "is too long"));
    }
    if state.user(&event.user).is_some() {
        let message = format!("user {} exists already", event.user);
        return Err(Error::new(ErrorKind::Conflict, message).field(names::USERNAME));
    }
    names::free(state, &ctx.actor, event.user.as_str(), names::USERNAME)?;
    Ok(Decision::of(Event::UserAdded(event.clone())))
}

pub(crate) fn change(state: &State, ctx: &Context, event: &UserChanged) -> Result<Decision, Error> {
    operator(state, ctx)?;
    let unknown = || Error::new(ErrorKind::UserNotFound, format!("there is no user {}", event.user));
    let found = state.user(&event.user).ok_or_else(unknown)?;
    no_more_than_own(state, ctx, found.role.max(event.role.unwrap_or_default()))?;
    Ok(Decision::of(Event::UserChanged(event.clone())))
}

pub(crate) fn remove(state: &State, ctx: &Context, user: &UserId) -> Result<Decision, Error> {
    operator(state, ctx)?;
    let unknown = || Error::new(ErrorKind::UserNotFound, format!("there is no user {user}"));
    let found = state.user(user).ok_or_else(unknown)?;
    no_more_than_own(state, ctx, found.role)?;
    let (mut decision, member) = (Decision::default(), Principal::User(user.clone()));
    for key in state.keys_of(&member).filter(|key| !key.revoked) {
        decision.event(Event::KeyRevoked(KeyRevoked { key: key.id.clone() }));
    }
    for room in state.rooms_of(&member) {
        decision.in_room(room, Event::RoomLeft(RoomLeft::of(state, &member)));
    }
    decision.event(Event::UserRemoved(UserRemoved { user: user.clone() }));
    Ok(decision)
}

pub(crate) fn add_key(state: &State, ctx: &Context, event: &KeyAdded) -> Result<Decision, Error> {
    if state.key(&event.key).is_some() {
        return Err(Error::new(ErrorKind::Conflict, "the key exists already"));
    }
    match &event.opens {
        KeyFor::User(user) => {
            let unknown = || Error::new(ErrorKind::UserNotFound, format!("there is no user {user}"));
            state.user(user).ok_or_else(unknown)?;
            if ctx.actor.user() != Some(user) {
                operator(state, ctx)?;
            }
        }
        KeyFor::Room { agent, room } => {
            let unknown = || Error::new(ErrorKind::RoomNotFound, format!("there is no room {room}"));
            let found = state.room(room).ok_or_else(unknown)?;
            if !access::may_manage_room(state, found, &ctx.actor) {
                return Err(Error::forbidden(format!("{} may not give keys to room {room}", ctx.actor.id())));
            }
            if state.agent(agent).is_some() {
                access::may_act_as(state, &ctx.actor, &Principal::Agent(agent.clone()))?;
            } else {
                names::free(state, &ctx.actor, agent.as_str(), "agentId")?;
            }
        }
    }
    Ok(Decision::of(Event::KeyAdded(event.clone())))
}

pub(crate) fn revoke_key(state: &State, ctx: &Context, key: &KeyId) -> Result<Decision, Error> {
    let unknown = || Error::new(ErrorKind::KeyNotFound, format!("there is no key {key}"));
    let found = state.key(key).ok_or_else(unknown)?;
    let own = match &found.opens {
        KeyFor::User(user) => ctx.actor.user() == Some(user),
        KeyFor::Room { room, .. } => {
            state.room(room).is_some_and(|room| access::may_manage_room(state, room, &ctx.actor))
        }
    };
    if !own {
        operator(state, ctx)?;
    }
    if found.revoked {
        return Ok(Decision::default());
    }
    Ok(Decision::of(Event::KeyRevoked(KeyRevoked { key: key.clone() })))
}

pub(crate) fn revoke_token(state: &State, ctx: &Context, event: &TokenRevoked) -> Result<Decision, Error> {
    let noted = state.noted_token(&event.jti).map(|token| &token.noted.bearer);
    if !access::may_revoke_token(state, &ctx.actor, noted.or(event.bearer.as_ref())) {
        return Err(Error::forbidden(format!("{} may not revoke this token", ctx.actor.id())));
    }
    if state.token_revoked(&event.jti) {
        let mut decision = Decision::default();
        decision.outcome(Outcome::Repeated(Box::new(Outcome::Done)));
        return Ok(decision);
    }
    Ok(Decision::of(Event::TokenRevoked(event.clone())))
}

impl Key {
    /// Whether it is past its end: by log time, or by the wall clock that its maker meant. Refusing undoes nothing, so a wall
    /// clock that is wrong does no harm that lasts.
    pub fn is_over(&self, now: Moment) -> bool {
        self.ends.is_some_and(|end| end <= now.t) || self.expires_at.is_some_and(|end| end <= now.at)
    }

    /// Whom the key makes of its bearer.
    pub fn bearer(&self) -> Principal {
        match &self.opens {
            KeyFor::User(user) => Principal::User(user.clone()),
            KeyFor::Room { agent, .. } => Principal::Agent(agent.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{TokenNoted, TokenRevoked};
    use crate::event::{Event, Record};
    use crate::ids::{AgentId, Principal, VisitorId};
    use crate::state::State;
    use crate::time::Time;

    fn apply(state: &mut State, at: i64, event: Event) {
        let (offset, actor) = (state.head.next(), Principal::System);
        state.apply(&Record {
            offset,
            room_seq: None,
            at: Time(at),
            t: Time(at),
            actor,
            room: None,
            client: None,
            event,
        });
    }

    #[test]
    fn noted_tokens_show_their_end_and_are_forgotten_after_it() {
        let noted = |jti: &str, end| {
            Event::TokenNoted(TokenNoted {
                jti: jti.into(),
                bearer: Principal::Visitor(VisitorId::new(&AgentId::new("a").unwrap(), "g").unwrap()),
                agent: AgentId::new("a").unwrap(),
                expires_at: Time(end),
            })
        };
        let mut state = State::default();
        apply(&mut state, 1, noted("x", 10));
        apply(&mut state, 2, noted("y", 100));
        let revoked = TokenRevoked { jti: "y".into(), expires_at: Time(100), bearer: None };
        apply(&mut state, 3, Event::TokenRevoked(revoked));
        let shown: Vec<_> = state.noted_tokens().map(|t| (t.noted.jti.as_str(), t.revoked_at)).collect();
        assert_eq!(shown, [("x", None), ("y", Some(Time(3)))]);
        apply(&mut state, 50, noted("z", 100));
        assert_eq!(state.noted_tokens().map(|t| t.noted.jti.as_str()).collect::<Vec<_>>(), ["y", "z"]);
    }
}

//! Keys and tokens, by the operator.

use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::response::Response;
use roundtable_core::command::Command;
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::ids::{AgentId, KeyId, NodeId, Principal, RoomId, UserId};
use roundtable_core::state::State;
use roundtable_core::users::{KeyAdded, KeyFor, TokenRevoked};
use roundtable_dialects::iso::iso;
use roundtable_dialects::rest::TokenOrder;
use roundtable_dialects::session::Family;

use crate::admin::answer::{Refused, body, json_response};
use crate::admin::asked::Named;
use crate::admin::claims::claims;
use crate::admin::wire::{
    AddKey, AddedKey, IssueToken, IssuedToken, RevokeToken, RevokedKey, RevokedToken, TokenDialect,
};
use crate::admin::{Desk, Office, Whole};
use crate::auth::keys::FreshKey;
use crate::auth::tokens::Claims;
use crate::clock;
use crate::config;

fn wrong(message: &'static str) -> Refused {
    Error::new(ErrorKind::InvalidField, message).into()
}

fn misfit(message: &'static str) -> Refused {
    Error::new(ErrorKind::Conflict, message).into()
}

/// `POST /keys`.
pub async fn add_key<O: Office>(Desk(admin): Desk<O>, bytes: Bytes) -> Result<Response, Refused> {
    let wanted: AddKey = body(&bytes)?;
    let opens = match (wanted.user, wanted.agent, wanted.room) {
        (Some(user), None, None) => KeyFor::User(UserId::new(&user)?),
        (None, Some(agent), Some(room)) => {
            let agent = AgentId::new(&agent)?;
            // An agent may also be known by its key alone; here that would most often be a slip of the pen.
            exists(&admin.office.state(), &Principal::Agent(agent.clone()))?;
            KeyFor::Room { agent, room: RoomId::new(&room)? }
        }
        _ => return Err(wrong("a key is for a user, or for an agent and a room")),
    };
    let drawn = match opens {
        KeyFor::User(_) => FreshKey::for_user(),
        KeyFor::Room { .. } => FreshKey::for_room(),
    };
    let fresh = drawn.ok_or_else(|| Error::new(ErrorKind::Internal, "no key could be drawn"))?;
    let life = wanted.ttl_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX));
    let expires_at = life.map(|ms| clock::now().plus(ms));
    let (key, hash, name) = (fresh.id.clone(), fresh.hash.clone(), wanted.name);
    admin.command(Command::AddKey(KeyAdded { key, hash, opens, expires_at, name })).await?;
    let (key_id, key) = (fresh.id.to_string(), fresh.whole());
    Ok(json_response(201, &AddedKey { key_id, secret: fresh.secret, key }))
}

/// `DELETE /keys/{id}`.
pub async fn revoke_key<O: Office>(Desk(admin): Desk<O>, Named(id): Named) -> Result<Response, Refused> {
    admin.command(Command::RevokeKey(KeyId::new(&id)?)).await?;
    Ok(json_response(200, &RevokedKey { key_id: id }))
}

/// `POST /tokens`. Whom it is for must exist, nodes excepted: they are whoever has such a token.
pub async fn issue<O: Office>(Desk(admin): Desk<O>, bytes: Bytes) -> Result<Response, Refused> {
    let wanted: IssueToken = body(&bytes)?;
    let (subject, usual) = match (wanted.user, wanted.agent, wanted.node) {
        (Some(user), None, None) => (Principal::User(UserId::new(&user)?), TokenDialect::MegaBot),
        (None, Some(agent), None) => (Principal::Agent(AgentId::new(&agent)?), TokenDialect::Aiwm),
        (None, None, Some(node)) => (Principal::Node(NodeId::new(&node)?), TokenDialect::OpenAgi),
        _ => return Err(wrong("a token is for one user, one agent or one node")),
    };
    let state = admin.office.state();
    exists(&state, &subject)?;
    let at_home = admin.office.is_default();
    // Where MegaBot and Hive are not, AIWM is what a user has.
    let usual = if !at_home && usual == TokenDialect::MegaBot { TokenDialect::Aiwm } else { usual };
    let (family, life) = family(wanted.dialect.unwrap_or(usual), &admin.config.load().auth);
    if !at_home && !matches!(family, Family::Mxf | Family::Aiwm) {
        return Err(misfit("Hive, MegaBot and Open-A.G.I work in the default workspace alone"));
    }
    if family != Family::OpenAgi && matches!(subject, Principal::Node(_)) {
        return Err(misfit("only Open-A.G.I knows nodes"));
    }
    let ttl_s = wanted.ttl_ms.map_or_else(|| life.seconds(), seconds);
    if ttl_s == 0 {
        return Err(wrong("a token lives at least a second"));
    }
    let workspace = admin.office.workspace();
    let claims = claims(family, &subject, &state, &workspace);
    let mut incarnation = state.incarnation(&subject).unwrap_or_default();
    if matches!(subject, Principal::Node(_)) {
        // That the operator makes it is the approval.
        incarnation.born = state.head;
    }
    let order = TokenOrder { family, subject, incarnation, workspace, ttl_s, claims };
    let issued = admin.identifier.issue(&order)?;
    Ok(json_response(201, &IssuedToken { token: issued.token, expires_at: iso(issued.expires_at) }))
}

fn seconds(ms: u64) -> u32 {
    u32::try_from(ms / 1000).unwrap_or(u32::MAX)
}

fn family(dialect: TokenDialect, lives: &config::Auth) -> (Family, config::Span) {
    match dialect {
        TokenDialect::Mxf => (Family::Mxf, lives.mxf_token),
        TokenDialect::Aiwm => (Family::Aiwm, lives.aiwm_token),
        TokenDialect::Hive | TokenDialect::MegaBot => (Family::Login, lives.login_token),
        TokenDialect::OpenAgi => (Family::OpenAgi, lives.openagi_token),
    }
}

/// Fails when a user or an agent is not there.
pub fn exists(state: &State, subject: &Principal) -> Result<(), Error> {
    match subject {
        Principal::User(id) if state.user(id).is_none() => {
            Err(Error::new(ErrorKind::UserNotFound, format!("there is no user {id}")))
        }
        Principal::Agent(id) if state.agent(id).is_none() => {
            Err(Error::new(ErrorKind::AgentNotFound, format!("there is no agent {id}")))
        }
        _ => Ok(()),
    }
}

/// `POST /tokens/revoke`: in the workspace that the token is of.
pub async fn revoke<O: Office>(Shared(admin): Whole<O>, bytes: Bytes) -> Result<Response, Refused> {
    let RevokeToken { token } = body(&bytes)?;
    let unknown = || {
        let message = "this server made no such token, or it has ended";
        Refused { status: 404, error: Error::new(ErrorKind::InvalidField, message).field("token") }
    };
    let Claims { workspace, jti, expires_at, .. } = admin.identifier.read_any(&token).ok_or_else(unknown)?;
    let office = admin.office.within(&workspace).ok_or_else(unknown)?;
    let event = TokenRevoked { jti: jti.clone(), expires_at, bearer: None };
    office.ask(Principal::System, Command::RevokeToken(event)).await?;
    Ok(json_response(200, &RevokedToken { jti }))
}

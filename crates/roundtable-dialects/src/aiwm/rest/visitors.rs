//! REST of visitors' tokens: for somebody without an account, to talk with one agent (notes §9, §10).

use roundtable_core::access;
use roundtable_core::agents::Agent;
use roundtable_core::command::Command;
use roundtable_core::ids::{Principal, VisitorId};
use roundtable_core::names;
use roundtable_core::state::State;
use roundtable_core::users::{NotedToken, TokenNoted, TokenRevoked};
use serde::Deserialize;
use serde_json::json;

use super::lists::Part;
use super::start::agent;
use super::{Answer, Failure, ask, body, nothing, state_of};
use crate::iso::iso;
use crate::pages::{Filling, MOST_ITEMS};
use crate::rest::{Desk, Request, Response, TokenOrder};
use crate::session::{Family, Identity};

/// How long a visitor's token may live, in seconds: a year.
const MOST_VISITOR_S: u32 = 365 * 86_400;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Visitor {
    anonymous_id: Option<String>,
    expires_in: Option<u32>,
}

/// The agent, if the asker hands out tokens for it.
fn served<'a>(state: &'a State, id: &str, who: &Identity) -> Result<&'a Agent, Failure> {
    let found = agent(state, id)?;
    if !access::may_operate(state, &who.principal) {
        return Err(Failure::new(403, "Only owners and editors hand out visitors' tokens"));
    }
    Ok(found)
}

/// Whether a token was made for a visitor of this agent, and of none that had its id before.
fn is_of(token: &NotedToken, agent: &Agent) -> bool {
    token.noted.agent == agent.id && token.born == agent.incarnation.born
}

/// `POST /agents/:id/anonymous-token`: shown this once.
pub(super) async fn make(id: &str, request: &Request<'_>, who: &Identity, desk: &impl Desk) -> Answer {
    let Visitor { anonymous_id, expires_in } =
        if request.body.trim_ascii().is_empty() { Visitor::default() } else { body(request)? };
    let state = state_of(who, desk)?;
    let agent = served(&state, id, who)?.id.clone();
    let drawn = || format!("anon_{:016x}", desk.random() as u64);
    let name = anonymous_id.unwrap_or_else(drawn);
    let visitor = VisitorId::new(&agent, &name)
        .map_err(|_| Failure::invalid("anonymousId must be 1 to 128 characters of A-Z a-z 0-9 . _ : @ -"))?;
    if names::is_reserved(&state, &name) || state.bearer_of(&name).is_some() {
        return Err(Failure::new(409, "anonymousId is the name of somebody else"));
    }
    let ttl_s = expires_in.unwrap_or_else(|| desk.lifetime_s(Family::Aiwm));
    if !(1..=MOST_VISITOR_S).contains(&ttl_s) {
        return Err(Failure::invalid("expiresIn must be a number of seconds, at most a year"));
    }
    let bearer = Principal::Visitor(visitor);
    let incarnation = state.incarnation(&bearer).unwrap_or_default();
    let token = desk.issue(TokenOrder {
        family: Family::Aiwm,
        subject: bearer.clone(),
        incarnation,
        workspace: who.workspace.clone(),
        ttl_s,
        claims: json!({
            "type": "anonymous", "anonymousId": name, "agentId": id, "orgId": who.workspace.as_str(),
        }),
    })?;
    let (jti, expires_at) = (token.jti.clone(), token.expires_at);
    ask(desk, who, Command::NoteToken(TokenNoted { jti, bearer, agent, expires_at })).await?;
    let answer = json!({
        "token": token.token, "anonymousId": name, "expiresIn": ttl_s, "expiresAt": iso(expires_at),
        "tokenId": token.jti,
    });
    Ok(Response::json(200, &answer))
}

/// `GET /agents/:id/anonymous-tokens`: without the tokens themselves.
pub(super) fn list(id: &str, request: &Request<'_>, who: &Identity, desk: &impl Desk) -> Answer {
    let part = Part::of(request, MOST_ITEMS)?;
    let state = state_of(who, desk)?;
    let agent = served(&state, id, who)?;
    let of_agent = || state.noted_tokens().filter(|token| is_of(token, agent));
    let (now, total) = (desk.now(), of_agent().count());
    let mut filling = Filling::of(part.limit);
    let _ = of_agent()
        .skip(part.skip)
        .map(|token| {
            let here = state.presence(&token.noted.bearer).filter(|presence| presence.online());
            json!({
                "tokenId": token.noted.jti,
                "createdAt": iso(token.at),
                "lastConnectedAt": here.map(|presence| iso(presence.last_seen)),
                "expiresAt": iso(token.noted.expires_at),
                "revokedAt": token.revoked_at.map(iso),
                "isActive": token.revoked_at.is_none() && token.noted.expires_at > now,
            })
        })
        .all(|item| filling.take(&item));
    let end = part.skip.saturating_add(filling.len());
    let mut answer = json!({ "total": total, "items": filling.items() });
    if let Some(members) = answer.as_object_mut().filter(|_| end < total) {
        members.insert("next".into(), end.into());
    }
    Ok(Response::json(200, &answer))
}

/// `DELETE /agents/:id/anonymous-tokens/:tokenId`: its connections end.
pub(super) async fn revoke((id, token): (&str, &str), who: &Identity, desk: &impl Desk) -> Answer {
    let state = state_of(who, desk)?;
    let agent = served(&state, id, who)?;
    let found = state.noted_token(token).filter(|token| is_of(token, agent));
    let Some(noted) = found.map(|token| &token.noted) else {
        return Err(Failure::new(404, "Token not found"));
    };
    let revoked = TokenRevoked {
        jti: noted.jti.clone(),
        expires_at: noted.expires_at,
        bearer: Some(noted.bearer.clone()),
    };
    ask(desk, who, Command::RevokeToken(revoked)).await?;
    Ok(nothing())
}

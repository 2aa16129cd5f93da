//! Login over REST, shared with the dashboards' front-end: `/api/auth/login`, `refresh`, `logout`, `me`; whole messages
//! (MegaBot notes §3).

use std::borrow::Cow;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use roundtable_core::command::Command;
use roundtable_core::engine::Outcome;
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::ids::{MessageId, Principal};
use roundtable_core::state::State;
use roundtable_core::time::Time;
use roundtable_core::users::{TokenRevoked, UserRole};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::encode;
use crate::iso::iso;
use crate::rest::{Desk, IssuedToken, Request, Response, Served, TokenOrder, Unserved, methods_of};
use crate::session::{
    Ask, Credential, Credentials, Family, Identity, Proof, Refusal, Token, bearer, query_value,
};

/// What a client may call itself at login; the first is the default.
const CLIENT_TYPES: [&str; 4] = ["Human", "Agent", "Service", "Admin"];

/// Why a request fails: the status, what people read, and when to try again.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Failure {
    status: u16,
    error: Cow<'static, str>,
    retry_after_s: Option<u64>,
}

impl Failure {
    const fn new(status: u16, error: &'static str) -> Self {
        Self { status, error: Cow::Borrowed(error), retry_after_s: None }
    }

    /// Credentials that do not open. What is said never tells a wrong password from an unknown user.
    fn refused(refusal: Refusal, said: &'static str) -> Self {
        match refusal {
            Refusal::TooManyFailures(_) => {
                let retry_after_s = refusal.retry_after_s();
                let wait = retry_after_s.unwrap_or_default();
                let error = format!("Too many failed attempts: try again in {wait} s").into();
                Self { status: 429, error, retry_after_s }
            }
            Refusal::Missing => Self::new(401, "Authentication required"),
            Refusal::Expired => Self::new(401, "Token expired"),
            _ => Self::new(401, said),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error.kind {
            ErrorKind::Unavailable => Self::new(503, "Temporarily unavailable"),
            _ => Self::new(500, "Internal error"),
        }
    }
}

type Answer = Result<Value, Failure>;

/// What is served under `/api/`.
pub const SERVED: &[Served] = &[
    ("auth/login", &["POST"]),
    ("auth/refresh", &["POST"]),
    ("auth/logout", &["POST"]),
    ("auth/me", &["GET"]),
    ("messages/:", &["GET"]),
];

/// Answers a request under `/api/auth/` and `/api/messages/`. `None`: not one of these paths.
pub async fn handle(request: &Request<'_>, desk: &impl Desk) -> Option<Response> {
    let parts: Vec<&str> = request.path.strip_prefix("/api/")?.split('/').collect();
    let allowed = methods_of(SERVED, &parts)?;
    if !allowed.contains(&request.method) {
        let failure = Failure::new(405, "Method not allowed");
        return Some(told(Err(failure), request).header("Allow", allowed.join(", ")));
    }
    let answer = match parts.as_slice() {
        ["messages", id] => message(id, request, desk).await,
        ["auth", "login"] => login(request, desk).await,
        ["auth", "refresh"] => refresh(request, desk).await,
        ["auth", "logout"] => logout(request, desk).await,
        _ => me(request, desk).await,
    };
    Some(told(answer, request))
}

/// Whether a path is where somebody logs in.
pub fn logs_in(path: &str) -> bool {
    path.starts_with("/api/auth/")
}

/// A request under `/api/auth` or `/api/messages` that no handler gets.
pub fn unserved(request: &Request<'_>, why: Unserved) -> Response {
    told(Err(Failure::new(why.status(), why.message())), request)
}

fn told(answer: Answer, request: &Request<'_>) -> Response {
    match answer {
        Ok(body) => Response::json(200, &body),
        Err(failure) => {
            let (status, error) = (failure.status, failure.error);
            let body = json!({
                "error": error, "message": error, "code": status, "request_id": request.request_id,
            });
            let response = Response::json(status, &body);
            match failure.retry_after_s {
                Some(seconds) => response.header("retry-after", seconds.to_string()),
                None => response,
            }
        }
    }
}

fn body<'a, T: Deserialize<'a>>(request: &Request<'a>) -> Result<T, Failure> {
    serde_json::from_slice(request.body).map_err(|_| Failure::new(400, "Invalid request body"))
}

async fn login(request: &Request<'_>, desk: &impl Desk) -> Answer {
    #[derive(Deserialize)]
    struct Login {
        username: String,
        password: String,
        client_type: Option<String>,
    }
    let Login { username, password, client_type } = body(request)?;
    let client_type = match client_type {
        None => CLIENT_TYPES.first().copied(),
        Some(asked) => CLIENT_TYPES.into_iter().find(|known| *known == asked),
    };
    let client_type = client_type.ok_or(Failure::new(400, "Invalid client_type"))?;
    if username.is_empty() || password.is_empty() {
        return Err(Failure::new(400, "Username and password are required"));
    }
    let credentials = Credentials { domain_key: None, proof: Proof::Password { username, password } };
    let who = desk.identify(credentials, request.peer).await;
    let who = who.map_err(|refusal| Failure::refused(refusal, "Invalid credentials"))?;
    let user = user(desk, &who, client_type)?;
    let login = format!("login-{:032x}", desk.random());
    let token = issue(desk, Family::Login, &who, &login)?;
    let again = issue(desk, Family::Refresh, &who, &login)?;
    Ok(json!({
        "token": token.token, "refresh_token": again.token, "token_type": "bearer",
        "expires_in": desk.lifetime_s(Family::Login), "expires_at": iso(token.expires_at), "user": user,
    }))
}

async fn refresh(request: &Request<'_>, desk: &impl Desk) -> Answer {
    #[derive(Deserialize)]
    struct Refresh {
        refresh_token: String,
        #[serde(default)]
        rotate: bool,
    }
    const BAD: &str = "Invalid refresh token";
    let Refresh { refresh_token, rotate } = body(request)?;
    let login = login_of(&refresh_token).ok_or(Failure::new(401, BAD))?;
    let proof = Proof::Token(Family::Refresh, refresh_token);
    let who = desk.identify(Credentials { domain_key: None, proof }, request.peer).await;
    let who = who.map_err(|refusal| Failure::refused(refusal, BAD))?;
    if state(desk, &who)?.token_revoked(&login) {
        return Err(Failure::new(401, BAD));
    }
    let mut rotated = None;
    if rotate && let Credential::Token { jti } = &who.credential {
        let first = revoke(desk, &who, jti, who.expires_at.unwrap_or(desk.now())).await?;
        if !first {
            return Err(Failure::new(401, BAD));
        }
        rotated = Some(issue(desk, Family::Refresh, &who, &login)?.token);
    }
    let token = issue(desk, Family::Login, &who, &login)?;
    let mut told = json!({
        "success": true, "token": token.token, "expires_in": desk.lifetime_s(Family::Login),
        "expires_at": iso(token.expires_at), "request_id": request.request_id,
    });
    if let (Some(token), Some(fields)) = (rotated, told.as_object_mut()) {
        fields.insert("refresh_token".to_owned(), token.into());
    }
    Ok(told)
}

/// The token dies, and with it the refresh token of the same login: both name the login.
async fn logout(request: &Request<'_>, desk: &impl Desk) -> Answer {
    let (who, token) = shown(request, desk).await?;
    if let Credential::Token { jti } = &who.credential {
        let now = desk.now();
        let refresh_ends = now.plus(i64::from(desk.lifetime_s(Family::Refresh)) * 1_000);
        if let Some(login) = login_of(&token) {
            revoke(desk, &who, &login, refresh_ends).await?;
        }
        revoke(desk, &who, jti, who.expires_at.unwrap_or(now)).await?;
    }
    Ok(json!({"success": true, "message": "Logged out", "request_id": request.request_id}))
}

/// `GET /api/messages/{id}`: the whole of a message that did not fit into one frame (protocol README §3).
async fn message(id: &str, request: &Request<'_>, desk: &impl Desk) -> Answer {
    let (who, _) = shown(request, desk).await?;
    let missing = Failure::new(404, "No such message");
    let Ok(id) = MessageId::new(id) else { return Err(missing) };
    let found = desk.find(&who, &id).await?.ok_or(missing.clone())?;
    encode::whole(&found).ok_or(missing)
}

async fn me(request: &Request<'_>, desk: &impl Desk) -> Answer {
    let (who, _) = shown(request, desk).await?;
    let client_type = CLIENT_TYPES.first().copied().unwrap_or_default();
    Ok(json!(user(desk, &who, client_type)?))
}

/// Who sent the request, and the token that says so, if it is one.
async fn shown(request: &Request<'_>, desk: &impl Desk) -> Result<(Identity, String), Failure> {
    let in_query = |name| query_value(request.query, name);
    let header = || request.authorization.and_then(bearer).map(str::to_owned);
    let proof = super::login::shown(in_query("token"), in_query("api_key"))
        .or_else(|| header().map(|text| Proof::Bearer(Family::Login, text)))
        .or_else(|| request.api_key.map(|key| Proof::ApiKey(key.to_owned())));
    let proof = proof.ok_or(Failure::new(401, "Authentication required"))?;
    let token = if let Proof::Bearer(_, text) = &proof { text.clone() } else { String::new() };
    let who = desk.identify(Credentials { domain_key: None, proof }, request.peer).await;
    who.map(|who| (who, token)).map_err(|refusal| Failure::refused(refusal, "Invalid token"))
}

#[derive(Serialize)]
struct User {
    id: String,
    username: String,
    roles: [&'static str; 1],
    permissions: &'static [&'static str],
    client_type: &'static str,
}

fn state(desk: &impl Desk, who: &Identity) -> Result<std::sync::Arc<State>, Failure> {
    desk.state(&who.workspace).ok_or(Failure::new(500, "Internal error"))
}

fn user(desk: &impl Desk, who: &Identity, client_type: &'static str) -> Result<User, Failure> {
    let state = state(desk, who)?;
    let role = role_of(&who.principal, &state);
    let permissions: &[&str] = match role {
        UserRole::Viewer => &["read", "chat"],
        UserRole::Editor => &["read", "chat", "operate"],
        UserRole::Owner => &["read", "chat", "operate", "admin"],
    };
    let id = who.principal.id().to_owned();
    Ok(User { username: id.clone(), id, roles: [role_name(role)], permissions, client_type })
}

fn role_of(who: &Principal, state: &State) -> UserRole {
    who.user().and_then(|id| state.user(id)).map_or(UserRole::Viewer, |user| user.role)
}

const fn role_name(role: UserRole) -> &'static str {
    match role {
        UserRole::Viewer => "viewer",
        UserRole::Editor => "editor",
        UserRole::Owner => "owner",
    }
}

fn issue(desk: &impl Desk, family: Family, who: &Identity, login: &str) -> Result<IssuedToken, Failure> {
    let role = role_name(role_of(&who.principal, &*state(desk, who)?));
    let order = TokenOrder {
        family,
        subject: who.principal.clone(),
        incarnation: who.incarnation,
        workspace: who.workspace.clone(),
        ttl_s: desk.lifetime_s(family),
        claims: json!({"username": who.principal.id(), "roles": [role], "login": login}),
    };
    Ok(desk.issue(order)?)
}

/// Makes a token, or all refresh tokens of a login, worthless. False if somebody else did that before.
async fn revoke(desk: &impl Desk, who: &Identity, jti: &str, expires_at: Time) -> Result<bool, Failure> {
    let command = Command::RevokeToken(TokenRevoked {
        jti: jti.to_owned(),
        expires_at,
        bearer: Some(who.principal.clone()),
    });
    let (outcome, _) = desk.ask(who, Ask::new(Token(0), command)).await?;
    Ok(!matches!(outcome, Outcome::Repeated(_)))
}

/// The login that a token belongs to, as it says itself; only believed once the token is known to be good.
fn login_of(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        login: String,
    }
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice::<Claims>(&claims).ok().map(|claims| claims.login)
}

#[cfg(test)]
mod tests;

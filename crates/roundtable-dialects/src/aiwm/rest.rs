//! REST under `/dev/aiwm`: login, agents, conversations, messages (notes §2, §10). One shape for errors, one for lists.

mod agents;
mod conversations;
mod lists;
mod messages;
mod start;
mod visitors;

use std::sync::Arc;

use roundtable_core::command::Command;
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::ids::{Principal, UserId};
use roundtable_core::state::State;
use roundtable_core::users::UserRole;
use serde::Deserialize;
use serde_json::{Value, json};

use super::errors::{self, AtDoor, Body};
use crate::iso::iso;
use crate::rest::{Desk, Request, Response, Served, TokenOrder, Unserved, decoded, methods_of};
use crate::session::{Ask, Credentials, Family, Identity, Proof, Refusal, Token, bearer, query_value};

/// Why a request fails.
#[derive(Clone, PartialEq, Debug)]
struct Failure {
    status: u16,
    message: String,
    errors: Vec<String>,
    retry_after_s: Option<u64>,
}

impl Failure {
    fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), errors: Vec::new(), retry_after_s: None }
    }

    /// A body that is not as it must be.
    fn invalid(error: impl Into<String>) -> Self {
        let error = error.into();
        Self { errors: vec![error.clone()], ..Self::new(400, error) }
    }

    /// A token that does not open.
    fn at_door(refusal: Refusal) -> Self {
        let AtDoor { message, status, retry_after_s, .. } = errors::at_door(refusal);
        Self { retry_after_s, ..Self::new(status, message) }
    }
}

/// What the engine refused.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match error.kind {
            ErrorKind::InvalidField => 400,
            ErrorKind::Unauthenticated | ErrorKind::InvalidCredential | ErrorKind::CredentialExpired => 401,
            ErrorKind::Suspended | ErrorKind::Forbidden => 403,
            ErrorKind::RoomNotFound
            | ErrorKind::AgentNotFound
            | ErrorKind::UserNotFound
            | ErrorKind::MessageNotFound
            | ErrorKind::KeyNotFound => 404,
            ErrorKind::RoomClosed | ErrorKind::Conflict | ErrorKind::CannotResume => 409,
            ErrorKind::TooLarge => 413,
            ErrorKind::RateLimited => 429,
            ErrorKind::Internal => 500,
            ErrorKind::Unavailable => 503,
            ErrorKind::QuotaExceeded => 507,
        };
        let message = if status == 500 { "Internal server error".into() } else { error.message.into_owned() };
        let retry_after_s = error.retry_after_ms.map(|ms| ms.div_ceil(1000).max(1));
        Self { retry_after_s, ..Self::new(status, message) }
    }
}

type Answer = Result<Response, Failure>;

/// Answers a request under `/dev/aiwm`. `None`: not one of these paths (the sockets' own are not).
pub async fn handle(request: &Request<'_>, desk: &impl Desk) -> Option<Response> {
    let path = request.path.strip_prefix("/dev/aiwm/")?;
    let parts: Vec<String> = path.trim_end_matches('/').split('/').map(decoded).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    if let Some(allowed) = methods_of(SERVED, &parts).filter(|allowed| !allowed.contains(&request.method)) {
        let failure = Failure::new(405, format!("Cannot {} {}", request.method, request.path));
        return Some(refused(&failure, request, desk).header("Allow", allowed.join(", ")));
    }
    let answer = match (request.method, parts.as_slice()) {
        ("GET", ["chat"]) => plain_socket(request, desk).await,
        (_, ["chat", ..] | ["ws", "socket.io", ..]) => return None,
        ("POST", ["auth", "login"]) => login(request, desk).await,
        (_, ["agents", rest @ ..]) => agents::handle(rest, request, desk).await,
        (_, ["conversations", rest @ ..]) => conversations::handle(rest, request, desk).await,
        (_, ["messages", rest @ ..]) => messages::handle(rest, request, desk).await,
        ("GET", ["ws"]) => Ok(about(desk)),
        ("GET", ["ws", "health"]) => Ok(health(desk)),
        _ => Err(nothing_here(request)),
    };
    Some(match answer {
        Ok(response) => response.header("x-correlation-id", request.request_id),
        Err(failure) => refused(&failure, request, desk),
    })
}

/// Whether a path is where somebody logs in.
pub fn logs_in(path: &str) -> bool {
    let inner = path.strip_prefix("/dev/aiwm/").map(|inner| inner.trim_end_matches('/'));
    inner.is_some_and(|inner| {
        inner == "auth/login" || (inner.starts_with("agents/") && inner.ends_with("/connect"))
    })
}

/// What is served under `/dev/aiwm/`.
pub const SERVED: &[Served] = &[
    ("chat", &["GET"]),
    ("ws", &["GET"]),
    ("ws/health", &["GET"]),
    ("auth/login", &["POST"]),
    ("agents", &["GET", "POST"]),
    ("agents/:/connect", &["POST"]),
    ("agents/:/heartbeat", &["POST"]),
    ("agents/:/disconnect", &["POST"]),
    ("agents/:/credentials/regenerate", &["POST"]),
    ("agents/:/config", &["GET"]),
    ("agents/:/anonymous-token", &["POST"]),
    ("agents/:/anonymous-tokens", &["GET"]),
    ("agents/:/anonymous-tokens/:", &["DELETE"]),
    ("agents/:", &["GET", "PUT", "DELETE"]),
    ("conversations", &["GET", "POST"]),
    ("conversations/my-conversations", &["GET"]),
    ("conversations/agent/:", &["GET"]),
    ("conversations/:/archive", &["POST"]),
    ("conversations/:/close", &["POST"]),
    ("conversations/:/summary", &["POST"]),
    ("conversations/:/participants", &["POST"]),
    ("conversations/:/participants/:/:", &["DELETE"]),
    ("conversations/:", &["GET", "PUT", "DELETE"]),
    ("messages", &["POST"]),
    ("messages/thread/:", &["GET"]),
    ("messages/conversation/:/*", &["GET"]),
    ("messages/:", &["GET", "DELETE"]),
];

/// A request under `/dev/aiwm` that no handler gets.
pub fn unserved(request: &Request<'_>, desk: &impl Desk, why: Unserved) -> Response {
    let failure = match why {
        Unserved::UnknownPath => nothing_here(request),
        _ => Failure::new(why.status(), why.message()),
    };
    refused(&failure, request, desk)
}

fn nothing_here(request: &Request<'_>) -> Failure {
    Failure::new(404, format!("Cannot {} {}", request.method, request.path))
}

fn refused(failure: &Failure, request: &Request<'_>, desk: &impl Desk) -> Response {
    let body = Body {
        status_code: failure.status,
        message: &failure.message,
        timestamp: iso(desk.now()),
        path: request.path,
        correlation_id: request.request_id,
        errors: &failure.errors,
    };
    let response = Response::json(failure.status, &body).header("x-correlation-id", request.request_id);
    match failure.retry_after_s {
        Some(seconds) => response.header("Retry-After", seconds.to_string()),
        None => response,
    }
}

/// The body, which must be an object.
fn body<'a, T: Deserialize<'a>>(request: &Request<'a>) -> Result<T, Failure> {
    if request.body.trim_ascii_start().first() != Some(&b'{') {
        return Err(Failure::invalid("the body must be a JSON object"));
    }
    serde_json::from_slice(request.body)
        .map_err(|e| Failure::invalid(format!("the body is not as expected: {e}")))
}

#[derive(Deserialize)]
struct Login {
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
}

async fn login(request: &Request<'_>, desk: &impl Desk) -> Answer {
    let Login { username, password } = body(request)?;
    let given = |field: Option<String>, name: &str| {
        field.filter(|text| !text.is_empty()).ok_or_else(|| Failure::invalid(format!("{name} is required")))
    };
    let (username, password) = (given(username, "username")?, given(password, "password")?);
    let proof = Proof::Password { username, password };
    let identity = match desk.identify(Credentials { domain_key: None, proof }, request.peer).await {
        Ok(identity) => identity,
        Err(Refusal::Suspended) => return Err(Failure::new(403, "Account is disabled")),
        Err(refusal @ Refusal::TooManyFailures(_)) => return Err(Failure::at_door(refusal)),
        Err(_) => return Err(Failure::new(401, "Invalid credentials")),
    };
    let (Some(user), Some(state)) = (identity.principal.user(), desk.state(&identity.workspace)) else {
        return Err(Failure::new(401, "Invalid credentials"));
    };
    let roles = roles(&state, user);
    let org = identity.workspace.as_str();
    let claims = json!({
        "username": user.as_str(), "status": "active", "roles": roles, "orgId": org,
        "groupId": "", "agentId": "", "appId": "",
    });
    let ttl_s = desk.lifetime_s(Family::Aiwm);
    let token = desk.issue(TokenOrder {
        family: Family::Aiwm,
        subject: identity.principal.clone(),
        incarnation: identity.incarnation,
        workspace: identity.workspace.clone(),
        ttl_s,
        claims,
    })?;
    Ok(Response::json(
        200,
        &json!({
            "accessToken": token.token,
            "expiresIn": ttl_s,
            "tokenType": "bearer",
            "user": { "id": user.as_str(), "username": user.as_str(), "roles": roles, "orgId": org },
        }),
    ))
}

/// The roles of a user in this dialect's words.
fn roles(state: &State, user: &UserId) -> [&'static str; 1] {
    [match state.user(user).map(|user| user.role).unwrap_or_default() {
        UserRole::Owner => "organization.owner",
        UserRole::Editor => "organization.editor",
        UserRole::Viewer => "organization.viewer",
    }]
}

/// The token of a request: its `Authorization` header without `Bearer `, else `?token=` (notes §3).
pub fn token_of(authorization: Option<&str>, query: &str) -> Option<String> {
    let header = authorization.map(|header| bearer(header).unwrap_or(header).to_owned());
    header.or_else(|| query_value(query, "token")).filter(|token| !token.is_empty())
}

/// `GET /chat` that is no WebSocket, or not one that may open: why, else that only a WebSocket is served here (notes §8).
async fn plain_socket(request: &Request<'_>, desk: &impl Desk) -> Answer {
    let token =
        token_of(request.authorization, request.query).ok_or_else(|| Failure::at_door(Refusal::Missing))?;
    let proof = Proof::Token(Family::Aiwm, token);
    let found = desk.identify(Credentials { domain_key: None, proof }, request.peer).await;
    found.map_err(Failure::at_door)?;
    Err(Failure::new(426, "Only a WebSocket is served here"))
}

/// Who asks, by the bearer token.
async fn bearer_of(request: &Request<'_>, desk: &impl Desk) -> Result<Identity, Failure> {
    let token = token_of(request.authorization, "").ok_or_else(|| Failure::at_door(Refusal::Missing))?;
    let proof = Proof::Token(Family::Aiwm, token);
    let found = desk.identify(Credentials { domain_key: None, proof }, request.peer).await;
    found.map_err(Failure::at_door)
}

/// Done, and nothing to show.
fn nothing() -> Response {
    Response { status: 204, body: String::new(), content_type: "application/json", headers: Vec::new() }
}

/// The committed state of the asker's workspace.
fn state_of(who: &Identity, desk: &impl Desk) -> Result<Arc<State>, Failure> {
    desk.state(&who.workspace).ok_or_else(|| Failure::new(503, "The workspace is not there"))
}

/// Asks the engine; gives the state after it.
async fn ask(desk: &impl Desk, who: &Identity, command: Command) -> Result<Arc<State>, Failure> {
    let (_, state) = desk.ask(who, Ask::new(Token(0), command)).await?;
    Ok(state)
}

fn about(desk: &impl Desk) -> Response {
    let body = json!({
        "service": "aiwm", "status": "running",
        "namespaces": ["/dev/aiwm/chat", "/chat", "/ws", "/ws/chat", "/"], "timestamp": iso(desk.now()),
    });
    Response::json(200, &body)
}

fn health(desk: &impl Desk) -> Response {
    let (now, started) = (desk.now(), desk.figures().started_at);
    let uptime = now.since(started).max(0) / 1000;
    Response::json(200, &json!({ "status": "healthy", "uptime": uptime, "timestamp": iso(now) }))
}

/// The agent that a token speaks for, if it is this one.
fn is_agent(who: &Identity, agent: &str) -> bool {
    matches!(&who.principal, Principal::Agent(id) if id.as_str() == agent)
}

/// A member of an object, or what stands in for it.
fn member_or(object: &Value, name: &str, otherwise: Value) -> Value {
    object.get(name).filter(|value| !value.is_null()).cloned().unwrap_or(otherwise)
}

#[cfg(test)]
mod tests;

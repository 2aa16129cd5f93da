//! REST under `/api` (MXF notes §10): accounts, and channels, agents and messages for who shows a key or a token.
//! `{success: true, data}` or `{success: false, message}`.

mod agents;
mod channels;
mod digest;
mod messages;
mod users;

use std::sync::Arc;

use roundtable_core::access::{is_inside, may_manage_room};
use roundtable_core::command::Command;
use roundtable_core::engine::Outcome;
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::ids::RoomId;
use roundtable_core::rooms::{Room, visible};
use roundtable_core::state::State;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::errors;
use super::wire::fields::Fields;
use crate::rest::{Desk, Request, Response, Served, Unserved, decoded, methods_of};
use crate::session::{Ask, Credential, Credentials, Family, Identity, Proof, Refusal, Token, bearer};

/// Why a request fails.
#[derive(Clone, PartialEq, Debug)]
struct Failure {
    status: u16,
    message: String,
    retry_after_s: Option<u64>,
}

impl Failure {
    fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after_s: None }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let status = match error.kind {
            ErrorKind::InvalidField | ErrorKind::TooLarge | ErrorKind::CannotResume => 400,
            ErrorKind::Unauthenticated | ErrorKind::InvalidCredential | ErrorKind::CredentialExpired => 401,
            ErrorKind::Forbidden | ErrorKind::RoomClosed | ErrorKind::Suspended => 403,
            ErrorKind::RoomNotFound
            | ErrorKind::AgentNotFound
            | ErrorKind::UserNotFound
            | ErrorKind::MessageNotFound
            | ErrorKind::KeyNotFound => 404,
            ErrorKind::Conflict => 409,
            ErrorKind::RateLimited => 429,
            ErrorKind::Internal => 500,
            ErrorKind::Unavailable => 503,
            ErrorKind::QuotaExceeded => 507,
        };
        let retry_after_s = error.retry_after_ms.map(|ms| ms.div_ceil(1_000).max(1));
        Self { retry_after_s, ..Self::new(status, errors::message(error)) }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Missing => Self::new(401, "Authentication required"),
            Refusal::Suspended => Self::new(403, "The account is disabled or the agent suspended"),
            Refusal::UnknownDomain => Self::new(401, "Invalid domain key"),
            Refusal::TooManyFailures(_) => {
                let retry_after_s = refusal.retry_after_s();
                let wait = retry_after_s.unwrap_or_default();
                let message = format!("Too many failed attempts: try again in {wait} s");
                Self { retry_after_s, ..Self::new(429, message) }
            }
            _ => Self::new(401, "Invalid credentials"),
        }
    }
}

/// A status, and what the body holds besides `success`.
struct Answer(u16, Map<String, Value>);

impl Answer {
    fn data(status: u16, data: impl Into<Value>) -> Self {
        Self(status, Map::from_iter([("data".to_owned(), data.into())]))
    }
}

type Answered = Result<Answer, Failure>;

/// A request of somebody known.
struct Call<'a, D: Desk> {
    request: &'a Request<'a>,
    desk: &'a D,
    who: Identity,
    state: Arc<State>,
}

/// Answers a request; `None` if the path is not one of this dialect's.
pub async fn handle(request: &Request<'_>, desk: &impl Desk) -> Option<Response> {
    let inner = request.path.trim_end_matches('/').strip_prefix("/api/")?;
    // The SDK asks for relationships under a doubled prefix.
    let inner = inner.strip_prefix("api/").filter(|rest| rest.starts_with("memory/")).unwrap_or(inner);
    let parts: Vec<String> = inner.split('/').map(decoded).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let methods = methods_of(SERVED, &parts)?;
    if !methods.contains(&request.method) {
        let failure = Failure::new(405, "This method does nothing here");
        return Some(respond(Err(failure)).header("Allow", methods.join(", ")));
    }
    Some(respond(answer(request, desk, &parts).await))
}

/// A request under a path of this dialect that no handler gets.
pub fn unserved(why: Unserved) -> Response {
    respond(Err(Failure::new(why.status(), why.message())))
}

/// Whether a path is where somebody logs in or registers.
pub fn logs_in(path: &str) -> bool {
    matches!(path.trim_end_matches('/'), "/api/users/login" | "/api/users/register")
}

/// What is served under `/api/`.
pub const SERVED: &[Served] = &[
    ("users/register", &["POST"]),
    ("users/login", &["POST"]),
    ("agents/context/:", &["GET"]),
    ("agents/memory/:", &["GET"]),
    ("channels/memory/:", &["GET"]),
    ("memory/relationships/:/:/:", &["GET"]),
    ("channels/:/context", &["GET", "POST", "PATCH"]),
    ("channels/:/agents/:", &["POST", "DELETE"]),
    ("channels/:/metadata", &["GET", "POST"]),
    ("channels/:/metadata/:", &["GET", "POST"]),
    ("channels/:/history", &["GET"]),
    ("channels/:/mcp-servers", &["GET"]),
    ("channels/:/messages", &["GET", "POST"]),
    ("channels/:/topics", &["POST"]),
    ("channels/:/summary", &["POST"]),
];

async fn answer(request: &Request<'_>, desk: &impl Desk, parts: &[&str]) -> Answered {
    match parts {
        ["users", "register"] => return users::register(request, desk).await,
        ["users", "login"] => return users::login(request, desk).await,
        _ => {}
    }
    let who = identify(request, desk).await?;
    let state = desk.state(&who.workspace).ok_or_else(|| Failure::new(503, "The workspace is not there"))?;
    let call = Call { request, desk, who, state };
    match (request.method, parts) {
        (_, ["agents", "context", key]) => agents::context(&call, key),
        (_, ["agents", "memory", key]) => agents::memory(&call, key),
        (_, ["channels", "memory", id]) => agents::channel_memory(&call, id),
        (_, ["memory", "relationships", _, one, other]) => agents::relationship(&call, (one, other)),
        ("GET", ["channels", id, "context"]) => channels::show(&call, id),
        ("POST", ["channels", id, "context"]) => channels::create(&call, id).await,
        (_, ["channels", id, "context"]) => channels::change(&call, id).await,
        ("POST", ["channels", id, "agents", agent]) => channels::bring_in(&call, id, agent).await,
        (_, ["channels", id, "agents", agent]) => channels::take_out(&call, id, agent).await,
        ("GET", ["channels", id, "metadata", rest @ ..]) => {
            channels::metadata(&call, id, rest.first().copied())
        }
        (_, ["channels", id, "metadata", rest @ ..]) => {
            channels::set_metadata(&call, id, rest.first().copied()).await
        }
        ("POST", ["channels", id, "messages"]) => messages::post(&call, id).await,
        (_, ["channels", id, "history" | "messages"]) => messages::page(&call, id).await,
        (_, ["channels", id, "topics"]) => messages::topics(&call, id).await,
        (_, ["channels", id, "summary"]) => messages::summary(&call, id).await,
        (_, ["channels", id, "mcp-servers"]) => {
            call.inside(id)?;
            // No MCP server is registered with this server.
            Ok(Answer::data(200, json!([])))
        }
        _ => Err(Failure::new(404, "Nothing is served here")),
    }
}

fn respond(result: Answered) -> Response {
    match result {
        Ok(Answer(status, fields)) => {
            let mut body = Map::from_iter([("success".to_owned(), Value::Bool(true))]);
            body.extend(fields);
            Response::json(status, &body)
        }
        Err(failure) => {
            let body = json!({"success": false, "message": failure.message});
            let response = Response::json(failure.status, &body);
            match failure.retry_after_s {
                Some(seconds) => response.header("Retry-After", seconds.to_string()),
                None => response,
            }
        }
    }
}

/// Who asks: by a channel key in its two headers, else by the bearer's token or key. The workspace is that of the credential.
async fn identify(request: &Request<'_>, desk: &impl Desk) -> Result<Identity, Failure> {
    let key = request.channel_key.map(|(key_id, secret)| {
        let (key_id, secret) = (key_id.to_owned(), secret.to_owned());
        Proof::ChannelKey { key_id, secret }
    });
    let token = || request.authorization.and_then(bearer).filter(|token| !token.is_empty());
    let proof = key.or_else(|| token().map(|token| Proof::Bearer(Family::Mxf, token.to_owned())));
    let proof = proof.ok_or(Refusal::Missing)?;
    Ok(desk.identify(Credentials { domain_key: None, proof }, request.peer).await?)
}

/// The body as JSON text; an empty one is an empty object.
fn raw<'a>(request: &Request<'a>) -> Result<&'a RawValue, Failure> {
    let body = if request.body.iter().all(u8::is_ascii_whitespace) { b"{}" } else { request.body };
    serde_json::from_slice(body).map_err(|_| Failure::new(400, "The body must be a JSON object"))
}

/// The fields of the body.
fn fields<'a>(request: &Request<'a>) -> Result<Fields<'a>, Failure> {
    let raw = raw(request)?;
    Fields::payload(Some(raw)).map_err(|_| Failure::new(400, "The body must be a JSON object"))
}

impl<D: Desk> Call<'_, D> {
    /// A channel that the asker may know of: a key knows its own.
    fn channel(&self, id: &str) -> Result<&Room, Failure> {
        let unknown = || Failure::new(404, "Channel not found");
        let id = RoomId::new(id).map_err(|_| unknown())?;
        if self.is_of_key(&id) {
            return self.state.room(&id).ok_or_else(unknown);
        }
        Ok(visible(&self.state, &id, &self.who.principal)?)
    }

    /// Whether the asker's key names this channel.
    fn is_of_key(&self, id: &RoomId) -> bool {
        matches!(&self.who.credential, Credential::ChannelKey(_, room) if room == id)
    }

    /// A channel that the asker, or an agent of its own, is in; or that it manages.
    fn inside(&self, id: &str) -> Result<&Room, Failure> {
        let (room, who) = (self.channel(id)?, &self.who.principal);
        let inside = is_inside(&self.state, room, who) || may_manage_room(&self.state, room, who);
        if inside { Ok(room) } else { Err(Failure::new(403, format!("{} is not in channel {id}", who.id()))) }
    }

    /// Asks the engine; the outcome, and the state after it.
    async fn ask(&self, ask: Ask) -> Result<(Outcome, Arc<State>), Failure> {
        Ok(self.desk.ask(&self.who, ask).await?)
    }

    async fn command(&self, command: Command) -> Result<Arc<State>, Failure> {
        self.ask(Ask::new(Token(0), command)).await.map(|(_, state)| state)
    }
}

#[cfg(test)]
mod tests;

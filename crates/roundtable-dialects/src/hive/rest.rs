//! REST (Hive notes §9): health, the state of the whole, and agents. `{success, data, error, timestamp, request_id}` around
//! every answer.

use std::sync::Arc;

use roundtable_core::access;
use roundtable_core::state::State;
use serde_json::{Map, Value, json};

use super::encode::status;
use super::errors::Fault;
use crate::iso::iso;
use crate::rest::{Desk, Limited, Request, Response};
use crate::session::{Credentials, Family, Identity, Proof, Refusal, Scene, bearer, query_value};

mod agents;

/// What an answer holds: its status, its data, and what existing clients read at the top level.
struct Answer {
    status: u16,
    data: Value,
    top: Map<String, Value>,
}

impl Answer {
    fn new(status: u16, data: Value) -> Self {
        Self { status, data, top: Map::new() }
    }

    fn top(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.top.insert(name.into(), value.into());
        self
    }
}

/// One request with everything a route needs.
struct Call<'a, D: Desk> {
    request: &'a Request<'a>,
    desk: &'a D,
    who: Identity,
    state: Arc<State>,
}

/// Answers a request; `None` if the path is not one of this dialect's.
pub async fn handle(request: &Request<'_>, desk: &impl Desk) -> Option<Response> {
    let path = request.path.trim_end_matches('/');
    let result = match path {
        "/health" => match request.method {
            "GET" | "HEAD" => health(desk),
            _ => Err(wrong_method()),
        },
        // The front-end gives up for good on anything but 200, so this only says that the process serves (notes §9).
        "/api/health" => match request.method {
            "GET" | "HEAD" => health(desk).map(|answer| Answer { status: 200, ..answer }),
            _ => Err(wrong_method()),
        },
        "/api/hive/status" => match request.method {
            "GET" => whole(request, desk).await,
            _ => Err(wrong_method()),
        },
        _ => {
            let rest = path.strip_prefix("/api/agents")?;
            let parts = route(rest)?;
            match arrive(request, desk).await {
                Ok(call) => agents::handle(&call, &parts).await?,
                Err(fault) => Err(fault),
            }
        }
    };
    Some(respond(request, desk, result))
}

/// The parts after `/api/agents`. Those that belong to another API's literal paths are not ours (README §1).
fn route(rest: &str) -> Option<Vec<&str>> {
    if rest.is_empty() {
        return Some(Vec::new());
    }
    let parts: Vec<&str> = rest.strip_prefix('/')?.split('/').collect();
    (!matches!(parts.first(), Some(&("context" | "memory")))).then_some(parts)
}

fn wrong_method() -> Fault {
    Fault::new("METHOD_NOT_ALLOWED", 405, "This method does nothing here")
}

fn respond(request: &Request<'_>, desk: &impl Desk, result: Result<Answer, Fault>) -> Response {
    let mut body = Map::new();
    let mut frame = |success: bool, data: Value, error: Value| {
        body.insert("success".into(), success.into());
        body.insert("data".into(), data);
        body.insert("error".into(), error);
        body.insert("timestamp".into(), iso(desk.now()).into());
        body.insert("request_id".into(), request.request_id.into());
    };
    match result {
        Ok(answer) => {
            frame(answer.status < 400, answer.data, Value::Null);
            body.extend(answer.top);
            Response::json(answer.status, &body)
        }
        Err(fault) => {
            let details = fault.retry_after_s.map(|s| json!({"retry_after_seconds": s}));
            let error = json!({
                "code": fault.code,
                "message": fault.message,
                "details": details.unwrap_or_else(|| json!({})),
                "field_errors": fault.fields,
            });
            frame(false, Value::Null, error);
            let response = Response::json(fault.status, &body);
            match fault.retry_after_s {
                Some(seconds) => response.header("Retry-After", seconds.to_string()),
                None => response,
            }
        }
    }
}

/// Who asks, by the first credential shown, and the workspace as it is.
async fn arrive<'a, D: Desk>(request: &'a Request<'a>, desk: &'a D) -> Result<Call<'a, D>, Fault> {
    let value = |name| query_value(request.query, name).filter(|text| !text.is_empty());
    let bearer = request.authorization.and_then(bearer).map(str::to_owned);
    let proof = value("token")
        .map(|token| Proof::Token(Family::Login, token))
        .or_else(|| value("api_key").map(Proof::ApiKey))
        .or_else(|| bearer.map(|text| Proof::Bearer(Family::Login, text)))
        .or_else(|| request.api_key.map(|key| Proof::ApiKey(key.to_owned())))
        .or_else(|| request.anonymous.then_some(Proof::Guest(None)))
        .ok_or(Refusal::Missing)?;
    let who = desk.identify(Credentials { domain_key: None, proof }, request.peer).await?;
    let state = desk.state(&who.workspace).ok_or_else(unavailable)?;
    Ok(Call { request, desk, who, state })
}

fn unavailable() -> Fault {
    Fault::new("SERVICE_UNAVAILABLE", 503, "The workspace is not available")
}

impl<D: Desk> Call<'_, D> {
    /// Who only reads goes no further.
    fn may_write(&self) -> Result<(), Fault> {
        if access::may_run_agents(&self.state, &self.who.principal) {
            return Ok(());
        }
        Err(Fault::read_only())
    }

    /// The body as an object; without one, an empty one.
    fn body(&self) -> Result<Map<String, Value>, Fault> {
        if self.request.body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Map::new());
        }
        match serde_json::from_slice(self.request.body) {
            Ok(Value::Object(body)) => Ok(body),
            _ => Err(Fault::new("VALIDATION_ERROR", 400, "The body must be a JSON object")),
        }
    }

    fn query(&self, name: &str) -> Option<String> {
        query_value(self.request.query, name).filter(|text| !text.is_empty())
    }
}

/// Whether the whole is well. Open to everybody, so that a watchdog needs no credential.
fn health(desk: &impl Desk) -> Result<Answer, Fault> {
    let state = desk.state(&desk.default_workspace()).ok_or_else(unavailable)?;
    let (figures, now) = (desk.figures(), desk.now());
    let word = status::health(&state);
    let parts: Map<String, Value> = state
        .components()
        .map(|part| (part.changed.component.clone(), super::encode::health(part.changed.new).into()))
        .collect();
    let data = json!({
        "status": word,
        "timestamp": iso(now),
        "response_time_ms": desk.now().since(now).max(0),
        "version": env!("CARGO_PKG_VERSION"),
        "architecture": "modular",
        "modules": parts,
        "system_info": {
            "cpu_usage": figures.cpu_percent,
            "memory_usage": figures.memory_percent,
            "disk_usage": figures.disk_percent,
            "active_connections": figures.connections,
            "uptime_seconds": now.since(figures.started_at).max(0) / 1000,
        },
    });
    let status = if word == "healthy" { 200 } else { 503 };
    Ok(Answer::new(status, data).top("status", word))
}

/// The state of the whole, as the front-end reads it.
async fn whole(request: &Request<'_>, desk: &impl Desk) -> Result<Answer, Fault> {
    desk.spend(Limited::Status, request.peer).map_err(Fault::too_often)?;
    let call = arrive(request, desk).await?;
    let figures = desk.figures();
    let scene = Scene { now: desk.now(), state: &call.state, epoch: 0, figures: &figures };
    let swarm = status::swarm(scene.state);
    let data = json!({
        "id": status::hive_id(scene.state),
        "created_at": iso(scene.state.created_at),
        "last_update": iso(scene.now),
        "metrics": status::metrics(&swarm),
        "swarm_center": swarm.center,
        "total_energy": swarm.energy,
    });
    Ok(Answer::new(200, data))
}

#[cfg(test)]
mod tests;

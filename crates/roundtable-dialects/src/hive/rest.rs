//! REST (Hive notes §9): health, the state of the whole, agents, figures and alerts. `{success, data, error, timestamp,
//! request_id}` around every answer but an export.

use std::sync::Arc;

use roundtable_core::access;
use roundtable_core::state::State;
use serde_json::{Map, Value, json};

use super::errors::Fault;
use crate::iso::iso;
use crate::rest::{Desk, Limited, Request, Response, Served, Unserved, methods_of};
use crate::session::{Credentials, Family, Identity, Proof, Refusal, bearer, query_value};

mod agents;
mod alerts;
mod metrics;
mod modules;
mod whole;

/// What an answer holds: its status, its data, and what existing clients read at the top level.
struct Answer {
    status: u16,
    data: Value,
    top: Map<String, Value>,
    /// Another text than the usual frame, with its type.
    raw: Option<(&'static str, String)>,
}

impl Answer {
    fn new(status: u16, data: Value) -> Self {
        Self { status, data, top: Map::new(), raw: None }
    }

    /// A text in somebody else's format.
    fn raw(content_type: &'static str, text: String) -> Self {
        Self { raw: Some((content_type, text)), ..Self::new(200, Value::Null) }
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
    let allowed = methods(path)?;
    if !allowed.contains(&request.method) {
        let fault = Fault::new("METHOD_NOT_ALLOWED", 405, "This method does nothing here");
        return Some(respond(request, desk, Err(fault)).header("Allow", allowed.join(", ")));
    }
    let result = match path {
        "/health" => health(request, desk).await,
        // The front-end gives up for good on anything but 200, so this only says that the process serves (notes §9).
        "/api/health" | "/api/monitoring/health" => {
            health(request, desk).await.map(|answer| Answer { status: 200, ..answer })
        }
        "/api/hive/status" => match spend_status(request, desk) {
            Ok(()) => whole::status(request, desk).await,
            Err(fault) => Err(fault),
        },
        _ => match path.strip_prefix("/api/agents") {
            Some(rest) => {
                let parts = route(rest)?;
                match arrive(request, desk).await {
                    Ok(call) => agents::handle(&call, &parts).await?,
                    Err(fault) => Err(fault),
                }
            }
            None => figures(request, desk, path).await?,
        },
    };
    Some(respond(request, desk, result))
}

/// Whether the whole is well, for everybody. The figures behind it are for those who may come in here.
async fn health(request: &Request<'_>, desk: &impl Desk) -> Result<Answer, Fault> {
    let known = request.anonymous || arrive(request, desk).await.is_ok();
    whole::health(desk, known)
}

/// What is served, from the root.
pub const SERVED: &[Served] = &[
    ("health", &["GET"]),
    ("api/health", &["GET"]),
    ("api/monitoring/health", &["GET"]),
    ("api/hive/status", &["GET"]),
    ("api/agents", &["GET", "POST"]),
    ("api/agents/bulk/create", &["POST"]),
    ("api/agents/bulk/delete", &["POST"]),
    ("api/agents/:", &["GET", "PUT", "DELETE"]),
    ("api/agents/:/pause", &["POST"]),
    ("api/agents/:/resume", &["POST"]),
    ("api/agents/:/tasks", &["GET"]),
    ("api/agents/:/performance", &["GET"]),
    ("api/resources", &["GET"]),
    ("api/modules/status", &["GET"]),
    ("api/modules/:/:", &["GET"]),
    ("api/monitoring/metrics", &["GET"]),
    ("api/monitoring/alerts", &["GET", "POST"]),
    ("metrics", &["GET"]),
    ("metrics/export/:", &["GET"]),
    ("metrics/history", &["GET"]),
    ("metrics/alerts", &["GET", "POST"]),
    ("metrics/alerts/:", &["DELETE"]),
    ("api/metrics", &["GET"]),
    ("api/metrics/export/:", &["GET"]),
    ("api/metrics/history", &["GET"]),
    ("api/metrics/alerts", &["GET", "POST"]),
    ("api/metrics/alerts/:", &["DELETE"]),
];

/// What may be done at a path; `None` if it is none of this dialect's.
fn methods(path: &str) -> Option<&'static [&'static str]> {
    if let Some(rest) = path.strip_prefix("/api/agents") {
        route(rest)?;
    }
    methods_of(SERVED, &path.strip_prefix('/')?.split('/').collect::<Vec<_>>())
}

/// A request under a path of this dialect that no handler gets.
pub fn unserved(request: &Request<'_>, desk: &impl Desk, why: Unserved) -> Response {
    let code = match why {
        Unserved::UnknownPath => "NOT_FOUND",
        Unserved::TooLarge => "PAYLOAD_TOO_LARGE",
        Unserved::Unproven => "UNAUTHORIZED",
        Unserved::TooSlow => "REQUEST_TIMEOUT",
        Unserved::Encoded => "UNSUPPORTED_MEDIA_TYPE",
        Unserved::Busy => "SERVICE_UNAVAILABLE",
    };
    respond(request, desk, Err(Fault::new(code, why.status(), why.message())))
}

/// Requests for the state of the whole are counted per address.
fn spend_status(request: &Request<'_>, desk: &impl Desk) -> Result<(), Fault> {
    desk.spend(Limited::Status, request.peer).map_err(Fault::too_often)
}

/// What is asked for under `/metrics` and beside it. All of it stands under `/api` too.
enum Shown<'a> {
    Resources,
    Modules,
    Module(&'a str, &'a str),
    Metrics,
    Export(&'a str),
    History,
    Alerts,
    Alert(&'a str),
}

fn shown(path: &str) -> Option<Shown<'_>> {
    let inner = path.strip_prefix("/api").unwrap_or(path);
    Some(match inner.split('/').skip(1).collect::<Vec<_>>().as_slice() {
        ["resources"] if inner != path => Shown::Resources,
        ["modules", "status"] if inner != path => Shown::Modules,
        ["modules", name, what] if inner != path => Shown::Module(name, what),
        ["monitoring", "metrics"] if inner != path => Shown::Metrics,
        ["monitoring", "alerts"] if inner != path => Shown::Alerts,
        ["metrics"] => Shown::Metrics,
        ["metrics", "export", format] => Shown::Export(format),
        ["metrics", "history"] => Shown::History,
        ["metrics", "alerts"] => Shown::Alerts,
        ["metrics", "alerts", id] => Shown::Alert(id),
        _ => return None,
    })
}

/// Figures, modules and alerts; `None` if the path is none of theirs.
async fn figures<D: Desk>(request: &Request<'_>, desk: &D, path: &str) -> Option<Result<Answer, Fault>> {
    let shown = shown(path)?;
    if request.method == "GET"
        && let Err(fault) = spend_status(request, desk)
    {
        return Some(Err(fault));
    }
    let call = match arrive(request, desk).await {
        Ok(call) => call,
        Err(fault) => return Some(Err(fault)),
    };
    Some(match shown {
        Shown::Resources => Ok(whole::resources(&call)),
        Shown::Modules => Ok(modules::all(&call)),
        Shown::Module(name, what) => return modules::one(&call, name, what),
        Shown::Metrics => Ok(metrics::current(&call)),
        Shown::Export(format) => return metrics::export(&call, format).map(Ok),
        Shown::History => metrics::history(&call),
        Shown::Alerts if request.method == "POST" => alerts::set(&call).await,
        Shown::Alerts => alerts::list(&call),
        Shown::Alert(id) => alerts::remove(&call, id).await,
    })
}

/// The parts after `/api/agents`. Those that belong to another API's literal paths are not ours (README §1).
fn route(rest: &str) -> Option<Vec<&str>> {
    if rest.is_empty() {
        return Some(Vec::new());
    }
    let parts: Vec<&str> = rest.strip_prefix('/')?.split('/').collect();
    (!matches!(parts.first(), Some(&("context" | "memory")))).then_some(parts)
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
        Ok(Answer { raw: Some((content_type, body)), status, .. }) => {
            Response { status, body, content_type, headers: Vec::new() }
        }
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
        .map(|text| Proof::Bearer(Family::Login, text))
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

#[cfg(test)]
mod tests;

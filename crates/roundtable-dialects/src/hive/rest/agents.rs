//! `/api/agents`: to list, make, change, pause and remove agents (Hive notes §9).

use roundtable_core::agents::{Agent, AgentChanges, RegisterAgent};
use roundtable_core::command::Command;
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::ids::{AgentId, Principal};
use roundtable_core::json::Json;
use roundtable_core::state::State;
use serde_json::{Map, Value, json};

use super::{Answer, Call};
use crate::hive::encode::{kind, lists, status, word};
use crate::hive::errors::Fault;
use crate::hive::wire::{self, FieldError};
use crate::iso::iso;
use crate::pages::{MOST_ITEMS, fill};
use crate::rest::{Desk, Limited};
use crate::session::{Ask, Token};

/// Most agents on one page.
const MAX_PAGE: usize = 1_000;
/// Most agents that are made or removed by one request.
const MAX_BULK: usize = 1_000;
/// The longest pause that ends by itself: a year.
const MAX_PAUSE_MINUTES: f64 = 525_600.0;
/// What a performance may be asked for.
const TIME_RANGES: [&str; 4] = ["1h", "24h", "7d", "30d"];
/// Longest reason that is kept, in bytes.
const MAX_REASON_BYTES: usize = 1_000;

/// Answers what comes after `/api/agents`; `None` if there is nothing there.
pub(super) async fn handle<D: Desk>(call: &Call<'_, D>, parts: &[&str]) -> Option<Result<Answer, Fault>> {
    let method = call.request.method;
    Some(match (method, parts) {
        ("GET", []) => list(call),
        ("POST", []) => create(call).await,
        ("POST", ["bulk", "create"]) => create_many(call).await,
        ("POST", ["bulk", "delete"]) => remove_many(call).await,
        ("GET", [id]) => one(call, id),
        ("PUT", [id]) => change(call, id).await,
        ("DELETE", [id]) => remove(call, id).await,
        ("POST", [id, "pause"]) => pause(call, id).await,
        ("POST", [id, "resume"]) => resume(call, id).await,
        ("GET", [id, "tasks"]) => tasks(call, id),
        ("GET", [id, "performance"]) => performance(call, id),
        _ => return None,
    })
}

fn unknown(id: &str) -> Fault {
    let shown: String = id.chars().take(wire::MAX_ECHO_BYTES / 2).collect();
    Fault::new("AGENT_NOT_FOUND", 404, format!("There is no agent {shown}"))
}

fn found<'a>(state: &'a State, id: &str) -> Result<&'a Agent, Fault> {
    let agent = AgentId::new(id).ok().and_then(|id| state.agent(&id));
    agent.ok_or_else(|| unknown(id))
}

/// Asks the engine; the state afterwards.
async fn ask<D: Desk>(call: &Call<'_, D>, command: Command) -> Result<std::sync::Arc<State>, Fault> {
    if matches!(command, Command::HostAgent(_)) {
        call.desk.spend(Limited::NewAgents, call.request.peer).map_err(Fault::too_often)?;
    }
    let ask = Ask::new(Token(0), command);
    call.desk.ask(&call.who, ask).await.map(|(_, state)| state).map_err(|error| Fault::from(&error))
}

/// A capability as it was posted, with what its use has taught: nothing yet, since no task ever used it.
fn capabilities(agent: &Agent) -> Vec<Value> {
    let view = |c: &roundtable_core::agents::Capability| {
        json!({
            "name": c.name, "proficiency": c.proficiency, "learning_rate": c.learning_rate,
            "experience_points": 0, "last_used": Value::Null,
        })
    };
    agent.card.capabilities.iter().map(view).collect()
}

fn last_active(state: &State, agent: &Agent) -> String {
    let presence = state.presence(&Principal::Agent(agent.id.clone()));
    iso(presence.map_or(agent.updated_at, |presence| presence.last_seen.max(agent.updated_at)))
}

fn summary(state: &State, agent: &Agent) -> Map<String, Value> {
    let mut view = Map::new();
    let mut put = |name: &str, value: Value| view.insert(name.into(), value);
    put("id", agent.id.as_str().into());
    put("name", agent.card.name.as_str().into());
    put("type", kind(&agent.card).into());
    put("state", word(agent.status).into());
    put("capabilities", json!(agent.card.capabilities));
    put("performance_score", 0.0.into());
    put("tasks_completed", 0.into());
    put("created_at", iso(agent.created_at).into());
    put("last_active", last_active(state, agent).into());
    put("energy_level", status::energy(agent).into());
    put("social_connections", lists::company(state, agent).len().into());
    view
}

pub(super) fn number(
    text: Option<String>,
    name: &'static str,
    default: usize,
    most: usize,
) -> Result<usize, Fault> {
    let Some(text) = text else { return Ok(default) };
    text.parse().ok().filter(|number| *number <= most).ok_or_else(|| {
        let message = format!("{name} must be a number from 0 to {most}");
        Fault::fields(vec![FieldError { field: name, message, value: text.into() }])
    })
}

fn list<D: Desk>(call: &Call<'_, D>) -> Result<Answer, Fault> {
    let limit = number(call.query("limit"), "limit", 50, MAX_PAGE)?;
    let offset = number(call.query("offset"), "offset", 0, usize::MAX)?;
    let (wanted, sort, able) = (call.query("status"), call.query("type"), call.query("capability"));
    let matches = |agent: &&Agent| {
        wanted.as_deref().is_none_or(|wanted| word(agent.status).eq_ignore_ascii_case(wanted))
            && sort.as_deref().is_none_or(|sort| kind(&agent.card) == sort.to_lowercase())
            && able.as_deref().is_none_or(|able| agent.card.capabilities.iter().any(|c| c.name == able))
    };
    let all: Vec<&Agent> = lists::newest_first(&call.state).into_iter().filter(matches).collect();
    let shown = all.iter().skip(offset).map(|agent| summary(&call.state, agent));
    let (page, has_more) = fill(shown, limit);
    // A page that ended early has so many: the next one begins behind them.
    let limit = if has_more { page.len() } else { limit };
    let data = json!({
        "agents": page,
        "total_count": all.len(),
        "pagination": {"limit": limit, "offset": offset, "has_more": has_more},
    });
    Ok(Answer::new(200, data))
}

fn one<D: Desk>(call: &Call<'_, D>, id: &str) -> Result<Answer, Fault> {
    let agent = found(&call.state, id)?;
    let mut view = summary(&call.state, agent);
    view.insert("capabilities".into(), capabilities(agent).into());
    let performance =
        json!({"tasks_completed": 0, "success_rate": 0.0, "average_response_time_ms": 0, "error_rate": 0.0});
    view.insert("performance_metrics".into(), performance);
    let history = json!({"total_experience": 0, "capability_improvements": 0, "last_learning_cycle": null});
    view.insert("learning_history".into(), history);
    view.insert("social_connections".into(), company(&call.state, agent).into());
    let age = call.desk.now().since(agent.created_at).max(0) / 1000;
    view.insert("uptime_seconds".into(), age.into());
    Ok(Answer::new(200, json!({ "agent": view })))
}

/// Who it shares rooms with: how many rooms, and which part of its own they are.
fn company(state: &State, agent: &Agent) -> Vec<Value> {
    let me = Principal::Agent(agent.id.clone());
    let rooms = state.rooms_of(&me).take(lists::MAX_ROOMS).count().max(1);
    let view = |other: String| {
        let them = AgentId::new(&other).ok().map(Principal::Agent);
        let shared = them.map_or(0, |them| {
            state
                .rooms_of(&me)
                .take(lists::MAX_ROOMS)
                .filter_map(|id| state.room(id))
                .filter(|r| r.members.contains_key(&them))
                .count()
        });
        json!({
            "agent_id": other, "relationship_strength": shared as f64 / rooms as f64,
            "collaboration_count": shared,
        })
    };
    lists::company(state, agent).into_iter().take(MOST_ITEMS).map(view).collect()
}

async fn create<D: Desk>(call: &Call<'_, D>) -> Result<Answer, Fault> {
    call.may_write()?;
    let id = make(call, &call.body()?, 0).await?;
    let state = call.desk.state(&call.who.workspace).ok_or_else(super::unavailable)?;
    let agent = found(&state, id.as_str())?;
    let data = json!({
        "agent_id": id.as_str(),
        "message": format!("Agent {} was created", agent.card.name),
        "agent": summary(&state, agent),
    });
    Ok(Answer::new(201, data).top("agent_id", id.as_str()))
}

/// Makes one agent from what was posted, with an id of its own within the request.
async fn make<D: Desk>(
    call: &Call<'_, D>,
    posted: &Map<String, Value>,
    place: usize,
) -> Result<AgentId, Fault> {
    let card = wire::agent_card(posted, None).map_err(Fault::fields)?;
    let random = call.desk.random().to_be_bytes();
    let id = wire::uuid("agent", &[&random, &(place as u64).to_be_bytes()]);
    let agent = AgentId::new(&id).map_err(|error| Fault::from(&error))?;
    ask(call, Command::HostAgent(RegisterAgent { agent: agent.clone(), card })).await?;
    Ok(agent)
}

async fn change<D: Desk>(call: &Call<'_, D>, id: &str) -> Result<Answer, Fault> {
    call.may_write()?;
    let agent = found(&call.state, id)?.id.clone();
    let body = call.body()?;
    let (mut changes, mut told, mut wrong) = (AgentChanges::default(), Vec::new(), Vec::new());
    match body.get("name") {
        None | Some(Value::Null) => {}
        Some(Value::String(name)) if !name.trim().is_empty() => {
            changes.name = Some(name.clone());
            told.push("name");
        }
        Some(other) => wrong.push(("name", "must be a non-empty string", other)),
    }
    match body.get("auto_learning") {
        None | Some(Value::Null) => {}
        Some(Value::Bool(on)) => {
            changes.metadata = Some(Json::from(&json!({"auto_learning": on})));
            told.push("auto_learning");
        }
        Some(other) => wrong.push(("auto_learning", "must be true or false", other)),
    }
    if let Some((field, rule, value)) = wrong.first() {
        let value = (*value).clone();
        return Err(Fault::fields(vec![FieldError { field, message: format!("{field} {rule}"), value }]));
    }
    if let Some(list) = body.get("capabilities").filter(|list| !list.is_null()) {
        changes.capabilities = Some(wire::capabilities(Some(list)).map_err(|e| Fault::fields(vec![e]))?);
        told.push("capabilities");
    }
    ask(call, Command::UpdateAgent(agent, changes)).await?;
    Ok(Answer::new(200, json!({"agent_id": id, "message": "Agent was updated", "changes": told})))
}

/// A reason from the query or the body.
fn reason<D: Desk>(call: &Call<'_, D>, body: &Map<String, Value>, default: &str) -> String {
    let given =
        call.query("reason").or_else(|| body.get("reason").and_then(Value::as_str).map(str::to_owned));
    let given = given.filter(|reason| !reason.is_empty() && reason.len() <= MAX_REASON_BYTES);
    given.unwrap_or_else(|| default.to_owned())
}

async fn remove<D: Desk>(call: &Call<'_, D>, id: &str) -> Result<Answer, Fault> {
    call.may_write()?;
    let agent = found(&call.state, id)?;
    let friends = lists::company(&call.state, agent).len();
    let why = reason(call, &call.body()?, "manual_removal");
    ask(call, Command::RemoveAgent(agent.id.clone(), why)).await?;
    let summary = json!({"tasks_reassigned": 0, "data_removed": true, "social_connections_updated": friends});
    let data = json!({"agent_id": id, "message": "Agent was removed", "cleanup_summary": summary});
    Ok(Answer::new(200, data))
}

async fn pause<D: Desk>(call: &Call<'_, D>, id: &str) -> Result<Answer, Fault> {
    call.may_write()?;
    let agent = found(&call.state, id)?.id.clone();
    let until = match call.body()?.get("duration_minutes") {
        None | Some(Value::Null) => None,
        Some(given) => {
            let minutes = given.as_f64().filter(|minutes| *minutes > 0.0 && *minutes <= MAX_PAUSE_MINUTES);
            let rule = format!("must be a number above 0 and up to {MAX_PAUSE_MINUTES}");
            let minutes = minutes.ok_or_else(|| wrong("duration_minutes", &rule, given))?;
            Some(call.desk.now().plus((minutes * 60_000.0).ceil() as i64))
        }
    };
    ask(call, Command::PauseAgent(agent, until)).await?;
    let until = until.map(iso);
    let data = json!({"agent_id": id, "status": "paused", "resume_at": until, "active_tasks_reassigned": 0});
    Ok(Answer::new(200, data))
}

async fn resume<D: Desk>(call: &Call<'_, D>, id: &str) -> Result<Answer, Fault> {
    call.may_write()?;
    let agent = found(&call.state, id)?;
    ask(call, Command::ResumeAgent(agent.id.clone())).await?;
    Ok(Answer::new(200, json!({"agent_id": id, "status": "active", "message": "Agent was resumed"})))
}

fn wrong(field: &'static str, rule: &str, value: &Value) -> Fault {
    let shown = Some(value).filter(|value| value.to_string().len() <= wire::MAX_ECHO_BYTES);
    let value = shown.cloned().unwrap_or_default();
    Fault::fields(vec![FieldError { field, message: format!("{field} {rule}"), value }])
}

/// The log holds no tasks, so an agent has none.
fn tasks<D: Desk>(call: &Call<'_, D>, id: &str) -> Result<Answer, Fault> {
    found(&call.state, id)?;
    number(call.query("limit"), "limit", 50, MAX_PAGE)?;
    number(call.query("offset"), "offset", 0, usize::MAX)?;
    Ok(Answer::new(200, json!({"agent_id": id, "tasks": [], "total_count": 0})))
}

/// What an agent achieved: without tasks nothing, and nothing changes.
fn performance<D: Desk>(call: &Call<'_, D>, id: &str) -> Result<Answer, Fault> {
    found(&call.state, id)?;
    let range = call.query("time_range").unwrap_or_else(|| "24h".into());
    if !TIME_RANGES.contains(&range.as_str()) {
        return Err(wrong("time_range", "must be 1h, 24h, 7d or 30d", &range.into()));
    }
    let metrics = json!({
        "tasks_completed": 0, "success_rate": 0.0, "average_response_time_ms": 0, "error_rate": 0.0,
        "capability_improvements": 0,
    });
    Ok(Answer::new(200, json!({"agent_id": id, "time_range": range, "metrics": metrics, "trends": {}})))
}

/// The list under a name in a body that holds many.
fn many<'a>(body: &'a Map<String, Value>, field: &'static str) -> Result<&'a Vec<Value>, Fault> {
    let list = body.get(field).and_then(Value::as_array).filter(|list| list.len() <= MAX_BULK);
    list.ok_or_else(|| {
        let message = format!("{field} must be a list of at most {MAX_BULK}");
        Fault::fields(vec![FieldError { field, message, value: Value::Null }])
    })
}

async fn create_many<D: Desk>(call: &Call<'_, D>) -> Result<Answer, Fault> {
    call.may_write()?;
    let body = call.body()?;
    let (mut ids, mut errors) = (Vec::new(), Vec::new());
    for (place, posted) in many(&body, "agents")?.iter().enumerate() {
        let made = match posted {
            Value::Object(posted) => make(call, posted, place).await,
            _ => Err(Fault::new("VALIDATION_ERROR", 400, "agents must be objects")),
        };
        match made {
            Ok(id) => ids.push(id.as_str().to_owned()),
            Err(fault) => errors.push(json!({"index": place, "code": fault.code, "message": fault.message})),
        }
    }
    let data = json!({
        "agents_created": ids.len(),
        "agent_ids": ids,
        "summary": {"successful": ids.len(), "failed": errors.len()},
        "errors": errors,
    });
    Ok(Answer::new(201, data))
}

async fn remove_many<D: Desk>(call: &Call<'_, D>) -> Result<Answer, Fault> {
    call.may_write()?;
    let body = call.body()?;
    let why = reason(call, &body, "manual_removal");
    let (mut ids, mut failed) = (Vec::new(), 0_usize);
    for id in many(&body, "agent_ids")? {
        let text = id.as_str().unwrap_or("");
        let removed = match AgentId::new(text) {
            Ok(agent) => ask(call, Command::RemoveAgent(agent, why.clone())).await.map(|_| ()),
            Err(_) => Err(Fault::from(&Error::new(ErrorKind::AgentNotFound, "no such agent"))),
        };
        match removed {
            Ok(()) => ids.push(text.to_owned()),
            Err(_) => failed += 1,
        }
    }
    let data = json!({
        "agents_deleted": ids.len(),
        "agent_ids": ids,
        "summary": {"successful": ids.len(), "failed": failed},
    });
    Ok(Answer::new(200, data))
}

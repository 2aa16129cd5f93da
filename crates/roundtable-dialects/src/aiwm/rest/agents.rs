//! REST of agents: making, changing and removing them, and what they are told about themselves.

use roundtable_core::access;
use roundtable_core::agents::{Agent, AgentCard, AgentChanges, RegisterAgent};
use roundtable_core::command::Command;
use roundtable_core::ids::{AgentId, Principal};
use roundtable_core::json::Json;
use roundtable_core::state::State;
use roundtable_core::users::TokenRevoked;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::start::{agent, beginning, standing};
use super::{Answer, Failure, ask, bearer_of, body, is_agent, lists, nothing_here, state_of, visitors};
use crate::iso::iso;
use crate::rest::{Desk, Request, Response};
use crate::session::{Credential, Identity};

pub(super) async fn handle(parts: &[&str], request: &Request<'_>, desk: &impl Desk) -> Answer {
    if let ("POST", [id, "connect"]) = (request.method, parts) {
        return super::start::connect(id, request, desk).await;
    }
    let who = bearer_of(request, desk).await?;
    if !access::may_see_agents(&who.principal) {
        return Err(Failure::new(403, "Agents are for who has an account"));
    }
    match (request.method, parts) {
        ("GET", []) => list(request, &who, desk).await,
        ("POST", []) => create(request, &who, desk).await,
        ("GET", [id]) => {
            let state = state_of(&who, desk)?;
            Ok(Response::json(200, &whole(agent(&state, id)?, &who)))
        }
        ("PUT", [id]) => change(id, request, &who, desk).await,
        ("DELETE", [id]) => remove(id, &who, desk).await,
        ("GET", [id, "config"]) => config(id, &who, desk),
        ("POST", [id, "heartbeat"]) => heartbeat(id, request, &who, desk).await,
        ("POST", [id, "credentials", "regenerate"]) => new_secret(id, &who, desk).await,
        ("POST", [id, "disconnect"]) => disconnect(id, &who, desk).await,
        ("POST", [id, "anonymous-token"]) => visitors::make(id, request, &who, desk).await,
        ("GET", [id, "anonymous-tokens"]) => visitors::list(id, request, &who, desk),
        ("DELETE", [id, "anonymous-tokens", token]) => visitors::revoke((id, token), &who, desk).await,
        _ => Err(nothing_here(request)),
    }
}

/// An agent as a document, without its secret.
fn whole(agent: &Agent, who: &Identity) -> Value {
    let config: Value = agent.card.config.as_ref().and_then(|config| config.read()).unwrap_or_default();
    document(agent, who, super::member_or(&config, "settings", json!({})))
}

fn document(agent: &Agent, who: &Identity, settings: Value) -> Value {
    let metadata: Map<String, Value> = agent.card.metadata.read().unwrap_or_default();
    let kept = |name: &str, otherwise: Value| metadata.get(name).cloned().unwrap_or(otherwise);
    let kind = Some(agent.card.kind.as_str()).filter(|kind| TYPES.contains(kind)).unwrap_or("autonomous");
    let owner = agent.owner.as_ref().map_or("", |user| user.as_str());
    json!({
        "_id": agent.id.as_str(),
        "name": agent.card.name,
        "description": agent.card.description.as_deref().unwrap_or(""),
        "status": standing(agent),
        "type": kept("type", kind.into()),
        "role": agent.card.role,
        "tags": kept("tags", json!([])),
        "allowedToolIds": kept("allowedToolIds", json!([])),
        "instructionId": kept("instructionId", Value::Null),
        "settings": settings,
        "owner": { "orgId": who.workspace.as_str(), "groupId": "", "userId": owner, "agentId": "", "appId": "" },
        "createdBy": owner,
        "isDeleted": false,
        "createdAt": iso(agent.created_at),
        "updatedAt": iso(agent.updated_at),
    })
}

/// Lists are not filtered and sorted by settings: those may be large.
async fn list(request: &Request<'_>, who: &Identity, desk: &impl Desk) -> Answer {
    let state = state_of(who, desk)?;
    let sketch = |agent: &Agent| document(agent, who, json!({}));
    lists::page(request, desk, state.agents(), sketch, |agent| whole(agent, who)).await
}

const STATUSES: [&str; 4] = ["active", "inactive", "busy", "suspended"];
const TYPES: [&str; 2] = ["managed", "autonomous"];

/// What may be said about an agent; every member is optional here.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Fields {
    name: Option<String>,
    description: Option<String>,
    status: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    secret: Option<String>,
    instruction_id: Option<String>,
    role: Option<String>,
    tags: Option<Vec<String>>,
    allowed_tool_ids: Option<Vec<String>>,
    settings: Option<Map<String, Value>>,
}

impl Fields {
    /// Everything that is wrong, at once.
    fn check(&self, all_required: bool) -> Result<(), Failure> {
        let mut errors = Vec::new();
        let required = [("name", &self.name), ("description", &self.description), ("status", &self.status)];
        for (field, value) in required {
            match value {
                None if all_required => errors.push(format!("{field} is required")),
                Some(text) if text.is_empty() => errors.push(format!("{field} must not be empty")),
                _ => {}
            }
        }
        let one_of = |field, value: &Option<String>, allowed: &[&str]| {
            let wrong = value.as_deref().is_some_and(|value| !value.is_empty() && !allowed.contains(&value));
            wrong.then(|| format!("{field} must be one of {}", allowed.join(", ")))
        };
        errors.extend(one_of("status", &self.status, &STATUSES));
        errors.extend(one_of("type", &self.kind, &TYPES));
        match errors.first().cloned() {
            None => Ok(()),
            Some(first) => Err(Failure { errors, ..Failure::new(400, first) }),
        }
    }

    /// What has no place of its own on the card.
    fn metadata(&self) -> Json {
        let status = self.status.as_deref().filter(|status| *status != "suspended");
        let members = [
            ("status", status.map(Value::from)),
            ("type", self.kind.clone().map(Value::from)),
            ("tags", self.tags.clone().map(Value::from)),
            ("allowedToolIds", self.allowed_tool_ids.clone().map(Value::from)),
            ("instructionId", self.instruction_id.clone().map(Value::from)),
        ];
        let given = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Json::of(&given.collect::<Map<String, Value>>())
    }

    /// The configuration with new settings, if there are any.
    fn config(&self, before: Option<&Json>) -> Option<Json> {
        let settings = Json::of(&json!({ "settings": self.settings.as_ref()? }));
        Some(before.cloned().unwrap_or_default().merged(&settings))
    }
}

/// Users that are no viewers may suspend; told before anything is written.
fn may_suspend(fields: &Fields, who: &Identity, state: &State) -> Result<bool, Failure> {
    let suspended = fields.status.as_deref() == Some("suspended");
    if suspended && !access::may_operate(state, &who.principal) {
        return Err(Failure::new(403, "Only owners and editors suspend agents"));
    }
    Ok(suspended)
}

async fn create(request: &Request<'_>, who: &Identity, desk: &impl Desk) -> Answer {
    let fields: Fields = body(request)?;
    fields.check(true)?;
    if who.principal.user().is_none() {
        return Err(Failure::new(403, "Only users make agents"));
    }
    let suspended = may_suspend(&fields, who, &*state_of(who, desk)?)?;
    let id = AgentId::fresh(desk.now(), desk.random() as u64);
    let hash = match &fields.secret {
        Some(secret) => Some(desk.hash_secret(secret.clone()).await?),
        None => None,
    };
    let card = AgentCard {
        name: fields.name.clone().unwrap_or_default(),
        kind: fields.kind.clone().unwrap_or_default(),
        role: fields.role.clone(),
        description: fields.description.clone(),
        metadata: fields.metadata(),
        config: fields.config(None),
        ..AgentCard::default()
    };
    let mut state = ask(desk, who, Command::RegisterAgent(RegisterAgent { agent: id.clone(), card })).await?;
    if let Some(hash) = hash {
        state = ask(desk, who, Command::SetAgentSecret(id.clone(), hash)).await?;
    }
    if suspended {
        let changes = AgentChanges { suspended: Some(true), ..AgentChanges::default() };
        state = ask(desk, who, Command::UpdateAgent(id.clone(), changes)).await?;
    }
    Ok(Response::json(201, &whole(agent(&state, id.as_str())?, who)))
}

async fn change(id: &str, request: &Request<'_>, who: &Identity, desk: &impl Desk) -> Answer {
    let fields: Fields = body(request)?;
    fields.check(false)?;
    let state = state_of(who, desk)?;
    let known = agent(&state, id)?;
    access::may_act_as(&state, &who.principal, &Principal::Agent(known.id.clone()))?;
    let suspended = may_suspend(&fields, who, &state)?;
    let changes = AgentChanges {
        name: fields.name.clone(),
        role: fields.role.clone(),
        description: fields.description.clone(),
        metadata: Some(fields.metadata()).filter(|metadata| *metadata != Json::empty_object()),
        config: fields.config(known.card.config.as_ref()),
        suspended: fields.status.as_ref().map(|_| suspended).filter(|wanted| *wanted != known.suspended),
        ..AgentChanges::default()
    };
    let hash = match &fields.secret {
        Some(secret) => Some(desk.hash_secret(secret.clone()).await?),
        None => None,
    };
    let mut after = ask(desk, who, Command::UpdateAgent(known.id.clone(), changes)).await?;
    if let Some(hash) = hash {
        after = ask(desk, who, Command::SetAgentSecret(known.id.clone(), hash)).await?;
    }
    Ok(Response::json(200, &whole(agent(&after, id)?, who)))
}

async fn remove(id: &str, who: &Identity, desk: &impl Desk) -> Answer {
    let agent = agent(&*state_of(who, desk)?, id)?.id.clone();
    ask(desk, who, Command::RemoveAgent(agent, "removed by its owner".into())).await?;
    Ok(Response::json(200, &json!({ "message": "Agent deleted successfully" })))
}

/// `GET /agents/:id/config`: what it is told at its start, without a token, for users.
fn config(id: &str, who: &Identity, desk: &impl Desk) -> Answer {
    if who.principal.user().is_none() {
        return Err(Failure::new(403, "Only users read an agent's configuration"));
    }
    let state = state_of(who, desk)?;
    Ok(Response::json(200, &beginning(agent(&state, id)?, "", 0)))
}

#[derive(Deserialize)]
struct Heartbeat {
    status: String,
}

/// `POST /agents/:id/heartbeat`: what the agent does. Without a connection it is not here, whatever it says: presence is a
/// matter of connections alone (notes §11).
async fn heartbeat(id: &str, request: &Request<'_>, who: &Identity, desk: &impl Desk) -> Answer {
    use roundtable_core::agents::AgentStatus::{Busy, Online};
    let Heartbeat { status } = body(request)?;
    let status = match status.as_str() {
        "online" | "idle" => Online,
        "busy" => Busy,
        _ => return Err(Failure::invalid("status must be one of online, busy, idle")),
    };
    if !is_agent(who, id) {
        return Err(Failure::new(403, "An agent reports for itself only"));
    }
    let state = state_of(who, desk)?;
    if state.online(&who.principal) {
        let agent = agent(&state, id)?.id.clone();
        ask(desk, who, Command::SetAgentStatus(agent, status, "set_by_agent".into())).await?;
    }
    Ok(Response::json(200, &json!({ "success": true })))
}

/// `POST /agents/:id/credentials/regenerate`: a new secret, shown this once; the old one is worth nothing any more.
async fn new_secret(id: &str, who: &Identity, desk: &impl Desk) -> Answer {
    let state = state_of(who, desk)?;
    let agent = agent(&state, id)?.id.clone();
    if !access::may_operate(&state, &who.principal) {
        return Err(Failure::new(403, "Only owners and editors make new credentials"));
    }
    let secret = format!("{:032x}", desk.random());
    let hash = desk.hash_secret(secret.clone()).await?;
    ask(desk, who, Command::SetAgentSecret(agent, hash)).await?;
    let env = format!("AGENT_ID={id}\nAGENT_SECRET={secret}\n");
    let script = format!("#!/bin/sh\nset -eu\numask 077\ncat > .env <<'EOF'\n{env}EOF\n");
    let answer = json!({ "agentId": id, "secret": secret, "envConfig": env, "installScript": script });
    Ok(Response::json(200, &answer))
}

/// `POST /agents/:id/disconnect`: the token that asks is worth nothing any more, and the connections that came with it end.
async fn disconnect(id: &str, who: &Identity, desk: &impl Desk) -> Answer {
    if !is_agent(who, id) {
        return Err(Failure::new(403, "An agent disconnects itself only"));
    }
    if let (Credential::Token { jti }, Some(expires_at)) = (&who.credential, who.expires_at) {
        ask(
            desk,
            who,
            Command::RevokeToken(TokenRevoked {
                jti: jti.clone(),
                expires_at,
                bearer: Some(who.principal.clone()),
            }),
        )
        .await?;
    }
    Ok(Response::json(200, &json!({ "success": true })))
}

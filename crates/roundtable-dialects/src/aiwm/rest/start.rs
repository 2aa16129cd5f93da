//! How an agent begins: its secret for a token, and what it is told about itself (notes §2).

use roundtable_core::agents::Agent;
use roundtable_core::ids::AgentId;
use roundtable_core::state::State;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Failure, body, member_or};
use crate::rest::{Desk, Request, Response, TokenOrder};
use crate::session::{Credentials, Family, Proof, Refusal};

/// No such agent.
pub(super) fn unknown(id: &str) -> Failure {
    let shown: String = id.chars().take(128).collect();
    Failure::new(404, format!("Agent with ID {shown} not found"))
}

/// The agent of a path.
pub(super) fn agent<'a>(state: &'a State, id: &str) -> Result<&'a Agent, Failure> {
    let found = AgentId::new(id).ok().and_then(|id| state.agent(&id));
    found.ok_or_else(|| unknown(id))
}

#[derive(Deserialize)]
struct Connect {
    #[serde(default)]
    secret: Option<Value>,
}

/// `POST /agents/:id/connect`: the secret for a token and everything an agent needs to begin (notes §2).
pub(super) async fn connect(id: &str, request: &Request<'_>, desk: &impl Desk) -> Answer {
    let secret = body::<Connect>(request)?.secret.unwrap_or_default();
    let Some(secret) = secret.as_str().filter(|secret| !secret.is_empty()) else {
        return Err(Failure::invalid("secret is required and must be a string"));
    };
    let proof = Proof::AgentSecret { agent: id.to_owned(), secret: secret.to_owned() };
    let found = desk.identify(Credentials { domain_key: None, proof }, request.peer).await;
    let identity = found.map_err(|refusal| match refusal {
        Refusal::TooManyFailures(_) => Failure::at_door(refusal),
        // Only who has shown the right secret hears so.
        Refusal::Suspended => Failure::new(403, "Agent is suspended"),
        _ => wrong(),
    })?;
    let state = desk.state(&identity.workspace).ok_or_else(wrong)?;
    let agent = agent(&state, id).map_err(|_| wrong())?;
    let org = identity.workspace.as_str();
    let claims = json!({
        "username": format!("agent:{id}"), "status": standing(agent), "roles": ["organization.viewer"],
        "orgId": org, "groupId": "", "agentId": id, "userId": "", "type": "agent",
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
    Ok(Response::json(200, &beginning(agent, &token.token, ttl_s)))
}

/// Unknown, deleted, without a secret, or with a wrong one: nothing tells which (notes §2).
fn wrong() -> Failure {
    Failure::new(401, "Invalid credentials")
}

/// What an agent is told at its start.
pub(super) fn beginning(agent: &Agent, token: &str, expires_in: u32) -> Value {
    let config: Value = agent.card.config.as_ref().and_then(|config| config.read()).unwrap_or_default();
    let no_instruction = json!({
        "id": "", "systemPrompt": "No instruction configured for this agent.", "guidelines": [],
    });
    let mut answer = json!({
        "accessToken": token,
        "expiresIn": expires_in,
        "refreshToken": null,
        "refreshExpiresIn": 0,
        "tokenType": "bearer",
        "instruction": member_or(&config, "instruction", no_instruction),
        "settings": member_or(&config, "settings", json!({})),
        "mcpServers": member_or(&config, "mcpServers", json!({})),
    });
    let deployment = config.get("deployment").filter(|value| value.is_object());
    if let (Some(deployment), Some(answer)) = (deployment, answer.as_object_mut()) {
        answer.insert("deployment".into(), deployment.clone());
    }
    answer
}

/// The agent's standing in this dialect's words: `suspended`, or what its owner set, or `active`.
pub(super) fn standing(agent: &Agent) -> String {
    if agent.suspended {
        return "suspended".into();
    }
    let metadata: Value = agent.card.metadata.read().unwrap_or_default();
    let set = metadata.get("status").and_then(Value::as_str);
    set.filter(|set| ["active", "inactive", "busy"].contains(set)).unwrap_or("active").to_owned()
}

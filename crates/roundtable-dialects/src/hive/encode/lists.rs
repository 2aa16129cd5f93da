//! The lists of the older front-end: all agents and figures at once, complete up to what one frame may hold (Hive notes §5).

use std::collections::BTreeSet;

use roundtable_core::agents::{Agent, AgentStatus};
use roundtable_core::ids::Principal;
use roundtable_core::state::State;
use serde_json::{Value, json};

use super::status::{energy, metrics, position, swarm};

/// Most bytes of one list: a frame stays below 1 MiB with what surrounds it.
const MAX_LIST_BYTES: usize = 1_000_000;
/// Members of a room that are looked at for who knows whom: in a hall of thousands nobody does.
const MAX_COMPANY: usize = 1_000;
/// Rooms of an agent that are looked at for it.
pub const MAX_ROOMS: usize = 100;

/// What an agent does, in the front-end's words.
const fn state_word(status: AgentStatus) -> &'static str {
    match status {
        AgentStatus::Busy => "Working",
        AgentStatus::Failed => "Failed",
        AgentStatus::Online | AgentStatus::Away | AgentStatus::Offline | AgentStatus::Paused => "Idle",
    }
}

/// The other agents it shares a room with.
pub fn company(state: &State, agent: &Agent) -> BTreeSet<String> {
    let me = Principal::Agent(agent.id.clone());
    let rooms = state.rooms_of(&me).take(MAX_ROOMS).filter_map(|id| state.room(id));
    let members = rooms.flat_map(|room| room.members.keys().take(MAX_COMPANY));
    members.filter(|who| **who != me).filter_map(Principal::agent).map(|id| id.as_str().to_owned()).collect()
}

fn agent(state: &State, agent: &Agent) -> Value {
    let kind = if agent.card.kind.is_empty() { "Worker" } else { agent.card.kind.as_str() };
    json!({
        "id": agent.id.as_str(),
        "name": agent.card.name,
        "type": kind,
        "state": state_word(agent.status),
        "capabilities": agent.card.capabilities,
        "position": position(agent.id.as_str()),
        "energy": energy(agent),
        // Outcomes of tasks are the only experience, and the log holds no tasks.
        "experience_count": 0,
        "social_connections": company(state, agent).len(),
    })
}

/// All agents, newest first.
pub fn newest_first(state: &State) -> Vec<&Agent> {
    let mut agents: Vec<&Agent> = state.agents().collect();
    agents.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| b.id.cmp(&a.id)));
    agents
}

/// The `data` of `agents_update`.
pub fn agents(state: &State) -> Value {
    let mut room = MAX_LIST_BYTES;
    let mut shown = Vec::new();
    for one in newest_first(state) {
        let view = agent(state, one);
        let Some(left) = room.checked_sub(view.to_string().len() + 1) else {
            return json!({"agents": shown, "truncated": true});
        };
        room = left;
        shown.push(view);
    }
    json!({ "agents": shown })
}

/// The `data` of `metrics_update`.
pub fn figures(state: &State) -> Value {
    let swarm = swarm(state);
    json!({"metrics": metrics(&swarm), "swarm_center": swarm.center, "total_energy": swarm.energy})
}

//! The state of the whole, as dashboards are told it: counted and measured, nothing invented (Hive notes §4, §8).

use std::collections::BTreeMap;

use roundtable_core::agents::{Agent, AgentStatus};
use roundtable_core::alerts::Level;
use roundtable_core::components::Health;
use roundtable_core::feeds::Feed;
use roundtable_core::state::State;
use roundtable_core::time::Time;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{health as health_word, level};
use crate::hive::wire::uuid;
use crate::iso::iso;
use crate::session::Scene;

/// Energy of an agent whose maker said nothing about it.
const FULL_ENERGY: f64 = 100.0;

/// What the agents are together.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Swarm {
    /// How many there are.
    pub total: usize,
    /// How many are here.
    pub active: usize,
    /// Mean proficiency over all capabilities.
    pub learning: f64,
    /// Mean pairwise overlap of what they can do.
    pub cohesion: f64,
    /// Mean position.
    pub center: [f64; 2],
    /// Sum of their energies.
    pub energy: f64,
}

/// Counts them. Overlap is the cosine of two sets (1 for equal, 0 for disjoint ones): its mean over all pairs takes one pass.
pub fn swarm(state: &State) -> Swarm {
    let mut swarm = Swarm::default();
    let mut shares: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    let (mut proficiency, mut capabilities) = (0.0, 0_usize);
    for agent in state.agents() {
        swarm.total += 1;
        let here = matches!(agent.status, AgentStatus::Online | AgentStatus::Busy | AgentStatus::Away);
        swarm.active += usize::from(here);
        swarm.energy += energy(agent);
        let [x, y] = position(agent.id.as_str());
        swarm.center = [swarm.center[0] + x, swarm.center[1] + y];
        let known = &agent.card.capabilities;
        capabilities += known.len();
        proficiency += known.iter().map(|c| c.proficiency).sum::<f64>();
        let weight = 1.0 / (known.len().max(1) as f64).sqrt();
        for capability in known {
            let (sum, squares) = shares.entry(&capability.name).or_default();
            *sum += weight;
            *squares += weight * weight;
        }
    }
    let count = swarm.total as f64;
    if swarm.total > 0 {
        swarm.center = swarm.center.map(|sum| rounded(sum / count));
    }
    if capabilities > 0 {
        swarm.learning = proficiency / capabilities as f64;
    }
    if swarm.total > 1 {
        // A sum of nothing would be written as -0.0.
        let together = shares.values().fold(0.0, |all, (sum, squares)| all + (sum * sum - squares) / 2.0);
        swarm.cohesion = (together / (count * (count - 1.0) / 2.0)).clamp(0.0, 1.0);
    }
    swarm
}

/// Where an agent is drawn: fixed by its id, each from 0 to 100.
pub fn position(id: &str) -> [f64; 2] {
    let digest: [u8; 32] = Sha256::digest(id.as_bytes()).into();
    let [a, b, c, d, ..] = digest;
    [[a, b], [c, d]].map(|pair| rounded(f64::from(u16::from_be_bytes(pair)) / f64::from(u16::MAX) * 100.0))
}

/// Two decimals are enough for a picture.
fn rounded(x: f64) -> f64 {
    (x * 100.0).round() / 100.0
}

/// An agent's energy: what its maker gave it. Nothing takes any away while it has no tasks.
pub fn energy(agent: &Agent) -> f64 {
    if !agent.card.metadata.as_str().contains("initial_energy") {
        return FULL_ENERGY;
    }
    let metadata: Map<String, Value> = agent.card.metadata.read().unwrap_or_default();
    metadata.get("initial_energy").and_then(Value::as_f64).unwrap_or(FULL_ENERGY)
}

/// The seven figures of the front-end.
pub fn metrics(swarm: &Swarm) -> Map<String, Value> {
    let mut metrics = Map::new();
    metrics.insert("total_agents".into(), swarm.total.into());
    metrics.insert("active_agents".into(), swarm.active.into());
    // The log holds no tasks, so none was ever done and no agent has a score.
    metrics.insert("completed_tasks".into(), 0.into());
    metrics.insert("failed_tasks".into(), 0.into());
    metrics.insert("average_performance".into(), 0.0.into());
    metrics.insert("swarm_cohesion".into(), swarm.cohesion.into());
    metrics.insert("learning_progress".into(), swarm.learning.into());
    metrics
}

/// `healthy`, `degraded` with an active warning or a component that is not well, `unhealthy` with an active critical alert.
pub fn health(state: &State) -> &'static str {
    let alerts = state.alerts_for(Feed::Activity).map(|alert| match alert.raised.level {
        Level::Critical => Health::Unhealthy,
        Level::Warning => Health::Degraded,
        Level::Info => Health::Healthy,
    });
    // A part that does not work is worse for its own work than for the whole.
    let parts = state.components().map(|part| part.changed.new.min(Health::Degraded));
    health_word(alerts.chain(parts).max().unwrap_or_default())
}

/// How the server's own parts are: a busy machine, and alerts that people set, do not touch it.
pub fn own_health(state: &State) -> &'static str {
    health_word(state.components().map(|part| part.changed.new).max().unwrap_or_default())
}

/// A name for the whole that never changes.
pub fn hive_id(state: &State) -> String {
    uuid("hive", &[state.domain_key_hash.as_bytes()])
}

/// The `data` of `hive_status_update`.
pub fn data(scene: Scene<'_>, at: Time) -> Value {
    let state = scene.state;
    let swarm = swarm(state);
    let mut figures = metrics(&swarm);
    figures.insert("pending_tasks".into(), 0.into());
    figures.insert("completed_tasks_today".into(), 0.into());
    figures.insert("system_load".into(), scene.figures.load.into());
    let alerts: Vec<Value> = state
        .alerts_for(Feed::Activity)
        .map(|alert| {
            json!({
                "level": level(alert.raised.level),
                "message": alert.raised.message,
                "timestamp": iso(alert.at),
                "alert_id": alert.raised.alert.as_str(),
                "acknowledged": alert.acknowledged.is_some(),
            })
        })
        .collect();
    json!({
        "status": health(state),
        "metrics": figures,
        "alerts": alerts,
        "timestamp": iso(at),
        "hive_id": hive_id(state),
        "created_at": iso(state.created_at),
        "last_update": iso(at),
        "swarm_center": swarm.center,
        "total_energy": swarm.energy,
    })
}

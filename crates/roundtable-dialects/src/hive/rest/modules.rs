//! `/api/modules`: the parts of the server by this dialect's names, each judged by what is really known of it (Hive notes §9).

use std::collections::BTreeSet;

use roundtable_core::agents::AgentStatus;
use roundtable_core::components::Health;
use roundtable_core::feeds::Feed;
use roundtable_core::state::State;
use serde_json::{Value, json};

use super::{Answer, Call};
use crate::figures::{Figures, GAUGE_COUNT};
use crate::hive::encode::{health as health_word, status};
use crate::hive::errors::Fault;
use crate::hive::wire::MAX_ECHO_BYTES;
use crate::iso::iso;
use crate::rest::Desk;

/// The documented modules; the server's own components stand beside them under their own names.
pub(super) const MODULES: [&str; 5] =
    ["coordinator", "agent_management", "task_management", "background_processes", "metrics_collection"];

/// A sample older than this is no present one, in milliseconds: several intervals.
const STALE_MS: i64 = 60_000;

/// All modules: the documented ones, and components that were ever anything but well.
pub(super) fn names(state: &State) -> Vec<&str> {
    let own: BTreeSet<&str> = state.components().map(|part| part.changed.component.as_str()).collect();
    let further = own.into_iter().filter(|name| !MODULES.contains(name));
    MODULES.into_iter().chain(further).collect()
}

/// How a module is, as the server last said; well if it never said anything.
fn health_of(state: &State, name: &str) -> Health {
    state.component(name).map_or(Health::Healthy, |part| part.changed.new)
}

/// The same in this dialect's words.
pub(super) fn word(state: &State, name: &str) -> &'static str {
    health_word(health_of(state, name))
}

/// `/api/modules/status`.
pub(super) fn all<D: Desk>(call: &Call<'_, D>) -> Answer {
    let state = &call.state;
    let view = |name: &str| {
        let part = state.component(name);
        let view = json!({
            "status": word(state, name),
            "reason": part.map(|part| part.changed.reason.as_str()),
            "since": part.map(|part| iso(part.at)),
        });
        (name.to_owned(), view)
    };
    let figures = call.desk.figures();
    let modules: serde_json::Map<String, Value> = names(state).into_iter().map(view).collect();
    let data = json!({
        "modules": modules,
        // What the engine hands to everything else are records. How well it does so has no unit, so no number either.
        "inter_module_communication": {
            "messages_per_second": figures.records_per_second,
            "coordination_efficiency": null,
            "error_rate": figures.error_rate,
        },
    });
    Answer::new(200, data)
}

/// What comes after `/api/modules/`.
pub(super) fn one<D: Desk>(call: &Call<'_, D>, name: &str, what: &str) -> Option<Result<Answer, Fault>> {
    if !matches!(what, "metrics" | "health") {
        return None;
    }
    if !names(&call.state).contains(&name) {
        let shown: String = name.chars().take(MAX_ECHO_BYTES / 2).collect();
        return Some(Err(Fault::new("NOT_FOUND", 404, format!("There is no module {shown}"))));
    }
    let now = call.desk.now();
    let figures = call.desk.figures();
    let data = if what == "metrics" {
        let metrics = metrics(&call.state, &figures, name);
        json!({"module": name, "metrics": metrics, "timestamp": iso(now)})
    } else {
        let checks = checks(&call.state, (&figures, now.since(figures.at)), name);
        let passed = checks.iter().filter(|check| check.1).count();
        let worst = if passed < checks.len() { Health::Degraded } else { Health::Healthy };
        let failed: Vec<String> =
            checks.iter().filter(|check| !check.1).map(|check| check.2.clone()).collect();
        let shown: Vec<Value> = checks
            .iter()
            .map(|(name, well, found)| json!({"name": name, "status": if *well { "pass" } else { "fail" }, "message": found}))
            .collect();
        json!({
            "module": name,
            "status": health_word(health_of(&call.state, name).max(worst)),
            "health_score": passed as f64 / checks.len().max(1) as f64,
            "last_check": iso(now),
            "checks": shown,
            "recommendations": failed,
        })
    };
    Some(Ok(Answer::new(200, data)))
}

/// What is counted and measured of a module.
pub(super) fn metrics(state: &State, figures: &Figures, name: &str) -> Value {
    let doing =
        |wanted: &[AgentStatus]| state.agents().filter(|agent| wanted.contains(&agent.status)).count();
    match name {
        "coordinator" => json!({
            "events_total": state.head.0,
            "events_per_second": figures.records_per_second,
            "error_rate": figures.error_rate,
            "messages_total": state.messages,
            "rooms": state.rooms().len(),
        }),
        "agent_management" => json!({
            "total_agents": state.agents().len(),
            "idle_agents": doing(&[AgentStatus::Online, AgentStatus::Away]),
            "active_agents": doing(&[AgentStatus::Busy]),
            "paused_agents": doing(&[AgentStatus::Paused]),
            "failed_agents": doing(&[AgentStatus::Failed]),
            "offline_agents": doing(&[AgentStatus::Offline]),
            "mean_proficiency": status::swarm(state).learning,
        }),
        // The log holds no tasks.
        "task_management" => json!({
            "pending_tasks": 0, "running_tasks": 0, "completed_tasks": 0, "failed_tasks": 0,
        }),
        "background_processes" => json!({
            "active_alerts": state.alerts_for(Feed::Activity).count(),
            "alert_thresholds": state.thresholds().len(),
        }),
        "metrics_collection" => json!({
            "metrics_tracked": GAUGE_COUNT,
            "last_sample": iso(figures.at),
        }),
        // Of a component it is known how it is, and no figure.
        _ => json!({}),
    }
}

/// A check: its name, whether it passed, what was found.
type Check = (&'static str, bool, String);

fn checks(state: &State, (figures, age_ms): (&Figures, i64), name: &str) -> Vec<Check> {
    let part = state.component(name);
    let said =
        part.map_or_else(|| "nothing wrong was reported".to_owned(), |part| part.changed.reason.clone());
    let mut checks = vec![("reported_health", health_of(state, name) == Health::Healthy, said)];
    match name {
        "agent_management" => {
            let failed = state.agents().filter(|agent| agent.status == AgentStatus::Failed).count();
            checks.push(("failed_agents", failed == 0, format!("{failed} agents have failed")));
        }
        "background_processes" => {
            let critical = state
                .alerts_for(Feed::Activity)
                .filter(|a| a.raised.level == roundtable_core::alerts::Level::Critical);
            let critical = critical.count();
            checks.push(("critical_alerts", critical == 0, format!("{critical} critical alerts are active")));
        }
        "metrics_collection" => {
            let fresh = age_ms < STALE_MS;
            checks.push(("fresh_samples", fresh, format!("the last sample is from {}", iso(figures.at))));
        }
        _ => {}
    }
    checks
}

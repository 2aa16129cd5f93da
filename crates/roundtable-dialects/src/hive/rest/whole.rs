//! The whole at a glance: health, the state of the hive, the machine's resources (Hive notes §9).

use serde_json::{Map, Value, json};

use super::{Answer, Call, arrive, modules, unavailable};
use crate::figures::Figures;
use crate::hive::encode::status;
use crate::hive::errors::Fault;
use crate::iso::iso;
use crate::rest::{Desk, Request};

/// One mebibyte: the unit of the documented memory figures.
const MIB: u64 = 1 << 20;

/// Whether the whole is well. Open to everybody, so that a watchdog needs no credential; strangers learn the word and the
/// time, and nothing of modules and machine.
pub(super) fn health(desk: &impl Desk, known: bool) -> Result<Answer, Fault> {
    let state = desk.state(&desk.default_workspace()).ok_or_else(unavailable)?;
    let (figures, now) = (desk.figures(), desk.now());
    let word = status::own_health(&state);
    let status = if word == "healthy" { 200 } else { 503 };
    if !known {
        return Ok(Answer::new(status, json!({"status": word, "timestamp": iso(now)})).top("status", word));
    }
    let parts: Map<String, Value> = modules::names(&state)
        .into_iter()
        .map(|name| (name.to_owned(), modules::word(&state, name).into()))
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
    Ok(Answer::new(status, data).top("status", word))
}

/// The state of the whole, as the front-end reads it.
pub(super) async fn status(request: &Request<'_>, desk: &impl Desk) -> Result<Answer, Fault> {
    let call = arrive(request, desk).await?;
    let swarm = status::swarm(&call.state);
    let data = json!({
        "id": status::hive_id(&call.state),
        "created_at": iso(call.state.created_at),
        "last_update": iso(desk.now()),
        "metrics": status::metrics(&swarm),
        "swarm_center": swarm.center,
        "total_energy": swarm.energy,
    });
    Ok(Answer::new(200, data))
}

/// What the machine has and what of it is in use. The front-end reads the same at top level, with memory in bytes.
pub(super) fn resources<D: Desk>(call: &Call<'_, D>) -> Answer {
    let figures = call.desk.figures();
    let class = hardware_class(&figures);
    let system = |memory: u64| {
        json!({
            "cpu_usage": figures.cpu_percent,
            "memory_usage": figures.memory_percent,
            "available_memory": memory,
            "cpu_cores": figures.cores,
            "disk_usage": figures.disk_percent,
            "simd_capabilities": figures.simd,
            "last_updated": iso(figures.at),
        })
    };
    let data = json!({
        "system_resources": system(figures.available_memory / MIB),
        "hive_resources": {
            "allocated_memory": figures.process_memory / MIB,
            "active_connections": figures.connections,
            // The queue is that of tasks, and the log holds none.
            "queue_depth": 0,
        },
    });
    // Nothing here is tuned to the machine and no neural network runs: what has no value is null or 0.
    let profile = json!({
        "profile_name": class, "max_agents": null, "neural_complexity": 0.0, "batch_size": null,
        "update_frequency": null,
    });
    Answer::new(200, data)
        .top("system_resources", system(figures.available_memory))
        .top("resource_profile", profile)
        .top("hardware_class", class)
}

/// What kind of machine it is, by its cores and its memory.
fn hardware_class(figures: &Figures) -> &'static str {
    match (figures.cores, figures.total_memory / MIB) {
        (0..=1, _) | (_, 0..=1_999) => "EdgeDevice",
        (2..=15, _) | (_, 2_000..=31_999) => "Desktop",
        _ => "Server",
    }
}

#[cfg(test)]
mod tests {
    use super::{Figures, MIB, hardware_class};

    #[test]
    fn machines_have_a_class() {
        let class = |cores, mib: u64| {
            hardware_class(&Figures { cores, total_memory: mib * MIB, ..Figures::default() })
        };
        assert_eq!(
            [class(1, 64_000), class(2, 1_000), class(8, 64_000), class(64, 16_000)],
            ["EdgeDevice", "EdgeDevice", "Desktop", "Desktop"]
        );
        assert_eq!(class(16, 64_000), "Server");
    }
}

//! Records as this dialect's events: one frame per record, the same for all receivers (Hive notes §4).

use roundtable_core::agents::{AgentCard, AgentRegistered, AgentRemoved, AgentStatus, AgentStatusChanged};
use roundtable_core::alerts::{AlertRaised, Level};
use roundtable_core::components::{FaultNoticed, Health, HealthChanged, Severity};
use roundtable_core::delivery::{Delivery, Item};
use roundtable_core::event::{Event, Record};
use roundtable_core::feeds::Feed;
use roundtable_core::time::Time;
use serde_json::{Map, Value, json};
use smallvec::smallvec;

use super::wire::{Frame, Priority, number_of, uuid};
use crate::iso::iso;
use crate::session::{Form, Messages, Scene};

pub mod lists;
pub mod status;

/// The one form there is.
pub const FORM: Form = Form(0);

/// Alert sources that are a resource of the machine.
const RESOURCES: [&str; 3] = ["cpu", "memory", "disk"];

/// The name of a record's event, if it has one here.
pub fn name_of(record: &Record) -> Option<&'static str> {
    match &record.event {
        Event::AgentRegistered(_) => Some("agent_created"),
        Event::AgentStatusChanged(e) => (word(e.old) != word(e.new)).then_some("agent_status_changed"),
        Event::AgentRemoved(_) => Some("agent_removed"),
        Event::AlertRaised(e) if resource_of(e).is_some() => Some("resource_alert"),
        Event::AlertRaised(_) => Some("system_alert"),
        Event::HealthChanged(_) => Some("module_status_changed"),
        Event::FaultNoticed(_) => Some("error_occurred"),
        Event::FeedMarked(e) => (e.report && e.feed == Feed::Activity).then_some("hive_status_update"),
        _ => None,
    }
}

/// The resource that an alert says is used too much: one of the machine's own limits, or a user's threshold on its figure.
fn resource_of(e: &AlertRaised) -> Option<&'static str> {
    if let Some(own) = RESOURCES.into_iter().find(|resource| *resource == e.source) {
        return Some(own);
    }
    if !e.source.starts_with("threshold:") {
        return None;
    }
    let details: Map<String, Value> = e.details.read().unwrap_or_default();
    let metric = details.get("metric")?.as_str()?.strip_suffix("_usage")?;
    let too_much = details.get("trend").and_then(Value::as_str) == Some("increasing");
    RESOURCES.into_iter().find(|resource| *resource == metric && too_much)
}

/// The frame of a delivery; none for what this dialect does not show.
pub fn encode(_form: Form, delivery: &Delivery<'_>, scene: Scene<'_>) -> Messages {
    match delivery.item {
        Item::Record(record) => frame(record, scene).map_or_else(Messages::new, |f| smallvec![f.message()]),
        Item::Signal(_) => Messages::new(),
    }
}

/// A record's frame.
pub fn frame<'a>(record: &Record, scene: Scene<'_>) -> Option<Frame<'a>> {
    let name = name_of(record)?;
    let at = record.at;
    let (data, priority) = match &record.event {
        Event::AgentRegistered(e) => (created(e, at), Priority::Normal),
        Event::AgentStatusChanged(e) => (status_changed(e, at), Priority::Normal),
        Event::AgentRemoved(e) => (removed(e, at), Priority::Normal),
        Event::AlertRaised(e) => {
            let data = if name == "resource_alert" { resource(e, at) } else { system(e, at) };
            (data, if e.level == Level::Critical { Priority::High } else { Priority::Normal })
        }
        Event::HealthChanged(e) => (health_changed(e, at), Priority::Normal),
        Event::FaultNoticed(e) => (fault(e, at), Priority::High),
        Event::FeedMarked(_) => (status::data(scene, at), Priority::Low),
        _ => return None,
    };
    let workspace = scene.state.domain_key_hash.as_bytes();
    let (epoch, offset) = (scene.epoch.to_be_bytes(), record.offset.0.to_be_bytes());
    Some(Frame {
        name,
        data,
        at,
        message_id: uuid("event", &[workspace, &epoch, &offset]),
        sequence: number_of(record.offset),
        correlation_id: None,
        priority,
        pong: None,
    })
}

/// What an agent does, in this dialect's words. Being away is being idle: the agent can still be asked.
pub const fn word(status: AgentStatus) -> &'static str {
    match status {
        AgentStatus::Online | AgentStatus::Away => "idle",
        AgentStatus::Busy => "active",
        AgentStatus::Failed => "failed",
        AgentStatus::Paused => "paused",
        AgentStatus::Offline => "offline",
    }
}

/// Why its status changed. An agent that is back is told as one that was resumed; other reasons are the same here and there.
fn reason(reason: &str) -> &str {
    if reason == "connected" { "resumed" } else { reason }
}

/// What kind of agent it is, in lower case; who never said is a worker.
pub fn kind(card: &AgentCard) -> String {
    if card.kind.is_empty() { "worker".into() } else { card.kind.to_lowercase() }
}

fn created(e: &AgentRegistered, at: Time) -> Value {
    json!({
        "agent": {
            "id": e.agent.as_str(),
            "name": e.card.name,
            "type": kind(&e.card),
            "capabilities": e.card.capabilities,
            "created_at": iso(at),
        },
        "success": true,
        "agent_id": e.agent.as_str(),
        "message": format!("Agent {} was created", e.card.name),
    })
}

fn status_changed(e: &AgentStatusChanged, at: Time) -> Value {
    json!({
        "agent_id": e.agent.as_str(),
        "old_status": word(e.old),
        "new_status": word(e.new),
        "reason": reason(&e.reason),
        "timestamp": iso(at),
    })
}

fn removed(e: &AgentRemoved, at: Time) -> Value {
    json!({
        "agent_id": e.agent.as_str(),
        "reason": e.reason,
        // An agent has nothing else that could stay behind: what it said belongs to its rooms.
        "cleanup_summary": {"tasks_reassigned": 0, "data_removed": true},
        "timestamp": iso(at),
    })
}

/// How bad an alert is, in this dialect's words.
pub const fn level(level: Level) -> &'static str {
    match level {
        Level::Info => "info",
        Level::Warning => "warning",
        Level::Critical => "critical",
    }
}

fn resource(e: &AlertRaised, at: Time) -> Value {
    let details: Map<String, Value> = e.details.read().unwrap_or_default();
    let resource = resource_of(e).unwrap_or_default();
    let advice: &[&str] = match resource {
        "cpu" => &["Spread the agents over more machines", "Pause agents that can wait"],
        "memory" => &["Close connections that nobody reads", "Give the machine more memory"],
        _ => &["Make room on the disk with the data directory", "Move old backups elsewhere"],
    };
    json!({
        "resource": resource,
        "usage_percent": e.value,
        "threshold_percent": e.threshold,
        // It crossed its threshold from below, if nothing else was measured.
        "trend": details.get("trend").and_then(Value::as_str).unwrap_or("increasing"),
        "recommendations": advice,
        "timestamp": iso(at),
        "level": level(e.level),
        "alert_id": e.alert.as_str(),
    })
}

fn system(e: &AlertRaised, at: Time) -> Value {
    let details: Map<String, Value> = e.details.read().unwrap_or_default();
    let known = |name: &str| details.get(name).cloned();
    json!({
        "level": level(e.level),
        "title": e.title,
        "message": e.message,
        "description": e.message,
        "details": {
            "error": known("error").unwrap_or_else(|| e.source.as_str().into()),
            "affected_components": known("affected_components").unwrap_or_else(|| json!([e.source])),
        },
        "timestamp": iso(at),
        "alert_id": e.alert.as_str(),
    })
}

/// How a component is, in this dialect's words.
pub const fn health(health: Health) -> &'static str {
    match health {
        Health::Healthy => "healthy",
        Health::Degraded => "degraded",
        Health::Unhealthy => "unhealthy",
    }
}

fn health_changed(e: &HealthChanged, at: Time) -> Value {
    json!({
        "module": e.component,
        "old_status": health(e.old),
        "new_status": health(e.new),
        "reason": e.reason,
        "affected_functions": e.affects,
        "timestamp": iso(at),
    })
}

fn fault(e: &FaultNoticed, at: Time) -> Value {
    json!({
        "error_id": e.fault.as_str(),
        "component": e.component,
        "error": {"code": e.code, "message": e.message, "details": e.details},
        "severity": match e.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
            Severity::Critical => "critical",
        },
        "timestamp": iso(at),
    })
}

//! Records and signals as this dialect's events, one form for all receivers (Open-A.G.I notes §4).

use roundtable_core::alerts::{AlertRaised, Finding, Level, SecurityNoticed};
use roundtable_core::cluster::{NodeJoined, NodeLeft};
use roundtable_core::delivery::{Delivery, Item};
use roundtable_core::event::{Event, Record};
use roundtable_core::signal::{Metric, Signal, SignalBody};
use roundtable_core::time::Time;
use serde_json::{Map, Value, json};
use smallvec::smallvec;

use super::wire::{self, Channel};
use crate::iso::iso;
use crate::session::{Form, Messages, Scene};

/// The one form there is.
pub const FORM: Form = Form(0);

/// Alert sources that are a resource which can be used up.
const RESOURCES: [&str; 4] = ["memory", "disk", "file_descriptors", "queue"];

/// Whether a delivery means anything to the subscribers of its channel.
pub fn is_shown(delivery: &Delivery<'_>) -> bool {
    match delivery.item {
        Item::Record(record) => match &record.event {
            Event::NodeJoined(_) | Event::NodeLeft(_) | Event::SecurityNoticed(_) => true,
            Event::AlertRaised(alert) => alert.level > Level::Info,
            _ => false,
        },
        Item::Signal(signal) => matches!(signal.body, SignalBody::Metric(_)),
    }
}

/// The frames of a delivery; none for what this dialect does not show.
pub fn encode(_form: Form, delivery: &Delivery<'_>, scene: Scene<'_>) -> Messages {
    match delivery.item {
        Item::Record(record) => of_record(record, scene),
        Item::Signal(Signal { at, body: SignalBody::Metric(metric), .. }) => {
            smallvec![wire::event(Channel::Monitoring, "metric_update", of_metric(metric, scene), *at)]
        }
        Item::Signal(_) => Messages::new(),
    }
}

fn of_record(record: &Record, scene: Scene<'_>) -> Messages {
    let at = record.at;
    match &record.event {
        Event::NodeJoined(e) => {
            smallvec![wire::event(Channel::Network, "node_joined", joined(e, at, scene), at)]
        }
        Event::NodeLeft(e) => smallvec![wire::event(Channel::Network, "node_left", left(e, at, scene), at)],
        Event::SecurityNoticed(e) => {
            let (name, data) = noticed(e, at, scene);
            smallvec![wire::event(Channel::Security, name, data, at)]
        }
        Event::AlertRaised(e) if e.level > Level::Info => {
            let event = |(name, data)| wire::event(Channel::Monitoring, name, data, at);
            raised(e, scene).into_iter().map(event).collect()
        }
        _ => Messages::new(),
    }
}

fn joined(e: &NodeJoined, at: Time, scene: Scene<'_>) -> Value {
    json!({
        "node_id": e.node.as_str(),
        "address": e.address,
        "timestamp": iso(at),
        "node_type": e.kind,
        "capabilities": e.capabilities,
        "total_nodes": scene.state.nodes().len(),
    })
}

fn left(e: &NodeLeft, at: Time, scene: Scene<'_>) -> Value {
    json!({
        "node_id": e.node.as_str(),
        "address": (!e.address.is_empty()).then_some(&e.address),
        "reason": e.reason,
        "last_seen": e.last_seen.map(iso),
        "timestamp": iso(at),
        "total_nodes": scene.state.nodes().len(),
    })
}

/// The rule's evidence is an object; the events name some of its members.
fn noticed(e: &SecurityNoticed, at: Time, scene: Scene<'_>) -> (&'static str, Value) {
    let evidence: Map<String, Value> = e.evidence.read().unwrap_or_default();
    let known = |name: &str| evidence.get(name).cloned().unwrap_or(Value::Null);
    match e.finding {
        Finding::Intrusion => (
            "intrusion_detected",
            json!({
                "attack_type": e.rule,
                "source_ip": e.source,
                "blocked": scene.state.blocked(&e.source, e.place.as_deref(), at).is_some(),
                "severity": e.severity,
                "alert_id": e.alert.as_str(),
                "description": e.message,
                "evidence": evidence,
                "confidence": known("confidence"),
            }),
        ),
        Finding::Blocked => (
            "attack_blocked",
            json!({
                "attack_type": e.rule,
                "source_ip": e.source,
                "alert_id": e.alert.as_str(),
                "action": evidence.get("action").and_then(Value::as_str).unwrap_or("banned"),
                "until": e.until.map(iso),
            }),
        ),
        Finding::Expired => (
            "certificate_expired",
            json!({
                "node_id": e.source,
                "subject": known("subject"),
                "expired_at": known("expired_at"),
                "fingerprint": known("fingerprint"),
            }),
        ),
        Finding::Suspicious => (
            "suspicious_activity",
            json!({
                "source": e.source,
                "activity": e.rule,
                "severity": "medium",
                "count": known("count"),
                "window_seconds": known("window_seconds"),
            }),
        ),
    }
}

/// An alert is `alert_raised`, or `performance_degradation` if it is about how long a value was too high; a resource at its
/// critical level is told besides.
fn raised(e: &AlertRaised, scene: Scene<'_>) -> Vec<(&'static str, Value)> {
    let details: Map<String, Value> = e.details.read().unwrap_or_default();
    let node = scene.figures.node.as_str();
    let metric = details.get("metric").and_then(Value::as_str).unwrap_or(metric_of(&e.source));
    let component = details.get("component").and_then(Value::as_str);
    if let (Some(component), Some(duration)) = (component, details.get("duration_seconds")) {
        let data = json!({
            "component": component,
            "metric": metric,
            "value": e.value,
            "threshold": e.threshold,
            "duration_seconds": duration,
            "node_id": node,
        });
        return vec![("performance_degradation", data)];
    }
    let alert = json!({
        "alert_id": e.alert.as_str(),
        "level": if e.level == Level::Critical { "critical" } else { "warning" },
        "title": e.title,
        "message": e.message,
        "metric": metric,
        "threshold": e.threshold,
        "value": e.value,
        "node_id": node,
    });
    let mut events = vec![("alert_raised", alert)];
    let named = details.get("resource").and_then(Value::as_str);
    let resource = named.or_else(|| RESOURCES.into_iter().find(|known| *known == e.source));
    if let (Level::Critical, Some(resource)) = (e.level, resource) {
        let data = json!({
            "resource": resource,
            "usage_percent": e.value,
            "threshold_percent": e.threshold,
            "node_id": node,
        });
        events.push(("resource_exhausted", data));
    }
    events
}

/// The metric that an alert's source is measured by.
fn metric_of(source: &str) -> &str {
    match source {
        "cpu" => "cpu_usage",
        "memory" => "memory_usage",
        "disk" => "disk_usage",
        other => other,
    }
}

fn of_metric(metric: &Metric, scene: Scene<'_>) -> Value {
    let reached = |limit: Option<f64>| limit.is_some_and(|limit| metric.value >= limit);
    let status = match (reached(metric.warning), reached(metric.critical)) {
        (_, true) => "critical",
        (true, false) => "warning",
        (false, false) => "normal",
    };
    json!({
        "metric": metric.name,
        "value": metric.value,
        "threshold": metric.warning,
        "status": status,
        "unit": metric.unit,
        "node_id": scene.figures.node,
    })
}

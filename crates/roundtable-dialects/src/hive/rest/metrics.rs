//! `/metrics`: figures as they are, as they were, and in the formats of other programs (Hive notes §9).

use std::fmt::Write as _;

use roundtable_core::feeds::Feed;
use roundtable_core::time::Time;
use serde_json::{Map, Value, json};

use super::{Answer, Call, modules};
use crate::figures::{Figures, GAUGES};
use crate::hive::encode::status;
use crate::hive::errors::Fault;
use crate::hive::wire::FieldError;
use crate::iso::iso;
use crate::rest::Desk;

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
/// The spans of a history, by their names.
const INTERVALS: [(&str, i64); 4] =
    [("1m", MINUTE_MS), ("5m", 5 * MINUTE_MS), ("1h", 60 * MINUTE_MS), ("1d", DAY_MS)];
/// What a history shows if nobody asks for another span of time.
const DEFAULT_SPAN_MS: i64 = 60 * MINUTE_MS;
/// Trends compare so many minutes with as many before.
const TREND_MINUTES: i64 = 5;

/// The figures of every module and of the machine, and where they are going.
pub(super) fn current<D: Desk>(call: &Call<'_, D>) -> Answer {
    Answer::new(200, view(call))
}

fn view<D: Desk>(call: &Call<'_, D>) -> Value {
    let figures = call.desk.figures();
    let mut current: Map<String, Value> = modules::MODULES
        .into_iter()
        .map(|name| (name.to_owned(), modules::metrics(&call.state, &figures, name)))
        .collect();
    let system: Map<String, Value> =
        GAUGES.iter().map(|gauge| (gauge.name.to_owned(), (gauge.of)(&figures).into())).collect();
    current.insert("system".into(), system.into());
    json!({
        "architecture": "modular",
        "current_metrics": current,
        "trends": trends(call),
        "collection_timestamp": iso(figures.at),
    })
}

/// How each figure's mean over the last minutes differs from that over the minutes before; empty until both were measured.
fn trends<D: Desk>(call: &Call<'_, D>) -> Value {
    let span = TREND_MINUTES * MINUTE_MS;
    let at = call.desk.figures().at;
    // The minute that has begun counts as the last one.
    let end = at.plus(MINUTE_MS - at.0.rem_euclid(MINUTE_MS));
    let means = |from: i64, to: i64| {
        let minutes = call.desk.history((end.plus(from), end.plus(to)), MINUTE_MS);
        let count = minutes.len() as f64;
        let enough = minutes.len() as i64 >= TREND_MINUTES;
        enough.then(|| {
            GAUGES
                .iter()
                .enumerate()
                .map(move |(place, _)| {
                    minutes.iter().filter_map(|minute| minute.values.get(place)).sum::<f64>() / count
                })
                .collect::<Vec<f64>>()
        })
    };
    let (Some(before), Some(last)) = (means(-2 * span, -span), means(-span, 0)) else { return json!({}) };
    let trend = |((gauge, before), last): ((&crate::figures::Gauge, f64), f64)| {
        let change = last - before;
        let noticeable = change.abs() > before.abs() * 0.05;
        let direction = match (noticeable, change > 0.0) {
            (false, _) => "stable",
            (true, true) => "increasing",
            (true, false) => "decreasing",
        };
        (gauge.name.to_owned(), json!({"direction": direction, "change": change}))
    };
    GAUGES.iter().zip(before).zip(last).map(trend).collect::<Map<String, Value>>().into()
}

/// Everything that is a number, by name and unit.
fn flat<D: Desk>(call: &Call<'_, D>, figures: &Figures) -> Vec<(&'static str, f64)> {
    let swarm = status::swarm(&call.state);
    let mut all: Vec<(&str, f64)> = GAUGES.iter().map(|gauge| (gauge.name, (gauge.of)(figures))).collect();
    all.extend([
        ("total_agents", swarm.total as f64),
        ("active_agents", swarm.active as f64),
        ("swarm_cohesion", swarm.cohesion),
        ("learning_progress", swarm.learning),
        ("events_total", call.state.head.0 as f64),
        ("messages_total", call.state.messages as f64),
        ("active_alerts", call.state.alerts_for(Feed::Activity).count() as f64),
        ("uptime_seconds", (call.desk.now().since(figures.started_at).max(0) / 1000) as f64),
    ]);
    all
}

/// `/metrics/export/{format}`; `None` if there is no such format.
pub(super) fn export<D: Desk>(call: &Call<'_, D>, format: &str) -> Option<Answer> {
    let figures = call.desk.figures();
    let mut text = String::new();
    let content_type = match format {
        "json" => {
            text = view(call).to_string();
            "application/json"
        }
        "prometheus" => {
            for (name, value) in flat(call, &figures) {
                let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
                let _ =
                    writeln!(text, "# TYPE ai_orchestrator_{name} {kind}\nai_orchestrator_{name} {value}");
            }
            "text/plain; version=0.0.4; charset=utf-8"
        }
        "graphite" => {
            for (name, value) in flat(call, &figures) {
                let _ = writeln!(text, "ai_orchestrator.{name} {value} {}", figures.at.as_seconds());
            }
            "text/plain; charset=utf-8"
        }
        "influxdb" => {
            let fields: Vec<String> =
                flat(call, &figures).iter().map(|(name, value)| format!("{name}={value}")).collect();
            let nanoseconds = figures.at.0.saturating_mul(1_000_000);
            let node = figures.node.replace([' ', ',', '='], "_");
            let _ = writeln!(text, "ai_orchestrator,node={node} {} {nanoseconds}", fields.join(","));
            "text/plain; charset=utf-8"
        }
        _ => return None,
    };
    Some(Answer::raw(content_type, text))
}

/// `/metrics/history`: means of what was really sampled, of at most the last day.
pub(super) fn history<D: Desk>(call: &Call<'_, D>) -> Result<Answer, Fault> {
    let end = moment(call, "end_time")?.unwrap_or_else(|| call.desk.now().plus(1));
    let start = moment(call, "start_time")?.unwrap_or_else(|| end.plus(-DEFAULT_SPAN_MS));
    if start >= end {
        return Err(wrong("start_time", "must lie before end_time", call.query("start_time")));
    }
    let asked = call.query("interval").unwrap_or_else(|| "5m".into());
    let interval = INTERVALS.iter().find(|(name, _)| *name == asked);
    let (interval, step) =
        interval.ok_or_else(|| wrong("interval", "must be 1m, 5m, 1h or 1d", Some(asked)))?;
    let names = call.query("metrics");
    let names: Vec<&str> = names.iter().flat_map(|names| names.split(',')).map(str::trim).collect();
    if let Some(unknown) = names.iter().find(|name| !GAUGES.iter().any(|gauge| gauge.name == **name)) {
        return Err(wrong("metrics", &format!("must be some of {}", known()), Some((*unknown).to_owned())));
    }
    let means = call.desk.history((start, end), *step);
    let series = |(place, gauge): (usize, &crate::figures::Gauge)| {
        let points: Vec<Value> = means
            .iter()
            .filter_map(|mean| {
                mean.values.get(place).map(|value| json!({"timestamp": iso(mean.at), "value": value}))
            })
            .collect();
        (gauge.name.to_owned(), points.into())
    };
    let wanted =
        GAUGES.iter().enumerate().filter(|(_, gauge)| names.is_empty() || names.contains(&gauge.name));
    let metrics: Map<String, Value> = wanted.map(series).collect();
    let range = json!({"start_time": iso(start), "end_time": iso(end), "interval": interval});
    Ok(Answer::new(200, json!({"time_range": range, "metrics": metrics})))
}

/// The names of everything that is kept over time.
pub(super) fn known() -> String {
    GAUGES.map(|gauge| gauge.name).join(", ")
}

fn wrong(field: &'static str, rule: &str, value: Option<String>) -> Fault {
    let message = format!("{field} {rule}");
    Fault::fields(vec![FieldError { field, message, value: value.map_or(Value::Null, Value::from) }])
}

/// A moment in the query: ISO 8601.
fn moment<D: Desk>(call: &Call<'_, D>, name: &'static str) -> Result<Option<Time>, Fault> {
    let Some(text) = call.query(name) else { return Ok(None) };
    match text.parse::<jiff::Timestamp>() {
        Ok(moment) => Ok(Some(Time(moment.as_millisecond()))),
        Err(_) => Err(wrong(name, "must be a moment in ISO 8601", Some(text))),
    }
}

//! `/metrics/alerts`: alerts that are active or over, and the thresholds that users set (Hive notes §9).

use roundtable_core::alerts::{Alert, Level};
use roundtable_core::command::Command;
use roundtable_core::feeds::Feed;
use roundtable_core::ids::AlertId;
use roundtable_core::thresholds::{Side, Threshold};
use roundtable_core::time::Time;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::{Answer, Call, metrics};
use crate::figures::GAUGES;
use crate::hive::encode::level;
use crate::hive::errors::Fault;
use crate::hive::wire::{self, FieldError};
use crate::iso::iso;
use crate::pages::{MOST_ITEMS, fill};
use crate::rest::Desk;
use crate::session::{Ask, Token};

/// Most thresholds that one request sets.
const MAX_ALERTS: usize = 100;
/// The longest time that a value must be beyond its limit: a day.
const MAX_MINUTES: f64 = 1_440.0;

/// The conditions, by their names.
const CONDITIONS: [(&str, Side); 14] = [
    ("greater_than", Side::Above),
    ("above", Side::Above),
    ("gt", Side::Above),
    (">", Side::Above),
    ("greater_than_or_equal", Side::AtLeast),
    ("gte", Side::AtLeast),
    (">=", Side::AtLeast),
    ("less_than", Side::Below),
    ("below", Side::Below),
    ("lt", Side::Below),
    ("<", Side::Below),
    ("less_than_or_equal", Side::AtMost),
    ("lte", Side::AtMost),
    ("<=", Side::AtMost),
];

/// How bad an alert may be.
const LEVELS: [Level; 3] = [Level::Info, Level::Warning, Level::Critical];

fn alert(alert: &Alert) -> Map<String, Value> {
    let raised = &alert.raised;
    let mut view = Map::new();
    view.insert("alert_id".into(), raised.alert.as_str().into());
    view.insert("source".into(), raised.source.as_str().into());
    view.insert("name".into(), raised.title.as_str().into());
    view.insert("severity".into(), level(raised.level).into());
    view.insert("message".into(), raised.message.as_str().into());
    view.insert("current_value".into(), json!(raised.value));
    view.insert("threshold".into(), json!(raised.threshold));
    view.insert("triggered_at".into(), iso(alert.at).into());
    view.insert("acknowledged".into(), alert.acknowledged.is_some().into());
    view
}

fn ended((over, at): &(Alert, Time)) -> Map<String, Value> {
    let mut view = alert(over);
    view.insert("resolved_at".into(), iso(*at).into());
    view
}

fn threshold(set: &Threshold) -> Value {
    let condition = match set.side {
        Side::Above => "greater_than",
        Side::AtLeast => "greater_than_or_equal",
        Side::Below => "less_than",
        Side::AtMost => "less_than_or_equal",
    };
    json!({
        "alert_id": set.id.as_str(), "name": set.name, "metric": set.metric, "condition": condition,
        "threshold": set.limit, "duration_minutes": set.lasting_ms as f64 / 60_000.0,
        "severity": level(set.level), "channels": set.channels,
    })
}

/// What is active, what was, and what is asked for.
pub(super) fn list<D: Desk>(call: &Call<'_, D>) -> Result<Answer, Fault> {
    let state = &call.state;
    let active = || state.alerts_for(Feed::Activity);
    let of = |wanted: Level| active().filter(|alert| alert.raised.level == wanted).count();
    let here = |(over, _): &&(Alert, Time)| over.raised.feed.is_none_or(|feed| feed == Feed::Activity);
    let over = || state.ended_alerts().rev().filter(here);
    let query =
        |name: &'static str, default| super::agents::number(call.query(name), name, default, usize::MAX);
    let (limit, offset) = (query("limit", MOST_ITEMS)?, query("offset", 0)?);
    let (shown, more) = fill(active().skip(offset).map(alert), limit);
    let (past, past_more) = fill(over().skip(offset).map(ended), limit);
    let (set, set_more) = fill(state.thresholds().skip(offset).map(threshold), limit);
    // The next page begins behind the shortest of the lists that go on.
    let on = [(shown.len(), more), (past.len(), past_more), (set.len(), set_more)];
    let least = on.iter().filter(|(_, more)| *more).map(|(length, _)| *length).min();
    let page = least.map_or(limit, |least| least.max(1));
    let cut = |mut list: Vec<Box<RawValue>>| {
        list.truncate(page);
        list
    };
    let mut data = json!({
        "active_alerts": cut(shown),
        "alert_summary": {
            "total_active": active().count(),
            "critical": of(Level::Critical),
            "warning": of(Level::Warning),
            "info": of(Level::Info),
            "resolved": over().count(),
        },
        "resolved_alerts": cut(past),
        "configured_alerts": cut(set),
    });
    if let Some(members) = data.as_object_mut().filter(|_| least.is_some()) {
        let goes_on = json!({"limit": page, "offset": offset, "has_more": true});
        members.insert("pagination".into(), goes_on);
    }
    Ok(Answer::new(200, data))
}

/// Sets thresholds: all that are posted, or none if one of them is wrong.
pub(super) async fn set<D: Desk>(call: &Call<'_, D>) -> Result<Answer, Fault> {
    call.may_write()?;
    let body = call.body()?;
    let rule = || {
        let message = format!("alerts must be a list of 1 to {MAX_ALERTS}");
        let value = Value::Null;
        Fault::fields(vec![FieldError { field: "alerts", message, value }])
    };
    let list = body.get("alerts").and_then(Value::as_array).ok_or_else(rule)?;
    if !(1..=MAX_ALERTS).contains(&list.len()) {
        return Err(rule());
    }
    let random = call.desk.random().to_be_bytes();
    let (mut wanted, mut wrong) = (Vec::new(), Vec::new());
    for (place, posted) in list.iter().enumerate() {
        let id = wire::uuid("threshold", &[&random, &(place as u64).to_be_bytes()]);
        match (read(place, posted), AlertId::new(&id)) {
            (Ok(set), Ok(id)) => wanted.push(Threshold { id, ..set }),
            (Err(faults), _) => wrong.extend(faults),
            (Ok(_), Err(error)) => return Err(Fault::from(&error)),
        }
    }
    if !wrong.is_empty() {
        return Err(Fault::fields(wrong));
    }
    let mut ids = Vec::new();
    for set in wanted {
        ids.push(set.id.as_str().to_owned());
        ask(call, Command::SetThreshold(set)).await?;
    }
    Ok(Answer::new(201, json!({"alerts_created": ids.len(), "alert_ids": ids})))
}

/// A threshold is wanted no longer; an alert that it raised ends.
pub(super) async fn remove<D: Desk>(call: &Call<'_, D>, id: &str) -> Result<Answer, Fault> {
    call.may_write()?;
    let found = AlertId::new(id).ok().filter(|id| call.state.threshold(id).is_some());
    let id = found.ok_or_else(|| Fault::new("NOT_FOUND", 404, "There is no such alert"))?;
    ask(call, Command::RemoveThreshold(id.clone())).await?;
    Ok(Answer::new(200, json!({"alert_id": id.as_str(), "message": "Alert was removed"})))
}

async fn ask<D: Desk>(call: &Call<'_, D>, command: Command) -> Result<(), Fault> {
    let asked = call.desk.ask(&call.who, Ask::new(Token(0), command)).await;
    asked.map(drop).map_err(|error| Fault::from(&error))
}

/// One of a posted list, with what is wrong with it so far.
struct Posted<'a> {
    place: usize,
    value: &'a Value,
    wrong: Vec<FieldError>,
}

impl Posted<'_> {
    /// What a field holds, read by `read`; its `default` if it is absent. Without either it is wrong.
    fn read<T>(
        &mut self,
        field: &'static str,
        rule: &str,
        default: Option<T>,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let given = self.value.get(field).filter(|value| !value.is_null());
        let found = given.map_or(default, read);
        if found.is_none() {
            let shown = given.filter(|value| value.to_string().len() <= wire::MAX_ECHO_BYTES);
            let message = format!("alerts[{}].{field} {rule}", self.place);
            self.wrong.push(FieldError { field, message, value: shown.cloned().unwrap_or_default() });
        }
        found
    }
}

/// Reads one of the posted list. Its id is still to be given.
fn read(place: usize, value: &Value) -> Result<Threshold, Vec<FieldError>> {
    let mut posted = Posted { place, value, wrong: Vec::new() };
    let text = |value: &Value| value.as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned);
    let known = |value: &Value| text(value).filter(|name| GAUGES.iter().any(|gauge| gauge.name == name));
    let side = |value: &Value| CONDITIONS.iter().find(|(name, _)| value == name).map(|(_, side)| *side);
    let minutes = |value: &Value| value.as_f64().filter(|minutes| (0.0..=MAX_MINUTES).contains(minutes));
    let level = |value: &Value| LEVELS.into_iter().find(|known| value == level(*known));
    let channels = |value: &Value| serde_json::from_value(value.clone()).ok();
    let name = posted.read("name", "must be a non-empty string", None, text);
    let metric = posted.read("metric", &format!("must be one of {}", metrics::known()), None, known);
    let rule = "must be greater_than, greater_than_or_equal, less_than or less_than_or_equal";
    let side = posted.read("condition", rule, Some(Side::Above), side);
    let limit = posted.read("threshold", "must be a number", None, Value::as_f64);
    let minutes = posted.read("duration_minutes", "must be a number from 0 to 1440", Some(0.0), minutes);
    let level = posted.read("severity", "must be info, warning or critical", Some(Level::Warning), level);
    let channels = posted.read("channels", "must be a list of strings", Some(Vec::new()), channels);
    let whole = || {
        let lasting_ms = (minutes? * 60_000.0) as i64;
        let (side, limit, level) = (side?, limit?, level?);
        let id = AlertId::fresh(Time(0), 0);
        Some(Threshold {
            id,
            name: name?,
            metric: metric?,
            side,
            limit,
            lasting_ms,
            level,
            channels: channels?,
        })
    };
    whole().ok_or(posted.wrong)
}

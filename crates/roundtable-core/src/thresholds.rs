//! Thresholds of the users' own: what they want to be alerted about, and for how long it must be so.

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use crate::access;
use crate::alerts::{AlertCleared, Level};
use crate::engine::{Context, Decision};
use crate::error::Error;
use crate::event::Event;
use crate::ids::AlertId;
use crate::limits;
use crate::state::State;

/// On which side of the limit a value is worth an alert.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Above it.
    Above,
    /// Above it or on it.
    AtLeast,
    /// Below it.
    Below,
    /// Below it or on it.
    AtMost,
}

impl Side {
    /// Whether a value is on this side of the limit.
    pub fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::Above => value > limit,
            Self::AtLeast => value >= limit,
            Self::Below => value < limit,
            Self::AtMost => value <= limit,
        }
    }
}

/// Event and command: an alert is wanted when a measured value is beyond a limit for some time. One with the same name is
/// replaced.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Threshold {
    /// Its id.
    pub id: AlertId,
    /// What its owner calls it.
    pub name: String,
    /// Which measured value, by its name.
    pub metric: String,
    /// On which side of the limit.
    pub side: Side,
    /// The limit, in the unit of the value.
    pub limit: f64,
    /// How long it must be so, in milliseconds.
    pub lasting_ms: i64,
    /// How bad it is then.
    pub level: Level,
    /// Where its owner wants to hear of it, in the owner's words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<String>,
}

impl Threshold {
    /// The source of the alert that it raises.
    pub fn source(&self) -> String {
        format!("threshold:{}", self.id)
    }
}

/// Event: a threshold is no more.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ThresholdRemoved {
    /// Which.
    pub id: AlertId,
}

/// The thresholds of a workspace.
pub type Thresholds = OrdMap<AlertId, Threshold>;

fn may(state: &State, ctx: &Context) -> Result<(), Error> {
    if access::may_run_agents(state, &ctx.actor) {
        return Ok(());
    }
    Err(Error::forbidden(format!("{} may not look after alerts", ctx.actor.id())))
}

pub(crate) fn set(state: &State, ctx: &Context, event: &Threshold) -> Result<Decision, Error> {
    may(state, ctx)?;
    let named = |text: &String| (1..=limits::MAX_NAME_CHARS).contains(&text.chars().count());
    if !named(&event.name) {
        return Err(Error::invalid("name", "must have 1 to 200 characters"));
    }
    if !event.limit.is_finite() {
        return Err(Error::invalid("threshold", "must be a finite number"));
    }
    if event.channels.len() > limits::MAX_CHANNELS || !event.channels.iter().all(named) {
        return Err(Error::invalid("channels", "must be at most 16 names of 1 to 200 characters"));
    }
    let mut decision = Decision::default();
    let same = state.thresholds().find(|known| known.name == event.name);
    if let Some(known) = same {
        end(state, known, &mut decision);
    }
    decision.event(Event::ThresholdSet(event.clone()));
    Ok(decision)
}

pub(crate) fn remove(state: &State, ctx: &Context, id: &AlertId) -> Result<Decision, Error> {
    may(state, ctx)?;
    let unknown = || Error::invalid("alert_id", "must be the id of a threshold");
    let known = state.threshold(id).ok_or_else(unknown)?;
    let mut decision = Decision::default();
    end(state, known, &mut decision);
    Ok(decision)
}

/// A threshold ends, and its alert with it.
fn end(state: &State, known: &Threshold, decision: &mut Decision) {
    let source = known.source();
    if let Some(active) = state.alert(&source) {
        let (alert, feed) = (active.raised.alert.clone(), active.raised.feed);
        decision.event(Event::AlertCleared(AlertCleared { alert, source, feed }));
    }
    decision.event(Event::ThresholdRemoved(ThresholdRemoved { id: known.id.clone() }));
}

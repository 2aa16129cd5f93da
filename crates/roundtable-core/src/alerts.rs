//! Alerts and security events: thresholds that were crossed and rules that noticed something.

use serde::{Deserialize, Serialize};

use crate::access;
use crate::engine::{Context, Decision};
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::feeds::Feed;
use crate::ids::{AlertId, Principal};
use crate::json::Json;
use crate::state::State;
use crate::time::Time;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Good to know.
    Info,
    /// Look at it.
    Warning,
    /// Act now.
    Critical,
}

/// Event and command: a threshold was crossed. One alert per `source` is active at a time.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AlertRaised {
    /// Its id.
    pub alert: AlertId,
    /// What it is about, unique among the active ones: `cpu`, `memory`, `disk`, `log`, …
    pub source: String,
    /// How bad it is.
    pub level: Level,
    /// A headline.
    pub title: String,
    /// A sentence.
    pub message: String,
    /// The measured value, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The threshold that was crossed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// Evidence: an object.
    #[serde(default)]
    pub details: Json,
    /// The threshold is that of one feed, whose watchers alone are told; otherwise those of activity and monitoring are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feed: Option<Feed>,
}

/// Event: somebody looks after an active alert.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AlertAcknowledged {
    /// Which.
    pub alert: AlertId,
    /// What it is about.
    pub source: String,
    /// Who.
    pub by: Principal,
}

/// Event: the value is well again.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AlertCleared {
    /// Which.
    pub alert: AlertId,
    /// What it was about.
    pub source: String,
    /// As it was raised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feed: Option<Feed>,
}

/// An active alert.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Alert {
    /// What was raised.
    pub raised: AlertRaised,
    /// When.
    pub at: Time,
    /// Who looks after it.
    #[serde(default)]
    pub acknowledged: Option<Principal>,
}

/// What a security rule did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Below the threshold of an intrusion.
    Suspicious,
    /// A threshold was crossed.
    Intrusion,
    /// A block is in force.
    Blocked,
    /// A certificate or key is past its end.
    Expired,
}

/// Event and command: a rule noticed something, with its evidence.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SecurityNoticed {
    /// What it concerns; the steps of one attack share it.
    pub alert: AlertId,
    /// What the rule did.
    pub finding: Finding,
    /// Which rule: `brute_force`, `ddos`, …
    pub rule: String,
    /// Where it came from: an address or a principal.
    pub source: String,
    /// The listener it came to. A block holds there alone; without one, everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// How bad it is: `low`, `medium`, `high`, `critical`.
    pub severity: String,
    /// A sentence.
    pub message: String,
    /// How many within how many seconds, against which threshold, …: an object.
    #[serde(default)]
    pub evidence: Json,
    /// The end of the block, with [`Finding::Blocked`]. An intrusion that has one is answered with a block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

/// Event: a block is over.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct BlockEnded {
    /// Whose.
    pub source: String,
    /// Where it held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The operator ended it before its time.
    #[serde(default)]
    pub lifted: bool,
}

/// A block, until it is over.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Block {
    /// What was answered with it; people are told the end that stands there.
    pub notice: SecurityNoticed,
    /// Its end in log time.
    pub until: Time,
}

fn server_only(ctx: &Context) -> Result<(), Error> {
    if ctx.actor == Principal::System {
        return Ok(());
    }
    Err(Error::forbidden("only the server itself raises alerts"))
}

pub(crate) fn raise(state: &State, ctx: &Context, event: &AlertRaised) -> Result<Decision, Error> {
    server_only(ctx)?;
    if state.alert(&event.source).is_some_and(|active| active.raised.level == event.level) {
        return Ok(Decision::default());
    }
    Ok(Decision::of(Event::AlertRaised(event.clone())))
}

pub(crate) fn acknowledge(state: &State, ctx: &Context, alert: &AlertId) -> Result<Decision, Error> {
    if !access::may_run_agents(state, &ctx.actor) {
        return Err(Error::forbidden(format!("{} may not look after alerts", ctx.actor.id())));
    }
    let unknown = || Error::invalid("alert_id", "must be the id of an active alert");
    let active = state.alerts().find(|active| active.raised.alert == *alert).ok_or_else(unknown)?;
    if active.acknowledged.is_some() {
        return Ok(Decision::default());
    }
    let (alert, source) = (alert.clone(), active.raised.source.clone());
    let event = AlertAcknowledged { alert, source, by: ctx.actor.clone() };
    Ok(Decision::of(Event::AlertAcknowledged(event)))
}

pub(crate) fn clear(state: &State, ctx: &Context, source: &str) -> Result<Decision, Error> {
    server_only(ctx)?;
    let Some(active) = state.alert(source) else { return Ok(Decision::default()) };
    let (alert, feed) = (active.raised.alert.clone(), active.raised.feed);
    let event = AlertCleared { alert, source: source.into(), feed };
    Ok(Decision::of(Event::AlertCleared(event)))
}

pub(crate) fn notice(state: &State, ctx: &Context, event: &SecurityNoticed) -> Result<Decision, Error> {
    // Others report what they find suspicious, in their own name; what the rules found, only the server says.
    let known = matches!(ctx.actor, Principal::User(_) | Principal::Node(_));
    let report = known && event.finding == Finding::Suspicious && event.source == ctx.actor.id();
    if !report {
        server_only(ctx)?;
    }
    let ahead = event.until.is_some_and(|until| ctx.moment().log_time_of(until) > ctx.now);
    if (event.finding == Finding::Blocked || event.until.is_some()) && !ahead {
        return Err(
            Error::new(ErrorKind::InvalidField, "a block needs an end that lies ahead").field("until")
        );
    }
    let mut decision = Decision::of(Event::SecurityNoticed(event.clone()));
    // What is blocked already is not blocked again: who tries in vain does not make it longer.
    let free = state.blocked(&event.source, event.place.as_deref(), ctx.now).is_none();
    if event.finding == Finding::Intrusion && ahead && free {
        let block = SecurityNoticed { finding: Finding::Blocked, ..event.clone() };
        decision.event(Event::SecurityNoticed(block));
    }
    Ok(decision)
}

/// Ends every block of a source.
pub(crate) fn lift(state: &State, ctx: &Context, source: &str) -> Result<Decision, Error> {
    server_only(ctx)?;
    let mut decision = Decision::default();
    for block in state.blocks_of(source) {
        let place = block.notice.place.clone();
        decision.event(Event::BlockEnded(BlockEnded { source: source.into(), place, lifted: true }));
    }
    Ok(decision)
}

/// Ends the blocks whose time is over.
pub(crate) fn tick(state: &State, ctx: &Context, decision: &mut Decision) {
    for block in state.blocks_over(ctx.now) {
        let (source, place) = (block.notice.source.clone(), block.notice.place.clone());
        decision.event(Event::BlockEnded(BlockEnded { source, place, lifted: false }));
    }
}

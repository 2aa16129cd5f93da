//! Components: the parts of the server itself, how each is, and what went wrong inside.

use serde::{Deserialize, Serialize};

use crate::engine::{Context, Decision};
use crate::error::Error;
use crate::event::Event;
use crate::ids::{AlertId, Principal};
use crate::json::Json;
use crate::signal::{Metric, SignalBody};
use crate::state::State;
use crate::time::Time;

/// How a component is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// As it should be.
    #[default]
    Healthy,
    /// It works, but worse than it should.
    Degraded,
    /// It does not work.
    Unhealthy,
}

/// Command: how a component is now. A component that was never named counts as healthy.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SetHealth {
    /// Which.
    pub component: String,
    /// How it is.
    pub health: Health,
    /// Why.
    pub reason: String,
    /// What does not work as it should while it is so.
    #[serde(default)]
    pub affects: Vec<String>,
}

/// Event: a component's health changed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct HealthChanged {
    /// Which.
    pub component: String,
    /// How it was.
    pub old: Health,
    /// How it is.
    pub new: Health,
    /// Why.
    pub reason: String,
    /// What does not work as it should while it is so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub affects: Vec<String>,
}

/// A component as the log tells it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Component {
    /// The last change.
    pub changed: HealthChanged,
    /// When.
    pub at: Time,
}

/// Event and command: something went wrong inside the server; told once per fault.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct FaultNoticed {
    /// Its id, the same as in the operator's own log.
    pub fault: AlertId,
    /// Where.
    pub component: String,
    /// A word for programs.
    pub code: String,
    /// A sentence, without secrets.
    pub message: String,
    /// What else is known: an object.
    #[serde(default)]
    pub details: Json,
    /// How bad it is.
    pub severity: Severity,
}

/// How bad a fault is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nobody lost anything.
    Warning,
    /// Something asked for was not done.
    Error,
    /// Much is not done.
    Critical,
}

fn server_only(ctx: &Context) -> Result<(), Error> {
    if ctx.actor == Principal::System {
        return Ok(());
    }
    Err(Error::forbidden("only the server itself tells how it is"))
}

pub(crate) fn set_health(state: &State, ctx: &Context, command: &SetHealth) -> Result<Decision, Error> {
    server_only(ctx)?;
    let old = state.component(&command.component).map(|c| c.changed.new).unwrap_or_default();
    if old == command.health {
        return Ok(Decision::default());
    }
    Ok(Decision::of(Event::HealthChanged(HealthChanged {
        component: command.component.clone(),
        old,
        new: command.health,
        reason: command.reason.clone(),
        affects: command.affects.clone(),
    })))
}

pub(crate) fn measure(ctx: &Context, metrics: &[Metric]) -> Result<Decision, Error> {
    server_only(ctx)?;
    let mut decision = Decision::default();
    metrics.iter().for_each(|metric| decision.signal(None, SignalBody::Metric(metric.clone())));
    Ok(decision)
}

pub(crate) fn note_fault(ctx: &Context, event: &FaultNoticed) -> Result<Decision, Error> {
    server_only(ctx)?;
    Ok(Decision::of(Event::FaultNoticed(event.clone())))
}

#[cfg(test)]
mod tests {
    use super::{Health, SetHealth};
    use crate::cluster::ServerStarted;
    use crate::command::Command;
    use crate::engine::{Context, decide};
    use crate::event::Record;
    use crate::ids::{NodeId, Principal, UserId};
    use crate::state::State;
    use crate::time::Time;

    fn ask(state: &mut State, actor: &Principal, command: &Command) -> Option<Vec<&'static str>> {
        let (by, actor) = (actor.clone(), actor.clone());
        let ctx = Context {
            now: Time(5),
            at: Time(5),
            by,
            actor: actor.clone(),
            connection: None,
            random: 0,
            client: None,
        };
        let events = decide(state, command, &ctx).ok()?.events;
        let apply = |(room, event): (_, crate::event::Event)| {
            let (kind, actor, offset) = (event.kind(), actor.clone(), state.head.next());
            state.apply(&Record {
                offset,
                room_seq: None,
                at: Time(5),
                t: Time(5),
                actor,
                room,
                client: None,
                event,
            });
            kind
        };
        Some(events.into_iter().map(apply).collect())
    }

    #[test]
    fn a_change_is_told_once_and_ends_with_the_process() {
        let mut state = State::default();
        let is = |health| {
            Command::SetHealth(SetHealth {
                component: "storage".into(),
                health,
                reason: "full".into(),
                affects: vec!["writes".into()],
            })
        };
        let system = Principal::System;
        assert_eq!(ask(&mut state, &system, &is(Health::Healthy)), Some(vec![]));
        assert_eq!(ask(&mut state, &system, &is(Health::Unhealthy)), Some(vec!["component.changed"]));
        assert_eq!(ask(&mut state, &system, &is(Health::Unhealthy)), Some(vec![]));
        let user = Principal::User(UserId::new("ann").unwrap());
        assert_eq!(ask(&mut state, &user, &is(Health::Healthy)), None);
        let start =
            Command::StartServer(ServerStarted { node: NodeId::new("n").unwrap(), version: "1".into() });
        assert_eq!(ask(&mut state, &system, &start), Some(vec!["server.started", "component.changed"]));
        assert_eq!(state.component("storage").unwrap().changed.new, Health::Healthy);
    }
}

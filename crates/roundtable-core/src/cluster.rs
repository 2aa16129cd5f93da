//! Nodes: server processes, and what subscribes to them as a node.

use serde::{Deserialize, Serialize};

use crate::components::{Health, HealthChanged};
use crate::engine::{Context, Decision};
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::ids::{NodeId, Principal};
use crate::limits::MAX_NODE_KEYS;
use crate::state::State;
use crate::time::Time;

/// Event: a server process began.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ServerStarted {
    /// Which.
    pub node: NodeId,
    /// Its version.
    pub version: String,
}

/// A node that is part of the network.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct NodeJoined {
    /// Which.
    pub node: NodeId,
    /// Where: an opaque text.
    pub address: String,
    /// What it is: `server` or `client`.
    pub kind: String,
    /// What it can do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
}

/// Event: a node went away.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct NodeLeft {
    /// Which.
    pub node: NodeId,
    /// Why: `leave`, `timeout`, `evicted`.
    pub reason: String,
    /// Where it was; filled in by the engine.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// Its last sign of life; filled in by the engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Time>,
}

impl NodeLeft {
    /// What is asked for: who leaves, and why.
    pub fn new(node: NodeId, reason: &str) -> Self {
        Self { node, reason: reason.into(), address: String::new(), last_seen: None }
    }
}

/// Event and command: a node id belongs to a key from now on. A node binds its own id once, and to what it has proved; the
/// server alone binds it anew.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeKeySet {
    /// Which.
    pub node: NodeId,
    /// Its public key, as a text that is equal for equal keys; `None`: it belongs to none any more.
    pub key: Option<String>,
}

/// A node as the log tells it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Node {
    /// What it said when it joined.
    pub joined: NodeJoined,
    /// When.
    pub at: Time,
}

pub(crate) fn start(state: &State, ctx: &Context, event: &ServerStarted) -> Decision {
    let mut decision = Decision::default();
    if ctx.actor == Principal::System {
        decision.event(Event::ServerStarted(event.clone()));
        for component in state.components().filter(|c| c.changed.new != Health::Healthy) {
            decision.event(Event::HealthChanged(HealthChanged {
                component: component.changed.component.clone(),
                old: component.changed.new,
                new: Health::Healthy,
                reason: "restarted".into(),
                affects: Vec::new(),
            }));
        }
        for node in state.nodes() {
            // Nobody wrote down when each went: the log's own end is the last moment they can have been seen.
            decision.event(gone(node, "timeout", state.stamp));
        }
    }
    decision
}

pub(crate) fn join(state: &State, ctx: &Context, event: &NodeJoined) -> Result<Decision, Error> {
    if ctx.actor != Principal::System && ctx.actor != Principal::Node(event.node.clone()) {
        return Err(Error::forbidden("a node joins for itself"));
    }
    if state.node(&event.node).is_some() {
        return Ok(Decision::default());
    }
    Ok(Decision::of(Event::NodeJoined(event.clone())))
}

pub(crate) fn leave(state: &State, ctx: &Context, event: &NodeLeft) -> Result<Decision, Error> {
    if ctx.actor != Principal::System && ctx.actor != Principal::Node(event.node.clone()) {
        return Err(Error::forbidden("a node leaves for itself"));
    }
    let Some(node) = state.node(&event.node) else { return Ok(Decision::default()) };
    Ok(Decision::of(gone(node, &event.reason, event.last_seen.unwrap_or(ctx.at))))
}

pub(crate) fn set_key(state: &State, ctx: &Context, event: &NodeKeySet) -> Result<Decision, Error> {
    let bound = state.node_key(&event.node);
    if bound == event.key.as_deref() {
        return Ok(Decision::default());
    }
    if ctx.actor != Principal::System {
        if ctx.actor != Principal::Node(event.node.clone()) {
            return Err(Error::forbidden("a node binds its own id"));
        }
        if bound.is_some() || event.key.is_none() {
            return Err(Error::forbidden("this node id belongs to another key"));
        }
    }
    if bound.is_none() && state.node_keys().len() >= MAX_NODE_KEYS {
        return Err(Error::new(ErrorKind::Unavailable, "there are too many nodes with keys"));
    }
    Ok(Decision::of(Event::NodeKeySet(event.clone())))
}

/// The end of a node's stay.
pub(crate) fn gone(node: &Node, reason: &str, last_seen: Time) -> Event {
    Event::NodeLeft(NodeLeft {
        address: node.joined.address.clone(),
        last_seen: Some(last_seen),
        ..NodeLeft::new(node.joined.node.clone(), reason)
    })
}

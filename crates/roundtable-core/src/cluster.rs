//! Nodes: server processes, and what subscribes to them as a node.

use serde::{Deserialize, Serialize};

use crate::components::{Health, HealthChanged};
use crate::engine::{Context, Decision};
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::ids::{NodeId, Principal};
use crate::state::State;
use crate::time::{Offset, Time};
use crate::{limits, names};

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

/// The kind of nodes that are server processes.
pub const SERVER: &str = "server";

/// Event and command: a node id belongs to a key from now on. A node binds its own id once, and to what it has proved; the
/// server alone binds it anew.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeKeySet {
    /// Which.
    pub node: NodeId,
    /// Its public key, as a text that is equal for equal keys; `None`: it belongs to none any more.
    pub key: Option<String>,
    /// The network that a node comes from which binds itself: an address prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// What a node id is bound to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeKey {
    /// The public key.
    pub key: String,
    /// The network that the node bound itself from.
    pub from: Option<String>,
    /// When it was bound, or proved again.
    pub at: Time,
    /// Where the operator's approval is: its binding by the operator. Without one the binding ends by itself.
    pub approved: Option<Offset>,
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
    let before = state.node_binding(&event.node);
    let same = before.map(|bound| bound.key.as_str()) == event.key.as_deref();
    let by_operator = ctx.actor == Principal::System;
    if !by_operator && ctx.actor != Principal::Node(event.node.clone()) {
        return Err(Error::forbidden("a node binds its own id"));
    }
    match before {
        None if same => return Ok(Decision::default()),
        Some(bound) if same && bound.approved.is_some() => return Ok(Decision::default()),
        // A key that is proved again now and then stays.
        Some(bound) if same && !by_operator && ctx.now.since(bound.at) < limits::NODE_KEY_RENEWED_MS => {
            return Ok(Decision::default());
        }
        Some(_) if !by_operator && !same => {
            return Err(Error::forbidden("this node id belongs to another key"));
        }
        None => {
            names::free(state, &ctx.actor, event.node.as_str(), "node_id")?;
            if state.node_keys().len() >= limits::MAX_NODE_KEYS {
                return Err(Error::new(ErrorKind::Unavailable, "there are too many nodes with keys"));
            }
            let from = event.from.as_deref().unwrap_or_default();
            if !by_operator && state.node_keys_from(from) >= limits::MAX_NODE_KEYS_FROM {
                let message = "too many node ids were bound from this network; the operator may bind more";
                return Err(Error::new(ErrorKind::RateLimited, message));
            }
        }
        Some(_) => {}
    }
    Ok(Decision::of(Event::NodeKeySet(event.clone())))
}

/// Ends the bindings that nobody approved and nobody proved again.
pub(crate) fn tick(state: &State, ctx: &Context, decision: &mut Decision) {
    for node in state.stale_node_keys(ctx.now) {
        decision.event(Event::NodeKeySet(NodeKeySet { node: node.clone(), key: None, from: None }));
    }
}

/// The end of a node's stay.
pub(crate) fn gone(node: &Node, reason: &str, last_seen: Time) -> Event {
    Event::NodeLeft(NodeLeft {
        address: node.joined.address.clone(),
        last_seen: Some(last_seen),
        ..NodeLeft::new(node.joined.node.clone(), reason)
    })
}

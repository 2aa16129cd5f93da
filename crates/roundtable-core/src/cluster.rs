//! Nodes: server processes, and what subscribes to them as a node.

use serde::{Deserialize, Serialize};

use crate::engine::{Context, Decision};
use crate::error::Error;
use crate::event::Event;
use crate::ids::{NodeId, Principal};
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
        for node in state.nodes() {
            let event = NodeLeft { node: node.joined.node.clone(), reason: "timeout".into() };
            decision.event(Event::NodeLeft(event));
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
    if state.node(&event.node).is_none() {
        return Ok(Decision::default());
    }
    Ok(Decision::of(Event::NodeLeft(event.clone())))
}

//! Presence: who is connected. A principal is here as long as one of its connections is.

use imbl::OrdSet;
use serde::{Deserialize, Serialize};

use crate::agents::{self, AgentStatus};
use crate::cluster;
use crate::engine::{Context, Decision};
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::ids::{ConnectionId, Principal};
use crate::state::State;
use crate::time::{Offset, Time};

/// A principal's connections.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Presence {
    /// Those that are open.
    pub connections: OrdSet<ConnectionId>,
    /// Those of them that take what is said to the principal alone.
    #[serde(default)]
    pub direct: OrdSet<ConnectionId>,
    /// When the newest came or the last one went.
    pub last_seen: Time,
    /// Where the newest connection sits: `web`, `mobile`, … if its dialect tells.
    pub platform: Option<String>,
    /// Up to here everything that was said to it is known to have reached a connection of it. Zero as long as none told.
    #[serde(default)]
    pub seen: Offset,
}

impl Presence {
    /// Whether it is here.
    pub fn online(&self) -> bool {
        !self.connections.is_empty()
    }
}

/// Where somebody sat at the moment that an event about it was decided.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Whereabouts {
    /// It was not connected.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub away: bool,
    /// Where its newest connection sat: `web`, `mobile`, … if its dialect told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
}

impl Whereabouts {
    /// Where somebody is at present.
    pub fn of(state: &State, who: &Principal) -> Self {
        let presence = state.presence(who).filter(|presence| presence.online());
        Self { away: presence.is_none(), platform: presence.and_then(|p| p.platform.clone()) }
    }
}

/// Event: a connection came.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Connected {
    /// Whose.
    pub principal: Principal,
    /// Which.
    pub connection: ConnectionId,
    /// It is the only one, so others hear of it.
    pub first: bool,
    /// Where it sits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// It takes what is said to its principal alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub direct: bool,
}

/// Event: what was said to somebody is known to have reached one of its connections.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Reached {
    /// Whom.
    pub principal: Principal,
    /// All up to here.
    pub upto: Offset,
}

/// Event: a connection went.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Disconnected {
    /// Whose.
    pub principal: Principal,
    /// Which.
    pub connection: ConnectionId,
    /// No other is left, so others hear of it.
    pub last: bool,
    /// Where its principal sat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
}

pub(crate) fn connect(
    state: &State,
    ctx: &Context,
    (platform, direct): (Option<&String>, bool),
) -> Result<Decision, Error> {
    let mut decision = Decision::default();
    let principal = ctx.actor.clone();
    let Some(connection) = ctx.connection else {
        return Err(Error::new(ErrorKind::Internal, "presence needs a connection"));
    };
    let before = state.presence(&principal);
    if before.is_some_and(|p| p.connections.contains(&connection)) {
        return Ok(decision);
    }
    let first = before.is_none_or(|p| !p.online());
    if let Some(agent) = principal.agent().and_then(|id| state.agent(id)) {
        if agent.suspended {
            return Err(Error::new(ErrorKind::Suspended, format!("agent {} is suspended", agent.id)));
        }
        if first && agent.status == AgentStatus::Offline {
            agents::changed(&mut decision, agent, AgentStatus::Online, "connected");
        }
    }
    let event = Connected { principal, connection, first, platform: platform.cloned(), direct };
    decision.event(Event::PresenceConnected(event));
    Ok(decision)
}

/// What reached one connection has reached its principal; it never goes backwards.
pub(crate) fn reached(state: &State, ctx: &Context, upto: Offset) -> Result<Decision, Error> {
    if upto > state.head {
        return Err(Error::invalid("upto", "must be in the log"));
    }
    let mut decision = Decision::default();
    if state.presence(&ctx.actor).is_some_and(|presence| presence.seen < upto) {
        decision.event(Event::PresenceReached(Reached { principal: ctx.actor.clone(), upto }));
    }
    Ok(decision)
}

pub(crate) fn disconnect(state: &State, ctx: &Context) -> Decision {
    let mut decision = Decision::default();
    let principal = ctx.actor.clone();
    let Some(connection) = ctx.connection else { return decision };
    let Some(before) = state.presence(&principal).filter(|p| p.connections.contains(&connection)) else {
        return decision;
    };
    let last = before.connections.len() == 1;
    let platform = before.platform.clone();
    if let Some(agent) = principal.agent().and_then(|id| state.agent(id))
        && last
        && !matches!(agent.status, AgentStatus::Paused | AgentStatus::Failed)
    {
        agents::changed(&mut decision, agent, AgentStatus::Offline, "connection_lost");
    }
    // Here and not in a command of its own: of two connections that end at once, only the engine knows the last.
    let node = if let (Principal::Node(id), true) = (&principal, last) { state.node(id) } else { None };
    let node = node.filter(|node| node.joined.kind != cluster::SERVER);
    decision.event(Event::PresenceDisconnected(Disconnected { principal, connection, last, platform }));
    if let Some(node) = node {
        decision.event(cluster::gone(node, "leave", ctx.at));
    }
    decision
}

#[cfg(test)]
mod tests {
    use super::{Connected, Disconnected, Reached};
    use crate::cluster::ServerStarted;
    use crate::event::{Event, Record};
    use crate::ids::{AgentId, ConnectionId, NodeId, Principal};
    use crate::state::State;
    use crate::time::{Offset, Time};

    fn apply(state: &mut State, event: Event) {
        let record = Record {
            offset: state.head.next(),
            room_seq: None,
            at: Time(1),
            t: Time(1),
            actor: Principal::System,
            room: None,
            client: None,
            event,
        };
        state.apply(&record);
    }

    #[test]
    fn a_node_leaves_with_its_last_connection() {
        use crate::cluster::NodeJoined;
        use crate::command::Command;
        use crate::engine::{Context, decide};
        let id = NodeId::new("n").unwrap();
        let mut state = State::default();
        let mut ask = |connection, command: Command| {
            let actor = Principal::Node(id.clone());
            let ctx = Context {
                now: Time(5),
                at: Time(5),
                by: actor.clone(),
                actor,
                connection: Some(ConnectionId(connection)),
                random: 0,
                client: None,
            };
            let events: Vec<Event> =
                decide(&state, &command, &ctx).unwrap().events.into_iter().map(|(_, event)| event).collect();
            events.iter().for_each(|event| apply(&mut state, event.clone()));
            events.iter().map(Event::kind).collect::<Vec<_>>()
        };
        let joined = NodeJoined {
            node: id.clone(),
            address: "10.0.0.1".into(),
            kind: "client".into(),
            capabilities: vec![],
        };
        assert_eq!(ask(1, Command::Connect(None)), ["presence.connected"]);
        assert_eq!(ask(1, Command::JoinNetwork(joined.clone())), ["node.joined"]);
        assert_eq!(ask(2, Command::Connect(None)), ["presence.connected"]);
        assert!(ask(2, Command::JoinNetwork(joined)).is_empty());
        assert_eq!(ask(1, Command::Disconnect), ["presence.disconnected"]);
        assert_eq!(ask(2, Command::Disconnect), ["presence.disconnected", "node.left"]);
        assert!(state.node(&id).is_none());
    }

    #[test]
    fn what_was_seen_goes_forward_and_outlives_connections_and_the_server() {
        let who = Principal::Agent(AgentId::new("a").unwrap());
        let mut state = State::default();
        let one = ConnectionId(1);
        let connected =
            Connected { principal: who.clone(), connection: one, first: true, platform: None, direct: false };
        let reached = |upto| Event::PresenceReached(Reached { principal: who.clone(), upto: Offset(upto) });
        let gone = Disconnected { principal: who.clone(), connection: one, last: true, platform: None };
        apply(&mut state, Event::PresenceConnected(connected));
        assert_eq!(state.presence(&who).unwrap().seen, Offset(0));
        apply(&mut state, reached(1));
        apply(&mut state, reached(3));
        apply(&mut state, reached(2));
        apply(&mut state, Event::PresenceDisconnected(gone));
        let started = ServerStarted { node: NodeId::new("n").unwrap(), version: "1".into() };
        apply(&mut state, Event::ServerStarted(started));
        assert_eq!(state.presence(&who).unwrap().seen, Offset(3));
        assert!(!state.online(&who));
    }
}

//! Agents: programs that take part, with a card that says what they can do.

use serde::{Deserialize, Serialize};

use crate::engine::{Context, Decision};
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::fits::is_object;
use crate::ids::{AgentId, Principal, UserId};
use crate::json::Json;
use crate::rooms::RoomLeft;
use crate::state::State;
use crate::time::{Offset, Time};
use crate::users::{Incarnation, KeyFor};
use crate::{access, limits, names};

/// What an agent is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentStatus {
    /// Here and free.
    Online,
    /// Here and at work.
    Busy,
    /// Here, but not to be counted on.
    Away,
    /// Not here.
    #[default]
    Offline,
    /// Held by an operator.
    Paused,
    /// Cannot work.
    Failed,
}

/// Something an agent can do.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Capability {
    /// What.
    pub name: String,
    /// How well, 0 to 1.
    #[serde(default = "one")]
    pub proficiency: f64,
    /// How fast it learns, 0 to 1.
    #[serde(default = "tenth")]
    pub learning_rate: f64,
}

fn one() -> f64 {
    1.0
}

fn tenth() -> f64 {
    0.1
}

impl Capability {
    /// A capability of which only the name is known.
    pub fn named(name: &str) -> Self {
        Self { name: name.into(), proficiency: one(), learning_rate: tenth() }
    }
}

/// What an agent says about itself.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct AgentCard {
    /// Shown name, up to 200 characters.
    pub name: String,
    /// What kind of agent, in its creator's words: `worker`, `specialist`, …
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The part it plays in a team.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The model behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What it can do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<Capability>,
    /// An object of the clients' own.
    #[serde(default)]
    pub metadata: Json,
    /// Instruction, settings and the like that a server hands to the agent when it connects: an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Json>,
}

/// An agent as the log tells it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Agent {
    /// Its id, the same in every dialect.
    pub id: AgentId,
    /// What it says about itself.
    pub card: AgentCard,
    /// What it is doing.
    pub status: AgentStatus,
    /// The user who registered it, if one did.
    pub owner: Option<UserId>,
    /// Hash of its secret (argon2id, PHC text), if it has one.
    pub secret: Option<String>,
    /// Which bearer of the id it is, and of which secret: what was made for another is worth nothing.
    #[serde(default)]
    pub incarnation: Incarnation,
    /// When its secret was replaced; tokens of 0.1.0, which do not name an incarnation, are older or younger than that.
    #[serde(default)]
    pub rotated_at: Option<Time>,
    /// It may not connect.
    pub suspended: bool,
    /// It was made without a connection of its own: others work for it, so it is here without one.
    #[serde(default)]
    pub hosted: bool,
    /// When a pause ends by itself, as people are told.
    #[serde(default)]
    pub resume_at: Option<Time>,
    /// The same in log time.
    pub pause_ends: Option<Time>,
    /// When it was first registered.
    pub created_at: Time,
    /// When anything about it changed.
    pub updated_at: Time,
}

/// Event: an agent is known now.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AgentRegistered {
    /// Which.
    pub agent: AgentId,
    /// Its card.
    pub card: AgentCard,
    /// The user it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserId>,
    /// What it does from the start.
    #[serde(default)]
    pub status: AgentStatus,
}

/// Event and command: what is given changes, the rest stays. Metadata is merged, capabilities are replaced.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct AgentChanges {
    /// New name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// New role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// New model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// New description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// New capabilities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<Capability>>,
    /// Members laid over the present metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Json>,
    /// New configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Json>,
    /// Suspended or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<bool>,
    /// New status, which its agent gave itself. The event after this one changes it, if it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<AgentStatus>,
}

/// Event: an agent's card changed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AgentUpdated {
    /// Which.
    pub agent: AgentId,
    /// What changed.
    pub changes: AgentChanges,
}

/// Event: an agent's status changed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AgentStatusChanged {
    /// Which.
    pub agent: AgentId,
    /// What it did.
    pub old: AgentStatus,
    /// What it does.
    pub new: AgentStatus,
    /// Why: `connected`, `connection_lost`, `set_by_agent`, …
    pub reason: String,
    /// When a pause ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// The change of its card right before this event names the new status too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub with_card: bool,
}

/// Event: an agent has a new secret.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AgentSecretSet {
    /// Which.
    pub agent: AgentId,
    /// Hash of the secret (argon2id, PHC text).
    pub hash: String,
}

/// Event: an agent was removed.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AgentRemoved {
    /// Which.
    pub agent: AgentId,
    /// Why.
    pub reason: String,
}

/// Command: make an agent known, or change its card if it is. Repeating it is harmless.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct RegisterAgent {
    /// Which.
    pub agent: AgentId,
    /// Its card.
    pub card: AgentCard,
}

fn check_card(name: Option<&String>, capabilities: Option<&Vec<Capability>>) -> Result<(), Error> {
    if name.is_some_and(|n| n.is_empty() || n.chars().count() > limits::MAX_NAME_CHARS) {
        return Err(Error::invalid("name", "must have 1 to 200 characters"));
    }
    let unit = |x: f64| (0.0..=1.0).contains(&x);
    for c in capabilities.into_iter().flatten() {
        if c.name.is_empty() || c.name.chars().count() > limits::MAX_NAME_CHARS {
            return Err(Error::invalid("capabilities", "must have names of 1 to 200 characters"));
        }
        if !unit(c.proficiency) || !unit(c.learning_rate) {
            return Err(Error::invalid(
                "capabilities",
                "must have a proficiency and a learning_rate of 0 to 1",
            ));
        }
    }
    Ok(())
}

pub(crate) fn register(state: &State, ctx: &Context, command: &RegisterAgent) -> Result<Decision, Error> {
    check_card(Some(&command.card.name), Some(&command.card.capabilities))?;
    is_object(Some(&command.card.metadata))?;
    let mut decision = Decision::default();
    let Some(known) = state.agent(&command.agent) else {
        names::free(state, &ctx.actor, command.agent.as_str(), "agentId")?;
        let owner = match &ctx.actor {
            Principal::User(user) => {
                free(state, ctx, &command.agent)?;
                Some(user.clone())
            }
            Principal::Agent(agent) if *agent == command.agent => None,
            Principal::System => None,
            _ => return Err(Error::forbidden("only users and the agent itself register an agent")),
        };
        let (agent, card) = (command.agent.clone(), command.card.clone());
        let event = AgentRegistered { agent, card, owner, status: AgentStatus::Offline };
        decision.event(Event::AgentRegistered(event));
        return Ok(decision);
    };
    access::may_act_as(state, &ctx.actor, &Principal::Agent(command.agent.clone()))?;
    let card = &command.card;
    let differs =
        |new: &Option<String>, old: &Option<String>| (new.is_some() && new != old).then(|| new.clone());
    let changes = AgentChanges {
        name: (card.name != known.card.name).then(|| card.name.clone()),
        role: differs(&card.role, &known.card.role).flatten(),
        model: differs(&card.model, &known.card.model).flatten(),
        description: differs(&card.description, &known.card.description).flatten(),
        capabilities: (!card.capabilities.is_empty() && card.capabilities != known.card.capabilities)
            .then(|| card.capabilities.clone()),
        metadata: (known.card.metadata.merged(&card.metadata) != known.card.metadata)
            .then(|| card.metadata.clone()),
        config: None,
        suspended: None,
        status: None,
    };
    if changes != AgentChanges::default() {
        decision.event(Event::AgentUpdated(AgentUpdated { agent: command.agent.clone(), changes }));
    }
    Ok(decision)
}

/// Whether a user may become the owner of an agent that nobody registered: who owns an agent reads what it reads, so the name
/// must not open a room that the user has no right to.
fn free(state: &State, ctx: &Context, agent: &AgentId) -> Result<(), Error> {
    let who = Principal::Agent(agent.clone());
    let by_key = state.keys_of(&who).filter(|key| !key.revoked).filter_map(|key| match &key.opens {
        KeyFor::Room { room, .. } => Some(room),
        KeyFor::User(_) => None,
    });
    let mut rooms = state.rooms_of(&who).chain(by_key).filter_map(|room| state.room(room));
    let foreign = rooms.any(|room| !access::may_manage_room(state, room, &ctx.actor));
    if (foreign || state.presence(&who).is_some()) && !access::may_operate(state, &ctx.actor) {
        return Err(Error::forbidden(format!("{agent} takes part already; only it itself may register")));
    }
    Ok(())
}

pub(crate) fn host(state: &State, ctx: &Context, command: &RegisterAgent) -> Result<Decision, Error> {
    check_card(Some(&command.card.name), Some(&command.card.capabilities))?;
    is_object(Some(&command.card.metadata))?;
    if state.agent(&command.agent).is_some() {
        let message = format!("agent {} exists already", command.agent);
        return Err(Error::new(ErrorKind::Conflict, message).field("agentId"));
    }
    if !access::may_run_agents(state, &ctx.actor) {
        return Err(Error::forbidden(format!("{} may not make agents", ctx.actor.id())));
    }
    names::free(state, &ctx.actor, command.agent.as_str(), "agentId")?;
    let (agent, card, owner) = (command.agent.clone(), command.card.clone(), ctx.actor.user().cloned());
    Ok(Decision::of(Event::AgentRegistered(AgentRegistered {
        agent,
        card,
        owner,
        status: AgentStatus::Online,
    })))
}

/// The agent, if the actor speaks for it.
fn own<'a>(state: &'a State, ctx: &Context, agent: &AgentId) -> Result<&'a Agent, Error> {
    let unknown = || Error::new(ErrorKind::AgentNotFound, format!("there is no agent {agent}"));
    let found = state.agent(agent).ok_or_else(unknown)?;
    access::may_act_as(state, &ctx.actor, &Principal::Agent(agent.clone()))?;
    Ok(found)
}

/// The agent, if the actor speaks for it or runs the workspace's agents.
fn run<'a>(state: &'a State, ctx: &Context, agent: &AgentId) -> Result<&'a Agent, Error> {
    match state.agent(agent) {
        Some(found) if access::may_run_agents(state, &ctx.actor) => Ok(found),
        _ => own(state, ctx, agent),
    }
}

pub(crate) fn update(
    state: &State,
    ctx: &Context,
    agent: &AgentId,
    changes: &AgentChanges,
) -> Result<Decision, Error> {
    let found = run(state, ctx, agent)?;
    if changes.config.is_some() {
        own(state, ctx, agent)?;
    }
    if changes.suspended.is_some() && !access::may_operate(state, &ctx.actor) {
        return Err(Error::forbidden("only operators suspend agents"));
    }
    check_card(changes.name.as_ref(), changes.capabilities.as_ref())?;
    is_object(changes.metadata.as_ref())?;
    let mut decision = Decision::default();
    if *changes != AgentChanges::default() {
        let event = AgentUpdated { agent: agent.clone(), changes: changes.clone() };
        decision.event(Event::AgentUpdated(event));
    }
    if let Some(new) = changes.status.filter(|new| *new != found.status) {
        let with_card =
            AgentStatusChanged { with_card: true, ..change_to(found, (new, "set_by_agent"), None) };
        decision.event(Event::AgentStatusChanged(with_card));
    }
    Ok(decision)
}

pub(crate) fn set_status(
    state: &State,
    ctx: &Context,
    agent: &AgentId,
    status: (AgentStatus, &str),
) -> Result<Decision, Error> {
    let found = run(state, ctx, agent)?;
    let mut decision = Decision::default();
    changed(&mut decision, found, status.0, status.1);
    Ok(decision)
}

/// Adds the change of status, if it is one.
pub(crate) fn changed(decision: &mut Decision, agent: &Agent, new: AgentStatus, reason: &str) {
    if agent.status != new {
        told(decision, agent, (new, reason), None);
    }
}

fn told(decision: &mut Decision, agent: &Agent, new: (AgentStatus, &str), until: Option<Time>) {
    decision.event(Event::AgentStatusChanged(change_to(agent, new, until)));
}

fn change_to(agent: &Agent, (new, reason): (AgentStatus, &str), until: Option<Time>) -> AgentStatusChanged {
    let (id, old, reason) = (agent.id.clone(), agent.status, reason.into());
    AgentStatusChanged { agent: id, old, new, reason, until, with_card: false }
}

pub(crate) fn pause(
    state: &State,
    ctx: &Context,
    agent: &AgentId,
    until: Option<Time>,
) -> Result<Decision, Error> {
    let found = run(state, ctx, agent)?;
    if until.is_some_and(|until| ctx.moment().log_time_of(until) <= ctx.now) {
        return Err(Error::invalid("until", "must lie ahead"));
    }
    let mut decision = Decision::default();
    if found.status != AgentStatus::Paused || found.resume_at != until {
        told(&mut decision, found, (AgentStatus::Paused, "paused"), until);
    }
    Ok(decision)
}

pub(crate) fn resume(state: &State, ctx: &Context, agent: &AgentId) -> Result<Decision, Error> {
    let found = run(state, ctx, agent)?;
    let mut decision = Decision::default();
    if found.status == AgentStatus::Paused {
        resumed(state, found, &mut decision);
    }
    Ok(decision)
}

/// Pauses that are over.
pub(crate) fn go_on(state: &State, ctx: &Context, decision: &mut Decision) {
    for agent in state.rested(ctx.now) {
        resumed(state, agent, decision);
    }
}

fn resumed(state: &State, agent: &Agent, decision: &mut Decision) {
    let here = agent.hosted || state.online(&Principal::Agent(agent.id.clone()));
    let status = if here { AgentStatus::Online } else { AgentStatus::Offline };
    changed(decision, agent, status, "resumed");
}

pub(crate) fn set_secret(
    state: &State,
    ctx: &Context,
    agent: &AgentId,
    hash: &str,
) -> Result<Decision, Error> {
    own(state, ctx, agent)?;
    let mut decision = Decision::default();
    decision.event(Event::AgentSecretSet(AgentSecretSet { agent: agent.clone(), hash: hash.into() }));
    Ok(decision)
}

pub(crate) fn remove(state: &State, ctx: &Context, agent: &AgentId, reason: &str) -> Result<Decision, Error> {
    run(state, ctx, agent)?;
    let mut decision = Decision::default();
    // Whoever takes the name next is somebody else.
    let member = Principal::Agent(agent.clone());
    for room in state.rooms_of(&member) {
        decision.in_room(room, Event::RoomLeft(RoomLeft::of(state, &member)));
    }
    decision.event(Event::AgentRemoved(AgentRemoved { agent: agent.clone(), reason: reason.into() }));
    Ok(decision)
}

impl Agent {
    pub(crate) fn new(event: &AgentRegistered, born: Offset, at: Time) -> Self {
        Self {
            incarnation: Incarnation { born, ..Incarnation::default() },
            id: event.agent.clone(),
            card: event.card.clone(),
            status: event.status,
            owner: event.owner.clone(),
            secret: None,
            rotated_at: None,
            suspended: false,
            hosted: event.status != AgentStatus::Offline,
            resume_at: None,
            pause_ends: None,
            created_at: at,
            updated_at: at,
        }
    }

    pub(crate) fn change(&mut self, changes: &AgentChanges) {
        let card = &mut self.card;
        if let Some(name) = &changes.name {
            card.name.clone_from(name);
        }
        if let Some(list) = &changes.capabilities {
            card.capabilities.clone_from(list);
        }
        if let Some(metadata) = &changes.metadata {
            card.metadata = card.metadata.merged(metadata);
        }
        for (slot, new) in [
            (&mut card.role, &changes.role),
            (&mut card.model, &changes.model),
            (&mut card.description, &changes.description),
        ] {
            if new.is_some() {
                slot.clone_from(new);
            }
        }
        if changes.config.is_some() {
            card.config.clone_from(&changes.config);
        }
        self.suspended = changes.suspended.unwrap_or(self.suspended);
    }
}

#[cfg(test)]
mod tests {
    use super::{AgentCard, AgentChanges, AgentStatus, RegisterAgent};
    use crate::command::Command;
    use crate::engine::{Context, decide};
    use crate::error::ErrorKind;
    use crate::event::Record;
    use crate::ids::{AgentId, GuestId, Principal};
    use crate::state::State;
    use crate::time::Time;

    fn ask(state: &mut State, actor: &Principal, command: Command) -> Result<Vec<&'static str>, ErrorKind> {
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
        let decision = decide(state, &command, &ctx).map_err(|error| error.kind)?;
        Ok(decision
            .events
            .into_iter()
            .map(|(room, event)| {
                let (kind, actor) = (event.kind(), actor.clone());
                let offset = state.head.next();
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
            })
            .collect())
    }

    #[test]
    fn guests_run_agents_but_never_speak_as_one() {
        let (guest, id) = (Principal::Guest(GuestId::new("g").unwrap()), AgentId::new("a").unwrap());
        let agent = Principal::Agent(id.clone());
        let card = AgentCard { name: "A".into(), ..AgentCard::default() };
        let mut state = State::default();
        let register = RegisterAgent { agent: id.clone(), card };
        assert_eq!(
            ask(&mut state, &guest, Command::RegisterAgent(register.clone())),
            Err(ErrorKind::Forbidden)
        );
        assert_eq!(
            ask(&mut state, &guest, Command::HostAgent(register.clone())),
            Ok(vec!["agent.registered"])
        );
        assert_eq!(state.agent(&id).unwrap().status, AgentStatus::Online);
        assert_eq!(ask(&mut state, &guest, Command::HostAgent(register)), Err(ErrorKind::Conflict));
        let pause = Command::SetAgentStatus(id.clone(), AgentStatus::Paused, "paused".into());
        assert_eq!(ask(&mut state, &guest, pause), Ok(vec!["agent.status_changed"]));
        let configure =
            AgentChanges { config: Some(crate::json::Json::empty_object()), ..AgentChanges::default() };
        assert_eq!(
            ask(&mut state, &guest, Command::UpdateAgent(id.clone(), configure)),
            Err(ErrorKind::Forbidden)
        );
        assert_eq!(
            ask(&mut state, &guest, Command::SetAgentSecret(id.clone(), "h".into())),
            Err(ErrorKind::Forbidden)
        );
        assert!(crate::access::may_act_as(&state, &guest, &agent).is_err());
        assert_eq!(
            ask(&mut state, &guest, Command::RemoveAgent(id, "done".into())),
            Ok(vec!["agent.removed"])
        );
    }
}

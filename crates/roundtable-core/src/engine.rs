//! The engine: decides what follows from a command. Pure; time and randomness come in with the context.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::command::Command;
use crate::error::Error;
use crate::event::Event;
use crate::feeds::{Feed, FeedMarked};
use crate::ids::{ConnectionId, MessageId, Principal, RoomId};
use crate::repeats::{self, Claim};
use crate::signal::SignalBody;
use crate::state::State;
use crate::time::{Moment, Time};
use crate::{
    actions, agents, alerts, cluster, components, messages, pairs, presence, rooms, seats, thresholds, users,
};

/// Everything a rule may know beside the state and the command.
#[derive(Clone, Debug)]
pub struct Context {
    /// The present in log time: what rules compare.
    pub now: Time,
    /// The present by the wall clock: for what is shown.
    pub at: Time,
    /// Who acts.
    pub actor: Principal,
    /// Who asks, as the server knows it from a credential; usually the actor itself.
    pub by: Principal,
    /// On which connection, if on one.
    pub connection: Option<ConnectionId>,
    /// 64 fresh random bits, for the one id that a command may make.
    pub random: u64,
    /// The actor's own name for this write, with what was looked up for it.
    pub client: Option<Claim>,
}

impl Context {
    /// The present by both clocks.
    pub const fn moment(&self) -> Moment {
        Moment { t: self.now, at: self.at }
    }
}

/// What a command gave, for the acknowledgement.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub enum Outcome {
    /// It is done, or was done already.
    #[default]
    Done,
    /// A message was said.
    Message(MessageId),
    /// A room was made or entered.
    Room(RoomId),
    /// The same client id came before, or the token was revoked before: this is the first result, nothing happened now.
    Repeated(Box<Outcome>),
}

impl Outcome {
    /// The result itself, whether it is new or repeated.
    pub fn first(&self) -> &Outcome {
        if let Self::Repeated(first) = self { first } else { self }
    }
}

/// What follows from a command.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Decision {
    /// Facts for the log, each with its room.
    pub events: SmallVec<[(Option<RoomId>, Event); 1]>,
    /// Signals, each with its room.
    pub signals: SmallVec<[(Option<RoomId>, SignalBody); 1]>,
    outcome: Option<Outcome>,
}

impl Decision {
    pub(crate) fn of(event: Event) -> Self {
        let mut decision = Self::default();
        decision.event(event);
        decision
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.events.push((None, event));
    }

    pub(crate) fn in_room(&mut self, room: &RoomId, event: Event) {
        self.events.push((Some(room.clone()), event));
    }

    pub(crate) fn signal(&mut self, room: Option<&RoomId>, body: SignalBody) {
        self.signals.push((room.cloned(), body));
    }

    pub(crate) fn repeats(first: Outcome) -> Self {
        Self { outcome: Some(Outcome::Repeated(Box::new(first))), ..Self::default() }
    }

    pub(crate) fn outcome(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }

    /// What the acknowledgement says. The same is found again in the log when the client id is repeated.
    pub fn result(&self) -> Outcome {
        if let Some(outcome) = &self.outcome {
            return outcome.clone();
        }
        let event = self.events.first().map(|(room, event)| outcome_of(room.as_ref(), event));
        let signal = || {
            self.signals.first().map(|(_, body)| match body {
                SignalBody::Message(message) => Outcome::Message(message.id.clone()),
                SignalBody::Typing { .. } | SignalBody::Action { .. } | SignalBody::Metric(_) => {
                    Outcome::Done
                }
            })
        };
        event.or_else(signal).unwrap_or_default()
    }
}

/// The outcome that an event stands for.
pub(crate) fn outcome_of(room: Option<&RoomId>, event: &Event) -> Outcome {
    match (event, room) {
        (Event::MessagePosted(message), _) => Outcome::Message(message.id.clone()),
        (Event::MessageDirect(message), _) => Outcome::Message(message.id.clone()),
        (Event::RoomLeft(_) | Event::MessageDeleted(_), _) => Outcome::Done,
        (_, Some(room)) => Outcome::Room(room.clone()),
        (_, None) => Outcome::Done,
    }
}

/// Decides a command against a state. Changes nothing; the caller applies the events once they are in the log.
/// Fails with the one error that the asker is to be told.
pub fn decide(state: &State, command: &Command, ctx: &Context) -> Result<Decision, Error> {
    crate::access::may_act_as(state, &ctx.by, &ctx.actor)?;
    let anew = rule(state, command, ctx)
        .and_then(|decision| crate::fits::check(state, &decision).map(|()| decision));
    match ctx.client.as_ref().and_then(|claim| Some((claim, claim.first(state, &ctx.actor, ctx.now)?))) {
        Some(repeat) => repeats::again(command, repeat, anew),
        None => anew,
    }
}

fn rule(state: &State, command: &Command, ctx: &Context) -> Result<Decision, Error> {
    match command {
        Command::Look => Ok(Decision::default()),
        Command::Tick if ctx.actor == Principal::System => Ok(tick(state, ctx)),
        Command::Tick => Err(Error::forbidden("time passes for everybody alike")),
        Command::CreateWorkspace(event) => users::create_workspace(state, ctx, event),
        Command::SetDomainKey(hash) => users::set_domain_key(ctx, hash),
        Command::StartServer(event) => Ok(cluster::start(state, ctx, event)),
        Command::JoinNetwork(event) => cluster::join(state, ctx, event),
        Command::LeaveNetwork(event) => cluster::leave(state, ctx, event),
        Command::SetNodeKey(event) => cluster::set_key(state, ctx, event),
        Command::AddUser(event) => users::add(state, ctx, event),
        Command::ChangeUser(event) => users::change(state, ctx, event),
        Command::RemoveUser(user) => users::remove(state, ctx, user),
        Command::AddKey(event) => users::add_key(state, ctx, event),
        Command::RevokeKey(key) => users::revoke_key(state, ctx, key),
        Command::RevokeToken(event) => users::revoke_token(state, ctx, event),
        Command::NoteToken(event) => users::note_token(state, ctx, event),
        Command::RegisterAgent(command) => agents::register(state, ctx, command),
        Command::HostAgent(command) => agents::host(state, ctx, command),
        Command::UpdateAgent(agent, changes) => agents::update(state, ctx, agent, changes),
        Command::SetAgentStatus(agent, status, reason) => {
            agents::set_status(state, ctx, agent, (*status, reason))
        }
        Command::PauseAgent(agent, until) => agents::pause(state, ctx, agent, *until),
        Command::ResumeAgent(agent) => agents::resume(state, ctx, agent),
        Command::SetAgentSecret(agent, hash) => agents::set_secret(state, ctx, agent, hash),
        Command::RemoveAgent(agent, reason) => agents::remove(state, ctx, agent, reason),
        Command::CreateRoom(command) => rooms::create(state, ctx, command),
        Command::JoinRoom(command) => rooms::join(state, ctx, command),
        Command::Invite(room, member) => rooms::inviting::invite(state, ctx, room, member),
        Command::EnterOwnRoom(command) => rooms::enter_own(state, ctx, command),
        Command::OpenPair(command) => pairs::open(state, ctx, command),
        Command::LeaveRoom(room, member) => rooms::leave(state, ctx, room, member),
        Command::UpdateRoom(room, changes) => rooms::update(state, ctx, room, changes),
        Command::RemoveRoom(room) => rooms::removal::remove(state, ctx, room),
        Command::Summarise(room, summary) => rooms::summarise(state, ctx, room, summary),
        Command::MarkRead(room, message, offset) => rooms::read(state, ctx, room, (message, *offset)),
        Command::Post(command) => messages::post(state, ctx, command),
        Command::DeleteMessage(command) => messages::delete(state, ctx, command),
        Command::Direct(command) => messages::direct(state, ctx, command),
        Command::MarkDelivered(upto) => Ok(messages::delivered(state, ctx, *upto)),
        Command::Connect(platform) => presence::connect(state, ctx, (platform.as_ref(), false)),
        Command::ConnectForDirect => presence::connect(state, ctx, (None, true)),
        Command::MarkReached(upto) => presence::reached(state, ctx, *upto),
        Command::Disconnect => Ok(presence::disconnect(state, ctx)),
        Command::KeepSeat(command) => seats::keep(state, ctx, command),
        Command::Type(room, typing) => {
            let body = SignalBody::Typing { who: ctx.actor.clone(), typing: *typing };
            in_room_only(state, ctx, room, body)
        }
        Command::Act(command) => actions::act(state, ctx, command),
        Command::RaiseAlert(event) => alerts::raise(state, ctx, event),
        Command::AcknowledgeAlert(alert) => alerts::acknowledge(state, ctx, alert),
        Command::ClearAlert(source) => alerts::clear(state, ctx, source),
        Command::SetThreshold(event) => thresholds::set(state, ctx, event),
        Command::RemoveThreshold(id) => thresholds::remove(state, ctx, id),
        Command::SetHealth(command) => components::set_health(state, ctx, command),
        Command::NoteFault(event) => components::note_fault(ctx, event),
        Command::Measure(metrics) => components::measure(ctx, metrics),
        Command::Notice(event) => alerts::notice(state, ctx, event),
        Command::LiftBlocks(source) => alerts::lift(state, ctx, source),
        Command::Mark(feed, report) => mark(state, ctx, (*feed, *report)),
    }
}

/// A position in the log for the watchers of a feed.
fn mark(state: &State, ctx: &Context, (feed, report): (Feed, bool)) -> Result<Decision, Error> {
    if !crate::access::may_mark(state, &ctx.actor, feed, report) {
        return Err(Error::forbidden(format!("{} may not mark this feed", ctx.actor.id())));
    }
    Ok(Decision::of(Event::FeedMarked(FeedMarked { feed, report })))
}

/// What is due by itself: direct messages that waited for a week; pauses, blocks and bindings of nodes that are over; rooms that
/// nobody used.
fn tick(state: &State, ctx: &Context) -> Decision {
    let mut decision = Decision::default();
    messages::expire(state, ctx, &mut decision);
    agents::go_on(state, ctx, &mut decision);
    alerts::tick(state, ctx, &mut decision);
    cluster::tick(state, ctx, &mut decision);
    rooms::removal::end_unused(state, ctx, &mut decision);
    decision
}

/// A signal to the members of a room, from one of them.
fn in_room_only(state: &State, ctx: &Context, room: &RoomId, body: SignalBody) -> Result<Decision, Error> {
    rooms::as_member(state, room, &ctx.actor)?;
    let mut decision = Decision::default();
    decision.signal(Some(room), body);
    Ok(decision)
}

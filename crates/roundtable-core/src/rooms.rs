//! Rooms: where members talk and a history is kept.

use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};

use crate::access;
use crate::engine::{Context, Decision, Outcome};
use crate::error::{Error, ErrorKind};
use crate::event::{Event, Record};
use crate::fits::is_object;
use crate::ids::{AgentId, MessageId, Principal, RoomId};
use crate::json::Json;
use crate::limits;
use crate::presence::Whereabouts;
use crate::rooms::keyed::Keyed;
use crate::state::State;
use crate::time::{Offset, Time};

pub mod inviting;
pub mod keyed;
pub mod removal;

/// How much a room promises about its messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Acknowledged after fsync.
    #[default]
    Durable,
    /// Acknowledged at once, fsynced within a second.
    Relaxed,
    /// Messages are handed out and never logged.
    Ephemeral,
}

/// Who may become a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// Anybody in the workspace.
    #[default]
    Open,
    /// Members, and users who run the workspace.
    Members,
    /// Who was let in by the owner or by a key; nobody else learns that it exists.
    Private,
}

/// Whether the room takes messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomStatus {
    /// It does.
    #[default]
    Active,
    /// Kept for reading.
    Archived,
    /// Ended.
    Closed,
}

/// A room's card: what its owner may say about it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct RoomCard {
    /// Shown name, up to 200 characters.
    pub name: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// An object of the clients' own.
    #[serde(default)]
    pub metadata: Json,
    /// Named settings of the clients' own that no rule reads: an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<Json>,
    /// Who may come in.
    #[serde(default)]
    pub entry: Entry,
    /// How much is promised.
    #[serde(default)]
    pub durability: Durability,
    /// The most members it takes; `None` is the server's own limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_members: Option<u32>,
    /// The agent whose room this is, if it is an agent's own (at most one active per agent).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// The agent that the owner talks with, if the room is for these two (see [`crate::pairs`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair: Option<AgentId>,
}

/// A room as the log tells it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Room {
    /// Its id, the same in every dialect.
    pub id: RoomId,
    /// What its owner says about it.
    pub card: RoomCard,
    /// Who made it.
    pub owner: Principal,
    /// Whether it takes messages.
    pub status: RoomStatus,
    /// Members and when they joined.
    pub members: OrdMap<Principal, Member>,
    /// Who is asked to come in and has not yet, each with where the record of it is.
    #[serde(default)]
    pub invited: OrdMap<Principal, Offset>,
    /// The agents that have keys to it.
    pub keyed: OrdMap<AgentId, Keyed>,
    /// Whether anything was ever said or done in it (see `state/unused.rs`).
    pub used: bool,
    /// How many guests and visitors in it are connected; counted until it is used.
    pub strangers: u32,
    /// Since when nobody is in it, in log time, if it was never used.
    pub unused_since: Option<Time>,
    /// Number of the last record in the room.
    pub seq: u64,
    /// Messages so far, without those that were taken back.
    pub messages: u64,
    /// Tokens spent in it, as the messages report.
    pub tokens: u64,
    /// The newest message: offset, id and first 100 characters.
    pub last: Option<LastMessage>,
    /// What was said so far, in short; empty until somebody sums it up.
    #[serde(default)]
    pub summary: String,
    /// Where messages are that were taken back.
    #[serde(default)]
    pub deleted: OrdSet<Offset>,
    /// Where the record is that made it.
    #[serde(default)]
    pub made: Offset,
    /// When it was made.
    pub created_at: Time,
    /// When anything in it changed.
    pub updated_at: Time,
}

/// A member's part in a room.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Member {
    /// Since when.
    pub joined_at: Time,
    /// The record that told so: what was said before it was not said to this member.
    pub joined: Offset,
    /// The last message it has read.
    pub read: Option<(Offset, MessageId)>,
}

/// The newest message of a room, for lists.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LastMessage {
    /// Where it is in the log.
    pub offset: Offset,
    /// Its id.
    pub id: MessageId,
    /// Its first 100 characters; empty if it was taken back.
    pub start: String,
    /// Whose part it plays.
    pub role: crate::messages::Role,
    /// When it was said.
    pub at: Time,
}

/// Event: a room was made. Its owner is its first member, except where the server made it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RoomCreated {
    /// The card.
    pub card: RoomCard,
    /// Whose room it is.
    pub owner: Principal,
}

/// Event and command: what is given changes, the rest stays.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct RoomUpdated {
    /// New name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// New description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Members laid over the present metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Json>,
    /// New status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<RoomStatus>,
}

/// Event: somebody became a member.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RoomJoined {
    /// Who.
    pub member: Principal,
    /// Who brought it in, if it did not come by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Principal>,
    /// Where it sat.
    #[serde(flatten)]
    pub at: Whereabouts,
}

impl RoomJoined {
    /// Somebody who came by itself, or was brought in by another.
    pub(crate) fn of(state: &State, member: Principal, by: Option<Principal>) -> Self {
        Self { at: Whereabouts::of(state, &member), member, by }
    }
}

/// Event: somebody is no member any more.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RoomLeft {
    /// Who.
    pub member: Principal,
    /// Where it sat.
    #[serde(flatten)]
    pub at: Whereabouts,
}

/// Event: what was said so far was summed up.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RoomSummarised {
    /// In short; at most 16 KiB.
    pub summary: String,
}

impl RoomLeft {
    /// Somebody who stops being a member now.
    pub(crate) fn of(state: &State, member: &Principal) -> Self {
        Self { member: member.clone(), at: Whereabouts::of(state, member) }
    }
}

/// Event: a member has read up to a message.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RoomRead {
    /// Who.
    pub member: Principal,
    /// Up to which message.
    pub message: MessageId,
    /// Where that message is in the log.
    pub offset: Offset,
}

/// Command: make a room. Conflict if the id is taken.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct CreateRoom {
    /// Its id; `None` makes a fresh one.
    pub room: Option<RoomId>,
    /// What is said about it.
    pub card: RoomCard,
}

/// Command: become a member. Joining twice changes nothing.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct JoinRoom {
    /// Which room.
    pub room: RoomId,
    /// Who joins: the actor itself, or an agent that acts through it.
    pub member: Principal,
    /// Make the room, owned by the actor, if it does not exist.
    pub create: Option<RoomCard>,
    /// The credential itself names this room, so no other right is needed, unless the member left or was taken out.
    pub by_key: bool,
}

/// Command: the one active room that belongs to an agent, made if it has none; the actor becomes a member.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct EnterOwnRoom {
    /// The agent whose room it is.
    pub agent: AgentId,
    /// What a new one says about itself.
    pub card: RoomCard,
}

/// The room, as seen by somebody who may know of it.
pub fn visible<'a>(state: &'a State, room: &RoomId, who: &Principal) -> Result<&'a Room, Error> {
    let unknown = || Error::new(ErrorKind::RoomNotFound, format!("there is no room {room}"));
    let found = state.room(room).ok_or_else(unknown)?;
    if found.card.entry == Entry::Private && !access::may_see_room(state, found, who) {
        return Err(unknown());
    }
    Ok(found)
}

/// The room, as seen by a member of it.
pub fn as_member<'a>(state: &'a State, room: &RoomId, who: &Principal) -> Result<&'a Room, Error> {
    let found = visible(state, room, who)?;
    if found.members.contains_key(who) {
        return Ok(found);
    }
    Err(Error::forbidden(format!("{} is not in room {room}", who.id())))
}

/// What a card carries for the clients are objects. (How large all of it may be is said in [`crate::fits`].)
pub(crate) fn check_card(card: &RoomCard) -> Result<(), Error> {
    is_object(Some(&card.metadata)).and_then(|()| is_object(card.options.as_ref()))
}

pub(crate) fn create(state: &State, ctx: &Context, command: &CreateRoom) -> Result<Decision, Error> {
    if !matches!(ctx.actor, Principal::User(_) | Principal::Agent(_) | Principal::System) {
        return Err(Error::forbidden("only users and agents make rooms"));
    }
    let room = command.room.clone().unwrap_or_else(|| RoomId::fresh(ctx.at, ctx.random));
    if state.room(&room).is_some() {
        return Err(Error::new(ErrorKind::Conflict, format!("room {room} exists already")).field("roomId"));
    }
    removal::never_removed(state, &room)?;
    check_card(&command.card)?;
    let mut decision = Decision::default();
    made(&mut decision, ctx, &room, &command.card);
    if ctx.actor != Principal::System {
        decision.in_room(&room, Event::RoomJoined(RoomJoined::of(state, ctx.actor.clone(), None)));
    }
    Ok(decision)
}

fn made(decision: &mut Decision, ctx: &Context, room: &RoomId, card: &RoomCard) {
    let event = RoomCreated { card: card.clone(), owner: ctx.actor.clone() };
    decision.in_room(room, Event::RoomCreated(event));
}

pub(crate) fn join(state: &State, ctx: &Context, command: &JoinRoom) -> Result<Decision, Error> {
    access::may_act_as(state, &ctx.actor, &command.member)?;
    let mut decision = Decision::default();
    let room = &command.room;
    match (state.room(room), &command.create) {
        (Some(found), _) => {
            let visible = visible(state, room, &ctx.actor);
            let barred = command.member.agent().is_some_and(|id| found.bars_keys_of(id));
            let by_key = command.by_key && !barred;
            if !by_key && !access::may_join_room(state, found, &ctx.actor, &command.member) {
                visible?;
                return Err(Error::forbidden(format!("{} may not join room {room}", command.member.id())));
            }
            if found.members.contains_key(&command.member) {
                return Ok(decision);
            }
            takes_another(found)?;
        }
        (None, Some(card)) if !matches!(ctx.actor, Principal::Node(_) | Principal::Visitor(_)) => {
            // A guest's room is its own or everybody's: it can bring in nobody who could bring in others.
            if card.entry == Entry::Members && matches!(ctx.actor, Principal::Guest(_)) {
                return Err(Error::forbidden("guests make no rooms of this kind"));
            }
            removal::never_removed(state, room)?;
            check_card(card)?;
            made(&mut decision, ctx, room, card);
            if ctx.actor != command.member && ctx.actor != Principal::System {
                decision.in_room(room, Event::RoomJoined(RoomJoined::of(state, ctx.actor.clone(), None)));
            }
        }
        (None, _) => return Err(Error::new(ErrorKind::RoomNotFound, format!("there is no room {room}"))),
    }
    let by = (ctx.actor != command.member).then(|| ctx.actor.clone());
    decision.in_room(room, Event::RoomJoined(RoomJoined::of(state, command.member.clone(), by)));
    Ok(decision)
}

/// Whether the room is open and not full.
fn takes_another(room: &Room) -> Result<(), Error> {
    if room.status != RoomStatus::Active {
        return Err(Error::new(ErrorKind::RoomClosed, format!("room {} is closed", room.id)));
    }
    let most = room.card.max_members.map_or(limits::MAX_MEMBERS, |n| n as usize);
    if room.members.len() >= most {
        return Err(Error::new(ErrorKind::Conflict, format!("room {} is full", room.id)));
    }
    Ok(())
}

pub(crate) fn enter_own(state: &State, ctx: &Context, command: &EnterOwnRoom) -> Result<Decision, Error> {
    if !matches!(ctx.actor, Principal::User(_) | Principal::Agent(_)) {
        return Err(Error::forbidden("an agent's own room is for users and agents"));
    }
    let agent = Principal::Agent(command.agent.clone());
    let unknown = || Error::new(ErrorKind::AgentNotFound, format!("there is no agent {}", command.agent));
    state.agent(&command.agent).ok_or_else(unknown)?;
    let mut decision = Decision::default();
    let room = match state.own_room(&command.agent) {
        Some(room) => room.clone(),
        None => {
            check_card(&command.card)?;
            let card = RoomCard { agent: Some(command.agent.clone()), ..command.card.clone() };
            let room = RoomId::fresh(ctx.at, ctx.random);
            let event = RoomCreated { card, owner: agent.clone() };
            decision.in_room(&room, Event::RoomCreated(event));
            room
        }
    };
    let absent = |who: &Principal| state.room(&room).is_none_or(|r| !r.members.contains_key(who));
    let mut joining = vec![agent];
    if !joining.contains(&ctx.actor) {
        joining.push(ctx.actor.clone());
    }
    joining.retain(absent);
    for member in joining {
        decision.in_room(&room, Event::RoomJoined(RoomJoined::of(state, member, None)));
    }
    decision.outcome(Outcome::Room(room));
    Ok(decision)
}

pub(crate) fn leave(
    state: &State,
    ctx: &Context,
    room: &RoomId,
    member: &Principal,
) -> Result<Decision, Error> {
    let found = visible(state, room, &ctx.actor)?;
    if !access::may_manage_room(state, found, &ctx.actor) {
        access::may_act_as(state, &ctx.actor, member)?;
    }
    let mut decision = Decision::default();
    if found.members.contains_key(member) {
        decision.in_room(room, Event::RoomLeft(RoomLeft::of(state, member)));
    }
    Ok(decision)
}

pub(crate) fn update(
    state: &State,
    ctx: &Context,
    room: &RoomId,
    changes: &RoomUpdated,
) -> Result<Decision, Error> {
    let found = visible(state, room, &ctx.actor)?;
    if !access::may_manage_room(state, found, &ctx.actor) {
        return Err(Error::forbidden(format!("{} may not change room {room}", ctx.actor.id())));
    }
    is_object(changes.metadata.as_ref())?;
    let mut decision = Decision::default();
    if *changes != RoomUpdated::default() {
        decision.in_room(room, Event::RoomUpdated(changes.clone()));
    }
    Ok(decision)
}

/// Who may change a room may sum it up. The same again changes nothing.
pub(crate) fn summarise(
    state: &State,
    ctx: &Context,
    room: &RoomId,
    summary: &str,
) -> Result<Decision, Error> {
    let found = visible(state, room, &ctx.actor)?;
    if !access::may_manage_room(state, found, &ctx.actor) {
        return Err(Error::forbidden(format!("{} may not sum up room {room}", ctx.actor.id())));
    }
    let mut decision = Decision::default();
    if found.summary != summary {
        let event = RoomSummarised { summary: summary.to_owned() };
        decision.in_room(room, Event::RoomSummarised(event));
    }
    Ok(decision)
}

pub(crate) fn read(
    state: &State,
    ctx: &Context,
    room: &RoomId,
    upto: (&MessageId, Offset),
) -> Result<Decision, Error> {
    let found = as_member(state, room, &ctx.actor)?;
    if upto.1 > state.head {
        return Err(Error::new(ErrorKind::MessageNotFound, format!("there is no message {} yet", upto.0)));
    }
    let before = found.members.get(&ctx.actor).and_then(|m| m.read.as_ref()).map(|(offset, _)| *offset);
    let mut decision = Decision::default();
    if before.is_none_or(|before| before < upto.1) {
        let event = RoomRead { member: ctx.actor.clone(), message: upto.0.clone(), offset: upto.1 };
        decision.in_room(room, Event::RoomRead(event));
    }
    Ok(decision)
}

impl Room {
    /// The agents that are members, by id: they come first in the order of members.
    pub fn agents(&self) -> impl Iterator<Item = &AgentId> {
        self.members.keys().map_while(Principal::agent)
    }

    pub(crate) fn new(id: RoomId, event: &RoomCreated, (made, at): (Offset, Time)) -> Self {
        Self {
            id,
            made,
            card: event.card.clone(),
            owner: event.owner.clone(),
            status: RoomStatus::Active,
            members: OrdMap::new(),
            invited: OrdMap::new(),
            keyed: OrdMap::new(),
            used: false,
            strangers: 0,
            unused_since: None,
            seq: 0,
            messages: 0,
            tokens: 0,
            last: None,
            summary: String::new(),
            deleted: OrdSet::new(),
            created_at: at,
            updated_at: at,
        }
    }

    /// What a record of the room changes in it.
    pub(crate) fn take_in(&mut self, record: &Record) {
        self.seq = record.room_seq.unwrap_or(self.seq);
        self.updated_at = record.at;
        match &record.event {
            Event::RoomUpdated(e) => self.change(e),
            Event::RoomSummarised(e) => self.summary.clone_from(&e.summary),
            Event::RoomJoined(e) => {
                self.members.insert(
                    e.member.clone(),
                    Member { joined_at: record.at, joined: record.offset, read: None },
                );
                self.bar_keys(&e.member, false);
                self.invited.remove(&e.member);
            }
            Event::RoomInvited(e) => {
                self.invited.insert(e.member.clone(), record.offset);
            }
            Event::RoomLeft(e) => {
                self.members.remove(&e.member);
                self.bar_keys(&e.member, true);
            }
            Event::RoomRead(e) => {
                if let Some(member) = self.members.get_mut(&e.member) {
                    member.read = Some((e.offset, e.message.clone()));
                }
            }
            Event::MessageDeleted(e) => {
                self.messages = self.messages.saturating_sub(1);
                self.deleted.insert(e.offset);
                // It may quote what must be shown no more.
                self.summary.clear();
                if let Some(last) = self.last.as_mut().filter(|last| last.offset == e.offset) {
                    last.start.clear();
                }
            }
            Event::MessagePosted(e) => {
                self.messages += 1;
                self.tokens = self.tokens.saturating_add(e.tokens);
                self.last = Some(LastMessage {
                    offset: record.offset,
                    id: e.id.clone(),
                    start: e.content.as_text().chars().take(100).collect(),
                    role: e.role,
                    at: record.at,
                });
            }
            _ => {}
        }
    }

    pub(crate) fn change(&mut self, changes: &RoomUpdated) {
        if let Some(name) = &changes.name {
            self.card.name.clone_from(name);
        }
        if let Some(text) = &changes.description {
            self.card.description.clone_from(text);
        }
        if let Some(metadata) = &changes.metadata {
            self.card.metadata = self.card.metadata.merged(metadata);
        }
        if let Some(status) = changes.status {
            self.status = status;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CreateRoom, Entry, JoinRoom, RoomCard};
    use crate::agents::{AgentCard, RegisterAgent};
    use crate::command::Command;
    use crate::delivery::{Topic, topics_of_record};
    use crate::engine::{Context, decide};
    use crate::error::ErrorKind;
    use crate::event::Record;
    use crate::ids::{AgentId, GuestId, Principal, RoomId, UserId};
    use crate::state::State;
    use crate::time::Time;
    use crate::users::{UserAdded, UserRole};

    /// Who is told of what the command caused.
    fn ask(state: &mut State, actor: &Principal, command: Command) -> Result<Vec<Topic>, ErrorKind> {
        let (by, actor) = (actor.clone(), actor.clone());
        let ctx = Context { now: Time(5), at: Time(5), by, actor, connection: None, random: 0, client: None };
        let decision = decide(state, &command, &ctx).map_err(|error| error.kind)?;
        let mut topics = Vec::new();
        for (room, event) in decision.events {
            let (offset, actor) = (state.head.next(), ctx.actor.clone());
            let record =
                Record { offset, room_seq: None, at: Time(5), t: Time(5), actor, room, client: None, event };
            state.apply(&record);
            topics.extend(topics_of_record(&record, state));
        }
        Ok(topics)
    }

    #[test]
    fn members_bring_others_in_and_these_are_told() {
        let [ann, bob] = ["ann", "bob"].map(|id| UserId::new(id).unwrap());
        let guest = Principal::Guest(GuestId::new("g").unwrap());
        let agent = AgentId::new("a").unwrap();
        let mut state = State::default();
        for user in [&ann, &bob] {
            let added = UserAdded { user: user.clone(), role: UserRole::Viewer, password: None };
            ask(&mut state, &Principal::System, Command::AddUser(added)).unwrap();
        }
        let card = AgentCard { name: "A".into(), ..AgentCard::default() };
        let register = Command::RegisterAgent(RegisterAgent { agent: agent.clone(), card });
        ask(&mut state, &Principal::System, register).unwrap();
        let (ann, bob, agent) = (Principal::User(ann), Principal::User(bob), Principal::Agent(agent));
        let room = RoomId::new("r").unwrap();
        let card = RoomCard { entry: Entry::Members, ..RoomCard::default() };
        ask(
            &mut state,
            &ann,
            Command::CreateRoom(CreateRoom { room: Some(room.clone()), card: card.clone() }),
        )
        .unwrap();
        let invite = |member: &Principal| Command::Invite(room.clone(), member.clone());
        assert_eq!(ask(&mut state, &bob, invite(&agent)), Err(ErrorKind::Forbidden));
        assert_eq!(ask(&mut state, &ann, invite(&guest)), Err(ErrorKind::InvalidField));
        let told = vec![Topic::Room(room.clone()), Topic::Principal(agent.clone())];
        assert_eq!(ask(&mut state, &ann, invite(&agent)), Ok(told));
        assert_eq!(ask(&mut state, &ann, invite(&agent)), Ok(vec![]));
        // A user is asked, and an unknown one is asked alike; it comes in by itself.
        let nobody = Principal::User(UserId::new("nobody").unwrap());
        for who in [&bob, &nobody] {
            assert_eq!(ask(&mut state, &agent, invite(who)), Ok(vec![Topic::Principal(who.clone())]));
            assert_eq!(ask(&mut state, &agent, invite(who)), Ok(vec![]));
        }
        assert!(!state.room(&room).unwrap().members.contains_key(&bob));
        let join = JoinRoom { room: room.clone(), member: bob.clone(), create: None, by_key: false };
        ask(&mut state, &bob, Command::JoinRoom(join)).unwrap();
        assert!(state.room(&room).unwrap().members.contains_key(&bob));
        let own = RoomId::new("o").unwrap();
        let join =
            |card| JoinRoom { room: own.clone(), member: guest.clone(), create: Some(card), by_key: false };
        assert_eq!(ask(&mut state, &guest, Command::JoinRoom(join(card))), Err(ErrorKind::Forbidden));
        let card = RoomCard { entry: Entry::Private, ..RoomCard::default() };
        ask(&mut state, &guest, Command::JoinRoom(join(card))).unwrap();
        assert!(ask(&mut state, &guest, Command::Invite(own, agent)).is_ok());
    }
}

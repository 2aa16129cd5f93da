//! What must be true, kept apart from the rules: who is where, what was said, what was promised to whom.

use std::collections::{BTreeMap, BTreeSet};

use roundtable_core::delivery::{Topic, replays};
use roundtable_core::engine::Outcome;
use roundtable_core::event::{Event, Record};
use roundtable_core::ids::{AgentId, ClientId, MessageId, Principal, RoomId, UserId};
use roundtable_core::repeats::CommandHash;
use roundtable_core::rooms::Durability;
use roundtable_core::state::State;
use roundtable_core::time::{Cursor, Offset};
use roundtable_core::users::UserRole;

/// A workspace as one node has seen it.
#[derive(Clone, Default)]
pub struct Model {
    /// Everything handed out, in order.
    pub records: Vec<Record>,
    /// The fold over it.
    pub state: State,
    /// By which record each client id was used.
    pub said: BTreeMap<(Principal, ClientId), Offset>,
    /// All messages that were ever handed out, signals included.
    pub messages: BTreeSet<MessageId>,
    members: BTreeMap<RoomId, BTreeSet<Principal>>,
    owners: BTreeMap<AgentId, UserId>,
    operators: BTreeSet<UserId>,
    suspects: Vec<(Principal, Topic, Offset)>,
    relaxed: BTreeSet<RoomId>,
    numbers: BTreeMap<RoomId, u64>,
}

impl Model {
    pub fn of(records: &[Record]) -> Self {
        let mut model = Self::default();
        records.iter().for_each(|record| model.push(record));
        model
    }

    pub fn head(&self) -> Offset {
        Offset(self.records.len() as u64)
    }

    /// The next record. Offsets and numbers within a room are dense, ids and client ids are used once.
    pub fn push(&mut self, record: &Record) {
        assert_eq!(record.offset, self.head().next(), "P2: a record is missing, repeated or out of order");
        let before = self.records.last().map_or(record.t, |last| last.t);
        assert!(before <= record.t, "P9: log time goes back at {:?}", record.offset);
        if let Some(room) = &record.room {
            let number = self.numbers.entry(room.clone()).or_default();
            *number += 1;
            assert_eq!(record.room_seq, Some(*number), "P2: numbers within a room are dense");
        }
        // Names that somebody gave its writes mean nothing to who takes its own name later.
        if let Some(born) = born(record) {
            self.said.retain(|(who, _), _| *who != born);
        }
        if let Some(write) = &record.client {
            let before = self.said.insert((record.actor.clone(), write.id.clone()), record.offset);
            assert_eq!(before, None, "P4: {:?} of {} has two effects", write.id, record.actor);
        }
        match &record.event {
            Event::MessagePosted(message) => {
                assert!(self.messages.insert(message.id.clone()), "P1: {} is there twice", message.id);
            }
            Event::MessageDirect(message) => {
                assert!(self.messages.insert(message.id.clone()), "P1: {} is there twice", message.id);
            }
            Event::RoomCreated(made) if made.card.durability == Durability::Relaxed => {
                self.relaxed.extend(record.room.clone());
            }
            Event::RoomJoined(joined) => {
                self.members.entry(record.room.clone().unwrap()).or_default().insert(joined.member.clone());
            }
            Event::RoomLeft(left) => {
                self.members.entry(record.room.clone().unwrap()).or_default().remove(&left.member);
            }
            Event::AgentRegistered(made) => {
                made.owner.clone().into_iter().for_each(|owner| {
                    self.owners.insert(made.agent.clone(), owner);
                });
            }
            Event::UserAdded(made) if made.role >= UserRole::Editor => {
                self.operators.insert(made.user.clone());
            }
            Event::UserChanged(changed) => match changed.role {
                Some(role) if role >= UserRole::Editor => drop(self.operators.insert(changed.user.clone())),
                Some(_) => drop(self.operators.remove(&changed.user)),
                None => {}
            },
            Event::UserRemoved(removed) => {
                self.operators.remove(&removed.user);
                self.owners.retain(|_, owner| *owner != removed.user);
            }
            Event::RoomRemoved(_) => {
                let room = record.room.as_ref().unwrap();
                self.members.remove(room);
                // One that nobody used may be made again.
                self.numbers.remove(room);
            }
            Event::AgentRemoved(removed) => {
                self.owners.remove(&removed.agent);
            }
            _ => {}
        }
        self.state.apply(record);
        self.records.push(record.clone());
    }

    /// The hash of the command that somebody's client id stands for, once a record says so.
    pub fn written(&self, (actor, client): (&Principal, Option<&ClientId>)) -> Option<CommandHash> {
        let offset = self.said.get(&(actor.clone(), client?.clone()))?;
        self.records.get(offset.0 as usize - 1)?.client.as_ref()?.command
    }

    /// Whether a record may be lost in a crash although it was handed out.
    pub fn may_be_lost(&self, record: &Record) -> bool {
        let room = record.room.as_ref();
        matches!(record.event, Event::MessagePosted(_))
            && room.is_some_and(|room| self.relaxed.contains(room))
    }

    /// Whether `who` may hear what goes to `topic`: who runs the workspace hears all agents, other users their own.
    pub fn may_hear(&self, who: &Principal, topic: &Topic) -> bool {
        let speaks_for = |agent: &AgentId| {
            who.user()
                .is_some_and(|user| self.operators.contains(user) || self.owners.get(agent) == Some(user))
        };
        match topic {
            Topic::Room(room) => self.members.get(room).is_some_and(|members| {
                members.contains(who) || members.iter().filter_map(Principal::agent).any(speaks_for)
            }),
            Topic::Principal(to) => who == to || to.agent().is_some_and(speaks_for),
            Topic::Feed(_) => !matches!(who, Principal::Agent(_)),
        }
    }

    /// `who` heard something on `topic`, allowed or not at that moment. What comes in one batch comes at once, so who leaves
    /// and comes back within it has missed nothing; [`Model::batch_ends`] decides.
    pub fn heard(&mut self, who: &Principal, topic: &Topic, allowed: bool) {
        if !allowed {
            self.suspects.push((who.clone(), topic.clone(), self.head()));
        }
    }

    /// After a batch, nobody has heard what was not for them.
    pub fn batch_ends(&mut self) {
        for (who, topic, at) in std::mem::take(&mut self.suspects) {
            assert!(self.may_hear(&who, &topic), "P7: {who} hears {topic:?} at {at:?}");
        }
    }

    /// What somebody who listens to a topic from `start` on must have heard by now.
    pub fn expected(&self, topic: &Topic, start: Offset) -> Vec<Offset> {
        let later = self.records.iter().skip(start.0 as usize);
        later.filter(|record| replays(record, topic)).map(|record| record.offset).collect()
    }
}

/// A topic that a connection listens to, across its breaks.
#[derive(Clone, Debug)]
pub struct Ear {
    /// Since when.
    pub start: Offset,
    /// Where it would resume.
    pub cursor: Cursor,
    /// What of the log it has heard.
    pub heard: Vec<Offset>,
}

impl Ear {
    pub fn at(cursor: Cursor) -> Self {
        Self { start: cursor.offset, cursor, heard: Vec::new() }
    }

    pub fn hear(&mut self, offset: Offset, epoch: u32) {
        assert!(self.heard.last().is_none_or(|last| *last < offset), "P3: {offset:?} again or out of order");
        self.heard.push(offset);
        self.cursor = Cursor { epoch, offset };
    }
}

/// What was promised in a workspace, by whichever node.
#[derive(Default)]
pub struct Ledger {
    /// The result of each client id, and whether it was given as the first one, not as a repeat.
    pub results: BTreeMap<(Principal, ClientId), (Outcome, bool)>,
    /// Client ids of writes that were refused.
    pub refused: BTreeSet<(Principal, ClientId)>,
}

/// Whose name somebody takes.
fn born(record: &Record) -> Option<Principal> {
    match &record.event {
        Event::AgentRegistered(made) => Some(Principal::Agent(made.agent.clone())),
        Event::UserAdded(made) => Some(Principal::User(made.user.clone())),
        _ => None,
    }
}

impl Ledger {
    /// A reply came to a write.
    pub fn replied(
        &mut self,
        model: &Model,
        (actor, client): (&Principal, Option<&ClientId>),
        reply: Result<&Outcome, ()>,
    ) {
        if let Ok(Outcome::Message(id)) = reply.map(Outcome::first) {
            assert!(model.messages.contains(id), "P1: {id} is acknowledged and nowhere to be found");
        }
        let Some(client) = client else { return };
        let key = (actor.clone(), client.clone());
        match (reply, model.said.contains_key(&key)) {
            (Ok(outcome), true) => {
                let is_first = !matches!(outcome, Outcome::Repeated(_));
                let known = self.results.entry(key).or_insert_with(|| (outcome.first().clone(), false));
                assert_eq!(*outcome.first(), known.0, "P4: the first result comes again");
                assert!(!(is_first && known.1), "P4: {client:?} of {actor} is done twice");
                known.1 |= is_first;
            }
            (Err(()), false) => drop(self.refused.insert(key)),
            (Ok(_), false) | (Err(()), true) => {}
        }
    }

    /// A record was handed out.
    pub fn happened(&mut self, record: &Record) {
        if let Some(born) = born(record) {
            self.results.retain(|(who, _), _| *who != born);
        }
        let Some(client) = record.client.as_ref().map(|write| &write.id) else { return };
        let key = (record.actor.clone(), client.clone());
        assert!(!self.refused.contains(&key), "P1: {client:?} was refused and happened nevertheless");
    }
}

//! Holdings: what stays in the state of what each principal has made, and how much of it there may be.

use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};

use crate::engine::Decision;
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::ids::{AgentId, AlertId, KeyId, Principal, RoomId};
use crate::state::State;
use crate::time::Time;

/// What is counted, each kind by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Rooms that are not removed.
    Rooms,
    /// Agents that are not removed.
    Agents,
    /// Keys that are not revoked.
    Keys,
    /// Tokens that are remembered until their end: made for visitors, or revoked.
    Tokens,
    /// Thresholds.
    Thresholds,
    /// Members whom somebody else brought into a room.
    Members,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Rooms, Self::Agents, Self::Keys, Self::Tokens, Self::Thresholds, Self::Members];

    /// As people and settings call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rooms => "rooms",
            Self::Agents => "agents",
            Self::Keys => "keys",
            Self::Tokens => "tokens",
            Self::Thresholds => "thresholds",
            Self::Members => "members",
        }
    }
}

/// A number for each kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Of [`Kind::Rooms`].
    pub rooms: u32,
    /// Of [`Kind::Agents`].
    pub agents: u32,
    /// Of [`Kind::Keys`].
    pub keys: u32,
    /// Of [`Kind::Tokens`].
    pub tokens: u32,
    /// Of [`Kind::Thresholds`].
    pub thresholds: u32,
    /// Of [`Kind::Members`].
    pub members: u32,
}

impl Counts {
    /// The number of one kind.
    pub const fn of(&self, kind: Kind) -> u32 {
        match kind {
            Kind::Rooms => self.rooms,
            Kind::Agents => self.agents,
            Kind::Keys => self.keys,
            Kind::Tokens => self.tokens,
            Kind::Thresholds => self.thresholds,
            Kind::Members => self.members,
        }
    }

    fn change(&mut self, kind: Kind, change: impl FnOnce(u32) -> u32) {
        let count = match kind {
            Kind::Rooms => &mut self.rooms,
            Kind::Agents => &mut self.agents,
            Kind::Keys => &mut self.keys,
            Kind::Tokens => &mut self.tokens,
            Kind::Thresholds => &mut self.thresholds,
            Kind::Members => &mut self.members,
        };
        *count = change(*count);
    }
}

/// How many of each kind there may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ceilings {
    /// Made by one principal.
    pub each: Counts,
    /// In one workspace.
    pub all: Counts,
}

impl Ceilings {
    /// Generous ones.
    pub const DEFAULT: Self = Self {
        each: Counts {
            rooms: 20_000,
            agents: 5_000,
            keys: 5_000,
            tokens: 100_000,
            thresholds: 100,
            members: 100_000,
        },
        all: Counts {
            rooms: 500_000,
            agents: 100_000,
            keys: 100_000,
            tokens: 1_000_000,
            thresholds: 1_000,
            members: 2_000_000,
        },
    };
}

impl Default for Ceilings {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// One thing that somebody made and that stays.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Thing {
    /// A room.
    Room(RoomId),
    /// An agent.
    Agent(AgentId),
    /// A key that is not revoked.
    Key(KeyId),
    /// A token made for a visitor, by its id.
    Token(String),
    /// That a token is revoked, by its id.
    Revocation(String),
    /// A threshold.
    Threshold(AlertId),
    /// Somebody whom another brought into a room.
    Member(RoomId, Principal),
}

impl Thing {
    /// What it counts as.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Room(_) => Kind::Rooms,
            Self::Agent(_) => Kind::Agents,
            Self::Key(_) => Kind::Keys,
            Self::Token(_) | Self::Revocation(_) => Kind::Tokens,
            Self::Threshold(_) => Kind::Thresholds,
            Self::Member(..) => Kind::Members,
        }
    }

    /// What an event of `actor` makes, and for whom it counts.
    pub(crate) fn made(actor: &Principal, room: Option<&RoomId>, event: &Event) -> Option<(Principal, Self)> {
        let thing = match event {
            Event::RoomCreated(e) => return Some((e.owner.clone(), Self::Room(room?.clone()))),
            Event::RoomJoined(e) => {
                let by = e.by.as_ref().filter(|by| **by != e.member)?;
                return Some((by.clone(), Self::Member(room?.clone(), e.member.clone())));
            }
            Event::AgentRegistered(e) => {
                let owner = e.owner.clone().map_or_else(|| actor.clone(), Principal::User);
                return Some((owner, Self::Agent(e.agent.clone())));
            }
            Event::KeyAdded(e) => Self::Key(e.key.clone()),
            Event::TokenNoted(e) => Self::Token(e.jti.clone()),
            Event::TokenRevoked(e) => Self::Revocation(e.jti.clone()),
            Event::ThresholdSet(e) => Self::Threshold(e.id.clone()),
            _ => return None,
        };
        Some((actor.clone(), thing))
    }
}

/// What one principal has made.
#[derive(Clone, PartialEq, Debug, Default)]
struct Holding {
    things: OrdSet<Thing>,
    counts: Counts,
}

/// Who made what, as far as it is still there.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Vec<(Thing, Principal)>", into = "Vec<(Thing, Principal)>")]
pub struct Holdings {
    makers: OrdMap<Thing, Principal>,
    by: OrdMap<Principal, Holding>,
    all: Counts,
}

impl From<Vec<(Thing, Principal)>> for Holdings {
    fn from(pairs: Vec<(Thing, Principal)>) -> Self {
        let mut holdings = Self::default();
        for (thing, maker) in pairs {
            holdings.add(&maker, thing);
        }
        holdings
    }
}

impl From<Holdings> for Vec<(Thing, Principal)> {
    fn from(holdings: Holdings) -> Self {
        holdings.makers.into_iter().collect()
    }
}

impl Holdings {
    /// How much somebody has made of what there is.
    pub fn of(&self, who: &Principal) -> Counts {
        self.by.get(who).map(|holding| holding.counts).unwrap_or_default()
    }

    /// Who made something that is there.
    pub fn maker(&self, thing: &Thing) -> Option<&Principal> {
        self.makers.get(thing)
    }

    /// How much there is in the workspace.
    pub const fn all(&self) -> Counts {
        self.all
    }

    /// Everything that is there, with its maker.
    pub fn things(&self) -> impl Iterator<Item = (&Thing, &Principal)> {
        self.makers.iter()
    }

    /// The agents that somebody has made, by id.
    pub(crate) fn agents_of(&self, who: &Principal) -> impl Iterator<Item = &AgentId> {
        let first = Thing::Agent(AgentId::least());
        let things =
            self.by.get(who).into_iter().flat_map(move |holding| holding.things.range(first.clone()..));
        things.map_while(|thing| if let Thing::Agent(agent) = thing { Some(agent) } else { None })
    }

    pub(crate) fn add(&mut self, maker: &Principal, thing: Thing) {
        self.remove(&thing);
        let kind = thing.kind();
        self.all.change(kind, |n| n.saturating_add(1));
        let holding = self.by.entry(maker.clone()).or_default();
        holding.counts.change(kind, |n| n.saturating_add(1));
        holding.things.insert(thing.clone());
        self.makers.insert(thing, maker.clone());
    }

    pub(crate) fn remove(&mut self, thing: &Thing) {
        let Some(maker) = self.makers.remove(thing) else { return };
        self.all.change(thing.kind(), |n| n.saturating_sub(1));
        let Some(holding) = self.by.get_mut(&maker) else { return };
        holding.counts.change(thing.kind(), |n| n.saturating_sub(1));
        holding.things.remove(thing);
        if holding.things.is_empty() {
            self.by.remove(&maker);
        }
    }

    /// Somebody is no more: what it made stays and is the server's. Whoever takes the name begins anew.
    pub(crate) fn leave_behind(&mut self, who: &Principal) -> OrdSet<Thing> {
        let things = self.by.remove(who).map(|holding| holding.things).unwrap_or_default();
        for thing in &things {
            self.makers.remove(thing);
            self.all.change(thing.kind(), |n| n.saturating_sub(1));
            self.add(&Principal::System, thing.clone());
        }
        things
    }
}

impl Ceilings {
    /// Fails with `QuotaExceeded` when what a decision adds at `now` is more than there may be. The server itself may always.
    pub fn admit(
        &self,
        (state, now): (&State, Time),
        actor: &Principal,
        decision: &Decision,
    ) -> Result<(), Error> {
        if *actor == Principal::System {
            return Ok(());
        }
        let ends = |(_, event): &&(Option<RoomId>, Event)| matches!(event, Event::ThresholdRemoved(_));
        for (room, event) in &decision.events {
            let Some((maker, thing)) = Thing::made(actor, room.as_ref(), event) else { continue };
            let (kind, holdings) = (thing.kind(), state.holdings());
            // What this decision ends, and tokens that are over and that no record has cleared away yet.
            let ended =
                if kind == Kind::Thresholds { decision.events.iter().filter(ends).count() } else { 0 };
            let over =
                |who: Option<&Principal>| if kind == Kind::Tokens { state.tokens_over(now, who) } else { 0 };
            let is_full = |held: Counts, gone: usize, most: Counts| {
                (held.of(kind) as usize).saturating_sub(gone + ended) >= most.of(kind) as usize
            };
            let name = kind.name();
            if is_full(holdings.of(&maker), over(Some(&maker)), self.each) {
                let (who, most) = (maker.id(), self.each.of(kind));
                return Err(used_up(
                    name,
                    format!("{who} has made {most} {name}, which is as many as one may have"),
                ));
            }
            if is_full(holdings.all(), over(None), self.all) {
                let most = self.all.of(kind);
                return Err(used_up(
                    name,
                    format!("the workspace has {most} {name}, which is as many as it may have"),
                ));
            }
        }
        Ok(())
    }
}

fn used_up(name: &'static str, message: String) -> Error {
    Error::new(ErrorKind::QuotaExceeded, message).field(name)
}

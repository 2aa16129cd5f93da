//! The part of the fold that is about conversations of two.

use std::sync::Arc;

use super::State;
use crate::ids::{AgentId, Principal, RoomId};
use crate::rooms::{RoomCreated, RoomStatus};
use crate::time::Time;

impl State {
    /// The active conversation of somebody with an agent.
    pub fn pair(&self, who: &Principal, agent: &AgentId) -> Option<&RoomId> {
        self.pairs.get(agent)?.get(who)
    }

    pub(super) fn pair_opened(&mut self, id: &RoomId, event: &RoomCreated) {
        if let Some(agent) = &event.card.pair {
            self.pairs.entry(agent.clone()).or_default().insert(event.owner.clone(), id.clone());
        }
    }

    /// The agent is no more: nobody goes on talking with it, and its visitors are nowhere any more.
    pub(super) fn pairs_end(&mut self, agent: &AgentId, now: Time) {
        for (who, id) in self.pairs.remove(agent).into_iter().flatten() {
            let visitor = matches!(who, Principal::Visitor(_));
            if visitor {
                self.stranger_moved(&who, false, now);
                self.rooms_of.remove(&who);
                self.holdings.leave_behind(&who);
            }
            if let Some(room) = self.rooms.get_mut(&id).map(Arc::make_mut) {
                room.status = RoomStatus::Closed;
                if visitor {
                    room.members.remove(&who);
                }
            }
        }
    }

    /// Who made a conversation is no more: whoever takes the name opens one of its own.
    pub(super) fn pair_ends(&mut self, id: &RoomId, who: &Principal) {
        let agent = self.room(id).and_then(|room| room.card.pair.clone());
        if let Some(of) = agent.and_then(|agent| self.pairs.get_mut(&agent))
            && of.get(who) == Some(id)
        {
            of.remove(who);
        }
    }

    pub(super) fn pair_over_if_closed(&mut self, id: &RoomId) {
        let Some(room) = self.rooms.get(id).filter(|room| room.status != RoomStatus::Active) else { return };
        let Some(agent) = &room.card.pair else { return };
        let Some(of) = self.pairs.get_mut(agent) else { return };
        if of.get(&room.owner) == Some(id) {
            of.remove(&room.owner);
            if of.is_empty() {
                self.pairs.remove(agent);
            }
        }
    }
}

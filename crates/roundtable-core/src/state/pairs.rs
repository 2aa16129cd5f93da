//! The part of the fold that is about conversations of two.

use std::sync::Arc;

use super::State;
use crate::ids::{AgentId, Principal, RoomId};
use crate::rooms::{RoomCreated, RoomStatus};

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
    pub(super) fn pairs_end(&mut self, agent: &AgentId) {
        for (who, id) in self.pairs.remove(agent).into_iter().flatten() {
            if let Some(room) = self.rooms.get_mut(&id).map(Arc::make_mut) {
                room.status = RoomStatus::Closed;
                if matches!(who, Principal::Visitor(_)) {
                    room.members.remove(&who);
                    self.rooms_of.remove(&who);
                }
            }
        }
    }

    /// Somebody is no more: whoever takes the name opens conversations of its own.
    pub(super) fn talks_no_more(&mut self, who: &Principal) {
        let with = self.pairs.iter().filter(|(_, of)| of.contains_key(who)).map(|(agent, _)| agent.clone());
        for agent in with.collect::<Vec<_>>() {
            if let Some(of) = self.pairs.get_mut(&agent) {
                of.remove(who);
            }
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

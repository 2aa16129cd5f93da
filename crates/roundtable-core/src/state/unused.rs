//! Rooms that nobody ever used and that nobody is in: after a day they end, so that making rooms leaves nothing behind.
//!
//! Used is a room once somebody said or did something in it, summed it up or gave a key to it. Rooms that the server made, and
//! those whose messages leave no trace, count as used. Agents and users are in a room as long as they are members, guests and
//! visitors only while they are connected.

use std::sync::Arc;

use super::State;
use crate::event::{Event, Record};
use crate::ids::{Principal, RoomId};
use crate::limits;
use crate::rooms::{Durability, Room};
use crate::time::Time;

fn stranger(who: &Principal) -> bool {
    matches!(who, Principal::Guest(_) | Principal::Visitor(_))
}

/// Whether anybody is in a room. Agents and users come first in the order of members.
fn inside(room: &Room) -> bool {
    room.strangers > 0 || room.members.get_min().is_some_and(|(first, _)| !stranger(first))
}

fn uses(room: &Room, event: &Event) -> bool {
    match event {
        Event::MessagePosted(_) | Event::RoomActed(_) | Event::RoomSummarised(_) => true,
        Event::RoomCreated(_) => {
            room.owner == Principal::System || room.card.durability == Durability::Ephemeral
        }
        _ => false,
    }
}

impl State {
    pub(super) fn next_unused_room(&self) -> Option<Time> {
        self.unused_rooms.get_min().map(|(since, _)| since.plus(limits::UNUSED_ROOM_MS))
    }

    /// Which rooms have been unused and empty for long enough at `now`.
    pub(crate) fn unused_rooms(&self, now: Time) -> impl Iterator<Item = &RoomId> {
        let over = self.unused_rooms.iter();
        over.take_while(move |(since, _)| now.since(*since) >= limits::UNUSED_ROOM_MS).map(|(_, room)| room)
    }

    /// A record of a room that was not used before it.
    pub(super) fn unused_or_not(&mut self, id: &RoomId, record: &Record) {
        let here = |member: &Principal| u32::from(stranger(member) && self.online(member));
        let (came, went) = match &record.event {
            Event::RoomJoined(e) => (here(&e.member), 0),
            Event::RoomLeft(e) => (0, here(&e.member)),
            _ => (0, 0),
        };
        self.change_unused(id, record.t, |room| {
            room.strangers = (room.strangers + came).saturating_sub(went);
            room.used = uses(room, &record.event);
        });
    }

    /// Somebody got a key to a room.
    pub(super) fn room_used(&mut self, id: &RoomId, now: Time) {
        self.change_unused(id, now, |room| room.used = true);
    }

    /// A guest or a visitor came, or is gone.
    pub(super) fn stranger_moved(&mut self, who: &Principal, came: bool, now: Time) {
        if !stranger(who) {
            return;
        }
        let rooms: Vec<RoomId> = self.rooms_of(who).cloned().collect();
        for id in rooms {
            self.change_unused(&id, now, |room| {
                room.strangers = if came { room.strangers + 1 } else { room.strangers.saturating_sub(1) };
            });
        }
    }

    /// Changes a room that nobody used so far, and notes since when nobody is in it.
    fn change_unused(&mut self, id: &RoomId, now: Time, change: impl FnOnce(&mut Room)) {
        let Some(room) = self.rooms.get_mut(id).filter(|room| !room.used).map(Arc::make_mut) else { return };
        change(room);
        let before = room.unused_since;
        room.unused_since = (!room.used && !inside(room)).then(|| before.unwrap_or(now));
        if room.unused_since == before {
            return;
        }
        if let Some(since) = before {
            self.unused_rooms.remove(&(since, id.clone()));
        }
        if let Some(since) = room.unused_since {
            self.unused_rooms.insert((since, id.clone()));
        }
    }
}

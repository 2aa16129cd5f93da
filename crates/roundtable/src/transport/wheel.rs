//! One timing wheel per shard for all deadlines of its connections: heartbeats, wake-ups, time-outs.

use roundtable_core::ids::ConnectionId;

/// Milliseconds of one slot: how late a deadline may be noticed.
const SLOT_MS: u64 = 20;
/// Slots of one turn: deadlines farther away than 20.48 s are looked at once per turn.
const SLOTS: u64 = 1024;

/// Deadlines by connection. A connection has at most one entry per slot; the shard asks the connection whether it is really due.
#[derive(Debug)]
pub struct Wheel {
    slots: Vec<Vec<ConnectionId>>,
    /// The first slot number (time divided by [`SLOT_MS`]) that was not looked at.
    next: u64,
    entries: usize,
}

impl Wheel {
    /// An empty wheel at `now`, in milliseconds.
    pub fn new(now: u64) -> Self {
        Self { slots: (0..SLOTS).map(|_| Vec::new()).collect(), next: now / SLOT_MS, entries: 0 }
    }

    /// Notes that a connection wants to be asked at `due`.
    pub fn set(&mut self, connection: ConnectionId, due: u64) {
        let number = due.div_ceil(SLOT_MS).max(self.next);
        if let Some(slot) = self.slots.get_mut(usize::try_from(number % SLOTS).unwrap_or(0)) {
            slot.push(connection);
            self.entries += 1;
        }
    }

    /// When somebody has to be asked next, in milliseconds; `None` if nobody waits.
    pub fn next_due(&self) -> Option<u64> {
        if self.entries == 0 {
            return None;
        }
        let occupied = |number: &u64| {
            self.slots.get(usize::try_from(number % SLOTS).unwrap_or(0)).is_some_and(|slot| !slot.is_empty())
        };
        (self.next..self.next + SLOTS).find(occupied).map(|number| number * SLOT_MS)
    }

    /// Takes out everybody whose slot has come by `now`. Those that are not due yet are to be [`Wheel::set`] again.
    pub fn take(&mut self, now: u64) -> Vec<ConnectionId> {
        let mut due = Vec::new();
        let last = now / SLOT_MS;
        // After a long stall one turn visits every slot.
        let first = self.next.max((last + 1).saturating_sub(SLOTS));
        for number in first..=last {
            if let Some(slot) = self.slots.get_mut(usize::try_from(number % SLOTS).unwrap_or(0)) {
                due.append(slot);
                // A slot that was full in a storm gives its memory back.
                if slot.capacity() > 64 {
                    *slot = Vec::new();
                }
            }
        }
        self.next = self.next.max(last + 1);
        self.entries -= due.len();
        due
    }
}

#[cfg(test)]
mod tests {
    use super::{ConnectionId, Wheel};

    #[test]
    fn everybody_is_asked_in_time_and_once() {
        let mut wheel = Wheel::new(1_000);
        wheel.set(ConnectionId(1), 1_050);
        wheel.set(ConnectionId(2), 1_300);
        assert_eq!(wheel.next_due(), Some(1_060));
        assert!(wheel.take(1_040).is_empty());
        assert_eq!(wheel.take(1_060), [ConnectionId(1)]);
        assert_eq!(wheel.take(90_000), [ConnectionId(2)]);
        assert_eq!(wheel.next_due(), None);
    }

    #[test]
    fn a_deadline_in_the_past_is_due_with_the_next_slot() {
        let mut wheel = Wheel::new(1_000);
        assert!(wheel.take(2_000).is_empty());
        wheel.set(ConnectionId(7), 500);
        assert_eq!(wheel.take(2_040), [ConnectionId(7)]);
    }

    #[test]
    fn farther_than_a_turn_is_seen_early_and_can_be_set_again() {
        let mut wheel = Wheel::new(0);
        wheel.set(ConnectionId(1), 45_000);
        let early = wheel.next_due().unwrap();
        assert!(early < 45_000 && wheel.take(early) == [ConnectionId(1)]);
    }
}

//! The part of the fold that is about direct messages: they wait until they arrive or are given up.

use imbl::{OrdMap, Vector};

use super::State;
use crate::event::{Event, Record};
use crate::ids::Principal;
use crate::limits;
use crate::time::{Offset, Time};

impl State {
    /// Direct messages that have not reached their addressee: offset and log time, oldest first.
    pub fn waiting(&self, to: &Principal) -> &Vector<(Offset, Time)> {
        static NONE: std::sync::LazyLock<Vector<(Offset, Time)>> = std::sync::LazyLock::new(Vector::new);
        self.waiting.get(to).unwrap_or(&NONE)
    }

    /// Whose messages have waited too long at `now`: the addressee and the newest such message.
    pub(crate) fn overdue(&self, now: Time) -> OrdMap<Principal, Offset> {
        let late = |(t, ..): &&(Time, Offset, Principal)| now.since(*t) >= limits::WAITING_DIRECT_MS;
        self.waiting_by_age.iter().take_while(late).map(|(_, offset, to)| (to.clone(), *offset)).collect()
    }

    pub(super) fn apply_direct(&mut self, record: &Record) {
        match &record.event {
            Event::MessageDirect(e) => {
                self.messages += 1;
                self.waiting_by_age.insert((record.t, record.offset, e.to.clone()));
                let waiting = self.waiting.entry(e.to.clone()).or_default();
                waiting.push_back((record.offset, record.t));
            }
            Event::MessageDelivered(e) => self.no_longer_waiting(&e.to, e.upto),
            Event::MessageExpired(e) => self.no_longer_waiting(&e.to, e.upto),
            _ => {}
        }
    }

    pub(super) fn no_longer_waiting(&mut self, to: &Principal, upto: Offset) {
        let Some(waiting) = self.waiting.get_mut(to) else { return };
        while let Some((offset, t)) = waiting.front().copied().filter(|(offset, _)| *offset <= upto) {
            waiting.pop_front();
            self.waiting_by_age.remove(&(t, offset, to.clone()));
        }
        if waiting.is_empty() {
            self.waiting.remove(to);
        }
    }
}

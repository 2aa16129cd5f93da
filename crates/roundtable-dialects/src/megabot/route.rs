//! What others do: who gets which frame of it, and what is known to have arrived (MegaBot notes §4, §5, §7, §8).

use roundtable_core::delivery::{Delivery, Item, Topic};
use roundtable_core::event::{Event, Record};
use roundtable_core::ids::{ConnectionId, Principal, RoomId};
use roundtable_core::messages::Message;
use roundtable_core::signal::SignalBody;
use roundtable_core::time::Cursor;

use super::{Heard, MegaBotSession, Phase, Waiting, encode};
use crate::session::{Output, Outputs, Route, Scene};

impl MegaBotSession {
    /// What this connection gets of a delivery.
    pub(super) fn hear(&mut self, delivery: &Delivery<'_>, scene: Scene<'_>) -> Route {
        if self.phase != Phase::Open {
            return Route::Skip;
        }
        if let (Item::Record(record), Topic::Principal(_)) = (delivery.item, delivery.topic) {
            return if self.own_room_appeared(record) { Route::Own } else { Route::Skip };
        }
        if let Item::Record(record) = delivery.item {
            let heard = match delivery.topic {
                Topic::Room(room) => self.rooms.get_mut(room),
                Topic::Feed(_) => Some(&mut self.feed),
                Topic::Principal(_) => None,
            };
            let Some(heard) = heard else { return Route::Skip };
            heard.sent = record.offset;
            self.passes(record, delivery.origin);
        }
        let wanted = self.wanted(delivery, scene);
        let begins =
            matches!((wanted, delivery.item), (Route::Shared(_), Item::Record(_))) && !self.probes.open();
        match wanted {
            Route::Shared(_) if begins => Route::Own,
            Route::Shared(_) => Route::Shared(self.form),
            other => other,
        }
    }

    /// Notes where an own message is in the log, for who wants to know.
    fn passes(&mut self, record: &Record, origin: Option<ConnectionId>) {
        if let (Some(acks), Event::MessagePosted(said), true) =
            (&mut self.acks, &record.event, origin == Some(self.connection))
        {
            acks.passed = Some((said.id.clone(), record.offset));
        }
    }

    /// Whether an own message comes by whose sender waits to be told where it is in the log.
    fn awaited(&self, said: &Message) -> bool {
        self.acks.as_ref().is_some_and(|acks| acks.behind.iter().any(|(id, _)| *id == said.id))
    }

    /// What would reach this connection of a delivery, whether or not it has begun.
    fn wanted(&self, delivery: &Delivery<'_>, scene: Scene<'_>) -> Route {
        match (delivery.item, delivery.topic) {
            (Item::Record(record), Topic::Room(room)) => match &record.event {
                // When a session is taken up again, its own leaving is among what it missed.
                Event::RoomLeft(e) if Some(&e.member) == self.who.as_ref() => {
                    let inside = scene.state.room(room).is_some_and(|r| r.members.contains_key(&e.member));
                    if inside { Route::Skip } else { Route::Own }
                }
                _ => self.wants(record, room, delivery.origin),
            },
            (Item::Record(record), Topic::Feed(_)) => {
                shares(matches!(record.event, Event::AlertRaised(_) | Event::AlertCleared(_)))
            }
            (Item::Signal(signal), Topic::Room(room)) if self.rooms.contains_key(room) => {
                match &signal.body {
                    SignalBody::Message(said) => self.wants_said(said, room, delivery.origin),
                    SignalBody::Action { .. } => shares(delivery.origin != Some(self.connection)),
                    SignalBody::Typing { .. } | SignalBody::Metric(_) => Route::Skip,
                }
            }
            _ => Route::Skip,
        }
    }

    /// Whether a record that was missed makes a frame. A leaving of its own does not: the room is entered again.
    pub(super) fn missed(&self, delivery: &Delivery<'_>, scene: Scene<'_>) -> bool {
        let own_leaving = match delivery.item {
            Item::Record(Record { event: Event::RoomLeft(e), .. }) => Some(&e.member) == self.who.as_ref(),
            _ => false,
        };
        !own_leaving && self.wanted(delivery, scene) != Route::Skip
    }

    /// Whether another connection that shares the session has opened the session's own room.
    fn own_room_appeared(&self, record: &Record) -> bool {
        let (Event::SeatKept(kept), Some(own)) = (&record.event, &self.own) else { return false };
        kept.opened && kept.seat == *own && !self.rooms.contains_key(own)
    }

    fn wants(&self, record: &Record, room: &RoomId, origin: Option<ConnectionId>) -> Route {
        let listed = self.rooms.get(room).is_some_and(|heard| record.offset <= heard.listed);
        let news = |who: &Principal| shares(!listed && self.who.as_ref() != Some(who));
        match &record.event {
            Event::MessagePosted(said) => self.wants_said(said, room, origin),
            Event::RoomActed(acted) => shares(!self.is_own(origin, acted.via)),
            Event::RoomLeft(e) if !e.at.away => news(&e.member),
            Event::RoomJoined(e) if !e.at.away => news(&e.member),
            Event::PresenceConnected(e) if e.first => news(&e.principal),
            Event::PresenceDisconnected(e) if e.last => news(&e.principal),
            _ => Route::Skip,
        }
    }

    fn wants_said(&self, said: &Message, room: &RoomId, origin: Option<ConnectionId>) -> Route {
        if self.is_own(origin, said.via) || !encode::shown(said) {
            return if self.awaited(said) { Route::Own } else { Route::Skip };
        }
        if self.asked_by(said, room).is_some() { Route::Own } else { shares(true) }
    }

    /// Whether something came from this connection or, read back from the log, from one that sat in its seat before.
    fn is_own(&self, origin: Option<ConnectionId>, via: Option<ConnectionId>) -> bool {
        let here = |c: ConnectionId| c == self.connection || self.former.contains(&c);
        origin == Some(self.connection) || (origin.is_none() && via.is_some_and(here))
    }

    /// Which of the connection's own messages an agent's message answers: the one it names, else the oldest unanswered one
    /// that was meant for it.
    fn asked_by(&self, said: &Message, room: &RoomId) -> Option<usize> {
        let agent = said.from.agent()?;
        let named = |s: &super::Said| said.reply_to.as_deref() == Some(s.message.as_str());
        let meant = |s: &super::Said| match &s.agent {
            Some(asked) => asked == agent,
            None => self.own.as_ref() == Some(room),
        };
        let fits = |s: &super::Said| !s.answered && s.room == *room && meant(s);
        self.said.iter().position(named).or_else(|| self.said.iter().position(fits))
    }

    /// The connection's own frames of a delivery.
    pub(super) fn hand_out(&mut self, delivery: &Delivery<'_>, scene: Scene<'_>, out: &mut Outputs) {
        if let (Item::Record(record), Topic::Room(room)) = (delivery.item, delivery.topic)
            && let Event::RoomLeft(left) = &record.event
            && self.who.as_ref() == Some(&left.member)
        {
            out.push(Output::Unsubscribe(delivery.topic.clone()));
            return self.lost(room, scene, out);
        }
        if let (Item::Record(record), Topic::Room(room)) = (delivery.item, delivery.topic)
            && let Event::MessagePosted(said) = &record.event
            && self.awaited(said)
        {
            let behind = self.acks.as_mut().map(|acks| &mut acks.behind);
            let found = behind.and_then(|all| all.remove(all.iter().position(|(id, _)| *id == said.id)?));
            return found.into_iter().for_each(|(id, request)| {
                self.acknowledge((&request, room, &id), (Some(record.offset), false), scene, out);
            });
        }
        if let (Topic::Principal(_), Some(own)) = (delivery.topic, self.own.clone()) {
            // All that was said there came after this connection did.
            let since = Cursor { epoch: self.epoch, offset: self.feed.arrived };
            self.rooms.insert(own.clone(), Heard::from(since.offset));
            return out.push(Output::Subscribe(Topic::Room(own), Some(since)));
        }
        let said = match (delivery.item, delivery.topic) {
            (Item::Record(record), Topic::Room(room)) => match &record.event {
                Event::MessagePosted(said) => Some((said, room, record.at)),
                _ => None,
            },
            (Item::Signal(signal), Topic::Room(room)) => match &signal.body {
                SignalBody::Message(said) => Some((&**said, room, signal.at)),
                _ => None,
            },
            _ => None,
        };
        let request = said.and_then(|(said, room, _)| {
            let asked = self.asked_by(said, room).and_then(|at| self.said.get_mut(at))?;
            asked.answered = true;
            asked.due = None;
            Some(asked.request.clone())
        });
        let frames = match (said, request) {
            (Some((said, room, at)), Some(request)) => {
                encode::answer(self.form, said, room, at, Some(&request))
            }
            _ => encode::encode(self.form, delivery, scene),
        };
        out.extend(frames.into_iter().map(Output::Send));
        if matches!(delivery.item, Item::Record(_)) && self.probes.needed(scene.now, self.settings.probe_ms) {
            self.probe(scene, out);
        }
    }

    fn probe(&mut self, scene: Scene<'_>, out: &mut Outputs) {
        for heard in self.rooms.values_mut().chain([&mut self.feed]) {
            heard.probed = heard.sent;
        }
        out.push(Output::Probe(self.probes.next(scene.now)));
    }

    /// The client is alive and well: a good moment, if a probe waits for its time.
    pub(super) fn probe_early(&mut self, scene: Scene<'_>, out: &mut Outputs) {
        if self.probes.due().is_some() {
            self.probe(scene, out);
        }
    }

    pub(super) fn probe_if_due(&mut self, scene: Scene<'_>, out: &mut Outputs) {
        if self.probes.due().is_some_and(|at| at <= scene.now) {
            self.probe(scene, out);
        }
    }

    /// Everything sent before a probe has arrived.
    pub(super) fn arrived(&mut self, probe: u32, scene: Scene<'_>, out: &mut Outputs) {
        if self.phase != Phase::Open || !self.probes.answered(probe) {
            return;
        }
        let mut more = false;
        for heard in self.rooms.values_mut().chain([&mut self.feed]) {
            heard.arrived = heard.arrived.max(heard.probed);
            more |= heard.sent > heard.arrived;
        }
        if self.probes.settle(more, scene.now, self.settings.probe_ms) {
            self.probe(scene, out);
        }
        self.kept.due.get_or_insert(self.kept.last.plus(self.settings.keep_ms));
        self.keep_if_due(scene, out);
    }

    pub(super) fn keep_if_due(&mut self, scene: Scene<'_>, out: &mut Outputs) {
        if self.kept.due.is_some_and(|at| at <= scene.now) {
            self.keep_seat(Waiting::Nothing, scene, out);
        }
    }

    /// What was missed is not kept any more; the client is told and goes on with what there is.
    pub(super) fn resume_from(&mut self, topic: &Topic, first: Cursor, scene: Scene<'_>, out: &mut Outputs) {
        let heard = match topic {
            Topic::Room(room) => self.rooms.get_mut(room),
            Topic::Feed(_) => Some(&mut self.feed),
            Topic::Principal(_) => None,
        };
        let Some(heard) = heard else { return };
        *heard = Heard::from(first.offset);
        self.epoch = first.epoch;
        self.tell_of_loss(scene, out);
        out.push(Output::Subscribe(topic.clone(), Some(first)));
    }

    pub(super) fn tell_of_loss(&mut self, scene: Scene<'_>, out: &mut Outputs) {
        let notice = encode::Notice::warning("Messages lost", "Some older messages are no longer kept");
        self.send("notification", notice, scene, out);
    }
}

fn shares(wanted: bool) -> Route {
    if wanted { Route::Shared(encode::TEXT) } else { Route::Skip }
}

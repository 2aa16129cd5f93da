//! What others do: who gets which event of it, and what of it is known to have arrived (notes §5).

use roundtable_core::command::Command;
use roundtable_core::delivery::{Delivery, Item, Topic};
use roundtable_core::event::Event;
use roundtable_core::ids::{Principal, RoomId};
use roundtable_core::time::{Offset, Time};

use super::encode::{self, ServerEvent};
use super::{AiwmSession, Pending};
use crate::session::{Ending, Output, Outputs, Route, Scene};

/// How much has gone out and is known to have arrived, over all rooms of a connection.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// All records up to here were looked at.
    sent: Offset,
    /// The newest message of somebody else that went out.
    heard: Offset,
    /// What the probe under way stands for.
    probed: Offset,
    /// Known to have arrived.
    arrived: Offset,
    /// Told to the log.
    noted: Offset,
    noted_at: Time,
    note_due: Option<Time>,
}

impl Reach {
    /// Everything up to `arrived` has arrived, and `sent` is on its way.
    pub(super) fn new(arrived: Offset, sent: Offset) -> Self {
        Self { sent, heard: arrived, probed: arrived, arrived, noted: arrived, ..Self::default() }
    }

    /// When something is to be told to the log.
    pub(super) const fn due(&self) -> Option<Time> {
        self.note_due
    }

    fn to_note(&self) -> Option<Offset> {
        Some(self.arrived).filter(|arrived| *arrived > self.noted && self.heard > self.noted)
    }
}

impl AiwmSession {
    /// What this connection gets of a delivery.
    pub(super) fn hear_of(&mut self, delivery: &Delivery<'_>, scene: Scene<'_>) -> Route {
        let Some(me) = &self.me else { return Route::Skip };
        let room = match delivery.topic {
            Topic::Room(room) => room,
            Topic::Principal(_) => {
                return if concerns_access(delivery, me) { Route::Own } else { Route::Skip };
            }
            Topic::Feed(_) => return Route::Skip,
        };
        let Some((_, missed_to)) = self.rooms.iter().find(|(known, _)| known == room) else {
            return Route::Skip;
        };
        if let Item::Record(record) = delivery.item {
            // Records come in the order of the log, those that were missed too.
            self.reach.sent = self.reach.sent.max(record.offset);
        }
        let Some(subject) = encode::subject(delivery) else { return Route::Skip };
        let own = subject == me;
        let late = matches!(delivery.item, Item::Record(record) if record.offset <= *missed_to);
        let said = encode::said(delivery);
        if late && !self.was_there(delivery, room, scene) {
            return Route::Skip;
        }
        if (own && late) || (said.is_none() && (own || late)) {
            return Route::Skip;
        }
        if let (Some((said, _)), true) = (said, own)
            && let Some(at) = self.told.iter().position(|told| *told == said.id)
        {
            self.told.remove(at);
            return Route::Skip;
        }
        if let Some((said, at)) = said
            && own
            && delivery.origin == Some(self.connection)
        {
            let document = encode::message(said, at, (room, scene.state.room(room)), self.door);
            self.sent.push((said.id.clone(), at, document));
        }
        if let (Item::Record(record), true, false) = (delivery.item, said.is_some(), own) {
            self.reach.heard = self.reach.heard.max(record.offset);
            if !self.probes.open() {
                return Route::Own;
            }
        }
        Route::Shared(self.door.form(matches!(me, Principal::Visitor(_))))
    }

    /// Whether something that was said while this principal was away reaches it.
    pub(super) fn missed(&self, delivery: &Delivery<'_>, scene: Scene<'_>) -> bool {
        let Topic::Room(room) = delivery.topic else { return false };
        let of_other = encode::subject(delivery).is_some_and(|subject| Some(subject) != self.me.as_ref());
        of_other && encode::said(delivery).is_some() && self.was_there(delivery, room, scene)
    }

    /// What was said before it came into a room was not said to it.
    fn was_there(&self, delivery: &Delivery<'_>, room: &RoomId, scene: Scene<'_>) -> bool {
        let room = scene.state.room(room);
        let part = room.zip(self.me.as_ref()).and_then(|(room, me)| room.members.get(me));
        let Item::Record(record) = delivery.item else { return false };
        part.is_some_and(|part| part.joined <= record.offset)
    }

    /// The connection's own messages of a delivery.
    pub(super) fn hand_out(&mut self, delivery: &Delivery<'_>, scene: Scene<'_>, out: &mut Outputs) {
        let Item::Record(record) = delivery.item else { return };
        if let Topic::Room(_) = delivery.topic {
            let form = self.door.form(matches!(self.me, Some(Principal::Visitor(_))));
            out.extend(encode::encode(form, delivery, scene).into_iter().map(Output::Send));
            return self.want_proof(scene, out);
        }
        match (&record.event, &record.room) {
            (Event::RoomLeft(_), Some(room)) => self.stop_hearing(room, out),
            (Event::RoomJoined(_), Some(room)) => {
                self.hear(room, None, Offset(0), out);
                if let Some(data) = encode::inviter(record, scene) {
                    self.emit(ServerEvent::Joined, data, out);
                }
            }
            _ => out.push(Output::End(Ending::Close(1008, "access was withdrawn".into()))),
        }
    }

    /// Something went out that would have to be sent again if it did not arrive.
    pub(super) fn want_proof(&mut self, scene: Scene<'_>, out: &mut Outputs) {
        if self.probes.needed(scene.now, self.settings.probe_ms) {
            self.probe(scene, out);
        }
        self.arm(out);
    }

    fn probe(&mut self, scene: Scene<'_>, out: &mut Outputs) {
        self.reach.probed = self.reach.sent;
        out.push(Output::Probe(self.probes.next(scene.now)));
    }

    /// Everything that was missed went out: one probe stands for all of it.
    pub(super) fn probe_all(&mut self, scene: Scene<'_>, out: &mut Outputs) {
        if self.me.is_some() && self.reach.heard > self.reach.arrived {
            self.probe(scene, out);
            self.arm(out);
        }
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
    pub(super) fn has_arrived(&mut self, probe: u32, scene: Scene<'_>, out: &mut Outputs) {
        if self.me.is_none() || !self.probes.answered(probe) {
            return;
        }
        self.reach.arrived = self.reach.arrived.max(self.reach.probed);
        let more = self.reach.heard > self.reach.arrived;
        if self.probes.settle(more, scene.now, self.settings.probe_ms) {
            self.probe(scene, out);
        }
        if self.reach.to_note().is_some() {
            let next = self.reach.noted_at.plus(self.settings.note_ms);
            self.reach.note_due.get_or_insert(next);
        }
        self.note_if_due(scene, out);
        self.arm(out);
    }

    pub(super) fn note_if_due(&mut self, scene: Scene<'_>, out: &mut Outputs) {
        if self.reach.note_due.is_some_and(|at| at <= scene.now) {
            self.reach.noted_at = scene.now;
            self.note(out);
        }
    }

    /// Tells the log what is known to have arrived, if that is news.
    pub(super) fn note(&mut self, out: &mut Outputs) {
        self.reach.note_due = None;
        if let Some(upto) = self.reach.to_note() {
            self.reach.noted = upto;
            self.ask(Pending::Unanswered, Command::MarkReached(upto), out);
        }
    }

    /// Asks to be woken at the earliest thing that is due.
    pub(super) fn arm(&self, out: &mut Outputs) {
        let typing = self.typing.iter().map(|(_, at)| *at);
        if let Some(at) = typing.chain(self.probes.due()).chain(self.reach.due()).min() {
            out.push(Output::WakeAt(at));
        }
    }
}

/// Whether a delivery to a principal begins or ends its part in a room, or ends its access.
fn concerns_access(delivery: &Delivery<'_>, me: &Principal) -> bool {
    let Item::Record(record) = delivery.item else { return false };
    match &record.event {
        Event::RoomLeft(e) => e.member == *me,
        Event::RoomJoined(e) => e.member == *me && e.by.is_some(),
        Event::AgentUpdated(e) => e.changes.suspended == Some(true),
        Event::AgentRemoved(_) | Event::UserRemoved(_) => true,
        Event::UserChanged(e) => e.disabled == Some(true),
        _ => false,
    }
}

//! What reaches this socket: which deliveries, in which form, and those that concern it alone.

use serde_json::json;

use super::encode::{self, ENVELOPE, FLAT, shapes};
use super::{Call, MxfSession, Then, errors, send};
use crate::session::{Ending, Output, Outputs, Refusal, Route, Scene};
use crate::standing;
use roundtable_core::agents::{AgentRemoved, AgentUpdated};
use roundtable_core::command::Command;
use roundtable_core::delivery::{Delivery, Item, Topic};
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::event::{Event, Record};
use roundtable_core::ids::{AgentId, Principal, RoomId};
use roundtable_core::presence::{Connected, Disconnected};
use roundtable_core::signal::SignalBody;
use roundtable_core::time::Cursor;

impl MxfSession {
    /// What this connection gets of a delivery.
    pub(super) fn way_of(&mut self, delivery: &Delivery<'_>, scene: Scene<'_>) -> Route {
        let own = delivery.origin == Some(self.connection);
        let shared = Route::Shared(self.form);
        match delivery.item {
            Item::Signal(signal) => match &signal.body {
                SignalBody::Message(message) => {
                    if own {
                        self.said = Some((message.id.clone(), signal.at));
                    }
                    shared
                }
                SignalBody::Typing { .. } | SignalBody::Action { .. } | SignalBody::Metric(_) => Route::Skip,
            },
            Item::Record(record) => match (&record.event, delivery.topic) {
                (Event::MessagePosted(message), _) => {
                    if own {
                        self.said = Some((message.id.clone(), record.at));
                    }
                    shared
                }
                (Event::RoomUpdated(_), _) if record.offset > self.live_after => shared,
                (_, Topic::Principal(_)) => self.personal(record),
                (event, Topic::Room(room)) if !own => self.about_others(event, record, room, scene),
                _ => Route::Skip,
            },
        }
    }

    /// What goes to somebody rather than to a channel.
    fn personal(&self, record: &Record) -> Route {
        match &record.event {
            Event::MessageDirect(_) => Route::Own,
            Event::RoomJoined(_) | Event::RoomLeft(_) if record.offset > self.live_after => Route::Own,
            Event::KeyRevoked(_)
            | Event::UserChanged(_)
            | Event::UserRemoved(_)
            | Event::AgentUpdated(_)
            | Event::AgentRemoved(_) => Route::Own,
            _ => Route::Skip,
        }
    }

    /// Who comes, goes or changes in a channel; once per socket, and not in crowds.
    fn about_others(&mut self, event: &Event, record: &Record, room: &RoomId, scene: Scene<'_>) -> Route {
        let members = scene.state.room(room).map_or(0, |room| room.members.len());
        let told = match event {
            Event::RoomJoined(_) => true,
            Event::RoomLeft(_) => self.is_in(room, scene),
            Event::AgentUpdated(_) | Event::AgentStatusChanged(_) => true,
            Event::PresenceConnected(Connected { first: true, .. })
            | Event::PresenceDisconnected(Disconnected { last: true, .. }) => self.form != FLAT,
            _ => false,
        };
        let old = record.offset <= self.live_after || record.offset == self.seen;
        if !told || old || members > self.settings.announced_members {
            return Route::Skip;
        }
        self.seen = record.offset;
        Route::Shared(self.form)
    }

    /// The connection's own part of a delivery.
    pub(super) fn hand_over(&mut self, delivery: &Delivery<'_>, scene: Scene<'_>, out: &mut Outputs) {
        let Item::Record(record) = delivery.item else { return };
        let own = delivery.origin == Some(self.connection);
        match &record.event {
            Event::MessageDirect(message) => {
                out.extend(encode::encode(self.form, delivery, scene).into_iter().map(Output::Send));
                let delivered = Command::MarkDelivered(record.offset);
                self.ask_as(Some(message.to.clone()), delivered, (Call::NONE, Then::Nothing), out);
            }
            Event::RoomJoined(e) => self.was_brought_in(record, &e.member, own, (scene, out)),
            Event::RoomLeft(e) => self.has_gone(record, &e.member, own, (scene, out)),
            Event::AgentRemoved(AgentRemoved { agent, .. })
            | Event::AgentUpdated(AgentUpdated { agent, .. }) => {
                self.dismiss_if_over(agent, scene, out);
                self.expel_if_over(scene, out);
            }
            _ => self.expel_if_over(scene, out),
        }
    }

    /// Somebody brought this socket's agent into a channel; unless it was this socket, it is told.
    fn was_brought_in(
        &mut self,
        record: &Record,
        who: &Principal,
        own: bool,
        (scene, out): (Scene<'_>, &mut Outputs),
    ) {
        let Some(room) = record.room.as_ref().and_then(|room| scene.state.room(room)) else { return };
        let new = !self.rooms.contains(&room.id);
        self.follow(&room.id, out);
        if !own && self.form != ENVELOPE {
            send("channel:joined", &shapes::joined(room, who, record.at), out);
            if new {
                send("channel:participants", &shapes::participants(scene.state, room), out);
            }
        }
    }

    /// This socket's agent is in a channel no more; unless it was this socket that took it out, it is told.
    fn has_gone(
        &mut self,
        record: &Record,
        who: &Principal,
        own: bool,
        (scene, out): (Scene<'_>, &mut Outputs),
    ) {
        let Some(room) = &record.room else { return };
        if !self.is_in(room, scene) && self.rooms.remove(room) {
            out.push(Output::Unsubscribe(Topic::Room(room.clone())));
        }
        if !own && self.form != ENVELOPE {
            send("channel:left", &shapes::left(room, who, record.at), out);
        }
    }

    /// A user's socket no longer speaks for an agent that is suspended or removed.
    fn dismiss_if_over(&mut self, agent: &AgentId, scene: Scene<'_>, out: &mut Outputs) {
        let over = scene.state.agent(agent).is_none_or(|agent| agent.suspended);
        if !over || !self.agents.contains(agent) {
            return;
        }
        self.agents.retain(|known| known != agent);
        let who = Principal::Agent(agent.clone());
        self.ask_as(Some(who.clone()), Command::Disconnect, (Call::NONE, Then::Nothing), out);
        out.push(Output::Unsubscribe(Topic::Principal(who)));
        let left: Vec<RoomId> = self.rooms.iter().filter(|room| !self.is_in(room, scene)).cloned().collect();
        for room in left {
            self.rooms.remove(&room);
            out.push(Output::Unsubscribe(Topic::Room(room)));
        }
        let error = Error::new(ErrorKind::Suspended, format!("agent {agent} is suspended or removed"));
        self.refuse(Call { event: "agent:register", ack: None }, &error, scene, out);
    }

    /// What was missed cannot be found any more: it is said where the log now begins for this client, and what comes from
    /// now on arrives as ever.
    pub(super) fn tell_gap(topic: &Topic, first: Cursor, out: &mut Outputs) {
        let Topic::Room(room) = topic else { return };
        let text = format!("messages missed in channel {room} cannot be sent again");
        let error = Error::new(ErrorKind::CannotResume, text);
        let mut body = errors::body(&error);
        let details = json!({"field": "since", "channelId": room.as_str(), "first": first.to_string()});
        body.insert("details".into(), details);
        send("error", &body, out);
        send("channel:error", &body, out);
    }

    /// A revoked key, a suspended agent or a disabled user ends the connection, by what holds now: a record read again may be
    /// long undone.
    fn expel_if_over(&mut self, scene: Scene<'_>, out: &mut Outputs) {
        let Some(who) = &self.who else { return };
        if let Err(refusal) = standing::of_identity(scene.state, who) {
            let revoked = refusal == Refusal::Revoked;
            let kind = if revoked { ErrorKind::InvalidCredential } else { ErrorKind::Unauthenticated };
            let error = Error::new(kind, "The credential of this connection is not valid any more");
            self.refuse(Call { event: "auth", ack: None }, &error, scene, out);
            out.push(Output::End(Ending::Close(1008, "credential withdrawn".into())));
        }
    }
}

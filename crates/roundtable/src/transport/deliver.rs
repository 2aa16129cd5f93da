//! From a committed batch to the mailboxes: every wire form is made once and shared.

use std::rc::Rc;
use std::sync::Arc;

use roundtable_core::delivery::{Delivery, Item, Topic, replays};
use roundtable_core::error::ErrorKind;
use roundtable_core::event::{Event, Record};
use roundtable_core::following::Fate;
use roundtable_core::ids::ConnectionId;
use roundtable_dialects::session::{Form, Identity, Message, Messages, Outputs, Route, Scene, Sign};
use roundtable_dialects::socketio::encode::{self, Address};
use roundtable_dialects::standing;
use roundtable_dialects::websocket::Frame;
use smallvec::SmallVec;

use super::Encode;
use super::connection::{Connection, Slot};
use super::following::HELD_BYTES;
use super::report::Tally;
use super::shard::{Home, Shard};
use crate::runner::{Committed, News, View};

/// The frames of one message or delivery; nearly always one.
pub type Frames = SmallVec<[Frame; 1]>;

/// What makes two receivers' bytes equal.
#[derive(Clone, PartialEq, Eq)]
struct FrameKey {
    encode: usize,
    form: Form,
    namespace: Option<Rc<str>>,
    deflate: Option<u8>,
}

impl Shard {
    /// Takes a committed batch: everybody gets, in order, what they subscribed to and the answers to what they asked.
    pub fn hand_out(self: &Rc<Self>, batch: &Arc<Committed>) {
        let Some(home) = self.known_home(&batch.workspace) else { return };
        home.view.replace(batch.view.clone());
        let mut rights_changed = false;
        for news in &batch.news {
            match news {
                News::Record(record, topics, origin) => {
                    home.told.set(home.told.get().max(record.offset));
                    for topic in topics {
                        let delivery = Delivery { item: Item::Record(record), topic, origin: *origin };
                        self.deliver(&home, &batch.view, &delivery, Some(record));
                    }
                    rights_changed |= standing::may_end(&record.event, &batch.view.state);
                    match &record.event {
                        Event::RoomLeft(_) | Event::RoomRemoved(_) | Event::AgentRemoved(_) => {
                            self.drop_strangers(&home, topics, record);
                        }
                        Event::UserChanged(_) | Event::UserRemoved(_) => {
                            let all: Vec<Topic> = home.topics.borrow().keys().cloned().collect();
                            self.drop_strangers(&home, &all, record);
                        }
                        _ => {}
                    }
                }
                News::Signal(signal, topics, origin) => {
                    for topic in topics {
                        let delivery = Delivery { item: Item::Signal(signal), topic, origin: *origin };
                        self.deliver(&home, &batch.view, &delivery, None);
                    }
                }
                News::Reply { shard, connection, slot, token, reply } if *shard == self.number => {
                    let Some(connection) = self.connections.borrow().get(connection).cloned() else {
                        continue;
                    };
                    connection.unfinished.set(connection.unfinished.get().saturating_sub(1));
                    connection.relief.notify_waiters();
                    if let Err(error) = reply {
                        connection.with_slot(*slot, |slot| Tally::note(&slot.tally.refusals));
                        if error.kind == ErrorKind::RateLimited {
                            self.hub.watch.saw(Sign::TooFast, connection.from.spot());
                        }
                    }
                    self.with_session(&connection, *slot, |session, scene, out| {
                        session.replied(*token, reply.as_ref(), scene, out);
                    });
                    self.mark_answered(&connection);
                }
                News::Reply { .. } => {}
            }
        }
        if rights_changed {
            self.expel(&home);
        }
    }

    /// Ends the connections whose credential or account is worth nothing any more.
    fn expel(self: &Rc<Self>, home: &Rc<Home>) {
        let state = Arc::clone(&home.view.borrow().state);
        let why = |who: &Rc<Identity>| standing::of_identity(&state, who).err();
        let all: Vec<Rc<Connection>> = self.connections.borrow().values().cloned().collect();
        for connection in all {
            for number in 0..connection.slot_count() {
                let refusal = connection.with_slot(number, |slot| {
                    slot.identity.as_ref().filter(|_| Rc::ptr_eq(&slot.home, home)).and_then(&why)
                });
                if let Some(refusal) = refusal.flatten().filter(|_| connection.lives()) {
                    self.with_session(&connection, number, |session, scene, out| {
                        session.expelled(refusal, scene, out);
                    });
                }
            }
        }
    }

    /// Brings one item to the subscribers of one topic: a record to all of them, now or when they come to it; a signal to
    /// those who have room for it.
    fn deliver(
        self: &Rc<Self>,
        home: &Home,
        view: &View,
        delivery: &Delivery<'_>,
        record: Option<&Arc<Record>>,
    ) {
        let figures = self.hub.figures.load();
        let scene = view.scene(&figures);
        let mut made: SmallVec<[(FrameKey, Frames); 4]> = SmallVec::new();
        let mut own: Vec<(Rc<Connection>, u8)> = Vec::new();
        let mut behind: Vec<(Rc<Connection>, u8)> = Vec::new();
        let mut weight = None;
        let topics = home.topics.borrow();
        let Some(subscribers) = topics.get(delivery.topic) else { return };
        for ((_, number), connection) in subscribers {
            let room = self.has_room(connection);
            let routed = connection.with_slot(*number, |slot| {
                let fate = record
                    .map_or(Fate::Deliver, |record| slot.following.meet(delivery.topic, record.offset, room));
                match (fate, record) {
                    (Fate::Hold, Some(record)) => {
                        let weight = *weight.get_or_insert_with(|| record.event.weight());
                        let lost = slot.hold(delivery, record, weight);
                        connection.loses(slot, lost);
                        if slot.reader.is_none() {
                            behind.push((Rc::clone(connection), *number));
                        }
                        None
                    }
                    (Fate::Deliver, Some(_)) => Some(slot.route(delivery, scene)),
                    (Fate::Deliver, None) => {
                        let routed = slot.route(delivery, scene);
                        let lost = !room && routed.0 != Route::Skip;
                        connection.loses(slot, usize::from(lost));
                        (!lost).then_some(routed)
                    }
                    (Fate::Hold | Fate::Skip, _) => None,
                }
            });
            match routed.flatten() {
                None | Some((Route::Skip, ..)) => {}
                Some((Route::Own, ..)) => own.push((Rc::clone(connection), *number)),
                Some((Route::Shared(form), encode, namespace)) => {
                    let key = self.frame_key(connection, encode, form, namespace);
                    let place = made.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
                        let frames = self.make(&key, encode, delivery, scene);
                        made.push((key, frames));
                        made.len() - 1
                    });
                    let Some((_, frames)) = made.get(place) else { continue };
                    self.put_shared(connection, frames);
                }
            }
        }
        drop(topics);
        for (connection, slot) in own {
            self.deliver_own(&connection, slot, delivery);
        }
        for (connection, slot) in behind {
            self.read_for(&connection, slot);
        }
    }

    fn frame_key(
        &self,
        connection: &Connection,
        encode: Encode,
        form: Form,
        namespace: Option<Rc<str>>,
    ) -> FrameKey {
        FrameKey { encode: encode as usize, form, namespace, deflate: connection.wire.borrow().deflate }
    }

    fn make(&self, key: &FrameKey, encode: Encode, delivery: &Delivery<'_>, scene: Scene<'_>) -> Frames {
        let messages: Messages = encode(key.form, delivery, scene);
        let mut frames = Frames::new();
        for message in messages {
            frames_of(message, key.namespace.as_deref(), &mut frames);
        }
        for frame in &mut frames {
            self.compress(frame, key.deflate);
        }
        frames
    }

    /// Replaces a frame by its compressed form where that is agreed on and shorter.
    pub fn compress(&self, frame: &mut Frame, deflate: Option<u8>) {
        if let Some(bits) = deflate
            && self.hub.settings.compress_from.is_some_and(|least| frame.payload().len() >= least)
            && let Some(small) = self.deflater.borrow_mut().shrink(frame, bits)
        {
            *frame = small;
        }
    }

    fn put_shared(&self, connection: &Rc<Connection>, frames: &Frames) {
        if connection.lives() {
            frames.iter().for_each(|frame| self.queue(connection, frame.clone()));
            self.mark_dirty(connection);
        }
    }

    fn deliver_own(self: &Rc<Self>, connection: &Rc<Connection>, slot: u8, delivery: &Delivery<'_>) {
        self.with_session(connection, slot, |session, scene, out| session.deliver(delivery, scene, out));
    }

    /// Hands one record to one session: the way of records that were read back from the log or held meanwhile.
    pub fn deliver_to(self: &Rc<Self>, connection: &Rc<Connection>, number: u8, delivery: &Delivery<'_>) {
        let Some(home) = connection.with_slot(number, |slot| Rc::clone(&slot.home)) else { return };
        let view = home.view.borrow().clone();
        let figures = self.hub.figures.load();
        let scene = view.scene(&figures);
        let routed = connection.with_slot(number, |slot| slot.route(delivery, scene));
        match routed {
            None | Some((Route::Skip, ..)) => {}
            Some((Route::Own, ..)) => self.deliver_own(connection, number, delivery),
            Some((Route::Shared(form), encode, namespace)) => {
                let key = self.frame_key(connection, encode, form, namespace);
                let frames = self.make(&key, encode, delivery, scene);
                self.put_shared(connection, &frames);
            }
        }
    }

    /// By a record somebody left a room, is no more, or has fewer rights: whoever received only through that does so no
    /// longer. Who is behind is told now, since it will not come to it.
    fn drop_strangers(self: &Rc<Self>, home: &Home, topics: &[Topic], record: &Record) {
        let view = home.view.borrow().clone();
        for topic in topics {
            let stranger = |connection: &Connection, number: u8| {
                let identity = connection.with_slot(number, |slot| slot.identity.clone()).flatten();
                identity.is_none_or(|who| {
                    !roundtable_core::access::may_receive(&view.state, &who.principal, topic)
                })
            };
            let mut dropped = Vec::new();
            if let Some(subscribers) = home.topics.borrow_mut().get_mut(topic) {
                subscribers.retain(|(_, number), connection| {
                    let stays = !stranger(connection, *number);
                    if !stays {
                        self.hub.watched.go(topic);
                        dropped.push((Rc::clone(connection), *number));
                    }
                    stays
                });
            }
            for (connection, number) in dropped {
                let was_behind = connection.with_slot(number, |slot| {
                    let behind = slot.following.is_behind();
                    slot.following.unsubscribe(topic);
                    behind
                });
                if was_behind == Some(true) {
                    let delivery = Delivery { item: Item::Record(record), topic, origin: None };
                    self.deliver_to(&connection, number, &delivery);
                }
            }
        }
    }

    /// Runs something on a session and carries out what it wants.
    pub fn with_session(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        slot: u8,
        run: impl FnOnce(&mut dyn roundtable_dialects::session::Session, Scene<'_>, &mut Outputs),
    ) {
        let mut out = self.spare.take();
        let figures = self.hub.figures.load();
        connection.with_slot(slot, |slot| {
            let view = slot.home.view.borrow().clone();
            let scene = view.scene(&figures);
            run(&mut *slot.session, scene, &mut out);
        });
        self.carry_out(connection, slot, &mut out);
        out.clear();
        self.spare.replace(out);
    }

    /// Takes a session out of a topic.
    pub fn unsubscribe(&self, home: &Home, topic: &Topic, key: (ConnectionId, u8)) {
        let mut topics = home.topics.borrow_mut();
        if let Some(subscribers) = topics.get_mut(topic) {
            if subscribers.swap_remove(&key).is_some() {
                self.hub.watched.go(topic);
            }
            if subscribers.is_empty() {
                topics.remove(topic);
            }
        }
    }
}

impl Slot {
    /// What its session gets of a delivery, and how that is made for it.
    fn route(&mut self, delivery: &Delivery<'_>, scene: Scene<'_>) -> (Route, Encode, Option<Rc<str>>) {
        let route = self.session.route(delivery, scene);
        if route != Route::Skip {
            Tally::note(&self.tally.deliveries);
        }
        (route, self.encode, self.namespace.clone())
    }

    /// Keeps a record until the session comes to it. Says how many were lost for want of room.
    fn hold(&mut self, delivery: &Delivery<'_>, record: &Arc<Record>, weight: usize) -> usize {
        let to = (delivery.topic, replays(record, delivery.topic));
        let held = || (Arc::clone(record), delivery.origin);
        self.following.hold(to, (record.offset, weight), HELD_BYTES, held)
    }
}

/// The frames of a message, on a plain WebSocket or within a namespace.
pub fn frames_of(message: Message, namespace: Option<&str>, frames: &mut Frames) {
    let Some(namespace) = namespace else {
        match message {
            Message::Text(text) => frames.push(Frame::text(&text)),
            Message::Binary(bytes) => frames.push(Frame::binary(&bytes)),
            other => debug_assert!(false, "a plain WebSocket carries no Socket.IO message: {other:?}"),
        }
        return;
    };
    let mut packet = |text: String, attachments: Vec<bytes::Bytes>| {
        frames.push(Frame::text(&text));
        frames.extend(attachments.iter().map(|bytes| Frame::binary(bytes)));
    };
    let one = |args: &str| if args.is_empty() { None } else { Some(args.to_owned()) };
    match message {
        Message::Event(name, args) => {
            packet(encode::event(Address::new(namespace, name), one(&args).as_deref(), 0), Vec::new());
        }
        Message::BinaryEvent(name, args, bytes) => {
            packet(encode::event(Address::new(namespace, name), one(&args).as_deref(), bytes.len()), bytes);
        }
        Message::Question(name, args, bytes, number) => {
            let to = Address { namespace, name, ack: Some(number) };
            packet(encode::event(to, one(&args).as_deref(), bytes.len()), bytes);
        }
        Message::Ack(id, args) => packet(encode::ack(namespace, id, one(&args).as_deref(), 0), Vec::new()),
        Message::BinaryAck(id, args, bytes) => {
            packet(encode::ack(namespace, id, one(&args).as_deref(), bytes.len()), bytes);
        }
        // The Engine.IO layer alone: the message's own type character.
        Message::Text(text) => packet(format!("4{text}"), Vec::new()),
        Message::Binary(bytes) => frames.push(Frame::binary(&bytes)),
    }
}

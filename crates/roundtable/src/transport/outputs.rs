//! What sessions want, carried out in order: send, ask, subscribe, read, wake, end.

use std::rc::Rc;
use std::sync::Arc;

use roundtable_core::access;
use roundtable_core::delivery::{Delivery, Item, Topic, replays};
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::event::Record;
use roundtable_core::ids::{MessageId, Principal, WorkspaceId};
use roundtable_core::time::{Cursor, Offset};
use roundtable_dialects::session::{
    Ask, Credentials, Ending as SessionEnding, Identity, Message, Output, Outputs, Refusal, Sign, Token,
};
use roundtable_dialects::websocket::Frame;

use super::connection::{CatchUp, Connection, Ending};
use super::deliver::{Frames, frames_of};
use super::mailbox::{Put, Weight};
use super::probes::Probe;
use super::report::Tally;
use super::shard::Shard;
use super::turn::{CHECK, QUESTION};
use super::{Farewell, Hub};
use crate::clock;
use crate::log::{Page, Sought, Span, read_shown};
use crate::runner::{News, ReplyTo, View, batch::Question, find};

/// Records read from the log at a time while a subscription catches up.
const PAGE: usize = 200;
/// Bytes of their text, at most; one is read whatever its size.
const PAGE_BYTES: usize = 256 << 10;

/// A page of a room's history that a session asked for.
struct PageRequest {
    token: Token,
    room: roundtable_core::ids::RoomId,
    before: Option<Offset>,
    limit: u32,
}

impl Shard {
    /// Carries out what a session wants, in order.
    pub fn carry_out(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        slot: u8,
        out: &mut Outputs,
        weight: Weight,
    ) {
        for output in out.drain(..) {
            match output {
                Output::Send(message) => self.send(connection, slot, message, weight),
                Output::Accept => self.accept(connection, slot),
                Output::Refuse { message, data } => self.refuse(connection, slot, &message, data.as_deref()),
                Output::Authenticate(credentials) => self.authenticate(connection, slot, credentials),
                Output::Ask(ask) => self.ask(connection, slot, ask),
                Output::Subscribe(topic, since) => self.subscribe(connection, slot, topic, since),
                Output::Unsubscribe(topic) => self.unsubscribe_one(connection, slot, &topic),
                Output::Read { token, room, before, limit } => {
                    let request = PageRequest { token, room, before, limit };
                    tokio::task::spawn_local(Rc::clone(self).read_page(Rc::clone(connection), slot, request));
                }
                Output::Find { token, message } => {
                    let found = Rc::clone(self).find(Rc::clone(connection), slot, (token, message));
                    tokio::task::spawn_local(found);
                }
                Output::Survey { missed, most } => {
                    let survey = Rc::clone(self).survey(Rc::clone(connection), slot, missed, most);
                    tokio::task::spawn_local(survey);
                }
                Output::Unpacked(bytes) => connection.meter.inflated(bytes),
                Output::Notice(sign) => self.hub.watch.saw(sign, connection.from.spot()),
                Output::Probe(number) => self.probe(connection, Probe { slot, number }),
                Output::WakeAt(time) => {
                    let due = connection.with_slot(slot, |slot| {
                        let now = slot.home.view.borrow().now();
                        let wait = u64::try_from(time.since(now)).unwrap_or(0);
                        *slot.wake_at.insert(clock::monotonic_ms().saturating_add(wait))
                    });
                    due.iter().for_each(|due| self.remind(connection, *due));
                }
                Output::End(SessionEnding::Close(code, reason)) => {
                    self.close(connection, slot, code, &reason)
                }
                Output::End(SessionEnding::Drop) => self.cut_after_writing(connection),
            }
        }
    }

    /// Puts a message to this client into its mailbox.
    pub fn send(self: &Rc<Self>, connection: &Rc<Connection>, slot: u8, message: Message, weight: Weight) {
        let namespace = connection.with_slot(slot, |slot| slot.namespace.clone()).flatten();
        let mut frames = Frames::new();
        frames_of(message, namespace.as_deref(), &mut frames);
        self.put(connection, frames, weight);
    }

    /// Puts frames into a connection's mailbox.
    pub fn put(self: &Rc<Self>, connection: &Rc<Connection>, frames: Frames, weight: Weight) {
        if !connection.lives() {
            return;
        }
        let limit = self.allowance(connection).queue;
        let deflate = connection.wire.borrow().deflate;
        let mut fits = true;
        for mut frame in frames {
            self.compress(&mut frame, deflate);
            fits &= connection.wire.borrow_mut().mailbox.put(frame, weight, limit) != Put::Overflow;
        }
        self.mark_dirty(connection);
        if !fits {
            self.overflow(connection);
        }
    }

    fn authenticate(self: &Rc<Self>, connection: &Rc<Connection>, slot: u8, credentials: Credentials) {
        connection.meter.spend(CHECK);
        let (shard, connection) = (Rc::clone(self), Rc::clone(connection));
        let Hub { watch, identity, .. } = &*self.hub;
        if let Some(result) = watch.try_identify_now(identity, &credentials, connection.from.spot()) {
            return self.identified(&connection, slot, result);
        }
        connection.checking.set(connection.checking.get() + 1);
        tokio::task::spawn_local(async move {
            let Hub { watch, identity, .. } = &*shard.hub;
            let result = watch.identify(identity, credentials, connection.from.spot()).await;
            connection.checking.set(connection.checking.get().saturating_sub(1));
            shard.identified(&connection, slot, result);
            connection.relief.notify_waiters();
        });
    }

    fn identified(self: &Rc<Self>, connection: &Rc<Connection>, slot: u8, result: Result<Identity, Refusal>) {
        let result = result.and_then(|who| match self.home(&who.workspace) {
            Some(home) => Ok((Rc::new(who), home)),
            None => Err(Refusal::NoDomain),
        });
        if result.is_ok() {
            self.becomes_known(connection);
        }
        connection.with_slot(slot, |slot| match &result {
            Ok((who, home)) => {
                slot.identity = Some(Rc::clone(who));
                slot.home = Rc::clone(home);
            }
            Err(_) => Tally::note(&slot.tally.turned_away),
        });
        self.with_session(connection, slot, |session, scene, out| {
            session.identified(
                result.as_ref().map(|(who, _)| &**who).map_err(|refusal| *refusal),
                scene,
                out,
            );
        });
    }

    /// A stranger is one no longer.
    fn becomes_known(&self, connection: &Connection) {
        connection.known.set(true);
        connection.meter.half(false);
        if let Some(side) = connection.engine.borrow_mut().as_mut() {
            side.becomes_known();
        }
    }

    fn ask(self: &Rc<Self>, connection: &Rc<Connection>, number: u8, ask: Ask) {
        let known = connection.with_slot(number, |slot| {
            slot.identity.as_ref().map(|who| (who.principal.clone(), slot.home.handle.clone()))
        });
        let Some((by, handle)) = known.flatten() else {
            // A dialect that asks before it knows who is there: answered like any other question, so that nothing waits for ever.
            let token = ask.token;
            let error = Error::new(ErrorKind::Unauthenticated, "nobody is logged in on this connection");
            return self.with_session(connection, number, |session, scene, out| {
                session.replied(token, Err(&error), scene, out);
            });
        };
        if let Some(actor) = ask.actor.as_ref().filter(|actor| **actor != by) {
            let view = handle.view();
            if access::may_act_as(&view.state, &by, actor).is_err() {
                self.hub.watch.saw(Sign::Impersonation, connection.from.spot());
            }
        }
        let reply = if connection.ending.get() == Ending::Gone {
            ReplyTo::Nobody
        } else {
            connection.unfinished.set(connection.unfinished.get() + 1);
            ReplyTo::Session { shard: self.number, connection: connection.id, slot: number, token: ask.token }
        };
        connection.meter.spend(QUESTION);
        handle.put(Question { by, connection: Some(connection.id), ask, reply });
    }

    fn subscribe(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        number: u8,
        topic: Topic,
        since: Option<Cursor>,
    ) {
        let known = connection.with_slot(number, |slot| {
            let who = slot.identity.as_ref().map_or(Principal::System, |who| who.principal.clone());
            (slot.identity.is_some(), who, Rc::clone(&slot.home))
        });
        let Some((true, who, home)) = known else { return };
        let view = home.view.borrow().clone();
        if !connection.lives() || !access::may_receive(&view.state, &who, &topic) {
            tracing::debug!(?topic, "a subscription was refused");
            return;
        }
        let key = (connection.id, number);
        let newly = home
            .topics
            .borrow_mut()
            .entry(topic.clone())
            .or_default()
            .insert(key, Rc::clone(connection))
            .is_none();
        if newly {
            self.hub.watched.come(&topic);
            connection.with_slot(number, |slot| slot.topics.push(topic.clone()));
        }
        let Some(cursor) = since else { return };
        let head = view.state.head;
        if !view.epochs.holds(cursor, head) {
            let first = Cursor { epoch: view.epochs.current(), offset: head };
            return self.with_session(connection, number, |session, scene, out| {
                session.cannot_resume(&topic, first, scene, out);
            });
        }
        if cursor.offset < head {
            connection.with_slot(number, |slot| slot.catching_up.push(CatchUp::new(topic.clone())));
            tokio::task::spawn_local(Rc::clone(self).catch_up(
                Rc::clone(connection),
                number,
                topic,
                (view, cursor.offset),
            ));
        }
    }

    /// Reads the log up to where the subscription began, then hands out what was held meanwhile: no gap, no repeat. Where more
    /// came meanwhile than may be held, the log is read on.
    async fn catch_up(
        self: Rc<Self>,
        connection: Rc<Connection>,
        number: u8,
        topic: Topic,
        (view, after): (View, Offset),
    ) {
        let (mut view, mut after) = (view, after);
        while self.read_back(&connection, number, &topic, (&view, after)).await {
            let Some(next) = self.release(&connection, number, (&topic, view.state.head)).await else {
                return;
            };
            (view, after) = next;
        }
    }

    /// Hands out what the log has of a topic after an offset, and what of the view was not synced then. Says `false` when the
    /// connection ends.
    async fn read_back(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        number: u8,
        topic: &Topic,
        (view, after): (&View, Offset),
    ) -> bool {
        let mut span = Span { upto: view.state.head, ..Span::after(after) };
        let mut last = after;
        let workspace = connection.with_slot(number, |slot| slot.home.handle.workspace().clone());
        let Some(workspace) = workspace else { return false };
        while span.after < span.upto && connection.lives() {
            let Some(page) = self.next_page(connection, &workspace, topic, &mut span).await else {
                return false;
            };
            for record in &page {
                last = record.offset;
                if view.state.is_deleted(record) {
                    continue;
                }
                let delivery = Delivery { item: Item::Record(record), topic, origin: None };
                self.deliver_to(connection, number, &delivery);
                self.at_its_pace(connection).await;
            }
        }
        for record in view.unsynced(topic, last) {
            let delivery = Delivery { item: Item::Record(record), topic, origin: None };
            self.deliver_to(connection, number, &delivery);
            self.at_its_pace(connection).await;
        }
        connection.lives()
    }

    /// The next records of a topic that are read back; `span` goes on behind them. Without an answer the connection ends.
    pub(super) async fn next_page(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        workspace: &WorkspaceId,
        topic: &Topic,
        span: &mut Span,
    ) -> Option<Vec<Record>> {
        let (log, of, asked) = (Arc::clone(self.hub.workspaces.log()), workspace.clone(), *span);
        let topics = [(topic.clone(), span.after)];
        let read = move || {
            let sought = Sought { topics: &topics, upto: asked.upto, limit: PAGE, newest: false };
            let places = log.places(&of, &sought)?;
            let page = log.read_at(&of, &places, PAGE_BYTES)?;
            let whole = page.len() == places.len() && places.len() < PAGE;
            Ok::<_, Error>((page, whole))
        };
        let Ok(Ok((mut page, whole))) = tokio::task::spawn_blocking(read).await else {
            tracing::error!(%workspace, "the log could not be read for a resume");
            self.overflow(connection);
            return None;
        };
        span.after = page.last().filter(|_| !whole).map_or(span.upto, |record| record.offset);
        page.retain(|record| replays(record, topic));
        Some(page)
    }

    /// A slow reader sets the pace, so that what it missed never fills its mailbox.
    async fn at_its_pace(&self, connection: &Connection) {
        while connection.lives() && connection.waiting_bytes() > self.hub.settings.mailbox_bytes / 2 {
            connection.relief.notified().await;
        }
    }

    /// Hands out what was held during a catch-up, but for what was read back: a subscription may begin in the middle of a
    /// batch, and the rest of that batch is both. Says from where to read on if that was too much to be held.
    async fn release(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        number: u8,
        (topic, mut read_to): (&Topic, Offset),
    ) -> Option<(View, Offset)> {
        loop {
            let held = connection.with_slot(number, |slot| {
                let place = slot.catching_up.iter().position(|c| c.topic == *topic)?;
                let catching = slot.catching_up.get_mut(place)?;
                if std::mem::take(&mut catching.behind) {
                    return Some(Err(slot.home.view.borrow().clone()));
                }
                let held = catching.held.pop_front();
                if held.is_none() {
                    slot.catching_up.swap_remove(place);
                }
                held.map(Ok)
            });
            let (batch, place) = match held.flatten()? {
                Ok(held) => held,
                Err(view) => return Some((view, read_to)),
            };
            if let Some(News::Record(record, _, origin)) = batch.news.get(place)
                && record.offset > read_to
            {
                read_to = record.offset;
                let delivery = Delivery { item: Item::Record(record), topic, origin: *origin };
                self.deliver_to(connection, number, &delivery);
                self.at_its_pace(connection).await;
            }
        }
    }

    fn unsubscribe_one(&self, connection: &Rc<Connection>, number: u8, topic: &Topic) {
        let home = connection.with_slot(number, |slot| {
            slot.topics.retain(|known| known != topic);
            slot.catching_up.retain(|catching| catching.topic != *topic);
            Rc::clone(&slot.home)
        });
        if let Some(home) = home {
            self.unsubscribe(&home, topic, (connection.id, number));
        }
    }

    async fn read_page(self: Rc<Self>, connection: Rc<Connection>, number: u8, request: PageRequest) {
        let known = connection.with_slot(number, |slot| {
            slot.identity.as_ref().map(|who| (who.principal.clone(), Rc::clone(&slot.home)))
        });
        let Some((who, home)) = known.flatten() else { return };
        let PageRequest { token, room, before, limit } = request;
        let (view, topic) = (home.view.borrow().clone(), Topic::Room(room.clone()));
        let page: Result<Vec<Record>, Error> = if access::may_receive(&view.state, &who, &topic) {
            let (log, of) = (Arc::clone(self.hub.workspaces.log()), home.handle.workspace().clone());
            let (limit, state) = (limit as usize, Arc::clone(&view.state));
            let read = move || read_shown(&*log, (&of, &state), &room, Page::of(before, limit));
            let page = tokio::task::spawn_blocking(read)
                .await
                .unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "a page could not be read")));
            page.map(|mut page| {
                let last = page.last().map_or(Offset(0), |record| record.offset);
                let asked = |record: &&Record| {
                    before.is_none_or(|before| record.offset < before) && !view.state.is_deleted(record)
                };
                // Only messages are ever handed out unsynced, so these are all of the kind that a page has.
                page.extend(view.unsynced(&topic, last).filter(asked).cloned());
                page.split_off(page.len().saturating_sub(limit))
            })
        } else {
            Err(Error::forbidden(format!("{} is not in room {room}", who.id())))
        };
        self.with_session(&connection, number, |session, scene, out| {
            session.paged(token, page.as_deref(), scene, out);
        });
    }

    async fn find(
        self: Rc<Self>,
        connection: Rc<Connection>,
        number: u8,
        (token, message): (Token, MessageId),
    ) {
        let known = connection.with_slot(number, |slot| {
            slot.identity.as_ref().map(|who| (who.principal.clone(), Rc::clone(&slot.home)))
        });
        let Some((who, home)) = known.flatten() else { return };
        let (log, view) = (self.hub.workspaces.log(), home.view.borrow().clone());
        let found = find::message(log, (home.handle.workspace(), &view), &who, &message).await;
        self.with_session(&connection, number, |session, scene, out| {
            session.found(token, found.as_ref().map(Option::as_ref), scene, out);
        });
    }

    /// The session of a slot ends: its last words, its subscriptions, its place.
    pub fn end_session(self: &Rc<Self>, connection: &Rc<Connection>, number: u8) {
        self.with_session(connection, number, |session, scene, out| {
            session.closed(scene, out);
            out.retain(|output| matches!(output, Output::Ask(_)));
        });
        let slot = connection.slots.borrow_mut().get_mut(usize::from(number)).and_then(Option::take);
        if let Some(slot) = slot {
            for topic in &slot.topics {
                self.unsubscribe(&slot.home, topic, (connection.id, number));
            }
        }
    }

    /// Ends a connection with a close frame, or a namespace with the disconnect packet and then its transport.
    pub fn close(self: &Rc<Self>, connection: &Rc<Connection>, slot: u8, code: u16, reason: &str) {
        if connection.engine.borrow().is_some() {
            return self.kick(connection, slot..slot.saturating_add(1));
        }
        self.close_socket(connection, Some(code), reason);
    }

    /// Says good-bye with a close frame; the client has a moment to answer.
    pub fn close_socket(self: &Rc<Self>, connection: &Rc<Connection>, code: Option<u16>, reason: &str) {
        if connection.lives() {
            connection.wire.borrow_mut().mailbox.put_last(Frame::close(code, reason));
            self.mark_dirty(connection);
            let until = clock::monotonic_ms() + self.hub.settings.close_wait;
            connection.ending.set(Ending::Closing(until));
            connection.relief.notify_waiters();
            self.remind(connection, until);
        }
    }

    /// Writes what waits, then cuts the TCP connection.
    pub fn cut_after_writing(self: &Rc<Self>, connection: &Rc<Connection>) {
        if matches!(connection.ending.get(), Ending::No | Ending::Left(_) | Ending::Closing(_)) {
            let until = clock::monotonic_ms() + self.hub.settings.close_wait;
            connection.ending.set(Ending::Cutting(until));
            connection.relief.notify_waiters();
            self.mark_dirty(connection);
            self.remind(connection, until);
        }
    }

    /// The reader is too slow: it is told once the socket takes anything at all, and can resume.
    pub fn overflow(self: &Rc<Self>, connection: &Rc<Connection>) {
        if let Some(slot) = connection.slots.borrow().iter().flatten().next().filter(|_| connection.lives()) {
            Tally::note(&slot.tally.too_slow);
        }
        if connection.engine.borrow().is_some() {
            return self.close_engine(connection);
        }
        let unsent = connection.wire.borrow().mailbox.len();
        self.close_socket(connection, Some(1013), &format!("too slow: {unsent} frames were not sent"));
    }

    /// The server stops: each connection ends the way its dialect's clients expect.
    pub fn farewell(self: &Rc<Self>, connection: &Rc<Connection>) {
        if connection.engine.borrow().is_some() {
            if connection.wire.borrow().stream.is_none() {
                // A polling client takes a close packet for final, and an error for a reason to come back.
                return self.forget(connection);
            }
            return self.close_engine(connection);
        }
        match connection.with_slot(0, |slot| slot.farewell) {
            Some(Farewell::Cut) => self.cut_after_writing(connection),
            Some(Farewell::Restart) | None => {
                self.close_socket(connection, Some(1012), "the server restarts")
            }
        }
    }
}

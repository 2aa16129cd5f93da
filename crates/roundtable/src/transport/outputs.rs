//! What sessions want, carried out in order: send, ask, subscribe, read, wake, end.

use std::rc::Rc;
use std::sync::Arc;

use roundtable_core::access;
use roundtable_core::delivery::{Topic, replays};
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::event::Record;
use roundtable_core::ids::MessageId;
use roundtable_core::time::Offset;
use roundtable_dialects::session::{
    Ask, Credentials, Ending as SessionEnding, Identity, Message, Output, Outputs, Refusal, Sign, Token,
};
use roundtable_dialects::websocket::{Frame, close};

use super::connection::{Connection, Ending};
use super::deliver::{Frames, frames_of};
use super::probes::Probe;
use super::report::Tally;
use super::shard::Shard;
use super::turn::{CHECK, QUESTION};
use super::{Farewell, Hub};
use crate::clock;
use crate::log::{Log, Page, read_shown};
use crate::runner::{ReplyTo, batch::Question, find};

/// Bytes of a page of history, at most; whoever wants more asks for what is before its first message.
const MOST_ANSWERED: usize = 1 << 20;

/// A page of a room's history that a session asked for.
struct PageRequest {
    token: Token,
    room: roundtable_core::ids::RoomId,
    before: Option<Offset>,
    limit: u32,
}

impl Shard {
    /// Carries out what a session wants, in order.
    pub fn carry_out(self: &Rc<Self>, connection: &Rc<Connection>, slot: u8, out: &mut Outputs) {
        for output in out.drain(..) {
            match output {
                Output::Send(message) => self.send(connection, slot, message),
                Output::Accept => self.accept(connection, slot),
                Output::Refuse { message, data } => self.refuse(connection, slot, &message, data.as_deref()),
                Output::Authenticate(credentials) => self.authenticate(connection, slot, credentials),
                Output::Ask(ask) => self.ask(connection, slot, ask),
                Output::Subscribe(topic, since) => self.subscribe(connection, slot, &topic, since),
                Output::Unsubscribe(topic) => self.unsubscribe_one(connection, slot, &topic),
                Output::Read { token, room, before, limit } => {
                    let request = PageRequest { token, room, before, limit };
                    connection.unfinished.set(connection.unfinished.get() + 1);
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
    pub fn send(self: &Rc<Self>, connection: &Rc<Connection>, slot: u8, message: Message) {
        let namespace = connection.with_slot(slot, |slot| slot.namespace.clone()).flatten();
        let mut frames = Frames::new();
        frames_of(message, namespace.as_deref(), &mut frames);
        self.put(connection, frames);
    }

    /// Puts frames into a connection's mailbox: answers, for which there is room since whoever has too many is not read.
    pub fn put(self: &Rc<Self>, connection: &Rc<Connection>, frames: Frames) {
        if !connection.lives() {
            return;
        }
        let deflate = connection.wire.borrow().deflate;
        for mut frame in frames {
            self.compress(&mut frame, deflate);
            self.queue(connection, frame);
        }
        self.mark_dirty(connection);
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

    async fn read_page(self: Rc<Self>, connection: Rc<Connection>, number: u8, request: PageRequest) {
        let known = connection.with_slot(number, |slot| {
            slot.identity.as_ref().map(|who| (who.principal.clone(), Rc::clone(&slot.home)))
        });
        let Some((who, home)) = known.flatten() else { return };
        let PageRequest { token, room, before, limit } = request;
        let (view, topic) = (home.view.borrow().clone(), Topic::Room(room.clone()));
        let page: Result<Vec<Record>, Error> = if access::may_receive(&view.state, &who, &topic) {
            let (of, limit, state) =
                (home.handle.workspace().clone(), limit as usize, Arc::clone(&view.state));
            let read = move |log: &dyn Log| {
                // What is wrong with the log is told to the session, which has an answer to give.
                let page = Page { bytes: MOST_ANSWERED, ..Page::of(before, limit) };
                Ok(read_shown(log, (&of, &state), &room, page))
            };
            let Some(page) = self.read_log(&connection, read).await else { return };
            page.map(|mut page| {
                let last = page.last().map_or(Offset(0), |record| record.offset);
                let asked = |record: &&Record| {
                    record.offset > last
                        && replays(record, &topic)
                        && before.is_none_or(|before| record.offset < before)
                        && !view.state.is_deleted(record)
                };
                // Only messages are ever handed out unsynced, so these are all of the kind that a page has.
                page.extend(view.unsynced().filter(asked).cloned());
                page.split_off(page.len().saturating_sub(limit))
            })
        } else {
            Err(Error::forbidden(format!("{} is not in room {room}", who.id())))
        };
        connection.unfinished.set(connection.unfinished.get().saturating_sub(1));
        self.with_session(&connection, number, |session, scene, out| {
            session.paged(token, page.as_deref(), scene, out);
        });
        connection.relief.notify_waiters();
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
        connection.unfinished.set(connection.unfinished.get() + 1);
        let found = find::message(log, (home.handle.workspace(), &view), &who, &message).await;
        connection.unfinished.set(connection.unfinished.get().saturating_sub(1));
        connection.relief.notify_waiters();
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
            for topic in slot.following.topics() {
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
            connection.because(reason);
            self.queue(connection, Frame::close(code, reason));
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

    /// The client has taken nothing for too long: it is told once it does, and can resume.
    pub fn stalled(self: &Rc<Self>, connection: &Rc<Connection>) {
        if let Some(slot) = connection.slots.borrow().iter().flatten().next().filter(|_| connection.lives()) {
            Tally::note(&slot.tally.too_slow);
        }
        let unsent = connection.wire.borrow().mailbox.len();
        self.turn_away(connection, &format!("too slow: {unsent} frames were not sent"));
    }

    /// Nothing more can be read from the log for this client; it may find more when it comes again.
    pub fn give_up(self: &Rc<Self>, connection: &Rc<Connection>) {
        self.turn_away(connection, "the log cannot be read");
    }

    fn turn_away(self: &Rc<Self>, connection: &Rc<Connection>, reason: &str) {
        connection.because(reason);
        if connection.engine.borrow().is_some() {
            return self.close_engine(connection);
        }
        self.close_socket(connection, Some(close::TRY_AGAIN), reason);
    }

    /// The server stops: each connection ends the way its dialect's clients expect.
    pub fn farewell(self: &Rc<Self>, connection: &Rc<Connection>) {
        connection.because("the server stops");
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

//! Driving [`Following`]: subscriptions, and reading the log for whoever is behind, at its client's pace.

use std::rc::Rc;
use std::sync::Arc;

use roundtable_core::access;
use roundtable_core::delivery::{Delivery, Item, Topic};
use roundtable_core::event::Record;
use roundtable_core::following::{Advance, Following, Handed, Round};
use roundtable_core::ids::{ConnectionId, Principal, WorkspaceId};
use roundtable_core::time::{Cursor, Offset};

use super::connection::{Connection, Slot};
use super::shard::Shard;
use crate::log::{Log, Sought};
use crate::runner::View;

/// Places looked up in the index at once.
pub const PLACES: usize = 1_000;
/// Records read at once, at most.
const RECORDS: usize = 200;
/// Bytes of records read at once, at most; one is read whatever its size.
const PAGE_BYTES: usize = 256 << 10;
/// Bytes of records held for one session while it is behind.
pub const HELD_BYTES: usize = 256 << 10;

/// A record held for a session that is behind, with the connection that caused it.
pub type Held = (Arc<Record>, Option<ConnectionId>);

/// Tells who reads for a session from who read for an earlier one in its slot.
pub type Reader = Rc<()>;

/// One session that is read for.
struct Behind {
    connection: Rc<Connection>,
    number: u8,
    reader: Reader,
}

impl Behind {
    /// Runs something on its slot. `None` once it is gone, or another session has its place.
    fn with<T>(&self, run: impl FnOnce(&mut Slot) -> T) -> Option<T> {
        let own = |slot: &Slot| slot.reader.as_ref().is_some_and(|reader| Rc::ptr_eq(reader, &self.reader));
        let run = |slot: &mut Slot| own(slot).then(|| run(slot));
        self.connection.with_slot(self.number, run).flatten().filter(|_| self.connection.lives())
    }

    fn following<T>(&self, run: impl FnOnce(&mut Following<Held>) -> T) -> Option<T> {
        self.with(|slot| run(&mut slot.following))
    }
}

impl Shard {
    /// A session wants what goes to a topic, from now on or from a cursor.
    pub fn subscribe(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        number: u8,
        topic: &Topic,
        since: Option<Cursor>,
    ) {
        let known = connection.with_slot(number, |slot| {
            let who = slot.identity.as_ref().map_or(Principal::System, |who| who.principal.clone());
            (slot.identity.is_some(), who, Rc::clone(&slot.home))
        });
        let Some((true, who, home)) = known else { return };
        let view = home.view.borrow().clone();
        if !connection.lives() || !access::may_receive(&view.state, &who, topic) {
            tracing::debug!(?topic, "a subscription was refused");
            return self.nothing_missed(connection, number, since);
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
            self.hub.watched.come(topic);
        }
        let (head, now) = (view.state.head, home.told.get());
        let lost = since.filter(|cursor| !view.epochs.holds(*cursor, head));
        let from = since.filter(|_| lost.is_none()).map(|cursor| cursor.offset);
        connection.with_slot(number, |slot| slot.following.subscribe(topic, from, now));
        self.read_for(connection, number);
        self.nothing_missed(connection, number, since);
        if lost.is_some() {
            // The rest of the batch that is being handed out is still to come.
            let first = Cursor { epoch: view.epochs.current(), offset: now };
            self.with_session(connection, number, |session, scene, out| {
                session.cannot_resume(topic, first, scene, out);
            });
        }
    }

    /// Tells a session that asked for what it missed that it has everything, if it has: nobody reads for it then.
    fn nothing_missed(self: &Rc<Self>, connection: &Rc<Connection>, number: u8, since: Option<Cursor>) {
        let live = connection.with_slot(number, |slot| !slot.following.is_behind());
        if since.is_some() && live == Some(true) {
            self.with_session(connection, number, |session, scene, out| session.caught_up(scene, out));
        }
    }

    /// A session wants a topic no longer.
    pub fn unsubscribe_one(&self, connection: &Rc<Connection>, number: u8, topic: &Topic) {
        let home = connection.with_slot(number, |slot| {
            slot.following.unsubscribe(topic);
            Rc::clone(&slot.home)
        });
        if let Some(home) = home {
            self.unsubscribe(&home, topic, (connection.id, number));
        }
    }

    /// Sees to it that somebody reads the log for a session that is behind: one reader, which goes when the session does.
    pub fn read_for(self: &Rc<Self>, connection: &Rc<Connection>, number: u8) {
        let begun = connection.with_slot(number, |slot| {
            let begins = slot.following.is_behind() && slot.reader.is_none();
            begins.then(|| Rc::clone(slot.reader.insert(Reader::default())))
        });
        if let Some(reader) = begun.flatten() {
            let behind = Behind { connection: Rc::clone(connection), number, reader };
            tokio::task::spawn_local(Rc::clone(self).bring_up(behind));
        }
    }

    /// Reads the log for a session until it is live.
    async fn bring_up(self: Rc<Self>, behind: Behind) {
        loop {
            self.at_its_pace(&behind.connection).await;
            let begun = behind.with(|slot| {
                let view = slot.home.view.borrow().clone();
                let round = slot.following.begin(view.state.head);
                if round.is_none() {
                    slot.reader = None;
                }
                Some((round?, view, slot.home.handle.workspace().clone()))
            });
            if let Some(None) = &begun {
                self.with_session(&behind.connection, behind.number, |session, scene, out| {
                    session.caught_up(scene, out);
                });
            }
            let Some(Some((round, view, workspace))) = begun else { return };
            let generation = round.generation;
            if self.read_round(&behind, (round, &view), &workspace).await.is_none() {
                return;
            }
            while let Some(Advance::Hand(handed)) = behind.following(|f| f.advance(generation)) {
                self.hand_held(&behind, &handed).await;
            }
        }
    }

    /// Hands over what the log has for a round, then what of the view was not synced when it began. `None` when the session is
    /// gone; a round that is void ends early.
    async fn read_round(
        self: &Rc<Self>,
        behind: &Behind,
        (round, view): (Round, &View),
        workspace: &WorkspaceId,
    ) -> Option<()> {
        let Round { generation, mut topics, upto } = round;
        loop {
            let (of, sought) = (workspace.clone(), topics.clone());
            let looked_up = move |log: &dyn Log| {
                log.places(&of, &Sought { topics: &sought, upto, limit: PLACES, newest: false })
            };
            let places = self.read_log(&behind.connection, looked_up).await?;
            let mut rest = places.as_slice();
            while !rest.is_empty() {
                let page = self.read_places(&behind.connection, workspace, rest).await?;
                rest = rest.get(page.len()..).unwrap_or_default();
                for record in page {
                    if !self.hand_over(behind, generation, &record).await? {
                        return Some(());
                    }
                }
            }
            match places.last().filter(|_| places.len() >= PLACES) {
                Some(last) => topics.iter_mut().for_each(|(_, after)| *after = (*after).max(*last)),
                None => break,
            }
        }
        for record in view.unsynced() {
            if !self.hand_over(behind, generation, record).await? {
                return Some(());
            }
        }
        Some(())
    }

    /// Hands over a record that was read, and before it what was held and cannot be read. `false` when the round is void.
    async fn hand_over(self: &Rc<Self>, behind: &Behind, generation: u64, record: &Record) -> Option<bool> {
        while let Some(handed) = behind.following(|f| f.due(generation, record.offset))? {
            self.hand_held(behind, &handed).await;
        }
        let read = behind.with(|slot| {
            let gone = slot.home.view.borrow().state.is_deleted(record);
            slot.following.read(generation, record).map(|topics| (topics, gone))
        })?;
        let Some((topics, gone)) = read else { return Some(false) };
        for topic in topics.iter().filter(|_| !gone) {
            let delivery = Delivery { item: Item::Record(record), topic, origin: None };
            self.deliver_to(&behind.connection, behind.number, &delivery);
        }
        self.at_its_pace(&behind.connection).await;
        Some(true)
    }

    async fn hand_held(self: &Rc<Self>, behind: &Behind, handed: &Handed<Held>) {
        let (record, origin) = &handed.item;
        for topic in &handed.topics {
            let delivery = Delivery { item: Item::Record(record), topic, origin: *origin };
            self.deliver_to(&behind.connection, behind.number, &delivery);
        }
        self.at_its_pace(&behind.connection).await;
    }

    /// The records at the first of some places.
    pub(super) async fn read_places(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        workspace: &WorkspaceId,
        places: &[Offset],
    ) -> Option<Vec<Record>> {
        let (of, places) = (workspace.clone(), places.iter().take(RECORDS).copied().collect::<Vec<_>>());
        self.read_log(connection, move |log| log.read_at(&of, &places, PAGE_BYTES)).await
    }

    /// Reads the log on a thread that may wait for the disk: one read at a time for a connection, few for all of a shard, so
    /// that others find a thread. `None` when the connection is gone; it ends when the log cannot be read.
    pub(super) async fn read_log<T: Send + 'static>(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        read: impl FnOnce(&dyn Log) -> Result<T, roundtable_core::error::Error> + Send + 'static,
    ) -> Option<T> {
        while connection.reads.replace(true) {
            connection.relief.notified().await;
        }
        let permit = self.reads.acquire().await;
        let log = Arc::clone(self.hub.workspaces.log());
        let done = match connection.lives() {
            true => Some(tokio::task::spawn_blocking(move || read(&*log)).await),
            false => None,
        };
        drop(permit);
        connection.reads.set(false);
        connection.relief.notify_waiters();
        match done? {
            Ok(Ok(found)) => Some(found).filter(|_| connection.lives()),
            Ok(Err(error)) => {
                tracing::error!(%error, "the log could not be read for a client");
                self.give_up(connection);
                None
            }
            Err(_) => {
                self.give_up(connection);
                None
            }
        }
    }

    /// A slow reader sets the pace: nothing is read for it while much of what was read before waits. Others get their turn in
    /// between in any case.
    async fn at_its_pace(&self, connection: &Connection) {
        tokio::task::yield_now().await;
        while connection.lives() && !self.has_room_to_read(connection) {
            connection.relief.notified().await;
        }
    }
}

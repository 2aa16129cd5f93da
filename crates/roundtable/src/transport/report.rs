//! What shards say about their connections when they are asked. Each counts for itself; nothing is shared while frames flow.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use roundtable_core::ids::{ConnectionId, Principal, WorkspaceId};
use roundtable_core::time::Time;
use roundtable_dialects::websocket::close;
use tokio::sync::oneshot;

use super::connection::Connection;
use super::shard::{Shard, Shards, ToShard};

/// How long a shard may take to answer: it answers between two slices of writing.
const PATIENCE: Duration = Duration::from_secs(5);

/// What one shard counts of one dialect, from the start of the process on.
#[derive(Debug, Default)]
pub struct Tally {
    /// What the operator calls the dialect.
    pub name: &'static str,
    /// Records and signals that a session got.
    pub deliveries: Cell<u64>,
    /// Questions that the engine refused.
    pub refusals: Cell<u64>,
    /// Credentials that did not let anybody in.
    pub turned_away: Cell<u64>,
    /// Connections that ended because their clients took nothing of what waited for them.
    pub too_slow: Cell<u64>,
    /// Signals, and news of comings and goings, that sessions did not get because their clients read too slowly.
    pub lost: Cell<u64>,
}

impl Tally {
    /// One more of something.
    pub fn note(counter: &Cell<u64>) {
        counter.set(counter.get() + 1);
    }
}

/// The figures of one dialect, over all shards.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counted {
    /// Sessions that are open now.
    pub sessions: u64,
    /// Bytes that wait in mailboxes now.
    pub queued_bytes: u64,
    /// Records and signals that sessions got.
    pub deliveries: u64,
    /// Questions that the engine refused.
    pub refusals: u64,
    /// Credentials that did not let anybody in.
    pub turned_away: u64,
    /// Connections that ended because their clients took nothing of what waited for them.
    pub too_slow: u64,
    /// Signals, and news of comings and goings, that sessions did not get because their clients read too slowly.
    pub lost: u64,
    /// Sessions that are behind and read from the log.
    pub behind: u64,
}

/// A connection as the operator sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Its id.
    pub id: ConnectionId,
    /// The listener it came in by.
    pub listener: SocketAddr,
    /// The client's address.
    pub peer: IpAddr,
    /// Since when it is open.
    pub since: Time,
    /// It has a WebSocket; otherwise its client polls.
    pub websocket: bool,
    /// Bytes that wait for its client.
    pub queued_bytes: usize,
    /// It is behind: what it missed is read from the log as its client takes it.
    pub behind: bool,
    /// Signals, and news of comings and goings, that it did not get because its client reads too slowly.
    pub lost: u64,
    /// Its sessions: one, or one for each Socket.IO namespace.
    pub sessions: Vec<ListedSession>,
}

/// One session of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedSession {
    /// The dialect's name.
    pub dialect: &'static str,
    /// The Socket.IO namespace.
    pub namespace: Option<String>,
    /// Who it is and where, once that is known.
    pub who: Option<(Principal, WorkspaceId)>,
}

impl Shards {
    /// Lets every shard do something and gathers what comes of it. A shard that has ended, or does not answer in time, has no
    /// part in it.
    async fn ask<T: Send + 'static>(
        &self,
        what: impl Fn(&Rc<Shard>) -> T + Clone + Send + 'static,
    ) -> Vec<T> {
        let answers = self.each(|| {
            let (sender, answer) = oneshot::channel();
            let what = what.clone();
            // Who asked may have gone meanwhile.
            (ToShard::Do(Box::new(move |shard| drop(sender.send(what(shard))))), answer)
        });
        let mut gathered = Vec::with_capacity(answers.len());
        for answer in answers {
            match tokio::time::timeout(PATIENCE, answer).await {
                Ok(Ok(answer)) => gathered.push(answer),
                Ok(Err(_)) | Err(_) => tracing::warn!("a shard does not answer"),
            }
        }
        gathered
    }

    /// All connections, the oldest first.
    pub async fn connections(&self) -> Vec<Listed> {
        let mut all: Vec<Listed> = self.ask(|shard| shard.list()).await.into_iter().flatten().collect();
        all.sort_by_key(|listed| listed.id);
        all
    }

    /// Ends a connection for good, in the way that its clients take for final. Says whether it was there.
    pub async fn close(&self, id: ConnectionId) -> bool {
        self.ask(move |shard| shard.dismiss(id)).await.contains(&true)
    }

    /// The figures of every dialect that had a session since the start.
    pub async fn counted(&self) -> BTreeMap<&'static str, Counted> {
        let mut sum: BTreeMap<&'static str, Counted> = BTreeMap::new();
        for (name, part) in self.ask(|shard| shard.count()).await.into_iter().flatten() {
            let whole = sum.entry(name).or_default();
            whole.sessions += part.sessions;
            whole.queued_bytes += part.queued_bytes;
            whole.deliveries += part.deliveries;
            whole.refusals += part.refusals;
            whole.turned_away += part.turned_away;
            whole.too_slow += part.too_slow;
            whole.lost += part.lost;
            whole.behind += part.behind;
        }
        sum
    }
}

impl Shard {
    /// Where what happens in a dialect's sessions is counted.
    pub fn tally(&self, name: &'static str) -> Rc<Tally> {
        let fresh = || Rc::new(Tally { name, ..Tally::default() });
        Rc::clone(self.tallies.borrow_mut().entry(name).or_insert_with(fresh))
    }

    fn list(&self) -> Vec<Listed> {
        self.connections.borrow().values().map(|connection| connection.listed()).collect()
    }

    fn dismiss(self: &Rc<Self>, id: ConnectionId) -> bool {
        let found = self.connections.borrow().get(&id).cloned().filter(|connection| connection.lives());
        let Some(connection) = found else { return false };
        if connection.engine.borrow().is_some() {
            self.kick(&connection, 0..connection.slot_count());
        } else {
            self.close_socket(&connection, Some(close::POLICY), "closed by the operator");
        }
        true
    }

    fn count(&self) -> Vec<(&'static str, Counted)> {
        let counted = |tally: &Tally| Counted {
            deliveries: tally.deliveries.get(),
            refusals: tally.refusals.get(),
            turned_away: tally.turned_away.get(),
            too_slow: tally.too_slow.get(),
            lost: tally.lost.get(),
            ..Counted::default()
        };
        let mut all: BTreeMap<&'static str, Counted> =
            self.tallies.borrow().iter().map(|(name, tally)| (*name, counted(tally))).collect();
        for connection in self.connections.borrow().values() {
            // A mailbox is of the whole connection: it is counted with its first session.
            let mut queued = connection.waiting_bytes() as u64;
            for slot in connection.slots.borrow().iter().flatten() {
                let of = all.entry(slot.tally.name).or_default();
                of.sessions += 1;
                of.behind += u64::from(slot.following.is_behind());
                of.queued_bytes += std::mem::take(&mut queued);
            }
        }
        all.into_iter().collect()
    }
}

impl Connection {
    fn listed(&self) -> Listed {
        let session = |slot: &super::connection::Slot| ListedSession {
            dialect: slot.tally.name,
            namespace: slot.namespace.as_ref().map(ToString::to_string),
            who: slot.identity.as_ref().map(|who| (who.principal.clone(), who.workspace.clone())),
        };
        Listed {
            id: self.id,
            listener: self.from.listener.address,
            peer: self.from.peer,
            since: self.since,
            websocket: self.wire.borrow().stream.is_some(),
            queued_bytes: self.waiting_bytes(),
            behind: self.slots.borrow().iter().flatten().any(|slot| slot.following.is_behind()),
            lost: self.lost.get(),
            sessions: self.slots.borrow().iter().flatten().map(|slot| session(slot)).collect(),
        }
    }
}

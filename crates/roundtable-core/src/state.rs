//! The state of a workspace: a fold over its log, in persistent maps, so that a copy costs nothing.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

use imbl::{OrdMap, OrdSet, Vector};

use crate::agents::Agent;
use crate::alerts::{Alert, Block};
use crate::cluster::{Node, NodeKey};
use crate::components::Component;
use crate::event::{Event, RECORD_BYTES, Record};
use crate::feeds::Feed;
use crate::holdings::{Holdings, Thing};
use crate::ids::{AgentId, AlertId, ConnectionId, KeyId, NodeId, Principal, RoomId, UserId};
use crate::limits;
use crate::presence::Presence;
use crate::rooms::{Room, RoomStatus};
use crate::seats::Seat;
use crate::thresholds::{Threshold, Thresholds};
use crate::time::{Moment, Offset, Time};
use crate::users::{Key, NotedToken, User};

mod after;
mod alerts;
mod blocks;
mod former;
mod identity;
mod nodes;
mod pairs;
mod seats;
mod unused;
mod waiting;

/// Everything the rules know. Equal logs give equal states.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// The last record applied.
    pub head: Offset,
    /// When that was, in log time.
    pub t: Time,
    /// The newest stamp of the wall clock in the log. Asked by no rule: how long a stop was is reckoned from it.
    pub stamp: Time,
    /// The workspace's shown name; empty before its first record.
    pub name: String,
    /// SHA-256 of the domain key, 64 hex digits.
    pub domain_key_hash: String,
    /// When the workspace began.
    #[serde(default)]
    pub created_at: Time,
    /// Intrusions noticed so far.
    #[serde(default)]
    pub intrusions: u64,
    /// When a security rule noticed something last.
    #[serde(default)]
    pub last_security: Option<Time>,
    /// What the log takes on the disk, in bytes, about.
    #[serde(default)]
    pub bytes: u64,
    /// Messages said so far, direct ones included.
    pub messages: u64,
    agents: OrdMap<AgentId, Arc<Agent>>,
    users: OrdMap<UserId, Arc<User>>,
    keys: OrdMap<KeyId, Arc<Key>>,
    #[serde(default)]
    keys_of: OrdMap<Principal, OrdSet<KeyId>>,
    /// The keys that let into a room, revoked ones included.
    keys_to: OrdMap<RoomId, OrdSet<KeyId>>,
    /// The newest of those that are revoked, oldest first.
    revoked_keys: Vector<KeyId>,
    /// Each with the log time at which it needs no remembering any more.
    revoked_tokens: OrdMap<String, Time>,
    revoked_by_end: OrdSet<(Time, String)>,
    noted_tokens: OrdMap<String, NotedToken>,
    noted_by_end: OrdSet<(Time, String)>,
    rooms: OrdMap<RoomId, Arc<Room>>,
    #[serde(default)]
    removed_rooms: OrdSet<RoomId>,
    own_rooms: OrdMap<AgentId, RoomId>,
    /// Rooms that nobody ever used and that nobody is in, by since when in log time.
    unused_rooms: OrdSet<(Time, RoomId)>,
    /// The active conversations of two: by the agent, then by who talks with it.
    #[serde(default)]
    pairs: OrdMap<AgentId, OrdMap<Principal, RoomId>>,
    rooms_of: OrdMap<Principal, OrdSet<RoomId>>,
    presence: OrdMap<Principal, Presence>,
    waiting: OrdMap<Principal, Vector<(Offset, Time)>>,
    /// The same messages over all addressees, oldest first.
    waiting_by_age: OrdSet<(Time, Offset, Principal)>,
    nodes: OrdMap<NodeId, Node>,
    #[serde(default)]
    node_keys: OrdMap<NodeId, NodeKey>,
    /// Of those that nobody approved: how many came from each network, and when each was proved last.
    #[serde(default)]
    node_keys_from: OrdMap<String, usize>,
    #[serde(default)]
    node_keys_by_age: OrdSet<(Time, NodeId)>,
    alerts: OrdMap<String, Alert>,
    /// The newest of those that are over, with their ends, oldest first.
    #[serde(default)]
    ended_alerts: Vector<(Alert, Time)>,
    #[serde(default)]
    thresholds: Thresholds,
    /// Held agents that go on by themselves, by when in log time.
    #[serde(default)]
    pauses: OrdSet<(Time, AgentId)>,
    #[serde(default)]
    components: OrdMap<String, Component>,
    /// By [`blocks::key_of`].
    #[serde(default)]
    blocks: OrdMap<String, Block>,
    #[serde(default)]
    blocks_by_end: OrdSet<(Time, String)>,
    #[serde(default)]
    seats: OrdMap<RoomId, Arc<Seat>>,
    #[serde(default)]
    seats_by_connection: OrdMap<ConnectionId, RoomId>,
    #[serde(default)]
    seats_by_secret: OrdMap<String, RoomId>,
    #[serde(default)]
    seats_by_age: OrdSet<(Time, RoomId)>,
    holdings: Holdings,
}

impl State {
    /// Where the log ends: its time, and the newest stamp in it. `None` before the first record.
    pub fn end(&self) -> Option<Moment> {
        (self.head.0 > 0).then_some(Moment { t: self.t, at: self.stamp })
    }

    /// An agent that is registered and not removed.
    pub fn agent(&self, id: &AgentId) -> Option<&Agent> {
        self.agents.get(id).map(|a| &**a)
    }

    /// All agents, by id.
    pub fn agents(&self) -> impl ExactSizeIterator<Item = &Agent> {
        self.agents.values().map(|a| &**a)
    }

    /// Who made what.
    pub fn holdings(&self) -> &Holdings {
        &self.holdings
    }

    /// An account, disabled ones included.
    pub fn user(&self, id: &UserId) -> Option<&User> {
        self.users.get(id).map(|u| &**u)
    }

    /// All accounts, by name.
    pub fn users(&self) -> impl ExactSizeIterator<Item = &User> {
        self.users.values().map(|u| &**u)
    }

    /// A key, revoked ones included.
    pub fn key(&self, id: &KeyId) -> Option<&Key> {
        self.keys.get(id).map(|k| &**k)
    }

    /// All keys, by id.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &Key> {
        self.keys.values().map(|k| &**k)
    }

    /// Whether a token was revoked before its end.
    pub fn token_revoked(&self, jti: &str) -> bool {
        self.revoked_tokens.contains_key(jti)
    }

    /// Tokens of people without accounts that have not ended long ago, by their ids.
    pub fn noted_tokens(&self) -> impl ExactSizeIterator<Item = &NotedToken> {
        self.noted_tokens.values()
    }

    /// One of them.
    pub fn noted_token(&self, jti: &str) -> Option<&NotedToken> {
        self.noted_tokens.get(jti)
    }

    /// A room.
    pub fn room(&self, id: &RoomId) -> Option<&Room> {
        self.rooms.get(id).map(|r| &**r)
    }

    /// All rooms, by id.
    pub fn rooms(&self) -> impl ExactSizeIterator<Item = &Room> {
        self.rooms.values().map(|r| &**r)
    }

    /// Whether there was a room with this id that was removed.
    pub fn room_removed(&self, id: &RoomId) -> bool {
        self.removed_rooms.contains(id)
    }

    /// Whether a record is a message that was taken back since.
    pub fn is_deleted(&self, record: &Record) -> bool {
        let room = record.room.as_ref().and_then(|id| self.room(id));
        room.is_some_and(|room| room.deleted.contains(&record.offset))
    }

    /// The active room that belongs to an agent.
    pub fn own_room(&self, agent: &AgentId) -> Option<&RoomId> {
        self.own_rooms.get(agent)
    }

    /// The rooms somebody is a member of, by id.
    pub fn rooms_of(&self, who: &Principal) -> impl Iterator<Item = &RoomId> {
        self.rooms_of.get(who).into_iter().flatten()
    }

    /// The connections of somebody who is or was here.
    pub fn presence(&self, who: &Principal) -> Option<&Presence> {
        self.presence.get(who)
    }

    /// Whether somebody is here.
    pub fn online(&self, who: &Principal) -> bool {
        self.presence.get(who).is_some_and(Presence::online)
    }

    /// Whether what is said to somebody alone reaches a connection at once.
    pub fn hears_direct(&self, who: &Principal) -> bool {
        self.presence.get(who).is_some_and(|presence| !presence.direct.is_empty())
    }

    /// The log time at which the engine has something to do by itself: the rules are then asked with [`crate::command::Command::Tick`].
    pub fn next_deadline(&self) -> Option<Time> {
        let expiry = self.waiting_by_age.get_min().map(|(t, ..)| t.plus(limits::WAITING_DIRECT_MS));
        let pause = self.pauses.get_min().map(|(until, _)| *until);
        let block = self.blocks_by_end.get_min().map(|(until, _)| *until);
        let room = self.next_unused_room();
        [expiry, pause, block, room, self.next_stale_node_key()].into_iter().flatten().min()
    }

    /// Whose pause is over at `now`.
    pub(crate) fn rested(&self, now: Time) -> impl Iterator<Item = &Agent> {
        let due = self.pauses.iter().take_while(move |(until, _)| *until <= now);
        due.filter_map(|(_, id)| self.agent(id))
    }

    /// The nodes of the network, by id.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &Node> {
        self.nodes.values()
    }

    /// A node of the network.
    pub fn node(&self, id: &NodeId) -> Option<&Node> {
        self.nodes.get(id)
    }

    /// The active alert of a source.
    pub fn alert(&self, source: &str) -> Option<&Alert> {
        self.alerts.get(source)
    }

    /// All active alerts, by source.
    pub fn alerts(&self) -> impl ExactSizeIterator<Item = &Alert> {
        self.alerts.values()
    }

    /// The active alerts that the watchers of a feed were told, by source.
    pub fn alerts_for(&self, feed: Feed) -> impl Iterator<Item = &Alert> {
        self.alerts().filter(move |alert| alert.raised.feed.is_none_or(|told| told == feed))
    }

    /// The newest alerts that are over, with their ends, oldest first.
    pub fn ended_alerts(&self) -> impl DoubleEndedIterator<Item = &(Alert, Time)> + ExactSizeIterator {
        self.ended_alerts.iter()
    }

    /// A threshold of the users' own.
    pub fn threshold(&self, id: &AlertId) -> Option<&Threshold> {
        self.thresholds.get(id)
    }

    /// All of them, by id.
    pub fn thresholds(&self) -> impl ExactSizeIterator<Item = &Threshold> {
        self.thresholds.values()
    }

    /// A component of the server that was ever anything but healthy.
    pub fn component(&self, name: &str) -> Option<&Component> {
        self.components.get(name)
    }

    /// All of these, by name.
    pub fn components(&self) -> impl ExactSizeIterator<Item = &Component> {
        self.components.values()
    }

    /// How somebody is called.
    pub fn name_of(&self, who: &Principal) -> String {
        let agent = who.agent().and_then(|id| self.agent(id)).map(|a| a.card.name.as_str());
        agent.filter(|name| !name.is_empty()).unwrap_or(who.id()).to_owned()
    }

    /// The number that the next record of a room gets.
    pub fn next_in_room(&self, room: &RoomId) -> u64 {
        self.room(room).map_or(1, |r| r.seq + 1)
    }

    /// Takes one record in. The record must be the next one.
    pub fn apply(&mut self, record: &Record) {
        debug_assert_eq!(record.offset, self.head.next(), "records are applied in order, without a gap");
        let meant = self.meant_now(record);
        let record = meant.as_ref().unwrap_or(record);
        self.head = record.offset;
        self.bytes += RECORD_BYTES + record.event.said_bytes();
        self.t = record.t;
        self.stamp = self.stamp.max(record.at);
        self.forget(record.t);
        if let Some((maker, thing)) = Thing::made(&record.actor, record.room.as_ref(), &record.event) {
            self.holdings.add(&maker, thing);
        }
        match &record.event {
            Event::WorkspaceCreated(e) => {
                self.name.clone_from(&e.name);
                self.domain_key_hash.clone_from(&e.domain_key_hash);
                self.created_at = record.at;
            }
            Event::DomainKeySet(e) => self.domain_key_hash.clone_from(&e.domain_key_hash),
            Event::ServerStarted(_) => self.everybody_left(record.moment()),
            Event::NodeJoined(e) => {
                self.nodes.insert(e.node.clone(), Node { joined: e.clone(), at: record.at });
            }
            Event::NodeLeft(e) => {
                self.nodes.remove(&e.node);
            }
            Event::NodeKeySet(e) => self.apply_node_key(e, record),
            Event::AlertRaised(_)
            | Event::AlertAcknowledged(_)
            | Event::AlertCleared(_)
            | Event::ThresholdSet(_)
            | Event::ThresholdRemoved(_) => self.apply_alert(record),
            Event::HealthChanged(e) => {
                let component = Component { changed: e.clone(), at: record.at };
                self.components.insert(e.component.clone(), component);
            }
            Event::FaultNoticed(_) => {}
            Event::SecurityNoticed(e) => self.apply_security(e, record.moment()),
            Event::BlockEnded(e) => self.unblock(&blocks::key_of(&e.source, e.place.as_deref())),
            Event::FeedMarked(_) => {}
            Event::UserAdded(_)
            | Event::UserChanged(_)
            | Event::UserRemoved(_)
            | Event::KeyAdded(_)
            | Event::KeyRevoked(_)
            | Event::TokenNoted(_)
            | Event::TokenRevoked(_) => self.apply_identity(record),
            Event::AgentRegistered(_)
            | Event::AgentUpdated(_)
            | Event::AgentStatusChanged(_)
            | Event::AgentSecretSet(_)
            | Event::AgentRemoved(_) => self.apply_agent(record),
            Event::SeatKept(e) => self.keep_seat(e, record),
            Event::PresenceConnected(_) | Event::PresenceReached(_) | Event::PresenceDisconnected(_) => {
                self.apply_presence(record);
            }
            Event::MessageDirect(_) | Event::MessageDelivered(_) | Event::MessageExpired(_) => {
                self.apply_direct(record);
            }
            Event::RoomCreated(_)
            | Event::RoomUpdated(_)
            | Event::RoomJoined(_)
            | Event::RoomInvited(_)
            | Event::RoomLeft(_)
            | Event::RoomRead(_)
            | Event::RoomActed(_)
            | Event::RoomRemoved(_)
            | Event::RoomSummarised(_)
            | Event::MessageDeleted(_)
            | Event::MessagePosted(_) => self.apply_room(record),
        }
    }

    /// Seats are forgotten a day later, tokens after their end.
    fn forget(&mut self, now: Time) {
        self.forget_tokens(now);
        while self.seats_by_age.get_min().is_some_and(|(at, _)| now.since(*at) > limits::SEAT_MS) {
            self.forget_oldest_seat();
        }
    }

    fn everybody_left(&mut self, now: Moment) {
        let here: Vec<(Principal, Offset)> =
            self.presence.iter().filter(|(_, p)| p.online()).map(|(who, p)| (who.clone(), p.seen)).collect();
        for (who, seen) in here {
            let presence = Presence { last_seen: now.at, seen, ..Presence::default() };
            self.presence.insert(who.clone(), presence);
            self.stranger_moved(&who, false, now.t);
            if let Some(agent) = who.agent().and_then(|id| self.agents.get_mut(id)) {
                use crate::agents::AgentStatus::{Failed, Offline, Paused};
                if !matches!(agent.status, Paused | Failed) {
                    Arc::make_mut(agent).status = Offline;
                }
            }
        }
    }

    fn apply_agent(&mut self, record: &Record) {
        match &record.event {
            Event::AgentRegistered(e) => {
                self.agents.insert(e.agent.clone(), Arc::new(Agent::new(e, record.offset, record.at)));
            }
            Event::AgentRemoved(e) => {
                self.pause_over(&e.agent);
                self.agents.remove(&e.agent);
                self.own_rooms.remove(&e.agent);
                let who = Principal::Agent(e.agent.clone());
                self.holdings.remove(&Thing::Agent(e.agent.clone()));
                self.holdings.leave_behind(&who);
                self.no_longer_waiting(&who, record.offset);
                self.keys_end(&who);
                self.pairs_end(&e.agent, record.t);
            }
            Event::AgentUpdated(e) => self.change_agent(&e.agent, record.at, |a| a.change(&e.changes)),
            Event::AgentStatusChanged(e) => {
                self.pause_over(&e.agent);
                let ends = e.until.map(|until| record.moment().log_time_of(until));
                self.change_agent(&e.agent, record.at, |a| {
                    (a.status, a.resume_at, a.pause_ends) = (e.new, e.until, ends);
                });
                if let Some(ends) = ends {
                    self.pauses.insert((ends, e.agent.clone()));
                }
            }
            Event::AgentSecretSet(e) => {
                self.change_agent(&e.agent, record.at, |agent| {
                    if agent.secret.replace(e.hash.clone()).is_some() {
                        (agent.rotated_at, agent.incarnation.secret) = (Some(record.at), record.offset);
                    }
                });
            }
            _ => {}
        }
    }

    fn pause_over(&mut self, id: &AgentId) {
        if let Some(ends) = self.agents.get(id).and_then(|agent| agent.pause_ends) {
            self.pauses.remove(&(ends, id.clone()));
        }
    }

    fn change_agent(&mut self, id: &AgentId, at: Time, change: impl FnOnce(&mut Agent)) {
        if let Some(agent) = self.agents.get_mut(id) {
            let agent = Arc::make_mut(agent);
            change(agent);
            agent.updated_at = at;
        }
    }

    fn apply_presence(&mut self, record: &Record) {
        match &record.event {
            Event::PresenceConnected(e) => {
                let mut presence = self.presence.get(&e.principal).cloned().unwrap_or_default();
                let came = !presence.online();
                presence.connections.insert(e.connection);
                if e.direct {
                    presence.direct.insert(e.connection);
                }
                presence.last_seen = record.at;
                if e.first || e.platform.is_some() {
                    presence.platform.clone_from(&e.platform);
                }
                self.presence.insert(e.principal.clone(), presence);
                if came {
                    self.stranger_moved(&e.principal, true, record.t);
                }
            }
            Event::PresenceReached(e) => {
                let presence = self.presence.entry(e.principal.clone()).or_default();
                presence.seen = presence.seen.max(e.upto);
            }
            Event::PresenceDisconnected(e) => {
                let Some(presence) = self.presence.get_mut(&e.principal) else { return };
                let was_online = presence.online();
                presence.connections.remove(&e.connection);
                presence.direct.remove(&e.connection);
                presence.last_seen = record.at;
                let went = was_online && !presence.online();
                // A stranger that nothing was ever said to in this way leaves nothing behind, nor does a removed user.
                let forgotten = match &e.principal {
                    Principal::Guest(_) | Principal::Visitor(_) => presence.seen == Offset(0),
                    Principal::User(id) => !self.users.contains_key(id),
                    _ => false,
                };
                if forgotten && !presence.online() {
                    self.presence.remove(&e.principal);
                }
                if went {
                    self.stranger_moved(&e.principal, false, record.t);
                }
            }
            _ => {}
        }
    }

    fn apply_room(&mut self, record: &Record) {
        let Some(id) = &record.room else { return };
        if let Event::RoomCreated(e) = &record.event {
            self.rooms.insert(id.clone(), Arc::new(Room::new(id.clone(), e, (record.offset, record.at))));
            if let Some(agent) = &e.card.agent {
                self.own_rooms.insert(agent.clone(), id.clone());
            }
            self.pair_opened(id, e);
        }
        let Some(room) = self.rooms.get_mut(id).map(Arc::make_mut) else { return };
        room.take_in(record);
        let used = room.used;
        match &record.event {
            Event::RoomUpdated(_) => {
                if let (Some(agent), true) = (&room.card.agent, room.status != RoomStatus::Active)
                    && self.own_rooms.get(agent) == Some(id)
                {
                    self.own_rooms.remove(agent);
                }
                self.pair_over_if_closed(id);
            }
            Event::RoomJoined(e) => {
                self.rooms_of.entry(e.member.clone()).or_default().insert(id.clone());
            }
            Event::RoomLeft(e) => {
                self.no_longer_in(&e.member, id);
                self.holdings.remove(&Thing::Member(id.clone(), e.member.clone()));
            }
            Event::RoomRemoved(e) => self.forget_room(id, !e.unused),
            Event::MessagePosted(_) => self.messages += 1,
            _ => {}
        }
        if !used {
            self.unused_or_not(id, record);
        }
    }

    fn forget_room(&mut self, id: &RoomId, for_good: bool) {
        let Some(room) = self.rooms.remove(id) else { return };
        if let Some(since) = room.unused_since {
            self.unused_rooms.remove(&(since, id.clone()));
        }
        for member in room.members.keys() {
            self.no_longer_in(member, id);
            self.holdings.remove(&Thing::Member(id.clone(), member.clone()));
        }
        self.holdings.remove(&Thing::Room(id.clone()));
        if for_good {
            self.removed_rooms.insert(id.clone());
        }
    }

    fn no_longer_in(&mut self, member: &Principal, room: &RoomId) {
        if let Some(rooms) = self.rooms_of.get_mut(member) {
            rooms.remove(room);
            if rooms.is_empty() {
                self.rooms_of.remove(member);
            }
        }
    }
}

//! The part of the fold that is about accounts, keys and tokens.

use std::sync::Arc;

use imbl::OrdSet;

use super::State;
use crate::event::{Event, Record};
use crate::holdings::Thing;
use crate::ids::{AgentId, KeyId, Principal, RoomId, UserId, VisitorId};
use crate::limits;
use crate::time::{Offset, Time};
use crate::users::{Incarnation, Key, KeyFor, NotedToken, User};

impl State {
    /// The keys that make somebody of their bearer, revoked ones included, by id.
    pub fn keys_of(&self, who: &Principal) -> impl Iterator<Item = &Key> {
        self.keys_of.get(who).into_iter().flatten().filter_map(|id| self.key(id))
    }

    /// Which bearer of its name somebody is at present; a visitor is as its agent. `None`: an agent or user that there is not.
    pub fn incarnation(&self, who: &Principal) -> Option<Incarnation> {
        let of_agent = |visitor: &VisitorId| {
            let born = self.agent(&visitor.agent())?.incarnation.born;
            Some(Incarnation { born, ..Incarnation::default() })
        };
        match who {
            Principal::Agent(id) => self.agent(id).map(|agent| agent.incarnation),
            Principal::User(id) => self.user(id).map(|user| user.incarnation),
            Principal::Visitor(visitor) => of_agent(visitor),
            Principal::Guest(_) | Principal::Node(_) | Principal::System => Some(Incarnation::default()),
        }
    }

    /// Who has an id: a user, an agent, or a node that has a key. Of doubles that 0.1.0 made, the first of these.
    pub fn bearer_of(&self, id: &str) -> Option<Principal> {
        let user = || self.users.get_key_value(id).map(|(id, _)| Principal::User(id.clone()));
        let agent = || self.agents.get_key_value(id).map(|(id, _)| Principal::Agent(id.clone()));
        let node = || self.node_keys.get_key_value(id).map(|(id, _)| Principal::Node(id.clone()));
        user().or_else(agent).or_else(node)
    }

    /// Ids that several have, which no new ones get: 0.1.0 gave them out. By id.
    pub fn doubles(&self) -> impl Iterator<Item = &str> {
        let users = self.users.keys().map(UserId::as_str);
        let agents = self.agents.keys().map(AgentId::as_str);
        let of_users = users.filter(|id| self.agents.contains_key(*id) || self.node_keys.contains_key(*id));
        of_users.chain(agents.filter(|id| self.node_keys.contains_key(*id) && !self.users.contains_key(*id)))
    }

    /// Whether what somebody of this name did at an offset was done by who has the name now.
    pub fn is_same_bearer(&self, who: &Principal, then: Offset) -> bool {
        self.incarnation(who).is_some_and(|present| present.born <= then)
    }

    /// The keys that let into a room, revoked ones included, by id.
    pub fn keys_to(&self, room: &RoomId) -> impl Iterator<Item = &Key> {
        self.keys_to.get(room).into_iter().flatten().filter_map(|id| self.key(id))
    }

    pub(super) fn keys_end(&mut self, who: &Principal) {
        for id in self.keys_of.get(who).cloned().unwrap_or_default() {
            self.end_key(&id);
        }
    }

    /// A key opens nothing any more.
    fn end_key(&mut self, id: &KeyId) {
        let Some(key) = self.keys.get_mut(id).filter(|key| !key.revoked).map(Arc::make_mut) else { return };
        key.revoked = true;
        let opened = key.opens.clone();
        self.count_key(&opened, false);
        self.holdings.remove(&Thing::Key(id.clone()));
        self.revoked_keys.push_back(id.clone());
        if self.revoked_keys.len() > limits::MAX_REVOKED_KEYS {
            self.forget_oldest_key();
        }
    }

    fn forget_oldest_key(&mut self) {
        let Some(key) = self.revoked_keys.pop_front().and_then(|id| self.keys.remove(&id)) else { return };
        let bearer = key.bearer();
        if let Some(keys) = self.keys_of.get_mut(&bearer) {
            keys.remove(&key.id);
            if keys.is_empty() {
                self.keys_of.remove(&bearer);
            }
        }
        let KeyFor::Room { room, .. } = &key.opens else { return };
        if let Some(keys) = self.keys_to.get_mut(room) {
            keys.remove(&key.id);
            if keys.is_empty() {
                self.keys_to.remove(room);
            }
        }
    }

    fn count_key(&mut self, opens: &KeyFor, added: bool) {
        if let KeyFor::Room { agent, room } = opens
            && let Some(room) = self.rooms.get_mut(room)
        {
            Arc::make_mut(room).count_key(agent, added);
        }
    }

    pub(super) fn apply_identity(&mut self, record: &Record) {
        match &record.event {
            Event::UserAdded(e) => {
                let user = User {
                    id: e.user.clone(),
                    role: e.role,
                    password: e.password.clone(),
                    disabled: false,
                    created_at: record.at,
                    incarnation: Incarnation { born: record.offset, ..Incarnation::default() },
                    rotated_at: None,
                };
                self.users.insert(e.user.clone(), Arc::new(user));
            }
            Event::UserChanged(e) => {
                let Some(user) = self.users.get_mut(&e.user).map(Arc::make_mut) else { return };
                user.role = e.role.unwrap_or(user.role);
                user.disabled = e.disabled.unwrap_or(user.disabled);
                if e.password.is_some() {
                    user.password.clone_from(&e.password);
                    (user.rotated_at, user.incarnation.secret) = (Some(record.at), record.offset);
                }
            }
            Event::UserRemoved(e) => self.forget_user(&e.user),
            Event::KeyAdded(e) => {
                let key = Key {
                    id: e.key.clone(),
                    hash: e.hash.clone(),
                    opens: e.opens.clone(),
                    expires_at: e.expires_at,
                    ends: e.expires_at.map(|end| record.moment().log_time_of(end)),
                    name: e.name.clone(),
                    revoked: false,
                    created_at: record.at,
                };
                self.keys_of.entry(key.bearer()).or_default().insert(e.key.clone());
                if let KeyFor::Room { room, .. } = &e.opens {
                    self.keys_to.entry(room.clone()).or_default().insert(e.key.clone());
                    self.room_used(room, record.t);
                }
                self.count_key(&e.opens, true);
                self.keys.insert(e.key.clone(), Arc::new(key));
            }
            Event::KeyRevoked(e) => self.end_key(&e.key),
            Event::TokenNoted(e) => {
                let ends = record.moment().log_time_of(e.expires_at);
                let born = self.agent(&e.agent).map(|agent| agent.incarnation.born).unwrap_or_default();
                let token = NotedToken { noted: e.clone(), at: record.at, ends, revoked_at: None, born };
                if let Some(before) = self.noted_tokens.insert(e.jti.clone(), token) {
                    self.noted_by_end.remove(&(before.ends, e.jti.clone()));
                }
                self.noted_by_end.insert((ends, e.jti.clone()));
            }
            Event::TokenRevoked(e) => {
                let end = record.moment().log_time_of(e.expires_at).max(record.t);
                let end = end.plus(limits::REVOKED_LONGER_MS);
                if let Some(before) = self.revoked_tokens.insert(e.jti.clone(), end) {
                    self.revoked_by_end.remove(&(before, e.jti.clone()));
                }
                self.revoked_by_end.insert((end, e.jti.clone()));
                if let Some(token) = self.noted_tokens.get_mut(&e.jti) {
                    token.revoked_at.get_or_insert(record.at);
                }
            }
            _ => {}
        }
    }

    /// What belonged to the account belongs to nobody now.
    fn forget_user(&mut self, user: &UserId) {
        self.users.remove(user);
        let who = Principal::User(user.clone());
        self.no_longer_waiting(&who, self.head);
        self.keys_end(&who);
        if !self.online(&who) {
            self.presence.remove(&who);
        }
        for thing in self.holdings.leave_behind(&who) {
            match thing {
                Thing::Agent(id) => {
                    if let Some(agent) = self.agents.get_mut(&id) {
                        Arc::make_mut(agent).owner = None;
                    }
                }
                Thing::Room(id) => {
                    self.pair_ends(&id, &who);
                    if let Some(room) = self.rooms.get_mut(&id) {
                        Arc::make_mut(room).owner = Principal::System;
                    }
                }
                Thing::Key(_)
                | Thing::Token(_)
                | Thing::Revocation(_)
                | Thing::Threshold(_)
                | Thing::Member(..) => {}
            }
        }
    }

    /// How many tokens are over at `now` and not forgotten yet: of one maker, or of all.
    pub(crate) fn tokens_over(&self, now: Time, of: Option<&Principal>) -> usize {
        let over = |ends: &OrdSet<(Time, String)>, thing: fn(String) -> Thing| {
            let over = ends.iter().take_while(|(end, _)| *end <= now);
            let own =
                |jti: &String| of.is_none_or(|who| self.holdings.maker(&thing(jti.clone())) == Some(who));
            over.filter(|(_, jti)| own(jti)).count()
        };
        over(&self.noted_by_end, Thing::Token) + over(&self.revoked_by_end, Thing::Revocation)
    }

    /// Forgets tokens that are over at `now`.
    pub(super) fn forget_tokens(&mut self, now: Time) {
        while self.noted_by_end.get_min().is_some_and(|(end, _)| *end <= now) {
            if let Some((_, jti)) = self.noted_by_end.remove_min() {
                self.noted_tokens.remove(&jti);
                self.holdings.remove(&Thing::Token(jti));
            }
        }
        while self.revoked_by_end.get_min().is_some_and(|(end, _)| *end <= now) {
            if let Some((_, jti)) = self.revoked_by_end.remove_min() {
                self.revoked_tokens.remove(&jti);
                self.holdings.remove(&Thing::Revocation(jti));
            }
        }
    }
}

//! The part of the fold that is about accounts, keys and tokens.

use std::sync::Arc;

use super::State;
use crate::event::{Event, Record};
use crate::ids::{Principal, UserId};
use crate::limits;
use crate::time::Time;
use crate::users::{Key, NotedToken, User};

impl State {
    pub(super) fn apply_identity(&mut self, record: &Record) {
        match &record.event {
            Event::UserAdded(e) => {
                let user = User {
                    id: e.user.clone(),
                    role: e.role,
                    password: e.password.clone(),
                    disabled: false,
                    created_at: record.at,
                    incarnation: record.offset,
                };
                self.users.insert(e.user.clone(), Arc::new(user));
            }
            Event::UserChanged(e) => {
                let Some(user) = self.users.get_mut(&e.user).map(Arc::make_mut) else { return };
                user.role = e.role.unwrap_or(user.role);
                user.disabled = e.disabled.unwrap_or(user.disabled);
                if e.password.is_some() {
                    user.password.clone_from(&e.password);
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
                self.keys.insert(e.key.clone(), Arc::new(key));
            }
            Event::KeyRevoked(e) => {
                if let Some(key) = self.keys.get_mut(&e.key) {
                    Arc::make_mut(key).revoked = true;
                }
            }
            Event::TokenNoted(e) => {
                let ends = record.moment().log_time_of(e.expires_at);
                let token = NotedToken { noted: e.clone(), at: record.at, ends, revoked_at: None };
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
        if !self.online(&who) {
            self.presence.remove(&who);
        }
        let own: Vec<_> =
            self.agents().filter(|a| a.owner.as_ref() == Some(user)).map(|a| a.id.clone()).collect();
        for id in own {
            if let Some(agent) = self.agents.get_mut(&id) {
                Arc::make_mut(agent).owner = None;
            }
        }
        let own: Vec<_> = self.rooms().filter(|room| room.owner == who).map(|room| room.id.clone()).collect();
        for id in own {
            if let Some(room) = self.rooms.get_mut(&id) {
                Arc::make_mut(room).owner = Principal::System;
            }
        }
    }

    /// Forgets tokens that are over at `now`.
    pub(super) fn forget_tokens(&mut self, now: Time) {
        while self.noted_by_end.get_min().is_some_and(|(end, _)| *end <= now) {
            if let Some((_, jti)) = self.noted_by_end.remove_min() {
                self.noted_tokens.remove(&jti);
            }
        }
        while self.revoked_by_end.get_min().is_some_and(|(end, _)| *end <= now) {
            if let Some((_, jti)) = self.revoked_by_end.remove_min() {
                self.revoked_tokens.remove(&jti);
            }
        }
    }
}

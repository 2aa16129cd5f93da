//! The part of the fold that is about accounts, keys and tokens.

use std::sync::Arc;

use super::State;
use crate::event::{Event, Record};
use crate::ids::{Principal, UserId};
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
                let over = |token: &NotedToken| token.noted.expires_at <= record.at;
                self.noted_tokens = self
                    .noted_tokens
                    .iter()
                    .filter(|(_, t)| !over(t))
                    .map(|(k, t)| (k.clone(), t.clone()))
                    .collect();
                let token = NotedToken { noted: e.clone(), at: record.at, revoked_at: None };
                self.noted_tokens.insert(e.jti.clone(), token);
            }
            Event::TokenRevoked(e) => {
                self.revoked_tokens = self
                    .revoked_tokens
                    .iter()
                    .filter(|(_, end)| **end > record.at)
                    .map(|(jti, end)| (jti.clone(), *end))
                    .collect();
                self.revoked_tokens.insert(e.jti.clone(), e.expires_at);
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
        self.waiting.remove(&who);
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
}

//! What there is after an id, for lists that come in pages.

use std::ops::Bound;

use imbl::OrdMap;

use super::State;
use crate::agents::Agent;
use crate::cluster::NodeKey;
use crate::ids::{AgentId, KeyId, NodeId, RoomId, UserId};
use crate::rooms::Room;
use crate::users::{Key, User};

/// What a map has after a key; all of it without one.
fn after<'a, K: Ord, V>(map: &'a OrdMap<K, V>, key: Option<&K>) -> impl Iterator<Item = (&'a K, &'a V)> {
    map.range::<_, K>((key.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded))
}

impl State {
    /// The agents after an id, by id; all of them without one.
    pub fn agents_after(&self, id: Option<&AgentId>) -> impl Iterator<Item = &Agent> {
        after(&self.agents, id).map(|(_, agent)| &**agent)
    }

    /// The accounts after a name, by name; all of them without one.
    pub fn users_after(&self, id: Option<&UserId>) -> impl Iterator<Item = &User> {
        after(&self.users, id).map(|(_, user)| &**user)
    }

    /// The keys after an id, by id; all of them without one.
    pub fn keys_after(&self, id: Option<&KeyId>) -> impl Iterator<Item = &Key> {
        after(&self.keys, id).map(|(_, key)| &**key)
    }

    /// The rooms after an id, by id; all of them without one.
    pub fn rooms_after(&self, id: Option<&RoomId>) -> impl Iterator<Item = &Room> {
        after(&self.rooms, id).map(|(_, room)| &**room)
    }

    /// The nodes that belong to a key after an id, by id; all of them without one.
    pub fn node_keys_after(&self, id: Option<&NodeId>) -> impl Iterator<Item = (&NodeId, &NodeKey)> {
        after(&self.node_keys, id)
    }
}

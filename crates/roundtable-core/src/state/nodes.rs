//! Node ids and the keys they are bound to, in the state.

use super::State;
use crate::cluster::{NodeKey, NodeKeySet};
use crate::event::Record;
use crate::ids::{NodeId, Principal};
use crate::limits;
use crate::time::Time;

impl State {
    /// The nodes that belong to a key, by id, present or not.
    pub fn node_keys(&self) -> impl ExactSizeIterator<Item = (&NodeId, &NodeKey)> {
        self.node_keys.iter()
    }

    /// What a node id is bound to.
    pub fn node_binding(&self, id: &NodeId) -> Option<&NodeKey> {
        self.node_keys.get(id)
    }

    /// The key that a node id belongs to.
    pub fn node_key(&self, id: &NodeId) -> Option<&str> {
        self.node_binding(id).map(|bound| bound.key.as_str())
    }

    /// How many ids nodes of a network have bound by themselves, without an approval.
    pub(crate) fn node_keys_from(&self, network: &str) -> usize {
        self.node_keys_from.get(network).copied().unwrap_or_default()
    }

    /// Which unapproved bindings are over at `now`.
    pub(crate) fn stale_node_keys(&self, now: Time) -> impl Iterator<Item = &NodeId> {
        let stale = self.node_keys_by_age.iter();
        stale.take_while(move |(at, _)| now.since(*at) >= limits::NODE_KEY_MS).map(|(_, node)| node)
    }

    pub(super) fn next_stale_node_key(&self) -> Option<Time> {
        self.node_keys_by_age.get_min().map(|(at, _)| at.plus(limits::NODE_KEY_MS))
    }

    pub(super) fn apply_node_key(&mut self, event: &NodeKeySet, record: &Record) {
        if let Some(before) = self.node_keys.remove(&event.node).filter(|bound| bound.approved.is_none()) {
            self.node_keys_by_age.remove(&(before.at, event.node.clone()));
            let network = before.from.unwrap_or_default();
            match self.node_keys_from(&network) {
                0 | 1 => drop(self.node_keys_from.remove(&network)),
                count => drop(self.node_keys_from.insert(network, count - 1)),
            }
        }
        let Some(key) = event.key.clone() else { return };
        let approved = (record.actor == Principal::System).then_some(record.offset);
        let bound = NodeKey { key, from: event.from.clone(), at: record.t, approved };
        if approved.is_none() {
            self.node_keys_by_age.insert((record.t, event.node.clone()));
            *self.node_keys_from.entry(bound.from.clone().unwrap_or_default()).or_default() += 1;
        }
        self.node_keys.insert(event.node.clone(), bound);
    }
}

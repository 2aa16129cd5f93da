//! The agents that have keys to a room, and those of them that no key brings back.

use serde::{Deserialize, Serialize};

use super::Room;
use crate::ids::{AgentId, Principal};

/// What keys an agent has to a room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Keyed {
    /// How many that are not revoked.
    pub keys: u32,
    /// It left or was taken out, so these do not bring it back.
    pub gone: bool,
}

impl Room {
    /// Whether an agent left or was taken out, so that no key that it has lets it in.
    pub fn bars_keys_of(&self, agent: &AgentId) -> bool {
        self.keyed.get(agent).is_some_and(|keyed| keyed.gone)
    }

    pub(super) fn bar_keys(&mut self, member: &Principal, gone: bool) {
        if let Some(keyed) = member.agent().and_then(|agent| self.keyed.get_mut(agent)) {
            keyed.gone = gone;
        }
    }

    /// An agent got a key, or one of its keys ended. With the last one it is forgotten whether it left.
    pub(crate) fn count_key(&mut self, agent: &AgentId, added: bool) {
        let mut keyed = self.keyed.get(agent).copied().unwrap_or_default();
        keyed.keys = if added { keyed.keys + 1 } else { keyed.keys.saturating_sub(1) };
        if keyed.keys == 0 {
            self.keyed.remove(agent);
        } else {
            self.keyed.insert(agent.clone(), keyed);
        }
    }
}

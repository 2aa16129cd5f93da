//! Settings: how much of what stays may be made.

use roundtable_core::holdings::{Ceilings, Counts};

use crate::config::section::section;
use crate::config::values::Count;

section! {
    /// How many things that stay one agent, user or guest may have made (`principal_…`), and one workspace may hold
    /// (`workspace_…`). What is over it is refused and said; what is removed, revoked or over makes room again. The operator's
    /// command line is not refused.
    Quotas {
        /// Rooms that are not removed. One that nobody used ends after a day with nobody in it.
        principal_rooms: Count = Count::of(Ceilings::DEFAULT.each.rooms),
        /// The same.
        workspace_rooms: Count = Count::of(Ceilings::DEFAULT.all.rooms),
        /// Agents that are not removed.
        principal_agents: Count = Count::of(Ceilings::DEFAULT.each.agents),
        /// The same.
        workspace_agents: Count = Count::of(Ceilings::DEFAULT.all.agents),
        /// API keys and channel keys that are not revoked.
        principal_keys: Count = Count::of(Ceilings::DEFAULT.each.keys),
        /// The same.
        workspace_keys: Count = Count::of(Ceilings::DEFAULT.all.keys),
        /// Tokens that are remembered until their end: those of visitors, and those that were revoked before it.
        principal_tokens: Count = Count::of(Ceilings::DEFAULT.each.tokens),
        /// The same.
        workspace_tokens: Count = Count::of(Ceilings::DEFAULT.all.tokens),
        /// Thresholds for alerts. Each is looked at with every sample.
        principal_thresholds: Count = Count::of(Ceilings::DEFAULT.each.thresholds),
        /// The same.
        workspace_thresholds: Count = Count::of(Ceilings::DEFAULT.all.thresholds),
        /// Members whom one has brought into rooms and who are still in them.
        principal_members: Count = Count::of(Ceilings::DEFAULT.each.members),
        /// The same.
        workspace_members: Count = Count::of(Ceilings::DEFAULT.all.members),
    }
}

impl Quotas {
    /// The same as the rules take it.
    pub fn ceilings(&self) -> Ceilings {
        let each = Counts {
            rooms: self.principal_rooms.get(),
            agents: self.principal_agents.get(),
            keys: self.principal_keys.get(),
            tokens: self.principal_tokens.get(),
            thresholds: self.principal_thresholds.get(),
            members: self.principal_members.get(),
        };
        let all = Counts {
            rooms: self.workspace_rooms.get(),
            agents: self.workspace_agents.get(),
            keys: self.workspace_keys.get(),
            tokens: self.workspace_tokens.get(),
            thresholds: self.workspace_thresholds.get(),
            members: self.workspace_members.get(),
        };
        Ceilings { each, all }
    }
}

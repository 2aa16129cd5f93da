//! Feeds: sets of events that are watched without membership.

use serde::{Deserialize, Serialize};

/// A set of events of the whole workspace.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feed {
    /// Agents, tasks, alerts and the state of the server, for operators' dashboards.
    Activity,
    /// Nodes that come and go.
    Network,
    /// Proposals and decisions.
    Consensus,
    /// What the security rules noticed.
    Security,
    /// Measured values and thresholds.
    Monitoring,
}

impl Feed {
    /// Every feed there is.
    pub const ALL: [Self; 5] =
        [Self::Activity, Self::Network, Self::Consensus, Self::Security, Self::Monitoring];
}

/// Event: a position was taken in the log, so that what is shown from here on has a number above all earlier ones.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct FeedMarked {
    /// For the watchers of which feed.
    pub feed: Feed,
    /// A report of the state is due to all watchers, not only to the one who asked.
    #[serde(default)]
    pub report: bool,
}

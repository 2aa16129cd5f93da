//! Signals: facts that are handed out and not kept.

use serde::Serialize;

use crate::ids::{MessageId, Principal, RoomId};
use crate::json::Json;
use crate::messages::Message;
use crate::time::Time;

/// One signal on its way to whoever is there.
#[derive(Clone, PartialEq, Debug)]
pub struct Signal {
    /// When the engine decided it.
    pub at: Time,
    /// Who caused it.
    pub actor: Principal,
    /// The room it belongs to.
    pub room: Option<RoomId>,
    /// What it says.
    pub body: SignalBody,
}

/// What a signal says.
#[derive(Clone, PartialEq, Debug)]
pub enum SignalBody {
    /// Somebody began or stopped typing.
    Typing {
        /// Who.
        who: Principal,
        /// Whether it types.
        typing: bool,
    },
    /// A message of an ephemeral room.
    Message(Box<Message>),
    /// Something done together in a room that is worth nothing later (a cursor moved, …).
    Action {
        /// Its own name, so that receivers can tell two alike apart: 24 hex digits.
        id: MessageId,
        /// Who.
        who: Principal,
        /// What, in the clients' own words.
        action: String,
        /// Any JSON.
        data: Option<Json>,
    },
    /// A measured value.
    Metric(Metric),
}

/// A measured value with its limits.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Metric {
    /// Its name: `cpu_usage`, `memory_usage`, …
    pub name: &'static str,
    /// The value, in `unit`.
    pub value: f64,
    /// Where a warning begins, if anywhere.
    pub warning: Option<f64>,
    /// Where it is critical.
    pub critical: Option<f64>,
    /// `percent`, `bytes/s`, `ms`, …
    pub unit: &'static str,
}

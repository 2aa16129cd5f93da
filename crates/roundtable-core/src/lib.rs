//! The rules: what may happen in a workspace and what follows from it, without any I/O.
//!
//! [`engine::decide`] turns a [`command::Command`] into events and signals, [`state::State::apply`] folds events into the
//! state, [`delivery`] says to whom each goes. There is one file per noun; a noun's commands, events, rules and state
//! stand together. Serde is here for the log's bodies alone: no wire format is known to this crate, and no dialect.

pub mod access;
pub mod actions;
pub mod agents;
pub mod alerts;
pub mod cluster;
pub mod command;
pub mod components;
pub mod delivery;
pub mod engine;
pub mod error;
pub mod event;
pub mod feeds;
mod fits;
pub mod following;
pub mod holdings;
pub mod ids;
pub mod json;
pub mod limits;
pub mod messages;
pub mod names;
pub mod pairs;
pub mod presence;
pub mod repeats;
pub mod rooms;
pub mod seats;
pub mod signal;
pub mod state;
pub mod thresholds;
pub mod time;
pub mod users;

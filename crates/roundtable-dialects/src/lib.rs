//! The wire: codecs and one session state machine per dialect, without any I/O.

pub mod aiwm;
pub mod cursor;
pub mod engineio;
pub mod hive;
pub mod megabot;
pub mod mxf;
pub mod open_agi;
pub mod socketio;
pub mod standing;
pub mod websocket;

pub mod figures;
pub mod iso;
pub mod members;
pub mod pace;
pub mod pages;
pub mod probes;
pub mod rest;
pub mod session;
pub mod transcript;

#[cfg(test)]
mod stage;

//! The wire: codecs and one session state machine per dialect, without any I/O.

pub mod aiwm;
pub mod engineio;
pub mod socketio;
pub mod websocket;

pub mod figures;
pub mod mxf;
pub mod rest;
pub mod session;

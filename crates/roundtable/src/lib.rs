//! The server: sockets, log, runner, identity, configuration.

pub mod admin;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod log;
pub mod runner;
pub mod telemetry;
pub mod transport;

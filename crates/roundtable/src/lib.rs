//! The server: sockets, log, runner, identity, configuration.

pub mod admin;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod desk;
pub mod doors;
pub mod jobs;
pub mod log;
pub mod routes;
pub mod runner;
pub mod server;
pub mod telemetry;
pub mod transport;

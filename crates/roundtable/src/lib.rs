//! The server: sockets, log, runner, identity, configuration.

pub mod clock;
pub mod log;

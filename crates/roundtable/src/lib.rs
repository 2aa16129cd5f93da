//! The server: sockets, log, runner, identity, configuration.

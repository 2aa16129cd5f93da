//! The server: sockets, log, runner, identity, configuration.
//!
//! Read it in the order in which a frame passes through it:
//!
//! 1. [`transport`] owns the connections: `listen` accepts, `http` upgrades, `socket` reads and writes, `engine` drives
//!    Engine.IO and Socket.IO, `outputs` carries out what sessions want, `deliver` brings committed batches to mailboxes.
//! 2. [`doors`] says which path and which namespace leads to which dialect; [`auth`] says who somebody is.
//! 3. [`runner`] gathers what is asked, lets the engine decide it (`runner::batch`, no I/O), and hands out what [`log`] has
//!    made durable.
//! 4. [`routes`] mounts REST: [`admin`] for the operator, and the dialects' own routes over the [`desk`], as often
//!    as [`rates`] allow, on threads of their own and in [`shares`] for each address.
//!    [`watch`] counts signs of attacks and refuses those who are blocked.
//!    `probes` answers whoever watches whether the server lives, and what it has counted.
//! 5. [`tls`] reads certificates and takes new ones.
//! 6. [`server`] starts and stops all of it in order; [`workspaces`] begin on one thread; [`jobs`] are what it does by itself; [`cli`] is the command line.
//!
//! `demo` and `torture` are clients of such servers, over `line`: the one shows a conversation, the other attacks.
//!
//! Time and randomness come from [`clock`] alone; every setting is in [`config`].

pub mod admin;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
mod demo;
pub mod descriptors;
pub mod desk;
pub mod doors;
pub mod jobs;
mod line;
mod live;
pub mod log;
mod probes;
pub mod rates;
pub mod routes;
pub mod runner;
pub mod server;
pub mod shares;
pub mod telemetry;
pub mod tls;
mod torture;
pub mod transport;
pub mod watch;
pub mod workspaces;

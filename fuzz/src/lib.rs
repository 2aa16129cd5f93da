//! What is fuzzed: one plain function per target, from any bytes to a broken promise or nothing.
//!
//! The programs under `fuzz_targets/` hand these functions to libFuzzer; `crates/roundtable/tests/fuzz_smoke.rs` takes this
//! folder in as a module and calls them with a few thousand drawn inputs on the stable compiler.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    reason = "a target ends where a promise is broken"
)]

#[path = "../../crates/roundtable-dialects/tests/transcripts/cast.rs"]
mod cast;
#[path = "../../crates/roundtable-dialects/tests/transcripts/desk.rs"]
mod desk;
#[path = "../../crates/roundtable-dialects/tests/transcripts/identity.rs"]
mod identity;
#[path = "../../crates/roundtable-dialects/tests/transcripts/world.rs"]
mod world;

pub mod credentials;
pub mod cut;
pub mod engineio;
pub mod handshake;
pub mod play;
pub mod proxies;
pub mod records;
pub mod requests;
pub mod settings;
pub mod socketio;
pub mod websocket;

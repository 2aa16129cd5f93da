//! The command line of the server.

use std::process::ExitCode;

use roundtable::cli::{self, serve::Ready};
use roundtable::config::Config;

/// Many small, short-lived allocations on several threads; memory goes back to the system soon after a peak.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn serve(_config: Config, _ready: Ready) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    Err("this build has no listeners".into())
}

fn main() -> ExitCode {
    cli::main(serve)
}

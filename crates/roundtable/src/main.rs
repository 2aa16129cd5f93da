//! The command line of the server.

use std::error::Error;
use std::process::ExitCode;

use roundtable::cli::place::Bound;
use roundtable::cli::{
    self,
    serve::{Again, Ready},
};
use roundtable::config::Config;
use roundtable::{descriptors, server};

/// Many small, short-lived allocations on several threads; memory goes back to the system soon after a peak.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn serve(config: Config, ready: Ready, again: Again) -> Result<(), Box<dyn Error + Send + Sync>> {
    // Every connection is one.
    descriptors::raise();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let listeners = config.server.listen.clone();
    let everywhere = config.auth.anonymous;
    let told = move |server: &server::Server| {
        let opened = listeners.as_slice().iter().zip(&server.addresses);
        let bound: Vec<Bound> = opened
            .filter_map(|(listener, address)| {
                let (bare_ws, anonymous) = (listener.bare_ws, listener.lets_guests_in(everywhere));
                let tls = listener.tls.is_some();
                address.map(|address| Bound { address, bare_ws, anonymous, tls })
            })
            .collect();
        if let Err(error) = ready(&bound) {
            tracing::error!(%error, "the command line will not find this server");
        }
    };
    Ok(runtime.block_on(server::run(&config, told, &again))?)
}

fn main() -> ExitCode {
    cli::main(serve)
}

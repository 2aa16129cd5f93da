//! What the two Rust peers share: options, runtime, allocator, and the sign that they are ready.
use clap::Parser;
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// The allocator both peers are measured with.
pub use mimalloc::MiMalloc as Allocator;

/// Options of a peer.
#[derive(Parser)]
pub struct Options {
    /// 0: any free port; the one taken is printed.
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// Threads of the runtime; one is the cheapest per delivery.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
}

/// Runs a server: `serve` gets the listener once `ready PORT` has been printed.
pub fn run<F: Future<Output = ()>>(serve: impl FnOnce(TcpListener) -> F) {
    let options = Options::parse();
    let runtime = match options.threads {
        1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        n => tokio::runtime::Builder::new_multi_thread().worker_threads(n).enable_all().build(),
    };
    runtime.expect("a runtime").block_on(async {
        let addr = SocketAddr::from(([127, 0, 0, 1], options.port));
        let listener = TcpListener::bind(addr).await.expect("a free port");
        println!("ready {}", listener.local_addr().expect("an address").port());
        serve(listener).await;
    });
}

//! One load generator for every server compared: opens connections, drives them, prints one JSON line of figures.
use clap::{Parser, Subcommand};
use std::process::ExitCode;

mod acks;
mod connection;
mod fanout;
mod histogram;
mod idle;
mod net;
mod opening;
mod process;
mod report;
mod resume;
mod returning;
mod storm;
mod tag;
mod target;
mod ws;

/// What every mode needs to know about the server under load.
#[derive(Parser, Clone)]
struct Common {
    /// Address of the server, for example 127.0.0.1:3001.
    #[arg(long)]
    addr: std::net::SocketAddr,
    /// Which protocol to speak.
    #[arg(long, value_enum)]
    protocol: target::Protocol,
    /// Process id of the server, whose processor time and memory are read from /proc.
    #[arg(long)]
    pid: Option<u32>,
    /// The object sent with Socket.IO CONNECT, as JSON text. `{who}` stands for the connection's identity.
    #[arg(long, default_value = "")]
    auth: String,
    /// Rooms are named PREFIX-0, PREFIX-1, …
    #[arg(long, default_value = "bench")]
    room_prefix: String,
    /// How many different users or agents the connections of one room are spread over (0: one each).
    #[arg(long, default_value_t = 0)]
    identities: usize,
    /// How many connections may be opening at the same time.
    #[arg(long, default_value_t = 64)]
    opening: usize,
}

#[derive(Parser)]
#[command(about)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Rooms in which every message goes to all members; chat is the same with many small rooms.
    Fanout(fanout::Options),
    /// Messages that are each acknowledged, one room per connection.
    Acks(acks::Options),
    /// Connections that do nothing: memory per connection.
    Idle(idle::Options),
    /// The server is killed and started again by whoever reads this program's output; all come back at once.
    Storm(storm::Options),
    /// Clients that were away while much was said come back.
    Resume(resume::Options),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Thousands of sockets need more descriptors than the usual soft limit; the hard limit is what we may take.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let result = match &cli.mode {
        Mode::Fanout(o) => fanout::run(&cli.common, o),
        Mode::Acks(o) => acks::run(&cli.common, o),
        Mode::Idle(o) => idle::run(&cli.common, o),
        Mode::Storm(o) => storm::run(&cli.common, o),
        Mode::Resume(o) => resume::run(&cli.common, o),
    };
    match result {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("bench-load: {e}");
            ExitCode::FAILURE
        }
    }
}

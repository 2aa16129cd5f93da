//! Measures Roundtable beside its peers in one run and writes the table: builds, starts, loads and stops everything itself.
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

mod child;
mod contender;
mod goals;
mod measure;
mod prepare;
mod roundtable;
mod rows;
mod table;

/// Exit codes: 0 everything was measured, whatever came out; 1 something could not be measured.
#[derive(Parser)]
#[command(about)]
struct Cli {
    /// The server's release binary; without it only the peers are measured.
    #[arg(long)]
    roundtable: Option<PathBuf>,
    /// One short repetition, and fewer idle connections: to see that everything works.
    #[arg(long)]
    quick: bool,
    /// Repetitions of each row; the median counts.
    #[arg(long)]
    repeat: Option<usize>,
    /// Seconds of each measurement.
    #[arg(long)]
    seconds: Option<f64>,
    /// Only rows whose name contains this.
    #[arg(long)]
    only: Vec<String>,
    /// Only servers whose name contains this.
    #[arg(long)]
    server: Vec<String>,
    /// Where in its room a sender sits: first, middle or last. It matters, see README.md.
    #[arg(long, default_value = "first", value_parser = ["first", "middle", "last"])]
    sender_at: String,
    /// Do not give server and generator processors of their own.
    #[arg(long)]
    no_pin: bool,
    /// Where the table goes.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../results.md"))]
    out: PathBuf,
    /// Folder on the disk to be used for databases.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
}

/// What the options come to.
pub struct Plan {
    pub repeat: usize,
    pub seconds: f64,
    pub warmup: f64,
    pub idle_connections: usize,
    pub settle: f64,
    pub pin: bool,
    pub sender_at: String,
    /// What else the machine was doing before the run.
    pub load_before: String,
    pub only: Vec<String>,
    pub server: Vec<String>,
}

fn run(cli: Cli) -> Result<bool, String> {
    let plan = Plan {
        repeat: cli.repeat.unwrap_or(if cli.quick { 1 } else { 3 }).max(1),
        seconds: cli.seconds.unwrap_or(if cli.quick { 1.0 } else { 2.5 }),
        warmup: if cli.quick { 0.3 } else { 0.7 },
        idle_connections: if cli.quick { 1_000 } else { 10_000 },
        settle: if cli.quick { 3.0 } else { 6.0 },
        pin: !cli.no_pin,
        sender_at: cli.sender_at,
        load_before: std::fs::read_to_string("/proc/loadavg").unwrap_or_default(),
        only: cli.only,
        server: cli.server,
    };
    child::stop_on_signals()?;
    // The servers inherit the limit.
    let descriptors = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(0);
    let tools = prepare::tools(cli.roundtable, &cli.dir)?;
    let (rows, complete) = measure::all(&plan, &tools)?;
    let text = table::markdown(&plan, &tools, descriptors, &rows);
    println!("{text}");
    std::fs::write(&cli.out, &text).map_err(|e| format!("{}: {e}", cli.out.display()))?;
    eprintln!("written to {}", cli.out.display());
    Ok(complete)
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("bench: {e}");
            ExitCode::FAILURE
        }
    }
}

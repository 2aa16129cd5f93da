//! The torture: attacks on servers of its own, a table of figures, and an exit code that says whether a promise broke.

use std::fmt::Write as _;

use clap::Args;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Exit, Target, Terminal, show};
use crate::clock;
use crate::torture::{Report, Scale, Scenario, attack};

pub(super) const EXIT_CODES: &str = "Exit codes:
  0  every promise was kept
  1  a promise broke, or it was interrupted before the end
  6  no attack could be begun";

#[derive(Args, Debug)]
pub struct TortureArgs {
    /// Which attacks; all without one.
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,
    /// Small: for every change, on a machine that does other things too.
    #[arg(long)]
    short: bool,
    /// What chance begins from, to repeat a run; drawn without one.
    #[arg(long)]
    seed: Option<u64>,
}

/// All that came of a run.
#[derive(Serialize)]
struct Run {
    seed: u64,
    reports: Vec<Report>,
}

pub(super) fn run(args: &TortureArgs, target: &Target, terminal: &mut Terminal<'_>) -> Exit {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            terminal.note(&format!("roundtable: {error}"));
            return Exit::Server;
        }
    };
    let ended = runtime.block_on(perform(args, target, terminal));
    // A read of a child's output may still be under way; the children are gone.
    runtime.shutdown_background();
    match ended {
        Ok(exit) => exit,
        Err(error) => {
            terminal.note(&format!("roundtable: {error}"));
            Exit::Server
        }
    }
}

async fn perform(args: &TortureArgs, target: &Target, terminal: &mut Terminal<'_>) -> std::io::Result<Exit> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let seed = args.seed.unwrap_or_else(|| clock::random_u64() >> 32);
    let mut run = Run { seed, reports: Vec::new() };
    let all = <Scenario as clap::ValueEnum>::value_variants();
    let scenarios = if args.scenarios.is_empty() { all } else { &args.scenarios };
    for scenario in scenarios {
        let dir = tempfile::Builder::new().prefix("roundtable-torture-").tempdir()?;
        let scale = Scale::new(args.short, seed);
        let report = tokio::select! {
            report = attack(*scenario, dir.path(), scale) => report,
            _ = interrupt.recv() => return Ok(Exit::Refused),
            _ = terminate.recv() => return Ok(Exit::Refused),
        };
        if !target.json
            && let Err(failure) = terminal.say(&in_words(&report))
        {
            return Ok(terminal.end(Err(failure), Exit::Refused));
        }
        run.reports.push(report);
        dir.close()?;
    }
    let broken = run.reports.iter().filter(|report| !report.broken.is_empty()).count();
    let sum = format!("Attacks: {} passed, {broken} failed (seed {seed}).", run.reports.len() - broken);
    let said = show(terminal, target, &run, &sum);
    Ok(terminal.end(said, if broken == 0 { Exit::Done } else { Exit::Refused }))
}

fn in_words(report: &Report) -> String {
    let scenario = clap::ValueEnum::to_possible_value(&report.scenario);
    let mut text = scenario.map(|value| value.get_name().to_owned()).unwrap_or_default();
    for figure in &report.figures {
        let _ = write!(text, "\n  {:<56} {:>12} {}", figure.what, figure.value, figure.unit);
    }
    for note in &report.notes {
        let _ = write!(text, "\n  note: {note}");
    }
    for broken in &report.broken {
        let _ = write!(text, "\n  BROKEN: {broken}");
    }
    text
}

//! Developer commands: `cargo x help` lists them.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a developer tool talks on the terminal")]

mod check;
mod commands;
mod coverage;
mod steps;
mod suites;
mod tally;
mod tidy;
mod tree;

use std::process::ExitCode;

const HELP: &str = "\
cargo x <command>

  dev [-- ARGS]    build the server and run it on ./target/dev-data; ARGS go to `roundtable serve`
  check            format, lints, house rules, event coverage, licences, documentation
  tidy             the house rules alone, in a moment
  test [PART]      Rust tests, real clients against the built server, then attacks on it; PART is rust, node, python
                   or torture
  conformance      the transcripts under conformance/
  coverage         every documented event is in a transcript or in known-gaps.txt;
                   --prune drops gaps that a transcript covers
  bench [-- ARGS]  build a release server and measure it; ARGS go to the driver in bench/
  ci               check and test; the last line counts everything
  help             this text

A command that fails ends with a status other than 0.";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match args.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("help", &[] as &[String]),
    };
    let outcome = match command {
        "dev" => commands::dev(rest),
        "check" => check::check().map(|_| ()),
        "tidy" => tidy::command(),
        "test" => suites::test(rest),
        "conformance" => commands::conformance(rest),
        "coverage" => coverage::command(rest),
        "bench" => commands::bench(rest),
        "ci" => suites::ci(),
        "help" | "--help" | "-h" => {
            println!("{HELP}");
            Ok(())
        }
        other => Err(format!("unknown command `{other}`; `cargo x help` lists them")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // The summary of a test run has to stay the last line, so a reason already said is not said again.
        Err(reason) if reason.is_empty() => ExitCode::FAILURE,
        Err(reason) => {
            eprintln!("error: {reason}");
            ExitCode::FAILURE
        }
    }
}

//! `cargo x check`: everything that can be said about the code without running it.

use std::path::Path;
use std::process::Command;

use crate::steps::{available, cargo, root, run};
use crate::tally::Tally;
use crate::{coverage, tidy};

type Step = (&'static str, fn(&Path) -> Result<(), String>);

const STEPS: [Step; 6] = [
    ("format", format),
    ("house rules", tidy::check),
    ("event coverage", coverage::check),
    ("lints", lints),
    ("documentation", documentation),
    ("licences and advisories", licences),
];

/// Runs all steps, also after a failed one, and counts them; an error names the failed ones.
pub fn check() -> Result<Tally, String> {
    let (tally, failed) = all()?;
    if failed.is_empty() { Ok(tally) } else { Err(format!("these checks failed: {}", failed.join(", "))) }
}

/// As [`check`], but gives the counts also when steps failed: (counts, names of the failed steps).
pub fn all() -> Result<(Tally, Vec<&'static str>), String> {
    let root = root()?;
    let mut tally = Tally::default();
    let mut failed = Vec::new();
    for (name, step) in STEPS {
        println!("── check: {name}");
        match step(&root) {
            Ok(()) => tally.passed += 1,
            Err(reason) => {
                eprintln!("{reason}");
                tally.failed += 1;
                failed.push(name);
            }
        }
    }
    Ok((tally, failed))
}

fn format(root: &Path) -> Result<(), String> {
    run(&mut cargo(root, &["fmt", "--all", "--check"]))
}

/// Clippy also keeps functions to 70 lines and 5 parameters (`clippy.toml`), so the house rules need not.
fn lints(root: &Path) -> Result<(), String> {
    run(&mut cargo(root, &["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn documentation(root: &Path) -> Result<(), String> {
    let mut command =
        cargo(root, &["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"]);
    run(command.env("RUSTDOCFLAGS", "-D warnings"))
}

fn licences(root: &Path) -> Result<(), String> {
    if !available("cargo-deny", &["--version"]) {
        println!("left out: cargo-deny is not installed (`cargo install --locked cargo-deny`)");
        return Ok(());
    }
    run(Command::new("cargo-deny").current_dir(root).args([
        "--workspace",
        "check",
        "bans",
        "licenses",
        "sources",
    ]))
}

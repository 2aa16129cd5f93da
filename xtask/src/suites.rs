//! `cargo x test`: Rust tests, then the client libraries of the documents against the built server, in one sum.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::check;
use crate::steps::{available, cargo, root, run, run_and_read, target_dir};
use crate::tally::{self, Runner, Tally};

/// One run of one runner: its name and what came of it.
type Row = (&'static str, Result<Tally, String>);

/// Runs all tests, or those of one part, and prints one summary as the last line.
pub fn test(args: &[String]) -> Result<(), String> {
    let parts: Vec<&str> = args.iter().map(String::as_str).collect();
    summarise(&run_parts(&parts)?)
}

/// Checks and tests; the checks count as tests, so that the last line tells the whole truth.
pub fn ci() -> Result<(), String> {
    let (counts, failed) = check::all()?;
    for name in &failed {
        eprintln!("check failed: {name}");
    }
    let mut rows: Vec<Row> = vec![("checks", Ok(counts))];
    rows.extend(run_parts(&[])?);
    summarise(&rows)
}

fn run_parts(parts: &[&str]) -> Result<Vec<Row>, String> {
    if let Some(unknown) = parts.iter().find(|part| !["rust", "node", "python", "torture"].contains(part)) {
        return Err(format!("unknown part `{unknown}`; there are rust, node, python and torture"));
    }
    let wanted = |part| parts.is_empty() || parts.contains(&part);
    let root = root()?;
    let mut rows = Vec::new();
    if wanted("rust") {
        println!("── test: Rust");
        rows.extend(rust(&root));
    }
    if !wanted("node") && !wanted("python") && !wanted("torture") {
        return Ok(rows);
    }
    println!("── test: building the server for the real clients and the torture");
    // The same targets as the Rust tests, so that nothing is compiled again with other features.
    if let Err(reason) = run(&mut cargo(&root, &["build", "--workspace", "--all-targets"])) {
        rows.push(("server", Err(reason)));
        return Ok(rows);
    }
    if wanted("node") {
        println!("── test: Node clients");
        rows.push(("node clients", node(&root)));
    }
    if wanted("python") {
        println!("── test: Python clients");
        rows.push(("python clients", python(&root)));
    }
    if wanted("torture") {
        println!("── test: torture");
        rows.push(("torture", torture(&root)));
    }
    Ok(rows)
}

/// Unit and integration tests; with nextest also the documentation's examples, which it leaves out.
fn rust(root: &Path) -> Vec<Row> {
    if !available("cargo-nextest", &["--version"]) {
        let mut tests = cargo(root, &["test", "--workspace", "--no-fail-fast"]);
        return vec![("rust", counted(Runner::Cargo, &mut tests))];
    }
    let mut tests = cargo(root, &["nextest", "run", "--workspace", "--no-fail-fast", "--no-tests", "warn"]);
    let mut docs = cargo(root, &["test", "--doc", "--workspace", "--no-fail-fast"]);
    vec![
        ("rust", counted(Runner::Nextest, tests.args(["--status-level", "fail", "--color", "never"]))),
        ("rust documentation", counted(Runner::Cargo, &mut docs)),
    ]
}

fn node(root: &Path) -> Result<Tally, String> {
    let home = root.join("clients/node");
    let tests = files(&home.join("tests"), ".test.mjs")?;
    if tests.is_empty() {
        return Ok(Tally::default());
    }
    install_node(&home)?;
    let mut runner = Command::new("node");
    runner.args(["--test", "--test-reporter=spec"]).args(tests).current_dir(&home);
    counted(Runner::Node, runner.env("ROUNDTABLE_BIN", server(root)))
}

fn python(root: &Path) -> Result<Tally, String> {
    let home = root.join("clients/python");
    if files(&home.join("tests"), ".py")?.is_empty() {
        return Ok(Tally::default());
    }
    // One test brings the clients of both languages together.
    install_node(&root.join("clients/node"))?;
    install_python(&home)?;
    let mut runner = Command::new(home.join(".venv/bin/python"));
    runner.current_dir(&home).args(["-m", "pytest", "--color=no", "-p", "no:cacheprovider"]);
    counted(Runner::Pytest, runner.env("ROUNDTABLE_BIN", server(root)))
}

/// Every attack in its short form; one that breaks a promise is a failed test.
fn torture(root: &Path) -> Result<Tally, String> {
    counted(Runner::Torture, Command::new(server(root)).args(["torture", "--short"]))
}

/// The server that the real clients meet.
fn server(root: &Path) -> PathBuf {
    target_dir(root).join("debug/roundtable")
}

fn install_node(home: &Path) -> Result<(), String> {
    let (lock, packages) = (home.join("package-lock.json"), home.join("node_modules"));
    if installed(&lock, &packages) {
        return Ok(());
    }
    run(Command::new("npm").current_dir(home).args(["ci", "--no-audit", "--no-fund"]))?;
    remember(&lock, &packages)
}

fn install_python(home: &Path) -> Result<(), String> {
    let (lock, packages) = (home.join("requirements.txt"), home.join(".venv"));
    if installed(&lock, &packages) {
        return Ok(());
    }
    run(Command::new("python3").current_dir(home).args(["-m", "venv", "--clear", ".venv"]))?;
    let mut pip = Command::new(packages.join("bin/python"));
    pip.current_dir(home).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    run(pip.args(["--no-deps", "--only-binary", ":all:", "--requirement", "requirements.txt"]))?;
    remember(&lock, &packages)
}

/// Runs a runner and reads its closing line. A runner that fails without a failed test counts as one.
fn counted(runner: Runner, command: &mut Command) -> Result<Tally, String> {
    let (ended_well, output) = run_and_read(command)?;
    match (tally::read(runner, &output), ended_well) {
        (Some(tally), true) => Ok(tally),
        (Some(tally), false) if tally.failed > 0 => Ok(tally),
        (Some(_), false) => Err("the runner ended with an error though no test failed".to_owned()),
        (None, true) if matches!(runner, Runner::Cargo) => Ok(Tally::default()),
        (None, _) => Err("the runner ended without a summary".to_owned()),
    }
}

/// Whether the packages of exactly this lock file are there already.
fn installed(lock: &Path, packages: &Path) -> bool {
    let now = fs::read(lock);
    let then = fs::read(packages.join(".installed-from"));
    matches!((now, then), (Ok(now), Ok(then)) if now == then)
}

fn remember(lock: &Path, packages: &Path) -> Result<(), String> {
    fs::copy(lock, packages.join(".installed-from"))
        .map(|_| ())
        .map_err(|error| format!("{}: {error}", lock.display()))
}

/// The files directly in a folder whose names end so, in order; none if there is no such folder.
fn files(folder: &Path, end: &str) -> Result<Vec<PathBuf>, String> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| format!("{}: {error}", folder.display()))?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(end)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn summarise(rows: &[Row]) -> Result<(), String> {
    let mut sum = Tally::default();
    println!();
    for (name, outcome) in rows {
        match outcome {
            Ok(tally) => {
                println!("{name:20} {tally}");
                sum += *tally;
            }
            Err(reason) => {
                println!("{name:20} failed: {reason}");
                sum.failed += 1;
            }
        }
    }
    println!("{sum}");
    if sum.failed == 0 { Ok(()) } else { Err(String::new()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_failed_test_fails_the_sum() {
        let good: Row = ("a", Ok(Tally { passed: 2, failed: 0, skipped: 1 }));
        let bad: Row = ("b", Ok(Tally { passed: 2, failed: 1, skipped: 0 }));
        assert!(summarise(std::slice::from_ref(&good)).is_ok());
        assert!(summarise(&[good, bad]).is_err());
    }

    #[test]
    fn a_runner_that_could_not_run_fails_the_sum() {
        assert!(summarise(&[("a", Err("no such program".to_owned()))]).is_err());
    }

    #[test]
    fn a_runner_that_dies_after_a_good_summary_is_a_failure() {
        let closing = "echo '5 passed in 0.10s'";
        assert_eq!(counted(Runner::Pytest, &mut shell(closing)).map(|tally| tally.passed), Ok(5));
        assert!(counted(Runner::Pytest, &mut shell(&format!("{closing}; exit 1"))).is_err());
        assert!(counted(Runner::Pytest, &mut shell("true")).is_err());
    }

    #[test]
    fn packages_are_installed_again_when_the_lock_changes() {
        let folder = std::env::temp_dir().join(format!("roundtable-xtask-{}", std::process::id()));
        let (lock, packages) = (folder.join("lock"), folder.join("packages"));
        fs::create_dir_all(&packages).unwrap();
        fs::write(&lock, "one").unwrap();
        assert!(!installed(&lock, &packages));
        remember(&lock, &packages).unwrap();
        assert!(installed(&lock, &packages));
        fs::write(&lock, "two").unwrap();
        assert!(!installed(&lock, &packages));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn an_unknown_part_is_refused() {
        assert!(run_parts(&["rust", "perl"]).unwrap_err().contains("perl"));
    }
}

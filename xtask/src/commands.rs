//! The commands that are one or two programs in a row: dev, conformance, bench.

use std::fs;
use std::process::Command;

use crate::steps::{cargo, root, run, target_dir};

/// Builds the server and runs it on data that stay under the target folder.
pub fn dev(args: &[String]) -> Result<(), String> {
    let root = root()?;
    let data = target_dir(&root).join("dev-data");
    fs::create_dir_all(&data).map_err(|error| format!("{}: {error}", data.display()))?;
    run(&mut cargo(&root, &["build", "--package", "roundtable", "--bin", "roundtable"]))?;
    let mut server = Command::new(target_dir(&root).join("debug/roundtable"));
    run(server.current_dir(&root).args(["serve", "--data"]).arg(data).args(own(args)))
}

/// Runs the transcripts under `conformance/`, in memory and over sockets.
pub fn conformance(args: &[String]) -> Result<(), String> {
    let mut command = cargo(&root()?, &["test", "--package", "roundtable", "--test", "conformance", "--"]);
    run(command.args(own(args)))
}

/// Builds the server as it is shipped and lets the driver in `bench/` measure it beside its peers.
pub fn bench(args: &[String]) -> Result<(), String> {
    let root = root()?;
    run(&mut cargo(&root, &["build", "--release", "--package", "roundtable", "--bin", "roundtable"]))?;
    let mut driver =
        cargo(&root, &["run", "--release", "--manifest-path", "bench/Cargo.toml", "--bin", "driver", "--"]);
    run(driver.arg("--roundtable").arg(target_dir(&root).join("release/roundtable")).args(own(args)))
}

/// What follows an optional `--`.
fn own(args: &[String]) -> &[String] {
    match args.split_first() {
        Some((first, rest)) if first == "--" => rest,
        _ => args,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leading_separator_is_dropped_once() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(own(&words("-- --listen -- x")), words("--listen -- x"));
        assert_eq!(own(&words("--json")), words("--json"));
        assert!(own(&[]).is_empty());
    }
}

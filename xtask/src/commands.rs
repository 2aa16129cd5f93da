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

/// Plays the transcripts, in memory and then over sockets: all of them, or those with a text in their path.
/// `--bless` rewrites in memory what is expected into what came, and plays nothing over sockets.
pub fn conformance(args: &[String]) -> Result<(), String> {
    let root = root()?;
    let (options, texts): (Vec<&String>, Vec<&String>) =
        own(args).iter().partition(|arg| arg.starts_with("--"));
    let bless = match options.as_slice() {
        [] => false,
        [only] if *only == "--bless" => true,
        _ => return Err("conformance takes a part of a path and --bless".to_owned()),
    };
    let only = match texts.as_slice() {
        [] => "",
        [only] => only.as_str(),
        _ => return Err("conformance takes one part of a path".to_owned()),
    };
    let play = |package: &str, test: &str| {
        let mut command = cargo(&root, &["test", "--package", package, "--test", test]);
        command.env("ROUNDTABLE_TRANSCRIPT", only);
        if bless {
            command.env("ROUNDTABLE_BLESS", "1");
        }
        run(&mut command)
    };
    play("roundtable-dialects", "transcripts")?;
    if bless { Ok(()) } else { play("roundtable", "transcripts_live") }
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

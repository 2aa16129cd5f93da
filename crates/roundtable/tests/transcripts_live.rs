//! Every transcript under `conformance/`, played over sockets against a server of its own.
//!
//! `ROUNDTABLE_TRANSCRIPT=mxf/rooms` plays only those whose path has this in it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot set its stage has failed"
)]

#[path = "transcripts_live/client.rs"]
mod client;
#[path = "transcripts_live/house.rs"]
mod house;

use std::fs;
use std::path::{Path, PathBuf};

use roundtable_dialects::transcript::{Line, Names, SetUp, Step, parse, play};

use house::House;

/// Waits that are really waited for, in milliseconds.
const LONGEST_WAIT: i64 = 2_000;

fn transcripts(folder: &Path) -> Vec<PathBuf> {
    let listed = |folder: &Path| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_transcript = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        name.ends_with(".txt") && name != "events.txt" && name != "known-gaps.txt"
    };
    let folders = listed(folder).filter(|path| path.is_dir());
    let mut all: Vec<PathBuf> = folders.flat_map(|folder| listed(&folder)).filter(is_transcript).collect();
    all.sort();
    all
}

/// Why a transcript is not for a running server, if it is not.
fn only_in_memory(lines: &[Line]) -> Option<String> {
    lines.iter().find_map(|line| match &line.step {
        Step::Skip(why) => Some(why.clone()),
        Step::Wait(ms) if *ms > LONGEST_WAIT => Some(format!("it waits {ms} ms")),
        Step::SetUp(SetUp::Full(_)) => Some("a full log cannot be had on demand".into()),
        _ => None,
    })
}

#[test]
fn transcripts_are_true_over_sockets() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance");
    let only = std::env::var("ROUNDTABLE_TRANSCRIPT").unwrap_or_default();
    let (mut played, mut failures) = (0, Vec::new());
    for path in transcripts(&folder) {
        let shown = path.strip_prefix(&folder).unwrap().display().to_string();
        if !shown.contains(&only) {
            continue;
        }
        let lines = parse(&fs::read_to_string(&path).unwrap()).unwrap_or_else(|why| panic!("{shown}:{why}"));
        if let Some(why) = only_in_memory(&lines) {
            println!("{shown}: in memory only: {why}");
            continue;
        }
        let mut names = Names::default();
        let mut house = House::open(&mut names);
        failures.extend(play(&lines, &mut house, &mut names).err().map(|why| format!("{shown}:{why}")));
        house.close();
        played += 1;
    }
    println!("{played} transcripts over sockets");
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n\n"));
}

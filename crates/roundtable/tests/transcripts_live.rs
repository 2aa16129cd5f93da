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
use std::sync::atomic::{AtomicUsize, Ordering};

use roundtable_dialects::transcript::{Line, Names, Step, parse, play};

use house::House;

/// Waits that are really waited for, in milliseconds; the longest of a server's own intervals last longer.
const LONGEST_WAIT: i64 = 4_500;
/// Transcripts played at the same time: each mostly waits for its server.
const AT_ONCE: usize = 4;

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

/// How many times shorter waits are over sockets, and the settings that go with it.
fn pace(lines: &[Line]) -> (i64, Vec<String>) {
    let found = lines.iter().find_map(|line| match &line.step {
        Step::OverSockets(times, settings) => Some((*times, settings.clone())),
        _ => None,
    });
    found.unwrap_or((1, Vec::new()))
}

/// Why a transcript is not for a running server, if it is not.
fn only_in_memory(lines: &[Line]) -> Option<String> {
    let (pace, _) = pace(lines);
    lines.iter().find_map(|line| match &line.step {
        Step::Skip(why) => Some(why.clone()),
        Step::Wait(ms) if *ms / pace > LONGEST_WAIT => Some(format!("it waits {ms} ms")),
        _ => None,
    })
}

/// Plays one transcript; what is wrong with it, if anything is.
fn failure(path: &Path, shown: &str) -> Option<String> {
    let lines = match parse(&fs::read_to_string(path).unwrap()) {
        Ok(lines) => lines,
        Err(why) => return Some(format!("{shown}:{why}")),
    };
    if let Some(why) = only_in_memory(&lines) {
        println!("{shown}: in memory only: {why}");
        return None;
    }
    let mut names = Names::default();
    let (pace, settings) = pace(&lines);
    let mut house = House::open(pace, &settings, &mut names);
    let played = play(&lines, &mut house, &mut names);
    house.close();
    println!("{shown}: {}", if played.is_ok() { "ok" } else { "differs" });
    played.err().map(|why| format!("{shown}:{why}"))
}

#[test]
fn transcripts_are_true_over_sockets() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance");
    let only = std::env::var("ROUNDTABLE_TRANSCRIPT").unwrap_or_default();
    let shown = |path: PathBuf| {
        let shown = path.strip_prefix(&folder).unwrap().display().to_string();
        (path, shown)
    };
    let all: Vec<_> =
        transcripts(&folder).into_iter().map(shown).filter(|(_, shown)| shown.contains(&only)).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut failures = Vec::new();
        while let Some((path, shown)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            failures.extend(failure(path, shown));
        }
        failures
    };
    let failures: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n\n"));
}

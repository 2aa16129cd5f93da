//! Every transcript under `conformance/`, played in memory and compared byte for byte.
//!
//! `ROUNDTABLE_BLESS=1` rewrites what is expected into what came; read the difference before you keep it.
//! `ROUNDTABLE_TRANSCRIPT=mxf/rooms` plays only those whose path has this in it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something is missing"
)]

#[path = "transcripts/bless.rs"]
mod bless;
#[path = "transcripts/cast.rs"]
mod cast;
#[path = "transcripts/desk.rs"]
mod desk;
#[path = "transcripts/identity.rs"]
mod identity;
#[path = "transcripts/rights.rs"]
mod rights;
#[path = "../../roundtable-core/tests/rules/rights_page.rs"]
mod rights_page;
#[path = "transcripts/world.rs"]
mod world;

use std::fs;
use std::path::{Path, PathBuf};

use roundtable_dialects::transcript::{Names, parse, play};

use cast::Cast;

/// Every transcript, in the order of their paths.
fn transcripts(folder: &Path) -> Vec<PathBuf> {
    let listed = |folder: &Path| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let lists = ["events.txt", "known-gaps.txt"];
    let is_transcript = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        name.ends_with(".txt") && !lists.contains(&name)
    };
    let folders = listed(folder).filter(|path| path.is_dir());
    let mut all: Vec<PathBuf> = folders.flat_map(|folder| listed(&folder)).filter(is_transcript).collect();
    all.sort();
    all
}

#[test]
fn transcripts_are_true_in_memory() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance");
    let only = std::env::var("ROUNDTABLE_TRANSCRIPT").unwrap_or_default();
    let bless = std::env::var_os("ROUNDTABLE_BLESS").is_some();
    let mut failures = Vec::new();
    for path in transcripts(&folder) {
        let shown = path.strip_prefix(&folder).unwrap().display().to_string();
        if !shown.contains(&only) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let (mut cast, mut names) = (Cast::new(), Names::default());
        cast.introduce(&mut names);
        let lines = match parse(&text) {
            Ok(lines) => lines,
            Err(why) => {
                failures.push(format!("{shown}:{why}"));
                continue;
            }
        };
        let played = if bless {
            bless::rewritten(&lines, &mut cast, &mut names).map(|text| fs::write(&path, text).unwrap())
        } else {
            play(&lines, &mut cast, &mut names)
        };
        failures.extend(played.err().map(|why| format!("{shown}:{why}")));
    }
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n\n"));
}

//! What is fuzzed, called a few thousand times with drawn inputs on the compiler that everybody has.
//!
//! The long runs are in `fuzz/`; this only keeps the targets compiling and true. `ROUNDTABLE_FUZZ=50` draws fifty times as
//! many, after other beginnings.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where something is missing"
)]

#[path = "../../../fuzz/src/lib.rs"]
mod fuzz;

use std::fs;
use std::path::{Path, PathBuf};

use fuzz::cut::Drawn;
use roundtable_dialects::session::Dialect;

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The files of a folder, in the order of their names; none if there is no such folder.
fn files(folder: &str) -> Vec<Vec<u8>> {
    let listed = fs::read_dir(top().join(folder)).into_iter().flatten();
    let mut paths: Vec<PathBuf> = listed.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Words that clients write.
fn words() -> Vec<Vec<u8>> {
    let text = fs::read_to_string(top().join("fuzz/words.dict")).unwrap();
    let quoted = text.lines().filter_map(|line| line.strip_prefix('"')?.strip_suffix('"'));
    quoted
        .map(|word| word.replace("\\x22", "\"").replace("\\x0a", "\n").replace("\\x1e", "\x1e").into_bytes())
        .collect()
}

/// An input: one of the seeds with a few changes, or bytes.
fn input(drawn: &mut Drawn, seeds: &[Vec<u8>], words: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = match seeds.get(drawn.below(seeds.len() + 1)) {
        Some(seed) => seed.clone(),
        None => (0..drawn.below(200)).map(|_| drawn.next() as u8).collect(),
    };
    for _ in 0..drawn.below(6) {
        let at = drawn.below(bytes.len() + 1);
        match drawn.below(5) {
            0 => bytes.truncate(at),
            1 => bytes.splice(at..at, words[drawn.below(words.len())].iter().copied()).for_each(drop),
            2 => bytes.insert(at, drawn.next() as u8),
            3 => {
                let end = (at + drawn.below(40)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                let to = drawn.below(bytes.len() + 1);
                bytes.splice(to..to, part).for_each(drop);
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << drawn.below(8);
                }
            }
        }
    }
    bytes
}

fn smoke(target: &str, folder: &str, times: usize, run: impl Fn(&[u8])) {
    let more = std::env::var("ROUNDTABLE_FUZZ").ok().and_then(|more| more.parse::<usize>().ok());
    let seed = target.bytes().map(u64::from).sum::<u64>() + more.unwrap_or(0) as u64 * 7_919;
    let (mut drawn, words) = (Drawn::new(seed), words());
    let mut seeds = files(&format!("fuzz/seeds/{target}"));
    if !folder.is_empty() {
        seeds.extend(files(folder));
    }
    for _ in 0..times * more.unwrap_or(1) {
        let bytes = input(&mut drawn, &seeds, &words);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&bytes)));
        if outcome.is_err() {
            panic!("{target} breaks on {:?}", String::from_utf8_lossy(&bytes));
        }
    }
}

#[test]
fn wire_codecs_keep_their_promises() {
    smoke("websocket", "", 3_000, fuzz::websocket::run);
    smoke("handshake", "", 1_000, fuzz::handshake::run);
    smoke("proxies", "", 2_000, fuzz::proxies::run);
    smoke("engineio", "", 3_000, fuzz::engineio::run);
    smoke("socketio", "", 3_000, fuzz::socketio::run);
}

#[test]
fn what_is_kept_and_configured_keeps_its_promises() {
    smoke("records", "", 2_000, fuzz::records::run);
    smoke("settings", "", 300, fuzz::settings::run);
    smoke("credentials", "", 2_000, fuzz::credentials::run);
}

#[test]
fn sessions_keep_their_promises() {
    let dialects = [
        ("mxf", Dialect::Mxf),
        ("aiwm", Dialect::Aiwm),
        ("hive", Dialect::Hive),
        ("open-agi", Dialect::OpenAgi),
        ("megabot", Dialect::MegaBot),
    ];
    for (name, dialect) in dialects {
        let target = format!("session_{}", name.replace('-', "_"));
        smoke(&target, &format!("conformance/{name}"), 200, |data| fuzz::play::run(dialect, data));
    }
    smoke("packed", "", 400, fuzz::play::packed);
    smoke("requests", "", 400, fuzz::requests::run);
}

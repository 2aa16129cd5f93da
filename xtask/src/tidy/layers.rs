//! Rules that keep the layers apart: what core and dialects may depend on, touch and name.

use super::DIALECTS;
use super::source::{code_lines, imports, words};
use crate::tree::Tree;

const CORE: &str = "crates/roundtable-core/";
const WIRE: &str = "crates/roundtable-dialects/";
/// The one file that reads the time and draws random numbers.
const CLOCK: &str = "crates/roundtable/src/clock.rs";

/// What the rules may be built from: data structures, their serialisation, hashes, errors. Nothing that does I/O.
const CORE_MAY_USE: [&str; 6] = ["imbl", "serde", "serde_json", "sha2", "smallvec", "thiserror"];
/// What the codecs may be built from besides: bytes, hashes, compression, dates.
const WIRE_MAY_USE: [&str; 12] = [
    "base64",
    "bytes",
    "flate2",
    "jiff",
    "roundtable-core",
    "serde",
    "serde_json",
    "sha1",
    "sha2",
    "simdutf8",
    "smallvec",
    "thiserror",
];

/// The outside world: sockets, files, threads, time, surroundings. Addresses as values are fine.
const OUTSIDE: [&str; 16] = [
    "tokio",
    "axum",
    "hyper",
    "rusqlite",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::net::ToSocketAddrs",
    "std::fs",
    "std::thread",
    "std::process",
    "std::env",
    "std::os",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::sync::mpsc",
];

/// Calls that read a clock or draw a random number, by how they end.
const CLOCK_READS: [&str; 8] = [
    "Instant::now",
    "SystemTime::now",
    "Timestamp::now",
    "Zoned::now",
    "getrandom::fill",
    "getrandom::u64",
    "rand::random",
    "OsRng",
];

/// Core and dialects depend on listed crates only.
pub fn dependencies_are_listed(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (folder, allowed) in [(CORE, CORE_MAY_USE.as_slice()), (WIRE, WIRE_MAY_USE.as_slice())] {
        let path = format!("{folder}Cargo.toml");
        let manifest = tree.get(&path).map_or("", |file| file.text.as_str());
        for (number, name) in dependencies(manifest) {
            if !allowed.contains(&name) {
                found.push(format!("{path}:{number}: `{name}` is not among the crates this one may use (xtask/src/tidy/layers.rs)"));
            }
        }
    }
    found
}

/// The names in the sections that the product is built with; `[dev-dependencies]` are for tests.
fn dependencies(manifest: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut inside = false;
    (1..).zip(manifest.lines()).filter_map(move |(number, line)| {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end().trim_end_matches(']');
            inside = section.ends_with("dependencies") && !section.ends_with("dev-dependencies");
            let name = section
                .split_once("dependencies.")
                .filter(|(kind, _)| !kind.ends_with("dev-"))
                .map(|(_, name)| name);
            return name.map(|name| (number, name));
        }
        let name = line.split(['.', '=', ' ']).next().unwrap_or("");
        (inside && !name.is_empty() && !name.starts_with('#')).then_some((number, name))
    })
}

/// Core and dialects touch no socket, file, thread or clock, not even through the standard library.
pub fn inner_crates_touch_no_outside(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, file) in tree.rust(CORE).chain(tree.rust(WIRE)).filter(|(path, _)| path.contains("/src/")) {
        for (number, import) in imports(&file.text) {
            if let Some(what) = OUTSIDE.iter().find(|what| starts_with_path(&import, what)) {
                found.push(format!(
                    "{path}:{number}: imports `{what}`; this crate does no I/O and reads no clock"
                ));
            }
        }
        for (number, line) in code_lines(&file.text) {
            if let Some(what) = OUTSIDE.iter().find(|what| names_path(line, what)) {
                found.push(format!(
                    "{path}:{number}: uses `{what}`; this crate does no I/O and reads no clock"
                ));
            }
        }
    }
    found
}

fn starts_with_path(path: &str, what: &str) -> bool {
    path.strip_prefix(what)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::") || rest.starts_with(' '))
}

/// Whether a line uses the path in place, as `std::fs::read(…)` does; imports are looked at apart.
fn names_path(line: &str, what: &str) -> bool {
    if line.trim_start().starts_with("use ") || line.trim_start().starts_with("pub use ") {
        return false;
    }
    line.match_indices(what).any(|(at, _)| {
        let before = line.get(..at).and_then(|head| head.chars().next_back());
        let after = line.get(at + what.len()..).unwrap_or("");
        before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':') && after.starts_with("::")
    })
}

/// Time and randomness enter through one file, so that everything behind it can be replayed.
pub fn one_clock(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, file) in tree.rust("crates/").filter(|(path, _)| path.contains("/src/") && *path != CLOCK) {
        for (number, line) in code_lines(&file.text) {
            if let Some(what) = CLOCK_READS.iter().find(|what| line.contains(*what)) {
                found.push(format!("{path}:{number}: `{what}` outside {CLOCK}"));
            }
        }
    }
    found
}

/// The core knows verbs, not who speaks them. Comments may name the document that a rule comes from.
pub fn core_names_no_dialect(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, file) in tree.rust(&format!("{CORE}src/")) {
        for (number, line) in code_lines(&file.text) {
            if let Some(dialect) = DIALECTS.iter().find(|dialect| names(line, dialect.module)) {
                found.push(format!(
                    "{path}:{number}: names the dialect `{}`; the core knows none",
                    dialect.module
                ));
            }
        }
    }
    found
}

/// Whether a line has a dialect's name as a word, in whatever case and with or without its underscore.
pub fn names(line: &str, module: &str) -> bool {
    let words = words(line);
    let joined = module.replace('_', "");
    let apart: Vec<&str> = module.split('_').collect();
    words.contains(&joined) || words.windows(apart.len()).any(|window| window == apart.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unlisted_dependency_is_found() {
        let core = "[package]\nname = \"x\"\n[dependencies]\nimbl.workspace = true\ntokio = \"1\"\n[dev-dependencies]\nproptest = \"1\"\n";
        let wire = "[dependencies]\nbytes.workspace = true\n[target.'cfg(unix)'.dependencies]\nlibc = \"1\"\n[dependencies.axum]\n";
        let tree = Tree::of(&[
            ("crates/roundtable-core/Cargo.toml", core),
            ("crates/roundtable-dialects/Cargo.toml", wire),
        ]);
        let found = dependencies_are_listed(&tree);
        assert_eq!(found.len(), 3, "{found:?}");
        for (finding, name) in found.iter().zip(["`tokio`", "`libc`", "`axum`"]) {
            assert!(finding.contains(name), "{finding}");
        }
    }

    #[test]
    fn touching_the_outside_is_found() {
        let bad = "//! x\nuse std::{fmt, fs::File};\nuse tokio::sync::mpsc;\nfn f() { let t = std::time::Instant::now(); }\n";
        let fine = "//! std::fs is not for here.\nuse std::net::IpAddr;\nlet stdx = mystd::fs::x; // std::fs::read\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
        let tree = Tree::of(&[
            ("crates/roundtable-core/src/bad.rs", bad),
            ("crates/roundtable-dialects/src/fine.rs", fine),
        ]);
        let found = inner_crates_touch_no_outside(&tree);
        let starts: Vec<_> = found.iter().map(|finding| finding.split(';').next().unwrap_or("")).collect();
        assert_eq!(
            starts,
            [
                "crates/roundtable-core/src/bad.rs:2: imports `std::fs`",
                "crates/roundtable-core/src/bad.rs:3: imports `tokio`",
                "crates/roundtable-core/src/bad.rs:4: uses `std::time::Instant`",
            ]
        );
    }

    #[test]
    fn a_second_clock_is_found() {
        let read = "//! x\nfn f() { let t = Instant::now(); }\n";
        let tree = Tree::of(&[(CLOCK, read), ("crates/roundtable/src/runner.rs", read)]);
        let found = one_clock(&tree);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found.iter().all(|finding| finding.starts_with("crates/roundtable/src/runner.rs:2:")));
    }

    #[test]
    fn a_dialect_in_the_core_is_found() {
        let text = "//! x\nstruct HiveFrame;\nfn open_agi() {}\nenum OpenAgi {}\nfn archive() {} // unlike MXF\nfn openly() {}\n";
        let found = core_names_no_dialect(&Tree::of(&[("crates/roundtable-core/src/agents.rs", text)]));
        let lines: Vec<_> = found.iter().filter_map(|finding| finding.split(':').nth(1)).collect();
        assert_eq!(lines, ["2", "3", "4"]);
    }
}

//! Rules about files: what they begin with and how big they get.

use super::source::product_lines;
use crate::tree::Tree;

/// A file with more product lines than this has a second thing in it that wants its own room.
const LINES: usize = 600;
/// Bigger files slow every clone down for ever, in bytes.
const BYTES: u64 = 512 * 1024;

/// Every Rust file says in its first line what it is for.
pub fn open_with_their_purpose(tree: &Tree) -> Vec<String> {
    let silent = |text: &str| {
        text.lines()
            .next()
            .is_none_or(|line| line.trim_start_matches("//!").trim().is_empty() || !line.starts_with("//! "))
    };
    own_rust(tree)
        .filter(|(_, text)| silent(text))
        .map(|(path, _)| format!("{path}:1: the file does not open with `//!` and what it is for"))
        .collect()
}

/// Product code stays within [`LINES`] lines per file; tests do not count.
pub fn stay_short(tree: &Tree) -> Vec<String> {
    own_rust(tree)
        .filter(|(path, _)| !path.contains("/tests/") && !path.ends_with("/tests.rs"))
        .map(|(path, text)| (path, product_lines(text).count()))
        .filter(|(_, lines)| *lines > LINES)
        .map(|(path, lines)| format!("{path}: {lines} lines without tests, at most {LINES}"))
        .collect()
}

/// No file of the project is bigger than [`BYTES`].
pub fn stay_small(tree: &Tree) -> Vec<String> {
    tree.files()
        .filter(|(_, file)| file.bytes > BYTES)
        .map(|(path, file)| format!("{path}: {} bytes, at most {BYTES}", file.bytes))
        .collect()
}

fn own_rust(tree: &Tree) -> impl Iterator<Item = (&str, &str)> {
    tree.rust("crates/").chain(tree.rust("xtask/")).map(|(path, file)| (path, file.text.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_purpose_is_found() {
        let tree = Tree::of(&[
            ("crates/a/src/good.rs", "//! Adds numbers.\n"),
            ("crates/a/src/silent.rs", "use std::fmt;\n"),
            ("crates/a/src/hollow.rs", "//!\n"),
            ("xtask/src/empty.rs", ""),
            ("bench/src/other.rs", "fn main() {}\n"),
        ]);
        let found = open_with_their_purpose(&tree);
        let paths: Vec<_> = found.iter().filter_map(|finding| finding.split(':').next()).collect();
        assert_eq!(paths, ["crates/a/src/hollow.rs", "crates/a/src/silent.rs", "xtask/src/empty.rs"]);
    }

    #[test]
    fn a_long_file_is_found_and_tests_do_not_count() {
        let long = "x\n".repeat(LINES + 1);
        let tested = format!("{}#[cfg(test)]\nmod tests {{\n{long}}}\n", "x\n".repeat(LINES));
        let tree = Tree::of(&[
            ("crates/a/src/long.rs", &long),
            ("crates/a/src/tested.rs", &tested),
            ("crates/a/src/long/tests.rs", &long),
            ("crates/a/tests/all.rs", &long),
        ]);
        assert_eq!(stay_short(&tree), ["crates/a/src/long.rs: 601 lines without tests, at most 600"]);
    }

    #[test]
    fn a_big_file_is_found_wherever_it_is() {
        let big = "x".repeat(512 * 1024 + 1);
        let tree = Tree::of(&[("docs/picture.svg", &big), ("docs/small.svg", "x")]);
        assert_eq!(stay_small(&tree), ["docs/picture.svg: 524289 bytes, at most 524288"]);
    }
}

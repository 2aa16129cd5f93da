//! Rules about words: none that say nothing, none that promise work for later.

use super::source::words;
use crate::tree::Tree;

/// Endings of type names that say nothing about what the type is.
const EMPTY: [&str; 4] = ["manager", "service", "util", "helper"];
/// Marks of work left for later. Put together here, so that this file has none itself.
const LATER: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
/// Where words are the project's own and can be read.
const READ: [&str; 9] = [".rs", ".md", ".toml", ".mjs", ".js", ".ts", ".py", ".sh", ".css"];

/// Type names say what the type is, and no file leaves work for later.
pub fn are_ours(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for (path, file) in tree.files().filter(|(path, _)| READ.iter().any(|end| path.ends_with(end))) {
        for (number, line) in (1..).zip(file.text.lines()) {
            let mut signs = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            if let Some(mark) = signs.find(|word| LATER.contains(word)) {
                found.push(format!("{path}:{number}: `{mark}`: do it now or say in words what is missing"));
            }
            if let Some(name) = defined_type(line).filter(|_| path.ends_with(".rs"))
                && let Some(word) =
                    words(name).iter().find(|word| EMPTY.contains(&word.trim_end_matches('s')))
            {
                found.push(format!("{path}:{number}: `{name}`: `{word}` says nothing about what it is"));
            }
        }
    }
    found
}

/// The name that a line gives to a new type.
fn defined_type(line: &str) -> Option<&str> {
    let mut signs = line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    let known = ["pub", "crate", "super", "in", "unsafe"];
    let keyword = signs.find(|word| !known.contains(word))?;
    ["struct", "enum", "trait", "type", "union", "mod"].contains(&keyword).then(|| signs.next()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_says_nothing_is_found() {
        let text = "pub struct ConnectionManager;\npub(crate) enum Kind { Service }\nmod utils;\nuse tower::Service;\ntrait TaskHelper {}\n";
        let found = are_ours(&Tree::of(&[("crates/a/src/b.rs", text)]));
        let lines: Vec<_> = found.iter().filter_map(|finding| finding.split(':').nth(1)).collect();
        assert_eq!(lines, ["1", "3", "5"]);
    }

    #[test]
    fn work_for_later_is_found() {
        let mark = LATER[0];
        let (code, prose) = (format!("fn f() {{}} // {mark}: more\n"), format!("{mark}\n"));
        let tree = Tree::of(&[
            ("crates/a/src/b.rs", &code),
            ("docs/a.md", &prose),
            ("docs/b.md", "all done, mastodon\n"),
        ]);
        let found = are_ours(&tree);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|finding| finding.contains(":1: ")));
    }
}

//! Rules about the dialects: the same files in each, no word of one in another, a page for each.

use super::DIALECTS;
use super::layers::names;
use super::source::code_lines;
use crate::tree::Tree;

const SRC: &str = "crates/roundtable-dialects/src/";
/// Files that every dialect has.
const ALWAYS: [&str; 3] = ["wire", "encode", "errors"];
/// Files that a dialect may have besides, with the same meaning in each.
const SOMETIMES: [&str; 6] = ["input", "login", "reply", "rest", "route", "tests"];

/// Who knows one dialect's folder knows all five. A dialect that has neither file nor folder yet is left alone.
pub fn have_the_same_files(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for dialect in &DIALECTS {
        let (session, folder) = (format!("{SRC}{}.rs", dialect.module), format!("{SRC}{}/", dialect.module));
        if tree.get(&session).is_none() && tree.under(&folder).next().is_none() {
            continue;
        }
        let expected = ALWAYS.iter().map(|name| format!("{folder}{name}.rs")).chain([session]);
        found.extend(expected.filter(|path| tree.get(path).is_none()).map(|path| format!("{path}: missing")));
        for (path, _) in tree.rust(&folder) {
            let name = path.trim_start_matches(&folder).split(['/', '.']).next().unwrap_or("");
            if !ALWAYS.contains(&name) && !SOMETIMES.contains(&name) {
                found.push(format!("{path}: no other dialect has a `{name}`; the names are listed in xtask/src/tidy/dialects.rs"));
            }
        }
    }
    found
}

/// A dialect's words live in its own folder and nowhere else.
pub fn do_not_name_each_other(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for own in &DIALECTS {
        let (session, folder) = (format!("{SRC}{}.rs", own.module), format!("{SRC}{}/", own.module));
        for (path, file) in tree.rust(SRC).filter(|(path, _)| *path == session || path.starts_with(&folder)) {
            for (number, line) in code_lines(&file.text) {
                if let Some(other) =
                    DIALECTS.iter().find(|other| other.module != own.module && names(line, other.module))
                {
                    found.push(format!("{path}:{number}: names the dialect `{}`", other.module));
                }
            }
        }
    }
    found
}

/// Every dialect has its page for the people who point a client at it.
pub fn are_documented(tree: &Tree) -> Vec<String> {
    let pages = DIALECTS.iter().map(|dialect| format!("docs/dialects/{}.md", dialect.folder));
    pages.filter(|page| tree.get(page).is_none()).map(|page| format!("{page}: missing")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(name: &str) -> String {
        format!("{SRC}{name}")
    }

    #[test]
    fn a_missing_and_a_strange_file_are_found() {
        let paths =
            ["hive.rs", "hive/wire.rs", "hive/encode.rs", "hive/encode/lists.rs", "hive/stuff.rs"].map(at);
        let samples: Vec<_> = paths.iter().map(|path| (path.as_str(), "")).collect();
        let found = have_the_same_files(&Tree::of(&samples));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().any(|finding| *finding == format!("{SRC}hive/errors.rs: missing")), "{found:?}");
        assert!(
            found.iter().any(|finding| finding.starts_with(&format!("{SRC}hive/stuff.rs: no other"))),
            "{found:?}"
        );
    }

    #[test]
    fn a_dialect_that_names_another_is_found() {
        let (mxf, wire) = (at("mxf.rs"), at("aiwm/wire.rs"));
        let tree = Tree::of(&[
            (&mxf, "//! MXF beside AIWM\nuse crate::aiwm::wire;\n// as hive does\nfn archive() {}\n"),
            (&wire, "//! x\nstruct MegabotFrame;\n"),
        ]);
        let found = do_not_name_each_other(&tree);
        assert_eq!(
            found,
            [format!("{mxf}:2: names the dialect `aiwm`"), format!("{wire}:2: names the dialect `megabot`")]
        );
    }

    #[test]
    fn a_missing_page_is_found() {
        let pages = ["mxf", "aiwm", "hive", "megabot"].map(|name| format!("docs/dialects/{name}.md"));
        let samples: Vec<_> = pages.iter().map(|path| (path.as_str(), "")).collect();
        assert_eq!(are_documented(&Tree::of(&samples)), ["docs/dialects/open-agi.md: missing"]);
    }
}

//! The house rules that neither the compiler nor clippy keeps. One file per theme, one function per rule.

mod dialects;
mod files;
mod layers;
mod source;
mod words;

use std::path::Path;

use crate::steps::root;
use crate::tree::Tree;

/// A dialect's two names: of its Rust module, and of its folder under `conformance/` and page under `docs/dialects/`.
#[derive(Debug)]
pub struct Dialect {
    /// `open_agi`
    pub module: &'static str,
    /// `open-agi`
    pub folder: &'static str,
}

/// The five dialects.
pub const DIALECTS: [Dialect; 5] = [
    Dialect { module: "mxf", folder: "mxf" },
    Dialect { module: "aiwm", folder: "aiwm" },
    Dialect { module: "hive", folder: "hive" },
    Dialect { module: "open_agi", folder: "open-agi" },
    Dialect { module: "megabot", folder: "megabot" },
];

/// A rule looks at the whole project and says what breaks it, each time beginning with `path:` or `path:line:`.
type Rule = fn(&Tree) -> Vec<String>;

const RULES: [Rule; 11] = [
    files::open_with_their_purpose,
    files::stay_short,
    files::stay_small,
    layers::dependencies_are_listed,
    layers::inner_crates_touch_no_outside,
    layers::one_clock,
    layers::core_names_no_dialect,
    dialects::have_the_same_files,
    dialects::do_not_name_each_other,
    dialects::are_documented,
    words::are_ours,
];

/// `cargo x tidy`: the rules alone.
pub fn command() -> Result<(), String> {
    check(&root()?)
}

/// Applies all rules; an error lists everything found.
pub fn check(root: &Path) -> Result<(), String> {
    let tree = Tree::read(root)?;
    let findings: Vec<String> = RULES.iter().flat_map(|rule| rule(&tree)).collect();
    if findings.is_empty() { Ok(()) } else { Err(findings.join("\n")) }
}

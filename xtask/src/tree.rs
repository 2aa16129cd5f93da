//! The project's files as the house rules see them: path, size, and text where there is text.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Endings of the files whose text is read.
const TEXT: [&str; 15] =
    ["rs", "toml", "md", "txt", "mjs", "js", "ts", "py", "sh", "json", "html", "css", "yml", "yaml", "sql"];
/// Folders that are never the project's own; only looked at when there is no git to ask.
const FOREIGN: [&str; 5] = [".git", "target", "node_modules", ".venv", "__pycache__"];

/// One file of the project.
#[derive(Debug, Default)]
pub struct File {
    /// Size in bytes.
    pub bytes: u64,
    /// The text; empty for files that are not text.
    pub text: String,
}

/// All files of the project by their path from the top, with `/` between the parts.
#[derive(Debug, Default)]
pub struct Tree {
    files: BTreeMap<String, File>,
}

impl Tree {
    /// Reads the files that git knows or would add; without git, everything outside build and package folders.
    pub fn read(root: &Path) -> Result<Self, String> {
        let mut tree = Self::default();
        for path in listed_by_git(root).map_or_else(|| walked(root, ""), Ok)? {
            let at = root.join(&path);
            // A file deleted but not yet committed is still listed.
            let Ok(meta) = fs::symlink_metadata(&at) else { continue };
            if !meta.is_file() {
                continue;
            }
            let is_text =
                Path::new(&path).extension().is_some_and(|end| TEXT.iter().any(|text| end == *text));
            let text = if is_text {
                let raw = fs::read(&at).map_err(|error| format!("{path}: {error}"))?;
                String::from_utf8_lossy(&raw).into_owned()
            } else {
                String::new()
            };
            tree.files.insert(path, File { bytes: meta.len(), text });
        }
        Ok(tree)
    }

    /// A tree out of samples: what the tests of the rules look at.
    #[cfg(test)]
    pub fn of(samples: &[(&str, &str)]) -> Self {
        let file = |text: &str| File { bytes: text.len() as u64, text: text.to_owned() };
        Self { files: samples.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect() }
    }

    /// All files in the order of their paths.
    pub fn files(&self) -> impl Iterator<Item = (&str, &File)> {
        self.files.iter().map(|(path, file)| (path.as_str(), file))
    }

    /// The files below a folder, written with its closing `/`.
    pub fn under<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = (&'a str, &'a File)> {
        self.files().filter(move |(path, _)| path.starts_with(folder))
    }

    /// The Rust files below a folder, written with its closing `/`.
    pub fn rust<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = (&'a str, &'a File)> {
        self.under(folder).filter(|(path, _)| path.ends_with(".rs"))
    }

    /// One file, if there is such a file.
    pub fn get(&self, path: &str) -> Option<&File> {
        self.files.get(path)
    }
}

fn listed_by_git(root: &Path) -> Option<Vec<String>> {
    let listing = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").current_dir(root).args(listing).output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    let paths: Vec<String> = text.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect();
    (!paths.is_empty()).then_some(paths)
}

fn walked(root: &Path, below: &str) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(root.join(below)).map_err(|error| format!("{below}: {error}"))?;
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| format!("{below}: {error}"))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{below}{name}");
        let kind = entry.file_type().map_err(|error| format!("{path}: {error}"))?;
        if kind.is_file() {
            paths.push(path);
        } else if kind.is_dir() && !FOREIGN.contains(&name.as_str()) {
            paths.extend(walked(root, &format!("{path}/"))?);
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
    }

    #[test]
    fn reads_this_project() {
        let tree = Tree::read(here()).unwrap();
        let own = tree.get("xtask/src/tree.rs").unwrap();
        assert!(own.text.starts_with("//! The project's files"));
        assert_eq!(own.bytes, own.text.len() as u64);
        assert!(tree.rust("xtask/").all(|(path, _)| path.ends_with(".rs")));
    }

    #[test]
    fn without_git_build_folders_are_left_out() {
        let paths = walked(here(), "").unwrap();
        assert!(paths.contains(&"xtask/src/tree.rs".to_owned()));
        assert!(!paths.iter().any(|path| path.contains("node_modules/") || path.starts_with(".git/")));
    }
}

//! Rust text as the rules need it: without tests, without comments, names resolved out of `use` trees.

/// The lines that are not tests, with their numbers from 1: a `#[cfg(test)] mod … { … }` at the left margin is left out.
pub fn product_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut marked = false;
    let mut inside = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        if inside {
            inside = *line != "}";
            return false;
        }
        if marked && line.starts_with("mod ") {
            inside = line.ends_with('{');
            marked = false;
            return false;
        }
        // Other attributes may stand between the mark and the module.
        marked = line.starts_with("#[cfg(test)]") || marked && line.starts_with("#[");
        !marked
    })
}

/// As [`product_lines`], without what follows `//`. A `//` within a string ends its line too, which no rule minds.
pub fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    product_lines(text).map(|(number, line)| (number, line.split_once("//").map_or(line, |(code, _)| code)))
}

/// Every path that the code imports, written out: `use a::{b, c::d};` gives `a::b` and `a::c::d`, each with its line.
pub fn imports(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in code_lines(text) {
        let line = line.trim();
        let (start, so_far) = match open.take() {
            Some((start, so_far)) => (start, so_far + line),
            None => match after_use(line) {
                Some(rest) => (number, rest.to_owned()),
                None => continue,
            },
        };
        match so_far.split_once(';') {
            Some((tree, _)) => expand("", tree, &mut |path| found.push((start, path))),
            None => open = Some((start, so_far)),
        }
    }
    found
}

fn after_use(line: &str) -> Option<&str> {
    let line =
        line.strip_prefix("pub").map_or(line, |rest| rest.trim_start_matches(|c| c != ' ').trim_start());
    line.strip_prefix("use ")
}

fn expand(prefix: &str, tree: &str, found: &mut dyn FnMut(String)) {
    let tree = tree.trim();
    match tree.split_once('{') {
        None if tree.is_empty() => {}
        None => found(format!("{prefix}{tree}")),
        Some((head, rest)) => {
            let inner = rest.trim_end().strip_suffix('}').unwrap_or(rest);
            let prefix = format!("{prefix}{head}");
            for part in parts(inner) {
                expand(&prefix, part, found);
            }
        }
    }
}

/// Splits at the commas that are in no inner braces.
fn parts(list: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    list.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    })
    .collect()
}

/// The words in a piece of code: `HiveFrame::new_one` gives `hive`, `frame`, `new`, `one`.
pub fn words(code: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut lower_before = false;
    for c in code.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && lower_before) {
            words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
        }
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        }
        lower_before = c.is_lowercase() || c.is_numeric();
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_not_product() {
        let text = "fn a() {}\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n#[cfg(test)]\nmod d;\nfn e() {}\n";
        let lines: Vec<_> = product_lines(text).map(|(_, line)| line).collect();
        assert_eq!(lines, ["fn a() {}", "fn c() {}", "fn e() {}"]);
    }

    #[test]
    fn comments_are_not_code() {
        let lines: Vec<_> =
            code_lines("let a = 1; // std::fs\n/// std::fs\nb\n").map(|(_, line)| line).collect();
        assert_eq!(lines, ["let a = 1; ", "", "b"]);
    }

    #[test]
    fn use_trees_are_written_out() {
        let text = "use a::b;\npub(crate) use c::{d, e::{f, g},\n    h::i as j};\nfn use_it() {}\n";
        let paths: Vec<_> = imports(text).into_iter().map(|(_, path)| path).collect();
        assert_eq!(paths, ["a::b", "c::d", "c::e::f", "c::e::g", "c::h::i as j"]);
    }

    #[test]
    fn words_are_split_at_case_and_signs() {
        assert_eq!(words("HiveFrame::new_one(archive)"), ["hive", "frame", "new", "one", "archive"]);
    }
}

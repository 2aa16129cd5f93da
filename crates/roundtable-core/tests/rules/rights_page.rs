//! Writing a part of `docs/rights.md` from what a test has played.

use std::path::Path;

/// Puts a part into `docs/rights.md`; fails if it was another one.
pub fn show(part: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/rights.md");
    let before = std::fs::read_to_string(&file).unwrap();
    let (begin, end) = (format!("<!-- {part}: written by a test -->\n"), format!("<!-- end of {part} -->\n"));
    let (head, rest) = before.split_once(&begin).expect("the beginning of the part");
    let (_, tail) = rest.split_once(&end).expect("the end of the part");
    let after = format!("{head}{begin}{text}\n{end}{tail}");
    if after != before {
        std::fs::write(&file, after).unwrap();
        panic!("docs/rights.md was written anew: look at what changed, and commit it");
    }
}

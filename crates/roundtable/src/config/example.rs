//! The example file: every setting with its default and meaning, generated so that it cannot fall behind.

use std::fmt::Write as _;

use crate::config::Config;

/// The text of `roundtable.example.toml`. All keys are commented out: the file changes nothing as it stands.
pub fn example() -> String {
    let mut text = String::from(
        "# Every setting of Roundtable with its default. Generated; remove the `#` before a key to change it.\n\
         # The same by variable: ROUNDTABLE_SECTION_KEY, and by argument: --set section.key=value; the later of file, variable\n\
         # and argument wins. Times: 200ms (the least), 5s, 15m, 24h, 7d. Sizes: bytes, 16KiB, 1MiB. Rates: a number or \"off\".\n",
    );
    for (section, about, keys) in Config::documented() {
        text.push('\n');
        comment(&mut text, about);
        let _ = writeln!(text, "[{section}]");
        for key in keys {
            comment(&mut text, key.doc);
            let _ = writeln!(text, "#{} = {}", key.name, key.default);
        }
    }
    text
}

fn comment(text: &mut String, lines: &[&str]) {
    for line in lines {
        let _ = writeln!(text, "#{}", line.trim_end());
    }
}

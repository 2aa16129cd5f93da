//! Settings: whatever stands in the file, the environment and the arguments, there are settings or a list of problems, and
//! settings written down are read back the same.

use std::path::PathBuf;

use roundtable::config::{Config, Listener, Sources, Span};

/// Lines with `+` in front are arguments of `--set`, with `!` of `--listen`, `NAME=…` in capitals are variables; the others
/// are the file.
pub fn run(data: &[u8]) {
    let file = std::env::temp_dir().join(format!("roundtable-fuzz-{}.toml", std::process::id()));
    let text = String::from_utf8_lossy(data);
    let mut sources = Sources { file: Some(file.clone()), ..Sources::default() };
    let mut kept = String::new();
    for line in text.lines().take(128) {
        if let Some(rest) = line.strip_prefix('+') {
            sources.set.push(rest.to_owned());
        } else if let Some(rest) = line.strip_prefix('!') {
            sources.listen.push(rest.to_owned());
        } else if let Some((name, value)) = line.split_once('=').filter(|(name, _)| name.starts_with("ROUND"))
        {
            sources.environment.push((name.to_owned(), value.to_owned()));
        } else {
            kept.push_str(line);
            kept.push('\n');
        }
        listener(line.trim_start_matches('!'));
        if let Ok(span) = Span::parse(line) {
            assert_eq!(Span::parse(&span.to_string()), Ok(span));
        }
    }
    std::fs::write(&file, kept).unwrap();
    match Config::load(&sources) {
        Ok(config) => again(&config, file),
        Err(problems) => assert!(!problems.0.is_empty() && problems.0.iter().all(|line| !line.is_empty())),
    }
}

fn listener(text: &str) {
    if let Ok(listener) = text.parse::<Listener>() {
        assert_eq!(listener.to_string().parse::<Listener>().as_ref(), Ok(&listener), "{text}");
    }
}

fn again(config: &Config, file: PathBuf) {
    let Ok(text) = toml::to_string(config) else { return };
    std::fs::write(&file, &text).unwrap();
    let read = Config::load(&Sources { file: Some(file), ..Sources::default() });
    assert_eq!(read.as_ref(), Ok(config), "{text}");
}

//! Filling the settings: file, then environment, then command line; all problems are told at once.

use std::fmt;
use std::path::PathBuf;

use crate::config::Config;
use crate::config::listen::{Listener, Listeners};
use crate::config::section::Given;
use crate::tls::Pairs;

/// Where settings come from, in rising precedence.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file, if one is named.
    pub file: Option<PathBuf>,
    /// Variables of the environment; those that begin with `ROUNDTABLE_` and a section's name count.
    pub environment: Vec<(String, String)>,
    /// `section.key=value`, in order.
    pub set: Vec<String>,
    /// `ADDRESS[=MEANING]`; any replace the list of listeners.
    pub listen: Vec<String>,
    /// Levels of what is logged, `LEVEL` or `PART=LEVEL`, laid over those of the settings.
    pub log: Vec<String>,
    /// The data directory.
    pub data: Option<PathBuf>,
}

impl Sources {
    /// The environment of this process, nothing else.
    pub fn from_environment() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self { environment: std::env::vars_os().filter_map(text).collect(), ..Self::default() }
    }
}

/// Everything that is wrong with the settings, one line each, with the place it was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Problems(pub Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Problems {}

struct Filling {
    config: Config,
    problems: Vec<String>,
    /// Keys that kept their default because what was given for them is wrong.
    kept: Vec<String>,
}

impl Filling {
    fn set(&mut self, place: &str, (section, key): (&str, &str), value: &Given<'_>) {
        match self.config.set(section, key, value) {
            Some(Ok(())) if (section, key) == ("server", "listen") => {
                let wrong = self.config.server.listen.wrong().iter();
                self.problems.extend(wrong.map(|what| format!("{place}: server.listen: {what}")));
            }
            Some(Ok(())) => {}
            Some(Err(what)) => {
                self.problems.push(format!("{place}: {section}.{key}: {what}"));
                self.kept.push(format!("{section}.{key}"));
            }
            None => self.problems.push(format!("{place}: there is no setting {section}.{key}")),
        }
    }

    fn file(&mut self, path: &std::path::Path) {
        let place = path.display().to_string();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.problems.push(format!("{place}: cannot be read: {error}")),
        };
        let table = match text.parse::<toml::Table>() {
            Ok(table) => table,
            Err(error) => return self.problems.push(format!("{place}: {}", error.to_string().trim())),
        };
        for (section, value) in &table {
            match value {
                toml::Value::Table(keys) if Config::SECTIONS.contains(&section.as_str()) => {
                    for (key, value) in keys {
                        self.set(&place, (section, key), &Given::Toml(value));
                    }
                }
                _ => self.problems.push(format!("{place}: there is no section [{section}]")),
            }
        }
    }

    /// `ROUNDTABLE_SOCKETIO_PING_INTERVAL`. Other variables with that beginning are left alone, since orchestrators set some
    /// (`ROUNDTABLE_PORT`, `ROUNDTABLE_SERVICE_HOST`) for a program of this name; but not those that end like a setting, or
    /// nearly begin like one.
    fn variable(&mut self, name: &str, value: &str) {
        let Some(rest) = name.strip_prefix("ROUNDTABLE_") else { return };
        let lower = rest.to_ascii_lowercase();
        let Some((section, key)) = lower.split_once('_') else { return };
        if Config::SECTIONS.contains(&section) {
            return self.set(name, (section, key), &Given::Text(value));
        }
        let near = Config::SECTIONS.iter().find(|known| slip(known, section));
        let ends = Config::documented()
            .into_iter()
            .find(|(_, _, keys)| keys.iter().any(|known| key.contains('_') && known.name == key));
        if let Some(meant) = near.copied().or(ends.map(|(section, ..)| section)) {
            let problem = format!("{name}: there is no section `{section}`; is `{meant}` meant?");
            self.problems.push(problem);
        }
    }

    fn argument(&mut self, text: &str) {
        let place = format!("--set {text}");
        let pair =
            text.split_once('=').and_then(|(key, value)| Some((key.trim().split_once('.')?, value.trim())));
        match pair {
            Some((key, value)) => self.set("--set", key, &Given::Text(value)),
            None => self.problems.push(format!("{place}: must be section.key=value")),
        }
    }

    fn listeners(&mut self, texts: &[String]) {
        let mut listeners = Vec::new();
        for text in texts {
            match text.parse::<Listener>() {
                Ok(listener) => listeners.push(listener),
                Err(what) => self.problems.push(format!("--listen {text}: {what}")),
            }
        }
        if !listeners.is_empty() {
            self.config.server.listen = Listeners::of(listeners);
        }
    }

    /// What only shows when all values are there. A value that nobody gave contradicts nothing.
    fn whole(&mut self) {
        let given = |what: &String| !self.kept.iter().any(|key| what.contains(key.as_str()));
        self.problems.extend(self.config.contradictions().into_iter().filter(given));
        self.problems.extend(Pairs::open(&self.config.server.listen).err().unwrap_or_default());
    }
}

/// Whether one word is the other with a letter too many, too few, wrong, or two in the wrong order.
fn slip(right: &str, written: &str) -> bool {
    let (a, b) = (right.as_bytes(), written.as_bytes());
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (a, b) = (a.get(same..).unwrap_or_default(), b.get(same..).unwrap_or_default());
    match (a, b) {
        ([x, y, a @ ..], [p, q, b @ ..]) if (x, y) == (q, p) && a == b => true,
        ([_, a @ ..], [_, b @ ..]) if a == b => true,
        ([_, a @ ..], b) if a == b => true,
        (a, [_, b @ ..]) => a == b,
        _ => false,
    }
}

pub(super) fn load(sources: &Sources) -> Result<Config, Problems> {
    let mut filling = Filling { config: Config::default(), problems: Vec::new(), kept: Vec::new() };
    if let Some(path) = &sources.file {
        filling.file(path);
    }
    for (name, value) in &sources.environment {
        filling.variable(name, value);
    }
    for text in &sources.set {
        filling.argument(text);
    }
    if !sources.log.is_empty() {
        let before = filling.config.logging.level.as_str().to_owned();
        let all = [vec![before], sources.log.clone()].concat().join(",");
        filling.set("--log", ("logging", "level"), &Given::Text(&all));
    }
    filling.listeners(&sources.listen);
    if let Some(dir) = &sources.data {
        filling.config.storage.dir.clone_from(dir);
    }
    filling.whole();
    if filling.problems.is_empty() { Ok(filling.config) } else { Err(Problems(filling.problems)) }
}

//! Which settings may change while the server runs.

use crate::config::Config;
use crate::config::section::Given;

/// Those that are looked at anew by every connection, request or line; all others hold as long as the process lives.
const RELOADED: [&str; 24] = [
    "logging.level",
    "server.allowed_origins",
    "server.header_timeout",
    "server.body_timeout",
    "server.keep_alive",
    "storage.workspace_bytes",
    "storage.principal_bytes_per_minute",
    "quotas",
    "limits",
    "websocket",
    "socketio",
    "mxf",
    "aiwm",
    "megabot",
    "auth.mxf_token",
    "auth.aiwm_token",
    "auth.login_token",
    "auth.openagi_token",
    "hive.agents_per_minute",
    "hive.status_per_minute",
    "openagi.frames_per_second",
    "openagi.grace",
    "openagi.requests_per_minute",
    "openagi.requests_per_hour",
];

/// What came of reading the settings again.
#[derive(Debug)]
pub struct Reloaded {
    /// The settings in force from now on.
    pub config: Config,
    /// The names of those that changed.
    pub taken: Vec<String>,
    /// The names of those that are given differently now and hold from the next start on.
    pub left: Vec<String>,
}

impl Config {
    /// These settings with what may change of `new`.
    pub fn reloaded(&self, new: &Self) -> Reloaded {
        let table = |config: &Self| toml::Table::try_from(config).unwrap_or_default();
        let (before, after) = (table(self), table(new));
        let mut reloaded = Reloaded { config: self.clone(), taken: Vec::new(), left: Vec::new() };
        for (section, keys) in &after {
            for (key, value) in keys.as_table().into_iter().flatten() {
                if before.get(section).and_then(|keys| keys.get(key)) == Some(value) {
                    continue;
                }
                let name = format!("{section}.{key}");
                let may = RELOADED.iter().any(|known| *known == name || *known == section);
                match may.then(|| reloaded.config.set(section, key, &Given::Toml(value))) {
                    Some(Some(Ok(()))) => reloaded.taken.push(name),
                    _ => reloaded.left.push(name),
                }
            }
        }
        reloaded
    }
}

#[cfg(test)]
mod tests {
    use super::RELOADED;
    use crate::config::{Config, Sources};

    fn with(set: &[&str]) -> Config {
        let set = set.iter().map(|setting| (*setting).to_owned()).collect();
        Config::load(&Sources { set, ..Sources::default() }).unwrap()
    }

    #[test]
    fn what_may_change_does_and_the_rest_waits_for_the_next_start() {
        let (before, after) = (
            with(&["mxf.messages_per_minute=5"]),
            with(&[
                "logging.level=debug",
                "limits.queue=2MiB",
                "server.shards=3",
                "mxf.messages_per_minute=off",
            ]),
        );
        let reloaded = before.reloaded(&after);
        assert_eq!(reloaded.taken, ["limits.queue", "logging.level", "mxf.messages_per_minute"]);
        assert_eq!(reloaded.left, ["server.shards"]);
        let config = reloaded.config;
        assert_eq!((config.limits.queue.bytes(), config.mxf.messages_per_minute.most()), (2 << 20, None));
        assert_eq!((config.logging.level.as_str(), config.server.shards), ("debug", 0));
        assert!(config.reloaded(&config.clone()).taken.is_empty());
    }

    #[test]
    fn every_name_is_one_of_a_section_or_a_setting() {
        let all = Config::documented();
        for name in RELOADED {
            let known = match name.split_once('.') {
                None => all.iter().any(|(section, ..)| *section == name),
                Some((section, key)) => {
                    all.iter().any(|(known, _, keys)| *known == section && keys.iter().any(|k| k.name == key))
                }
            };
            assert!(known, "{name}");
        }
    }
}

//! The settings in force, for the operator.

use axum::extract::State as Shared;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::admin::answer::json_response;
use crate::admin::{Office, Whole};
use crate::config::Config;

/// Answer of `GET /settings`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Settings {
    /// All of them, in the order of `roundtable.example.toml`. None is a secret.
    pub settings: Vec<Setting>,
}

/// A setting.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Setting {
    /// Its name, `section.key`.
    pub name: String,
    /// Its value.
    pub value: Value,
    /// It has another value than without being set.
    pub changed: bool,
}

/// Every setting of these, beside the defaults.
pub fn shown(config: &Config) -> Vec<Setting> {
    let all = |config: &Config| serde_json::to_value(config).unwrap_or_default();
    let (now, default) = (all(config), all(&Config::default()));
    let mut settings = Vec::new();
    for (section, keys) in now.as_object().into_iter().flatten() {
        for (key, value) in keys.as_object().into_iter().flatten() {
            let changed = default.get(section).and_then(|keys| keys.get(key)) != Some(value);
            settings.push(Setting { name: format!("{section}.{key}"), value: value.clone(), changed });
        }
    }
    settings
}

/// `GET /settings`.
pub async fn list<O: Office>(Shared(admin): Whole<O>) -> Response {
    json_response(200, &Settings { settings: shown(&admin.config.load()) })
}

#[cfg(test)]
mod tests {
    use super::{Config, shown};
    use crate::config::Sources;

    #[test]
    fn every_setting_is_shown_and_those_that_were_changed_are_marked() {
        let sources = Sources { set: vec!["hive.status_interval=1s".into()], ..Sources::default() };
        let settings = shown(&Config::load(&sources).unwrap());
        let documented: usize = Config::documented().iter().map(|(.., keys)| keys.len()).sum();
        assert_eq!(settings.len(), documented);
        let changed: Vec<_> = settings.iter().filter(|one| one.changed).collect();
        assert_eq!(changed.len(), 1, "{changed:?}");
        assert_eq!((changed[0].name.as_str(), &changed[0].value), ("hive.status_interval", &"1s".into()));
    }
}

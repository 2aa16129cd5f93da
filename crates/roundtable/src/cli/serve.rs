//! Starting the server, and checking its settings without starting.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::auth::first_start::CREDENTIALS;
use crate::auth::secrets::{self, make_private_dir};
use crate::cli::place::{Bound, Place};
use crate::cli::{Exit, Target, Terminal};
use crate::config::{Config, Networks, Problems, Sources};
use crate::log::sqlite::release_reserve;
use crate::{telemetry, tls};

/// Called once when the listeners are open and everything may come in.
pub type Ready = Box<dyn FnOnce(&[Bound]) -> io::Result<()> + Send>;

/// Runs the server until it is stopped. The data directory is `config.storage.dir`.
pub type Serve = fn(Config, Ready, Again) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Reads the settings again, from where they came.
pub type Again = Box<dyn Fn() -> Result<Config, Problems> + Send + Sync>;

/// Where settings come from, beside the environment.
#[derive(Args, Debug)]
pub struct SettingArgs {
    /// A file with settings; roundtable.example.toml lists all.
    #[arg(long, value_name = "FILE", env = "ROUNDTABLE_CONFIG")]
    config: Option<PathBuf>,
    /// Listen here instead of where the settings say, with what a bare /ws means there; may be repeated. Port 0 takes a free
    /// port, which is printed.
    #[arg(long, value_name = "ADDRESS:PORT[=hive|megabot|auto|metrics]")]
    listen: Vec<String>,
    /// How much the process logs: a level (error, warn, info, debug, trace), or that of one part, such as log=debug; may be
    /// repeated.
    #[arg(long, value_name = "[PART=]LEVEL")]
    log: Vec<String>,
    /// How the log of the process is written: lines for people, or a JSON object for each event.
    #[arg(long, value_name = "FORMAT", value_parser = ["text", "json"])]
    log_format: Option<String>,
    /// One setting; may be repeated.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

fn sources(args: &SettingArgs, target: &Target) -> Sources {
    let format = args.log_format.iter().map(|format| format!("logging.format={format}"));
    Sources {
        file: args.config.clone(),
        set: args.set.iter().cloned().chain(format).collect(),
        listen: args.listen.clone(),
        log: args.log.clone(),
        data: target.data.clone(),
        ..Sources::from_environment()
    }
}

/// Files with secrets that others may read or change.
fn exposed(config: &Config) -> Vec<String> {
    let dir = &config.storage.dir;
    let own = [dir.clone(), dir.join(secrets::FILE), dir.join(CREDENTIALS)];
    let keys = config.server.listen.as_slice().iter().filter_map(|l| Some(l.tls.as_ref()?.key.clone()));
    own.into_iter().chain(keys).filter_map(|path| secrets::exposed(&path)).collect()
}

pub(super) fn check(args: &SettingArgs, target: &Target, terminal: &mut Terminal<'_>) -> Exit {
    let (problems, warnings): (_, Vec<String>) = match Config::load(&sources(args, target)) {
        Ok(config) => (Vec::new(), exposed(&config).into_iter().chain(tls::warnings(&config)).collect()),
        Err(problems) => (problems.0, Vec::new()),
    };
    let exit = if problems.is_empty() { Exit::Done } else { Exit::Settings };
    let text = if target.json {
        json!({"ok": problems.is_empty(), "problems": problems, "warnings": warnings}).to_string()
    } else if problems.is_empty() {
        let warnings = warnings.iter().map(|warning| format!("warning: {warning}\n"));
        warnings.collect::<String>() + "the settings are in order"
    } else {
        problems.join("\n")
    };
    let said = terminal.say(&text);
    terminal.end(said, exit)
}

pub(super) fn start(args: &SettingArgs, target: &Target, terminal: &mut Terminal<'_>, serve: Serve) -> Exit {
    let sources = sources(args, target);
    let config = match Config::load(&sources) {
        Ok(config) => config,
        Err(problems) => {
            terminal.note(&problems.to_string());
            return Exit::Settings;
        }
    };
    if let Err(what) = telemetry::begin(&config.logging) {
        terminal.note(&format!("roundtable: logging: {what}"));
        return Exit::Server;
    }
    let (dir, json) = (config.storage.dir.clone(), target.json);
    let trusted = config.server.trusted_proxies.clone();
    if let Err(error) = make_private_dir(&dir) {
        terminal.note(&format!("roundtable: {error}"));
        return Exit::Server;
    }
    for warning in exposed(&config) {
        tracing::warn!("{warning}");
    }
    let noted = dir.clone();
    let ready: Ready = Box::new(move |listeners| {
        let place = Place::here(listeners);
        // A full disk has room kept for this.
        let written = place.write(&noted).or_else(|error| match release_reserve(&noted) {
            true => place.write(&noted),
            false => Err(error),
        });
        let text = if json { as_json(&place, &noted) } else { in_words(&place, &noted, &trusted) };
        // The server is there for its clients, whether or not somebody reads this.
        if let Err(error) = io::Write::write_all(&mut io::stdout(), format!("{text}\n").as_bytes()) {
            tracing::warn!(%error, "where the server listens could not be written to its output");
        }
        written
    });
    let ended = serve(config, ready, Box::new(move || Config::load(&sources)));
    Place::forget(&dir);
    match ended {
        Ok(()) => Exit::Done,
        Err(error) => {
            terminal.note(&format!("roundtable: {error}"));
            Exit::Server
        }
    }
}

fn in_words(place: &Place, dir: &std::path::Path, trusted: &Networks) -> String {
    let mut text = format!("Roundtable {} is ready (process {})\n", place.version, place.pid);
    for (dialect, address) in place.dialects() {
        let _ = writeln!(text, "  {dialect:<12} {address}");
    }
    let credentials = dir.join(CREDENTIALS);
    let _ = match credentials.exists() {
        true => writeln!(text, "  Credentials  {}", credentials.display()),
        false => writeln!(text, "  Credentials  not in the data directory: where the operator keeps them"),
    };
    let guests: Vec<String> = place
        .listeners
        .iter()
        .filter(|bound| bound.anonymous)
        .map(|bound| bound.address.to_string())
        .collect();
    if guests.is_empty() {
        text.push_str("Everybody needs a credential.");
    } else {
        let _ = write!(
            text,
            "Hive and MegaBot clients on this machine need no credential ({}).",
            guests.join(", ")
        );
    }
    text.push_str(&match (trusted.is_empty(), guests.is_empty()) {
        (false, _) => format!("\nWhere clients are is taken from the proxies {trusted}."),
        (true, false) => "\nBehind a reverse proxy everybody looks local and is one address: name it in\n\
                          server.trusted_proxies, or set auth.anonymous=false."
            .to_owned(),
        (true, true) => {
            "\nBehind a reverse proxy everybody is one address: name it in server.trusted_proxies.".to_owned()
        }
    });
    text
}

fn as_json(place: &Place, dir: &std::path::Path) -> String {
    let dialects: serde_json::Map<_, _> =
        place.dialects().into_iter().map(|(dialect, address)| (dialect.to_owned(), address.into())).collect();
    json!({
        "pid": place.pid,
        "version": place.version,
        "listeners": place.listeners,
        "dialects": dialects,
        "credentials": Some(dir.join(CREDENTIALS)).filter(|file| file.exists()),
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::{Bound, Place, as_json, in_words};
    use crate::config::{BareWs, Networks};

    #[test]
    fn readiness_names_every_dialect_and_warns_of_proxies() {
        let bound = |anonymous| Bound {
            address: "127.0.0.1:9".parse().unwrap(),
            bare_ws: BareWs::Auto,
            anonymous,
            tls: false,
        };
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        std::fs::write(dir.join("credentials.json"), "{}").unwrap();
        let text = in_words(&Place::here(&[bound(true)]), dir, &Networks::default());
        for part in [
            "MXF",
            "AIWM",
            "Hive",
            "MegaBot",
            "Open-A.G.I",
            "/credentials.json",
            "reverse proxy",
            "127.0.0.1:9",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let closed = Place::here(&[bound(false)]);
        let text = in_words(&closed, dir, &Networks::default());
        assert!(text.contains("Everybody needs a credential.") && text.contains("server.trusted_proxies"));
        let trusted = Networks::of(vec!["10.0.0.0/8".parse().unwrap()]);
        assert!(in_words(&closed, dir, &trusted).ends_with("is taken from the proxies 10.0.0.0/8."));
        std::fs::remove_file(dir.join("credentials.json")).unwrap();
        let elsewhere = in_words(&closed, dir, &Networks::default());
        assert!(!elsewhere.contains("credentials.json") && elsewhere.contains("keeps them"), "{elsewhere}");
        assert!(as_json(&closed, dir).contains(r#""credentials":null"#));
        let json: serde_json::Value = serde_json::from_str(&as_json(&closed, dir)).unwrap();
        assert_eq!(json["listeners"][0]["address"], "127.0.0.1:9");
        assert_eq!(json["dialects"]["Hive"], "ws://127.0.0.1:9/hive/ws");
    }
}

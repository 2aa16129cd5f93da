//! Starts Roundtable on a fresh data directory with its limits on message rates off, and makes the rooms of a row.
use crate::child::{self, Running};
use crate::contender::{PREFIX, Setting, Started, free_port, pinned};
use crate::prepare::Tools;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Limits that protect a server from its clients and would measure only themselves here.
const UNLIMITED: &[&str] = &[
    "megabot.frames_per_second=off",
    "mxf.messages_per_minute=off",
    "storage.principal_bytes_per_minute=1024GiB",
];

/// As much as the rows about coming back let clients miss, and their comings and goings.
const REPLAY: &str = "megabot.replay=20000";

const PATIENCE: Duration = Duration::from_secs(20);

pub fn start(tools: &Tools, setting: &Setting, durable: bool) -> Result<Started, String> {
    let program = tools.roundtable.as_deref().ok_or("no binary of Roundtable given")?;
    let data = tempfile::tempdir_in(&tools.dir).map_err(|e| format!("temporary folder: {e}"))?;
    let log = fs::File::create(data.path().join("stderr")).map_err(|e| format!("log file: {e}"))?;
    let addr = format!("127.0.0.1:{}", free_port()?);
    let mut command = pinned(program, setting.cpus);
    command.arg("serve").arg("--data").arg(data.path()).args(["--listen", &addr]);
    let replayed = setting.recovery.then_some(REPLAY);
    for key in UNLIMITED.iter().copied().chain(replayed) {
        command.args(["--set", key]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut process = Running::start("roundtable", &mut command)?;
    let ready = process.reachable(&addr).and_then(|()| {
        let durability = if durable { "durable" } else { "ephemeral" };
        for room in 0..setting.rooms {
            let name = format!("{PREFIX}-{room}");
            cli(program, data.path(), &["room", "add", &name, "--durability", durability])?;
        }
        auth(program, data.path())
    });
    match ready {
        Ok(auth) => Ok(Started::with_data((process, command), addr, auth, data)),
        Err(e) => {
            let said = fs::read_to_string(data.path().join("stderr")).unwrap_or_default();
            let last: Vec<&str> = said.lines().rev().take(5).collect();
            Err(format!("{e}; {}", last.into_iter().rev().collect::<Vec<_>>().join(" | ")))
        }
    }
}

fn cli(program: &Path, data: &Path, args: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(args).arg("--data").arg(data);
    child::output(&format!("roundtable {}", args.join(" ")), command, PATIENCE)
}

/// The CONNECT object of an MXF user. An API key, as checking a password for each of 10,000 connections would measure
/// the password's hash.
fn auth(program: &Path, data: &Path) -> Result<String, String> {
    let file = data.join("credentials.json");
    let text = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    let credentials: Value = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", file.display()))?;
    let user = credentials["admin"]["username"].as_str().ok_or("no administrator in credentials.json")?;
    let added = cli(program, data, &["key", "add", "--user", user, "--json"])?;
    let added: Value = serde_json::from_str(&added).map_err(|e| format!("key add: {e}"))?;
    let auth = serde_json::json!({ "domainKey": credentials["domain_key"], "accessToken": added["key"] });
    Ok(auth.to_string())
}

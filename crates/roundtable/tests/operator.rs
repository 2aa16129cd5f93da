//! What operators rely on, of the real program: signals, its log, its listeners for watchdogs, its stop, a full disk.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot set its stage has failed"
)]
#![cfg(target_os = "linux")]

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_roundtable");
/// How long something that must come may take.
const PATIENCE: u64 = 20_000;

/// A running server.
struct Program {
    child: Child,
    data: PathBuf,
    diary: PathBuf,
    listeners: Vec<SocketAddr>,
}

fn data_of(dir: &Path) -> PathBuf {
    dir.join("data")
}

impl Program {
    fn start(dir: &Path, words: &[&str]) -> Self {
        let (data, diary) = (data_of(dir), dir.join("stderr.log"));
        let log = File::options().create(true).append(true).open(&diary).unwrap();
        let mut child = Command::new(PROGRAM)
            .args(["serve", "--json", "--data"])
            .arg(&data)
            .args(words)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("not ready: {}", std::fs::read_to_string(&diary).unwrap()));
        let listeners = told["listeners"].as_array().unwrap().iter();
        let listeners = listeners.map(|one| one["address"].as_str().unwrap().parse().unwrap()).collect();
        Self { child, data, diary, listeners }
    }

    fn cli(&self, words: &[&str]) -> Output {
        Command::new(PROGRAM).args(words).arg("--data").arg(&self.data).stdin(Stdio::null()).output().unwrap()
    }

    fn json(&self, words: &[&str]) -> Value {
        let output = self.cli(&[words, &["--json"]].concat());
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The status and the body of an answer.
    fn get(&self, listener: usize, path: &str, headers: &str) -> (u16, String) {
        let mut at = self.listeners[listener];
        at.set_ip([127, 0, 0, 1].into());
        let mut socket = TcpStream::connect(at).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(PATIENCE))).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n")
            .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// What it wrote to its standard error so far, over all its starts.
    fn told(&self) -> String {
        std::fs::read_to_string(&self.diary).unwrap()
    }

    fn stop(mut self) -> String {
        self.signal("-TERM");
        assert!(self.child.wait().unwrap().success(), "{}", self.told());
        self.told()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..PATIENCE / 50 {
        if so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("it must come: {what}");
}

#[test]
fn a_hangup_takes_new_settings_and_ends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("settings.toml");
    std::fs::write(&file, "[logging]\nlevel = \"info\"\n").unwrap();
    let words = ["--config", file.to_str().unwrap(), "--listen", "127.0.0.1:0"];
    let server = Program::start(dir.path(), &words);
    let from = "Origin: http://app.example\r\n";
    assert_eq!(server.get(0, "/health", from).0, 403);
    let new = "[logging]\nlevel = \"info,transport=debug\"\n[server]\nshards = 3\n\
        allowed_origins = [\"http://app.example\"]\n[mxf]\nmessages_per_minute = 7\n";
    std::fs::write(&file, new).unwrap();
    server.signal("-HUP");
    until("the origin is allowed", || server.get(0, "/health", from).0 == 200);
    let settings = server.json(&["settings"]).to_string();
    assert!(
        settings.contains(r#"{"name":"mxf.messages_per_minute","value":7,"changed":true}"#),
        "{settings}"
    );
    assert!(settings.contains(r#"{"name":"server.shards","value":0,"changed":false}"#), "{settings}");
    std::fs::write(&file, "[server]\nshards = \"many\"\n").unwrap();
    server.signal("-HUP");
    until("the mistake is told", || server.told().contains("the settings stay as they were"));
    assert_eq!(server.get(0, "/health", from).0, 200, "what was in force stays");
    let told = server.stop();
    for line in
        ["the settings were read again", "server.shards", "the server stops", "the server has stopped"]
    {
        assert!(told.contains(line), "{line} in {told}");
    }
}

#[test]
fn the_log_tells_who_came_and_what_was_done_and_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let words = ["--listen", "127.0.0.1:0", "--log", "trace", "--log", "log=info", "--log-format", "json"];
    let server = Program::start(dir.path(), &words);
    let first: Value =
        serde_json::from_str(&std::fs::read_to_string(server.data.join("credentials.json")).unwrap())
            .unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut secrets =
        vec![text(&first["domain_key"]), text(&first["admin_token"]), text(&first["admin"]["password"])];
    secrets.push(text(&server.json(&["user", "add", "ann"])["password"]));
    let agent = text(&server.json(&["agent", "add", "scout"])["secret"]);
    server.json(&["room", "add", "lobby"]);
    let key = server.json(&["key", "add", "--user", "ann"]);
    let channel = server.json(&["key", "add", "--agent", "scout", "--room", "lobby"]);
    let token = text(&server.json(&["token", "issue", "--user", "ann"])["token"]);
    secrets.extend([agent, text(&key["secret"]), text(&channel["secret"]), token.clone()]);
    secrets.push(text(&server.json(&["user", "password", "ann"])["password"]));
    // A WebSocket with its token in the URL, one with a wrong one, and a page with a wrong password in its header.
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mut sockets = Vec::new();
    for query in [format!("token={token}"), format!("api_key={}", text(&key["key"])), "token=guess-Z9".into()]
    {
        let mut socket = TcpStream::connect(server.listeners[0]).unwrap();
        write!(socket, "GET /megabot/ws?{query} HTTP/1.1\r\nHost: localhost\r\n{upgrade}\r\n").unwrap();
        let mut head = [0; 12];
        socket.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 101");
        sockets.push(socket);
    }
    secrets.push("guess-Z9".into());
    secrets.push("wrong-Q7".into());
    server.get(0, "/api/agents", "Authorization: Bearer wrong-Q7\r\n");
    until("who is not let in is told", || server.told().contains("somebody was not let in"));
    drop(sockets);
    until("who went is told", || server.told().contains("a connection ended"));
    server.json(&["user", "list"]);
    let told = server.stop();
    for secret in secrets {
        assert!(!told.contains(&secret), "{secret} is in the log");
    }
    let lines: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let line = |message: &str| lines.iter().find(|line| line["message"] == message);
    for (message, fields) in [
        ("the server starts", &["version", "dir"][..]),
        ("listening", &["address", "guests"]),
        ("a connection opened", &["id", "peer", "listener"]),
        ("a connection ended", &["id", "peer", "sessions", "lasted_ms", "reason"]),
        ("somebody was not let in", &["peer", "refusal", "shown"]),
        ("the operator asked", &["method", "path", "status", "peer"]),
        ("the server stops", &["by"]),
        ("the server has stopped", &["ms"]),
    ] {
        let found = line(message).unwrap_or_else(|| panic!("{message} is not in {told}"));
        assert!(fields.iter().all(|field| found.get(field).is_some()), "{found}");
    }
    let of = |level: &str, target: &str| {
        lines
            .iter()
            .any(|line| line["level"] == level && line["target"].as_str().unwrap().starts_with(target))
    };
    assert!(of("DEBUG", "roundtable::transport") && !of("DEBUG", "roundtable::log"), "a level per part");
    let unknown = Command::new(PROGRAM).args(["serve", "--log", "lgo=debug"]).output().unwrap();
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("there is no part `lgo`"));
}

#[test]
fn watchdogs_need_no_credential_and_strangers_learn_yes_or_no() {
    let dir = tempfile::tempdir().unwrap();
    let words =
        ["--listen", "0.0.0.0:0=auto", "--listen", "0.0.0.0:0=metrics", "--listen", "127.0.0.1:0=hive"];
    let server = Program::start(dir.path(), &words);
    let first = std::fs::read_to_string(server.data.join("credentials.json")).unwrap();
    let first: Value = serde_json::from_str(&first).unwrap();
    let admin = format!("Authorization: Bearer {}\r\n", first["admin_token"].as_str().unwrap());
    assert_eq!(server.get(0, "/livez", ""), (200, r#"{"status":"live"}"#.into()));
    assert_eq!(server.get(0, "/readyz", ""), (200, r#"{"status":"ready"}"#.into()));
    assert!(server.get(0, "/livez", &admin).1.contains("version"));
    assert!(server.get(2, "/livez", "").1.contains("version"), "a loopback listener tells more");
    for path in ["/metrics", "/openapi.json"] {
        assert_eq!(server.get(0, path, "").0, 401, "{path}");
        assert_eq!(server.get(0, path, &admin).0, 200, "{path}");
    }
    let token = server.json(&["token", "issue", "--user", "admin"]);
    let hive =
        format!("Authorization: Bearer {}\r\nAccept: application/json\r\n", token["token"].as_str().unwrap());
    let (status, body) = server.get(0, "/metrics", &hive);
    assert!(status == 200 && body.contains("current_metrics"), "{status} {body}");
    assert_eq!(server.get(0, "/metrics", "Accept: application/json\r\n").0, 401);
    // Thresholds are set by who runs the workspace.
    let (status, body) = server.get(1, "/metrics", "");
    assert!(status == 200 && body.contains("roundtable_connections"), "{body}");
    assert_eq!(server.get(1, "/livez", "").0, 200);
    for path in
        ["/admin/v1/users", "/ws", "/api/agents", "/openapi.json", "/socket.io/?EIO=4&transport=polling"]
    {
        assert_eq!(server.get(1, path, &admin).0, 404, "{path}");
    }
    server.stop();
}

#[test]
fn a_stop_leaves_one_whole_file_and_secrets_without_it_are_refused() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Program::start(dir.path(), &["--listen", "127.0.0.1:0"]);
    server.json(&["room", "add", "lobby"]);
    server.stop();
    let (data, copy) = (data_of(dir.path()), data_of(other.path()));
    assert!(!data.join("roundtable.db-wal").exists());
    std::fs::create_dir(&copy).unwrap();
    for file in ["roundtable.db", "secrets", "credentials.json"] {
        std::fs::copy(data.join(file), copy.join(file)).unwrap();
    }
    let again = Program::start(other.path(), &["--listen", "127.0.0.1:0"]);
    assert_eq!(again.json(&["room", "list"])["rooms"][0]["room"], "lobby");
    again.stop();
    std::fs::remove_file(data.join("roundtable.db")).unwrap();
    let refused = Command::new(PROGRAM).args(["serve", "--data"]).arg(&data).output().unwrap();
    let told = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(6), "{told}");
    assert!(told.contains("there are secrets and no log; restore `roundtable.db`"), "{told}");
    assert!(!data.join("roundtable.db").exists(), "nothing stands in the way of what is restored");
    std::fs::copy(copy.join("roundtable.db"), data.join("roundtable.db")).unwrap();
    let restored = Program::start(dir.path(), &["--listen", "127.0.0.1:0"]);
    assert_eq!(restored.json(&["room", "list"])["rooms"][0]["room"], "lobby");
    restored.stop();
}

#[test]
fn an_answer_that_the_system_does_not_take_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let server = Program::start(dir.path(), &["--listen", "127.0.0.1:0"]);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["agent", "add", "x", "--json", "--data"]).arg(&server.data).stdout(full);
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{told}");
    assert!(
        told.contains("agent x has a new secret, which is lost") && told.contains("No space left"),
        "{told}"
    );
    server.stop();
}

/// On a small disk of its own: a server that stopped in order starts again on the full disk, serves what it holds, refuses
/// writes in one line, and writes as soon as there is room, that it began first of all.
const FULL_DISK: &str = r#"
mount -t tmpfs -o size=6m none "$D" || exit 77
serve() {
    "$R" serve --json --listen 127.0.0.1:0 --data "$D/data" > "$OUT/ready" 2>> "$OUT/stderr" &
    pid=$!
    for i in $(seq 400); do [ -s "$OUT/ready" ] && return; kill -0 $pid || exit 10; sleep 0.05; done
    exit 11
}
cli() { "$R" "$@" --data "$D/data"; }
serve
cli room add lobby && cli send lobby "said before" > /dev/null || exit 12
kill -TERM $pid; wait $pid || exit 13
cat /dev/zero > "$D/ballast" 2> /dev/null
serve
cli room history lobby | grep -q "said before" || exit 14
cat /dev/zero >> "$D/ballast" 2> /dev/null
for i in $(seq 30); do cli room add "full$i" 2> "$OUT/refused" && cat /dev/zero >> "$D/ballast" 2> /dev/null; done
grep -q "disk is full" "$OUT/refused" || exit 15
cli room history lobby | grep -q "said before" || exit 16
cli backup "$D/copy.db" 2> "$OUT/backup" && exit 17
grep -q "the disk with $D/copy.db is full" "$OUT/backup" || exit 18
ls "$D" | grep -q copy && exit 19
rm "$D/ballast"
for i in $(seq 200); do cli room add "after$i" 2> /dev/null > /dev/null && break; sleep 0.05; done
cli room show "after$i" > /dev/null || exit 20
timeout 5 "$R" tail --since 1:0 --json --data "$D/data" > "$OUT/log" 2> /dev/null
kill -TERM $pid; wait $pid || exit 21
"#;

/// Needs the right to mount a small file system.
#[test]
fn a_server_starts_on_a_full_disk_and_serves_what_it_holds() {
    let (disk, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ran = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", FULL_DISK])
        .env("D", disk.path())
        .env("R", PROGRAM)
        .env("OUT", out.path())
        .output();
    let told = std::fs::read_to_string(out.path().join("stderr")).unwrap_or_default();
    match ran {
        Ok(output) if output.status.success() => {}
        Ok(output) if output.status.code().is_some_and(|code| (10..=30).contains(&code)) => {
            panic!("step {:?}: {}\n{told}", output.status.code(), String::from_utf8_lossy(&output.stderr))
        }
        Ok(output) => {
            return println!("not tried, no right to mount: {}", String::from_utf8_lossy(&output.stderr));
        }
        Err(error) => return println!("not tried: {error}"),
    }
    assert_eq!(
        told.matches("the log takes nothing workspace").count(),
        told.matches("the log takes records again").count()
    );
    assert!(told.matches("ERROR").count() <= 3, "one line, then counts: {told}");
    let log = std::fs::read_to_string(out.path().join("log")).unwrap();
    let kinds: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let starts: Vec<usize> = (0..kinds.len()).filter(|at| kinds[*at]["kind"] == "server.started").collect();
    assert_eq!(starts.len(), 2, "{log}");
    let said = kinds.iter().position(|record| record["kind"] == "message.posted").unwrap();
    let next = kinds.iter().skip(starts[1]).position(|record| record["room"].is_string());
    assert!(said < starts[1] && next.is_some(), "that it began comes before what is new: {log}");
}

#[test]
fn a_limit_on_the_size_of_files_is_a_full_disk() {
    let dir = tempfile::tempdir().unwrap();
    let server = Program::start(dir.path(), &["--listen", "127.0.0.1:0"]);
    let pid = server.child.id().to_string();
    let limit = |bytes: &str| {
        let done = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}")]).status();
        done.is_ok_and(|status| status.success())
    };
    if !limit("4096:unlimited") {
        return println!("not tried: there is no prlimit");
    }
    let refused = server.cli(&["room", "add", "lobby"]);
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains("the disk is full"), "{told}");
    assert!(limit("unlimited:unlimited"));
    server.json(&["room", "add", "lobby"]);
    server.stop();
}

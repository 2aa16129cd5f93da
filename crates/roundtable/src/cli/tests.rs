//! Tests of the command line against a live operator's interface, and of its exit codes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use roundtable_core::time::Offset;
use serde_json::Value;

use super::{Exit, Terminal, run};
use crate::admin::tests::{Served, TOKEN};
use crate::cli::client::encoded;
use crate::cli::serve::{Again, Ready};
use crate::config::Config;

fn no_server(_: Config, _: Ready, _: Again) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    Err("no server in tests".into())
}

struct Ran {
    exit: Exit,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> Value {
        assert_eq!(self.exit, Exit::Done, "{}", self.err);
        serde_json::from_str(&self.out).unwrap()
    }
}

/// An output that fails in one way.
struct Broken(std::io::ErrorKind);

impl std::io::Write for Broken {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The exit code and the notes of a command whose output is broken.
fn unheard(words: &[&str], kind: std::io::ErrorKind) -> (Exit, String) {
    let (mut out, mut err, mut input) = (Broken(kind), Vec::new(), &b""[..]);
    let mut terminal = Terminal { out: &mut out, err: &mut err, input: &mut input, interactive: false };
    let args = std::iter::once("roundtable").chain(words.iter().copied()).map(Into::into);
    let exit = run(args, &mut terminal, no_server);
    (exit, String::from_utf8(err).unwrap())
}

fn typed(words: &[&str], input: &str) -> Ran {
    let (mut out, mut err, mut input) = (Vec::new(), Vec::new(), input.as_bytes());
    let mut terminal = Terminal { out: &mut out, err: &mut err, input: &mut input, interactive: false };
    let args = std::iter::once("roundtable").chain(words.iter().copied()).map(Into::into);
    let exit = run(args, &mut terminal, no_server);
    Ran { exit, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

impl Served {
    fn cli(&self, words: &[&str]) -> Ran {
        self.cli_with(words, "")
    }

    fn cli_with(&self, words: &[&str], input: &str) -> Ran {
        let server = format!("http://{}", self.address);
        typed(&[words, &["--server", &server, "--token", TOKEN]].concat(), input)
    }
}

#[test]
fn the_shapes_that_scripts_rely_on() {
    let served = Served::begin();
    let user = served.cli_with(&["user", "add", "ann", "--json"], "pass word\n").json();
    assert_eq!(user, serde_json::json!({"username": "ann", "role": "viewer"}));
    let drawn = served.cli(&["user", "add", "bob", "--role", "editor", "--json"]).json();
    assert!(drawn["password"].as_str().unwrap().len() >= 40);
    let agent = served.cli(&["agent", "add", "scout", "--json"]).json();
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&agent), ["agent_id", "secret"]);
    assert_eq!(
        served.cli(&["room", "add", "lobby", "--durability", "relaxed", "--json"]).json()["room"],
        "lobby"
    );
    for key in [vec!["--user", "ann"], vec!["--agent", "scout", "--room", "lobby"]] {
        let key = served.cli(&[vec!["key", "add", "--json"], key].concat()).json();
        assert_eq!(names(&key), ["key_id", "secret", "key"]);
    }
    for subject in [["--user", "ann"], ["--agent", "scout"], ["--node", "n1"]] {
        let token =
            served.cli(&[&["token", "issue", "--ttl", "24h", "--json"], &subject[..]].concat()).json();
        assert_eq!(names(&token), ["token", "expires_at"]);
    }
    let sent = served.cli(&["send", "lobby", "hello there", "--from", "user:ann", "--json"]).json();
    assert_eq!(sent["message_id"].as_str().unwrap().len(), 24);
    let history = served.cli(&["room", "history", "lobby", "--json"]).json();
    assert_eq!(history["messages"][0]["event"]["content"]["text"], "hello there");
    let words = served.cli(&["room", "history", "lobby"]);
    assert!(words.out.ends_with(" [lobby] ann: hello there\n"), "{}", words.out);
}

#[test]
fn a_password_that_was_given_is_shown_nowhere() {
    let served = Served::begin();
    for json in [&["--json"][..], &[]] {
        let name = format!("u{}", json.len());
        let ran = served.cli_with(&[&["user", "add", &name], json].concat(), "hunter22\r\n");
        assert_eq!(ran.exit, Exit::Done);
        assert!(!(ran.out + &ran.err).contains("hunter22"));
    }
}

#[test]
fn what_may_no_longer_come_in() {
    let served = Served::begin();
    served.cli(&["user", "add", "ann"]);
    served.cli(&["agent", "add", "scout"]);
    let key = served.cli(&["key", "add", "--user", "ann", "--json"]).json();
    let token = served.cli(&["token", "issue", "--node", "n", "--json"]).json();
    for words in [
        &["agent", "rotate", "scout"][..],
        &["user", "disable", "ann"],
        &["user", "enable", "ann"],
        &["agent", "suspend", "scout"],
        &["agent", "resume", "scout"],
        &["key", "revoke", key["key_id"].as_str().unwrap()],
        &["token", "revoke", token["token"].as_str().unwrap()],
        &["agent", "remove", "scout"],
    ] {
        let ran = served.cli(words);
        assert_eq!(ran.exit, Exit::Done, "{words:?}: {}", ran.err);
    }
}

#[test]
fn what_is_renewed_opens_and_what_it_was_before_does_not() {
    let served = Served::begin();
    served.cli_with(&["user", "add", "ann"], "hunter22\n");
    let given = served.cli_with(&["user", "password", "ann"], "another one\n");
    assert_eq!(given.exit, Exit::Done, "{}", given.err);
    assert!(given.out.contains("its connections end") && !given.out.contains("another one"), "{}", given.out);
    let drawn = served.cli(&["user", "password", "ann", "--json"]).json();
    assert_eq!((&drawn["username"], drawn["password"].as_str().unwrap().len() >= 40), (&"ann".into(), true));
    let short = served.cli_with(&["user", "password", "ann"], "x\n");
    assert!(short.exit == Exit::Refused && short.err.contains("8 to 256 characters"), "{}", short.err);
    assert_eq!(served.cli(&["user", "password", "nobody"]).exit, Exit::Refused);
    let removed = served.cli(&["user", "remove", "ann"]);
    assert!(removed.exit == Exit::Done && removed.out.contains("connections end"), "{}", removed.err);
    assert_eq!(served.cli(&["user", "list"]).out, "");
    served.cli(&["room", "add", "lobby"]);
    assert_eq!(served.cli(&["room", "remove", "lobby"]).exit, Exit::Done);
    assert_eq!(served.cli(&["room", "list"]).out, "");
    let again = served.cli(&["room", "add", "lobby"]);
    assert!(again.exit == Exit::Refused && again.err.contains("was removed"), "{}", again.err);
    let rotated = served.cli(&["workspace", "rotate", "default", "--json"]).json();
    assert!(rotated["domain_key"].as_str().unwrap().len() >= 40);
    let renewed = served.cli(&["admin-token", "--json"]).json();
    let token = renewed["admin_token"].as_str().unwrap();
    assert_eq!(served.cli(&["user", "list"]).exit, Exit::NotAllowed, "the old one is over");
    let server = format!("http://{}", served.address);
    assert_eq!(typed(&["user", "list", "--server", &server, "--token", token], "").exit, Exit::Done);
}

#[test]
fn the_settings_in_force_are_shown() {
    let served = Served::begin();
    let shown = served.cli(&["settings"]).out;
    assert!(shown.contains("mxf.messages_per_minute = 100\n") && !shown.contains("changed"), "{shown}");
    assert_eq!(served.cli(&["settings", "--json"]).json()["settings"][0]["name"], "server.node");
}

#[test]
fn an_answer_that_cannot_be_written_is_an_error_that_says_what_happened() {
    use std::io::ErrorKind::{BrokenPipe, StorageFull};
    let served = Served::begin();
    let server = format!("http://{}", served.address);
    for (words, happened) in [
        (&["user", "add", "ann"][..], "user ann is made, its password is lost"),
        (&["user", "password", "ann"], "user ann has a new password, which is lost"),
        (&["user", "disable", "ann"], "user ann is disabled"),
        (&["agent", "add", "scout", "--json"], "agent scout has a new secret, which is lost"),
        (&["agent", "rotate", "scout"], "`agent rotate scout` draws another one"),
        (&["room", "add", "lobby"], "room lobby"),
        (&["key", "add", "--user", "ann"], "its secret is lost"),
        (&["token", "issue", "--node", "n"], "a token is signed and lost"),
        (&["send", "lobby", "hi", "--from", "agent:scout"], "message "),
        (&["workspace", "rotate", "default"], "new domain key, which is lost"),
        (&["user", "list"], "the answer could not be written"),
        (&["settings"], "the answer could not be written"),
        (&["room", "history", "lobby"], "the answer could not be written"),
        (&["tail", "lobby"], "the answer could not be written"),
        (&["room", "remove", "lobby"], "room lobby is removed"),
        (&["user", "remove", "ann"], "user ann is removed"),
        (&["check-config"], "the answer could not be written"),
        (&["--help"], "the answer could not be written"),
        (&["admin-token"], "there is a new admin token"),
    ] {
        let whole = match words {
            ["--help"] | ["check-config"] => words.to_vec(),
            _ => [words, &["--server", &server, "--token", TOKEN]].concat(),
        };
        let (exit, told) = unheard(&whole, StorageFull);
        assert_eq!(exit, Exit::Unwritten, "{words:?}: {told}");
        assert!(told.contains(happened) && told.contains("could not be written"), "{words:?}: {told}");
        if let ["user", "list"] | ["--help"] = words {
            assert_eq!(unheard(&whole, BrokenPipe), (Exit::Done, String::new()), "{words:?}");
        }
    }
}

#[test]
fn a_tail_begins_with_what_was_said_last_and_says_that_it_waits() {
    let served = Served::begin();
    served.cli(&["room", "add", "lobby"]);
    served.cli(&["user", "add", "admin"]);
    for n in 0..12 {
        served.cli(&["send", "lobby", &format!("number {n}")]);
    }
    // It has no end: the output is closed after ten lines.
    struct Lines(Vec<u8>, usize, Arc<AtomicBool>);
    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.2.store(true, Ordering::Relaxed);
            if self.0.iter().filter(|byte| **byte == b'\n').count() >= self.1 {
                return Err(std::io::ErrorKind::BrokenPipe.into());
            }
            self.0.write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let began = Arc::new(AtomicBool::new(false));
    let lines = Lines(Vec::new(), 10, Arc::clone(&began));
    let (mut out, mut err, mut input) = (lines, Vec::new(), &b""[..]);
    let mut terminal = Terminal { out: &mut out, err: &mut err, input: &mut input, interactive: false };
    let server = format!("http://{}", served.address);
    let words = ["roundtable", "tail", "lobby", "--server", &server, "--token", TOKEN];
    let says = std::thread::scope(|scope| {
        let later = scope.spawn(|| {
            // Said again until the tail has ended: what comes after its first ten lines ends it.
            while !served.done() {
                if !began.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                    continue;
                }
                served.cli(&["send", "lobby", "later"]);
            }
        });
        let exit = run(words.map(Into::into), &mut terminal, no_server);
        served.finish();
        later.join().unwrap();
        exit
    });
    assert_eq!(says, Exit::Done);
    let text = String::from_utf8(out.0).unwrap();
    assert!(
        text.contains("number 2") && text.contains("number 11") && !text.contains("number 1\n"),
        "{text}"
    );
    assert!(String::from_utf8(err).unwrap().contains("waiting for what comes in room lobby"));
}

#[cfg(unix)]
#[test]
fn a_data_directory_that_may_not_be_read_is_told_as_that() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    // Whoever runs the tests as root may read everything; a file where a directory should be is refused to everybody.
    std::fs::write(data.join("file"), "").unwrap();
    let within = data.join("file/data");
    let told = typed(&["user", "list", "--data", within.to_str().unwrap()], "");
    assert!(told.exit == Exit::NotAllowed && told.err.contains("--server"), "{}", told.err);
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o777)).unwrap();
    let warned = typed(&["check-config", "--data", data.to_str().unwrap()], "");
    assert!(warned.out.contains("others may change it (mode 0777)"), "{}", warned.out);
}

#[test]
fn lists_show_what_there_is_and_no_secret() {
    let served = Served::begin();
    served.cli(&["user", "add", "bob", "--role", "editor"]);
    served.cli_with(&["user", "add", "ann"], "hunter22\n");
    served.cli(&["user", "disable", "ann"]);
    served.cli(&["agent", "add", "scout", "--name", "Scout"]);
    served.cli(&["agent", "suspend", "scout"]);
    served.cli(&["room", "add", "lobby", "--durability", "relaxed"]);
    let of_user = served.cli(&["key", "add", "--user", "bob", "--json"]).json();
    let of_room = served.cli(&["key", "add", "--agent", "scout", "--room", "lobby", "--json"]).json();
    served.cli(&["key", "revoke", of_user["key_id"].as_str().unwrap()]);
    assert_eq!(served.cli(&["user", "list"]).out, "ann  viewer  disabled\nbob  editor\n");
    assert_eq!(served.cli(&["agent", "list"]).out, "scout  Scout  suspended\n");
    assert!(served.cli(&["room", "list"]).out.starts_with("lobby  lobby  "));
    let rooms = served.cli(&["room", "list", "--json"]).json();
    assert_eq!(
        (&rooms["rooms"][0]["durability"], &rooms["rooms"][0]["messages"]),
        (&"relaxed".into(), &0.into())
    );
    let keys = served.cli(&["key", "list"]).out;
    assert_eq!(keys.lines().count(), 2);
    assert!(keys.contains(&format!("{}  user bob  revoked", of_user["key_id"].as_str().unwrap())), "{keys}");
    assert!(
        keys.contains(&format!("{}  agent scout in lobby\n", of_room["key_id"].as_str().unwrap())),
        "{keys}"
    );
    for what in ["user", "agent", "key", "room"] {
        let shown = served.cli(&[what, "list", "--json"]).json().to_string();
        for word in ["argon2", "hash", "secret", "password", of_room["secret"].as_str().unwrap()] {
            assert!(!shown.contains(word), "{word} in {shown}");
        }
    }
}

#[test]
fn the_log_is_checked_and_copied() {
    let served = Served::begin();
    let sound = served.cli(&["verify", "--json"]).json();
    assert_eq!(
        sound,
        serde_json::json!({"workspaces": [{"workspace": "default", "sound": 1, "broken": null}]})
    );
    assert_eq!(served.cli(&["verify"]).out, "workspace default: 1 records are sound\n");
    *served.memory.broken.lock().unwrap() = Some((Offset(7), "its hash differs".into()));
    let broken = served.cli(&["verify"]);
    assert_eq!((broken.exit, broken.out.as_str()), (Exit::Refused, ""));
    assert!(broken.err.contains("record 7 is not: its hash differs"), "{}", broken.err);
    assert_eq!(served.cli(&["verify", "--json"]).exit, Exit::Refused);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("copy.db");
    let copied = served.cli(&["backup", file.to_str().unwrap(), "--json"]).json();
    assert_eq!(copied["file"].as_str(), file.to_str());
    assert!(file.exists());
    let (status, _) = served.ask("POST", "/backup", &serde_json::json!({"file": "copy.db"}));
    assert_eq!(status, 400, "where a relative path leads is not for the client to know");
}

#[test]
fn commands_are_for_the_workspace_that_is_named() {
    let served = Served::begin();
    let list = served.cli(&["workspace", "list"]).out;
    assert_eq!(list, "default  0 users  0 agents  0 rooms  default\n");
    assert_eq!(served.cli(&["room", "add", "lobby", "--workspace", "default"]).exit, Exit::Done);
    for words in [&["room", "list"][..], &["tail"], &["user", "add", "x"]] {
        let refused = served.cli(&[words, &["--workspace", "nowhere"]].concat());
        assert_eq!(refused.exit, Exit::Refused, "{words:?}");
        assert!(refused.err.contains("there is no workspace nowhere"), "{}", refused.err);
    }
    assert_eq!(served.cli(&["workspace", "add", "second"]).exit, Exit::Refused, "this one has room for one");
    for words in [&["workspace", "list"][..], &["backup", "x"], &["check-config"]] {
        assert_eq!(typed(&[words, &["--workspace", "default"]].concat(), "").exit, Exit::Usage, "{words:?}");
    }
}

#[test]
fn exit_codes_are_as_documented() {
    let served = Served::begin();
    let server = format!("http://{}", served.address);
    assert_eq!(served.cli(&["room", "history", "nowhere"]).exit, Exit::Refused);
    assert_eq!(served.cli(&["room", "add", "a b"]).exit, Exit::Refused);
    assert_eq!(
        typed(&["room", "add", "x", "--server", &server, "--token", "guess"], "").exit,
        Exit::NotAllowed
    );
    assert_eq!(
        typed(&["room", "add", "x", "--server", "127.0.0.1:1", "--token", "t"], "").exit,
        Exit::Unreachable
    );
    let empty = tempfile::tempdir().unwrap();
    let dir = empty.path().to_str().unwrap();
    let nobody = typed(&["room", "add", "x", "--data", dir], "");
    assert_eq!(nobody.exit, Exit::Unreachable);
    assert!(nobody.err.contains("no server runs"), "{}", nobody.err);
    assert_eq!(typed(&["room", "add", "x", "--data", dir, "--server", &server], "").exit, Exit::NotAllowed);
    for wrong in [
        &["tea"][..],
        &["key", "add"],
        &["key", "add", "--agent", "a"],
        &["key", "add", "--user", "u", "--agent", "a", "--room", "r"],
        &["token", "issue"],
        &["token", "issue", "--user", "a", "--node", "b"],
        &["token", "issue", "--user", "a", "--ttl", "1ms"],
        &["token", "issue", "--user", "a", "--ttl", "999ms"],
        &["tail", "--since", "17"],
        &["room", "add", "x", "--durability", "eternal"],
        &["user", "add", "x", "--role", "king"],
        &["room", "history", "x", "--limit", "0"],
    ] {
        assert_eq!(typed(wrong, "").exit, Exit::Usage, "{wrong:?}");
    }
    for short in ["0s", "200ms", "999ms"] {
        let told = typed(&["token", "issue", "--user", "a", "--ttl", short], "").err;
        assert_eq!(told.matches("at least").count(), 1, "{told}");
        assert!(told.contains("must be at least 1s and"), "{told}");
    }
    let help = typed(&["--help"], "");
    assert_eq!(help.exit, Exit::Done);
    assert!(help.out.contains("Exit codes:") && help.out.contains("check-config"));
    assert_eq!(typed(&["--version"], "").out.trim(), concat!("roundtable ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn settings_are_checked_without_a_start() {
    let good = typed(&["check-config", "--set", "hive.status_interval=1s"], "");
    assert_eq!((good.exit, good.out.as_str()), (Exit::Done, "the settings are in order\n"));
    let bad = typed(&["check-config", "--json", "--set", "a.b=c", "--set", "auth.failures=0"], "");
    assert_eq!(bad.exit, Exit::Settings);
    let answer: Value = serde_json::from_str(&bad.out).unwrap();
    assert_eq!((&answer["ok"], answer["problems"].as_array().unwrap().len()), (&Value::Bool(false), 2));
    assert_eq!(typed(&["check-config", "--log-format", "json"], "").exit, Exit::Done);
    assert_eq!(typed(&["serve", "--log-format", "xml"], "").exit, Exit::Usage);
    let refused = typed(&["serve", "--listen", "nowhere"], "");
    assert_eq!(refused.exit, Exit::Settings);
    assert!(refused.err.contains("--listen nowhere"));
}

#[test]
fn ids_travel_in_paths_unharmed() {
    assert_eq!(encoded("a-b_c.d~"), "a-b_c.d~");
    assert_eq!(encoded("a:b@c/ä"), "a%3Ab%40c%2F%C3%A4");
    let served = Served::begin();
    served.cli(&["room", "add", "a:b@c"]);
    let nobody = served.cli(&["send", "a:b@c", "x"]);
    assert!(
        nobody.exit != Exit::Done && nobody.err.contains("no user admin") && nobody.err.contains("--from")
    );
    let named = served.cli(&["send", "a:b@c", "x", "--from", "user:admin"]);
    assert!(named.err.contains("no user admin") && !named.err.contains("--from"), "{}", named.err);
    served.cli(&["user", "add", "admin"]);
    assert_eq!(served.cli(&["send", "a:b@c", "x"]).exit, Exit::Done);
    assert_eq!(served.cli(&["room", "history", "a:b@c", "--json"]).json()["room"], "a:b@c");
}

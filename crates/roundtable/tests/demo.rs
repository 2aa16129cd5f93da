//! The demo as a stranger runs it: the binary, real sockets, its exit code, and nothing left behind.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot set its stage has failed"
)]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

fn demo(temporary: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roundtable"));
    command.arg("demo").args(arguments).env("TMPDIR", temporary);
    command
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn everybody_sees_what_they_should() {
    let temporary = tempfile::tempdir().unwrap();
    let ran = demo(temporary.path(), &["--json"]).output().unwrap();
    let (out, err) = (String::from_utf8(ran.stdout).unwrap(), String::from_utf8(ran.stderr).unwrap());
    assert_eq!(ran.status.code(), Some(0), "{out}{err}");
    assert!(is_empty(temporary.path()), "the temporary folder stayed");
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["said"].as_array().unwrap().len(), 3);
    assert_eq!(told["problems"], serde_json::json!([]));
    let texts = |who: &str| -> Vec<&str> {
        let seen = told["seen"].as_array().unwrap().iter().filter(|seen| seen["who"] == who);
        seen.map(|seen| seen["text"].as_str().unwrap()).collect()
    };
    let (scout, scribe) = (texts("scout"), texts("scribe"));
    assert_eq!(scout, scribe);
    assert_eq!(scout.len(), 3);
    assert_eq!(texts("ada"), scout[1..]);
}

#[test]
fn it_stays_up_if_asked_says_how_to_join_and_leaves_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let mut child = demo(temporary.path(), &["--keep"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut read = Vec::new();
    for line in lines {
        read.push(line);
        if read.last().unwrap().contains("until Ctrl-C") {
            break;
        }
    }
    let text = read.join("\n");
    assert!(text.contains("Everybody saw what they should"), "{text}");
    let by_hand =
        |begin: &str| read.iter().find(|line| line.contains(begin)).unwrap_or_else(|| panic!("{text}"));
    for part in ["user_id=bob", "keyId: \"key_", "requests.post(\"http://127.0.0.1:", "/api/v1/ws?token="] {
        by_hand(part);
    }
    // The printed line for the operator works as it is.
    let history = Command::new("sh").args(["-c", by_hand("room history lobby")]).output().unwrap();
    assert!(String::from_utf8(history.stdout).unwrap().contains("scribe: So am I"));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(is_empty(temporary.path()), "the temporary folder stayed");
}

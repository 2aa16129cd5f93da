//! Data that earlier versions wrote still opens: it verifies, and its log folds into what that version knew.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test ends where something is missing")]

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use roundtable::log::Log;
use roundtable::log::sqlite::{FILE, SqliteLog};
use roundtable_core::ids::{AgentId, KeyId, RoomId, UserId, WorkspaceId};
use roundtable_core::state::State;
use serde_json::Value;

fn golden(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(version)
}

/// A copy of a version's data directory, to be changed at will.
fn unpacked(version: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let packed = File::open(golden(version).join("roundtable.db.gz")).unwrap();
    io::copy(&mut GzDecoder::new(packed), &mut File::create(dir.path().join(FILE)).unwrap()).unwrap();
    dir
}

/// What the version itself wrote down of a workspace, as JSON.
fn known(version: &str, workspace: &str) -> Value {
    let file = golden(version).join(format!("state-{workspace}.json"));
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

fn names<'a>(known: &'a Value, of: &str) -> Vec<&'a str> {
    known[of].as_object().unwrap().keys().map(String::as_str).collect()
}

fn compare(state: &State, known: &Value) {
    assert_eq!(state.head.0, known["head"].as_u64().unwrap());
    assert_eq!(state.messages, known["messages"].as_u64().unwrap());
    assert_eq!(state.domain_key_hash, known["domain_key_hash"].as_str().unwrap());
    for name in names(known, "agents") {
        let (agent, before) = (state.agent(&AgentId::new(name).unwrap()).unwrap(), &known["agents"][name]);
        assert_eq!(agent.card.name, before["card"]["name"].as_str().unwrap());
        assert_eq!(agent.secret.as_deref(), before["secret"].as_str(), "the secret of {name}");
    }
    assert_eq!(state.agents().len(), names(known, "agents").len());
    for name in names(known, "users") {
        assert!(state.user(&UserId::new(name).unwrap()).is_some(), "user {name}");
    }
    for name in names(known, "keys") {
        assert!(state.key(&KeyId::new(name).unwrap()).is_some(), "key {name}");
    }
    for name in names(known, "rooms") {
        let (room, before) = (state.room(&RoomId::new(name).unwrap()).unwrap(), &known["rooms"][name]);
        assert_eq!(room.seq, before["seq"].as_u64().unwrap(), "records of room {name}");
        assert_eq!(
            room.members.len(),
            before["members"].as_object().unwrap().len(),
            "members of room {name}"
        );
    }
    assert_eq!(state.rooms().len(), names(known, "rooms").len());
}

#[test]
fn what_0_1_0_wrote_verifies_and_folds_into_what_it_knew() {
    let dir = unpacked("0.1.0");
    let log = SqliteLog::open(dir.path()).unwrap();
    let workspaces = log.workspaces().unwrap();
    assert_eq!(workspaces.iter().map(WorkspaceId::as_str).collect::<Vec<_>>(), ["acme", "default"]);
    for workspace in workspaces {
        let known = known("0.1.0", workspace.as_str());
        let verified = log.verify(&workspace).unwrap();
        assert_eq!((verified.sound, verified.broken), (known["head"].as_u64().unwrap(), None));
        compare(&log.load(&workspace).unwrap().state, &known);
    }
}

//! Log engines: SQLite answers like memory, survives `kill -9` and a full disk, and shows what was tampered with.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test ends where something is missing")]

#[path = "engines/records.rs"]
mod records;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use records::{Dice, agent, any, append, message, room, workspace};
use roundtable::log::memory::MemoryLog;
use roundtable::log::sqlite::{FILE, OpenError, SqliteLog};
use roundtable::log::{Append, AppendError, Appended, ClientMark, Log, Page, Sought, Span, Wanted};
use roundtable_core::delivery::Topic;
use roundtable_core::event::{Event, Record};
use roundtable_core::feeds::Feed;
use roundtable_core::ids::{ClientId, MessageId, WorkspaceId};
use roundtable_core::repeats::ClientWrite;
use roundtable_core::state::State;
use roundtable_core::time::{Cursor, Offset, Time};

fn fill(logs: &[&dyn Log], w: &WorkspaceId, count: u64, dice: &mut Dice) -> Vec<Record> {
    let records: Vec<Record> = (1..=count).map(|offset| any(offset, dice)).collect();
    let mut rest = &records[..];
    while !rest.is_empty() {
        let (batch, later) = rest.split_at(rest.len().min(1 + dice.below(300) as usize));
        let expected = Offset(batch[0].offset.0 - 1);
        for log in logs {
            let (answer, result) = std::sync::mpsc::channel();
            let records = Arc::from(batch);
            let append = Append { workspace: w.clone(), expected, records, epoch: 1, relaxed: false };
            log.append(append, Box::new(move |appended| answer.send(appended).unwrap()));
            assert_eq!(result.recv().unwrap(), Appended::Committed);
        }
        rest = later;
    }
    records
}

/// Asks both everything and compares.
fn compare(sqlite: &SqliteLog, memory: &MemoryLog, w: &WorkspaceId, (count, dice): (u64, &mut Dice)) {
    let rooms = (0..8).map(|n| Topic::Room(room(n)));
    let people = (0..6).map(|n| Topic::Principal(agent(n)));
    let feeds = [Feed::Activity, Feed::Network, Feed::Consensus, Feed::Security, Feed::Monitoring];
    let topics: Vec<Topic> = rooms.chain(people).chain(feeds.map(Topic::Feed)).collect();
    let all = memory.read(w, Span::after(Offset(0))).unwrap();
    assert_eq!(sqlite.read(w, Span::after(Offset(0))).unwrap(), all);
    for _ in 0..25 {
        let after = Offset(dice.below(count + 10));
        let upto = Offset(after.0 + dice.below(count));
        let limit = [1, 10, 100, usize::MAX][dice.below(4) as usize];
        let bytes = [1, 300, 5_000, usize::MAX][dice.below(4) as usize];
        let span = Span { after, upto, limit, bytes };
        let (a, b) = (sqlite.read(w, span).unwrap(), memory.read(w, span).unwrap());
        assert_eq!(a, b, "{span:?}");
        let some = |dice: &mut Dice| {
            (topics[dice.below(topics.len() as u64) as usize].clone(), Offset(dice.below(count + 10)))
        };
        let sought: Vec<(Topic, Offset)> = (0..dice.below(5)).map(|_| some(dice)).collect();
        let sought = Sought { topics: &sought, upto, limit, newest: dice.below(2) == 0 };
        let (a, b) = (sqlite.places(w, &sought).unwrap(), memory.places(w, &sought).unwrap());
        assert_eq!(a, b, "{sought:?}");
        let (found, same) = (sqlite.read_at(w, &a, bytes).unwrap(), memory.read_at(w, &a, bytes).unwrap());
        assert_eq!(found, same, "{a:?} {bytes}");
        assert!(found.iter().map(|record| record.offset).eq(a.into_iter().take(found.len())));
        let (place, before) = (room(dice.below(8)), (dice.below(3) > 0).then_some(upto));
        let skip = dice.below(4) as usize;
        let after = (dice.below(3) == 0).then(|| Offset(dice.below(count + 10)));
        let page = Page { before, after, skip, limit, bytes };
        let (a, b) = (sqlite.read_room(w, &place, page).unwrap(), memory.read_room(w, &place, page).unwrap());
        assert_eq!(a, b, "{place} {page:?}");
        let said = &all[dice.below(count) as usize];
        if let Event::MessagePosted(posted) = &said.event {
            assert_eq!(sqlite.find_message(w, &posted.id).unwrap().as_ref(), Some(said));
        }
    }
    compare_clients(sqlite, memory, w, (&all, dice));
    for odd in ["x", "ffffffff0000000000000000", "654321000000000000000000"] {
        assert_eq!(sqlite.find_message(w, &MessageId::new(odd).unwrap()).unwrap(), None);
    }
    let (a, b) = (sqlite.load(w).unwrap(), memory.load(w).unwrap());
    assert_eq!((a.state, a.epochs), (b.state, b.epochs));
    assert_eq!(sqlite.verify(w).unwrap(), memory.verify(w).unwrap());
    assert_eq!(sqlite.workspaces().unwrap(), memory.workspaces().unwrap());
}

/// Looks up client ids, of records and of nobody, in spans around them and elsewhere.
fn compare_clients(
    sqlite: &SqliteLog,
    memory: &MemoryLog,
    w: &WorkspaceId,
    (all, dice): (&[Record], &mut Dice),
) {
    assert_eq!(sqlite.client_marks(w, Offset(0), 9).unwrap(), memory.client_marks(w, Offset(0), 9).unwrap());
    let (after, rest) = (Offset(dice.below(all.len() as u64)), usize::MAX);
    assert_eq!(sqlite.client_marks(w, after, rest).unwrap(), memory.client_marks(w, after, rest).unwrap());
    let mut wanted = Vec::new();
    for record in all.iter().filter(|record| record.client.is_some()).take(40) {
        let (near, far) = (record.offset.0 + 900 * dice.below(3), dice.below(all.len() as u64));
        let spans = vec![(Offset(near.saturating_sub(3)), Offset(near + 5)), (Offset(1), Offset(far))];
        let client = record.client.clone().unwrap().id;
        for who in [record.actor.clone(), agent(8)] {
            wanted.push(Wanted { who, client: client.clone(), spans: spans.clone() });
        }
    }
    let look_up = |log: &dyn Log| {
        let (answer, result) = std::sync::mpsc::channel();
        log.look_up(w, wanted.clone(), Box::new(move |found| answer.send(found).unwrap()));
        result.recv().unwrap().unwrap()
    };
    let found = look_up(sqlite);
    assert_eq!(found, look_up(memory));
    assert!(found.iter().flatten().count() >= 20, "most of them are there");
}

fn said_as(id: &str, (offset, at): (u64, i64), dice: &mut Dice) -> Record {
    let client = Some(ClientWrite { id: ClientId::new(id).unwrap(), command: None });
    Record { client, ..message(offset, at, room(1), dice) }
}

#[test]
fn client_ids_are_forgotten_after_a_day_a_few_at_a_time() {
    const DAY: i64 = 24 * 3_600_000;
    let dir = tempfile::tempdir().unwrap();
    let (w, mut dice) = (workspace("w"), Dice(9));
    let log = SqliteLog::open(dir.path()).unwrap();
    let old: Vec<Record> = (1..=100).map(|n| said_as(&format!("c{n}"), (n, n as i64), &mut dice)).collect();
    append(&log, &w, &old, (1, false));
    let marks = || log.client_marks(&w, Offset(0), usize::MAX).unwrap().len();
    append(&log, &w, &[said_as("edge", (101, DAY + 1), &mut dice)], (1, false));
    assert_eq!(marks(), 101, "the oldest of them is a day old and still counts");
    append(&log, &w, &[said_as("later", (102, 2 * DAY), &mut dice)], (1, false));
    assert_eq!(marks(), 100, "two go for one that comes");
    let more: Vec<Record> = (103..=152).map(|n| said_as(&format!("c{n}"), (n, 2 * DAY), &mut dice)).collect();
    append(&log, &w, &more, (1, false));
    assert_eq!(marks(), 52, "all that is too old is gone");
}

#[test]
fn client_ids_of_a_day_are_taken_over_from_a_log_without_a_table_of_them() {
    const DAY: i64 = 24 * 3_600_000;
    let dir = tempfile::tempdir().unwrap();
    let (w, mut dice) = (workspace("w"), Dice(10));
    let log = SqliteLog::open(dir.path()).unwrap();
    let records: Vec<Record> =
        (1..=50).map(|n| said_as(&format!("c{n}"), (n, n as i64 * DAY / 20), &mut dice)).collect();
    append(&log, &w, &records, (1, false));
    let kept: Vec<ClientMark> = log.client_marks(&w, Offset(29), usize::MAX).unwrap();
    drop(log);
    let connection = rusqlite::Connection::open(dir.path().join(FILE)).unwrap();
    connection
        .execute_batch(
            "DROP TABLE clients; DROP VIEW log; ALTER TABLE records DROP COLUMN command;
            ALTER TABLE records DROP COLUMN t; ALTER TABLE workspaces DROP COLUMN untimed;
            CREATE VIEW log AS SELECT 1; PRAGMA user_version = 1",
        )
        .unwrap();
    drop(connection);
    let log = SqliteLog::open(dir.path()).unwrap();
    assert_eq!(log.client_marks(&w, Offset(0), usize::MAX).unwrap(), kept, "those of the last day");
}

#[test]
fn sqlite_answers_like_memory_also_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let (memory, mut dice) = (MemoryLog::default(), Dice(7));
    let sqlite = SqliteLog::open(dir.path()).unwrap();
    let names = ["a", "b", "unused"].map(workspace);
    for (name, count) in names.iter().zip([6_000, 2_100]) {
        fill(&[&sqlite, &memory], name, count, &mut dice);
        compare(&sqlite, &memory, name, (count, &mut dice));
    }
    drop(sqlite);
    let sqlite = SqliteLog::open(dir.path()).unwrap();
    compare(&sqlite, &memory, &names[0], (6_000, &mut dice));
    let next: Vec<Record> = (6_001..=6_500).map(|offset| any(offset, &mut dice)).collect();
    for batch in next.chunks(100) {
        assert_eq!(append(&sqlite, &names[0], batch, (1, false)), Appended::Committed);
        assert_eq!(append(&memory, &names[0], batch, (1, false)), Appended::Committed);
    }
    compare(&sqlite, &memory, &names[0], (6_500, &mut dice));
    assert_eq!(sqlite.load(&names[2]).unwrap().state, State::default());
    assert!(sqlite.read(&names[2], Span::after(Offset(0))).unwrap().is_empty());
}

#[test]
fn many_writers_at_once_and_one_that_is_behind() {
    let dir = tempfile::tempdir().unwrap();
    let sqlite = SqliteLog::open(dir.path()).unwrap();
    std::thread::scope(|scope| {
        for name in ["a", "b", "c", "d"] {
            let sqlite = &sqlite;
            scope.spawn(move || {
                let (w, mut dice) = (workspace(name), Dice(1));
                let kept = fill(&[sqlite], &w, 500, &mut dice);
                assert_eq!(sqlite.read(&w, Span::after(Offset(0))).unwrap(), kept);
            });
        }
    });
    let (w, mut dice) = (workspace("a"), Dice(2));
    let missed = sqlite.read(&w, Span::after(Offset(490))).unwrap();
    let late = append(&sqlite, &w, &[any(491, &mut dice)], (1, false));
    assert_eq!(late, Appended::Behind(missed));
    let gap = append(&sqlite, &w, &[any(502, &mut dice)], (1, false));
    assert!(matches!(gap, Appended::Failed(AppendError::Io(_))), "{gap:?}");
    assert_eq!(append(&sqlite, &w, &[any(501, &mut dice)], (1, false)), Appended::Committed);
}

#[test]
fn a_second_process_is_refused_with_the_number_of_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let first = SqliteLog::open(dir.path()).unwrap();
    let Err(refused) = SqliteLog::open(dir.path()) else { panic!("two writers on one log") };
    assert!(matches!(&refused, OpenError::InUse { pid: Some(pid), .. } if *pid == std::process::id()));
    assert!(refused.to_string().contains("in use"), "{refused}");
    drop(first);
    assert!(SqliteLog::open(dir.path()).is_ok());
}

#[cfg(unix)]
#[test]
fn files_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let log = SqliteLog::open(&data).unwrap();
    append(&log, &workspace("w"), &[any(1, &mut Dice(1))], (1, false));
    for entry in std::fs::read_dir(&data).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o77, 0, "{:?}", entry.path());
    }
}

#[test]
fn epochs_begin_only_when_unsynced_records_may_have_been_seen() {
    let dir = tempfile::tempdir().unwrap();
    let (w, mut dice) = (workspace("w"), Dice(3));
    let mut step = |offset: u64, carry: (u32, bool), settle: bool| {
        let log = SqliteLog::open(dir.path()).unwrap();
        let epochs = log.load(&w).unwrap().epochs;
        assert_eq!(append(&log, &w, &[any(offset, &mut dice)], carry), Appended::Committed);
        if settle {
            log.settle(&w).unwrap();
        }
        epochs
    };
    assert_eq!(step(1, (1, false), false).current(), 1);
    assert_eq!(step(2, (1, true), true).current(), 1, "nothing was relaxed");
    assert_eq!(step(3, (1, true), false).current(), 1, "it was settled");
    let epochs = step(4, (2, false), false);
    assert_eq!(epochs.current(), 2, "records after 3 may have been seen");
    assert!(epochs.holds(Cursor { epoch: 1, offset: Offset(3) }, Offset(3)));
    let epochs = step(5, (2, false), false);
    assert_eq!(epochs.current(), 2, "the new epoch is written down, and nothing was relaxed in it");
    assert!(!epochs.holds(Cursor { epoch: 1, offset: Offset(4) }, Offset(4)));
    assert!(epochs.holds(Cursor { epoch: 2, offset: Offset(4) }, Offset(4)));
}

fn edit(dir: &Path, sql: &str) {
    let connection = rusqlite::Connection::open(dir.join(FILE)).unwrap();
    assert!(connection.execute(sql, ()).unwrap() > 0, "{sql}");
}

#[test]
fn what_was_tampered_with_shows() {
    let (w, mut dice) = (workspace("w"), Dice(4));
    for (sql, broken) in [
        ("UPDATE records SET body = replace(body, 'text 9 ', 'text 8 ') WHERE id = (1 << 40) + 9", 9),
        ("UPDATE records SET at = at + 1 WHERE id = (1 << 40) + 3", 3),
        ("DELETE FROM records WHERE id = (1 << 40) + 5", 5),
        ("UPDATE records SET client = 'c' WHERE id = (1 << 40) + 1", 1),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let log = SqliteLog::open(dir.path()).unwrap();
        let records: Vec<Record> =
            (1..=20).map(|offset| message(offset, offset as i64, room(1), &mut dice)).collect();
        append(&log, &w, &records, (1, false));
        assert_eq!(log.verify(&w).unwrap().sound, 20);
        edit(dir.path(), sql);
        let found = log.verify(&w).unwrap();
        assert_eq!(found.sound, broken - 1, "{sql}");
        assert_eq!(found.broken.unwrap().0, Offset(broken), "{sql}");
    }
}

#[test]
fn what_is_not_of_a_topic_is_never_read_not_even_in_the_newest_part() {
    let dir = tempfile::tempdir().unwrap();
    let (w, mut dice) = (workspace("w"), Dice(8));
    let mut log = SqliteLog::open(dir.path()).unwrap();
    let place = |offset: u64| room(if offset.is_multiple_of(50) { 1 } else { 2 });
    let said: Vec<Record> =
        (1..=3_000).map(|offset| message(offset, offset as i64, place(offset), &mut dice)).collect();
    for batch in said.chunks(500) {
        append(&log, &w, batch, (1, false));
    }
    edit(dir.path(), "UPDATE records SET body = 'unreadable' WHERE room = 'room-2'");
    let expected: Vec<&Record> = said.iter().filter(|record| record.offset.0.is_multiple_of(50)).collect();
    for _ in 0..2 {
        let topics = [(Topic::Room(room(1)), Offset(0)), (Topic::Principal(agent(1)), Offset(0))];
        let sought = Sought { topics: &topics, upto: Offset(3_000), limit: 1_000, newest: false };
        let places = log.places(&w, &sought).unwrap();
        assert!(log.read_at(&w, &places, usize::MAX).unwrap().iter().eq(expected.iter().copied()));
        let page = log.read_room(&w, &room(1), Page::of(None, 1_000)).unwrap();
        assert!(page.iter().eq(expected.iter().copied()));
        drop(log);
        log = SqliteLog::open(dir.path()).unwrap();
    }
    assert!(log.read(&w, Span::after(Offset(0))).is_err(), "the others are unreadable");
}

#[test]
fn a_person_can_read_the_table() {
    let dir = tempfile::tempdir().unwrap();
    let log = SqliteLog::open(dir.path()).unwrap();
    append(&log, &workspace("w"), &[message(1, 1_700_000_000_123, room(1), &mut Dice(5))], (1, false));
    let connection = rusqlite::Connection::open(dir.path().join(FILE)).unwrap();
    let sql =
        "SELECT workspace || ' ' || offset || ' ' || at || ' ' || kind || ' ' || room || ' ' || room_seq
        || ' ' || json_extract(body, '$.content.text') || ' ' || length(hash) FROM log";
    let line: String = connection.query_row(sql, (), |row| row.get(0)).unwrap();
    assert!(line.starts_with("w 1 2023-11-14T22:13:20.123Z message.posted room-1 1 text 1 "), "{line}");
    assert!(line.ends_with(" 64"), "{line}");
}

#[test]
fn snapshots_shorten_loading_and_are_passed_over_when_unreadable() {
    let dir = tempfile::tempdir().unwrap();
    let (w, mut dice) = (workspace("w"), Dice(6));
    let log = SqliteLog::open(dir.path()).unwrap();
    fill(&[&log], &w, 40, &mut dice);
    let state = log.load(&w).unwrap().state;
    log.snapshot(&w, &state).unwrap();
    append(&log, &w, &[any(41, &mut dice)], (1, false));
    let whole = log.load(&w).unwrap().state;
    assert_eq!(whole.head, Offset(41));
    edit(dir.path(), "DELETE FROM records WHERE id <= (1 << 40) + 40");
    assert_eq!(log.load(&w).unwrap().state, whole, "only the snapshot and one record were needed");

    let mut ahead = whole.clone();
    ahead.apply(&any(42, &mut dice));
    assert!(log.snapshot(&w, &ahead).is_err(), "the log does not hold record 42");
    edit(dir.path(), "UPDATE snapshots SET version = 'another', state = '{}'");
    let error = log.load(&w).unwrap_err();
    assert!(error.message.contains("record 1 is missing"), "another version's snapshot is not read: {error}");
}

#[test]
fn old_snapshots_go_and_an_unreadable_one_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let (w, mut dice) = (workspace("w"), Dice(6));
    let log = SqliteLog::open(dir.path()).unwrap();
    fill(&[&log], &w, 40, &mut dice);
    for offset in 41..46 {
        append(&log, &w, &[any(offset, &mut dice)], (1, false));
        log.snapshot(&w, &log.load(&w).unwrap().state).unwrap();
    }
    edit(dir.path(), "UPDATE snapshots SET state = '{\"head\":\"?\"}' WHERE offset = 45");
    edit(dir.path(), "DELETE FROM snapshots WHERE offset = 44");
    let connection = rusqlite::Connection::open(dir.path().join(FILE)).unwrap();
    let left: u64 = connection.query_row("SELECT count(*) FROM snapshots", (), |row| row.get(0)).unwrap();
    assert_eq!(left, 1, "older ones are gone");
    assert_eq!(log.load(&w).unwrap().state.head, Offset(45));
}

/// The child of the test below: appends without end and says what was committed.
#[test]
#[ignore = "is started by another test, which kills it"]
fn child_that_appends_until_it_is_killed() {
    let Ok(dir) = std::env::var("ROUNDTABLE_TEST_DIR") else { return };
    let log = SqliteLog::open(Path::new(&dir)).unwrap();
    let w = workspace("w");
    let mut head = log.load(&w).unwrap().state.head.0;
    println!("ready {head}");
    loop {
        let mut dice = Dice(head);
        let batch: Vec<Record> =
            (head + 1..=head + 1 + dice.below(40)).map(|offset| any(offset, &mut Dice(offset))).collect();
        head += batch.len() as u64;
        assert_eq!(append(&log, &w, &batch, (1, false)), Appended::Committed);
        println!("ready {head}");
    }
}

#[cfg(unix)]
#[test]
fn killed_at_any_moment_nothing_acknowledged_is_lost_and_nothing_is_torn() {
    let dir = tempfile::tempdir().unwrap();
    let mut dice = Dice(u64::from(std::process::id()));
    for round in 0..8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_appends_until_it_is_killed", "--ignored", "--nocapture"])
            .env("ROUNDTABLE_TEST_DIR", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = |least: u64| {
            let mut last = 0;
            for line in lines.by_ref() {
                let line = line.unwrap();
                let Some(head) = line.split("ready ").nth(1) else { continue };
                last = head.parse().unwrap();
                if last >= least {
                    break;
                }
            }
            last
        };
        let start = acknowledged(0);
        let seen = acknowledged(start + 1 + dice.below(1500));
        std::thread::sleep(std::time::Duration::from_micros(dice.below(3_000)));
        child.kill().unwrap();
        let acknowledged = acknowledged(u64::MAX).max(seen);
        child.wait().unwrap();

        let log = SqliteLog::open(dir.path()).unwrap();
        let w = workspace("w");
        let kept = log.read(&w, Span::after(Offset(0))).unwrap();
        assert!(kept.len() as u64 >= acknowledged, "round {round}: {} < {acknowledged}", kept.len());
        for (record, offset) in kept.iter().zip(1..) {
            assert_eq!(*record, any(offset, &mut Dice(offset)), "round {round}");
        }
        assert_eq!(log.verify(&w).unwrap().sound, kept.len() as u64, "round {round}");
        assert_eq!(log.load(&w).unwrap().epochs.current(), 1, "cursors of durable rooms stay good");
    }
}

/// The child of the test below: fills a small disk, then makes room again.
#[test]
#[ignore = "is started by another test, inside a small disk"]
fn child_that_fills_the_disk() {
    let Ok(dir) = std::env::var("ROUNDTABLE_TEST_DIR") else { return };
    let (dir, w) = (Path::new(&dir), workspace("w"));
    let ballast = dir.join("ballast");
    std::fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    let log = SqliteLog::open(&dir.join("data")).unwrap();
    let mut head = 0;
    let mut extend = |log: &SqliteLog, count: u64| {
        let batch: Vec<Record> =
            (head + 1..=head + count).map(|offset| any(offset, &mut Dice(offset))).collect();
        let appended = append(log, &w, &batch, (1, false));
        head += if appended == Appended::Committed { count } else { 0 };
        (appended, head)
    };
    let full = loop {
        let (appended, head) = extend(&log, 50);
        if appended != Appended::Committed {
            assert_eq!(appended, Appended::Failed(AppendError::Full));
            break head;
        }
    };
    assert!(full > 0);
    for _ in 0..5 {
        extend(&log, 200);
        let kept = log.read(&w, Span::after(Offset(0))).unwrap();
        assert!(kept.len() as u64 >= full, "reading goes on");
    }
    std::fs::remove_file(&ballast).unwrap();
    let (appended, head) = extend(&log, 50);
    assert_eq!(appended, Appended::Committed, "writing resumes when there is room");
    drop(log);
    let log = SqliteLog::open(&dir.join("data")).unwrap();
    let kept = log.read(&w, Span::after(Offset(0))).unwrap();
    assert_eq!(kept.len() as u64, head);
    for (record, offset) in kept.iter().zip(1..) {
        assert_eq!(*record, any(offset, &mut Dice(offset)));
    }
    assert_eq!(log.verify(&w).unwrap().sound, head);
    println!("survived {head}");
}

/// Needs the right to mount a small file system; where nobody may, the in-crate test with a page limit stands for it.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_refuses_writes_keeps_reading_and_takes_writes_again() {
    let dir = tempfile::tempdir().unwrap();
    let mount = "mount -t tmpfs -o size=3m none \"$ROUNDTABLE_TEST_DIR\" || exit 77; exec \"$0\" \"$@\"";
    let child = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", mount])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_fills_the_disk", "--ignored", "--nocapture"])
        .env("ROUNDTABLE_TEST_DIR", dir.path())
        .output();
    match child {
        Ok(output) if output.status.success() => {
            assert!(String::from_utf8_lossy(&output.stdout).contains("survived"));
        }
        Ok(output) if output.status.code() == Some(101) => {
            panic!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
        }
        Ok(output) => println!("not tried, no right to mount: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => println!("not tried: {error}"),
    }
}

#[test]
fn times_of_ids_and_records_need_not_agree_with_the_order_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let (w, mut dice) = (workspace("w"), Dice(8));
    let log = SqliteLog::open(dir.path()).unwrap();
    let records: Vec<Record> = (1..=5_000)
        .map(|offset| message(offset, 10_000_000 - offset as i64 * 7, room(offset % 2), &mut dice))
        .collect();
    for batch in records.chunks(500) {
        append(&log, &w, batch, (1, false));
    }
    for record in records.iter().step_by(97) {
        let Event::MessagePosted(posted) = &record.event else { panic!("only messages") };
        let found = log.find_message(&w, &posted.id).unwrap();
        assert_eq!(found.as_ref(), Some(record));
        assert_eq!(posted.id.as_str()[..8], format!("{:08x}", Time(record.at.0).as_seconds()));
    }
}

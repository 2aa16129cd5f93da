//! The tables of the log's file, in numbered steps, and how a record's place is packed into one number.

use roundtable_core::limits::REPEAT_MS;
use rusqlite::{Connection, Transaction};

use super::super::codec;

/// Bits of a record's id that hold its offset; the workspace's number stands above them.
const OFFSET_BITS: u32 = 40;
/// Largest offset there is room for: 10¹² records in one workspace.
pub const MAX_OFFSET: u64 = (1 << OFFSET_BITS) - 1;

/// The steps from an empty file on. A step that was once released is never changed; the file's `user_version` says how many
/// were taken.
const STEPS: &[&str] = &["
    -- `indexed`: records up to this offset are in `topics` and `chunks`. `loose`: records may have been handed out unsynced.
    CREATE TABLE workspaces(
        number INTEGER PRIMARY KEY CHECK (number < 0x800000), workspace TEXT NOT NULL UNIQUE,
        indexed INTEGER NOT NULL DEFAULT 0, loose INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE epochs(
        number INTEGER NOT NULL, epoch INTEGER NOT NULL, first INTEGER NOT NULL, PRIMARY KEY(number, epoch)
    ) WITHOUT ROWID;
    -- `id`: the workspace's number times 2^40, plus the offset, so that every append goes to the end of the tree.
    CREATE TABLE records(
        id INTEGER PRIMARY KEY, at INTEGER NOT NULL, kind TEXT NOT NULL, actor TEXT NOT NULL,
        room TEXT, room_seq INTEGER, target TEXT, client TEXT, hash BLOB NOT NULL, body TEXT NOT NULL
    );
    -- Where to find the records of a topic, filled a chunk at a time; `last` is the id of the chunk's last record, `places`
    -- are the distances back from it, 32 bits each, little-endian, oldest record first.
    CREATE TABLE topics(
        topic TEXT NOT NULL, last INTEGER NOT NULL, places BLOB NOT NULL, PRIMARY KEY(topic, last)
    ) WITHOUT ROWID;
    CREATE TABLE chunks(
        last INTEGER PRIMARY KEY, first INTEGER NOT NULL, earliest INTEGER NOT NULL, latest INTEGER NOT NULL
    );
    -- `version`: of the program that took it; another one may remember more of the same records.
    CREATE TABLE snapshots(
        number INTEGER NOT NULL, offset INTEGER NOT NULL, version TEXT NOT NULL, state TEXT NOT NULL,
        PRIMARY KEY(number, offset)
    );
    CREATE VIEW log AS
        SELECT w.workspace AS workspace, r.id & 0xffffffffff AS offset,
            strftime('%Y-%m-%dT%H:%M:%fZ', r.at / 1000.0, 'unixepoch') AS at,
            r.kind, r.actor, r.room, r.room_seq, r.target, r.client, r.body, lower(hex(r.hash)) AS hash
        FROM records r JOIN workspaces w ON w.number = r.id >> 40;
", "
    -- `command`: the hash of the command that has the client id; part of the record's hash where there is one.
    ALTER TABLE records ADD COLUMN command TEXT;
    -- The records with a client id, as long as such ids count; `mark` is a hash of actor and client id. New ones go to the end.
    CREATE TABLE clients(id INTEGER PRIMARY KEY, mark INTEGER NOT NULL, t INTEGER NOT NULL);
    DROP VIEW log;
    CREATE VIEW log AS
        SELECT w.workspace AS workspace, r.id & 0xffffffffff AS offset,
            strftime('%Y-%m-%dT%H:%M:%fZ', r.at / 1000.0, 'unixepoch') AS at,
            r.kind, r.actor, r.room, r.room_seq, r.target, r.client, r.command, r.body, lower(hex(r.hash)) AS hash
        FROM records r JOIN workspaces w ON w.number = r.id >> 40;
", "
    -- `t`: log time. What was written before there was one gets the newest stamp so far; `untimed`: up to this offset it is no
    -- part of the hash.
    ALTER TABLE records ADD COLUMN t INTEGER NOT NULL DEFAULT 0;
    UPDATE records SET t = newest.t FROM (
        SELECT id, max(at) OVER (PARTITION BY id >> 40 ORDER BY id) AS t FROM records
    ) AS newest WHERE newest.id = records.id;
    ALTER TABLE workspaces ADD COLUMN untimed INTEGER NOT NULL DEFAULT 0;
    UPDATE workspaces SET untimed = coalesce(
        (SELECT max(id) & 0xffffffffff FROM records WHERE id BETWEEN number << 40 AND (number << 40) + 0xffffffffff), 0
    );
    DROP VIEW log;
    CREATE VIEW log AS
        SELECT w.workspace AS workspace, r.id & 0xffffffffff AS offset,
            strftime('%Y-%m-%dT%H:%M:%fZ', r.at / 1000.0, 'unixepoch') AS at, r.t,
            r.kind, r.actor, r.room, r.room_seq, r.target, r.client, r.command, r.body, lower(hex(r.hash)) AS hash
        FROM records r JOIN workspaces w ON w.number = r.id >> 40;
"];
/// The step from which on client ids can be noted: there are a table of them and log times.
const CLIENTS: u32 = 3;

/// Brings the file up to date. Gives the version found if a newer program wrote it.
pub fn migrate(connection: &mut Connection) -> rusqlite::Result<Result<(), usize>> {
    let version = connection.pragma_query_value(None, "user_version", |row| row.get::<_, usize>(0))?;
    if version > STEPS.len() {
        return Ok(Err(version));
    }
    for (number, step) in (1_u32..).zip(STEPS).skip(version) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        if number == CLIENTS {
            fill_clients(&transaction)?;
        }
        transaction.pragma_update(None, "user_version", number)?;
        transaction.commit()?;
    }
    Ok(Ok(()))
}

/// Notes the client ids that still count.
fn fill_clients(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let mut workspaces = transaction.prepare("SELECT number FROM workspaces")?;
    let mut newest_first = transaction
        .prepare("SELECT id, t, actor, client FROM records WHERE id > ?1 AND id <= ?2 ORDER BY id DESC")?;
    let mut note = transaction.prepare("INSERT OR REPLACE INTO clients(id, mark, t) VALUES (?1, ?2, ?3)")?;
    let mut numbers = workspaces.query(())?;
    while let Some(number) = numbers.next()? {
        let number: i64 = number.get(0)?;
        let mut rows = newest_first.query((id(number, 0), id(number, MAX_OFFSET)))?;
        let mut head: Option<i64> = None;
        while let Some(row) = rows.next()? {
            let t: i64 = row.get(1)?;
            if head.get_or_insert(t).saturating_sub(t) > REPEAT_MS {
                break;
            }
            if let Some(client) = row.get_ref(3)?.as_str_or_null()? {
                let mark = codec::mark(row.get_ref(2)?.as_str()?, client).cast_signed();
                note.execute((row.get::<_, i64>(0)?, mark, t))?;
            }
        }
    }
    Ok(())
}

/// The id of a record; offsets above [`MAX_OFFSET`] count as that.
pub fn id(number: i64, offset: u64) -> i64 {
    (number << OFFSET_BITS) | i64::try_from(offset.min(MAX_OFFSET)).unwrap_or_default()
}

/// The offset in a record's id.
pub fn offset(id: i64) -> u64 {
    id.unsigned_abs() & MAX_OFFSET
}

//! The one thread that writes the log's file: everything that waits, of all workspaces, goes into one transaction and one sync.

use std::collections::{HashMap, HashSet};
use std::sync::PoisonError;
use std::sync::mpsc::{Receiver, TryRecvError};

use roundtable_core::ids::WorkspaceId;
use roundtable_core::limits::REPEAT_MS;
use roundtable_core::time::Offset;
use rusqlite::{Connection, ErrorCode, OptionalExtension};

use super::super::codec::{self, Hash, Row};
use super::super::{AppendError, Appended, Done, Span};
use super::postings::{AllPending, Pending, Place};
use super::{reader, schema};

/// No more records go into one transaction, so that nobody waits long for somebody else's.
const MAX_RECORDS: usize = 8_192;
/// No more bytes go into one transaction, so that it fits into SQLite's cache and is not written twice.
const MAX_BYTES: usize = 4 << 20;

/// Something for the writer to do.
pub enum Job {
    /// Write records and answer.
    Append(Prepared, Answer),
    /// Something else, on its own.
    Run(Box<dyn FnOnce(&mut Writer) + Send>),
    /// Finish what came before and end.
    Stop,
}

/// An append whose records are already in columns.
pub struct Prepared {
    /// Whose log.
    pub workspace: WorkspaceId,
    /// The head it was decided on.
    pub expected: u64,
    /// The epoch it is written in.
    pub epoch: u32,
    /// Later records may be handed out before they are synced.
    pub relaxed: bool,
    /// The records.
    pub rows: Vec<Row>,
}

/// Who waits for the result. Hears that the log is closed if nobody else tells.
pub struct Answer(Option<Done>);

impl Answer {
    /// Answers with `done`.
    pub fn new(done: Done) -> Self {
        Self(Some(done))
    }

    /// Answers.
    pub fn give(mut self, appended: Appended) {
        if let Some(done) = self.0.take() {
            done(appended);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done(Appended::Failed(AppendError::Closed));
        }
    }
}

/// Where a workspace's log ends.
#[derive(Clone, Copy)]
struct Tail {
    number: i64,
    head: u64,
    hash: Hash,
    epoch: u32,
    loose: bool,
}

type Tails = HashMap<WorkspaceId, Tail>;

/// What becomes of one append if the transaction is committed.
enum Verdict {
    Written,
    Behind { number: i64, expected: u64 },
    Failed(AppendError),
}

/// The writer's side of the file.
pub struct Writer {
    /// Its connection.
    pub connection: Connection,
    tails: Tails,
    pending: AllPending,
    /// Whose pending chunk the open transaction holds.
    filed: HashSet<WorkspaceId>,
}

/// What SQLite says, in the log's words.
pub fn failure(error: &rusqlite::Error) -> AppendError {
    use rusqlite::ffi::{SQLITE_IOERR_SHMSIZE, SQLITE_IOERR_TRUNCATE, SQLITE_IOERR_WRITE};
    let rusqlite::Error::SqliteFailure(code, _) = error else { return AppendError::Io(error.to_string()) };
    match code.extended_code {
        _ if code.code == ErrorCode::DiskFull => AppendError::Full,
        // The shared index of the write-ahead log could not grow; it is a file like the others.
        SQLITE_IOERR_SHMSIZE => AppendError::Full,
        // The system may also limit how long a file gets, and says it in other words than a full disk.
        SQLITE_IOERR_WRITE | SQLITE_IOERR_TRUNCATE if files_are_limited() => AppendError::Full,
        _ => AppendError::Io(error.to_string()),
    }
}

fn files_are_limited() -> bool {
    rustix::process::getrlimit(rustix::process::Resource::Fsize).current.is_some()
}

impl Writer {
    /// Writes through `connection`. What is not in the tables yet is read back.
    pub fn new(connection: Connection) -> rusqlite::Result<Self> {
        let pending = reader::all_pending(&connection)?;
        let pending = AllPending::new(pending.into());
        Ok(Self { connection, tails: Tails::new(), pending, filed: HashSet::new() })
    }

    /// What is not in the tables yet, for readers to look things up.
    pub fn pending(&self) -> AllPending {
        AllPending::clone(&self.pending)
    }

    /// Works until told to stop. While one transaction is synced, the next one gathers in the channel.
    pub fn work(mut self, jobs: &Receiver<Job>) {
        let mut group = Vec::new();
        while let Ok(first) = jobs.recv() {
            let (mut records, mut bytes) = (0, 0);
            let mut next = Some(first);
            let other = loop {
                match next {
                    Some(Job::Append(prepared, answer)) => {
                        records += prepared.rows.len();
                        bytes += prepared.rows.iter().map(Row::bytes).sum::<usize>();
                        group.push((prepared, answer));
                    }
                    other => break other,
                }
                next = match jobs.try_recv() {
                    Ok(job) if records < MAX_RECORDS && bytes < MAX_BYTES => Some(job),
                    Ok(job) => {
                        self.commit(&mut group);
                        (records, bytes) = (0, 0);
                        Some(job)
                    }
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
                };
            };
            self.commit(&mut group);
            match other {
                Some(Job::Run(run)) => run(&mut self),
                Some(Job::Stop) => return self.finish(),
                Some(Job::Append(..)) | None => {}
            }
        }
    }

    /// Brings everything from the write-ahead log into the file, so that the file alone is the log. Readers that are still at
    /// work are waited for a moment; what is left then is taken in by the next start.
    fn finish(self) {
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        let left = self.connection.query_row(sql, (), |row| row.get::<_, bool>(0));
        match left {
            Ok(false) => {}
            Ok(true) => tracing::warn!("readers are still at work: copy {}-wal with the log", super::FILE),
            Err(error) => tracing::warn!(%error, "the write-ahead log stays beside the log"),
        }
    }

    fn commit(&mut self, group: &mut Vec<(Prepared, Answer)>) {
        if group.is_empty() {
            return;
        }
        let mut staged = Tails::new();
        let verdicts = self.transaction(|writer| {
            group
                .iter()
                .map(|(prepared, _)| writer.write(&mut staged, prepared))
                .collect::<Result<Vec<_>, _>>()
        });
        let group = group.drain(..);
        match verdicts {
            Err(error) => {
                self.tails.retain(|workspace, _| !staged.contains_key(workspace));
                self.filed.clear();
                group.for_each(|(_, answer)| answer.give(Appended::Failed(error.clone())));
            }
            Ok(verdicts) => {
                self.tails.extend(staged);
                if !self.filed.is_empty() {
                    let mut pending = self.pending.write().unwrap_or_else(PoisonError::into_inner);
                    self.filed.drain().for_each(|workspace| drop(pending.remove(&workspace)));
                }
                for ((prepared, answer), verdict) in group.zip(verdicts) {
                    let appended = self.settled(&prepared, verdict);
                    answer.give(appended);
                }
            }
        }
    }

    /// Does something in one transaction, which is synced when this returns well and has left no trace when not.
    pub fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> rusqlite::Result<T>,
    ) -> Result<T, AppendError> {
        let begun = self.connection.execute_batch("BEGIN IMMEDIATE");
        let result = begun.and_then(|()| work(self)).and_then(|value| {
            self.connection.execute_batch("COMMIT")?;
            Ok(value)
        });
        if result.is_err()
            && !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "the log's transaction cannot be rolled back");
        }
        result.map_err(|error| failure(&error))
    }

    fn write(&mut self, staged: &mut Tails, append: &Prepared) -> rusqlite::Result<Verdict> {
        let known = staged.get(&append.workspace).or_else(|| self.tails.get(&append.workspace));
        let mut tail = match known {
            Some(tail) => *tail,
            None => self.tail(&append.workspace)?,
        };
        let ends =
            |head| Verdict::Failed(AppendError::Io(format!("the log ends at {head}, not where expected")));
        if append.expected < tail.head {
            return Ok(Verdict::Behind { number: tail.number, expected: append.expected });
        }
        let dense = (append.expected + 1..).zip(&append.rows).all(|(offset, row)| row.offset == offset);
        let room = append.expected.saturating_add(append.rows.len() as u64) <= schema::MAX_OFFSET;
        if append.expected > tail.head || !dense || !room {
            return Ok(ends(tail.head));
        }
        let pending = self.pending.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(pending) = pending.get(&append.workspace).filter(|pending| pending.due())
            && self.filed.insert(append.workspace.clone())
        {
            pending.write(&self.connection, tail.number)?;
        }
        drop(pending);
        self.mark(&mut tail, append)?;
        insert(&self.connection, &mut tail, &append.rows)?;
        note_clients(&self.connection, tail.number, &append.rows)?;
        staged.insert(append.workspace.clone(), tail);
        Ok(Verdict::Written)
    }

    /// Notes a new epoch, and that records may be handed out before they are synced.
    fn mark(&self, tail: &mut Tail, append: &Prepared) -> rusqlite::Result<()> {
        let begins = append.epoch > tail.epoch;
        if begins {
            let sql = "INSERT INTO epochs(number, epoch, first) VALUES (?1, ?2, ?3)";
            self.connection.prepare_cached(sql)?.execute((tail.number, append.epoch, tail.head + 1))?;
            tail.epoch = append.epoch;
        }
        let loose = append.relaxed || (tail.loose && !begins);
        if loose != tail.loose {
            let sql = "UPDATE workspaces SET loose = ?2 WHERE number = ?1";
            self.connection.prepare_cached(sql)?.execute((tail.number, loose))?;
            tail.loose = loose;
        }
        Ok(())
    }

    /// Everything that was handed out is synced.
    pub fn settle(&mut self, workspace: &WorkspaceId) -> Result<(), AppendError> {
        self.transaction(|writer| {
            let sql = "UPDATE workspaces SET loose = 0 WHERE workspace = ?1";
            writer.connection.execute(sql, [workspace.as_str()])
        })?;
        if let Some(tail) = self.tails.get_mut(workspace) {
            tail.loose = false;
        }
        Ok(())
    }

    /// Finds where a log ends, or begins one.
    fn tail(&mut self, workspace: &WorkspaceId) -> rusqlite::Result<Tail> {
        let sql = "SELECT number FROM workspaces WHERE workspace = ?1";
        let found = self.connection.query_row(sql, [workspace.as_str()], |row| row.get(0));
        let Some(number) = found.optional()? else {
            let sql = "INSERT INTO workspaces(workspace) VALUES (?1)";
            self.connection.execute(sql, [workspace.as_str()])?;
            let number = self.connection.last_insert_rowid();
            let hash = codec::beginning(workspace);
            return Ok(Tail { number, head: 0, hash, epoch: 1, loose: false });
        };
        let sql = "SELECT id, hash FROM records WHERE id > ?1 AND id <= ?2 ORDER BY id DESC LIMIT 1";
        let ends = (schema::id(number, 0), schema::id(number, schema::MAX_OFFSET));
        let last = self.connection.query_row(sql, ends, |row| Ok((schema::offset(row.get(0)?), row.get(1)?)));
        let (head, hash) = last.optional()?.unwrap_or_else(|| (0, codec::beginning(workspace)));
        let (epochs, loose) = reader::epochs(&self.connection, number)?;
        let tail = Tail { number, head, hash, epoch: epochs.current(), loose };
        self.tails.insert(workspace.clone(), tail);
        Ok(tail)
    }

    /// The answer to an append after its transaction is synced.
    fn settled(&mut self, append: &Prepared, verdict: Verdict) -> Appended {
        match verdict {
            Verdict::Failed(error) => Appended::Failed(error),
            Verdict::Behind { number, expected } => {
                let span = Span::after(Offset(expected));
                match reader::scan(&self.connection, number, span) {
                    Ok(records) => Appended::Behind(records),
                    Err(fault) => {
                        let error = roundtable_core::error::Error::from(fault);
                        Appended::Failed(AppendError::Io(error.message.into_owned()))
                    }
                }
            }
            Verdict::Written => {
                let mut pending = self.pending.write().unwrap_or_else(PoisonError::into_inner);
                let pending: &mut Pending = pending.entry(append.workspace.clone()).or_default();
                for row in &append.rows {
                    let columns = row.columns();
                    pending.add(Place {
                        offset: row.offset,
                        at: row.at,
                        kind: columns.kind,
                        room: columns.room,
                        target: columns.target,
                    });
                }
                Appended::Committed
            }
        }
    }
}

fn insert(connection: &Connection, tail: &mut Tail, rows: &[Row]) -> rusqlite::Result<()> {
    let sql =
        "INSERT INTO records(id, at, kind, actor, room, room_seq, target, client, hash, body, command, t)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    let mut statement = connection.prepare_cached(sql)?;
    for row in rows {
        tail.hash = row.chain(&tail.hash);
        tail.head = row.offset;
        let columns = row.columns();
        statement.execute((
            schema::id(tail.number, row.offset),
            row.at,
            columns.kind,
            columns.actor,
            columns.room,
            row.room_seq,
            columns.target,
            columns.client,
            &tail.hash[..],
            columns.body,
            columns.command,
            row.t,
        ))?;
    }
    Ok(())
}

/// Notes client ids, and forgets twice as many of the oldest if they count no more.
fn note_clients(connection: &Connection, number: i64, rows: &[Row]) -> rusqlite::Result<()> {
    let mut noted = 0_i64;
    let mut statement = connection.prepare_cached("INSERT INTO clients(id, mark, t) VALUES (?1, ?2, ?3)")?;
    for row in rows {
        let columns = row.columns();
        if let Some(client) = columns.client {
            let mark = codec::mark(columns.actor, client).cast_signed();
            noted += 1;
            statement.execute((schema::id(number, row.offset), mark, row.t))?;
        }
    }
    if let (1.., Some(last)) = (noted, rows.last()) {
        let sql = "DELETE FROM clients WHERE t < ?1 AND id IN (
            SELECT id FROM clients WHERE id > ?2 AND id <= ?3 ORDER BY id LIMIT ?4
        )";
        let (low, high) = (schema::id(number, 0), schema::id(number, schema::MAX_OFFSET));
        let oldest = last.t.saturating_sub(REPEAT_MS);
        connection.prepare_cached(sql)?.execute((oldest, low, high, noted * 2))?;
    }
    Ok(())
}

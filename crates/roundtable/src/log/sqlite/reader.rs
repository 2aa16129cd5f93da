//! Reading the log's file: each question in one read transaction, on connections that cannot write.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::event::{Event, Record};
use roundtable_core::ids::{MessageId, WorkspaceId};
use roundtable_core::state::State;
use roundtable_core::time::{Offset, Time};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row};

use super::super::codec::{self, Columns, Form, Hash, Numbers};
use super::super::{Allowance, ClientMark, Epochs, Loaded, Sought, Span, Verified, Wanted};
use super::postings::{Gathered, Pending};
use super::{postings, schema};

/// Idle connections that are kept; more are opened when more threads read at once.
const KEPT: usize = 8;

/// Why something could not be read.
pub enum Fault {
    /// The file.
    Sqlite(rusqlite::Error),
    /// What stands in it.
    Foreign(Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<rusqlite::types::FromSqlError> for Fault {
    fn from(error: rusqlite::types::FromSqlError) -> Self {
        Self::Sqlite(error.into())
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Foreign(error)
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Foreign(error) => error,
            Fault::Sqlite(error @ rusqlite::Error::SqliteFailure(..)) => {
                Error::new(ErrorKind::Unavailable, format!("the log cannot be read: {error}"))
            }
            Fault::Sqlite(error) => {
                Error::new(ErrorKind::Internal, format!("the log holds something foreign: {error}"))
            }
        }
    }
}

/// Read-only connections to one file.
pub struct Readers {
    path: PathBuf,
    /// Those that nobody uses; none are kept any more once the log is closed.
    idle: Mutex<Option<Vec<Connection>>>,
}

impl Readers {
    /// Opens none yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, idle: Mutex::new(Some(Vec::new())) }
    }

    /// Closes those that nobody uses, and the others when they are given back.
    pub fn close(&self) {
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Lets `question` read a moment's state of the file.
    pub fn ask<T>(&self, question: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, Error> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).as_mut().and_then(Vec::pop);
        let connection = match idle {
            Some(connection) => connection,
            None => open(&self.path).map_err(Fault::Sqlite)?,
        };
        let answer = (|| {
            let moment = connection.unchecked_transaction()?;
            question(&moment)
        })()?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(idle) = idle.as_mut().filter(|idle| idle.len() < KEPT) {
            idle.push(connection);
        }
        Ok(answer)
    }
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    Ok(connection)
}

macro_rules! select {
    ($from:literal) => {
        concat!("SELECT r.id, r.at, r.room_seq, r.kind, r.actor, r.room, r.target, r.client, r.body, r.hash, r.command, r.t FROM ", $from)
    };
}

fn parts<'a>(row: &'a Row<'_>) -> Result<(Numbers, Columns<'a>), Fault> {
    let columns = Columns {
        kind: row.get_ref(3)?.as_str()?,
        actor: row.get_ref(4)?.as_str()?,
        room: row.get_ref(5)?.as_str_or_null()?,
        target: row.get_ref(6)?.as_str_or_null()?,
        client: row.get_ref(7)?.as_str_or_null()?,
        command: row.get_ref(10)?.as_str_or_null()?,
        body: row.get_ref(8)?.as_str()?,
    };
    let offset = schema::offset(row.get(0)?);
    Ok((Numbers { offset, at: row.get(1)?, t: row.get(11)?, room_seq: row.get(2)? }, columns))
}

fn record(row: &Row<'_>) -> Result<Record, Fault> {
    let (numbers, columns) = parts(row)?;
    Ok(codec::record(numbers, &columns)?)
}

/// The workspaces that have records.
pub fn workspaces(connection: &Connection) -> Result<Vec<WorkspaceId>, Fault> {
    let sql =
        "SELECT workspace FROM workspaces WHERE EXISTS (SELECT 1 FROM records WHERE id = (number << 40) + 1)
        ORDER BY workspace";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query(())?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(WorkspaceId::new(row.get_ref(0)?.as_str()?)?);
    }
    Ok(found)
}

/// A workspace's number, and up to where the tables of topics and chunks reach.
fn known(connection: &Connection, workspace: &WorkspaceId) -> rusqlite::Result<Option<(i64, u64)>> {
    let sql = "SELECT number, indexed FROM workspaces WHERE workspace = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_row([workspace.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).optional()
}

/// What the tables of topics and chunks do not hold yet, of all workspaces.
pub fn all_pending(connection: &Connection) -> rusqlite::Result<HashMap<WorkspaceId, Pending>> {
    let mut statement = connection.prepare("SELECT workspace, number, indexed FROM workspaces")?;
    let mut rows = statement.query(())?;
    let mut all = HashMap::new();
    while let Some(row) = rows.next()? {
        if let Ok(workspace) = WorkspaceId::new(row.get_ref(0)?.as_str()?) {
            all.insert(workspace, Pending::load(connection, row.get(1)?, row.get(2)?)?);
        }
    }
    Ok(all)
}

/// The epochs of a workspace, and whether its last writer may have handed out what it had not synced.
pub fn epochs(connection: &Connection, number: i64) -> rusqlite::Result<(Epochs, bool)> {
    let mut statement =
        connection.prepare_cached("SELECT epoch, first FROM epochs WHERE number = ?1 ORDER BY epoch")?;
    let later = statement.query_map([number], |row| Ok((row.get(0)?, Offset(row.get(1)?))))?;
    let mut epochs = Epochs::default();
    for epoch in later {
        epochs.0.push(epoch?);
    }
    let mut statement = connection.prepare_cached("SELECT loose FROM workspaces WHERE number = ?1")?;
    Ok((epochs, statement.query_row([number], |row| row.get(0))?))
}

/// See [`super::super::Log::load`]. A snapshot of another version, or one that cannot be read, is
/// passed over: the records say everything.
pub fn load(connection: &Connection, workspace: &WorkspaceId) -> Result<Loaded, Fault> {
    let nothing = || Loaded { state: State::default(), epochs: Epochs::default() };
    let Some((number, _)) = known(connection, workspace)? else { return Ok(nothing()) };
    let sql = "SELECT state FROM snapshots WHERE number = ?1 AND version = ?2 ORDER BY offset DESC LIMIT 1";
    let mut statement = connection.prepare_cached(sql)?;
    let snapshot: Option<String> =
        statement.query_row((number, super::VERSION), |row| row.get(0)).optional()?;
    let mut state = State::default();
    if let Some(json) = snapshot {
        match codec::state(&json) {
            Ok(kept) => state = kept,
            Err(error) => tracing::warn!(%workspace, %error, "reading the log from its first record instead"),
        }
    }
    let sql = select!("records r WHERE r.id > ?1 AND r.id <= ?2 ORDER BY r.id");
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows =
        statement.query((schema::id(number, state.head.0), schema::id(number, schema::MAX_OFFSET)))?;
    while let Some(row) = rows.next()? {
        let record = record(row)?;
        if record.offset != state.head.next() {
            let message = format!("record {} is missing in the log of {workspace}", state.head.next().0);
            return Err(Error::new(ErrorKind::Internal, message).into());
        }
        state.apply(&record);
    }
    let (mut epochs, loose) = epochs(connection, number)?;
    if loose {
        epochs.begin(state.head);
    }
    Ok(Loaded { state, epochs })
}

/// See [`super::super::Log::read`].
pub fn read(connection: &Connection, workspace: &WorkspaceId, span: Span) -> Result<Vec<Record>, Fault> {
    match known(connection, workspace)? {
        Some((number, _)) => scan(connection, number, span),
        None => Ok(Vec::new()),
    }
}

/// The records of a span, from the table itself.
pub fn scan(connection: &Connection, number: i64, span: Span) -> Result<Vec<Record>, Fault> {
    let sql = select!("records r WHERE r.id > ?1 AND r.id <= ?2 ORDER BY r.id");
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query((schema::id(number, span.after.0), schema::id(number, span.upto.0)))?;
    let (mut found, mut allowance) = (Vec::new(), Allowance::of(span.bytes));
    while found.len() < span.limit
        && !allowance.is_full()
        && let Some(row) = rows.next()?
    {
        let (numbers, columns) = parts(row)?;
        if !allowance.takes(columns.bytes()) {
            break;
        }
        found.push(codec::record(numbers, &columns)?);
    }
    Ok(found)
}

/// See [`super::super::Log::places`]; what was not in the tables a moment ago is among `found` already.
pub fn places(
    connection: &Connection,
    workspace: &WorkspaceId,
    sought: &Sought<'_>,
    found: &mut Gathered,
) -> Result<(), Fault> {
    match known(connection, workspace)? {
        Some((number, _)) => postings::gather(connection, number, sought, found),
        None => Ok(()),
    }
}

/// Which of the records at some places are read.
pub struct Picked<'a> {
    /// Those of this kind only.
    pub kind: Option<&'a str>,
    /// So many of them are passed over first.
    pub skip: usize,
    limit: usize,
    allowance: Allowance,
}

impl Picked<'_> {
    /// Of all kinds, at most so many and so many bytes.
    pub const fn all(limit: usize, bytes: usize) -> Self {
        Self { kind: None, skip: 0, limit, allowance: Allowance::of(bytes) }
    }

    /// Whether nothing more is wanted.
    pub const fn is_full(&self) -> bool {
        self.limit == 0 || self.allowance.is_full()
    }
}

/// See [`super::super::Log::read_at`]. What is passed over is not looked into.
pub fn read_at(
    connection: &Connection,
    workspace: &WorkspaceId,
    places: &[Offset],
    wanted: &mut Picked<'_>,
) -> Result<Vec<Record>, Fault> {
    let missing = || Error::new(ErrorKind::Internal, "the log names a record that is not there");
    let Some((number, _)) = known(connection, workspace)? else { return Ok(Vec::new()) };
    let sql = select!("records r WHERE r.id = ?1 AND r.kind = coalesce(?2, r.kind)");
    let mut statement = connection.prepare_cached(sql)?;
    let mut found = Vec::new();
    for place in places {
        if wanted.is_full() {
            break;
        }
        let mut rows = statement.query((schema::id(number, place.0), wanted.kind))?;
        match rows.next()? {
            Some(_) if wanted.skip > 0 => wanted.skip -= 1,
            Some(row) => {
                let (numbers, columns) = parts(row)?;
                if !wanted.allowance.takes(columns.bytes()) {
                    // Nothing behind it shall come in its place.
                    wanted.limit = 0;
                    break;
                }
                wanted.limit -= 1;
                found.push(codec::record(numbers, &columns)?);
            }
            None if wanted.kind.is_none() => return Err(missing().into()),
            None => {}
        }
    }
    Ok(found)
}

/// See [`super::super::Log::find_message`]. A message's id begins with the second in which it was posted, and every chunk
/// knows its times, so only few records are looked at.
pub fn find_message(
    connection: &Connection,
    workspace: &WorkspaceId,
    message: &MessageId,
) -> Result<Option<Record>, Fault> {
    let Some((number, indexed)) = known(connection, workspace)? else { return Ok(None) };
    let second = message.as_str().get(..8).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    let Some(from) = second.map(|second| i64::from(second) * 1000) else { return Ok(None) };
    let upto = from + 999;
    let mut spans = vec![(schema::id(number, indexed) + 1, schema::id(number, schema::MAX_OFFSET))];
    let sql =
        "SELECT first, last FROM chunks WHERE last > ?1 AND last <= ?2 AND earliest <= ?3 AND latest >= ?4";
    let mut statement = connection.prepare_cached(sql)?;
    let (low, high) = (schema::id(number, 0), schema::id(number, indexed));
    for span in statement.query_map((low, high, upto, from), |row| Ok((row.get(0)?, row.get(1)?)))? {
        spans.push(span?);
    }
    let sql = select!(
        "records r WHERE r.id BETWEEN ?1 AND ?2 AND r.at BETWEEN ?3 AND ?4 AND r.kind = 'message.posted'"
    );
    let mut statement = connection.prepare_cached(sql)?;
    for (first, last) in spans {
        let mut rows = statement.query((first, last, from, upto))?;
        while let Some(row) = rows.next()? {
            if row.get_ref(8)?.as_str()?.contains(message.as_str()) {
                let record = record(row)?;
                if matches!(&record.event, Event::MessagePosted(posted) if posted.id == *message) {
                    return Ok(Some(record));
                }
            }
        }
    }
    Ok(None)
}

/// See [`super::super::Log::client_marks`].
pub fn client_marks(
    connection: &Connection,
    workspace: &WorkspaceId,
    (after, limit): (Offset, usize),
) -> Result<Vec<ClientMark>, Fault> {
    let Some((number, _)) = known(connection, workspace)? else { return Ok(Vec::new()) };
    let sql = "SELECT id, mark, t FROM clients WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let span = (schema::id(number, after.0), schema::id(number, schema::MAX_OFFSET), limit);
    let mark = |row: &Row<'_>| {
        let (offset, mark) = (Offset(schema::offset(row.get(0)?)), row.get::<_, i64>(1)?.cast_unsigned());
        Ok(ClientMark { offset, mark, t: Time(row.get(2)?) })
    };
    Ok(statement.query_map(span, mark)?.collect::<rusqlite::Result<_>>()?)
}

/// See [`super::super::Log::look_up`].
pub fn look_up(
    connection: &Connection,
    workspace: &WorkspaceId,
    wanted: &[Wanted],
) -> Result<Vec<Option<Record>>, Fault> {
    let Some((number, _)) = known(connection, workspace)? else { return Ok(vec![None; wanted.len()]) };
    let sql = select!(
        "clients c CROSS JOIN records r ON r.id = c.id WHERE c.id BETWEEN ?1 AND ?2 AND c.mark = ?3 ORDER BY c.id DESC"
    );
    let mut statement = connection.prepare_cached(sql)?;
    let mut newest = |wanted: &Wanted| {
        let mark = codec::mark(&wanted.who.to_string(), wanted.client.as_str()).cast_signed();
        for (from, upto) in &wanted.spans {
            let span = (schema::id(number, from.0), schema::id(number, upto.0), mark);
            let mut rows = statement.query(span)?;
            while let Some(row) = rows.next()? {
                let record = record(row)?;
                let same = record.client.as_ref().is_some_and(|write| write.id == wanted.client);
                if same && record.actor == wanted.who {
                    return Ok(Some(record));
                }
            }
        }
        Ok(None)
    };
    wanted.iter().map(&mut newest).collect()
}

/// See [`super::super::Log::backup`]: all pages in one step, so that no write in between makes it begin again.
pub fn copy(connection: &Connection, to: &Path) -> rusqlite::Result<()> {
    let mut copy = Connection::open(to)?;
    let backup = rusqlite::backup::Backup::new(connection, &mut copy)?;
    match backup.step(-1)? {
        rusqlite::backup::StepResult::Done => Ok(()),
        _ => Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
            Some("the copy could not be finished".into()),
        )),
    }
}

/// See [`super::super::Log::verify`].
pub fn verify(connection: &Connection, workspace: &WorkspaceId) -> Result<Verified, Fault> {
    let mut verified = Verified { sound: 0, broken: None };
    let Some((number, _)) = known(connection, workspace)? else { return Ok(verified) };
    let mut hash: Hash = codec::beginning(workspace);
    let sql = "SELECT untimed FROM workspaces WHERE number = ?1";
    let untimed: u64 = connection.query_row(sql, [number], |row| row.get(0))?;
    let sql = select!("records r WHERE r.id > ?1 AND r.id <= ?2 ORDER BY r.id");
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query((schema::id(number, 0), schema::id(number, schema::MAX_OFFSET)))?;
    while let Some(row) = rows.next()? {
        let next = verified.sound + 1;
        let (numbers, columns) = parts(row)?;
        let form = if numbers.offset <= untimed { Form::WithoutLogTime } else { Form::WithLogTime };
        hash = codec::chain(&hash, form, numbers, &columns);
        let wrong = if numbers.offset != next {
            Some("it is missing".to_owned())
        } else if row.get_ref(9)?.as_blob()? != hash {
            Some("it is not what was written: its hash differs".to_owned())
        } else {
            codec::record(numbers, &columns).err().map(|error| error.message.into_owned())
        };
        if wrong.is_some() {
            verified.broken = wrong.map(|wrong| (Offset(next), wrong));
            return Ok(verified);
        }
        verified.sound = next;
    }
    Ok(verified)
}

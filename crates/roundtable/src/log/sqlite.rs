//! The log in one SQLite file of the data directory: `roundtable.db`, in write-ahead mode, synced with every commit.

mod postings;
mod reader;
mod reserve;
mod schema;
mod writer;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use roundtable_core::delivery::Topic;
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::event::Record;
use roundtable_core::ids::{MessageId, RoomId, WorkspaceId};
use roundtable_core::state::State;
use roundtable_core::time::Offset;
use rusqlite::Connection;

use super::codec::{self, Row};
use super::{
    Append, AppendError, Appended, ClientMark, Done, Found, Loaded, Log, Page, Sought, Span, Verified, Wanted,
};
use postings::{AllPending, CHUNK, Gathered};
use reader::{Picked, Readers};
use reserve::Reserve;
use writer::{Answer, Job, Prepared, Writer};

/// The file in the data directory.
pub const FILE: &str = "roundtable.db";
/// The file that is locked as long as a process uses the directory. It holds the process's number.
pub const LOCK_FILE: &str = "roundtable.lock";
/// The program's version, noted with every snapshot.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Places of a room that are looked up at once, at least: not all are messages.
const LEAST_LOOKED_UP: usize = 64;
/// Bytes that the write-ahead log keeps on the disk once they are in the file itself.
const MAX_WAL_BYTES: u64 = 16 << 20;
/// Snapshots kept of each workspace.
const SNAPSHOTS: u32 = 2;

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{} is in use by another server{}", .dir.display(), .pid.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    InUse {
        /// The data directory.
        dir: PathBuf,
        /// The other process, if it says.
        pid: Option<u32>,
    },
    /// A newer program wrote it.
    #[error("{} was written by a newer version of Roundtable (format {version})", .file.display())]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its format.
        version: usize,
    },
    /// The directory or a file in it cannot be used.
    #[error("{} cannot be used: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is not a log, or is damaged.
    #[error("{} cannot be opened: {source}", .file.display())]
    Sqlite {
        /// The file.
        file: PathBuf,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
}

/// Gives back the room on the disk that a data directory keeps for a start. Says whether there was any.
pub fn release_reserve(dir: &Path) -> bool {
    Reserve::of(dir).release()
}

/// See the module. Dropping it finishes what was asked for and releases the directory.
pub struct SqliteLog {
    jobs: Sender<Job>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Where records are looked up for runners, which must not wait for the disk.
    lookups: Mutex<Option<(Sender<Lookup>, JoinHandle<()>)>>,
    reserve: Reserve,
    readers: Arc<Readers>,
    pending: AllPending,
    _lock: File,
}

/// Something to look up, and who takes it.
type Lookup = (WorkspaceId, Vec<Wanted>, Found);

impl SqliteLog {
    /// Opens the log of a data directory, making both if they are missing, readable by their owner only.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { path, source }
        };
        private(std::fs::DirBuilder::new().recursive(true)).create(dir).map_err(io(dir))?;
        let lock = lock(dir)?;
        let file = dir.join(FILE);
        private(OpenOptions::new().create(true).append(true)).open(&file).map_err(io(&file))?;
        let sqlite = |source| OpenError::Sqlite { file: file.clone(), source };
        let reserve = Reserve::of(dir);
        let mut connection = Connection::open(&file).map_err(sqlite)?;
        match prepare(&connection) {
            // What is kept for this: the room it needs is little.
            Err(error) if writer::failure(&error) == AppendError::Full && reserve.release() => {
                tracing::warn!(dir = %dir.display(), "the disk is full: what was kept for a start is used up");
                prepare(&connection)
            }
            Ok(()) => {
                reserve.keep();
                Ok(())
            }
            failed => failed,
        }
        .map_err(sqlite)?;
        if let Err(version) = schema::migrate(&mut connection).map_err(sqlite)? {
            return Err(OpenError::Newer { file, version });
        }
        let (jobs, waiting) = mpsc::channel();
        let writer = Writer::new(connection).map_err(sqlite)?;
        let pending = writer.pending();
        let thread = std::thread::Builder::new().name("log".into()).spawn(move || writer.work(&waiting));
        let thread = Mutex::new(Some(thread.map_err(io(dir))?));
        let readers = Arc::new(Readers::new(file));
        let (lookups, asked) = mpsc::channel::<Lookup>();
        let reading = Arc::clone(&readers);
        let look_up = move || {
            for (workspace, wanted, found) in asked {
                found(reading.ask(|connection| reader::look_up(connection, &workspace, &wanted)));
            }
        };
        let looking = std::thread::Builder::new().name("lookups".into()).spawn(look_up).map_err(io(dir))?;
        let lookups = Mutex::new(Some((lookups, looking)));
        Ok(Self { jobs, thread, lookups, reserve, readers, pending, _lock: lock })
    }

    /// Lets the writer do something between two groups, and waits for it.
    fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<T, AppendError> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, result) = mpsc::sync_channel(1);
        let run = Job::Run(Box::new(move |writer| {
            let _ = answer.send(work(writer));
        }));
        let _ = self.jobs.send(run);
        let result = result.recv().unwrap_or(Err(AppendError::Closed));
        result.map_err(|error| Error::new(ErrorKind::Unavailable, error.to_string()))
    }
}

/// What is made for its owner only: it holds hashes of secrets.
#[cfg(unix)]
fn private<T: Private>(options: &mut T) -> &mut T {
    options.private()
}

/// Elsewhere the rights of the directory decide.
#[cfg(not(unix))]
fn private<T>(options: &mut T) -> &mut T {
    options
}

#[cfg(unix)]
trait Private {
    fn private(&mut self) -> &mut Self;
}

#[cfg(unix)]
impl Private for OpenOptions {
    fn private(&mut self) -> &mut Self {
        std::os::unix::fs::OpenOptionsExt::mode(self, 0o600)
    }
}

#[cfg(unix)]
impl Private for std::fs::DirBuilder {
    fn private(&mut self) -> &mut Self {
        std::os::unix::fs::DirBuilderExt::mode(self, 0o700)
    }
}

/// Takes the directory for this process. The system releases it when the process ends, however it ends.
fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join(LOCK_FILE);
    let io = |source| OpenError::Io { path: path.clone(), source };
    let options = &mut OpenOptions::new();
    let mut file =
        private(options.create(true).read(true).write(true).truncate(false)).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => {
            // The lock holds without the number, which is only for people: a full disk does not keep the server from starting.
            if let Err(error) = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())) {
                tracing::warn!(%error, "the process could not be noted in {}", path.display());
            }
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _ = file.read_to_string(&mut text);
            Err(OpenError::InUse { dir: dir.to_owned(), pid: text.trim().parse().ok() })
        }
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

/// Why a copy was not made. The log itself is only read for it, so what cannot be written is the copy.
fn uncopied(to: &Path, error: &rusqlite::Error) -> Error {
    let to = to.display();
    let why = match writer::failure(error) {
        AppendError::Full => format!("the disk with {to} is full"),
        _ => format!("the copy {to} cannot be written: {error}"),
    };
    Error::new(ErrorKind::Unavailable, format!("{why}; nothing of it is left"))
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(32);
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "full")?;
    // What a long reader let it grow to is given back when the log begins anew.
    connection.pragma_update(None, "journal_size_limit", MAX_WAL_BYTES)?;
    // 16 MiB: four times the largest transaction.
    connection.pragma_update(None, "cache_size", -16 * 1024)
}

impl Drop for SqliteLog {
    fn drop(&mut self) {
        self.close();
    }
}

impl Log for SqliteLog {
    fn append(&self, append: Append, done: Done) {
        let answer = Answer::new(done);
        let rows: Result<Vec<Row>, Error> = append.records.iter().map(Row::of).collect();
        let rows = match rows {
            Ok(rows) => rows,
            Err(error) => {
                return answer.give(Appended::Failed(AppendError::Io(error.message.into_owned())));
            }
        };
        let prepared = Prepared {
            workspace: append.workspace,
            expected: append.expected.0,
            epoch: append.epoch,
            relaxed: append.relaxed,
            rows,
        };
        // A closed channel gives the job back, and with it the answer, which says so when it is dropped.
        let _ = self.jobs.send(Job::Append(prepared, answer));
    }

    fn workspaces(&self) -> Result<Vec<WorkspaceId>, Error> {
        self.readers.ask(reader::workspaces)
    }

    fn load(&self, workspace: &WorkspaceId) -> Result<Loaded, Error> {
        self.readers.ask(|connection| reader::load(connection, workspace))
    }

    fn read(&self, workspace: &WorkspaceId, span: Span) -> Result<Vec<Record>, Error> {
        self.readers.ask(|connection| reader::read(connection, workspace, span))
    }

    fn places(&self, workspace: &WorkspaceId, sought: &Sought<'_>) -> Result<Vec<Offset>, Error> {
        let mut found = Gathered::of(sought);
        // First what is not in the tables yet: what goes there meanwhile is found twice, and nothing is missed.
        let pending = self.pending.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(pending) = pending.get(workspace) {
            pending.gather(sought, &mut found);
        }
        drop(pending);
        self.readers.ask(|connection| reader::places(connection, workspace, sought, &mut found))?;
        Ok(found.into_places())
    }

    fn read_at(
        &self,
        workspace: &WorkspaceId,
        places: &[Offset],
        bytes: usize,
    ) -> Result<Vec<Record>, Error> {
        let mut all = Picked::all(usize::MAX, bytes);
        self.readers.ask(|connection| reader::read_at(connection, workspace, places, &mut all))
    }

    fn read_room(&self, workspace: &WorkspaceId, room: &RoomId, page: Page) -> Result<Vec<Record>, Error> {
        let newest = page.after.is_none();
        let mut topics = [(Topic::Room(room.clone()), page.after.unwrap_or_default())];
        let limit = page.limit.saturating_add(page.skip).clamp(LEAST_LOOKED_UP, CHUNK);
        let mut upto = page.before.map_or(Offset(u64::MAX), |before| Offset(before.0.saturating_sub(1)));
        let mut wanted = Picked::all(page.limit, page.bytes);
        (wanted.kind, wanted.skip) = (Some("message.posted"), page.skip);
        let mut found = Vec::new();
        while !wanted.is_full() {
            let places = self.places(workspace, &Sought { topics: &topics, upto, limit, newest })?;
            let read = |connection: &Connection| reader::read_at(connection, workspace, &places, &mut wanted);
            found.extend(self.readers.ask(read)?);
            match (places.last().filter(|_| places.len() >= limit), &mut topics) {
                (Some(last), _) if newest => upto = Offset(last.0.saturating_sub(1)),
                (Some(last), [(_, after)]) => *after = *last,
                (None, _) => break,
            }
        }
        if newest {
            found.reverse();
        }
        Ok(found)
    }

    fn find_message(&self, workspace: &WorkspaceId, id: &MessageId) -> Result<Option<Record>, Error> {
        self.readers.ask(|connection| reader::find_message(connection, workspace, id))
    }

    fn client_marks(
        &self,
        workspace: &WorkspaceId,
        after: Offset,
        limit: usize,
    ) -> Result<Vec<ClientMark>, Error> {
        self.readers.ask(|connection| reader::client_marks(connection, workspace, (after, limit)))
    }

    fn look_up(&self, workspace: &WorkspaceId, wanted: Vec<Wanted>, found: Found) {
        // A thread that is gone drops the question, and with it what waits for the answer.
        if let Some((lookups, _)) = &*self.lookups.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = lookups.send((workspace.clone(), wanted, found));
        }
    }

    fn snapshot(&self, workspace: &WorkspaceId, state: &State) -> Result<(), Error> {
        let (json, head) = (codec::state_json(state)?, state.head.0);
        let workspace = workspace.clone();
        let kept = self.ask(move |writer| {
            writer.transaction(|writer| {
                let sql = "INSERT OR REPLACE INTO snapshots(number, offset, version, state)
                    SELECT number, ?2, ?3, ?4 FROM workspaces
                    WHERE workspace = ?1 AND EXISTS (SELECT 1 FROM records WHERE id = (number << 40) + ?2)";
                let kept = writer.connection.execute(sql, (workspace.as_str(), head, VERSION, json))?;
                let sql = "DELETE FROM snapshots WHERE (number, offset) NOT IN (
                        SELECT s.number, s.offset FROM snapshots s WHERE s.number = snapshots.number
                        ORDER BY s.offset DESC LIMIT ?2
                    ) AND number = (SELECT number FROM workspaces WHERE workspace = ?1)";
                writer.connection.execute(sql, (workspace.as_str(), SNAPSHOTS))?;
                Ok(kept > 0)
            })
        })?;
        let unsynced = || Error::new(ErrorKind::Conflict, "the state holds records that are not in the log");
        kept.then_some(()).ok_or_else(unsynced)
    }

    fn settle(&self, workspace: &WorkspaceId) -> Result<(), Error> {
        let workspace = workspace.clone();
        self.ask(move |writer| writer.settle(&workspace))
    }

    fn verify(&self, workspace: &WorkspaceId) -> Result<Verified, Error> {
        self.readers.ask(|connection| reader::verify(connection, workspace))
    }

    fn close(&self) {
        if let Some((asked, looking)) = self.lookups.lock().unwrap_or_else(PoisonError::into_inner).take() {
            drop(asked);
            if looking.thread().id() != std::thread::current().id() && looking.join().is_err() {
                tracing::error!("the log's lookups ended by a fault");
            }
        }
        // Readers first: the last connection that closes takes the write-ahead log away.
        self.readers.close();
        let _ = self.jobs.send(Job::Stop);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            if thread.join().is_err() {
                tracing::error!("the log's writer ended by a fault");
            }
            self.reserve.keep();
        }
    }

    fn backup(&self, to: &Path) -> Result<(), Error> {
        let told = |error: std::io::Error| {
            let kind = match error.kind() {
                std::io::ErrorKind::AlreadyExists => ErrorKind::Conflict,
                _ => ErrorKind::InvalidField,
            };
            Error::new(kind, format!("{}: {error}", to.display()))
        };
        private(OpenOptions::new().create_new(true).write(true)).open(to).map_err(told)?;
        let copied = self.readers.ask(|connection| Ok(reader::copy(connection, to)));
        let copied = copied.and_then(|copied| copied.map_err(|error| uncopied(to, &error)));
        if copied.is_err() {
            // Half a copy must not be taken for a whole one, nor its journal for another one's.
            for beside in ["", "-journal", "-wal", "-shm"] {
                let mut file = to.as_os_str().to_owned();
                file.push(beside);
                let _ = std::fs::remove_file(file);
            }
        }
        copied
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use roundtable_core::event::{Event, Record};
    use roundtable_core::ids::{Principal, WorkspaceId};
    use roundtable_core::time::{Offset, Time};
    use roundtable_core::users::TokenRevoked;

    use super::super::{Append, AppendError, Appended, Log, Span};
    use super::{SqliteLog, writer};

    fn limit(log: &SqliteLog, pages: u32) {
        let limited = log.ask(move |writer| {
            let set = writer.connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()));
            set.map_err(|error| writer::failure(&error))
        });
        limited.unwrap();
    }

    fn append(log: &SqliteLog, head: u64, bytes: usize) -> Appended {
        let record = |offset| Record {
            offset: Offset(offset),
            room_seq: None,
            at: Time(1),
            t: Time(1),
            actor: Principal::System,
            room: None,
            client: None,
            event: Event::TokenRevoked(TokenRevoked {
                jti: "x".repeat(bytes),
                expires_at: Time(2),
                bearer: None,
            }),
        };
        let append = Append {
            workspace: WorkspaceId::new("w").unwrap(),
            expected: Offset(head),
            records: Arc::new([record(head + 1), record(head + 2)]),
            epoch: 1,
            relaxed: false,
        };
        let (answer, result) = mpsc::channel();
        log.append(append, Box::new(move |appended| answer.send(appended).unwrap()));
        result.recv().unwrap()
    }

    #[test]
    fn a_full_log_refuses_keeps_what_it_has_and_goes_on_when_there_is_room() {
        let dir = tempfile::tempdir().unwrap();
        let log = SqliteLog::open(dir.path()).unwrap();
        assert_eq!(append(&log, 0, 10), Appended::Committed);
        limit(&log, 60);
        assert_eq!(append(&log, 2, 1 << 20), Appended::Failed(AppendError::Full));
        let w = WorkspaceId::new("w").unwrap();
        assert_eq!(log.read(&w, Span::after(Offset(0))).unwrap().len(), 2);
        assert_eq!(append(&log, 2, 10), Appended::Committed, "a small one still fits");
        limit(&log, 1 << 20);
        assert_eq!(append(&log, 4, 1 << 20), Appended::Committed);
        assert_eq!(log.verify(&w).unwrap().sound, 6);
    }

    #[test]
    fn a_copy_is_a_log_of_its_own_and_overwrites_nothing() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let log = SqliteLog::open(dir.path()).unwrap();
        assert_eq!(append(&log, 0, 10), Appended::Committed);
        let file = other.path().join(super::FILE);
        log.backup(&file).unwrap();
        assert_eq!(append(&log, 2, 10), Appended::Committed, "writing goes on");
        assert_eq!(log.backup(&file).unwrap_err().kind, super::ErrorKind::Conflict);
        assert!(log.backup(&other.path().join("no/such/place")).is_err());
        let w = WorkspaceId::new("w").unwrap();
        let copy = SqliteLog::open(other.path()).unwrap();
        assert_eq!(copy.verify(&w).unwrap(), super::Verified { sound: 2, broken: None });
        assert_eq!(append(&copy, 2, 10), Appended::Committed);
        assert_eq!((copy.verify(&w).unwrap().sound, log.verify(&w).unwrap().sound), (4, 4));
    }

    #[test]
    fn the_file_alone_is_the_whole_log_after_the_end() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let log = SqliteLog::open(dir.path()).unwrap();
        assert_eq!(append(&log, 0, 10), Appended::Committed);
        let w = WorkspaceId::new("w").unwrap();
        assert_eq!(log.read(&w, Span::after(Offset(0))).unwrap().len(), 2, "a reader was there too");
        log.close();
        assert!(!dir.path().join("roundtable.db-wal").exists());
        std::fs::copy(dir.path().join(super::FILE), other.path().join(super::FILE)).unwrap();
        let copy = SqliteLog::open(other.path()).unwrap();
        assert_eq!(copy.verify(&w).unwrap().sound, 2);
    }

    #[test]
    fn a_long_reader_lets_the_write_ahead_log_grow_only_for_as_long_as_it_reads() {
        let dir = tempfile::tempdir().unwrap();
        let log = SqliteLog::open(dir.path()).unwrap();
        assert_eq!(append(&log, 0, 10), Appended::Committed);
        let length = || std::fs::metadata(dir.path().join("roundtable.db-wal")).unwrap().len();
        let mut head = 2;
        let mut write = |pairs: u64| {
            for _ in 0..pairs {
                assert_eq!(append(&log, head, 1 << 19), Appended::Committed);
                head += 2;
            }
        };
        let reader = rusqlite::Connection::open(dir.path().join(super::FILE)).unwrap();
        let moment = reader.unchecked_transaction().unwrap();
        moment.query_row("SELECT count(*) FROM records", (), |row| row.get::<_, u64>(0)).unwrap();
        write(24);
        assert!(length() > super::MAX_WAL_BYTES, "{}", length());
        drop(moment);
        write(8);
        assert!(length() <= super::MAX_WAL_BYTES, "{}", length());
    }

    #[test]
    fn who_waits_when_the_log_is_closed_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let log = SqliteLog::open(dir.path()).unwrap();
        log.close();
        assert_eq!(append(&log, 0, 10), Appended::Failed(AppendError::Closed));
        assert!(log.settle(&WorkspaceId::new("w").unwrap()).is_err());
    }
}

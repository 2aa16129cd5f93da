//! Log engines: where the records of all workspaces are kept, behind one small trait.

pub mod codec;
pub mod memory;
pub mod sqlite;

use std::path::Path;
use std::sync::Arc;

use imbl::OrdSet;
use roundtable_core::delivery::Topic;
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::event::Record;
use roundtable_core::ids::{ClientId, MessageId, Principal, RoomId, WorkspaceId};
use roundtable_core::state::State;
use roundtable_core::time::{Cursor, Offset, Time};

/// Records that are to become the next ones of a workspace's log, all or none.
#[derive(Clone, Debug)]
pub struct Append {
    /// Whose log. A workspace that has none yet gets one.
    pub workspace: WorkspaceId,
    /// The last record the writer knows; the first of `records` has the next offset.
    pub expected: Offset,
    /// In order, without a gap; may be empty.
    pub records: Arc<[Record]>,
    /// In which writing of the log. A number above that of the log begins a new epoch with the first of `records`:
    /// see [`Epochs`]. The number to start with is [`Epochs::current`] of [`Loaded`].
    pub epoch: u32,
    /// Later records may be handed out before they are synced. It is noted together with these records, so they themselves
    /// must be handed out only when they are committed; after that, [`Log::settle`] takes the note back.
    pub relaxed: bool,
}

/// What became of an [`Append`].
#[derive(Clone, PartialEq, Debug)]
pub enum Appended {
    /// All records are synced to disk.
    Committed,
    /// Another writer was faster: nothing was written; these records follow the expected one.
    Behind(Vec<Record>),
    /// Nothing was written.
    Failed(AppendError),
}

/// Why nothing was written. The log stays usable: later appends succeed when the cause is gone.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AppendError {
    /// No room on the disk.
    #[error("the disk is full")]
    Full,
    /// The disk or the records are at fault.
    #[error("the log cannot be written: {0}")]
    Io(String),
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
}

impl From<AppendError> for Error {
    /// What the askers of a refused batch are told: nothing happened, try again.
    fn from(error: AppendError) -> Self {
        let mut told = Self::new(ErrorKind::Unavailable, format!("nothing was written: {error}"));
        told.retry_after_ms = Some(1_000);
        told
    }
}

/// Called once with the result of an append, from a thread of the log's; it must not block.
pub type Done = Box<dyn FnOnce(Appended) + Send>;

/// A record that carries a client id, as far as a table holds it while such ids count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientMark {
    /// Where the record is.
    pub offset: Offset,
    /// [`codec::mark`] of its actor and its client id.
    pub mark: u64,
    /// When it was written, in log time.
    pub t: Time,
}

/// A record that is looked for by its actor and its client id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Who wrote it.
    pub who: Principal,
    /// What its actor called it.
    pub client: ClientId,
    /// Where it may be, each from and with one offset to another; the newest first.
    pub spans: Vec<(Offset, Offset)>,
}

/// Takes what was looked up: for each record that was wanted the newest there is. Called once, from a thread of the log's; it
/// must not block.
pub type Found = Box<dyn FnOnce(Result<Vec<Option<Record>>, Error>) + Send>;

/// What is known of a workspace when it is loaded.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The fold over all records. Its head is 0 for a workspace without a log.
    pub state: State,
    /// In which epochs they were written. The last one is the present one; if the last writer stopped without
    /// [`Log::settle`], it is a new one, which the next append is to carry.
    pub epochs: Epochs,
}

/// The writings of a log, each with the offset of its first record. One ends when records that were handed out may be lost.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Epochs(Vec<(u32, Offset)>);

impl Default for Epochs {
    fn default() -> Self {
        Self(vec![(1, Offset(1))])
    }
}

impl Epochs {
    /// The present one.
    pub fn current(&self) -> u32 {
        self.0.last().map_or(1, |(epoch, _)| *epoch)
    }

    /// Begins a new one after `head` and says its number.
    pub fn begin(&mut self, head: Offset) -> u32 {
        let epoch = self.current() + 1;
        self.0.push((epoch, head.next()));
        epoch
    }

    /// Whether the record a client stopped at is still the one it has: it was written in the cursor's epoch and is not above `head`.
    pub fn holds(&self, cursor: Cursor, head: Offset) -> bool {
        let known = cursor.offset <= head && self.0.iter().any(|(epoch, _)| *epoch == cursor.epoch);
        let next = self.0.iter().find(|(epoch, _)| *epoch > cursor.epoch);
        known && next.is_none_or(|(_, first)| cursor.offset < *first)
    }
}

/// What [`Log::verify`] found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified {
    /// How many records stand as they were written, from the first on.
    pub sound: u64,
    /// The first record that does not, and what is wrong with it.
    pub broken: Option<(Offset, String)>,
}

/// Keeps records. Reading sees synced records only, and never waits for writing.
///
/// All methods but [`Log::append`] and [`Log::look_up`] read the disk in the caller's thread. They fail with `Unavailable` when the disk cannot be
/// read, and with `Internal` when it holds what was never written by this program.
pub trait Log: Send + Sync + 'static {
    /// Writes and syncs, then calls `done`. Never blocks; appends of one workspace are written in the order of the calls.
    fn append(&self, append: Append, done: Done);

    /// The workspaces that have a log, by id.
    fn workspaces(&self) -> Result<Vec<WorkspaceId>, Error>;

    /// The state of a workspace: the newest snapshot and the records after it. Writes nothing.
    fn load(&self, workspace: &WorkspaceId) -> Result<Loaded, Error>;

    /// The records of a span, oldest first.
    fn read(&self, workspace: &WorkspaceId, span: Span) -> Result<Vec<Record>, Error>;

    /// Where the records of some topics stand, by the index alone: no record is read. All that was committed before the call
    /// is found. Among them may be some of a feed's kinds that do not [`roundtable_core::delivery::replays`] on it.
    fn places(&self, workspace: &WorkspaceId, sought: &Sought<'_>) -> Result<Vec<Offset>, Error>;

    /// The records at some places, in their order: as many of the first as have at most `bytes` of text, at least one. Fails
    /// with `Internal` when one is not there.
    fn read_at(&self, workspace: &WorkspaceId, places: &[Offset], bytes: usize)
    -> Result<Vec<Record>, Error>;

    /// The messages of a room that a page has room for, oldest first.
    fn read_room(&self, workspace: &WorkspaceId, room: &RoomId, page: Page) -> Result<Vec<Record>, Error>;

    /// The message with this id, in whichever room.
    fn find_message(&self, workspace: &WorkspaceId, id: &MessageId) -> Result<Option<Record>, Error>;

    /// At most `limit` marks of records after an offset, oldest first. Records that are older than client ids count may be
    /// missing.
    fn client_marks(
        &self,
        workspace: &WorkspaceId,
        after: Offset,
        limit: usize,
    ) -> Result<Vec<ClientMark>, Error>;

    /// Looks records up by their client ids. Never blocks; all that was committed before the call is found.
    fn look_up(&self, workspace: &WorkspaceId, wanted: Vec<Wanted>, found: Found);

    /// Keeps a state, so that loading need not fold what came before. Waits for the disk. Fails with `Conflict` when the
    /// state holds records that are not synced.
    fn snapshot(&self, workspace: &WorkspaceId, state: &State) -> Result<(), Error>;

    /// Everything that was handed out is synced: the next start goes on in the same epoch. Waits for the disk.
    fn settle(&self, workspace: &WorkspaceId) -> Result<(), Error>;

    /// Checks the hash chain and that the offsets are dense.
    fn verify(&self, workspace: &WorkspaceId) -> Result<Verified, Error>;

    /// Copies everything that is synced, of one moment, into a new file, while writing goes on. Fails with `Conflict` when the
    /// file exists.
    fn backup(&self, to: &Path) -> Result<(), Error>;

    /// The end: what was asked for before is done, and everything is brought into the one file that is the log. Waits for the
    /// disk. Nothing is written afterwards.
    fn close(&self) {}
}

/// Messages of a page that were not taken back, oldest first.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Shown {
    /// At least one, if there is any.
    pub records: Vec<Record>,
    /// There are more in the page's direction.
    pub more: bool,
}

/// The messages of a page that were not taken back, and whether there are more in its direction.
pub fn page_of_shown(
    log: &dyn Log,
    (workspace, state): (&WorkspaceId, &State),
    room: &RoomId,
    page: Page,
) -> Result<Shown, Error> {
    let skip = match state.room(room).filter(|room| page.skip > 0 && !room.deleted.is_empty()) {
        None => page.skip,
        Some(of) => match shown_skip(&of.deleted, page, |page| log.read_room(workspace, room, page))? {
            Some(skip) => skip,
            None => return Ok(Shown::default()),
        },
    };
    let mut next = Page { skip, ..page };
    let mut shown: Vec<Record> = Vec::new();
    loop {
        let mut read = log.read_room(workspace, room, next)?;
        let edge = if page.after.is_some() { read.last() } else { read.first() };
        let Some(edge) = edge.map(|record| record.offset) else { break };
        next = match page.after {
            Some(_) => Page { after: Some(edge), skip: 0, ..next },
            None => Page { before: Some(edge), skip: 0, ..next },
        };
        let full = read.len() >= next.limit;
        read.retain(|record| !state.is_deleted(record));
        next.limit -= read.len();
        match page.after {
            Some(_) => shown.append(&mut read),
            None => drop(shown.splice(0..0, read)),
        }
        // Nothing but what was taken back is no page. One that is not full has all that its bytes have room for.
        if next.limit == 0 || (!full && !shown.is_empty()) {
            break;
        }
    }
    let more =
        !shown.is_empty() && !log.read_room(workspace, room, Page { limit: 1, bytes: 0, ..next })?.is_empty();
    Ok(Shown { records: shown, more })
}

/// How many messages are passed over for a page that counts only those that were not taken back; `None` if there are not so many.
fn shown_skip(
    deleted: &OrdSet<Offset>,
    page: Page,
    read: impl Fn(Page) -> Result<Vec<Record>, Error>,
) -> Result<Option<usize>, Error> {
    let mut skip = page.skip;
    loop {
        let found = read(Page { skip, limit: 1, bytes: 0, ..page })?;
        let Some(at) = found.first().map(|record| record.offset) else { return Ok(None) };
        let passed = match page.after {
            Some(after) => deleted.range::<_, Offset>(after.next()..at).count(),
            None => {
                let end = page.before.unwrap_or(Offset(u64::MAX));
                deleted.range::<_, Offset>(at.next()..end).count()
            }
        };
        if page.skip + passed == skip {
            return Ok(Some(skip));
        }
        skip = page.skip + passed;
    }
}

/// The newest messages of a room that were not taken back and that a page has room for, oldest first.
pub fn read_shown(
    log: &dyn Log,
    (workspace, state): (&WorkspaceId, &State),
    room: &RoomId,
    page: Page,
) -> Result<Vec<Record>, Error> {
    page_of_shown(log, (workspace, state), room, page).map(|page| page.records)
}

/// Which records to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// After this one.
    pub after: Offset,
    /// Up to and with this one.
    pub upto: Offset,
    /// At most so many.
    pub limit: usize,
    /// At most so many bytes of their text; the first comes whatever its size.
    pub bytes: usize,
}

impl Span {
    /// Everything after an offset.
    pub const fn after(offset: Offset) -> Self {
        Self { after: offset, upto: Offset(u64::MAX), limit: usize::MAX, bytes: usize::MAX }
    }
}

/// Which records of some topics are looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sought<'a> {
    /// The topics, each with the offset after which.
    pub topics: &'a [(Topic, Offset)],
    /// Up to and with this one.
    pub upto: Offset,
    /// At most so many of all topics together.
    pub limit: usize,
    /// The newest come first, and the oldest are left out; otherwise the other way round.
    pub newest: bool,
}

/// A page of a room's messages: the newest, or the oldest after an offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    /// Only what is before this offset.
    pub before: Option<Offset>,
    /// Only what is after this offset, and the oldest of it.
    pub after: Option<Offset>,
    /// So many of them are passed over first, by the index and without a look at their bodies.
    pub skip: usize,
    /// At most so many.
    pub limit: usize,
    /// At most so many bytes of their text; the first is there whatever its size.
    pub bytes: usize,
}

impl Page {
    /// The newest messages, however large.
    pub const fn of(before: Option<Offset>, limit: usize) -> Self {
        Self { before, after: None, skip: 0, limit, bytes: usize::MAX }
    }
}

/// Counts what fits into a number of bytes; the first fits in any case.
struct Allowance {
    left: usize,
    used: bool,
}

impl Allowance {
    const fn of(bytes: usize) -> Self {
        Self { left: bytes, used: false }
    }

    fn takes(&mut self, bytes: usize) -> bool {
        let fits = !self.used || bytes <= self.left;
        self.left = self.left.saturating_sub(bytes);
        self.used = true;
        fits
    }

    /// Whether nothing more fits.
    const fn is_full(&self) -> bool {
        self.used && self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::Epochs;
    use roundtable_core::time::{Cursor, Offset};

    #[test]
    fn a_cursor_holds_as_long_as_its_record_does() {
        let mut epochs = Epochs::default();
        let cursor = |epoch, offset| Cursor { epoch, offset: Offset(offset) };
        assert!(epochs.holds(cursor(1, 7), Offset(7)));
        assert!(!epochs.holds(cursor(1, 8), Offset(7)), "beyond the head");
        assert_eq!(epochs.begin(Offset(7)), 2);
        assert!(epochs.holds(cursor(1, 7), Offset(9)));
        assert!(!epochs.holds(cursor(1, 8), Offset(9)), "that record may have been another one");
        assert!(epochs.holds(cursor(2, 8), Offset(9)));
        assert!(!epochs.holds(cursor(3, 8), Offset(9)), "nobody wrote in that epoch");
    }
}

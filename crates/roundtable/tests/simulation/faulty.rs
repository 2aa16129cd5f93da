//! Logs with one fault each, to see that the checks of the simulation notice.

use std::sync::atomic::{AtomicU64, Ordering};

use roundtable::log::memory::MemoryLog;
use roundtable::log::{
    Append, AppendError, Appended, ClientMark, Done, Epochs, Found, Loaded, Log, Page, Sought, Span,
    Verified, Wanted,
};
use roundtable_core::error::Error;
use roundtable_core::event::Record;
use roundtable_core::ids::{MessageId, RoomId, WorkspaceId};
use roundtable_core::state::State;
use roundtable_core::time::Offset;

/// What a log does wrong, now and then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing.
    None,
    /// It acknowledges what it does not write.
    LosesAcknowledged,
    /// It writes what it says it refused.
    WritesRefused,
    /// A start does not see the last record.
    LoadsShort,
    /// A resume misses a record.
    SkipsInResume,
    /// A resume says a record twice.
    RepeatsInResume,
    /// A resume brings another record than the one that is due.
    MixesUpInResume,
    /// Lost records begin no new epoch.
    ForgetsEpochs,
    /// A record comes back changed.
    Garbles,
    /// A client id that was looked up is not found.
    ForgetsIds,
    /// After a start some client ids are taken for new ones.
    LosesMarks,
}

impl Fault {
    pub const ALL: [Self; 10] = [
        Self::LosesAcknowledged,
        Self::WritesRefused,
        Self::LoadsShort,
        Self::SkipsInResume,
        Self::RepeatsInResume,
        Self::MixesUpInResume,
        Self::ForgetsEpochs,
        Self::Garbles,
        Self::ForgetsIds,
        Self::LosesMarks,
    ];
}

/// The log in memory, with a fault.
pub struct FaultyLog {
    pub memory: MemoryLog,
    fault: Fault,
    count: AtomicU64,
}

impl FaultyLog {
    pub fn new(fault: Fault) -> Self {
        Self { memory: MemoryLog::default(), fault, count: AtomicU64::new(0) }
    }

    /// Whether it is time for the fault: every `nth` time.
    fn now(&self, fault: Fault, nth: u64) -> bool {
        self.fault == fault && self.count.fetch_add(1, Ordering::Relaxed) % nth == nth - 1
    }
}

impl Log for FaultyLog {
    fn append(&self, append: Append, done: Done) {
        if append.records.len() == 1 && self.now(Fault::LosesAcknowledged, 8) {
            return done(Appended::Committed);
        }
        if self.now(Fault::WritesRefused, 8) {
            return self.memory.append(append, Box::new(|_| done(Appended::Failed(AppendError::Full))));
        }
        self.memory.append(append, done);
    }

    fn workspaces(&self) -> Result<Vec<WorkspaceId>, Error> {
        self.memory.workspaces()
    }

    fn load(&self, workspace: &WorkspaceId) -> Result<Loaded, Error> {
        let mut loaded = self.memory.load(workspace)?;
        if self.fault == Fault::ForgetsEpochs {
            loaded.epochs = Epochs::default();
        }
        if self.now(Fault::LoadsShort, 2) {
            let mut records = self.memory.read(workspace, Span::after(Offset(0)))?;
            records.pop();
            loaded.state = State::default();
            records.iter().for_each(|record| loaded.state.apply(record));
        }
        Ok(loaded)
    }

    fn read(&self, workspace: &WorkspaceId, span: Span) -> Result<Vec<Record>, Error> {
        let mut records = self.memory.read(workspace, span)?;
        if let Some(last) = records.last_mut().filter(|_| self.fault == Fault::Garbles) {
            last.at.0 += 1;
        }
        Ok(records)
    }

    fn places(&self, workspace: &WorkspaceId, sought: &Sought<'_>) -> Result<Vec<Offset>, Error> {
        let mut places = self.memory.places(workspace, sought)?;
        if !places.is_empty() && self.now(Fault::SkipsInResume, 3) {
            places.remove(0);
        }
        if let Some(last) = places.last().copied().filter(|_| self.now(Fault::RepeatsInResume, 3)) {
            places.push(last);
        }
        Ok(places)
    }

    fn read_at(
        &self,
        workspace: &WorkspaceId,
        places: &[Offset],
        bytes: usize,
    ) -> Result<Vec<Record>, Error> {
        let mut records = self.memory.read_at(workspace, places, bytes)?;
        if let Some(first) = records.first_mut().filter(|_| self.now(Fault::MixesUpInResume, 3)) {
            *first = self.memory.read_at(workspace, &[Offset(1)], bytes)?.remove(0);
        }
        Ok(records)
    }

    fn read_room(&self, workspace: &WorkspaceId, room: &RoomId, page: Page) -> Result<Vec<Record>, Error> {
        self.memory.read_room(workspace, room, page)
    }

    fn find_message(&self, workspace: &WorkspaceId, id: &MessageId) -> Result<Option<Record>, Error> {
        self.memory.find_message(workspace, id)
    }

    fn client_marks(
        &self,
        workspace: &WorkspaceId,
        after: Offset,
        limit: usize,
    ) -> Result<Vec<ClientMark>, Error> {
        let mut marks = self.memory.client_marks(workspace, after, limit)?;
        if self.fault == Fault::LosesMarks {
            marks.truncate(marks.len() / 2);
        }
        Ok(marks)
    }

    fn look_up(&self, workspace: &WorkspaceId, wanted: Vec<Wanted>, found: Found) {
        if self.fault == Fault::ForgetsIds {
            return found(Ok(vec![None; wanted.len()]));
        }
        self.memory.look_up(workspace, wanted, found);
    }

    fn snapshot(&self, workspace: &WorkspaceId, state: &State) -> Result<(), Error> {
        self.memory.snapshot(workspace, state)
    }

    fn settle(&self, workspace: &WorkspaceId) -> Result<(), Error> {
        self.memory.settle(workspace)
    }

    fn verify(&self, workspace: &WorkspaceId) -> Result<Verified, Error> {
        self.memory.verify(workspace)
    }

    fn backup(&self, to: &std::path::Path) -> Result<(), Error> {
        self.memory.backup(to)
    }
}

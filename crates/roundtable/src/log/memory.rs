//! The log in memory, for tests and the simulation: it can hold writes back, lose them, and refuse them.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use roundtable_core::delivery::{Topic, kinds_of_feed, replays};
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::event::{Event, Record};
use roundtable_core::ids::{MessageId, RoomId, WorkspaceId};
use roundtable_core::state::State;
use roundtable_core::time::Offset;

use super::codec::{self, Hash, Row};
use super::{
    Allowance, Append, AppendError, Appended, ClientMark, Done, Epochs, Found, Loaded, Log, Page, Sought,
    Span, Verified, Wanted,
};

/// Keeps everything in memory, in the same columns as on disk. Appends are answered at once, in the caller's thread, unless
/// [`MemoryLog::hold`] is on.
#[derive(Default)]
pub struct MemoryLog(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    workspaces: BTreeMap<WorkspaceId, Kept>,
    waiting: VecDeque<(Append, Done)>,
    held: bool,
    refusal: Option<AppendError>,
}

#[derive(Default)]
struct Kept {
    /// Each as it is written and as it is read back.
    rows: Vec<(Row, Hash, Record)>,
    epochs: Epochs,
    loose: bool,
    snapshot: Option<(Offset, String)>,
}

impl MemoryLog {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on appends wait for [`MemoryLog::sync`], or are written at once again.
    pub fn hold(&self, held: bool) {
        self.lock().held = held;
    }

    /// How many appends wait.
    pub fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Writes and answers the oldest `most` appends that wait.
    pub fn sync(&self, most: usize) {
        for _ in 0..most {
            let Some((append, done)) = self.lock().waiting.pop_front() else { return };
            let appended = self.lock().write(&append);
            done(appended);
        }
    }

    /// Loses, as a power cut does, what waits; nobody gets an answer.
    pub fn crash(&self) {
        let lost = std::mem::take(&mut self.lock().waiting);
        drop(lost);
    }

    /// From now on appends fail like this, or succeed again.
    pub fn refuse(&self, refusal: Option<AppendError>) {
        self.lock().refusal = refusal;
    }

    /// The records of a span that are wanted, each with the bytes of its text.
    fn select(
        &self,
        workspace: &WorkspaceId,
        span: Span,
        wanted: impl Fn(&Record) -> bool,
    ) -> Vec<(Record, usize)> {
        let inner = self.lock();
        let Some(kept) = inner.workspaces.get(workspace) else { return Vec::new() };
        let skip = usize::try_from(span.after.0).unwrap_or(usize::MAX);
        let within = kept.rows.iter().skip(skip).take_while(|(_, _, record)| record.offset <= span.upto);
        let found = within.filter(|(_, _, record)| wanted(record)).take(span.limit);
        found.map(|(row, _, record)| (record.clone(), row.bytes())).collect()
    }
}

/// The first that fit.
fn fitting(records: impl IntoIterator<Item = (Record, usize)>, bytes: usize) -> Vec<Record> {
    let mut allowance = Allowance::of(bytes);
    records.into_iter().take_while(|(_, size)| allowance.takes(*size)).map(|(record, _)| record).collect()
}

/// What the index of the log on disk can tell: of a feed, the kinds.
fn indexed(record: &Record, topic: &Topic) -> bool {
    match topic {
        Topic::Feed(feed) => kinds_of_feed(*feed).contains(&record.event.kind()),
        Topic::Room(_) | Topic::Principal(_) => replays(record, topic),
    }
}

impl Inner {
    fn write(&mut self, append: &Append) -> Appended {
        if let Some(refusal) = &self.refusal {
            return Appended::Failed(refusal.clone());
        }
        let mut rows = Vec::with_capacity(append.records.len());
        for record in &*append.records {
            match Row::of(record).and_then(|row| Ok((row.record()?, row))) {
                Ok(written) => rows.push(written),
                Err(e) => return Appended::Failed(AppendError::Io(e.message.into_owned())),
            }
        }
        let kept = self.workspaces.entry(append.workspace.clone()).or_default();
        let head = kept.rows.len() as u64;
        if append.expected.0 > head {
            return Appended::Failed(AppendError::Io(format!("the log ends at {head}")));
        }
        if append.expected.0 < head {
            let after = kept.rows.iter().skip(append.expected.0 as usize);
            return Appended::Behind(after.map(|(_, _, record)| record.clone()).collect());
        }
        if append.epoch > kept.epochs.current() {
            kept.epochs.begin(Offset(head));
            kept.loose = append.relaxed;
        }
        kept.loose |= append.relaxed;
        let mut hash =
            kept.rows.last().map_or_else(|| codec::beginning(&append.workspace), |(_, hash, _)| *hash);
        for (record, row) in rows {
            hash = row.chain(&hash);
            kept.rows.push((row, hash, record));
        }
        Appended::Committed
    }
}

impl Log for MemoryLog {
    fn append(&self, append: Append, done: Done) {
        let mut inner = self.lock();
        if inner.held {
            inner.waiting.push_back((append, done));
            return;
        }
        let appended = inner.write(&append);
        drop(inner);
        done(appended);
    }

    fn workspaces(&self) -> Result<Vec<WorkspaceId>, Error> {
        let inner = self.lock();
        let with_records = inner.workspaces.iter().filter(|(_, kept)| !kept.rows.is_empty());
        Ok(with_records.map(|(workspace, _)| workspace.clone()).collect())
    }

    fn load(&self, workspace: &WorkspaceId) -> Result<Loaded, Error> {
        let inner = self.lock();
        let Some(kept) = inner.workspaces.get(workspace) else {
            return Ok(Loaded { state: State::default(), epochs: Epochs::default() });
        };
        let mut state: State = match &kept.snapshot {
            Some((_, json)) => codec::state(json)?,
            None => State::default(),
        };
        for (_, _, record) in kept.rows.iter().skip(state.head.0 as usize) {
            state.apply(record);
        }
        let mut epochs = kept.epochs.clone();
        if kept.loose {
            epochs.begin(state.head);
        }
        Ok(Loaded { state, epochs })
    }

    fn read(&self, workspace: &WorkspaceId, span: Span) -> Result<Vec<Record>, Error> {
        Ok(fitting(self.select(workspace, span, |_| true), span.bytes))
    }

    fn places(&self, workspace: &WorkspaceId, sought: &Sought<'_>) -> Result<Vec<Offset>, Error> {
        let wanted = |record: &Record| {
            sought.topics.iter().any(|(topic, after)| record.offset > *after && indexed(record, topic))
        };
        let span = Span { upto: sought.upto, ..Span::after(Offset(0)) };
        let found = self.select(workspace, span, wanted).into_iter().map(|(record, _)| record.offset);
        let mut places: Vec<Offset> = found.collect();
        if sought.newest {
            places.reverse();
        }
        places.truncate(sought.limit);
        Ok(places)
    }

    fn read_at(
        &self,
        workspace: &WorkspaceId,
        places: &[Offset],
        bytes: usize,
    ) -> Result<Vec<Record>, Error> {
        let missing = || Error::new(ErrorKind::Internal, "the log names a record that is not there");
        let mut records = Vec::with_capacity(places.len());
        for place in places {
            let span = Span { upto: *place, ..Span::after(Offset(place.0.saturating_sub(1))) };
            records.push(self.select(workspace, span, |_| true).pop().ok_or_else(missing)?);
        }
        Ok(fitting(records, bytes))
    }

    fn read_room(&self, workspace: &WorkspaceId, room: &RoomId, page: Page) -> Result<Vec<Record>, Error> {
        let upto = page.before.map_or(u64::MAX, |offset| offset.0.saturating_sub(1));
        let span = Span { upto: Offset(upto), ..Span::after(page.after.unwrap_or_default()) };
        let said = |r: &Record| r.room.as_ref() == Some(room) && matches!(r.event, Event::MessagePosted(_));
        let mut messages = self.select(workspace, span, said);
        if page.after.is_some() {
            return Ok(fitting(messages.into_iter().skip(page.skip).take(page.limit), page.bytes));
        }
        messages.reverse();
        let mut found = fitting(messages.into_iter().skip(page.skip).take(page.limit), page.bytes);
        found.reverse();
        Ok(found)
    }

    fn find_message(&self, workspace: &WorkspaceId, id: &MessageId) -> Result<Option<Record>, Error> {
        let wanted = |r: &Record| matches!(&r.event, Event::MessagePosted(m) if m.id == *id);
        let found = self.select(workspace, Span { limit: 1, ..Span::after(Offset(0)) }, wanted);
        Ok(found.into_iter().next().map(|(record, _)| record))
    }

    fn client_marks(
        &self,
        workspace: &WorkspaceId,
        after: Offset,
        limit: usize,
    ) -> Result<Vec<ClientMark>, Error> {
        let span = Span { limit, ..Span::after(after) };
        let records = self.select(workspace, span, |record| record.client.is_some());
        let mark = |(record, _): &(Record, usize)| {
            let write = record.client.as_ref()?;
            let mark = codec::mark(&record.actor.to_string(), write.id.as_str());
            Some(ClientMark { offset: record.offset, mark, t: record.t })
        };
        Ok(records.iter().filter_map(mark).collect())
    }

    fn look_up(&self, workspace: &WorkspaceId, wanted: Vec<Wanted>, found: Found) {
        let newest = |wanted: &Wanted| {
            let is_it = |record: &Record| {
                record.actor == wanted.who
                    && record.client.as_ref().is_some_and(|write| write.id == wanted.client)
            };
            for (from, upto) in &wanted.spans {
                let span = Span { upto: *upto, ..Span::after(Offset(from.0.saturating_sub(1))) };
                if let Some((record, _)) = self.select(workspace, span, is_it).pop() {
                    return Some(record);
                }
            }
            None
        };
        found(Ok(wanted.iter().map(newest).collect()));
    }

    fn snapshot(&self, workspace: &WorkspaceId, state: &State) -> Result<(), Error> {
        let json = codec::state_json(state)?;
        let mut inner = self.lock();
        let kept = inner.workspaces.entry(workspace.clone()).or_default();
        if state.head.0 > kept.rows.len() as u64 {
            return Err(Error::new(ErrorKind::Conflict, "the state holds records that are not in the log"));
        }
        kept.snapshot = Some((state.head, json));
        Ok(())
    }

    fn settle(&self, workspace: &WorkspaceId) -> Result<(), Error> {
        if let Some(kept) = self.lock().workspaces.get_mut(workspace) {
            kept.loose = false;
        }
        Ok(())
    }

    fn verify(&self, workspace: &WorkspaceId) -> Result<Verified, Error> {
        let inner = self.lock();
        let mut hash = codec::beginning(workspace);
        let mut sound = 0;
        for (row, kept, _) in inner.workspaces.get(workspace).into_iter().flat_map(|kept| &kept.rows) {
            hash = row.chain(&hash);
            if hash != *kept || row.offset != sound + 1 {
                return Ok(Verified { sound, broken: Some((Offset(sound + 1), "its hash differs".into())) });
            }
            sound += 1;
        }
        Ok(Verified { sound, broken: None })
    }

    fn backup(&self, _: &Path) -> Result<(), Error> {
        Err(Error::new(ErrorKind::Unavailable, "a log in memory has no file to copy"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use roundtable_core::event::{Event, Record};
    use roundtable_core::ids::{Principal, WorkspaceId};
    use roundtable_core::time::{Offset, Time};
    use roundtable_core::users::TokenRevoked;

    use super::super::{Append, AppendError, Appended, Log, Span};
    use super::MemoryLog;

    fn records(first: u64, count: u64) -> Arc<[Record]> {
        let record = |offset| Record {
            offset: Offset(offset),
            room_seq: None,
            at: Time(offset as i64),
            t: Time(offset as i64),
            actor: Principal::System,
            room: None,
            client: None,
            event: Event::TokenRevoked(TokenRevoked {
                jti: format!("t{offset}"),
                expires_at: Time(9),
                bearer: None,
            }),
        };
        (first..first + count).map(record).collect()
    }

    fn append(log: &MemoryLog, first: u64, count: u64, epoch: u32) -> Arc<Mutex<Option<Appended>>> {
        let answer = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&answer);
        let append = Append {
            workspace: WorkspaceId::new("w").unwrap(),
            expected: Offset(first - 1),
            records: records(first, count),
            epoch,
            relaxed: true,
        };
        log.append(append, Box::new(move |appended| *slot.lock().unwrap() = Some(appended)));
        answer
    }

    #[test]
    fn what_waits_is_lost_in_a_crash_and_a_new_epoch_begins() {
        let (log, w) = (MemoryLog::default(), WorkspaceId::new("w").unwrap());
        assert_eq!(*append(&log, 1, 2, 1).lock().unwrap(), Some(Appended::Committed));
        log.hold(true);
        let (kept, lost) = (append(&log, 3, 1, 1), append(&log, 4, 1, 1));
        log.sync(1);
        log.crash();
        assert_eq!(*kept.lock().unwrap(), Some(Appended::Committed));
        assert_eq!(*lost.lock().unwrap(), None);
        let loaded = log.load(&w).unwrap();
        assert_eq!((loaded.state.head, loaded.epochs.current()), (Offset(3), 2));
        log.settle(&w).unwrap();
        assert_eq!(log.load(&w).unwrap().epochs.current(), 1);
        assert_eq!(log.verify(&w).unwrap().sound, 3);
    }

    #[test]
    fn a_slower_writer_is_told_what_it_missed_and_a_full_log_says_so() {
        let (log, w) = (MemoryLog::default(), WorkspaceId::new("w").unwrap());
        append(&log, 1, 3, 1);
        let answer = append(&log, 2, 1, 1).lock().unwrap().clone();
        assert_eq!(answer, Some(Appended::Behind(records(2, 2).to_vec())));
        log.refuse(Some(AppendError::Full));
        let answer = append(&log, 4, 1, 1).lock().unwrap().clone();
        assert_eq!(answer, Some(Appended::Failed(AppendError::Full)));
        assert_eq!(log.read(&w, Span::after(Offset(0))).unwrap(), records(1, 3).to_vec());
    }
}

//! First results of client ids as a runner knows them: the newest in memory, older ones in the log's table, and a filter that
//! spares new ids the way there.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::event::Record;
use roundtable_core::ids::{ClientId, Principal, WorkspaceId};
use roundtable_core::repeats::First;
use roundtable_core::time::{Offset, Time};
use tokio::sync::oneshot;

use super::batch::{Given, Question};
use super::filter::Filter;
use crate::log::{ClientMark, Log, Wanted, codec};

/// Memory for the newest results that are in the log too: some thousand.
const KEPT_BYTES: usize = 1 << 20;
/// Memory for results that no record tells.
const PASSING_BYTES: usize = 8 << 20;
/// How long those are remembered.
const PASSING_MS: i64 = 10 * 60_000;
/// Marks that are read at a time at the start.
const PAGE: usize = 50_000;

/// Who asked, and what it called the write.
pub type Name = (Principal, ClientId);

/// What was found before a batch is decided: first results, and names that could not be looked up.
pub type Known = HashMap<Name, Result<First, Error>>;

/// The newest results, oldest first out.
#[derive(Debug, Default)]
struct Newest {
    by_name: HashMap<Name, (u64, First)>,
    by_age: VecDeque<(u64, Name)>,
    bytes: usize,
}

impl Newest {
    /// About what one result takes.
    fn weight((who, client): &Name) -> usize {
        192 + 2 * (who.id().len() + client.as_str().len())
    }

    /// `place` grows from one result to the next.
    fn add(&mut self, place: u64, name: Name, first: First) {
        self.bytes += Self::weight(&name);
        self.by_name.insert(name.clone(), (place, first));
        self.by_age.push_back((place, name));
    }

    /// Drops the oldest one if it may go: told its place and when it was given.
    fn drop_oldest(&mut self, may_go: impl FnOnce(u64, Option<Time>) -> bool) -> bool {
        let Some((place, name)) = self.by_age.front() else { return false };
        // Another result may have taken its name meanwhile.
        let own = self.by_name.get(name).filter(|(of, _)| of == place).map(|(_, first)| first.at);
        if !may_go(*place, own) {
            return false;
        }
        let Some((_, name)) = self.by_age.pop_front() else { return false };
        self.bytes = self.bytes.saturating_sub(Self::weight(&name));
        if own.is_some() {
            self.by_name.remove(&name);
        }
        true
    }
}

/// What a runner knows of client ids.
#[derive(Debug, Default)]
pub struct Repeats {
    kept: Newest,
    passing: Newest,
    passed: u64,
    filter: Filter,
}

impl Repeats {
    /// Reads which ids the log holds.
    pub fn load(log: &dyn Log, workspace: &WorkspaceId) -> Result<Self, Error> {
        let mut repeats = Self::default();
        let mut after = Offset(0);
        loop {
            let page = log.client_marks(workspace, after, PAGE)?;
            page.iter().for_each(|mark| repeats.filter.add(mark));
            match page.last() {
                Some(last) if page.len() >= PAGE => after = last.offset,
                _ => return Ok(repeats),
            }
        }
    }

    /// Finds out what the client ids of some questions gave before, as far as it is not the questions themselves that give it.
    pub async fn look_up<R>(
        &mut self,
        (log, workspace): (&Arc<dyn Log>, &WorkspaceId),
        questions: &[Question<R>],
        now: Time,
    ) -> Known {
        self.filter.forget(now);
        while self.passing.drop_oldest(|_, at| at.is_none_or(|at| now.since(at) > PASSING_MS)) {}
        let (mut known, mut wanted) = (Known::new(), Vec::new());
        for question in questions {
            let Some(client) = &question.ask.client else { continue };
            let name = (question.actor().clone(), client.clone());
            let here = [self.kept.by_name.get(&name), self.passing.by_name.get(&name)];
            if let Some((_, first)) = here.into_iter().flatten().max_by_key(|(_, first)| first.at) {
                known.insert(name, Ok(first.clone()));
                continue;
            }
            let spans = self.filter.find(codec::mark(&name.0.to_string(), client.as_str()));
            if !spans.is_empty() {
                wanted.push(Wanted { who: name.0, client: name.1, spans });
            }
        }
        if !wanted.is_empty() {
            let (found, answer) = oneshot::channel();
            log.look_up(workspace, wanted.clone(), Box::new(move |answer| drop(found.send(answer))));
            let closed = || Error::new(ErrorKind::Unavailable, "the log is closed");
            let records = answer.await.unwrap_or_else(|_| Err(closed()));
            let records = records.map(|records| records.into_iter().map(|r| r.as_ref().and_then(First::of)));
            match records {
                Ok(firsts) => {
                    let found = wanted.into_iter().zip(firsts);
                    known.extend(found.filter_map(|(w, first)| Some(((w.who, w.client), Ok(first?)))));
                }
                Err(e) => known.extend(wanted.into_iter().map(|w| ((w.who, w.client), Err(e.clone())))),
            }
        }
        known
    }

    /// A record was handed out.
    pub fn note(&mut self, record: &Record) {
        let Some((write, first)) = record.client.as_ref().zip(First::of(record)) else { return };
        let mark = codec::mark(&record.actor.to_string(), write.id.as_str());
        self.filter.add(&ClientMark { offset: record.offset, mark, t: record.t });
        let name = (record.actor.clone(), write.id.clone());
        self.passing.by_name.remove(&name);
        self.kept.add(record.offset.0, name, first);
    }

    /// Results were given that no record tells.
    pub fn note_passing(&mut self, given: Vec<Given>) {
        for (name, first) in given {
            self.passed += 1;
            self.passing.add(self.passed, name, first);
        }
        while self.passing.bytes > PASSING_BYTES && self.passing.drop_oldest(|_, _| true) {}
    }

    /// Everything up to an offset is in the log: memory may go back to its bound.
    pub fn synced(&mut self, upto: Offset) {
        while self.kept.bytes > KEPT_BYTES && self.kept.drop_oldest(|place, _| place <= upto.0) {}
    }
}

#[cfg(test)]
mod tests {
    use roundtable_core::engine::Outcome;

    use super::*;

    fn name(n: u64) -> Name {
        (Principal::System, ClientId::new(&format!("c{n}")).unwrap())
    }

    fn first(at: i64) -> First {
        First { outcome: Outcome::Done, command: None, at: Time(at), made: Offset(1) }
    }

    #[test]
    fn results_without_records_are_bounded_in_bytes() {
        let mut repeats = Repeats::default();
        for n in 0..100_000 {
            repeats.note_passing(vec![(name(n), first(0))]);
        }
        assert!(repeats.passing.bytes <= PASSING_BYTES);
        assert!(repeats.passing.by_name.contains_key(&name(99_999)), "the newest are there");
        assert!(!repeats.passing.by_name.contains_key(&name(0)));
        assert_eq!(repeats.passing.by_name.len(), repeats.passing.by_age.len());
    }

    #[test]
    fn what_is_not_synced_is_kept_whatever_it_takes() {
        let mut repeats = Repeats::default();
        for n in 1..=20_000 {
            repeats.kept.add(n, name(n), first(0));
        }
        repeats.synced(Offset(0));
        assert_eq!(repeats.kept.by_name.len(), 20_000);
        repeats.synced(Offset(20_000));
        assert!(repeats.kept.bytes <= KEPT_BYTES && repeats.kept.by_name.contains_key(&name(20_000)));
    }

    #[test]
    fn a_name_that_is_given_again_lives_as_long_as_its_newest_result() {
        let mut newest = Newest::default();
        newest.add(1, name(1), first(1));
        newest.add(2, name(1), first(2));
        assert!(newest.drop_oldest(|_, at| at.is_none()), "only the older one goes");
        assert_eq!(newest.by_name.get(&name(1)), Some(&(2, first(2))));
        assert!(newest.drop_oldest(|_, at| at == Some(Time(2))));
        assert!(newest.by_name.is_empty() && newest.bytes == 0);
    }
}

//! Finding a message by its id where only pages by offset exist: an id begins with the second it was made in.

use roundtable_core::event::{Event, Record};
use roundtable_core::time::Offset;

/// How many messages one page of the search has.
const PAGE: u32 = 100;

/// A search for one message of a room. First by halving for the second of the id, then downward page by page.
#[derive(Clone, Debug)]
pub struct Search {
    id: String,
    second: i64,
    /// Every message below this offset is as old as the one sought, or older.
    low: u64,
    /// Every message from this offset on is younger.
    high: Option<u64>,
    /// The page asked for ends before this offset.
    before: Option<u64>,
    walking: bool,
}

/// What to do next.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// Read a page of so many messages before an offset and hand it in.
    Read(Option<Offset>, u32),
    /// This is it.
    Found(Box<Record>),
    /// There is none.
    Missing,
}

/// The id of the message that a record holds.
pub fn id_of(record: &Record) -> Option<&str> {
    if let Event::MessagePosted(message) = &record.event { Some(message.id.as_str()) } else { None }
}

impl Search {
    /// Begins; the first step reads the newest page. `None` if no message can have this id.
    pub fn new(id: &str) -> Option<(Self, Step)> {
        let digits = id.len() == 24 && id.bytes().all(|b| b.is_ascii_hexdigit());
        let second = id.get(..8).filter(|_| digits).and_then(|hex| i64::from_str_radix(hex, 16).ok())?;
        let search = Self { id: id.to_owned(), second, low: 0, high: None, before: None, walking: false };
        Some((search, Step::Read(None, PAGE)))
    }

    /// Takes in the page that was asked for last.
    pub fn page(&mut self, page: &[Record]) -> Step {
        if let Some(found) = page.iter().find(|record| id_of(record) == Some(self.id.as_str())) {
            return Step::Found(Box::new(found.clone()));
        }
        let (Some(first), Some(last)) = (page.first(), page.last()) else {
            if self.walking || self.before.is_none() {
                return Step::Missing;
            }
            self.low = self.before.unwrap_or(0);
            return self.halve();
        };
        let (oldest, newest) = (first.at.as_seconds(), last.at.as_seconds());
        if self.walking || (self.before.is_none() && oldest <= self.second) {
            self.walking = true;
            if oldest < self.second {
                return Step::Missing;
            }
            return self.read(first.offset.0, PAGE);
        }
        if newest <= self.second {
            self.low = self.before.unwrap_or(0);
        } else if oldest > self.second {
            self.high = Some(first.offset.0);
        } else {
            self.high = Some(last.offset.0);
        }
        self.halve()
    }

    fn halve(&mut self) -> Step {
        let high = self.high.unwrap_or(self.low);
        if high.saturating_sub(self.low) <= u64::from(PAGE) {
            self.walking = true;
            return self.read(high, PAGE);
        }
        self.read(self.low + (high - self.low) / 2, 1)
    }

    fn read(&mut self, before: u64, limit: u32) -> Step {
        self.before = Some(before);
        Step::Read(Some(Offset(before)), limit)
    }
}

#[cfg(test)]
mod tests {
    use roundtable_core::event::{Event, Record};
    use roundtable_core::ids::{MessageId, Principal};
    use roundtable_core::messages::{Content, Message, MessageKind, Role};
    use roundtable_core::time::{Offset, Time};

    use super::{Search, Step};

    fn log(count: u64, per_second: u64) -> Vec<Record> {
        let record = |n: u64| {
            let at = Time(1_000_000 + i64::try_from(n / per_second).unwrap() * 1000);
            let message = Message {
                id: MessageId::fresh(at, n),
                from: Principal::System,
                from_name: String::new(),
                role: Role::User,
                kind: MessageKind::Text,
                content: Content::Text("x".into()),
                parts: None,
                metadata: None,
                reply_to: None,
                platform: None,
                tokens: 0,
                via: None,
            };
            Record {
                offset: Offset(n * 3 + 1),
                room_seq: Some(n + 1),
                at,
                actor: Principal::System,
                room: None,
                client: None,
                event: Event::MessagePosted(message),
            }
        };
        (0..count).map(record).collect()
    }

    fn find(log: &[Record], id: &str) -> (Option<Offset>, u32) {
        let Some((mut search, mut step)) = Search::new(id) else { return (None, 0) };
        for reads in 0.. {
            match step {
                Step::Found(record) => return (Some(record.offset), reads),
                Step::Missing => return (None, reads),
                Step::Read(before, limit) => {
                    let older: Vec<_> =
                        log.iter().filter(|r| before.is_none_or(|b| r.offset < b)).cloned().collect();
                    step = search.page(&older[older.len().saturating_sub(limit as usize)..]);
                }
            }
            assert!(reads < 200, "the search does not end");
        }
        unreachable!()
    }

    #[test]
    fn every_message_is_found_in_few_reads_and_none_else() {
        for per_second in [1, 7, 250, 100_000] {
            let log = log(3_000, per_second);
            for (n, record) in log.iter().enumerate().step_by(37) {
                let id = super::id_of(record).unwrap();
                let (found, reads) = find(&log, id);
                assert_eq!(found, Some(record.offset), "message {n}, {per_second} per second");
                assert!(reads < 40, "{reads} reads");
            }
            for (at, random) in [(0, 1), (1_000_000, 999_999), (1_500_000, 999_999), (9_999_000_000, 5)] {
                let id = MessageId::fresh(Time(at), random);
                assert_eq!(find(&log, id.as_str()).0, None, "{id}");
            }
        }
    }

    #[test]
    fn what_is_no_id_of_ours_is_not_looked_for() {
        assert!(Search::new("m1").is_none());
        assert!(Search::new(&"g".repeat(24)).is_none());
        assert_eq!(find(&[], &"0".repeat(24)).0, None);
    }
}

//! Following: subscribe, catch up, go live. One machine for all that a session receives; whoever drives it does the I/O.
//!
//! While a session keeps up, each record goes to it as it happens. When it comes with a cursor, or takes less than is said, it
//! is behind: the log is read in rounds, for all its topics together and in the log's order, and what happens meanwhile is
//! held as far as there is room. What there is no room for is read in the next round; only what cannot be read back (who
//! comes and goes) may be lost, and that is counted.
//!
//! ```text
//!            meet ─ Deliver                      begin ─▶ Round      (read places, then records)
//!   live ──────────────────────▶ behind ───────────────▶ read …      (hand out, after what is due)
//!     ▲      meet ─ Hold                                  │
//!     └────────────── Live ◀── advance ◀──────────────────┘          (Again: begin once more)
//! ```

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::delivery::{Topic, Topics, read_back_topics};
use crate::event::Record;
use crate::time::Offset;

/// What becomes of a record that happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is handed out now.
    Deliver,
    /// It is held, or read from the log later: see [`Following::hold`].
    Hold,
    /// It was handed out, or is not wanted.
    Skip,
}

/// What is to be read from the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Round {
    /// Tells this round from others: a subscription may begin or end while it is under way.
    pub generation: u64,
    /// What is followed, each with the offset after which.
    pub topics: Vec<(Topic, Offset)>,
    /// Up to and with this one.
    pub upto: Offset,
}

/// What was held, on its way out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Handed<H> {
    /// What the driver held it by.
    pub item: H,
    /// The topics it goes to.
    pub topics: Topics,
}

/// What follows when a round is read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Advance<H> {
    /// This was held and is due.
    Hand(Handed<H>),
    /// The log is to be read again.
    Again,
    /// The session has everything: from now on it gets what happens as it happens.
    Live,
}

/// The topics of one session, and how far it has come in them. `H` is what a held record is kept by.
#[derive(Clone, Debug)]
pub struct Following<H> {
    /// What is followed, in order, each with the offset after which it is wanted.
    topics: Vec<(Topic, Offset)>,
    /// Everything up to here was handed out, of each topic what is wanted of it; kept up while behind only.
    at: Offset,
    /// The newest record that was handed out as it happened.
    told: Offset,
    /// Beyond this nothing needs a second look: the highest of `at` and what the topics are wanted after.
    clear: Offset,
    generation: u64,
    behind: Option<Box<Behind<H>>>,
}

#[derive(Clone, Debug)]
struct Behind<H> {
    /// Up to where the round under way reads.
    upto: Option<Offset>,
    /// There is something in the log that neither the round under way nor `held` brings.
    again: bool,
    held: VecDeque<Held<H>>,
    bytes: usize,
}

#[derive(Clone, Debug)]
struct Held<H> {
    offset: Offset,
    bytes: usize,
    /// Where it goes, and whether it could be read back for that.
    topics: SmallVec<[(Topic, bool); 2]>,
    item: H,
}

impl<H> Default for Following<H> {
    fn default() -> Self {
        let zero = Offset(0);
        Self { topics: Vec::new(), at: zero, told: zero, clear: zero, generation: 0, behind: None }
    }
}

impl<H> Following<H> {
    /// What is followed.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.topics.iter().map(|(topic, _)| topic)
    }

    /// Whether a topic is followed.
    pub fn follows(&self, topic: &Topic) -> bool {
        self.from(topic).is_some()
    }

    /// Whether the log has to be read before it is live.
    pub const fn is_behind(&self) -> bool {
        self.behind.is_some()
    }

    /// Follows a topic from now on, or from after `since`; `now` is the newest record that the driver has begun to hand out.
    /// Whoever follows it already goes on, from `since` again if that is given.
    pub fn subscribe(&mut self, topic: &Topic, since: Option<Offset>, now: Offset) {
        let place = self.topics.binary_search_by(|(known, _)| known.cmp(topic));
        if place.is_ok() && since.is_none() {
            return;
        }
        let since = since.unwrap_or(now);
        if since < now && self.behind.is_none() {
            // The others have everything up to now.
            self.raise(now);
            self.at = since;
            self.fall_behind();
        } else if self.behind.is_some() && since < self.at {
            self.raise(self.at);
            self.at = since;
        }
        match place {
            Ok(at) => self.topics.get_mut(at).into_iter().for_each(|(_, from)| *from = since),
            Err(at) => self.topics.insert(at, (topic.clone(), since)),
        }
        self.clear = self.clear.max(since);
        self.void();
    }

    /// Follows a topic no longer.
    pub fn unsubscribe(&mut self, topic: &Topic) {
        if let Ok(at) = self.topics.binary_search_by(|(known, _)| known.cmp(topic)) {
            self.topics.remove(at);
        }
        if self.topics.is_empty() {
            self.behind = None;
            self.generation += 1;
        }
        if let Some(behind) = &mut self.behind {
            behind.keep(|(known, _)| known != topic);
        }
    }

    /// What becomes of a record that happens, on one of its topics that is followed. `room`: the client has room for it; otherwise it falls
    /// behind. The other topics of a record that was handed out already need no room.
    pub fn meet(&mut self, topic: &Topic, offset: Offset, room: bool) -> Fate {
        if self.behind.is_some() {
            return if self.wants(topic, offset) { Fate::Hold } else { Fate::Skip };
        }
        if offset <= self.clear && !self.wants(topic, offset) {
            return Fate::Skip;
        }
        if room || self.told == offset {
            self.told = offset;
            return Fate::Deliver;
        }
        self.at = self.at.max(Offset(offset.0.saturating_sub(1)));
        self.fall_behind();
        Fate::Hold
    }

    /// Holds a record that [`Following::meet`] says to hold, `bytes` large, in at most `most` bytes of all that is held.
    /// `read_back`: the log will bring it to this topic. Gives how many records were lost for want of room.
    pub fn hold(
        &mut self,
        (topic, read_back): (&Topic, bool),
        (offset, bytes): (Offset, usize),
        most: usize,
        item: impl FnOnce() -> H,
    ) -> usize {
        let Some(behind) = &mut self.behind else { return 0 };
        if read_back && behind.again {
            return 0;
        }
        let to = (topic.clone(), read_back);
        match behind.held.back_mut().filter(|last| last.offset == offset) {
            Some(last) => last.topics.push(to),
            None => {
                behind.bytes = behind.bytes.saturating_add(bytes);
                behind.held.push_back(Held { offset, bytes, topics: smallvec::smallvec![to], item: item() });
            }
        }
        if behind.bytes > most { behind.make_room(most) } else { 0 }
    }

    /// Begins a round of reading up to `head`, which is not before any record that was met. `None` when it is not behind.
    pub fn begin(&mut self, head: Offset) -> Option<Round> {
        let behind = self.behind.as_mut()?;
        (behind.upto, behind.again) = (Some(head), false);
        self.generation += 1;
        let at = self.at;
        let topics = self.topics.iter().map(|(topic, from)| (topic.clone(), at.max(*from))).collect();
        Some(Round { generation: self.generation, topics, upto: head })
    }

    /// What was held and is due before a record that was read, since it cannot be read itself. `None`: nothing more, or the
    /// round is void.
    pub fn due(&mut self, generation: u64, before: Offset) -> Option<Handed<H>> {
        if generation != self.generation {
            return None;
        }
        while self.behind.as_ref()?.held.front()?.offset < before {
            let held = self.behind.as_mut()?.pop()?;
            let handed = held.handed(|_| false);
            if handed.is_some() {
                return handed;
            }
        }
        None
    }

    /// The topics a record of the round goes to. `None` when the round is void: then it is begun again.
    pub fn read(&mut self, generation: u64, record: &Record) -> Option<Topics> {
        if generation != self.generation {
            return None;
        }
        let mut topics = read_back_topics(record);
        topics.retain(|topic| self.wants(topic, record.offset));
        self.at = self.at.max(record.offset);
        Some(topics)
    }

    /// Goes on after a round of which everything was read, one step at a time.
    pub fn advance(&mut self, generation: u64) -> Advance<H> {
        if generation != self.generation {
            return if self.behind.is_some() { Advance::Again } else { Advance::Live };
        }
        loop {
            let Some(behind) = &mut self.behind else { return Advance::Live };
            if let Some(upto) = behind.upto.take() {
                self.at = self.at.max(upto);
            }
            if behind.again {
                return Advance::Again;
            }
            let Some(held) = behind.pop() else {
                self.behind = None;
                self.clear = self.topics.iter().map(|(_, from)| *from).fold(self.at, Offset::max);
                return Advance::Live;
            };
            let offset = held.offset;
            let handed = held.handed(|topic| self.wants(topic, offset));
            self.at = self.at.max(offset);
            if let Some(handed) = handed {
                return Advance::Hand(handed);
            }
        }
    }

    fn from(&self, topic: &Topic) -> Option<Offset> {
        let place = self.topics.binary_search_by(|(known, _)| known.cmp(topic)).ok()?;
        self.topics.get(place).map(|(_, from)| *from)
    }

    fn wants(&self, topic: &Topic, offset: Offset) -> bool {
        offset > self.at && self.from(topic).is_some_and(|from| offset > from)
    }

    fn raise(&mut self, to: Offset) {
        self.topics.iter_mut().for_each(|(_, from)| *from = (*from).max(to));
        self.clear = self.clear.max(to);
    }

    fn fall_behind(&mut self) {
        let held = VecDeque::new();
        self.behind = Some(Box::new(Behind { upto: None, again: true, held, bytes: 0 }));
    }

    /// A round under way does not know of what is followed now.
    fn void(&mut self) {
        if let Some(behind) = &mut self.behind {
            (behind.upto, behind.again) = (None, true);
            self.generation += 1;
        }
    }
}

impl<H> Held<H> {
    /// For the topics on which it cannot be read back, and for those others that still want it.
    fn handed(self, wants: impl Fn(&Topic) -> bool) -> Option<Handed<H>> {
        let goes = |(topic, read_back): &(Topic, bool)| !read_back || wants(topic);
        let topics: Topics = self.topics.into_iter().filter(goes).map(|(topic, _)| topic).collect();
        (!topics.is_empty()).then_some(Handed { item: self.item, topics })
    }
}

impl<H> Behind<H> {
    /// Keeps what is held for some topics only.
    fn keep(&mut self, keep: impl Fn(&(Topic, bool)) -> bool) {
        for held in &mut self.held {
            held.topics.retain(|to| keep(to));
        }
        self.held.retain(|held| !held.topics.is_empty());
        self.bytes = self.held.iter().map(|held| held.bytes).sum();
    }

    fn pop(&mut self) -> Option<Held<H>> {
        let held = self.held.pop_front()?;
        self.bytes = self.bytes.saturating_sub(held.bytes);
        Some(held)
    }

    /// What can be read back is; of the rest the oldest go. Gives how many.
    fn make_room(&mut self, most: usize) -> usize {
        self.again = true;
        self.keep(|(_, read_back)| !read_back);
        let mut lost = 0;
        while self.bytes > most && self.pop().is_some() {
            lost += 1;
        }
        if self.held.is_empty() {
            self.held = VecDeque::new();
        }
        lost
    }
}

#[cfg(test)]
mod tests;

//! Blocks against sources, in the state: in force until their end, each at one place or everywhere.

use super::State;
use crate::alerts::{Block, Finding, SecurityNoticed};
use crate::limits;
use crate::time::{Moment, Time};

/// What a block is found by: its source and its place.
pub(super) fn key_of(source: &str, place: Option<&str>) -> String {
    match place {
        // Neither addresses nor the names of listeners have a space in them.
        Some(place) => format!("{source} {place}"),
        None => source.to_owned(),
    }
}

impl State {
    /// The block in force at `now` (log time) against a source at a place: one that holds there, or everywhere.
    pub fn blocked(&self, source: &str, place: Option<&str>, now: Time) -> Option<&Block> {
        if self.blocks.is_empty() {
            return None;
        }
        let block = |place: Option<&str>| self.blocks.get(&key_of(source, place));
        [block(place), block(None)].into_iter().flatten().find(|block| block.until > now)
    }

    /// All blocks that are not known to be over, by source. One that is past its end waits for the next tick.
    pub fn blocks(&self) -> impl ExactSizeIterator<Item = &Block> {
        self.blocks.values()
    }

    /// All blocks of one source.
    pub(crate) fn blocks_of(&self, source: &str) -> impl Iterator<Item = &Block> {
        let (from, own) = (source.to_owned(), key_of(source, Some("")));
        let range = self.blocks.range(from..);
        range
            .take_while(move |(key, block)| block.notice.source == source || key.starts_with(&own))
            .map(|(_, block)| block)
    }

    /// Those that are over at `now`.
    pub(crate) fn blocks_over(&self, now: Time) -> impl Iterator<Item = &Block> {
        let over = self.blocks_by_end.iter().take_while(move |(until, _)| *until <= now);
        over.filter_map(|(_, key)| self.blocks.get(key))
    }

    pub(super) fn apply_security(&mut self, notice: &SecurityNoticed, now: Moment) {
        self.last_security = Some(now.at);
        self.intrusions += u64::from(notice.finding == Finding::Intrusion);
        let (Finding::Blocked, Some(until)) = (notice.finding, notice.until) else { return };
        let (key, until) = (key_of(&notice.source, notice.place.as_deref()), now.log_time_of(until));
        self.unblock(&key);
        self.blocks_by_end.insert((until, key.clone()));
        self.blocks.insert(key, Block { notice: notice.clone(), until });
        if self.blocks.len() > limits::MAX_BLOCKS
            && let Some((_, soonest)) = self.blocks_by_end.get_min().cloned()
        {
            self.unblock(&soonest);
        }
    }

    pub(super) fn unblock(&mut self, key: &str) {
        if let Some(block) = self.blocks.remove(key) {
            self.blocks_by_end.remove(&(block.until, key.to_owned()));
        }
    }
}

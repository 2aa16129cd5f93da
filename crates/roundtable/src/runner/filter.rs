//! Which client ids the log may hold: three bytes a slot, so that a new id costs no look at the disk, and one that came before
//! is looked for in a small part of the table.

use std::collections::VecDeque;

use roundtable_core::limits::REPEAT_MS;
use roundtable_core::time::{Offset, Time};

use crate::log::ClientMark;

/// Slots of the smallest generation: 12 KiB.
const LEAST_SLOTS: usize = 1 << 12;
/// Slots of the largest: 3 MiB.
const MOST_SLOTS: usize = 1 << 20;
/// Parts of a generation that are told apart.
const BLOCKS: usize = 256;

/// How many ids find room in so many slots: three quarters, so four bytes an id and a look at few slots.
const fn room_in(slots: usize) -> usize {
    slots / 4 * 3
}

/// Never says that an id is new which is not; says wrongly once in some thousand times that it may be old.
#[derive(Debug, Default)]
pub struct Filter {
    generations: VecDeque<Generation>,
}

/// Ids that came one after another. Forgotten as a whole once the newest counts no more.
#[derive(Debug)]
struct Generation {
    /// 16 bits of each id, in the first free slot from its own on; 0 is free.
    prints: Box<[u16]>,
    /// In which block each of them is.
    blocks: Box<[u8]>,
    /// The offset of the first id of each block.
    firsts: Vec<Offset>,
    held: usize,
    last: Offset,
    newest: Time,
}

impl Generation {
    fn with(slots: usize) -> Self {
        Self {
            prints: vec![0; slots].into(),
            blocks: vec![0; slots].into(),
            firsts: Vec::new(),
            held: 0,
            last: Offset(0),
            newest: Time(i64::MIN),
        }
    }

    /// The slots in which an id may stand, and its print.
    fn slots(&self, mark: u64) -> (impl Iterator<Item = usize> + use<>, u16) {
        let all = self.prints.len();
        let (own, print) = ((mark >> 16) as usize & (all - 1), (mark & 0xffff) as u16);
        ((own..all).chain(0..own), print.max(1))
    }

    fn add(&mut self, new: &ClientMark) {
        let block = self.held / (room_in(self.prints.len()) / BLOCKS);
        if self.firsts.len() <= block {
            self.firsts.push(new.offset);
        }
        let (slots, print) = self.slots(new.mark);
        for slot in slots {
            if let (Some(free @ 0), Some(place)) = (self.prints.get_mut(slot), self.blocks.get_mut(slot)) {
                (*free, *place) = (print, u8::try_from(block).unwrap_or(u8::MAX));
                break;
            }
        }
        self.held += 1;
        self.last = new.offset;
        self.newest = self.newest.max(new.t);
    }

    /// Adds the blocks in which an id may be, the newest first.
    fn find(&self, mark: u64, spans: &mut Vec<(Offset, Offset)>) {
        let (slots, wanted) = self.slots(mark);
        let mut found: Vec<u8> = Vec::new();
        for slot in slots {
            match (self.prints.get(slot), self.blocks.get(slot)) {
                (Some(0) | None, _) => break,
                (Some(print), Some(block)) if *print == wanted && !found.contains(block) => {
                    found.push(*block)
                }
                _ => {}
            }
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        for block in found.into_iter().map(usize::from) {
            let Some(first) = self.firsts.get(block) else { continue };
            let next = self.firsts.get(block + 1).map(|next| Offset(next.0.saturating_sub(1)));
            spans.push((*first, next.unwrap_or(self.last)));
        }
    }
}

impl Filter {
    /// Takes in the next id.
    pub fn add(&mut self, new: &ClientMark) {
        let full = |generation: &Generation| generation.held >= room_in(generation.prints.len());
        if self.generations.back().is_none_or(full) {
            // A quarter of what there is already: what stands empty is never much.
            let held: usize = self.generations.iter().map(|generation| generation.held).sum();
            let slots = (held / 4).next_power_of_two().clamp(LEAST_SLOTS, MOST_SLOTS);
            self.generations.push_back(Generation::with(slots));
        }
        if let Some(newest) = self.generations.back_mut() {
            newest.add(new);
        }
    }

    /// Where an id may be, the newest places first; nowhere if it is surely new.
    pub fn find(&self, mark: u64) -> Vec<(Offset, Offset)> {
        let mut spans = Vec::new();
        self.generations.iter().rev().for_each(|generation| generation.find(mark, &mut spans));
        spans
    }

    /// Forgets ids that count no more.
    pub fn forget(&mut self, now: Time) {
        while self.generations.front().is_some_and(|oldest| now.since(oldest.newest) > REPEAT_MS) {
            self.generations.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use roundtable_core::limits::REPEAT_MS;
    use roundtable_core::time::{Offset, Time};

    use super::{ClientMark, Filter};
    use crate::log::codec::mark;

    fn id(n: u64) -> u64 {
        mark("agent:a", &format!("c{n}"))
    }

    fn filled(count: u64) -> Filter {
        let mut filter = Filter::default();
        for n in 0..count {
            filter.add(&ClientMark { offset: Offset(n * 2 + 1), mark: id(n), t: Time(n as i64) });
        }
        filter
    }

    #[test]
    fn every_id_that_came_is_found_in_a_small_part_and_new_ones_hardly_ever() {
        const COUNT: u64 = 200_000;
        let filter = filled(COUNT);
        for n in 0..COUNT {
            let at = Offset(n * 2 + 1);
            let spans = filter.find(id(n));
            let found = spans.iter().find(|(from, upto)| *from <= at && at <= *upto);
            let (from, upto) = found.unwrap_or_else(|| panic!("{n} is taken for new"));
            assert!(upto.0 - from.0 < COUNT / 100, "{n}: {from:?} to {upto:?}");
        }
        let wrong = (COUNT..2 * COUNT).filter(|n| !filter.find(id(*n)).is_empty()).count();
        assert!(wrong < 1_000, "{wrong} of 200,000 new ids would be looked up");
        let bytes: usize = filter.generations.iter().map(|generation| generation.prints.len() * 3).sum();
        assert!(bytes < 5 * COUNT as usize, "{bytes} bytes");
    }

    #[test]
    fn what_counts_no_more_is_forgotten_and_nothing_else() {
        let mut filter = filled(10_000);
        filter.forget(Time(REPEAT_MS + 5_000));
        assert!(!filter.find(id(9_999)).is_empty(), "the newest of its generation still counts");
        assert_eq!(filter.find(id(1)), [], "all of its generation are too old");
        filter.forget(Time(REPEAT_MS + 10_000));
        assert!(filter.generations.is_empty());
    }

    #[test]
    fn ids_with_the_same_bits_are_all_found() {
        let mut filter = Filter::default();
        for n in 1..=3_000 {
            filter.add(&ClientMark { offset: Offset(n), mark: u64::MAX, t: Time(0) });
        }
        let spans = filter.find(u64::MAX);
        assert!((1..=3_000).all(|n| spans.iter().any(|(from, upto)| (from.0..=upto.0).contains(&n))));
        assert_eq!(filter.find(1), []);
    }
}

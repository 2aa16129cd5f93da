//! Finding out how much of what a client missed is too much to be sent again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;

use roundtable_core::delivery::{Delivery, Item, Topic};
use roundtable_core::event::Record;
use roundtable_core::time::{Cursor, Offset};

use super::connection::Connection;
use super::shard::Shard;
use crate::clock;
use crate::log::Span;

/// The newest records that count, and the newest that is too many.
struct Newest {
    kept: BinaryHeap<Reverse<Offset>>,
    most: usize,
    last_lost: Option<Offset>,
}

impl Newest {
    const fn of(most: usize) -> Self {
        Self { kept: BinaryHeap::new(), most, last_lost: None }
    }

    fn add(&mut self, offset: Offset) {
        self.kept.push(Reverse(offset));
        if self.kept.len() > self.most {
            self.last_lost = self.last_lost.max(self.kept.pop().map(|Reverse(offset)| offset));
        }
    }
}

impl Shard {
    /// Reads what a client missed and tells its session where to begin.
    pub(super) async fn survey(
        self: Rc<Self>,
        connection: Rc<Connection>,
        number: u8,
        missed: Vec<(Topic, Cursor)>,
        most: usize,
    ) {
        let mut newest = Newest::of(most);
        for (topic, since) in &missed {
            if !self.survey_one(&connection, number, (topic, *since), &mut newest).await {
                return;
            }
        }
        self.with_session(&connection, number, |session, scene, out| {
            session.surveyed(newest.last_lost, scene, out);
        });
    }

    /// Counts one topic. Says `false` when the connection ends.
    async fn survey_one(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        number: u8,
        (topic, since): (&Topic, Cursor),
        newest: &mut Newest,
    ) -> bool {
        let known = connection.with_slot(number, |slot| {
            (slot.home.handle.workspace().clone(), slot.home.view.borrow().clone())
        });
        let Some((workspace, view)) = known else { return false };
        let head = view.state.head;
        if !view.epochs.holds(since, head) {
            return true;
        }
        let mut span = Span { upto: head, ..Span::after(since.offset) };
        let mut last = since.offset;
        while span.after < span.upto && connection.lives() {
            let Some(page) = self.next_page(connection, &workspace, topic, &mut span).await else {
                return false;
            };
            last = page.last().map_or(last, |record| record.offset);
            let shown = page.iter().filter(|record| !view.state.is_deleted(record));
            self.count_missed(connection, number, (topic, shown), newest);
        }
        self.count_missed(connection, number, (topic, view.unsynced(topic, last)), newest);
        connection.lives()
    }

    fn count_missed<'a>(
        &self,
        connection: &Connection,
        number: u8,
        (topic, records): (&Topic, impl Iterator<Item = &'a Record>),
        newest: &mut Newest,
    ) {
        let figures = self.hub.figures.load();
        connection.with_slot(number, |slot| {
            let view = slot.home.view.borrow().clone();
            let scene = roundtable_dialects::session::Scene {
                now: view.now(),
                at: clock::now(),
                state: &view.state,
                epoch: view.epochs.current(),
                figures: &figures,
            };
            for record in records {
                let delivery = Delivery { item: Item::Record(record), topic, origin: None };
                if slot.session.reaches(&delivery, scene) {
                    newest.add(record.offset);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use roundtable_core::time::Offset;

    use super::Newest;

    #[test]
    fn the_newest_are_kept_whatever_the_order() {
        let mut newest = Newest::of(3);
        for offset in [1, 4, 9] {
            newest.add(Offset(offset));
        }
        assert_eq!(newest.last_lost, None);
        for offset in [2, 3, 8] {
            newest.add(Offset(offset));
        }
        assert_eq!(newest.last_lost, Some(Offset(3)));
    }
}

//! Finding out how much of what a client missed is too much to be sent again: by the index where that is enough, else by
//! reading back from the newest record on, as far as needed.

use std::rc::Rc;

use roundtable_core::delivery::{Delivery, Item, Topic, read_back_topics, replays};
use roundtable_core::event::Record;
use roundtable_core::ids::WorkspaceId;
use roundtable_core::time::{Cursor, Offset};
use roundtable_dialects::session::Most;

use super::connection::Connection;
use super::following::PLACES;
use super::shard::Shard;
use crate::log::{Log, Sought};
use crate::runner::View;

/// Topics that are looked up in the index at once.
const TOPICS: usize = 128;

/// Whose question it is, and about what.
struct Survey {
    connection: Rc<Connection>,
    number: u8,
    workspace: WorkspaceId,
    view: View,
}

/// Topics in order, each with the offset after which something was missed.
type Missed = [(Topic, Offset)];

impl Shard {
    /// Looks at what a client missed and tells its session where to begin.
    pub(super) async fn survey(
        self: Rc<Self>,
        connection: Rc<Connection>,
        number: u8,
        missed: Vec<(Topic, Cursor)>,
        most: Most,
    ) {
        let known = connection.with_slot(number, |slot| {
            (slot.home.handle.workspace().clone(), slot.home.view.borrow().clone())
        });
        let Some((workspace, view)) = known else { return };
        let head = view.state.head;
        let found = missed.into_iter().filter(|(_, since)| view.epochs.holds(*since, head));
        let mut topics: Vec<(Topic, Offset)> = found.map(|(topic, since)| (topic, since.offset)).collect();
        topics.sort();
        let survey = Survey { connection, number, workspace, view };
        let lost = match most {
            Most::Together(most) => self.lost_together(&survey, topics, most).await,
            Most::Each(most) => self.lost_of_each(&survey, topics, most).await,
        };
        if let Some(lost) = lost {
            self.with_session(&survey.connection, number, |session, scene, out| {
                session.surveyed(&lost, scene, out);
            });
        }
    }

    async fn lost_together(
        self: &Rc<Self>,
        survey: &Survey,
        topics: Vec<(Topic, Offset)>,
        most: usize,
    ) -> Option<Vec<(Topic, Offset)>> {
        let Some(last) = self.last_lost(survey, &topics, most).await? else { return Some(Vec::new()) };
        let touched = topics.into_iter().filter(|(_, since)| *since < last);
        Some(touched.map(|(topic, _)| (topic, last)).collect())
    }

    async fn lost_of_each(
        self: &Rc<Self>,
        survey: &Survey,
        topics: Vec<(Topic, Offset)>,
        most: usize,
    ) -> Option<Vec<(Topic, Offset)>> {
        let mut lost = Vec::new();
        for some in topics.chunks(TOPICS) {
            for one in self.with_many(survey, some, most).await? {
                if let Some(last) = self.last_lost(survey, std::slice::from_ref(&one), most).await? {
                    lost.push((one.0, last));
                }
            }
        }
        Some(lost)
    }

    /// The topics that have more records than `most`, whether or not they reach the client.
    async fn with_many(
        self: &Rc<Self>,
        survey: &Survey,
        topics: &Missed,
        most: usize,
    ) -> Option<Vec<(Topic, Offset)>> {
        let early = |one: &(Topic, Offset)| survey.view.unsynced().filter(|r| replays(r, &one.0)).count();
        let asked: Vec<_> = topics.iter().map(|one| (one.clone(), early(one))).collect();
        let (of, upto) = (survey.workspace.clone(), survey.view.state.head);
        let look_up = move |log: &dyn Log| {
            let mut many = Vec::new();
            for (one, early) in asked {
                let sought =
                    Sought { topics: std::slice::from_ref(&one), upto, limit: most + 1, newest: true };
                if log.places(&of, &sought)?.len() + early > most {
                    many.push(one);
                }
            }
            Ok(many)
        };
        self.read_log(&survey.connection, look_up).await
    }

    /// The newest record that is too many: what comes after it is few enough.
    async fn last_lost(
        self: &Rc<Self>,
        survey: &Survey,
        topics: &Missed,
        most: usize,
    ) -> Option<Option<Offset>> {
        let mut left = most;
        let mut upto = survey.view.state.head;
        for record in survey.view.unsynced().rev() {
            upto = Offset(record.offset.0.saturating_sub(1));
            if !self.fits(survey, topics, (record, &mut left)) {
                return Some(Some(record.offset));
            }
        }
        loop {
            let (of, sought) = (survey.workspace.clone(), topics.to_vec());
            let look_up = move |log: &dyn Log| {
                log.places(&of, &Sought { topics: &sought, upto, limit: PLACES, newest: true })
            };
            let places = self.read_log(&survey.connection, look_up).await?;
            let mut rest = places.as_slice();
            while !rest.is_empty() {
                let page = self.read_places(&survey.connection, &survey.workspace, rest).await?;
                rest = rest.get(page.len()..).unwrap_or_default();
                let over = page.iter().find(|record| !self.fits(survey, topics, (record, &mut left)));
                if let Some(record) = over {
                    return Some(Some(record.offset));
                }
                tokio::task::yield_now().await;
            }
            match places.last().filter(|_| places.len() >= PLACES) {
                Some(last) => upto = Offset(last.0.saturating_sub(1)),
                None => return Some(None),
            }
        }
    }

    /// Counts a record for each of the topics on which it reaches the client. `false` when that is too many.
    fn fits(&self, survey: &Survey, topics: &Missed, (record, left): (&Record, &mut usize)) -> bool {
        if survey.view.state.is_deleted(record) {
            return true;
        }
        let figures = self.hub.figures.load();
        let scene = survey.view.scene(&figures);
        let missed = |topic: &Topic| {
            let place = topics.binary_search_by(|(known, _)| known.cmp(topic)).ok();
            place.and_then(|at| topics.get(at)).is_some_and(|(_, since)| record.offset > *since)
        };
        let reaches = |topic: &Topic| {
            let delivery = Delivery { item: Item::Record(record), topic, origin: None };
            let asked = |slot: &mut super::connection::Slot| slot.session.reaches(&delivery, scene);
            survey.connection.with_slot(survey.number, asked).unwrap_or(false)
        };
        let count = read_back_topics(record).iter().filter(|topic| missed(topic) && reaches(topic)).count();
        let fits = count <= *left;
        *left = left.saturating_sub(count);
        fits
    }
}

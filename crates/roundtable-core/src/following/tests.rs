//! Following, step by step and in any order of steps.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::{Advance, Fate, Following};
use crate::delivery::{Topic, replays};
use crate::event::{Event, Record};
use crate::ids::{AgentId, MessageId, Principal, RoomId};
use crate::messages::{Content, DirectMessage};
use crate::time::{Offset, Time};
use crate::users::TokenRevoked;

const MOST_HELD: usize = 40;

fn room(n: u8) -> Topic {
    Topic::Room(RoomId::new(&format!("r{n}")).unwrap())
}

fn agent() -> Principal {
    Principal::Agent(AgentId::new("a").unwrap())
}

/// The topics that are followed: three rooms and a principal.
fn topic(n: u8) -> Topic {
    if n == 3 { Topic::Principal(agent()) } else { room(n) }
}

/// A record of a room, of a principal (3), or of nothing that could be read back (4).
fn record(offset: u64, of: u8) -> Record {
    let revoked = TokenRevoked { jti: "t".into(), expires_at: Time(0), bearer: None };
    let direct = DirectMessage {
        id: MessageId::new("m").unwrap(),
        from: agent(),
        from_name: "A".into(),
        to: agent(),
        content: Content::Text("x".into()),
        metadata: None,
    };
    Record {
        offset: Offset(offset),
        room_seq: None,
        at: Time(0),
        t: Time(0),
        actor: Principal::System,
        room: if let Topic::Room(room) = topic(of.min(3)) { Some(room) } else { None },
        client: None,
        event: if of == 3 { Event::MessageDirect(direct) } else { Event::TokenRevoked(revoked) },
    }
}

/// The log, a session that follows, and what it got.
#[derive(Default)]
struct World {
    log: Vec<(Record, Vec<Topic>)>,
    following: Following<u64>,
    /// The round under way, and what of it is still to be handed over.
    round: Option<(u64, VecDeque<u64>)>,
    /// The newest record that was begun to be handed out.
    now: u64,
    /// Of each topic: wanted after, told of comings and goings after, what came.
    ears: BTreeMap<Topic, (u64, u64, Vec<u64>)>,
    lost: usize,
}

impl World {
    fn subscribe(&mut self, n: u8, back: Option<u64>) {
        let (topic, now) = (topic(n), self.now);
        let since = back.map(|back| now.saturating_sub(back));
        self.following.subscribe(&topic, since.map(Offset), Offset(now));
        match (self.ears.get_mut(&topic), since) {
            (Some(_), None) => {}
            (Some((from, told, got)), Some(since)) => {
                (*from, *told) = (since, now);
                got.clear();
            }
            (None, since) => drop(self.ears.insert(topic, (since.unwrap_or(now), now, Vec::new()))),
        }
    }

    fn unsubscribe(&mut self, n: u8) {
        self.following.unsubscribe(&topic(n));
        self.ears.remove(&topic(n));
    }

    /// A batch is committed: the log holds all of it before the first is handed out.
    fn commit(&mut self, kinds: &[(u8, bool)], size: usize, between: Option<(u8, Option<u64>)>) {
        for (of, _) in kinds {
            let record = record(self.log.len() as u64 + 1, *of);
            // Who comes and goes is told in two rooms.
            let topics = if *of == 4 { vec![room(0), room(1)] } else { vec![topic(*of)] };
            self.log.push((record, topics));
        }
        let first = self.log.len() - kinds.len();
        for (at, (_, has_room)) in (first..).zip(kinds) {
            self.now = at as u64 + 1;
            for topic in self.log[at].1.clone() {
                self.happens(at, &topic, *has_room, size);
            }
            if let Some((n, back)) = between {
                self.subscribe(n, back);
            }
        }
    }

    fn happens(&mut self, at: usize, topic: &Topic, has_room: bool, size: usize) {
        let offset = Offset(at as u64 + 1);
        if !self.ears.contains_key(topic) {
            return;
        }
        match self.following.meet(topic, offset, has_room) {
            Fate::Deliver => self.got(topic, offset.0),
            Fate::Hold => {
                let read_back = replays(&self.log[at].0, topic);
                let (to, what) = ((topic, read_back), (offset, size));
                self.lost += self.following.hold(to, what, MOST_HELD, || offset.0);
            }
            Fate::Skip => {}
        }
    }

    fn got(&mut self, topic: &Topic, offset: u64) {
        let (from, _, got) = self.ears.get_mut(topic).expect("only what is followed is handed out");
        let read_back = replays(&self.log[offset as usize - 1].0, topic);
        assert!(offset > *from || !read_back, "{offset} of {topic:?} is before {from}");
        assert!(got.last().is_none_or(|last| *last < offset), "{offset} of {topic:?} again: {got:?}");
        got.push(offset);
    }

    /// One step of whoever reads the log.
    fn step(&mut self) {
        let Some((generation, mut left)) = self.round.take() else {
            let Some(round) = self.following.begin(Offset(self.log.len() as u64)) else { return };
            let wanted = |record: &Record| {
                record.offset <= round.upto
                    && round.topics.iter().any(|(t, after)| record.offset > *after && replays(record, t))
            };
            let found = self.log.iter().filter(|(record, _)| wanted(record));
            self.round = Some((round.generation, found.map(|(record, _)| record.offset.0).collect()));
            return;
        };
        let Some(next) = left.front().copied() else {
            match self.following.advance(generation) {
                Advance::Hand(handed) => {
                    handed.topics.iter().for_each(|topic| self.got(topic, handed.item));
                    self.round = Some((generation, left));
                }
                Advance::Again | Advance::Live => {}
            }
            return;
        };
        while let Some(handed) = self.following.due(generation, Offset(next)) {
            handed.topics.iter().for_each(|topic| self.got(topic, handed.item));
        }
        let record = self.log[next as usize - 1].0.clone();
        if let Some(topics) = self.following.read(generation, &record) {
            left.pop_front();
            topics.iter().for_each(|topic| self.got(topic, next));
            self.round = Some((generation, left));
        }
    }

    /// Lets it come to rest and checks that all has come, once.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            if !self.following.is_behind() {
                break;
            }
            self.step();
        }
        assert!(!self.following.is_behind(), "it goes live when nothing happens");
        let mut missing = 0;
        for (topic, (from, told, got)) in &self.ears {
            for (record, topics) in &self.log {
                let (offset, live) = (record.offset.0, topics.contains(topic));
                if offset <= *from || !live || got.contains(&offset) {
                    continue;
                }
                assert!(!replays(record, topic), "{offset} of {topic:?} is missing: {got:?}");
                missing += usize::from(offset > *told);
            }
        }
        assert!(missing <= 2 * self.lost, "{missing} are missing, and {} were counted", self.lost);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<(u8, bool)>, usize, Option<(u8, Option<u64>)>),
    Subscribe(u8, Option<u64>),
    Unsubscribe(u8),
    Read(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let subscription = || (0..4_u8, proptest::option::of(0..12_u64));
    let batch = proptest::collection::vec((0..5_u8, proptest::bool::weighted(0.7)), 1..5);
    prop_oneof![
        4 => (batch, 1..20_usize, proptest::option::weighted(0.1, subscription()))
            .prop_map(|(kinds, size, between)| Step::Commit(kinds, size, between)),
        2 => subscription().prop_map(|(n, back)| Step::Subscribe(n, back)),
        1 => (0..4_u8).prop_map(Step::Unsubscribe),
        4 => (1..6_u8).prop_map(Step::Read),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn in_any_order_of_steps_everything_comes_once_and_in_order(
        steps in proptest::collection::vec(step(), 1..60)
    ) {
        let mut world = World::default();
        for step in steps {
            match step {
                Step::Commit(kinds, size, between) => world.commit(&kinds, size, between),
                Step::Subscribe(n, back) => world.subscribe(n, back),
                Step::Unsubscribe(n) => world.unsubscribe(n),
                Step::Read(count) => (0..count).for_each(|_| world.step()),
            }
        }
        world.settle();
    }
}

fn said(count: usize) -> Vec<(u8, bool)> {
    vec![(0, true); count]
}

#[test]
fn who_comes_with_a_cursor_reads_then_gets_what_was_held_then_is_live() {
    let mut world = World::default();
    world.commit(&said(5), 1, None);
    world.subscribe(0, Some(3));
    world.step();
    world.commit(&said(2), 1, None);
    assert!(world.ears[&room(0)].2.is_empty(), "what happens is held");
    world.settle();
    world.commit(&said(1), 1, None);
    assert_eq!(world.ears[&room(0)].2, [3, 4, 5, 6, 7, 8]);
}

#[test]
fn leaving_and_coming_again_during_a_catch_up_are_two_subscriptions() {
    let mut world = World::default();
    world.commit(&said(9), 1, None);
    world.subscribe(0, Some(9));
    (0..4).for_each(|_| world.step());
    assert_eq!(world.ears[&room(0)].2, [1, 2, 3]);
    world.unsubscribe(0);
    world.subscribe(0, None);
    world.commit(&said(1), 1, None);
    world.settle();
    assert_eq!(world.ears[&room(0)].2, [10], "what was missed before is not wanted any more");
}

#[test]
fn who_has_no_room_falls_behind_and_all_its_topics_go_on_in_the_order_of_the_log() {
    let mut world = World::default();
    world.subscribe(0, None);
    world.subscribe(3, None);
    world.commit(&[(0, true), (3, false), (0, true), (3, true)], 1, None);
    assert!(world.following.is_behind());
    assert_eq!(
        world.following.begin(Offset(4)).unwrap().topics,
        [(room(0), Offset(1)), (topic(3), Offset(1))]
    );
    world.settle();
    assert_eq!((&world.ears[&room(0)].2[..], &world.ears[&topic(3)].2[..]), (&[1, 3][..], &[2, 4][..]));
}

#[test]
fn what_there_is_no_room_to_hold_is_read_and_comings_and_goings_are_kept_longest() {
    let mut world = World::default();
    world.subscribe(0, None);
    world.commit(&[(0, false)], 1, None);
    world.step();
    world.commit(&[(4, true)], 10, None);
    for _ in 0..20 {
        world.commit(&said(3), 30, None);
    }
    assert_eq!(world.lost, 0);
    world.settle();
    assert_eq!(world.ears[&room(0)].2, (1..=62).collect::<Vec<u64>>(), "in its place");
    world.commit(&[(0, false)], 1, None);
    (0..5).for_each(|_| world.commit(&[(4, true)], 10, None));
    assert_eq!(world.lost, 1, "40 bytes may be held");
    world.settle();
}

#[test]
fn two_topics_of_one_record_are_both_handed_out_or_both_held() {
    let mut following: Following<()> = Following::default();
    following.subscribe(&room(0), None, Offset(0));
    following.subscribe(&room(1), None, Offset(0));
    assert_eq!(following.meet(&room(0), Offset(1), true), Fate::Deliver);
    assert_eq!(following.meet(&room(1), Offset(1), false), Fate::Deliver);
    assert_eq!(following.meet(&room(0), Offset(2), false), Fate::Hold);
    assert_eq!(following.meet(&room(1), Offset(2), true), Fate::Hold);
}

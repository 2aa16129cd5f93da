//! Records of every shape a log engine has to tell apart, and how a test appends them.

use std::sync::{Arc, mpsc};

use roundtable::log::{Append, Appended, Log};
use roundtable_core::alerts::AlertCleared;
use roundtable_core::event::{Event, Record};
use roundtable_core::feeds::{Feed, FeedMarked};
use roundtable_core::ids::{AgentId, AlertId, ClientId, MessageId, Principal, RoomId, WorkspaceId};
use roundtable_core::messages::{Content, DirectMessage};
use roundtable_core::presence::Whereabouts;
use roundtable_core::repeats::ClientWrite;
use roundtable_core::rooms::{RoomCard, RoomCreated, RoomJoined, RoomLeft};
use roundtable_core::time::{Offset, Time};

/// A reproducible sequence of numbers (splitmix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

pub fn workspace(name: &str) -> WorkspaceId {
    WorkspaceId::new(name).unwrap()
}

pub fn agent(n: u64) -> Principal {
    Principal::Agent(AgentId::new(&format!("agent-{n}")).unwrap())
}

pub fn room(n: u64) -> RoomId {
    RoomId::new(&format!("room-{n}")).unwrap()
}

/// The message with the given number as its text.
pub fn message(offset: u64, at: i64, place: RoomId, dice: &mut Dice) -> Record {
    let from = agent(dice.below(5));
    let (id, text) = (MessageId::fresh(Time(at), dice.next()), "…".repeat(dice.below(60) as usize));
    let body = format!(
        r#"{{"id":"{id}","from":"{from}","from_name":"Ä\"","role":"user","kind":"text","content":{{"text":"text {offset} {text}"}}}}"#
    );
    let event = Event::read("message.posted", &body).unwrap();
    in_room(offset, at, place, from, event)
}

fn in_room(offset: u64, at: i64, room: RoomId, actor: Principal, event: Event) -> Record {
    let client = offset.is_multiple_of(3).then(|| ClientWrite {
        id: ClientId::new(&format!("client {}", offset % 900)).unwrap(),
        command: (offset.is_multiple_of(2)).then(|| format!("1:{offset:032x}").parse().unwrap()),
    });
    let (room, room_seq) = (Some(room), Some(offset));
    Record { offset: Offset(offset), room_seq, at: Time(at), t: Time(at), actor, room, client, event }
}

/// Any record: messages mostly, the clock going back now and then.
pub fn any(offset: u64, dice: &mut Dice) -> Record {
    let back = if dice.below(20) == 0 { 4_000 } else { 0 };
    let at = 1_700_000_000_000 + offset as i64 * 3 - back;
    let place = room(dice.below(7));
    let who = agent(dice.below(5));
    match dice.below(20) {
        0..=11 => message(offset, at, place, dice),
        12 => {
            let (card, owner) = (RoomCard::default(), who.clone());
            in_room(offset, at, place, who, Event::RoomCreated(RoomCreated { card, owner }))
        }
        13 | 14 => in_room(
            offset,
            at,
            place,
            who.clone(),
            Event::RoomJoined(RoomJoined { member: who, by: None, at: Whereabouts::default() }),
        ),
        15 => in_room(
            offset,
            at,
            place,
            who.clone(),
            Event::RoomLeft(RoomLeft { member: who, at: Whereabouts::default() }),
        ),
        16 | 17 => alone(offset, at, Event::MessageDirect(direct(who, dice))),
        18 => {
            let (alert, source) = (AlertId::new("a").unwrap(), "cpu".into());
            alone(offset, at, Event::AlertCleared(AlertCleared { alert, source, feed: None }))
        }
        _ => {
            let feed = if dice.below(2) == 0 { Feed::Activity } else { Feed::Network };
            alone(offset, at, Event::FeedMarked(FeedMarked { feed, report: false }))
        }
    }
}

fn direct(to: Principal, dice: &mut Dice) -> DirectMessage {
    DirectMessage {
        id: MessageId::fresh(Time(0), dice.next()),
        from: agent(9),
        from_name: "nine".into(),
        to,
        content: Content::Text("psst".into()),
        metadata: None,
    }
}

fn alone(offset: u64, at: i64, event: Event) -> Record {
    let (offset, at, actor) = (Offset(offset), Time(at), Principal::System);
    Record { offset, room_seq: None, at, t: at, actor, room: None, client: None, event }
}

/// Appends as epoch `epoch` of workspace `w` and waits for the answer.
pub fn append(
    log: &impl Log,
    w: &WorkspaceId,
    records: &[Record],
    (epoch, relaxed): (u32, bool),
) -> Appended {
    let expected = Offset(records.first().map_or(0, |r| r.offset.0 - 1));
    let append = Append { workspace: w.clone(), expected, records: Arc::from(records), epoch, relaxed };
    let (answer, result) = mpsc::channel();
    log.append(append, Box::new(move |appended| answer.send(appended).unwrap()));
    result.recv().unwrap()
}

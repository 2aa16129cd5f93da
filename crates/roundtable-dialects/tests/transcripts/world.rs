//! The rules in memory with sessions around them, doing what the server does: one question per batch, outputs in order.

use std::collections::{BTreeMap, VecDeque};

use roundtable_core::access::{may_read_room, may_receive};
use roundtable_core::command::Command;
use roundtable_core::delivery::{Delivery, Item, Topic, replays, topics_of_record, topics_of_signal};
use roundtable_core::engine::{Context, Outcome, decide};
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::event::{Event, Record};
use roundtable_core::following::{Advance, Fate, Following, Handed};
use roundtable_core::ids::{ConnectionId, MessageId, Principal, RoomId};
use roundtable_core::messages;
use roundtable_core::repeats::{self, Claim, Firsts};
use roundtable_core::signal::Signal;
use roundtable_core::state::State;
use roundtable_core::time::{Cursor, Offset, Time};
use roundtable_dialects::figures::Figures;
use roundtable_dialects::pace::Bucket;
use roundtable_dialects::session::{
    Ask, Budget, Form, Identity, Input, Messages, Most, Opening, Output, Outputs, Route, Scene, Session,
    Token,
};
use roundtable_dialects::standing;
use roundtable_dialects::transcript::{Got, seen};

use super::identity::Desk;

/// Makes the shared messages of a dialect.
pub type Encode = fn(Form, &Delivery<'_>, Scene<'_>) -> Messages;

/// 2026-01-01T00:00:00Z.
pub const START: Time = Time(1_767_225_600_000);
const EPOCH: u32 = 1;

/// A record that came while older ones are read back, with the connection that caused it.
type Held = (Record, Option<ConnectionId>);
/// Bytes of what is held; few, so that transcripts come to the end of them.
const MOST_HELD: usize = 4 << 10;

/// One connection.
pub struct Link {
    session: Option<Box<dyn Session>>,
    encode: Encode,
    plain: bool,
    /// Who it is, once that is settled.
    pub who: Option<Identity>,
    following: Following<Held>,
    wake: Option<Time>,
    frames: Bucket,
    /// What the client got and nobody has asked for yet.
    pub got: VecDeque<Got>,
}

/// What is still to be done.
enum Work {
    Ask { link: usize, by: Principal, silent: bool, ask: Box<Ask> },
    BringUp { link: usize },
    Find { link: usize, token: Token, message: MessageId },
    Page { link: usize, token: Token, room: RoomId, before: Option<Offset>, limit: u32 },
    End { link: usize },
}

/// The workspace and its connections.
pub struct World {
    pub now: Time,
    pub state: State,
    pub figures: Figures,
    pub desk: Desk,
    pub links: Vec<Link>,
    /// The log takes no writes.
    pub full: bool,
    pub records: Vec<Record>,
    /// The newest record that was begun to be handed out.
    told: Offset,
    rights_changed: bool,
    random: u64,
    work: VecDeque<Work>,
    firsts: Firsts,
    spent: BTreeMap<(Principal, &'static str), VecDeque<Time>>,
}

impl World {
    pub fn new() -> Self {
        Self {
            now: START,
            state: State::default(),
            figures: Figures { node: "n1".into(), started_at: START, at: START, ..Figures::default() },
            desk: Desk::default(),
            links: Vec::new(),
            full: false,
            records: Vec::new(),
            told: Offset(0),
            rights_changed: false,
            random: 0,
            work: VecDeque::new(),
            firsts: Firsts::default(),
            spent: BTreeMap::new(),
        }
    }

    /// Bits that look drawn and are the same in every run.
    pub fn random(&mut self) -> u64 {
        self.random += 1;
        let mut bits = self.random.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A millisecond passes, so that no two things happen at once.
    pub fn tick(&mut self) {
        self.now = self.now.plus(1);
    }

    /// Somebody comes to a door; gives the number of the connection.
    pub fn open(
        &mut self,
        session: Box<dyn Session>,
        encode: Encode,
        plain: bool,
        opening: &Opening<'_>,
    ) -> usize {
        let link = self.links.len();
        self.links.push(Link {
            session: Some(session),
            encode,
            plain,
            who: None,
            following: Following::default(),
            wake: None,
            frames: Bucket::default(),
            got: VecDeque::new(),
        });
        let random = u128::from(self.random()) << 64 | u128::from(self.random());
        let opening = Opening { connection: ConnectionId(link as u64 + 1), random, ..opening.clone() };
        self.with(link, |session, scene, out| session.open(&opening, scene, out));
        self.settle();
        link
    }

    /// A client says something.
    pub fn input(&mut self, link: usize, input: Input<'_>) {
        let mut frames = self.links[link].frames;
        self.with(link, |session, scene, out| {
            let limit = session.frame_limit().filter(|_| matches!(input, Input::Text(_) | Input::Binary(_)));
            match limit.map(|limit| frames.take(1, limit, scene.now.0.unsigned_abs())) {
                Some(Err(after_ms)) => session.too_fast(after_ms, scene, out),
                Some(Ok(())) | None => session.input(input, scene, out),
            }
        });
        self.links[link].frames = frames;
        self.settle();
    }

    /// A client is gone.
    pub fn leave(&mut self, link: usize) {
        self.end(link);
        self.settle();
    }

    /// Whether a connection is over.
    pub fn is_over(&self, link: usize) -> bool {
        self.links[link].session.is_none()
    }

    /// Time passes; who wanted to be woken until then is, in order.
    pub fn pass(&mut self, ms: i64) {
        let until = self.now.plus(ms);
        loop {
            let due = |(n, link): (usize, &Link)| link.wake.filter(|at| *at <= until).map(|at| (at, n));
            let woken = self.links.iter().enumerate().filter_map(due).min();
            let rules = self.state.next_deadline().filter(|at| *at <= until);
            if let Some(at) = rules.filter(|at| woken.is_none_or(|(first, _)| *at <= first)) {
                self.now = self.now.max(at);
                self.ask(&Principal::System, &Ask::new(Token(0), Command::Tick)).expect("time passes");
                continue;
            }
            let Some((at, link)) = woken else { break };
            self.now = self.now.max(at);
            self.links[link].wake = None;
            self.with(link, |session, scene, out| session.woken(scene, out));
            self.settle();
        }
        self.now = self.now.max(until);
    }

    /// Somebody without a connection asks; what follows from it is delivered.
    pub fn ask(&mut self, by: &Principal, ask: &Ask) -> Result<Outcome, Error> {
        let reply = self.decide(by, None, ask);
        self.expel();
        self.settle();
        reply
    }

    /// The newest messages of a room before an offset, oldest first.
    pub fn page(
        &self,
        who: &Principal,
        room: &RoomId,
        before: Option<Offset>,
        limit: u32,
    ) -> Result<Vec<Record>, Error> {
        roundtable_core::rooms::visible(&self.state, room, who)?;
        let known = self.state.room(room).is_some_and(|room| may_read_room(&self.state, room, who));
        if !known {
            return Err(Error::forbidden(format!("{} is not in room {room}", who.id())));
        }
        let fits = |r: &&Record| {
            r.room.as_ref() == Some(room)
                && before.is_none_or(|before| r.offset < before)
                && matches!(r.event, Event::MessagePosted(messages::Message { .. }))
                && !self.state.is_deleted(r)
        };
        let mut page: Vec<Record> =
            self.records.iter().rev().filter(fits).take(limit as usize).cloned().collect();
        page.reverse();
        Ok(page)
    }

    /// A message of any room that somebody may read.
    pub fn find(&self, who: &Principal, message: &MessageId) -> Option<Record> {
        let wanted = |r: &&Record| matches!(&r.event, Event::MessagePosted(said) if said.id == *message);
        let found = self.records.iter().find(wanted).filter(|r| !self.state.is_deleted(r))?;
        let room = found.room.as_ref().and_then(|room| self.state.room(room))?;
        may_read_room(&self.state, room, who).then(|| found.clone())
    }

    fn settle(&mut self) {
        while let Some(work) = self.work.pop_front() {
            match work {
                Work::Ask { link, by, silent, ask } => {
                    let reply = self.decide(&by, Some(ConnectionId(link as u64 + 1)), &ask);
                    if !silent {
                        self.with(link, |session, scene, out| {
                            session.replied(ask.token, reply.as_ref(), scene, out);
                        });
                    }
                    self.expel();
                }
                Work::BringUp { link } => self.bring_up(link),
                Work::Page { link, token, room, before, limit } => {
                    let who = self.links[link].who.as_ref().map(|who| who.principal.clone());
                    let who = who.expect("a page is read by somebody");
                    let page = self.page(&who, &room, before, limit);
                    self.with(link, |session, scene, out| {
                        session.paged(token, page.as_ref().map(Vec::as_slice), scene, out);
                    });
                }
                Work::Find { link, token, message } => {
                    let who = self.links[link].who.as_ref().map(|who| who.principal.clone());
                    let found = self.find(&who.expect("somebody looks for a message"), &message);
                    self.with(link, |session, scene, out| {
                        session.found(token, Ok(found.as_ref()), scene, out);
                    });
                }
                Work::End { link } => self.end(link),
            }
        }
    }

    fn end(&mut self, link: usize) {
        let Some(mut session) = self.links[link].session.take() else { return };
        let mut out = Outputs::new();
        session.closed(self.scene(), &mut out);
        let by = self.links[link].who.as_ref().map(|who| who.principal.clone());
        for output in out {
            if let (Output::Ask(ask), Some(by)) = (output, by.clone()) {
                self.work.push_back(Work::Ask { link, by, silent: true, ask: Box::new(ask) });
            }
        }
        self.links[link].following = Following::default();
        self.links[link].wake = None;
    }

    fn scene(&self) -> Scene<'_> {
        Scene { now: self.now, at: self.now, state: &self.state, epoch: EPOCH, figures: &self.figures }
    }

    fn with(&mut self, link: usize, run: impl FnOnce(&mut dyn Session, Scene<'_>, &mut Outputs)) {
        let Some(mut session) = self.links[link].session.take() else { return };
        let mut out = Outputs::new();
        run(session.as_mut(), self.scene(), &mut out);
        self.links[link].session = Some(session);
        for output in out {
            self.carry_out(link, output);
        }
    }

    fn carry_out(&mut self, link: usize, output: Output) {
        let plain = self.links[link].plain;
        let ended = self.links[link].got.iter().any(|got| matches!(got, Got::End(_)));
        if let Some(got) = seen(&output, plain).filter(|_| !ended) {
            self.links[link].got.push_back(got);
        }
        match output {
            Output::Send(_) | Output::Accept | Output::Notice(_) | Output::Unpacked(_) => {}
            Output::Refuse { .. } | Output::End(_) => self.work.push_back(Work::End { link }),
            Output::Authenticate(credentials) => {
                let result = self.desk.identify(&self.state, &credentials, self.now);
                self.links[link].who = result.as_ref().ok().cloned();
                self.with(link, |session, scene, out| {
                    session.identified(result.as_ref().map_err(|refusal| *refusal), scene, out);
                });
            }
            Output::Ask(ask) => {
                let by = self.links[link].who.as_ref().expect("somebody asks").principal.clone();
                self.work.push_back(Work::Ask { link, by, silent: false, ask: Box::new(ask) });
            }
            Output::Subscribe(topic, since) => self.subscribe(link, topic, since),
            Output::Unsubscribe(topic) => self.links[link].following.unsubscribe(&topic),
            Output::Read { token, room, before, limit } => {
                self.work.push_back(Work::Page { link, token, room, before, limit });
            }
            Output::Find { token, message } => self.work.push_back(Work::Find { link, token, message }),
            Output::Survey { missed, most } => self.survey(link, &missed, most),
            // A client in memory has everything that was sent to it.
            Output::Probe(number) => {
                self.with(link, |session, scene, out| session.proven(number, scene, out));
            }
            Output::WakeAt(at) => self.links[link].wake = Some(at),
        }
    }

    fn survey(&mut self, link: usize, missed: &[(Topic, Cursor)], most: Most) {
        let lost: Vec<(Topic, Offset)> = match most {
            Most::Together(most) => {
                let last = self.last_lost(link, missed, most);
                missed.iter().filter_map(|(topic, _)| Some((topic.clone(), last?))).collect()
            }
            Most::Each(most) => {
                let each = missed.iter().filter_map(|one| {
                    Some((one.0.clone(), self.last_lost(link, std::slice::from_ref(one), most)?))
                });
                each.collect()
            }
        };
        self.with(link, |session, scene, out| session.surveyed(&lost, scene, out));
    }

    fn last_lost(&self, link: usize, missed: &[(Topic, Cursor)], most: usize) -> Option<Offset> {
        let scene = self.scene();
        let session = self.links[link].session.as_ref().expect("it is not at work");
        let reaches = |record: &&Record| {
            missed.iter().any(|(topic, since)| {
                let delivery = Delivery { item: Item::Record(record), topic, origin: None };
                record.offset > since.offset
                    && replays(record, topic)
                    && !self.state.is_deleted(record)
                    && session.reaches(&delivery, scene)
            })
        };
        self.records.iter().rev().filter(reaches).nth(most).map(|record| record.offset)
    }

    fn subscribe(&mut self, link: usize, topic: Topic, since: Option<Cursor>) {
        let Some(who) = self.links[link].who.as_ref().map(|who| who.principal.clone()) else { return };
        if !may_receive(&self.state, &who, &topic) {
            return;
        }
        let head = self.state.head;
        let lost = since.filter(|cursor| cursor.epoch != EPOCH || cursor.offset > head);
        let from = since.filter(|_| lost.is_none()).map(|cursor| cursor.offset);
        let following = &mut self.links[link].following;
        following.subscribe(&topic, from, self.told);
        if following.is_behind() {
            self.work.push_back(Work::BringUp { link });
        }
        if lost.is_some() {
            let first = Cursor { epoch: EPOCH, offset: self.told };
            self.with(link, |session, scene, out| session.cannot_resume(&topic, first, scene, out));
        }
    }

    /// Reads back what somebody missed, then hands out what was held meanwhile.
    fn bring_up(&mut self, link: usize) {
        while let Some(round) = self.links[link].following.begin(self.state.head) {
            let missed = |r: &&Record| {
                let after = |(topic, after): &(Topic, Offset)| r.offset > *after && replays(r, topic);
                r.offset <= round.upto && round.topics.iter().any(after)
            };
            let missed: Vec<Record> = self.records.iter().filter(missed).cloned().collect();
            for record in &missed {
                while let Some(held) = self.links[link].following.due(round.generation, record.offset) {
                    self.hand_held(link, &held);
                }
                let Some(topics) = self.links[link].following.read(round.generation, record) else { break };
                for topic in topics.iter().filter(|_| !self.state.is_deleted(record)).collect::<Vec<_>>() {
                    self.hand(link, &Delivery { item: Item::Record(record), topic, origin: None });
                }
            }
            while let Advance::Hand(held) = self.links[link].following.advance(round.generation) {
                self.hand_held(link, &held);
            }
        }
        self.with(link, |session, scene, out| session.caught_up(scene, out));
    }

    fn hand_held(&mut self, link: usize, held: &Handed<Held>) {
        let (record, origin) = &held.item;
        for topic in &held.topics {
            self.hand(link, &Delivery { item: Item::Record(record), topic, origin: *origin });
        }
    }

    fn decide(&mut self, by: &Principal, origin: Option<ConnectionId>, ask: &Ask) -> Result<Outcome, Error> {
        self.tick();
        let actor = ask.actor.clone().unwrap_or_else(|| by.clone());
        if let Some(budget) = ask.budget {
            self.spend(&actor, budget)?;
        }
        let (now, random) = (self.now, self.random());
        let context = Context {
            now,
            at: now,
            actor: actor.clone(),
            by: by.clone(),
            connection: origin,
            random,
            client: ask.client.clone().map(|id| Claim::of((&actor, id), &ask.command, &self.firsts)),
        };
        let decided = decide(&self.state, &ask.command, &context);
        let decided = match decided {
            Ok(decision) if self.full && !decision.events.is_empty() => {
                let mut refused = Error::new(ErrorKind::Unavailable, "nothing was written: the disk is full");
                refused.retry_after_ms = Some(1_000);
                Err(refused)
            }
            decided => decided,
        };
        if let (Err(_), Some(budget)) = (&decided, ask.budget)
            && let Some(spent) = self.spent.get_mut(&(actor.clone(), budget.class))
        {
            spent.pop_back();
        }
        let decision = decided?;
        let outcome = decision.result();
        let mut client = repeats::note(&mut self.firsts, &self.state, &context, &decision);
        let mut records = Vec::new();
        for (room, event) in decision.events {
            let room_seq = room.as_ref().map(|room| self.state.next_in_room(room));
            let (offset, actor, client) = (self.state.head.next(), actor.clone(), client.take());
            let record = Record { offset, room_seq, at: now, t: now, actor, room, client, event };
            self.state.apply(&record);
            let topics = topics_of_record(&record, &self.state);
            records.push((record, topics));
        }
        self.records.extend(records.iter().map(|(record, _)| record.clone()));
        self.tick();
        for (record, topics) in &records {
            self.happens(record, topics, origin);
        }
        for (room, body) in decision.signals {
            let signal = Signal { at: now, actor: actor.clone(), room, body };
            for topic in &topics_of_signal(&signal) {
                self.deliver(&Delivery { item: Item::Signal(&signal), topic, origin });
            }
        }
        Ok(outcome)
    }

    /// A record is handed out, and what follows from it for who may receive what.
    fn happens(&mut self, record: &Record, topics: &[Topic], origin: Option<ConnectionId>) {
        self.told = record.offset;
        for topic in topics {
            self.deliver(&Delivery { item: Item::Record(record), topic, origin });
        }
        match &record.event {
            Event::RoomLeft(_) | Event::RoomRemoved(_) | Event::AgentRemoved(_) => {
                self.drop_strangers(|topic| topics.contains(topic))
            }
            Event::UserChanged(_) | Event::UserRemoved(_) => self.drop_strangers(|_| true),
            _ => {}
        }
        self.rights_changed |= standing::may_end(&record.event, &self.state);
    }

    fn spend(&mut self, who: &Principal, budget: Budget) -> Result<(), Error> {
        let (now, window) = (self.now, i64::from(budget.window_ms));
        let spent = self.spent.entry((who.clone(), budget.class)).or_default();
        spent.retain(|at| now.since(*at) < window);
        if let (Some(oldest), true) = (spent.front(), spent.len() >= budget.most as usize) {
            let wait = window - now.since(*oldest);
            let text = format!("more than {} {} in {} s", budget.most, budget.class, budget.window_ms / 1000);
            let mut error = Error::new(ErrorKind::RateLimited, text);
            (error.retry_after_ms, error.limit) = (u64::try_from(wait).ok(), Some(budget.most));
            return Err(error);
        }
        spent.push_back(now);
        Ok(())
    }

    fn deliver(&mut self, delivery: &Delivery<'_>) {
        for link in 0..self.links.len() {
            let following = &mut self.links[link].following;
            if !following.follows(delivery.topic) {
                continue;
            }
            let Item::Record(record) = delivery.item else {
                self.hand(link, delivery);
                continue;
            };
            match following.meet(delivery.topic, record.offset, true) {
                Fate::Deliver => self.hand(link, delivery),
                Fate::Skip => {}
                Fate::Hold => {
                    let to = (delivery.topic, replays(record, delivery.topic));
                    let held = || (record.clone(), delivery.origin);
                    following.hold(to, (record.offset, record.event.weight()), MOST_HELD, held);
                }
            }
        }
    }

    fn hand(&mut self, link: usize, delivery: &Delivery<'_>) {
        let mut route = Route::Skip;
        self.with(link, |session, scene, _| route = session.route(delivery, scene));
        match route {
            Route::Skip => {}
            Route::Own => self.with(link, |session, scene, out| session.deliver(delivery, scene, out)),
            Route::Shared(form) => {
                let messages = (self.links[link].encode)(form, delivery, self.scene());
                for message in messages {
                    self.carry_out(link, Output::Send(message));
                }
            }
        }
    }

    /// Whoever received a topic only through a membership or right that ended does so no longer.
    fn drop_strangers(&mut self, concerned: impl Fn(&Topic) -> bool) {
        for link in &mut self.links {
            let Some(who) = &link.who else { continue };
            let stranger = |t: &&Topic| concerned(t) && !may_receive(&self.state, &who.principal, t);
            let strange: Vec<Topic> = link.following.topics().filter(stranger).cloned().collect();
            strange.iter().for_each(|topic| link.following.unsubscribe(topic));
        }
    }

    /// Ends the connections whose credential or account is worth nothing any more.
    fn expel(&mut self) {
        if !std::mem::take(&mut self.rights_changed) {
            return;
        }
        for link in 0..self.links.len() {
            let refusal =
                self.links[link].who.as_ref().and_then(|who| standing::of_identity(&self.state, who).err());
            if let Some(refusal) = refusal.filter(|_| !self.has_ended(link)) {
                self.with(link, |session, scene, out| session.expelled(refusal, scene, out));
            }
        }
    }

    fn has_ended(&self, link: usize) -> bool {
        self.is_over(link) || self.links[link].got.iter().any(|got| matches!(got, Got::End(_)))
    }

    /// The server itself asks.
    pub fn system(&mut self, actor: &Principal, command: Command) -> Result<Outcome, Error> {
        let ask = Ask { actor: Some(actor.clone()), ..Ask::new(Token(0), command) };
        self.ask(&Principal::System, &ask)
    }
}

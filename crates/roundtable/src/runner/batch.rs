//! One batch: many questions decided one after the other on a draft of the state. No I/O.

use std::sync::Arc;

use indexmap::IndexMap;
use roundtable_core::command::Command;
use roundtable_core::delivery::{Topics, topics_of_record, topics_of_signal};
use roundtable_core::engine::{Context, Decision, Outcome, decide};
use roundtable_core::error::Error;
use roundtable_core::event::{Event, Record};
use roundtable_core::ids::{ConnectionId, Principal};
use roundtable_core::repeats::{Claim, ClientWrite, First};
use roundtable_core::rooms::Durability;
use roundtable_core::signal::{Signal, SignalBody};
use roundtable_core::state::State;
use roundtable_core::time::Moment;
use roundtable_dialects::session::Ask;

use super::repeats::{Known, Name};

/// A question and whom its answer goes to.
#[derive(Debug)]
pub struct Question<R> {
    /// Who asks, as the server knows it.
    pub by: Principal,
    /// On which connection.
    pub connection: Option<ConnectionId>,
    /// What is asked.
    pub ask: Ask,
    /// Whom the answer goes to.
    pub reply: R,
}

impl<R> Question<R> {
    /// Who acts.
    pub fn actor(&self) -> &Principal {
        self.ask.actor.as_ref().unwrap_or(&self.by)
    }
}

/// The first result of a name.
pub type Given = (Name, First);

/// What a batch does, in the order in which everybody sees it.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are records, and a box for each would cost more")]
pub enum Step {
    /// A record goes out.
    Record {
        /// The record.
        record: Record,
        /// To whom.
        topics: Topics,
        /// The connection that caused it.
        origin: Option<ConnectionId>,
    },
    /// A signal goes out.
    Signal {
        /// The signal.
        signal: Signal,
        /// To whom.
        topics: Topics,
        /// The connection that caused it.
        origin: Option<ConnectionId>,
    },
    /// A question is answered; the number counts the questions of the batch from 0.
    Reply(usize, Result<Outcome, Error>),
}

impl Step {
    /// Whether somebody said something.
    pub fn is_message(&self) -> bool {
        match self {
            Self::Record { record, .. } => {
                matches!(record.event, Event::MessagePosted(_) | Event::MessageDirect(_))
            }
            Self::Signal { signal, .. } => matches!(signal.body, SignalBody::Message(_)),
            Self::Reply(..) => false,
        }
    }
}

/// What a batch of questions comes to.
#[derive(Debug)]
pub struct Batch {
    /// What happens, in order.
    pub steps: Vec<Step>,
    /// The state after it.
    pub state: State,
    /// Everything in it may be handed out before it is synced.
    pub relaxed: bool,
    /// First results of client ids, and whether a record tells them.
    given: IndexMap<Name, (First, bool)>,
}

impl Batch {
    /// The records for the log, in order.
    pub fn records(&self) -> Arc<[Record]> {
        let record =
            |step: &Step| if let Step::Record { record, .. } = step { Some(record.clone()) } else { None };
        self.steps.iter().filter_map(record).collect()
    }

    /// The first results of client ids that no record tells.
    pub fn passing(&mut self) -> Vec<Given> {
        let given = std::mem::take(&mut self.given).into_iter();
        given.filter(|(_, (_, kept))| !kept).map(|(name, (first, _))| (name, first)).collect()
    }

    /// The client's name for a question, with what it gave before, in this batch or earlier. Fails when that is not known.
    fn claim<R>(&self, question: &Question<R>, known: &Known) -> Result<Option<Claim>, Error> {
        let Some(id) = question.ask.client.clone() else { return Ok(None) };
        let name = (question.actor().clone(), id);
        let first = match (self.given.get(&name), known.get(&name)) {
            (Some((first, _)), _) => Some(first.clone()),
            (None, Some(found)) => Some(found.clone()?),
            (None, None) => None,
        };
        Ok(Some(Claim { write: ClientWrite::of(name.1, &question.ask.command), first }))
    }
}

/// What a question passes before it is decided.
pub trait Gate {
    /// Lets it in, or says why not.
    fn enter(&mut self, ask: &Ask, actor: &Principal) -> Result<(), Error>;
    /// Lets what was decided on a state be written, or says why not.
    fn writes(&mut self, actor: &Principal, decision: &Decision, state: &State) -> Result<(), Error>;
    /// The engine refused the question that was let in last.
    fn refused(&mut self, ask: &Ask);
}

/// Decides what is due by itself, then the questions one after the other, each on what the ones before left behind. What
/// their client ids gave in earlier batches is known.
///
/// `gate` turns away what may not be asked now (a budget is used up); `random` gives fresh bits.
pub fn decide_all<R>(
    (state, known): (&State, &Known),
    questions: &[Question<R>],
    now: Moment,
    gate: &mut impl Gate,
    mut random: impl FnMut() -> u64,
) -> Batch {
    // Another writer's record may be ahead of what was counted here.
    let now = Moment { t: now.t.max(state.t), ..now };
    let mut batch = Batch {
        steps: Vec::with_capacity(questions.len() * 2),
        state: state.clone(),
        relaxed: true,
        given: IndexMap::new(),
    };
    batch.tick(now);
    for (number, question) in questions.iter().enumerate() {
        let mut context = Context {
            now: now.t,
            at: now.at,
            actor: question.actor().clone(),
            by: question.by.clone(),
            connection: question.connection,
            random: random(),
            client: None,
        };
        let decided = gate.enter(&question.ask, &context.actor).and_then(|()| {
            let claim = batch.claim(question, known);
            let decided = claim.and_then(|claim| {
                context.client = claim;
                let decision = decide(&batch.state, &question.ask.command, &context)?;
                gate.writes(&context.actor, &decision, &batch.state).map(|()| decision)
            });
            decided.inspect_err(|_| gate.refused(&question.ask))
        });
        let reply = decided.map(|decision| {
            let outcome = decision.result();
            batch.take_in(decision, context);
            outcome
        });
        batch.steps.push(Step::Reply(number, reply));
    }
    batch
}

impl Batch {
    /// What is due by itself comes first, however much is asked.
    fn tick(&mut self, now: Moment) {
        if self.state.next_deadline().is_none_or(|due| due > now.t) {
            return;
        }
        let context = Context {
            now: now.t,
            at: now.at,
            actor: Principal::System,
            by: Principal::System,
            connection: None,
            random: 0,
            client: None,
        };
        // The server itself is never refused this.
        if let Ok(decision) = decide(&self.state, &Command::Tick, &context) {
            self.take_in(decision, context);
        }
    }

    fn take_in(&mut self, decision: Decision, context: Context) {
        let Context { now, at, actor, connection: origin, client: claim, .. } = context;
        if let Some((claim, first)) =
            claim.as_ref().and_then(|claim| Some((claim, claim.given(&decision, &self.state, now)?)))
        {
            let name = (actor.clone(), claim.write.id.clone());
            self.given.insert(name, (first, !decision.events.is_empty()));
        }
        let mut client = claim.map(|claim| claim.write);
        for (room, event) in decision.events {
            let room_seq = room.as_ref().map(|room| self.state.next_in_room(room));
            let record = Record {
                offset: self.state.head.next(),
                room_seq,
                at,
                t: now,
                actor: actor.clone(),
                room,
                // Only the first event of a command carries the client id: its outcome is what a repeat is answered with.
                client: client.take(),
                event,
            };
            self.relaxed &= may_wait(&record, &self.state);
            self.state.apply(&record);
            let topics = topics_of_record(&record, &self.state);
            self.steps.push(Step::Record { record, topics, origin });
        }
        for (room, body) in decision.signals {
            let signal = Signal { at, actor: actor.clone(), room, body };
            let topics = topics_of_signal(&signal);
            self.steps.push(Step::Signal { signal, topics, origin });
        }
    }
}

/// Whether a record may be handed out before it is synced: only messages of relaxed rooms.
fn may_wait(record: &Record, state: &State) -> bool {
    let room = record.room.as_ref().and_then(|id| state.room(id));
    matches!(record.event, Event::MessagePosted(_))
        && room.is_some_and(|room| room.card.durability == Durability::Relaxed)
}

#[cfg(test)]
mod tests {
    use roundtable_core::agents::{AgentCard, RegisterAgent};
    use roundtable_core::error::ErrorKind;
    use roundtable_core::ids::{AgentId, ClientId, RoomId};
    use roundtable_core::messages::Post;
    use roundtable_core::rooms::{CreateRoom, RoomCard};
    use roundtable_core::time::Time;
    use roundtable_dialects::session::Token;

    use super::*;

    const NOW: Moment = Moment { t: Time(5), at: Time(7) };

    /// Refuses everybody with one error, or lets everybody in.
    struct Door(Option<Error>);

    impl Gate for Door {
        fn enter(&mut self, _: &Ask, _: &Principal) -> Result<(), Error> {
            self.0.clone().map_or(Ok(()), Err)
        }

        fn writes(&mut self, _: &Principal, _: &Decision, _: &State) -> Result<(), Error> {
            Ok(())
        }

        fn refused(&mut self, _: &Ask) {}
    }

    fn ask(command: Command) -> Question<()> {
        Question { by: Principal::System, connection: None, ask: Ask::new(Token(0), command), reply: () }
    }

    #[test]
    fn later_questions_see_what_earlier_ones_did_and_offsets_are_dense() {
        let room = RoomId::new("r").unwrap();
        let create =
            || Command::CreateRoom(CreateRoom { room: Some(room.clone()), card: RoomCard::default() });
        let questions = [ask(create()), ask(create())];
        let nothing = (&State::default(), &Known::new());
        let batch = decide_all(nothing, &questions, NOW, &mut Door(None), || 1);
        let offsets: Vec<u64> = batch.records().iter().map(|r| r.offset.0).collect();
        assert_eq!(offsets, [1]);
        assert!(matches!(
            batch.steps.as_slice(),
            [Step::Record { .. }, Step::Reply(0, Ok(_)), Step::Reply(1, Err(_))]
        ));
    }

    /// The wall clock is an hour ahead when the agent is held, and set right before it goes on.
    #[test]
    fn a_batch_begins_with_what_is_due_in_log_time() {
        let (ahead, agent) = (Time(3_600_000), AgentId::new("a").unwrap());
        let card = AgentCard { name: "A".into(), ..AgentCard::default() };
        let register = Command::RegisterAgent(RegisterAgent { agent: agent.clone(), card });
        let hold = Command::PauseAgent(agent.clone(), Some(ahead.plus(1_000)));
        let questions = [ask(register), ask(hold)];
        let held = decide_all(
            (&State::default(), &Known::new()),
            &questions,
            Moment { t: Time(0), at: ahead },
            &mut Door(None),
            || 1,
        );
        let later = |t| {
            let now = Moment { t, at: Time(9) };
            decide_all((&held.state, &Known::new()), &[ask(Command::Look)], now, &mut Door(None), || 1)
        };
        assert!(matches!(later(Time(999)).steps.as_slice(), [Step::Reply(0, Ok(_))]));
        let over = later(Time(1_000));
        let [Step::Record { record, .. }, Step::Reply(0, Ok(_))] = over.steps.as_slice() else {
            panic!("{over:?}")
        };
        assert_eq!((record.event.kind(), record.t), ("agent.status_changed", Time(1_000)));
        assert_eq!(over.state.next_deadline(), None);
    }

    #[test]
    fn a_refused_question_has_no_effect() {
        let post = Post::text(RoomId::new("r").unwrap(), Principal::System, "x");
        let refusal = Error::forbidden("no");
        let questions = [ask(Command::Post(Box::new(post)))];
        let nothing = (&State::default(), &Known::new());
        let batch = decide_all(nothing, &questions, NOW, &mut Door(Some(refusal)), || 1);
        assert!(batch.records().is_empty());
        assert_eq!(batch.state, State::default());
    }

    #[test]
    fn a_repeat_within_a_batch_is_found_and_one_that_cannot_be_looked_up_is_not_decided() {
        let room = RoomId::new("r").unwrap();
        let named = |id: &str, command| {
            let mut question = ask(command);
            question.ask.client = Some(ClientId::new(id).unwrap());
            question
        };
        let create =
            || Command::CreateRoom(CreateRoom { room: Some(room.clone()), card: RoomCard::default() });
        let questions = [
            named("a", create()),
            named("a", create()),
            named("a", Command::Look),
            named("b", Command::Look),
        ];
        let lost = Err(Error::new(ErrorKind::Unavailable, "the disk is gone"));
        let known = Known::from([((Principal::System, ClientId::new("b").unwrap()), lost)]);
        let before = (&State::default(), &known);
        let mut batch = decide_all(before, &questions, NOW, &mut Door(None), || 1);
        let replies = batch.steps.iter().filter_map(|step| match step {
            Step::Reply(_, reply) => Some(reply.as_ref().map_err(|error| error.kind)),
            _ => None,
        });
        let replies: Vec<_> = replies.collect();
        let made = Outcome::Room(room.clone());
        let again = Outcome::Repeated(Box::new(made.clone()));
        let expected = [Ok(&made), Ok(&again), Err(ErrorKind::Conflict), Err(ErrorKind::Unavailable)];
        assert_eq!(replies, expected);
        assert_eq!(batch.records().len(), 1);
        assert_eq!(batch.passing(), [], "a record tells it");
    }
}

//! MegaBot: people chat with an assistant and with each other over plain WebSockets (MegaBot notes).
//!
//! The parts of a session: `login` is the way in and out, `input` turns frames into questions, `reply` turns the engine's
//! answers into frames, `route` looks at what others do and keeps account of what has arrived.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use roundtable_core::command::Command;
use roundtable_core::delivery::{Delivery, Topic};
use roundtable_core::engine::Outcome;
use roundtable_core::error::Error;
use roundtable_core::ids::{AgentId, ConnectionId, MessageId, Principal, RoomId};
use roundtable_core::time::{Cursor, Offset, Time};
use serde::Serialize;

use crate::pace::{Bucket, Limit};
use crate::probes::Probes;
use crate::session::{
    Ask, Ending, Form, Identity, Input, Opening, Output, Outputs, Refusal, Route, Scene, Session, Sign, Token,
};
use encode::Metadata;
use errors::Fault;

pub mod encode;
pub mod errors;
mod input;
mod login;
mod reply;
pub mod rest;
mod route;
pub mod wire;

pub use encode::encode;

/// Limits and times of all MegaBot sessions.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// Frames per second of one connection on average: a sample sends one each 100 ms (MegaBot notes §6). `None`: no limit.
    pub frames_per_second: Option<u32>,
    /// Frames that may come at once: clients' timers jitter.
    pub frame_burst: u32,
    /// Messages inside of batches per second of one connection: a sample flushes ten per frame. `None`: no limit.
    pub batched_per_second: Option<u32>,
    /// Messages of batches that may come at once.
    pub batched_burst: u32,
    /// Most messages of one batch.
    pub max_batch: usize,
    /// Largest message in bytes, after unpacking.
    pub max_message_bytes: usize,
    /// The agent of any dialect that answers in a connection's own session where no other agent is. `None`: nobody.
    pub default_agent: Option<AgentId>,
    /// How long an answer may take before the sender is told that none came, in milliseconds (MegaBot notes §5).
    pub answer_timeout_ms: i64,
    /// Shortest time between two probes of what has arrived, in milliseconds: a burst shall not be answered by another.
    pub probe_ms: i64,
    /// Shortest time between two records of what has arrived, in milliseconds: what came within it before the server dies
    /// is sent again to a client that resumes.
    pub keep_ms: i64,
    /// Most missed frames that a session gets when it is taken up again, the newest of all its rooms (MegaBot notes §7).
    pub missed_frames: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            frames_per_second: Some(10),
            frame_burst: 20,
            batched_per_second: Some(200),
            batched_burst: 200,
            max_batch: 100,
            max_message_bytes: 1 << 20,
            default_agent: None,
            answer_timeout_ms: 60_000,
            probe_ms: 1_000,
            keep_ms: 5_000,
            missed_frames: 1_000,
        }
    }
}

/// How the secrets of seats begin; in 0.1.0 they were the ids of the rooms too.
const SECRET_PREFIX: &str = "sess_";
/// How the ids of the connections' own rooms begin.
const OWN_PREFIX: &str = "chat_";
/// Frames that may wait before the session is ready; a client that sends more is cut off.
const MAX_EARLY: usize = 256;
/// Ids of messages that are remembered on a connection, beside those in the log.
const MAX_RECENT: usize = 128;
/// Own messages that are remembered to tell which request an answer belongs to.
const MAX_SAID: usize = 32;

/// One client's session.
pub struct MegaBotSession {
    settings: Arc<Settings>,
    phase: Phase,
    connection: ConnectionId,
    who: Option<Principal>,
    verified: bool,
    resumed: bool,
    /// Some of what was missed is not sent any more; the client is still to be told.
    lost_some: bool,
    /// The client asked for a name that no guest may have; it is still to be told.
    misnamed: bool,
    /// The seat is in the log, so that the client can come back to it.
    seat_kept: bool,
    /// Rooms of the seat that could not be entered again yet, and when that is tried next.
    again: (Vec<RoomId>, Option<Time>),
    key: bool,
    platform: String,
    /// The connection's own room, and with it the name of its seat.
    own: Option<RoomId>,
    /// What opens the seat: the client's alone.
    secret: String,
    /// The client's secret of a seat that it had before.
    wanted: Option<String>,
    /// The cursor that the client gave: what it hears goes on from there.
    since: Option<String>,
    /// Connections that sat in the same seat before.
    former: Vec<ConnectionId>,
    form: Form,
    batched: Bucket,
    made: u32,
    asked: u32,
    waiting: VecDeque<(Token, Waiting)>,
    early: Vec<Early>,
    /// Hashes of the newest ids of messages that leave no trace in the log.
    recent: VecDeque<u64>,
    epoch: u32,
    rooms: BTreeMap<RoomId, Heard>,
    feed: Heard,
    said: VecDeque<Said>,
    /// Since the client asked for one.
    acks: Option<Box<Acks>>,
    probes: Probes,
    kept: Kept,
    armed: Option<Time>,
}

/// How far the session has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// It is not known who this is, or its seat is not taken yet.
    Door,
    /// It takes part.
    Open,
    /// It ends.
    Over,
}

/// A frame that came before the session was ready.
enum Early {
    Text(String),
    Binary(Vec<u8>),
    /// It was one too many and left unread.
    Refused(Fault),
}

impl Early {
    /// Bytes that it holds.
    fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
            Self::Refused(_) => 0,
        }
    }
}

/// What a question to the engine was for.
enum Waiting {
    /// Nobody waits for the answer.
    Nothing,
    /// The seat: the session begins.
    Seat,
    /// A room of a seat that was taken again.
    Rejoin(RoomId),
    /// The connection's own room.
    OwnRoom,
    /// A chat message.
    Chat(Box<Asked>),
    /// Entering a room.
    Join(String, RoomId),
    /// Something of which only a failure is told.
    Quiet(String),
}

/// A chat message on its way into the log.
struct Asked {
    request: String,
    room: RoomId,
    agent: Option<AgentId>,
    topic: reply::Topic,
    ack: bool,
}

/// Messages of this connection whose sender wants to know when they are on the disk.
#[derive(Default)]
struct Acks {
    /// The newest that came by on its way to the others: where it is in the log.
    passed: Option<(MessageId, Offset)>,
    /// Those that are in the log and have not come by yet, since the room is still read from the log; with their requests.
    behind: VecDeque<(MessageId, String)>,
}

/// A chat message of this connection that is in the log.
struct Said {
    message: MessageId,
    request: String,
    room: RoomId,
    agent: Option<AgentId>,
    answered: bool,
    /// When the sender is told that no answer came.
    due: Option<Time>,
}

/// How much of a topic has gone out and is known to have arrived.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
struct Heard {
    sent: Offset,
    probed: Offset,
    arrived: Offset,
    /// Who comes and goes up to here is in the list of participants that was sent.
    listed: Offset,
}

impl Heard {
    const fn from(offset: Offset) -> Self {
        Self { sent: offset, probed: offset, arrived: offset, listed: Offset(0) }
    }
}

/// Telling the log what has arrived.
#[derive(Default)]
struct Kept {
    last: Time,
    due: Option<Time>,
}

impl MegaBotSession {
    /// A session at the door.
    pub fn new(settings: Arc<Settings>) -> Self {
        Self {
            settings,
            phase: Phase::Door,
            connection: ConnectionId(0),
            who: None,
            verified: false,
            resumed: false,
            lost_some: false,
            misnamed: false,
            seat_kept: false,
            again: (Vec::new(), None),
            key: false,
            platform: String::new(),
            own: None,
            secret: String::new(),
            wanted: None,
            since: None,
            former: Vec::new(),
            form: encode::TEXT,
            batched: Bucket::default(),
            made: 0,
            asked: 0,
            waiting: VecDeque::new(),
            early: Vec::new(),
            recent: VecDeque::new(),
            epoch: 0,
            rooms: BTreeMap::new(),
            feed: Heard::default(),
            said: VecDeque::new(),
            acks: None,
            probes: Probes::default(),
            kept: Kept::default(),
            armed: None,
        }
    }

    /// Asks the engine; the answer finds its purpose again by the token.
    fn ask(&mut self, command: Command, purpose: Waiting, out: &mut Outputs) {
        let ask = Ask::new(self.expect(purpose), command);
        out.push(Output::Ask(ask));
    }

    fn expect(&mut self, purpose: Waiting) -> Token {
        self.asked = self.asked.wrapping_add(1);
        let token = Token(self.asked);
        self.waiting.push_back((token, purpose));
        token
    }

    /// Sends a frame that is for this connection alone.
    fn send(&mut self, kind: &str, payload: impl Serialize, scene: Scene<'_>, out: &mut Outputs) {
        self.made = self.made.wrapping_add(1);
        let id = format!("msg_{:016x}_{}", self.connection.0, self.made);
        let metadata = Metadata {
            user_id: self.who.as_ref().map(Principal::id),
            session_id: self.own.as_ref().filter(|_| self.who.is_some()).map(RoomId::as_str),
            platform: Some(&self.platform),
        };
        let text = encode::frame(&id, kind, payload, scene.at, metadata);
        out.push(Output::Send(encode::shaped(self.form, text)));
    }

    /// Tells what went wrong with a message; the connection stays.
    fn error(&mut self, request: Option<&str>, fault: &Fault, scene: Scene<'_>, out: &mut Outputs) {
        #[derive(Serialize)]
        struct Told<'a> {
            #[serde(flatten)]
            fault: &'a Fault,
            request_id: Option<&'a str>,
        }
        if *fault == Fault::not_json() {
            out.push(Output::Notice(Sign::Malformed));
        }
        self.send("error", Told { fault, request_id: request }, scene, out);
    }

    /// Asks to be woken at the earliest thing that is due, if that changed.
    fn arm(&mut self, out: &mut Outputs) {
        let answers = self.said.iter().filter_map(|said| said.due);
        let next = answers.chain(self.probes.due()).chain(self.kept.due).chain(self.again.1).min();
        if let Some(at) = next.filter(|at| self.armed.is_none_or(|armed| armed > *at)) {
            self.armed = Some(at);
            out.push(Output::WakeAt(at));
        }
    }

    fn end(&mut self, code: u16, reason: impl Into<String>, out: &mut Outputs) {
        self.phase = Phase::Over;
        out.push(Output::End(Ending::Close(code, reason.into())));
    }
}

impl Session for MegaBotSession {
    fn open(&mut self, opening: &Opening<'_>, scene: Scene<'_>, out: &mut Outputs) {
        self.knock(opening, scene, out);
    }

    fn identified(&mut self, who: Result<&Identity, Refusal>, scene: Scene<'_>, out: &mut Outputs) {
        match who {
            Ok(identity) => self.sit(identity, scene, out),
            Err(refusal) => self.refuse(refusal, scene, out),
        }
    }

    fn input(&mut self, input: Input<'_>, scene: Scene<'_>, out: &mut Outputs) {
        self.take(input, scene, out);
    }

    fn replied(
        &mut self,
        token: Token,
        reply: Result<&Outcome, &Error>,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) {
        let place = self.waiting.iter().position(|(asked, _)| *asked == token);
        if let Some((_, purpose)) = place.and_then(|at| self.waiting.remove(at))
            && self.phase != Phase::Over
        {
            self.answered(purpose, reply, scene, out);
            self.arm(out);
        }
    }

    fn reaches(&self, delivery: &Delivery<'_>, scene: Scene<'_>) -> bool {
        self.missed(delivery, scene)
    }

    fn surveyed(&mut self, lost: &[(Topic, Offset)], scene: Scene<'_>, out: &mut Outputs) {
        self.resume_after(lost.iter().map(|(_, last)| *last).max(), scene, out);
        self.arm(out);
    }

    fn route(&mut self, delivery: &Delivery<'_>, scene: Scene<'_>) -> Route {
        self.hear(delivery, scene)
    }

    fn deliver(&mut self, delivery: &Delivery<'_>, scene: Scene<'_>, out: &mut Outputs) {
        self.hand_out(delivery, scene, out);
        self.arm(out);
    }

    fn woken(&mut self, scene: Scene<'_>, out: &mut Outputs) {
        self.armed = None;
        if self.phase == Phase::Open {
            self.complain(scene, out);
            self.probe_if_due(scene, out);
            self.keep_if_due(scene, out);
            self.rejoin_if_due(scene, out);
            self.arm(out);
        }
    }

    fn proven(&mut self, probe: u32, scene: Scene<'_>, out: &mut Outputs) {
        self.arrived(probe, scene, out);
        self.arm(out);
    }

    fn frame_limit(&self) -> Option<Limit> {
        let burst = self.settings.frame_burst;
        self.settings.frames_per_second.map(|per_second| Limit { per_second, burst })
    }

    fn too_fast(&mut self, after_ms: u64, scene: Scene<'_>, out: &mut Outputs) {
        self.refuse_unread(after_ms, scene, out);
    }

    fn oversized(&mut self, scene: Scene<'_>, out: &mut Outputs) {
        self.error(None, &Fault::too_large(), scene, out);
        self.phase = Phase::Over;
    }

    fn cannot_resume(&mut self, topic: &Topic, first: Cursor, scene: Scene<'_>, out: &mut Outputs) {
        self.resume_from(topic, first, scene, out);
    }

    fn closed(&mut self, scene: Scene<'_>, out: &mut Outputs) {
        self.go(scene, out);
    }
}

#[cfg(test)]
mod tests;

//! A MegaBot session with an engine in memory: what clients send and what they get.

use std::collections::VecDeque;
use std::sync::Arc;

use roundtable_core::access::may_receive;
use roundtable_core::agents::{AgentCard, RegisterAgent};
use roundtable_core::alerts::{AlertRaised, Level};
use roundtable_core::cluster::ServerStarted;
use roundtable_core::command::Command;
use roundtable_core::delivery::{Delivery, Item, Topic, topics_of_record, topics_of_signal};
use roundtable_core::engine::{Context, Outcome, decide};
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::event::{Event, Record};
use roundtable_core::ids::{
    AgentId, AlertId, ClientId, ConnectionId, GuestId, NodeId, Principal, RoomId, UserId, WorkspaceId,
};
use roundtable_core::json::Json;
use roundtable_core::messages::{Content, Post};
use roundtable_core::repeats::{self, Claim, Firsts};
use roundtable_core::rooms::{CreateRoom, Durability, Entry, JoinRoom, RoomCard};
use roundtable_core::signal::Signal;
use roundtable_core::state::State;
use roundtable_core::time::{Cursor, Time};
use roundtable_core::users::{UserAdded, UserRole};
use serde_json::{Value, json};

use super::{MegaBotSession, Settings, encode};
use crate::figures::Figures;
use crate::session::{
    Credential, Ending, Identity, Input, Message, Most, Opening, Output, Outputs, Proof, Refusal, Route,
    Scene, Session,
};

const EPOCH: u32 = 1;

struct Client {
    session: MegaBotSession,
    principal: Principal,
    connection: ConnectionId,
    topics: Vec<Topic>,
    frames: Vec<Value>,
    packed: usize,
    wake: Option<Time>,
    probe: Option<u32>,
    ended: Option<Ending>,
    gone: bool,
}

struct World {
    state: State,
    log: Vec<Record>,
    firsts: Firsts,
    now: Time,
    clients: Vec<Client>,
    random: u64,
    settings: Settings,
    figures: Figures,
    anonymous: bool,
    /// The log takes nothing.
    full: bool,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            state: State::default(),
            log: Vec::new(),
            firsts: Firsts::default(),
            now: Time(1_700_000_000_000),
            clients: Vec::new(),
            random: 0,
            settings: Settings::default(),
            figures: Figures::default(),
            anonymous: true,
            full: false,
        };
        for (name, role) in [("ann", UserRole::Viewer), ("ben", UserRole::Viewer), ("root", UserRole::Owner)]
        {
            let user = UserAdded { user: UserId::new(name).unwrap(), role, password: None };
            world.system(Command::AddUser(user)).unwrap();
        }
        world
    }

    fn system(&mut self, command: Command) -> Result<Outcome, Error> {
        self.act(&Principal::System, None, &command, None)
    }

    fn act(
        &mut self,
        who: &Principal,
        connection: Option<ConnectionId>,
        command: &Command,
        client: Option<ClientId>,
    ) -> Result<Outcome, Error> {
        self.random += 1;
        let ctx = Context {
            now: self.now,
            at: self.now,
            actor: who.clone(),
            by: who.clone(),
            connection,
            random: self.random,
            client: client.map(|id| Claim::of((who, id), command, &self.firsts)),
        };
        if self.full {
            return Err(Error::new(ErrorKind::Unavailable, "the disk is full"));
        }
        let decision = decide(&self.state, command, &ctx)?;
        let outcome = decision.result();
        let mut client = repeats::note(&mut self.firsts, &self.state, &ctx, &decision);
        for (room, event) in decision.events {
            let record = Record {
                offset: self.state.head.next(),
                room_seq: room.as_ref().map(|room| self.state.next_in_room(room)),
                at: self.now,
                t: self.now,
                actor: who.clone(),
                room,
                client: client.take(),
                event,
            };
            self.state.apply(&record);
            self.log.push(record.clone());
            for topic in topics_of_record(&record, &self.state) {
                self.hand_out(Item::Record(&record), &topic, connection);
            }
        }
        for (room, body) in decision.signals {
            let signal = Signal { at: self.now, actor: who.clone(), room, body };
            for topic in topics_of_signal(&signal) {
                self.hand_out(Item::Signal(&signal), &topic, connection);
            }
        }
        Ok(outcome)
    }

    fn hand_out(&mut self, item: Item<'_>, topic: &Topic, origin: Option<ConnectionId>) {
        for n in 0..self.clients.len() {
            if self.clients[n].topics.contains(topic) {
                self.deliver(n, &Delivery { item, topic, origin });
            }
        }
    }

    fn deliver(&mut self, n: usize, delivery: &Delivery<'_>) {
        let mut out = Outputs::new();
        let state = self.state.clone();
        let figures = self.figures.clone();
        let scene = Scene { now: self.now, at: self.now, state: &state, epoch: EPOCH, figures: &figures };
        match self.clients[n].session.route(delivery, scene) {
            Route::Skip => {}
            Route::Shared(form) => {
                out.extend(encode::encode(form, delivery, scene).into_iter().map(Output::Send));
            }
            Route::Own => self.clients[n].session.deliver(delivery, scene, &mut out),
        }
        self.carry_out(n, out);
    }

    /// Runs one call of a session and everything that follows.
    fn run(&mut self, n: usize, call: impl FnOnce(&mut MegaBotSession, Scene<'_>, &mut Outputs)) {
        let mut out = Outputs::new();
        let state = self.state.clone();
        let figures = self.figures.clone();
        let scene = Scene { now: self.now, at: self.now, state: &state, epoch: EPOCH, figures: &figures };
        call(&mut self.clients[n].session, scene, &mut out);
        self.carry_out(n, out);
    }

    fn carry_out(&mut self, n: usize, out: Outputs) {
        let mut asks = VecDeque::new();
        for output in out {
            match output {
                Output::Notice(_) | Output::Unpacked(_) => {}
                Output::Send(message) => self.receive(n, &message),
                Output::Authenticate(credentials) => {
                    let who = identify(&self.state, credentials.proof);
                    if let Ok(identity) = &who {
                        self.clients[n].principal = identity.principal.clone();
                    }
                    self.run(n, |s, scene, out| s.identified(who.as_ref().map_err(|r| *r), scene, out));
                }
                Output::Ask(ask) => {
                    let (who, connection) = (self.clients[n].principal.clone(), self.clients[n].connection);
                    let reply = self.act(&who, Some(connection), &ask.command, ask.client);
                    asks.push_back((ask.token, reply));
                }
                Output::Subscribe(topic, since) => {
                    let who = self.clients[n].principal.clone();
                    assert!(may_receive(&self.state, &who, &topic), "{who} may not have {topic:?}");
                    if !self.clients[n].topics.contains(&topic) {
                        self.clients[n].topics.push(topic.clone());
                    }
                    let missed = since.map_or(u64::MAX, |cursor| cursor.offset.0);
                    for record in self.log.clone().iter().filter(|r| r.offset.0 > missed) {
                        if topics_of_record(record, &self.state).contains(&topic) {
                            let delivery =
                                Delivery { item: Item::Record(record), topic: &topic, origin: None };
                            self.deliver(n, &delivery);
                        }
                    }
                }
                Output::Unsubscribe(topic) => self.clients[n].topics.retain(|t| *t != topic),
                Output::Survey { missed, most } => self.survey(n, &missed, most),
                Output::Probe(number) => self.clients[n].probe = Some(number),
                Output::WakeAt(at) => self.clients[n].wake = Some(at),
                Output::End(ending) => self.clients[n].ended = Some(ending),
                Output::Accept | Output::Refuse { .. } | Output::Read { .. } | Output::Find { .. } => {
                    panic!("not for WebSockets")
                }
            }
        }
        for (token, reply) in asks {
            self.run(n, |s, scene, out| s.replied(token, reply.as_ref(), scene, out));
        }
    }

    fn survey(&mut self, n: usize, missed: &[(Topic, Cursor)], most: Most) {
        let Most::Together(most) = most else { panic!("of all its rooms") };
        let scene =
            Scene { now: self.now, at: self.now, state: &self.state, epoch: EPOCH, figures: &self.figures };
        let reaches = |record: &&Record| {
            missed.iter().any(|(topic, since)| {
                let delivery = Delivery { item: Item::Record(record), topic, origin: None };
                record.offset > since.offset
                    && topics_of_record(record, &self.state).contains(topic)
                    && self.clients[n].session.reaches(&delivery, scene)
            })
        };
        let last = self.log.iter().rev().filter(reaches).nth(most).map(|record| record.offset);
        let lost: Vec<_> = missed.iter().filter_map(|(topic, _)| Some((topic.clone(), last?))).collect();
        self.run(n, |s, scene, out| s.surveyed(&lost, scene, out));
    }

    fn receive(&mut self, n: usize, message: &Message) {
        let text = match message {
            Message::Text(text) => text.clone(),
            Message::Binary(bytes) => {
                self.clients[n].packed += 1;
                super::wire::unpack(bytes, 1 << 24).unwrap()
            }
            other => panic!("{other:?}"),
        };
        assert!(text.len() <= 1 << 20);
        let frame: Value = serde_json::from_str(&text).unwrap();
        assert!(frame["timestamp"].is_i64() && frame["id"].as_str().unwrap().starts_with("msg_"), "{frame}");
        self.clients[n].frames.push(frame);
    }

    fn knock(&mut self, query: &str, headers: (Option<&str>, Option<&str>), deflate: bool) -> usize {
        let n = self.clients.len();
        let connection = ConnectionId(100 + n as u64);
        self.clients.push(Client {
            session: MegaBotSession::new(Arc::new(self.settings.clone())),
            principal: Principal::System,
            connection,
            topics: Vec::new(),
            frames: Vec::new(),
            packed: 0,
            wake: None,
            probe: None,
            ended: None,
            gone: false,
        });
        let opening = Opening {
            connection,
            peer: "127.0.0.1".parse().unwrap(),
            anonymous: self.anonymous,
            namespace: "/",
            path: "/ws",
            query,
            authorization: headers.0,
            api_key: headers.1,
            auth: None,
            deflate,
            random: 0xabcd_0000 + n as u128,
        };
        self.run(n, |s, scene, out| s.open(&opening, scene, out));
        n
    }

    fn connect(&mut self, query: &str) -> usize {
        self.knock(query, (None, None), false)
    }

    /// Connects and forgets the greeting; gives the session id too.
    fn enter(&mut self, query: &str) -> (usize, String) {
        let n = self.connect(query);
        let greeting = self.heard(n);
        let id = greeting[0]["payload"]["session_id"].as_str().unwrap().to_owned();
        (n, id)
    }

    /// The room of the seat that this secret is of.
    fn own_room(&self, secret: &str) -> RoomId {
        self.state.seat_of_secret(&super::login::hash(secret)).expect("a seat").0.clone()
    }

    fn say(&mut self, n: usize, text: &str) {
        self.run(n, |s, scene, out| s.input(Input::Text(text), scene, out));
    }

    fn send(&mut self, n: usize, id: &str, kind: &str, payload: Value) {
        self.say(n, &json!({"id": id, "type": kind, "payload": payload}).to_string());
    }

    /// The frames since the last call.
    fn heard(&mut self, n: usize) -> Vec<Value> {
        std::mem::take(&mut self.clients[n].frames)
    }

    /// Type and payload of the frames since the last call.
    fn told(&mut self, n: usize) -> Vec<(String, Value)> {
        let kind = |f: &Value| f["type"].as_str().unwrap().to_owned();
        self.heard(n).iter().map(|f| (kind(f), f["payload"].clone())).collect()
    }

    fn contents(&mut self, n: usize) -> Vec<String> {
        let content = |(_, payload): &(String, Value)| payload["content"].as_str().map(str::to_owned);
        self.told(n).iter().filter_map(content).collect()
    }

    fn pong(&mut self, n: usize) {
        let probe = self.clients[n].probe.take().expect("a probe");
        self.run(n, |s, scene, out| s.proven(probe, scene, out));
    }

    fn wait(&mut self, ms: i64) {
        self.now = self.now.plus(ms);
        for n in 0..self.clients.len() {
            if self.clients[n].wake.is_some_and(|at| at <= self.now) {
                self.clients[n].wake = None;
                self.run(n, |s, scene, out| s.woken(scene, out));
            }
        }
    }

    /// The connection is gone; what was on its way is lost.
    fn cut(&mut self, n: usize) {
        self.run(n, |s, scene, out| s.closed(scene, out));
        self.clients[n].topics.clear();
        self.clients[n].gone = true;
    }

    fn agent(&mut self, id: &str, room: Option<&str>) -> Principal {
        let agent = AgentId::new(id).unwrap();
        let card = AgentCard { name: id.into(), ..AgentCard::default() };
        self.system(Command::RegisterAgent(RegisterAgent { agent: agent.clone(), card })).unwrap();
        let member = Principal::Agent(agent);
        if let Some(room) = room.map(|room| RoomId::new(room).unwrap()) {
            let join = JoinRoom { room, member: member.clone(), create: None, by_key: true };
            self.system(Command::JoinRoom(join)).unwrap();
        }
        member
    }

    fn post(&mut self, who: &Principal, room: &str, change: impl FnOnce(&mut Post)) {
        let mut post = Post::text(RoomId::new(room).unwrap(), who.clone(), "hello");
        change(&mut post);
        self.act(who, None, &Command::Post(Box::new(post)), None).unwrap();
    }
}

fn identify(state: &State, proof: Proof) -> Result<Identity, Refusal> {
    let token = || Credential::Token { jti: "j".into() };
    let (principal, credential) = match proof {
        Proof::Guest(name) => {
            let name = name.unwrap_or_else(|| "guest_0a1b2c3d".into());
            if state.user(&UserId::new(&name).unwrap()).is_some() {
                return Err(Refusal::NameTaken);
            }
            (Principal::Guest(GuestId::new(&name).unwrap()), Credential::Guest)
        }
        Proof::Bearer(_, text) | Proof::ApiKey(text) => match text.strip_prefix("for-") {
            Some(user) => (Principal::User(UserId::new(user).unwrap()), token()),
            None if text == "old" => return Err(Refusal::Expired),
            None => return Err(Refusal::Invalid),
        },
        other => panic!("{}", matches!(other, Proof::Password { .. })),
    };
    let workspace = WorkspaceId::new("default").unwrap();
    let incarnation = Default::default();
    Ok(Identity { workspace, principal, credential, incarnation, expires_at: None })
}

fn error_of(frame: &(String, Value)) -> (&str, &str, u64, Option<&str>) {
    assert_eq!(frame.0, "error", "{}", frame.1);
    let text = |name: &str| frame.1[name].as_str();
    let code = frame.1["code"].as_u64().unwrap();
    (text("error").unwrap(), text("message").unwrap(), code, text("request_id"))
}

mod collaboration;
mod coming_in;
mod resuming;
mod talking;

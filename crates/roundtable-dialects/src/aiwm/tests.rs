//! AIWM sessions against a small engine in memory: who gets what, in which order.

use std::collections::VecDeque;
use std::sync::Arc;

use roundtable_core::agents::{AgentCard, AgentChanges, RegisterAgent};
use roundtable_core::command::Command;
use roundtable_core::delivery::{Delivery, Item, Topic, replays, topics_of_record, topics_of_signal};
use roundtable_core::engine::{Context, decide};
use roundtable_core::error::Error;
use roundtable_core::event::{Event, Record};
use roundtable_core::ids::{AgentId, ConnectionId, MessageId, Principal, RoomId, UserId, WorkspaceId};
use roundtable_core::messages::Post;
use roundtable_core::repeats::{self, Claim, Firsts};
use roundtable_core::rooms::{CreateRoom, Entry, JoinRoom, RoomCard, RoomStatus, RoomUpdated};
use roundtable_core::signal::Signal;
use roundtable_core::state::State;
use roundtable_core::time::{Cursor, Offset, Time};
use roundtable_core::users::{UserAdded, UserRole};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{AiwmSession, Settings, encode};
use crate::figures::Figures;
use crate::session::{
    Ask, Credential, Identity, Input, Message, Most, Opening, Output, Outputs, Proof, Refusal, Route, Scene,
    Session,
};

struct Link {
    id: ConnectionId,
    session: AiwmSession,
    who: Option<Principal>,
    topics: Vec<Topic>,
    got: Vec<String>,
    wake: Option<Time>,
    ended: bool,
    /// Nothing that is sent arrives any more, and nobody has noticed.
    dead: bool,
}

/// A workspace with its log and its connections; every command is its own batch.
struct World {
    state: State,
    log: Vec<Record>,
    firsts: Firsts,
    figures: Figures,
    now: Time,
    links: Vec<Link>,
    seed: u64,
}

fn agent(id: &str) -> Principal {
    Principal::Agent(AgentId::new(id).unwrap())
}

fn user(id: &str) -> Principal {
    Principal::User(UserId::new(id).unwrap())
}

fn scene_of<'a>(now: Time, state: &'a State, figures: &'a Figures) -> Scene<'a> {
    Scene { now, at: now, state, epoch: 1, figures }
}

/// Tokens are the text of a principal.
fn identify(proof: &Proof) -> Result<Identity, Refusal> {
    let principal = match proof {
        Proof::Token(_, token) if token == "old" => return Err(Refusal::Expired),
        Proof::Token(_, token) => Principal::parse(token.split('.').next().unwrap()),
        _ => return Err(Refusal::Invalid),
    };
    Ok(Identity {
        workspace: WorkspaceId::new("default").unwrap(),
        principal: principal.map_err(|_| Refusal::Invalid)?,
        credential: Credential::Secret,
        incarnation: Default::default(),
        expires_at: None,
    })
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            state: State::default(),
            log: Vec::new(),
            firsts: Firsts::default(),
            figures: Figures::default(),
            now: Time(1_700_000_000_000),
            links: Vec::new(),
            seed: 0,
        };
        for id in ["a1", "a2"] {
            let card = AgentCard { name: id.into(), ..AgentCard::default() };
            let command = Command::RegisterAgent(RegisterAgent { agent: AgentId::new(id).unwrap(), card });
            world.operator(command);
        }
        for (id, role) in [("ann", UserRole::Viewer), ("bob", UserRole::Viewer), ("olga", UserRole::Owner)] {
            let user = UserId::new(id).unwrap();
            world.operator(Command::AddUser(UserAdded { user, role, password: None }));
        }
        world
    }

    fn operator(&mut self, command: Command) {
        self.run(None, &Principal::System, &Ask::new(crate::session::Token(0), command)).unwrap();
    }

    fn as_(&mut self, who: &Principal, command: Command) -> Result<(), Error> {
        self.run(None, who, &Ask::new(crate::session::Token(0), command)).map(|_| ())
    }

    /// Decides, applies, delivers.
    fn run(
        &mut self,
        origin: Option<ConnectionId>,
        who: &Principal,
        ask: &Ask,
    ) -> Result<roundtable_core::engine::Outcome, Error> {
        self.seed += 1;
        self.now = self.now.plus(1);
        let context = Context {
            now: self.now,
            at: self.now,
            actor: who.clone(),
            by: who.clone(),
            connection: origin,
            random: self.seed,
            client: ask.client.clone().map(|id| Claim::of((who, id), &ask.command, &self.firsts)),
        };
        let decision = decide(&self.state, &ask.command, &context)?;
        let outcome = decision.result();
        let mut client = repeats::note(&mut self.firsts, &self.state, &context, &decision);
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
                self.hand_out(&Delivery { item: Item::Record(&record), topic: &topic, origin });
            }
        }
        for (room, body) in decision.signals {
            let signal = Signal { at: self.now, actor: who.clone(), room, body };
            for topic in topics_of_signal(&signal) {
                self.hand_out(&Delivery { item: Item::Signal(&signal), topic: &topic, origin });
            }
        }
        Ok(outcome)
    }

    fn hand_out(&mut self, delivery: &Delivery<'_>) {
        for n in 0..self.links.len() {
            let scene = scene_of(self.now, &self.state, &self.figures);
            let link = &mut self.links[n];
            if !link.topics.contains(delivery.topic) {
                continue;
            }
            match link.session.route(delivery, scene) {
                Route::Skip => {}
                Route::Shared(form) => {
                    let messages = encode(form, delivery, scene);
                    link.got.extend(messages.iter().map(show));
                }
                Route::Own => {
                    let mut out = Outputs::new();
                    link.session.deliver(delivery, scene, &mut out);
                    self.carry_out(n, out);
                }
            }
        }
    }

    fn carry_out(&mut self, n: usize, out: Outputs) {
        let mut queue: VecDeque<Output> = out.into();
        while let Some(output) = queue.pop_front() {
            let mut more = Outputs::new();
            let who = self.links[n].who.clone();
            match output {
                Output::Notice(_) | Output::Unpacked(_) => {}
                Output::Send(message) => self.links[n].got.push(show(&message)),
                Output::Accept => self.links[n].got.push("CONNECT".into()),
                Output::Refuse { message, data } => {
                    self.links[n].got.push(format!("CONNECT_ERROR {message} {}", data.unwrap_or_default()));
                    self.links[n].ended = true;
                }
                Output::Authenticate(credentials) => {
                    let identity = identify(&credentials.proof);
                    self.links[n].who = identity.as_ref().ok().map(|i| i.principal.clone());
                    let scene = scene_of(self.now, &self.state, &self.figures);
                    self.links[n].session.identified(identity.as_ref().map_err(|r| *r), scene, &mut more);
                }
                Output::Ask(ask) => {
                    let reply = self.run(Some(self.links[n].id), who.as_ref().unwrap(), &ask);
                    let scene = scene_of(self.now, &self.state, &self.figures);
                    self.links[n].session.replied(ask.token, reply.as_ref(), scene, &mut more);
                }
                Output::Subscribe(topic, from) => {
                    let who = who.unwrap();
                    assert!(roundtable_core::access::may_receive(&self.state, &who, &topic), "{topic:?}");
                    self.links[n].topics.push(topic.clone());
                    if let Some(cursor) = from {
                        self.catch_up(n, &topic, cursor.offset);
                        let scene = scene_of(self.now, &self.state, &self.figures);
                        self.links[n].session.caught_up(scene, &mut more);
                    }
                }
                Output::Unsubscribe(topic) => self.links[n].topics.retain(|t| *t != topic),
                Output::Read { token, room, before, limit } => {
                    let page = self.page(&room, before, limit as usize);
                    let scene = scene_of(self.now, &self.state, &self.figures);
                    self.links[n].session.paged(token, Ok(&page), scene, &mut more);
                }
                Output::Find { token, message } => {
                    let found = self.find(&message);
                    let scene = scene_of(self.now, &self.state, &self.figures);
                    self.links[n].session.found(token, Ok(found.as_ref()), scene, &mut more);
                }
                Output::WakeAt(at) => self.links[n].wake = Some(at),
                Output::Probe(number) if !self.links[n].dead => {
                    let scene = scene_of(self.now, &self.state, &self.figures);
                    self.links[n].session.proven(number, scene, &mut more);
                }
                Output::Probe(_) => {}
                Output::Survey { missed, most } => {
                    let lost = self.survey(n, &missed, most);
                    let scene = scene_of(self.now, &self.state, &self.figures);
                    self.links[n].session.surveyed(&lost, scene, &mut more);
                }
                Output::End(_) => self.links[n].ended = true,
            }
            for output in more.into_iter().rev() {
                queue.push_front(output);
            }
        }
    }

    fn find(&self, message: &MessageId) -> Option<Record> {
        let is_it = |r: &&Record| matches!(&r.event, Event::MessagePosted(m) if m.id == *message);
        self.log.iter().find(is_it).cloned()
    }

    fn page(&self, room: &RoomId, before: Option<Offset>, limit: usize) -> Vec<Record> {
        let said = |r: &&Record| {
            r.room.as_ref() == Some(room)
                && matches!(r.event, Event::MessagePosted(_))
                && before.is_none_or(|before| r.offset < before)
        };
        let mut page: Vec<Record> = self.log.iter().filter(said).cloned().collect();
        page.split_off(page.len().saturating_sub(limit))
    }

    fn survey(&self, n: usize, missed: &[(Topic, Cursor)], most: Most) -> Vec<(Topic, Offset)> {
        let Most::Each(most) = most else { panic!("of each room") };
        let scene = scene_of(self.now, &self.state, &self.figures);
        let lost = |(topic, since): &(Topic, Cursor)| {
            let reaches = |record: &&Record| {
                let delivery = Delivery { item: Item::Record(record), topic, origin: None };
                record.offset > since.offset
                    && replays(record, topic)
                    && self.links[n].session.reaches(&delivery, scene)
            };
            let last = self.log.iter().rev().filter(reaches).nth(most)?;
            Some((topic.clone(), last.offset))
        };
        missed.iter().filter_map(lost).collect()
    }

    fn catch_up(&mut self, n: usize, topic: &Topic, from: Offset) {
        let missed: Vec<Record> =
            self.log.iter().filter(|r| r.offset > from && replays(r, topic)).cloned().collect();
        for record in &missed {
            let scene = scene_of(self.now, &self.state, &self.figures);
            let delivery = Delivery { item: Item::Record(record), topic, origin: None };
            match self.links[n].session.route(&delivery, scene) {
                Route::Skip => {}
                Route::Shared(form) => {
                    let messages = encode(form, &delivery, scene);
                    self.links[n].got.extend(messages.iter().map(show));
                }
                Route::Own => {
                    let mut out = Outputs::new();
                    self.links[n].session.deliver(&delivery, scene, &mut out);
                    self.carry_out(n, out);
                }
            }
        }
    }

    fn open(&mut self, namespace: &str, path: &str, token: Option<&str>) -> usize {
        let n = self.links.len();
        let id = ConnectionId(100 + n as u64);
        let session = AiwmSession::new(Arc::new(Settings::default()));
        let (topics, got) = (Vec::new(), Vec::new());
        self.links.push(Link { id, session, who: None, topics, got, wake: None, ended: false, dead: false });
        let auth = token.map(|token| RawValue::from_string(json!({ "token": token }).to_string()).unwrap());
        let opening = Opening {
            connection: id,
            peer: [127, 0, 0, 1].into(),
            anonymous: false,
            namespace,
            path,
            query: "",
            authorization: None,
            api_key: None,
            auth: auth.as_deref(),
            deflate: false,
            random: 7,
        };
        let mut out = Outputs::new();
        let scene = scene_of(self.now, &self.state, &self.figures);
        self.links[n].session.open(&opening, scene, &mut out);
        self.carry_out(n, out);
        n
    }

    fn connect(&mut self, who: &str) -> usize {
        self.open("/dev/aiwm/chat", "/socket.io/", Some(who))
    }

    fn emit(&mut self, n: usize, name: &str, data: &Value) {
        let out = self.input(n, name, data);
        self.carry_out(n, out);
    }

    /// What a connection wants done about an event.
    fn input(&mut self, n: usize, name: &str, data: &Value) -> Outputs {
        let data = RawValue::from_string(data.to_string()).unwrap();
        let mut out = Outputs::new();
        let scene = scene_of(self.now, &self.state, &self.figures);
        let args = [&*data];
        let input = Input::Event { name, args: &args, attachments: &[], ack: Some(5) };
        self.links[n].session.input(input, scene, &mut out);
        out
    }

    fn text(&mut self, n: usize, text: &str) {
        let mut out = Outputs::new();
        let scene = scene_of(self.now, &self.state, &self.figures);
        self.links[n].session.input(Input::Text(text), scene, &mut out);
        self.carry_out(n, out);
    }

    fn close(&mut self, n: usize) {
        let mut out = Outputs::new();
        let scene = scene_of(self.now, &self.state, &self.figures);
        self.links[n].session.closed(scene, &mut out);
        self.links[n].topics.clear();
        self.carry_out(n, out);
    }

    fn wake(&mut self, n: usize) {
        self.now = self.links[n].wake.take().unwrap();
        let mut out = Outputs::new();
        let scene = scene_of(self.now, &self.state, &self.figures);
        self.links[n].session.woken(scene, &mut out);
        self.carry_out(n, out);
    }

    /// What a connection got since it was last asked.
    fn got(&mut self, n: usize) -> Vec<String> {
        std::mem::take(&mut self.links[n].got)
    }

    fn room(&mut self, id: &str, entry: Entry) {
        let card = RoomCard { entry, ..RoomCard::default() };
        self.operator(Command::CreateRoom(CreateRoom { room: Some(RoomId::new(id).unwrap()), card }));
    }

    fn own_room(&self, agent: &str) -> RoomId {
        self.state.own_room(&AgentId::new(agent).unwrap()).unwrap().clone()
    }
}

fn show(message: &Message) -> String {
    match message {
        Message::Text(text) => text.clone(),
        Message::Event(name, args) => format!("{name} {args}"),
        Message::Ack(id, args) => format!("ack{id} {args}"),
        other => unreachable!("AIWM does not send {other:?}"),
    }
}

/// The names of what was got.
fn names(got: &[String]) -> Vec<&str> {
    got.iter().map(|line| line.split(' ').next().unwrap()).collect()
}

fn data(line: &str) -> Value {
    serde_json::from_str(line.split_once(' ').unwrap().1).unwrap()
}

/// A user in the room of agent a1, and that agent; both heard nothing yet.
fn conversation(world: &mut World) -> (usize, usize, RoomId) {
    let a = world.connect("agent:a1");
    let room = world.own_room("a1");
    let u = world.connect("user:ann");
    world.emit(u, "conversation:join", &json!({ "conversationId": room.as_str() }));
    world.got(a);
    world.got(u);
    (a, u, room)
}

#[test]
fn an_agent_is_in_its_conversation_before_the_reply_and_finds_it_again() {
    let mut world = World::new();
    let a = world.connect("agent:a1");
    let room = world.own_room("a1");
    let got = world.got(a);
    assert_eq!(names(&got), ["CONNECT", "presence:update"]);
    let presence = data(&got[1]);
    assert_eq!(
        presence.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["type", "userId", "agentId", "conversationId", "status", "timestamp"]
    );
    assert_eq!(presence["conversationId"], room.as_str());
    assert_eq!((&presence["userId"], &presence["agentId"]), (&Value::Null, &json!("a1")));
    let found = world.state.room(&room).unwrap();
    assert_eq!(found.card.name, "Agent a1 - Auto Conversation");
    world.close(a);
    let again = world.connect("agent:a1");
    assert_eq!(world.own_room("a1"), room);
    assert_eq!(names(&world.got(again)), ["CONNECT", "presence:update"]);
    let archived = RoomUpdated { status: Some(RoomStatus::Archived), ..RoomUpdated::default() };
    world.operator(Command::UpdateRoom(room.clone(), archived));
    world.connect("agent:a1");
    assert_ne!(world.own_room("a1"), room);
}

#[test]
fn bad_tokens_are_refused_in_words_that_clients_look_for() {
    let mut world = World::new();
    for (token, expected) in [
        (None, r#"CONNECT_ERROR Missing token (401) {"code":"MISSING_TOKEN","status":401}"#),
        (Some("nonsense"), r#"CONNECT_ERROR Invalid token (401) {"code":"INVALID_TOKEN","status":401}"#),
        (
            Some("old"),
            r#"CONNECT_ERROR Token expired (401): jwt expired, refresh token {"code":"TOKEN_EXPIRED","status":401}"#,
        ),
        (
            Some("agent:nobody"),
            r#"CONNECT_ERROR Agent not found (403) {"code":"AGENT_NOT_FOUND","status":403}"#,
        ),
        (Some("system"), r#"CONNECT_ERROR Invalid token (401) {"code":"INVALID_TOKEN","status":401}"#),
    ] {
        let n = world.open("/chat", "/socket.io/", token);
        assert_eq!(world.got(n), [expected]);
    }
    let suspended = AgentChanges { suspended: Some(true), ..AgentChanges::default() };
    world.operator(Command::UpdateAgent(AgentId::new("a2").unwrap(), suspended));
    let n = world.connect("agent:a2");
    assert_eq!(
        world.got(n),
        [r#"CONNECT_ERROR Agent suspended (403) {"code":"AGENT_SUSPENDED","status":403}"#]
    );
    world.close(n);
    assert!(!world.state.online(&agent("a2")));
}

#[test]
fn a_message_goes_out_then_is_confirmed_then_acknowledged() {
    let mut world = World::new();
    let (a, u, room) = conversation(&mut world);
    let payload = json!({
        "role": "assistant", "content": "done", "type": "text", "conversationId": null,
        "usage": {"promptTokens": 1, "completionTokens": 2, "totalTokens": 3}, "latency": 12,
        "thinking": {"content": "hm", "visible": true, "duration": 5}, "unknown": 1, "clientMessageId": "k1"
    });
    world.emit(a, "message:send", &payload);
    let got = world.got(a);
    assert_eq!(names(&got), ["message:new", "message:sent", "ack5"]);
    let (new, sent, ack) = (data(&got[0]), data(&got[1]), data(&got[2]));
    assert_eq!(new["_id"], sent["messageId"]);
    assert_eq!(ack, json!({"success": true, "message": new}));
    assert_eq!(sent["success"], true);
    assert_eq!(sent["timestamp"], new["createdAt"]);
    assert_eq!(
        new.as_object().unwrap().keys().collect::<Vec<_>>(),
        [
            "_id",
            "conversationId",
            "role",
            "content",
            "participantId",
            "type",
            "attachments",
            "thinking",
            "usage",
            "latency",
            "clientMessageId",
            "status",
            "createdAt",
            "updatedAt"
        ]
    );
    assert_eq!(new["participantId"], "a1");
    assert_eq!(new["attachments"], json!([]));
    assert_eq!(new["usage"], payload["usage"]);
    assert_eq!(world.got(u), [got[0].clone()]);
    assert_eq!(world.state.room(&room).unwrap().tokens, 3);

    world.emit(a, "message:send", &payload);
    let again = world.got(a);
    assert_eq!(names(&again), ["message:sent", "ack5"], "a repeat is confirmed, not delivered");
    assert_eq!(data(&again[1]), ack);
    assert_eq!(world.got(u), [""; 0]);
}

#[test]
fn refused_messages_say_why_twice_and_leave_nothing() {
    let mut world = World::new();
    let (a, u, _) = conversation(&mut world);
    world.room("vault", Entry::Private);
    world.room("hall", Entry::Open);
    for (who, payload, expected) in [
        (a, json!({"content": "x"}), "Validation error: role must be one of user, assistant, system, tool"),
        (a, json!({"role": "user", "content": ""}), "Validation error: content is required"),
        (
            u,
            json!({"role": "assistant", "content": "x"}),
            "Permission denied: you may not use the role assistant",
        ),
        (u, json!({"role": "system", "content": "x"}), "Permission denied: you may not use the role system"),
        (
            u,
            json!({"role": "user", "content": "x", "participantId": "bob"}),
            "Permission denied: participantId must be your own",
        ),
        (
            u,
            json!({"role": "user", "content": "x", "conversationId": "vault"}),
            "Permission denied: no access to conversation vault",
        ),
        (
            u,
            json!({"role": "user", "content": "x", "conversationId": "nowhere"}),
            "Permission denied: no access to conversation nowhere",
        ),
        (
            u,
            json!({"role": "user", "content": "x", "conversationId": "no where"}),
            "Permission denied: no access to conversation no where",
        ),
        (
            u,
            json!({"role": "user", "content": "x", "conversationId": "hall"}),
            "No conversation found. Please join a conversation first.",
        ),
        (
            u,
            json!({"role": "user", "content": "x", "parentId": "0123"}),
            "Validation error: parentId must be a message of the same conversation",
        ),
        (
            u,
            json!({"role": "user", "content": "x", "parentId": "0".repeat(24)}),
            "Validation error: parentId must be a message of the same conversation",
        ),
        (
            u,
            json!({"role": "user", "content": "x", "attachments": ["ftp://a"]}),
            "Invalid attachments: ftp://a",
        ),
    ] {
        world.emit(who, "message:send", &payload);
        let got = world.got(who);
        assert_eq!(names(&got), ["message:error", "ack5"], "{payload}");
        let (event, ack) = (data(&got[0]), data(&got[1]));
        assert_eq!(event["error"], expected);
        assert_eq!(ack, json!({"success": false, "error": expected}));
        assert!(event["timestamp"].as_str().unwrap().ends_with('Z'));
    }
    assert_eq!(world.state.messages, 0);
    assert_eq!(world.got(a), [""; 0]);
}

#[test]
fn without_an_open_conversation_there_is_nothing_to_say() {
    let mut world = World::new();
    let (_, u, room) = conversation(&mut world);
    let bob = world.connect("user:bob");
    world.got(bob);
    world.emit(bob, "message:send", &json!({"role": "user", "content": "x"}));
    assert_eq!(data(&world.got(bob)[1])["error"], "No conversation found. Please join a conversation first.");
    let archived = RoomUpdated { status: Some(RoomStatus::Archived), ..RoomUpdated::default() };
    world.operator(Command::UpdateRoom(room, archived));
    world.emit(u, "message:send", &json!({"role": "user", "content": "x"}));
    assert_eq!(data(&world.got(u)[1])["error"], "No conversation found: the conversation is closed");
    assert_eq!(world.state.messages, 0);
}

#[test]
fn a_parent_is_looked_up_and_what_follows_waits_for_it() {
    let mut world = World::new();
    let (a, u, _) = conversation(&mut world);
    world.emit(u, "message:send", &json!({"role": "user", "content": "question"}));
    let parent = data(&world.got(u)[0])["_id"].clone();
    world.got(a);
    world.emit(a, "message:send", &json!({"role": "assistant", "content": "answer", "parentId": parent}));
    assert_eq!(data(&world.got(a)[0])["parentId"], parent);
}

#[test]
fn what_follows_a_message_with_a_parent_waits_for_it() {
    let mut world = World::new();
    let (a, u, _) = conversation(&mut world);
    world.emit(u, "message:send", &json!({"role": "user", "content": "question"}));
    let parent = data(&world.got(u)[0])["_id"].clone();
    world.got(a);
    let first =
        world.input(a, "message:send", &json!({"role": "assistant", "content": "1", "parentId": parent}));
    assert!(matches!(first[..], [Output::Find { .. }]));
    for later in ["2", "3"] {
        let out = world.input(a, "message:send", &json!({"role": "assistant", "content": later}));
        assert!(out.is_empty(), "nothing overtakes it");
    }
    world.carry_out(a, first);
    let said: Vec<Value> = world.got(u).iter().map(|line| data(line)["content"].clone()).collect();
    assert_eq!(said, ["1", "2", "3"]);
}

#[test]
fn joining_and_speaking_in_one_breath_is_heard_by_the_speaker() {
    let mut world = World::new();
    let (_, _, room) = conversation(&mut world);
    let bob = world.connect("user:bob");
    world.got(bob);
    let mut asks = world.input(bob, "conversation:join", &json!({"conversationId": room.as_str()}));
    asks.extend(world.input(bob, "message:send", &json!({"role": "user", "content": "hi"})));
    // Both are decided in one batch: the replies come when both were delivered.
    let mut replies = Vec::new();
    for output in asks {
        let Output::Ask(ask) = output else { panic!("only questions") };
        replies.push((ask.token, world.run(Some(world.links[bob].id), &user("bob"), &ask)));
    }
    for (token, reply) in replies {
        let mut out = Outputs::new();
        let scene = scene_of(world.now, &world.state, &world.figures);
        world.links[bob].session.replied(token, reply.as_ref(), scene, &mut out);
        world.carry_out(bob, out);
    }
    let got = world.got(bob);
    assert_eq!(names(&got), ["ack5", "message:new", "message:sent", "ack5"]);
    assert_eq!(data(&got[3])["message"], data(&got[1]));
    let said = world.log.iter().rev().find(|record| matches!(record.event, Event::MessagePosted(_)));
    let at = said.unwrap().at;
    assert_eq!(data(&got[1])["createdAt"], crate::iso::iso(at));
}

#[test]
fn presence_is_told_to_others_once_and_to_oneself_once() {
    let mut world = World::new();
    let (a, u, room) = conversation(&mut world);
    let second = world.connect("user:ann");
    assert_eq!(data(&world.got(second)[1])["conversationId"], Value::Null);
    assert_eq!(world.got(a), [""; 0], "a second socket is no news");
    world.close(second);
    assert_eq!(world.got(a), [""; 0]);
    world.close(u);
    let got = world.got(a);
    assert_eq!(names(&got), ["presence:update"]);
    let offline = data(&got[0]);
    assert_eq!((&offline["status"], &offline["conversationId"]), (&json!("offline"), &json!(room.as_str())));
    assert_eq!((&offline["userId"], &offline["agentId"]), (&json!("ann"), &Value::Null));
    let stranger = world.connect("user:bob");
    world.got(stranger);
    world.connect("user:ann");
    assert_eq!(names(&world.got(a)), ["presence:update"]);
    assert_eq!(world.got(stranger), [""; 0], "who shares no conversation hears nothing");
}

#[test]
fn joining_and_leaving_are_acknowledged_and_heard_by_others() {
    let mut world = World::new();
    let (a, u, room) = conversation(&mut world);
    let bob = world.connect("user:bob");
    world.got(bob);
    world.emit(bob, "conversation:join", &json!({"conversationId": room.as_str()}));
    assert_eq!(world.got(bob), [format!(r#"ack5 {{"success":true,"conversationId":"{room}"}}"#)]);
    let joined = data(&world.got(a)[0]);
    assert_eq!((&joined["type"], &joined["userId"]), (&json!("user"), &json!("bob")));
    world.emit(bob, "conversation:online", &json!({}));
    let online = data(&world.got(bob)[0]);
    assert_eq!(online, json!({"success": true, "onlineUsers": ["a1", "ann", "bob"], "onlineAgents": ["a1"]}));
    world.emit(bob, "conversation:leave", &json!({}));
    assert_eq!(world.got(bob), [format!(r#"ack5 {{"success":true,"conversationId":"{room}"}}"#)]);
    assert_eq!(names(&world.got(a)), ["user:left"]);
    world.got(u);
    world.emit(u, "message:send", &json!({"role": "user", "content": "gone?"}));
    assert_eq!(world.got(bob), [""; 0]);
    for id in ["nowhere", "no where"] {
        world.emit(bob, "conversation:join", &json!({ "conversationId": id }));
        let expected = format!("Permission denied: no access to conversation {id}");
        assert_eq!(data(&world.got(bob)[0]), json!({"success": false, "error": expected}));
    }
    world.emit(bob, "message:send", &json!({"role": "user", "content": "x"}));
    assert!(data(&world.got(bob)[0])["error"].as_str().unwrap().starts_with("No conversation"));
    world.emit(a, "conversation:join", &json!({}));
    assert_eq!(data(world.got(a).last().unwrap())["conversationId"], room.as_str());
}

#[test]
fn typing_reaches_others_under_both_names_and_expires() {
    let mut world = World::new();
    let (a, u, _) = conversation(&mut world);
    world.emit(a, "message:typing", &json!({"isTyping": true}));
    assert_eq!(world.got(a), [r#"ack5 {"success":true}"#]);
    let got = world.got(u);
    assert_eq!(names(&got), ["user:typing", "agent:typing"]);
    assert_eq!(data(&got[0])["isTyping"], true);
    world.wake(a);
    let got = world.got(u);
    assert_eq!(names(&got), ["user:typing", "agent:typing"]);
    assert_eq!(data(&got[0])["isTyping"], false);
    world.emit(u, "message:typing", &json!({"isTyping": true}));
    world.close(u);
    let got = world.got(a);
    assert_eq!(names(&got), ["user:typing", "user:typing", "presence:update"]);
    assert_eq!(data(&got[1])["isTyping"], false);
    world.emit(a, "message:typing", &json!({}));
    assert_eq!(data(&world.got(a)[0])["error"], "Validation error: isTyping must be a boolean");
}

#[test]
fn reading_is_told_once_and_never_backwards() {
    let mut world = World::new();
    let (a, u, _) = conversation(&mut world);
    let mut ids = Vec::new();
    for text in ["one", "two"] {
        world.emit(a, "message:send", &json!({"role": "assistant", "content": text}));
        ids.push(data(&world.got(a)[0])["_id"].clone());
    }
    world.got(u);
    for (id, told) in [(&ids[1], true), (&ids[1], false), (&ids[0], false)] {
        world.emit(u, "message:read", &json!({"messageId": id}));
        assert_eq!(world.got(u), [r#"ack5 {"success":true}"#]);
        let got = world.got(a);
        assert_eq!(names(&got), if told { vec!["message:read"] } else { vec![] });
        if told {
            assert_eq!((&data(&got[0])["messageId"], &data(&got[0])["userId"]), (id, &json!("ann")));
        }
    }
    for unknown in ["f".repeat(24), "m1".into()] {
        world.emit(u, "message:read", &json!({"messageId": unknown}));
        assert_eq!(data(&world.got(u)[0]), json!({"success": false, "error": "Message not found"}));
    }
}

#[test]
fn what_was_missed_comes_once_and_oldest_first() {
    let mut world = World::new();
    let (a, u, room) = conversation(&mut world);
    world.emit(u, "message:send", &json!({"role": "user", "content": "seen"}));
    world.close(a);
    for text in ["one", "two"] {
        world.emit(u, "message:send", &json!({"role": "user", "content": text}));
    }
    let a = world.connect("agent:a1");
    let got = world.got(a);
    assert_eq!(names(&got), ["CONNECT", "presence:update", "message:new", "message:new"]);
    assert_eq!((&data(&got[2])["content"], &data(&got[3])["content"]), (&json!("one"), &json!("two")));
    world.close(a);
    let a = world.connect("agent:a1");
    assert_eq!(names(&world.got(a)), ["CONNECT", "presence:update"]);
    world.close(a);
    for n in 0..250 {
        let text = format!("{n} {}", "x".repeat(3_000));
        world
            .as_(&user("ann"), Command::Post(Box::new(Post::text(room.clone(), user("ann"), text))))
            .unwrap();
    }
    let a = world.connect("agent:a1");
    let got = world.got(a);
    assert_eq!(names(&got)[..2], ["CONNECT", "presence:update"]);
    assert_eq!(got.len(), 202, "the newest 200");
    assert!(data(&got[2])["content"].as_str().unwrap().starts_with("50 "));
    world.emit(u, "message:send", &json!({"role": "user", "content": "live"}));
    assert_eq!(names(&world.got(a)), ["message:new"]);
}

#[test]
fn what_waits_for_a_message_with_a_parent_is_bounded_in_bytes() {
    let mut world = World::new();
    let (a, u, _) = conversation(&mut world);
    world.emit(u, "message:send", &json!({"role": "user", "content": "question"}));
    let parent = data(&world.got(u)[0])["_id"].clone();
    world.got(a);
    let first =
        world.input(a, "message:send", &json!({"role": "assistant", "content": "1", "parentId": parent}));
    let large = "x".repeat(600 << 10);
    for (waits, content) in [(true, large.as_str()), (false, &large), (true, "small"), (false, &large)] {
        let out = world.input(a, "message:send", &json!({"role": "assistant", "content": content}));
        assert_eq!(out.is_empty(), waits, "{} bytes", content.len());
        world.carry_out(a, out);
    }
    let told = world.got(a);
    assert_eq!(names(&told), ["message:error", "ack5", "message:error", "ack5"]);
    assert_eq!(data(&told[0])["error"], "Rate limit exceeded: too many events wait");
    world.carry_out(a, first);
    assert_eq!(names(&world.got(u)), ["message:new"; 3], "what was let in is said");
}

#[test]
fn an_own_message_that_was_acknowledged_while_it_was_behind_does_not_come_again() {
    let mut world = World::new();
    let (a, _, room) = conversation(&mut world);
    let asks = world.input(a, "message:send", &json!({"role": "assistant", "content": "mine"}));
    // Nothing is delivered to it, as to somebody who is behind; the reply comes all the same.
    world.links[a].topics.clear();
    world.carry_out(a, asks);
    assert_eq!(names(&world.got(a)), ["message:new", "message:sent", "ack5"]);
    let said = |record: &&Record| matches!(record.event, Event::MessagePosted(_));
    let record = world.log.iter().rev().find(said).unwrap().clone();
    let topic = Topic::Room(room);
    world.links[a].topics.push(topic.clone());
    for expected in [vec![], vec!["message:new"]] {
        world.hand_out(&Delivery { item: Item::Record(&record), topic: &topic, origin: None });
        assert_eq!(names(&world.got(a)), expected);
    }
}

#[test]
fn on_the_root_namespace_everything_has_two_names() {
    let mut world = World::new();
    let py = world.open("/", "/socket.io/", Some("agent:a1"));
    assert_eq!(names(&world.got(py)), ["CONNECT", "presence:update", "presence_update"]);
    world.emit(py, "message_send", &json!({"role": "assistant", "content": "x"}));
    let got = world.got(py);
    assert_eq!(names(&got), ["message:new", "message_new", "message:sent", "message_sent", "ack5"]);
    assert_eq!(data(&got[0]), data(&got[1]));
    let js = world.connect("agent:a2");
    world.got(js);
    world.emit(js, "message_send", &json!({"role": "assistant", "content": "x"}));
    assert_eq!(world.got(js), [r#"ack5 {"success":false,"error":"Unknown event"}"#]);
}

#[test]
fn a_plain_websocket_has_frames_and_echoes_their_ids() {
    let mut world = World::new();
    let raw = world.open("/", "/dev/aiwm/chat", Some("agent:a1"));
    let got = world.got(raw);
    assert!(got[0].starts_with(r#"{"event":"presence:update","data":{"type":"agent""#), "{}", got[0]);
    world.text(raw, r#"{"event":"message:send","data":{"role":"assistant","content":"hi"},"id":{"n":1}}"#);
    let got = world.got(raw);
    let events: Vec<Value> = got.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        events.iter().map(|e| &e["event"]).collect::<Vec<_>>(),
        ["message:new", "message:sent", "ack"]
    );
    assert_eq!(events[2]["id"], json!({"n": 1}));
    assert_eq!(events[2]["data"]["message"], events[0]["data"]);
    for bad in ["{", "[]", r#"{"data":1}"#, r#"{"event":5}"#] {
        world.text(raw, bad);
        let got = world.got(raw);
        let event: Value = serde_json::from_str(&got[0]).unwrap();
        assert_eq!(
            (&event["event"], &event["data"]["success"]),
            (&json!("message:error"), &json!(false)),
            "{bad}"
        );
    }
    assert!(!world.links[raw].ended);
    let stranger = world.open("/", "/dev/aiwm/chat", Some("nonsense"));
    let got = world.got(stranger);
    assert!(
        got.len() == 1 && got[0].contains(r#""event":"message:error""#) && got[0].contains("Invalid token")
    );
    assert!(world.links[stranger].ended);
}

#[test]
fn the_later_namespace_has_history_and_another_word_for_text() {
    let mut world = World::new();
    let late = world.open("/ws/chat", "/socket.io/", Some("agent:a1"));
    world.got(late);
    for n in 0..3 {
        world.emit(late, "message:send", &json!({"role": "assistant", "content": n.to_string()}));
    }
    let got = world.got(late);
    assert_eq!(data(&got[0])["type"], "message");
    let third = data(&got[6])["_id"].clone();
    world.emit(late, "conversation:history", &json!({"limit": 2}));
    let page = data(&world.got(late)[0]);
    let texts = |page: &Value| -> Vec<String> {
        page["data"].as_array().unwrap().iter().map(|m| m["content"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(texts(&page), ["1", "2"]);
    world.emit(late, "conversation:history", &json!({"before": third}));
    assert_eq!(texts(&data(&world.got(late)[0])), ["0", "1"]);
    let early = world.connect("agent:a2");
    world.got(early);
    world.emit(early, "conversation:history", &json!({}));
    assert_eq!(data(&world.got(early)[0])["error"], "Unknown event");
}

#[test]
fn a_user_opens_the_conversation_with_an_agent_and_the_agent_is_in_it() {
    let mut world = World::new();
    let a = world.connect("agent:a1");
    let widget = world.open("/ws/chat", "/socket.io/", Some("user:ann"));
    world.got(a);
    world.got(widget);
    world.emit(widget, "agent:connect", &json!({"agentId": "a1"}));
    let got = world.got(widget);
    assert_eq!(names(&got), ["ack5", "presence:update"]);
    let id = data(&got[0])["conversationId"].clone();
    assert_eq!((&data(&got[1])["conversationId"], &data(&got[1])["agentId"]), (&id, &json!("a1")));
    let got = world.got(a);
    assert_eq!(names(&got), ["user:joined"]);
    assert_eq!((&data(&got[0])["userId"], &data(&got[0])["conversationId"]), (&json!("ann"), &id));
    let room = world.state.room(&RoomId::new(id.as_str().unwrap()).unwrap()).unwrap();
    assert_eq!((room.card.name.as_str(), id.as_str().unwrap().len()), ("Conversation with agent a1", 24));

    world.emit(widget, "message:send", &json!({"role": "user", "content": "hello", "type": "message"}));
    assert_eq!(data(&world.got(widget)[0])["conversationId"], id);
    assert_eq!(data(&world.got(a)[0])["type"], "text");
    let second = world.open("/ws/chat", "/socket.io/", Some("user:ann"));
    world.got(second);
    world.emit(second, "agent:connect", &json!({"agentId": "a1"}));
    assert_eq!(data(&world.got(second)[0])["conversationId"], id, "the same again");
    world.emit(second, "agent:connect", &json!({"agentId": "nobody"}));
    assert_eq!(data(&world.got(second)[0])["error"], "Agent with ID nobody not found");
    let late = world.open("/ws/chat", "/socket.io/", Some("agent:a2"));
    world.got(late);
    world.emit(late, "agent:connect", &json!({"agentId": "a1"}));
    assert_eq!(data(&world.got(late)[0])["error"], "Only authenticated users can emit agent:connect");
    world.emit(late, "message:send", &json!({"role": "user", "content": "x", "conversationId": id}));
    assert!(data(&world.got(late)[1])["error"].as_str().unwrap().starts_with("Permission denied"));
    world.close(a);
    world.emit(widget, "message:send", &json!({"role": "user", "content": "missed"}));
    let a = world.connect("agent:a1");
    assert_eq!(
        data(&world.got(a)[2])["content"],
        "missed",
        "the agent is in it by itself at its next connect"
    );
}

#[test]
fn without_an_account_one_talks_with_the_agent_of_the_token() {
    let mut world = World::new();
    let a = world.connect("agent:a1");
    world.got(a);
    let widget = world.open("/ws/chat", "/socket.io/", Some("visitor:a1/v1"));
    let got = world.got(widget);
    assert_eq!(names(&got), ["CONNECT", "presence:update"]);
    let presence = data(&got[1]);
    assert_eq!(
        (&presence["type"], &presence["userId"], &presence["agentId"]),
        (&json!("anonymous"), &json!("v1"), &json!("a1"))
    );
    let id = presence["conversationId"].clone();
    let got = world.got(a);
    assert_eq!(names(&got), ["user:joined", "presence:update"]);
    assert_eq!(data(&got[1])["conversationId"], id);
    world.emit(widget, "message:send", &json!({"role": "user", "content": "hi", "type": "message"}));
    assert_eq!(data(&world.got(widget)[0])["conversationId"], id);
    world.emit(widget, "message:send", &json!({"role": "assistant", "content": "hi"}));
    assert!(data(&world.got(widget)[1])["error"].as_str().unwrap().starts_with("Permission denied"));
    world.emit(a, "message:typing", &json!({"conversationId": id, "isTyping": true}));
    world.emit(a, "message:typing", &json!({"conversationId": id, "isTyping": false}));
    assert_eq!(names(&world.got(widget)), ["user:typing", "agent:typing", "user:typing"]);
    world.emit(widget, "agent:connect", &json!({"agentId": "a2"}));
    assert!(data(&world.got(widget)[0])["error"].as_str().unwrap().starts_with("Only authenticated"));
    let lost = world.open("/ws/chat", "/socket.io/", Some("visitor:gone/v2"));
    assert!(world.got(lost)[0].starts_with("CONNECT_ERROR Agent not found (403)"));
    assert!(world.state.room(&world.own_room("a1")).unwrap().members.len() == 1);
}

#[test]
fn messages_of_others_keep_their_meaning() {
    let mut world = World::new();
    let (a, _, room) = conversation(&mut world);
    let join = |member: Principal| {
        Command::JoinRoom(JoinRoom { room: room.clone(), member, create: None, by_key: false })
    };
    world.as_(&agent("a2"), join(agent("a2"))).unwrap();
    world.got(a);
    for (who, expected) in [(agent("a2"), "user"), (agent("a1"), "assistant"), (user("ann"), "user")] {
        let post = Post::text(room.clone(), who.clone(), "hi");
        world.as_(&who, Command::Post(Box::new(post))).unwrap();
        let new = data(&world.got(a)[0]);
        assert_eq!((&new["role"], &new["participantId"]), (&json!(expected), &json!(who.id())));
        assert_eq!((&new["type"], &new["attachments"]), (&json!("text"), &json!([])));
    }
    let other = world.connect("agent:a2");
    world.got(other);
    world.got(a);
    world.emit(
        other,
        "message:send",
        &json!({"role": "assistant", "content": "x", "conversationId": room.as_str()}),
    );
    assert_eq!(data(&world.got(a)[0])["role"], "assistant", "a role that was given is kept");
}

#[test]
fn suspension_and_removal_end_what_they_concern() {
    let mut world = World::new();
    let (a, u, room) = conversation(&mut world);
    world.as_(&user("olga"), Command::LeaveRoom(room.clone(), user("ann"))).unwrap();
    assert!(!world.links[u].topics.contains(&Topic::Room(room)));
    let suspended = AgentChanges { suspended: Some(true), ..AgentChanges::default() };
    world.as_(&user("olga"), Command::UpdateAgent(AgentId::new("a1").unwrap(), suspended)).unwrap();
    assert!(world.links[a].ended && !world.links[u].ended);
}

#[test]
fn what_was_written_into_a_dead_connection_was_missed() {
    let mut world = World::new();
    let (a, u, _) = conversation(&mut world);
    let say = |world: &mut World, text: &str| {
        world.now = world.now.plus(1_000);
        world.emit(u, "message:send", &json!({"role": "user", "content": text}));
    };
    let contents = |world: &mut World, n: usize| -> Vec<String> {
        let got = world.got(n);
        let said = got.iter().filter(|line| line.starts_with("message:new"));
        said.map(|line| data(line)["content"].as_str().unwrap().to_owned()).collect()
    };
    say(&mut world, "arrived");
    world.links[a].dead = true;
    say(&mut world, "lost");
    // Another connection while nobody has noticed; and again, after the server has.
    let again = world.connect("agent:a1");
    assert_eq!(contents(&mut world, again), ["lost"]);
    world.links[again].dead = true;
    say(&mut world, "lost too");
    world.close(a);
    world.close(again);
    let last = world.connect("agent:a1");
    assert_eq!(contents(&mut world, last), ["lost too"]);
    // What reached one connection has reached the agent.
    let other = world.connect("agent:a1");
    assert_eq!(contents(&mut world, other), Vec::<String>::new());
    world.links[other].dead = true;
    say(&mut world, "to both");
    world.close(last);
    let third = world.connect("agent:a1");
    assert_eq!(contents(&mut world, third), Vec::<String>::new());
}

#[test]
fn what_was_said_before_one_came_in_was_not_missed() {
    let mut world = World::new();
    let (a, u, _) = conversation(&mut world);
    world.room("hall", Entry::Open);
    let post = |world: &mut World, who: &Principal, text: &str| {
        let hall = RoomId::new("hall").unwrap();
        world.as_(who, Command::Post(Box::new(Post::text(hall, who.clone(), text)))).unwrap();
    };
    world.emit(u, "conversation:join", &json!({"conversationId": "hall"}));
    post(&mut world, &user("ann"), "before");
    world.links[a].dead = true;
    world.emit(a, "conversation:join", &json!({"conversationId": "hall"}));
    post(&mut world, &user("ann"), "after");
    let again = world.connect("agent:a1");
    let got = world.got(again);
    assert_eq!(names(&got), ["CONNECT", "presence:update", "message:new"]);
    assert_eq!(data(&got[2])["content"], "after");
}

#[test]
fn what_arrived_is_noted_now_and_then_and_at_the_end() {
    let mut world = World::new();
    let (a, u, _) = conversation(&mut world);
    let notes = |world: &World| {
        world.log.iter().filter(|record| matches!(record.event, Event::PresenceReached(_))).count()
    };
    let before = notes(&world);
    for text in ["one", "two", "three"] {
        world.emit(u, "message:send", &json!({"role": "user", "content": text}));
    }
    assert_eq!(notes(&world), before + 1, "the first at once, the others within five seconds");
    world.now = world.now.plus(250);
    world.wake(a);
    world.close(a);
    assert_eq!(notes(&world), before + 2);
    let seen = world.state.presence(&agent("a1")).unwrap().seen;
    let said = world.log.iter().rev().find(|record| matches!(record.event, Event::MessagePosted(_)));
    assert_eq!(seen, said.unwrap().offset);
}

#[test]
fn twenty_first_connections_share_one_conversation_and_an_idle_one_is_small() {
    let mut world = World::new();
    let links: Vec<usize> = (0..20).map(|_| world.connect("agent:a1")).collect();
    let ids: std::collections::BTreeSet<String> = links
        .into_iter()
        .map(|n| data(&world.got(n)[1])["conversationId"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(world.state.rooms().len(), 1);
    assert!(size_of::<AiwmSession>() <= 512, "{} bytes", size_of::<AiwmSession>());
}

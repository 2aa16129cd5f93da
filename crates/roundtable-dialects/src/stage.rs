//! A stage for the tests of sessions: the real rules in memory, some sessions around them, and what each client got.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use roundtable_core::command::Command;
use roundtable_core::delivery::{Delivery, Item, Topic, topics_of_record, topics_of_signal};
use roundtable_core::engine::{Context, Outcome, decide};
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::event::Record;
use roundtable_core::ids::{ConnectionId, Principal, WorkspaceId};
use roundtable_core::signal::{Signal, SignalBody};
use roundtable_core::state::State;
use roundtable_core::time::Time;
use roundtable_core::users::WorkspaceCreated;
use serde_json::Value;

use crate::figures::Figures;
use crate::pace::Bucket;
use crate::session::{
    Credential, Ending, Form, Identity, Input, Message, Messages, Opening, Output, Outputs, Proof, Refusal,
    Route, Scene, Session,
};

/// Makes the shared messages of a dialect.
pub type Encode = fn(Form, &Delivery<'_>, Scene<'_>) -> Messages;

/// One client on the stage.
pub struct Client {
    session: Box<dyn Session>,
    who: Option<Principal>,
    topics: BTreeSet<Topic>,
    frames: Bucket,
    /// What it asked to be identified by, last.
    pub proof: Option<Proof>,
    /// What it got and nobody has looked at.
    pub got: Vec<String>,
    /// When it wants to be woken.
    pub wake: Option<Time>,
    /// How it ended.
    pub ended: Option<Ending>,
}

/// The whole of it.
pub struct Stage {
    /// The present.
    pub now: Time,
    /// The rules' state.
    pub state: State,
    /// What is shown as measured.
    pub figures: Figures,
    /// The log takes no writes.
    pub full: bool,
    records: Vec<Record>,
    clients: BTreeMap<usize, Client>,
    encode: Encode,
}

/// The opening of a loopback connection, for tests to change.
pub fn opening(path: &'static str, query: &'static str) -> Opening<'static> {
    Opening {
        connection: ConnectionId(0),
        peer: std::net::IpAddr::from([127, 0, 0, 1]),
        anonymous: true,
        namespace: "/",
        path,
        query,
        authorization: None,
        api_key: None,
        auth: None,
        deflate: false,
        random: 7,
    }
}

/// Somebody who came by token.
pub fn identity(who: Principal, expires_at: Option<Time>) -> Identity {
    Identity {
        workspace: WorkspaceId::new("default").unwrap(),
        principal: who,
        credential: Credential::Token { jti: "t".into() },
        incarnation: Default::default(),
        expires_at,
    }
}

impl Stage {
    /// A workspace that was just made, on 2026-01-01.
    pub fn new(encode: Encode) -> Self {
        let mut stage = Self {
            now: Time(1_767_225_600_000),
            state: State::default(),
            figures: Figures { node: "n1".into(), load: 0.25, ..Figures::default() },
            full: false,
            records: Vec::new(),
            clients: BTreeMap::new(),
            encode,
        };
        let made = WorkspaceCreated { name: "default".into(), domain_key_hash: "ab".repeat(32) };
        stage.system(Command::CreateWorkspace(made));
        stage
    }

    /// The server itself asks.
    pub fn system(&mut self, command: Command) {
        self.ask(&Principal::System, None, &command).unwrap();
    }

    /// A client comes; its identity is settled as given.
    pub fn enter(
        &mut self,
        session: Box<dyn Session>,
        mut door: Opening<'_>,
        who: Result<Identity, Refusal>,
    ) -> usize {
        let id = self.clients.len() + 1;
        door.connection = ConnectionId(id as u64);
        let client = Client {
            session,
            who: None,
            topics: BTreeSet::new(),
            frames: Bucket::default(),
            proof: None,
            got: Vec::new(),
            wake: None,
            ended: None,
        };
        self.clients.insert(id, client);
        self.with(id, |session, scene, out| session.open(&door, scene, out));
        if self.client(id).proof.is_some() {
            self.client(id).who = who.as_ref().ok().map(|identity| identity.principal.clone());
            self.with(id, |session, scene, out| session.identified(who.as_ref().map_err(|r| *r), scene, out));
        }
        id
    }

    /// A client says something.
    pub fn say(&mut self, id: usize, text: &str) {
        let mut frames = self.client(id).frames;
        self.with(id, |session, scene, out| {
            let now = scene.now.0.unsigned_abs();
            match session.frame_limit().map(|limit| frames.take(1, limit, now)) {
                Some(Err(after_ms)) => session.too_fast(after_ms, scene, out),
                Some(Ok(())) | None => session.input(Input::Text(text), scene, out),
            }
        });
        self.client(id).frames = frames;
    }

    /// A client sends bytes.
    pub fn say_binary(&mut self, id: usize, bytes: &[u8]) {
        self.with(id, |session, scene, out| session.input(Input::Binary(bytes), scene, out));
    }

    /// A client goes.
    pub fn leave(&mut self, id: usize) {
        self.client(id).topics.clear();
        self.with(id, |session, scene, out| session.closed(scene, out));
    }

    /// The server ends a client's right to be here.
    pub fn expel(&mut self, id: usize, refusal: Refusal) {
        self.with(id, |session, scene, out| session.expelled(refusal, scene, out));
    }

    /// Time passes; who wanted to be woken until then is.
    pub fn pass(&mut self, ms: i64) {
        let until = self.now.plus(ms);
        loop {
            let due = |(id, c): (&usize, &Client)| c.wake.filter(|at| *at <= until).map(|at| (at, *id));
            let Some((at, id)) = self.clients.iter().filter_map(due).min() else { break };
            self.now = self.now.max(at);
            self.client(id).wake = None;
            self.with(id, |session, scene, out| session.woken(scene, out));
        }
        self.now = until;
    }

    /// What a client got since the last look, as JSON.
    pub fn got(&mut self, id: usize) -> Vec<Value> {
        let texts = std::mem::take(&mut self.client(id).got);
        texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
    }

    /// The one frame that a client got since the last look.
    pub fn one(&mut self, id: usize) -> Value {
        let mut got = self.got(id);
        assert_eq!(got.len(), 1, "{got:?}");
        got.remove(0)
    }

    /// A client.
    pub fn client(&mut self, id: usize) -> &mut Client {
        self.clients.get_mut(&id).unwrap()
    }

    /// A signal of the server's own.
    pub fn signal(&mut self, body: SignalBody) {
        let signal = Signal { at: self.now, actor: Principal::System, room: None, body };
        for topic in topics_of_signal(&signal) {
            self.deliver(&Delivery { item: Item::Signal(&signal), topic: &topic, origin: None });
        }
    }

    fn ask(
        &mut self,
        who: &Principal,
        connection: Option<ConnectionId>,
        command: &Command,
    ) -> Result<Outcome, Error> {
        let ctx = Context {
            now: self.now,
            at: self.now,
            actor: who.clone(),
            by: who.clone(),
            connection,
            random: self.state.head.0,
            client: None,
        };
        let decision = decide(&self.state, command, &ctx)?;
        if self.full && !decision.events.is_empty() {
            return Err(Error::new(ErrorKind::Unavailable, "the log takes no writes"));
        }
        let outcome = decision.result();
        let mut batch = Vec::new();
        for (room, event) in decision.events {
            let room_seq = room.as_ref().map(|room| self.state.next_in_room(room));
            let (offset, actor) = (self.state.head.next(), who.clone());
            let record =
                Record { offset, room_seq, at: self.now, t: self.now, actor, room, client: None, event };
            self.state.apply(&record);
            batch.push(record);
        }
        for record in &batch {
            for topic in topics_of_record(record, &self.state) {
                self.deliver(&Delivery { item: Item::Record(record), topic: &topic, origin: connection });
            }
        }
        self.records.append(&mut batch);
        Ok(outcome)
    }

    fn deliver(&mut self, delivery: &Delivery<'_>) {
        let subscribed: Vec<usize> = self
            .clients
            .iter()
            .filter(|(_, c)| c.topics.contains(delivery.topic))
            .map(|(id, _)| *id)
            .collect();
        for id in subscribed {
            self.hand(id, delivery);
        }
    }

    fn hand(&mut self, id: usize, delivery: &Delivery<'_>) {
        let mut route = Route::Skip;
        self.with(id, |session, scene, _| route = session.route(delivery, scene));
        match route {
            Route::Skip => {}
            Route::Own => self.with(id, |session, scene, out| session.deliver(delivery, scene, out)),
            Route::Shared(form) => {
                let (figures, encode) = (self.figures.clone(), self.encode);
                let scene =
                    Scene { now: self.now, at: self.now, state: &self.state, epoch: 1, figures: &figures };
                for message in encode(form, delivery, scene) {
                    self.client(id).got.push(text(message));
                }
            }
        }
    }

    fn with(&mut self, id: usize, act: impl FnOnce(&mut dyn Session, Scene<'_>, &mut Outputs)) {
        let mut out = Outputs::new();
        let (state, figures) = (self.state.clone(), self.figures.clone());
        let scene = Scene { now: self.now, at: self.now, state: &state, epoch: 1, figures: &figures };
        act(self.client(id).session.as_mut(), scene, &mut out);
        for output in out {
            self.carry_out(id, output);
        }
    }

    fn carry_out(&mut self, id: usize, output: Output) {
        match output {
            Output::Send(message) => self.client(id).got.push(text(message)),
            // Counted by servers only; what was asked is refused without that.
            Output::Notice(_) | Output::Unpacked(_) => {}
            Output::Authenticate(credentials) => self.client(id).proof = Some(credentials.proof),
            Output::WakeAt(at) => self.client(id).wake = Some(at),
            Output::End(ending) => self.client(id).ended = Some(ending),
            Output::Unsubscribe(topic) => {
                self.client(id).topics.remove(&topic);
            }
            Output::Subscribe(topic, since) => {
                let who = self.client(id).who.clone().unwrap();
                if !roundtable_core::access::may_receive(&self.state, &who, &topic) {
                    return;
                }
                self.client(id).topics.insert(topic.clone());
                let Some(cursor) = since else { return };
                let missed: Vec<Record> = self
                    .records
                    .iter()
                    .filter(|r| r.offset > cursor.offset && roundtable_core::delivery::replays(r, &topic))
                    .cloned()
                    .collect();
                for record in &missed {
                    let item = Item::Record(record);
                    self.hand(id, &Delivery { item, topic: &topic, origin: None });
                }
            }
            Output::Ask(ask) => {
                let who = ask.actor.clone().or_else(|| self.client(id).who.clone()).unwrap();
                let reply = self.ask(&who, Some(ConnectionId(id as u64)), &ask.command);
                self.with(id, |session, scene, out| {
                    session.replied(ask.token, reply.as_ref(), scene, out);
                });
            }
            Output::Accept
            | Output::Refuse { .. }
            | Output::Read { .. }
            | Output::Find { .. }
            | Output::Survey { .. }
            | Output::Probe(_) => {
                panic!("no dialect on this stage does that")
            }
        }
    }
}

fn text(message: Message) -> String {
    if let Message::Text(text) = message { text } else { panic!("{message:?}") }
}

/// A desk over the real rules in memory: tokens and keys are the text of a principal.
pub struct Counter {
    state: std::sync::Mutex<std::sync::Arc<State>>,
    /// The present.
    pub now: Time,
    /// What is measured.
    pub figures: Figures,
    /// What was measured.
    pub history: crate::figures::history::History,
    /// What addresses may ask before it is too often; `None` for any number.
    pub allowance: std::sync::Mutex<Option<u32>>,
    /// The operator binds the keys of nodes.
    pub approves_nodes: bool,
    /// Tokens that were ordered.
    pub orders: std::sync::Mutex<Vec<crate::rest::TokenOrder>>,
}

/// A request of a client on a loopback listener, for tests to change.
pub fn request<'a>(method: &'a str, path: &'a str, body: &'a str) -> crate::rest::Request<'a> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    crate::rest::Request {
        method,
        path,
        query,
        body: body.as_bytes(),
        authorization: None,
        api_key: None,
        channel_key: None,
        request_id: "r1",
        peer: std::net::IpAddr::from([127, 0, 0, 1]),
        anonymous: true,
    }
}

/// The whole answer of a handler that never waits.
pub fn response(
    future: impl Future<Output = Option<crate::rest::Response>>,
) -> Option<crate::rest::Response> {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(response) => response,
        std::task::Poll::Pending => panic!("the counter never waits"),
    }
}

/// What a handler answers that never waits: its status and its body.
pub fn answered(future: impl Future<Output = Option<crate::rest::Response>>) -> (u16, Value) {
    match response(future) {
        Some(response) => (response.status, serde_json::from_str(&response.body).unwrap()),
        None => (0, Value::Null),
    }
}

impl Counter {
    /// The workspace of a stage.
    pub fn of(stage: &Stage) -> Self {
        Self {
            state: std::sync::Mutex::new(std::sync::Arc::new(stage.state.clone())),
            now: stage.now,
            figures: stage.figures.clone(),
            history: crate::figures::history::History::default(),
            allowance: std::sync::Mutex::default(),
            approves_nodes: false,
            orders: std::sync::Mutex::default(),
        }
    }

    fn run(&self, who: &Principal, command: &Command) -> Result<(Outcome, std::sync::Arc<State>), Error> {
        let mut held = self.state.lock().unwrap();
        let mut state = (**held).clone();
        let (actor, by) = (who.clone(), who.clone());
        let ctx = Context {
            now: self.now,
            at: self.now,
            actor,
            by,
            connection: None,
            random: state.head.0,
            client: None,
        };
        let decision = decide(&state, command, &ctx)?;
        let outcome = decision.result();
        for (room, event) in decision.events {
            let room_seq = room.as_ref().map(|room| state.next_in_room(room));
            let (offset, actor) = (state.head.next(), who.clone());
            state.apply(&Record {
                offset,
                room_seq,
                at: self.now,
                t: self.now,
                actor,
                room,
                client: None,
                event,
            });
        }
        *held = std::sync::Arc::new(state);
        Ok((outcome, held.clone()))
    }
}

impl crate::rest::Desk for Counter {
    fn now(&self) -> Time {
        self.now
    }

    fn random(&self) -> u128 {
        u128::from(self.state.lock().unwrap().head.0)
    }

    fn figures(&self) -> std::sync::Arc<Figures> {
        std::sync::Arc::new(self.figures.clone())
    }

    fn history(&self, span: (Time, Time), step_ms: i64) -> Vec<crate::figures::history::Mean> {
        self.history.read(span, step_ms)
    }

    fn default_workspace(&self) -> WorkspaceId {
        WorkspaceId::new("default").unwrap()
    }

    fn state(&self, _: &WorkspaceId) -> Option<std::sync::Arc<State>> {
        Some(self.state.lock().unwrap().clone())
    }

    fn spend(&self, _: crate::rest::Limited, _: std::net::IpAddr) -> Result<(), u64> {
        match &mut *self.allowance.lock().unwrap() {
            Some(0) => Err(59_001),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn approves_nodes(&self) -> bool {
        self.approves_nodes
    }

    fn challenge(&self, node: &roundtable_core::ids::NodeId, _: &[u8; 32]) -> (String, Time) {
        (format!("say-{node}"), self.now.plus(60_000))
    }

    /// A signature is good when it repeats the key.
    fn proves(&self, proof: &crate::rest::KeyProof<'_>) -> Result<(), crate::rest::Unproven> {
        if proof.challenge != format!("say-{}", proof.node) {
            return Err(crate::rest::Unproven::Challenge);
        }
        if proof.signature.starts_with(proof.key) { Ok(()) } else { Err(crate::rest::Unproven::Signature) }
    }

    async fn identify(
        &self,
        credentials: crate::session::Credentials,
        _: std::net::IpAddr,
    ) -> Result<Identity, Refusal> {
        let text = match credentials.proof {
            Proof::Guest(_) => "guest:g1".to_owned(),
            Proof::Token(_, text) | Proof::Bearer(_, text) | Proof::ApiKey(text) => text,
            _ => return Err(Refusal::Invalid),
        };
        Principal::parse(&text).map(|who| identity(who, None)).map_err(|_| Refusal::Invalid)
    }

    async fn hash_secret(&self, secret: String) -> Result<String, Error> {
        Ok(secret)
    }

    fn issue(&self, order: crate::rest::TokenOrder) -> Result<crate::rest::IssuedToken, Error> {
        let (token, expires_at) = (order.subject.to_string(), self.now.plus(i64::from(order.ttl_s) * 1000));
        self.orders.lock().unwrap().push(order);
        Ok(crate::rest::IssuedToken { token, jti: "j".into(), expires_at })
    }

    async fn ask(
        &self,
        who: &Identity,
        ask: crate::session::Ask,
    ) -> Result<(Outcome, std::sync::Arc<State>), Error> {
        self.run(&who.principal, &ask.command)
    }

    async fn page(
        &self,
        _: &Identity,
        _: &roundtable_core::ids::RoomId,
        _: crate::rest::PageOf,
    ) -> Result<crate::rest::Page, Error> {
        Ok(crate::rest::Page::default())
    }

    async fn find(&self, _: &Identity, _: &roundtable_core::ids::MessageId) -> Result<Option<Record>, Error> {
        Ok(None)
    }
}

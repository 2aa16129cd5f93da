//! A workspace in memory and any number of sockets on it, driven one output after the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use roundtable_core::access::may_receive;
use roundtable_core::agents::AgentChanges;
use roundtable_core::command::Command;
use roundtable_core::delivery::{self, Delivery, Item, Topic};
use roundtable_core::engine::{self, Context, Outcome};
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::event::Record;
use roundtable_core::ids::{AgentId, ConnectionId, KeyId, Principal, RoomId, UserId, WorkspaceId};
use roundtable_core::repeats::{self, Claim, Firsts};
use roundtable_core::state::State;
use roundtable_core::time::{Cursor, Offset, Time};
use roundtable_core::users::{KeyAdded, KeyFor, UserAdded, UserRole, WorkspaceCreated};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::{MxfSession, Settings};
use crate::figures::Figures;
use crate::session::{
    Ask, Credential, Credentials, Identity, Input, Message, Opening, Output, Outputs, Proof, Refusal, Route,
    Scene, Session,
};

const DOMAIN: &str = "domain";

#[derive(Default)]
struct Socket {
    session: Option<MxfSession>,
    who: Option<Principal>,
    topics: BTreeSet<Topic>,
    sent: Vec<Message>,
    accepted: bool,
    refused: Option<String>,
    ended: bool,
    wake: Option<Time>,
}

/// The workspace and its sockets.
pub struct Rig {
    state: State,
    now: Time,
    random: u64,
    figures: Figures,
    records: Vec<Record>,
    firsts: Firsts,
    sockets: Vec<Socket>,
    spent: BTreeMap<(Principal, &'static str), u32>,
    waiting: Option<VecDeque<(usize, Output)>>,
}

/// An SDK envelope.
pub fn envelope(name: &str, agent: &str, channel: &str, data: Value) -> Value {
    json!({"eventId": "e", "eventType": name, "timestamp": 1, "agentId": agent, "channelId": channel, "data": data})
}

fn sha256(secret: &str) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(secret.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Rig {
    pub fn new() -> Self {
        let mut rig = Self {
            state: State::default(),
            now: Time(1_700_000_000_000),
            random: 0,
            figures: Figures::default(),
            records: Vec::new(),
            firsts: Firsts::default(),
            sockets: Vec::new(),
            spent: BTreeMap::new(),
            waiting: None,
        };
        let begun = WorkspaceCreated { name: "w".into(), domain_key_hash: "h".into() };
        rig.system(Command::CreateWorkspace(begun));
        rig
    }

    /// A logged-in user on a socket of its own; the account is made if it is new.
    pub fn user(&mut self, name: &str) -> usize {
        let user = UserId::new(name).unwrap();
        if self.state.user(&user).is_none() {
            self.system(Command::AddUser(UserAdded { user, role: UserRole::Viewer, password: None }));
        }
        self.connect(Some(&json!({"domainKey": DOMAIN, "username": name, "password": "pw"})), None, "")
    }

    /// A channel key into the lobby.
    pub fn key(&mut self, key: &str, secret: &str, agent: &str) {
        let opens = KeyFor::Room { agent: AgentId::new(agent).unwrap(), room: RoomId::new("lobby").unwrap() };
        let key = KeyId::new(key).unwrap();
        self.system(Command::AddKey(KeyAdded {
            key,
            hash: sha256(secret),
            opens,
            expires_at: None,
            name: String::new(),
        }));
    }

    /// The server suspends an agent.
    pub fn suspend(&mut self, agent: &str) {
        let changes = AgentChanges { suspended: Some(true), ..AgentChanges::default() };
        self.system(Command::UpdateAgent(AgentId::new(agent).unwrap(), changes));
    }

    pub fn revoke(&mut self, key: &str) {
        self.system(Command::RevokeKey(KeyId::new(key).unwrap()));
    }

    pub fn connect(&mut self, auth: Option<&Value>, authorization: Option<&str>, query: &str) -> usize {
        let at = self.sockets.len();
        let mut session = MxfSession::new(Arc::new(Settings::default()));
        let auth = auth.map(|auth| RawValue::from_string(auth.to_string()).unwrap());
        let opening = Opening {
            connection: ConnectionId(at as u64 + 1),
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            anonymous: true,
            namespace: "/",
            path: "/socket.io/",
            query,
            authorization,
            api_key: None,
            auth: auth.as_deref(),
            deflate: false,
            random: at as u128,
        };
        let mut out = Outputs::new();
        session.open(&opening, self.scene(), &mut out);
        self.sockets.push(Socket { session: Some(session), ..Socket::default() });
        self.carry(at, out);
        at
    }

    pub fn send(&mut self, at: usize, name: &str, payload: Value) {
        self.input(at, name, (payload, &[]), None);
    }

    pub fn ask(&mut self, at: usize, name: &str, payload: Value, ack: u64) {
        self.input(at, name, (payload, &[]), Some(ack));
    }

    pub fn send_bytes(&mut self, at: usize, name: &str, payload: Value, bytes: &[u8]) {
        self.input(at, name, (payload, &[Bytes::copy_from_slice(bytes)]), None);
    }

    fn input(&mut self, at: usize, name: &str, (payload, attachments): (Value, &[Bytes]), ack: Option<u64>) {
        let raw = RawValue::from_string(payload.to_string()).unwrap();
        let args = [&*raw];
        self.with(at, |session, scene, out| {
            session.input(Input::Event { name, args: &args, attachments, ack }, scene, out);
        });
    }

    /// From now on outputs wait, as if the engine were busy.
    pub fn pause(&mut self) {
        self.waiting = Some(VecDeque::new());
    }

    /// What waited is carried out, all questions of one connection before the first answer.
    pub fn resume(&mut self) {
        for (at, output) in self.waiting.take().unwrap_or_default() {
            self.carry(at, vec![output]);
        }
    }

    pub fn close(&mut self, at: usize) {
        self.with(at, |session, scene, out| session.closed(scene, out));
        self.sockets[at].session = None;
        self.sockets[at].topics.clear();
    }

    pub fn wake(&mut self, at: usize) {
        self.with(at, |session, scene, out| session.woken(scene, out));
    }

    pub fn clear(&mut self) {
        self.sockets.iter_mut().for_each(|socket| socket.sent.clear());
    }

    pub fn accepted(&self, at: usize) -> bool {
        self.sockets[at].accepted
    }

    pub fn refused(&self, at: usize) -> Option<String> {
        self.sockets[at].refused.clone()
    }

    pub fn ended(&self, at: usize) -> bool {
        self.sockets[at].ended
    }

    pub fn wakes_in(&self, at: usize) -> Option<i64> {
        self.sockets[at].wake.map(|wake| wake.since(self.now))
    }

    fn parts(message: &Message) -> (String, String) {
        match message {
            Message::Event(name, args) | Message::BinaryEvent(name, args, _) => {
                ((*name).to_owned(), args.clone())
            }
            Message::Ack(id, args) => (format!("ack {id}"), args.clone()),
            other => panic!("{other:?} on Socket.IO"),
        }
    }

    pub fn seen(&self, at: usize) -> Vec<String> {
        let line = |message| {
            let (name, args) = Self::parts(message);
            format!("{name} {args}")
        };
        self.sockets[at].sent.iter().map(line).collect()
    }

    pub fn names(&self, at: usize) -> Vec<String> {
        let name = |m| Self::parts(m).0.split(' ').next().unwrap_or_default().to_owned();
        self.sockets[at].sent.iter().map(name).collect()
    }

    pub fn payloads(&self, at: usize, name: &str) -> Vec<Value> {
        let parts = self.sockets[at].sent.iter().map(Self::parts);
        parts.filter(|(n, _)| n == name).map(|(_, args)| serde_json::from_str(&args).unwrap()).collect()
    }

    /// The payload of the newest event of that name.
    pub fn payload(&self, at: usize, name: &str) -> Value {
        self.payloads(at, name).pop().unwrap_or_else(|| panic!("no {name} in {:?}", self.seen(at)))
    }

    /// The one answer to an acknowledgement.
    pub fn ack(&self, at: usize, id: u64) -> Value {
        let mut all = self.payloads(at, &format!("ack {id}"));
        assert_eq!(all.len(), 1, "answers to {id}: {:?}", self.seen(at));
        all.remove(0)
    }

    pub fn bytes(&self, at: usize) -> Vec<Vec<u8>> {
        let of = |message: &Message| match message {
            Message::BinaryEvent(_, _, bytes) => bytes.iter().map(|b| b.to_vec()).collect(),
            _ => Vec::new(),
        };
        self.sockets[at].sent.iter().flat_map(of).collect()
    }

    fn scene(&self) -> Scene<'_> {
        Scene { now: self.now, at: self.now, state: &self.state, epoch: 1, figures: &self.figures }
    }

    fn with(&mut self, at: usize, call: impl FnOnce(&mut MxfSession, Scene<'_>, &mut Outputs)) {
        let Some(mut session) = self.sockets[at].session.take() else { return };
        let mut out = Outputs::new();
        call(&mut session, self.scene(), &mut out);
        self.sockets[at].session = Some(session);
        self.carry(at, out);
    }

    fn carry(&mut self, at: usize, outputs: Outputs) {
        for output in outputs {
            if let Some(waiting) = &mut self.waiting {
                waiting.push_back((at, output));
                continue;
            }
            match output {
                Output::Notice(_) | Output::Unpacked(_) => {}
                Output::Send(message) => self.sockets[at].sent.push(message),
                Output::Accept => self.sockets[at].accepted = true,
                Output::Refuse { message, .. } => self.sockets[at].refused = Some(message),
                Output::Authenticate(credentials) => {
                    let who = self.check(&credentials);
                    self.sockets[at].who = who.as_ref().ok().map(|who| who.principal.clone());
                    self.with(at, |session, scene, out| {
                        session.identified(who.as_ref().map_err(|refusal| *refusal), scene, out);
                    });
                }
                Output::Ask(ask) => self.answer(at, ask),
                Output::Subscribe(topic, cursor) => {
                    let who = self.sockets[at].who.clone().unwrap();
                    assert!(may_receive(&self.state, &who, &topic), "{who} may not receive {topic:?}");
                    let new = self.sockets[at].topics.insert(topic.clone());
                    assert!(new, "{topic:?} is subscribed to already");
                    if cursor.is_some_and(|cursor| cursor.epoch != 1) {
                        let first = Cursor { epoch: 1, offset: self.state.head };
                        self.with(at, |session, scene, out| session.cannot_resume(&topic, first, scene, out));
                        continue;
                    }
                    for record in cursor.map_or_else(Vec::new, |cursor| self.after(cursor.offset)) {
                        self.deliver(
                            at,
                            &Delivery { item: Item::Record(&record), topic: &topic, origin: None },
                        );
                    }
                }
                Output::Unsubscribe(topic) => {
                    self.sockets[at].topics.remove(&topic);
                }
                Output::WakeAt(time) => self.sockets[at].wake = Some(time),
                Output::End(_) => self.sockets[at].ended = true,
                Output::Read { .. } | Output::Find { .. } | Output::Survey { .. } | Output::Probe(_) => {
                    panic!("not asked for here")
                }
            }
        }
    }

    fn after(&self, offset: Offset) -> Vec<Record> {
        self.records.iter().filter(|record| record.offset > offset).cloned().collect()
    }

    fn check(&self, credentials: &Credentials) -> Result<Identity, Refusal> {
        if credentials.domain_key.as_ref().is_some_and(|key| key != DOMAIN) {
            return Err(Refusal::UnknownDomain);
        }
        let (principal, credential) = match &credentials.proof {
            Proof::Password { username, password } if password == "pw" => {
                (Principal::User(UserId::new(username).unwrap()), Credential::Secret)
            }
            Proof::ChannelKey { key_id, secret } => self.by_key(key_id, secret)?,
            Proof::Bearer(_, text) => {
                let (key_id, secret) = text.split_once(':').ok_or(Refusal::Invalid)?;
                self.by_key(key_id, secret)?
            }
            _ => return Err(Refusal::Invalid),
        };
        let workspace = WorkspaceId::new("w").unwrap();
        let incarnation = self.state.incarnation(&principal).unwrap_or_default();
        Ok(Identity { workspace, principal, credential, incarnation, expires_at: None })
    }

    fn by_key(&self, key_id: &str, secret: &str) -> Result<(Principal, Credential), Refusal> {
        let key = self.state.key(&KeyId::new(key_id).unwrap()).ok_or(Refusal::Invalid)?;
        let KeyFor::Room { room, .. } = &key.opens else { return Err(Refusal::Invalid) };
        if key.hash == sha256(secret) {
            Ok((key.bearer(), Credential::ChannelKey(key.id.clone(), room.clone())))
        } else {
            Err(Refusal::Invalid)
        }
    }

    fn system(&mut self, command: Command) {
        let context = self.context(Principal::System, Principal::System, None);
        self.commit(&command, context, None).unwrap();
    }

    fn context(&mut self, actor: Principal, by: Principal, connection: Option<ConnectionId>) -> Context {
        self.random += 1;
        self.now = self.now.plus(1);
        Context { now: self.now, at: self.now, actor, by, connection, random: self.random, client: None }
    }

    fn answer(&mut self, at: usize, ask: Ask) {
        let by = self.sockets[at].who.clone().unwrap();
        let actor = ask.actor.clone().unwrap_or_else(|| by.clone());
        let connection = ConnectionId(at as u64 + 1);
        let mut context = self.context(actor.clone(), by, Some(connection));
        context.client = ask.client.map(|id| Claim::of((&actor, id), &ask.command, &self.firsts));
        let spent = ask.budget.map(|budget| {
            let spent = self.spent.entry((actor, budget.class)).or_default();
            *spent += 1;
            (*spent > budget.most).then_some(budget)
        });
        let reply = match spent.flatten() {
            Some(budget) => {
                let mut error = Error::new(ErrorKind::RateLimited, "too often");
                (error.limit, error.retry_after_ms) = (Some(budget.most), Some(1_000));
                Err(error)
            }
            None => self.commit(&ask.command, context, Some(connection)),
        };
        self.with(at, |session, scene, out| session.replied(ask.token, reply.as_ref(), scene, out));
    }

    fn commit(
        &mut self,
        command: &Command,
        context: Context,
        origin: Option<ConnectionId>,
    ) -> Result<Outcome, Error> {
        let decision = engine::decide(&self.state, command, &context)?;
        let outcome = decision.result();
        let mut client = repeats::note(&mut self.firsts, &self.state, &context, &decision);
        for (room, event) in decision.events {
            let record = Record {
                offset: self.state.head.next(),
                room_seq: room.as_ref().map(|room| self.state.next_in_room(room)),
                at: context.now,
                t: context.now,
                actor: context.actor.clone(),
                room,
                client: client.take(),
                event,
            };
            self.state.apply(&record);
            self.records.push(record.clone());
            for topic in delivery::topics_of_record(&record, &self.state) {
                for at in 0..self.sockets.len() {
                    self.deliver(at, &Delivery { item: Item::Record(&record), topic: &topic, origin });
                }
            }
        }
        Ok(outcome)
    }

    fn deliver(&mut self, at: usize, delivery: &Delivery<'_>) {
        let about = match delivery.item {
            Item::Record(record) => delivery::topics_of_record(record, &self.state),
            Item::Signal(signal) => delivery::topics_of_signal(signal),
        };
        if !self.sockets[at].topics.contains(delivery.topic) || !about.contains(delivery.topic) {
            return;
        }
        self.with(at, |session, scene, out| match session.route(delivery, scene) {
            Route::Skip => {}
            Route::Shared(form) => {
                out.extend(super::super::encode(form, delivery, scene).into_iter().map(Output::Send));
            }
            Route::Own => session.deliver(delivery, scene, out),
        });
    }
}

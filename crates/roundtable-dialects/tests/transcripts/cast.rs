//! The clients of a transcript by name, in a world in memory.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use roundtable_core::cluster::{NodeJoined, ServerStarted};
use roundtable_core::command::Command;
use roundtable_core::ids::{ConnectionId, KeyId, NodeId, Principal, UserId};
use roundtable_core::state::State;
use roundtable_core::users::{Incarnation, TokenRevoked, UserAdded, UserRole, WorkspaceCreated};
use roundtable_dialects::rest::{Request, TokenOrder};
use roundtable_dialects::session::{Dialect, Input, Opening, Session};
use roundtable_dialects::transcript::line::{Transport, word};
use roundtable_dialects::transcript::{Door, Got, Names, SetUp, Theatre, frame};
use roundtable_dialects::{aiwm, hive, megabot, mxf, open_agi};
use serde_json::value::RawValue;

use super::identity::{DOMAIN_KEY, hash, workspace};
use super::world::{Encode, World};

/// One client.
enum Client {
    Socket { link: usize, transport: Transport },
    Requests { door: Box<Door>, got: VecDeque<Got> },
}

/// The clients and their world.
pub struct Cast {
    pub world: World,
    clients: BTreeMap<String, Client>,
    requests: u64,
}

/// A session of a dialect with the settings that a server begins with, and how its shared messages are made.
fn session_of(dialect: Dialect) -> (Box<dyn Session>, Encode) {
    match dialect {
        Dialect::Mxf => (Box::new(mxf::MxfSession::new(Arc::default())), mxf::encode),
        Dialect::Aiwm => (Box::new(aiwm::AiwmSession::new(Arc::default())), aiwm::encode),
        Dialect::Hive => (Box::new(hive::HiveSession::new(Arc::default())), hive::encode),
        Dialect::OpenAgi => (Box::new(open_agi::OpenAgiSession::new(Arc::default())), open_agi::encode),
        Dialect::MegaBot => (Box::new(megabot::MegaBotSession::new(Arc::default())), megabot::encode),
    }
}

impl Cast {
    /// A workspace as the first start of a server leaves it, and nobody in it.
    pub fn new() -> Self {
        let mut world = World::new();
        let node = NodeId::new("n1").unwrap();
        let begin = [
            Command::CreateWorkspace(WorkspaceCreated {
                name: "default".into(),
                domain_key_hash: hash(DOMAIN_KEY),
            }),
            Command::AddUser(UserAdded {
                user: UserId::new("admin").unwrap(),
                role: UserRole::Owner,
                password: Some(hash("admin-password")),
            }),
            Command::StartServer(ServerStarted { node: node.clone(), version: "0.1.0".into() }),
            Command::JoinNetwork(NodeJoined {
                node,
                address: "127.0.0.1:3000".into(),
                kind: "server".into(),
                capabilities: ["mxf", "aiwm", "hive", "open-agi", "megabot"].map(String::from).into(),
            }),
        ];
        for command in begin {
            world.system(&Principal::System, command).unwrap();
        }
        Self { world, clients: BTreeMap::new(), requests: 0 }
    }

    /// The names that every transcript can use.
    pub fn introduce(&self, names: &mut Names) {
        names.set("domain_key", DOMAIN_KEY);
        names.set("admin_password", "admin-password");
        names.set("node", "n1");
    }

    /// The names of all clients so far.
    pub fn clients(&self) -> Vec<String> {
        self.clients.keys().cloned().collect()
    }

    /// The connection of a client; `None` if it only makes requests.
    fn socket(&self, name: &str) -> Result<Option<(usize, Transport)>, String> {
        match self.clients.get(name) {
            None => Err(format!("{name} has not come")),
            Some(Client::Requests { .. }) => Ok(None),
            Some(Client::Socket { link, .. }) if self.world.is_over(*link) => Err(format!("{name} is gone")),
            Some(Client::Socket { link, transport }) => Ok(Some((*link, *transport))),
        }
    }

    /// Whether a client has a connection that is not over.
    #[allow(dead_code, reason = "the transcripts do not ask; what is fuzzed does")]
    pub fn is_here(&self, name: &str) -> bool {
        matches!(self.socket(name), Ok(Some(_)))
    }

    /// Whether it is settled who a client is.
    #[allow(dead_code, reason = "the transcripts do not ask; what is fuzzed does")]
    pub fn is_known(&self, name: &str) -> bool {
        matches!(self.socket(name), Ok(Some((link, _))) if self.world.links[link].who.is_some())
    }

    fn queue(&mut self, name: &str) -> Option<&mut VecDeque<Got>> {
        match self.clients.get_mut(name)? {
            Client::Socket { link, .. } => Some(&mut self.world.links[*link].got),
            Client::Requests { got, .. } => Some(got),
        }
    }

    fn says(&mut self, link: usize, text: &str) {
        match text.strip_prefix("binary ").map(frame::bytes_of) {
            Some(Ok(bytes)) => self.world.input(link, Input::Binary(&bytes)),
            _ => self.world.input(link, Input::Text(text)),
        }
    }

    fn emits(&mut self, link: usize, text: &str) -> Result<(), String> {
        match frame::packet(text)? {
            frame::Packet::Event { name, args, ack, attachments } => {
                let name = name.as_str();
                let args: Vec<&RawValue> = args.iter().map(|arg| &**arg).collect();
                self.world.input(link, Input::Event { name, args: &args, attachments: &attachments, ack });
            }
            frame::Packet::Answer { number, args, attachments } => {
                let args: Vec<&RawValue> = args.iter().map(|arg| &**arg).collect();
                self.world.input(link, Input::Answer { number, args: &args, attachments: &attachments });
            }
        }
        Ok(())
    }

    fn requests(&mut self, name: &str, text: &str) -> Result<(), String> {
        let Some(Client::Requests { door, .. }) = self.clients.get(name) else { return Ok(()) };
        let (method, rest) = word(text);
        let (target, mut body) = word(rest);
        let (mut authorization, mut api_key) = (door.authorization.clone(), door.api_key.clone());
        let mut channel_key = None;
        while let Some((option, value)) =
            word(body).0.split_once('=').filter(|(name, _)| !name.starts_with(['{', '[']))
        {
            match option {
                "bearer" => authorization = Some(format!("Bearer {value}")),
                "key" => api_key = Some(value.to_owned()),
                "channel-key" => channel_key = value.split_once(':'),
                _ => return Err(format!("`{option}` says nothing about a request")),
            }
            body = word(body).1;
        }
        self.requests += 1;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let request = Request {
            method,
            path,
            query,
            body: body.as_bytes(),
            authorization: authorization.as_deref(),
            api_key: api_key.as_deref(),
            channel_key,
            request_id: &format!("request-{}", self.requests),
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            anonymous: !door.strict,
        };
        let response = super::desk::answer(&mut self.world, door.dialect, &request);
        let response = response.ok_or_else(|| format!("{path} is no path of this dialect"))?;
        let shown = Got::Frame(format!("{} {}", response.status, response.body).trim_end().to_owned());
        if let Some(got) = self.queue(name) {
            got.push_back(shown);
        }
        Ok(())
    }

    fn revoke(&mut self, name: &str, names: &Names) -> Result<(), String> {
        let text = names.get(name).ok_or_else(|| format!("${name} stands for nothing yet"))?;
        let command = match self.world.desk.jti(text) {
            Some((jti, expires_at)) => Command::RevokeToken(TokenRevoked { jti, expires_at, bearer: None }),
            None => {
                let id = text.split(':').next().unwrap_or(text);
                Command::RevokeKey(KeyId::new(id).map_err(|error| error.to_string())?)
            }
        };
        self.ask(&Principal::System, command)
    }

    fn ask(&mut self, actor: &Principal, command: Command) -> Result<(), String> {
        self.world.system(actor, command).map(drop).map_err(|error| error.to_string())
    }
}

impl Theatre for Cast {
    fn set_up(&mut self, what: &SetUp, names: &mut Names) -> Result<(), String> {
        match what {
            SetUp::Ask(wishes) => {
                for wish in SetUp::hashed(wishes, hash) {
                    self.ask(&wish.actor, wish.command)?;
                }
            }
            SetUp::Token { name, family, subject, ttl_s, claims } => {
                let (family, subject, claims) = (*family, subject.clone(), claims.clone());
                let incarnation = operators(&self.world.state, &subject);
                let (workspace, ttl_s) = (workspace(), *ttl_s);
                let order = TokenOrder { family, subject, incarnation, workspace, ttl_s, claims };
                let random = u128::from(self.world.random());
                names.set(name, self.world.desk.issue(&order, self.world.now, random).token);
            }
            SetUp::Key { name, opens, ttl_ms } => {
                let end = ttl_ms.map(|ms| self.world.now.plus(ms));
                let (added, secret) = SetUp::key_added(name, opens, end)?;
                names.set(name, format!("{}:{secret}", added.key));
                names.set(&format!("{name}_id"), added.key.as_str());
                names.set(&format!("{name}_secret"), secret);
                self.ask(&Principal::System, Command::AddKey(added))?;
            }
            SetUp::Revoke(name) => self.revoke(name, names)?,
            SetUp::Full(full) => self.world.full = *full,
        }
        Ok(())
    }

    fn wait(&mut self, ms: i64) -> Result<(), String> {
        self.world.pass(ms);
        Ok(())
    }

    fn open(&mut self, client: &str, door: &Door) -> Result<(), String> {
        if self.clients.contains_key(client) && self.socket(client).is_ok() {
            return Err(format!("{client} is here already"));
        }
        self.world.tick();
        if door.transport == Transport::Http {
            let requests = Client::Requests { door: Box::new(door.clone()), got: VecDeque::new() };
            self.clients.insert(client.to_owned(), requests);
            return Ok(());
        }
        let auth = door.auth.clone().map(RawValue::from_string).transpose();
        let auth = auth.map_err(|error| format!("the auth is not JSON: {error}"))?;
        let opening = Opening {
            connection: ConnectionId(0),
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            anonymous: !door.strict,
            namespace: &door.namespace,
            path: &door.path,
            query: &door.query,
            authorization: door.authorization.as_deref(),
            api_key: door.api_key.as_deref(),
            auth: auth.as_deref(),
            deflate: false,
            random: 0,
        };
        let (session, encode) = session_of(door.dialect);
        let plain = door.transport == Transport::WebSocket;
        let link = self.world.open(session, encode, plain, &opening);
        self.clients.insert(client.to_owned(), Client::Socket { link, transport: door.transport });
        Ok(())
    }

    fn send(&mut self, client: &str, text: &str) -> Result<(), String> {
        self.world.tick();
        match self.socket(client)? {
            None => self.requests(client, text),
            Some((link, Transport::SocketIo)) => self.emits(link, text),
            Some((link, _)) => {
                self.says(link, text);
                Ok(())
            }
        }
    }

    fn leave(&mut self, client: &str) -> Result<(), String> {
        self.world.tick();
        if let Some((link, _)) = self.socket(client)? {
            self.world.leave(link);
        }
        Ok(())
    }

    fn next(&mut self, client: &str) -> Option<Got> {
        self.queue(client)?.pop_front()
    }

    fn left_over(&mut self) -> Option<(String, Got)> {
        let clients = self.clients();
        clients.into_iter().find_map(|client| {
            let got = self.next(&client)?;
            Some((client, got))
        })
    }
}

/// The incarnation of a token that the operator hands out: one for a node counts as approval.
fn operators(state: &State, subject: &Principal) -> Incarnation {
    let incarnation = state.incarnation(subject).unwrap_or_default();
    match subject {
        Principal::Node(_) => Incarnation { born: state.head, ..incarnation },
        _ => incarnation,
    }
}

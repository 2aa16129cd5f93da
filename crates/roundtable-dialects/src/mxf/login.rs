//! Coming in: credentials at the door, late `auth` events, and what a login is answered with (MXF notes §2).

use roundtable_core::agents::{AgentCard, Capability, RegisterAgent};
use roundtable_core::command::Command;
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::ids::{AgentId, Principal, RoomId};
use roundtable_core::json::Json;
use roundtable_core::rooms::JoinRoom;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::encode::shapes;
use super::errors;
use super::wire::fields::{Fields, string};
use super::{Call, MxfSession, Stage, Then, acknowledge, members, send};
use crate::cursor;
use crate::session::{
    Credential, Credentials, Ending, Family, Identity, Opening, Output, Outputs, Proof, Refusal, Scene, Sign,
    bearer, query_value,
};

/// Fields of an auth object that carry a credential.
const CREDENTIALS: [&str; 6] = ["keyId", "secretKey", "accessToken", "token", "username", "password"];

/// One login under way.
#[derive(Debug, Default)]
pub struct Attempt {
    /// The acknowledgement of a late `auth`.
    ack: Option<u64>,
    /// Key credentials, whose failures have a code of their own.
    with_key: bool,
    /// The agent that a key's bearer says to be: it must be the key's.
    agent: Option<String>,
    /// Becomes the agent's.
    capabilities: Vec<String>,
    /// Becomes the agent's.
    allowed_tools: Option<Vec<String>>,
    /// The `cursor` of the last message the client has: what came after it in the channels it is in is sent first.
    since: Option<String>,
    /// What of the credentials tells them from others, without the secret itself.
    mark: String,
}

/// What is found in an opening or a late `auth`.
type Found = (Credentials, Attempt);

/// What the client shows, or the text that refuses its CONNECT.
fn at_the_door(opening: &Opening<'_>) -> Result<Found, &'static str> {
    if let Some(raw) = opening.auth {
        let fields = Fields::payload(Some(raw)).map_err(|_| "Authentication required")?;
        let shown = |name: &&str| fields.raw(name).is_some();
        if CREDENTIALS.iter().any(shown) || domain_key(&fields).is_some() {
            return Ok(from_auth(&fields));
        }
    }
    let header = opening.authorization.map(|header| bearer(header).unwrap_or(header).to_owned());
    let token = header.or_else(|| query_value(opening.query, "token")).filter(|token| !token.is_empty());
    let token = token.ok_or("Domain key required for SDK connection")?;
    let attempt =
        Attempt { with_key: token.starts_with("key_") && token.contains(':'), ..Attempt::default() };
    Ok((Credentials { domain_key: None, proof: Proof::Bearer(Family::Mxf, token) }, attempt))
}

/// The domain key; one that is no string is none that anybody has.
fn domain_key(fields: &Fields<'_>) -> Option<String> {
    let raw = fields.raw("domainKey")?;
    let text = string(raw).map_or_else(|| raw.get().to_owned(), std::borrow::Cow::into_owned);
    (!text.is_empty()).then_some(text)
}

/// The credential of an auth object: the first kind present decides, and fails if a part is missing or no string.
fn from_auth(fields: &Fields<'_>) -> Found {
    let text = |name: &str| fields.raw(name).map(|raw| string(raw).map(std::borrow::Cow::into_owned));
    let present = |name: &str| fields.raw(name).is_some();
    let with_key = present("keyId") || present("secretKey");
    let proof = if with_key {
        let (key_id, secret) = (text("keyId").flatten(), text("secretKey").flatten());
        key_id.zip(secret).map(|(key_id, secret)| Proof::ChannelKey { key_id, secret })
    } else if let Some(token) = text("accessToken") {
        token.map(Proof::ApiKey)
    } else if let Some(token) = text("token") {
        token.map(|token| Proof::Token(Family::Mxf, token))
    } else {
        let (username, password) = (text("username").flatten(), text("password").flatten());
        username.zip(password).map(|(username, password)| Proof::Password { username, password })
    };
    let attempt = Attempt {
        ack: None,
        with_key,
        agent: fields.raw("agentId").map(|raw| string(raw).unwrap_or_default().into_owned()),
        capabilities: fields.strings("capabilities").ok().flatten().unwrap_or_default(),
        allowed_tools: fields.strings("allowedTools").ok().flatten(),
        // The number of a watched frame may stand without quotes.
        since: fields.loose("since").or_else(|| fields.raw("since").map(|raw| raw.get().to_owned())),
        mark: String::new(),
    };
    // No credential at all is an empty token: the domain key is looked at all the same, and nobody has issued it.
    let proof = proof.unwrap_or_else(|| Proof::Token(Family::Mxf, String::new()));
    (Credentials { domain_key: domain_key(fields), proof }, attempt)
}

/// Tells credentials from others; the same however they are shown.
fn mark_of(credentials: &Credentials, random: u128) -> String {
    let secret = match &credentials.proof {
        Proof::Token(_, text) | Proof::Bearer(_, text) | Proof::ApiKey(text) => text.clone(),
        Proof::ChannelKey { key_id, secret } => format!("{key_id}:{secret}"),
        // Two workspaces may know the same name.
        Proof::Password { username, password } => {
            format!("{:?} {username:?} {password:?}", credentials.domain_key)
        }
        // Nobody comes in here by these.
        Proof::AgentSecret { .. } | Proof::Guest(_) => String::new(),
    };
    shapes::uuid(&random.to_be_bytes(), secret.as_bytes())
}

impl MxfSession {
    /// A CONNECT: refused at once, or its credentials are checked before it is answered.
    pub(super) fn knock(&mut self, opening: &Opening<'_>, out: &mut Outputs) {
        match at_the_door(opening) {
            Ok((credentials, attempt)) => self.check(credentials, attempt, out),
            Err(text) => out.push(Output::Refuse { message: text.into(), data: None }),
        }
    }

    fn check(&mut self, credentials: Credentials, attempt: Attempt, out: &mut Outputs) {
        let mark = mark_of(&credentials, self.random);
        self.stage = Stage::Checking(Box::new(Attempt { mark, ..attempt }));
        out.push(Output::Authenticate(credentials));
    }

    /// A late `auth` event: a new attempt, unless one is under way. Once one has succeeded the same credentials get the same
    /// answer, and others are refused: a socket stays who it is.
    pub(super) fn late_auth(
        &mut self,
        payload: Option<&RawValue>,
        ack: Option<u64>,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) {
        match &self.stage {
            Stage::Inside if !self.came_in_by(payload) => {
                let message = format!("This socket is already authenticated as {}", self.principal().id());
                let error = Error::new(ErrorKind::Unauthenticated, message);
                self.refuse(Call { event: "auth", ack }, &error, scene, out);
                return;
            }
            Stage::Inside => {
                let answer = self.greeting(scene);
                send("auth:success", &answer, out);
                acknowledge(ack, answer, out);
                return;
            }
            Stage::Checking(_) | Stage::Entering(_) => {
                let error = Error::new(ErrorKind::Unauthenticated, "Another login is under way");
                self.refuse(Call { event: "auth", ack }, &error, scene, out);
                return;
            }
            Stage::Outside => {}
        }
        match Fields::payload(payload) {
            Ok(fields) => {
                let (credentials, attempt) = from_auth(&fields);
                self.check(credentials, Attempt { ack, ..attempt }, out);
            }
            Err(_) => self.failed(Attempt { ack, ..Attempt::default() }, Refusal::Missing, scene, out),
        }
    }

    /// Whether an auth object shows what this socket came in by, and says to be nobody else.
    fn came_in_by(&self, payload: Option<&RawValue>) -> bool {
        let Ok(fields) = Fields::payload(payload) else { return false };
        let (credentials, attempt) = from_auth(&fields);
        let who = self.principal();
        let same = |claim: &str| who.agent().is_none_or(|agent| agent.as_str() == claim);
        mark_of(&credentials, self.random) == self.mark && attempt.agent.as_deref().is_none_or(same)
    }

    /// The answer to the check.
    pub(super) fn checked(&mut self, who: Result<&Identity, Refusal>, scene: Scene<'_>, out: &mut Outputs) {
        let Stage::Checking(attempt) = std::mem::replace(&mut self.stage, Stage::Outside) else { return };
        self.came_after = scene.state.head;
        let identity = match who {
            Ok(identity) => identity,
            Err(refusal) => {
                match errors::of_connect(refusal).filter(|_| !self.accepted) {
                    Some(text) => out.push(Output::Refuse { message: text.into(), data: None }),
                    None => self.failed(*attempt, refusal, scene, out),
                }
                return;
            }
        };
        let claimed = |agent: &AgentId| attempt.agent.as_deref().is_none_or(|claim| claim == agent.as_str());
        match &identity.principal {
            Principal::Agent(agent) if claimed(agent) => {
                self.who = Some(identity.clone());
                self.prepare_agent(&agent.clone(), &attempt, scene, out);
            }
            Principal::User(_) => self.who = Some(identity.clone()),
            Principal::Agent(_) => {
                out.push(Output::Notice(Sign::Impersonation));
                self.failed(*attempt, Refusal::Invalid, scene, out);
                return;
            }
            Principal::Guest(_) | Principal::Visitor(_) | Principal::Node(_) | Principal::System => {
                self.failed(*attempt, Refusal::Invalid, scene, out);
                return;
            }
        }
        self.ask_last_step(scene, out);
        self.stage = Stage::Entering(attempt);
    }

    /// A key's agent is known and has what its login says before it hears of its success.
    fn prepare_agent(&mut self, agent: &AgentId, attempt: &Attempt, scene: Scene<'_>, out: &mut Outputs) {
        let known = scene.state.agent(agent);
        if known.is_none() || !attempt.capabilities.is_empty() || attempt.allowed_tools.is_some() {
            let tools = attempt.allowed_tools.as_ref();
            let card = AgentCard {
                name: known.map_or(agent.as_str(), |known| &known.card.name).to_owned(),
                capabilities: attempt.capabilities.iter().map(|name| Capability::named(name)).collect(),
                metadata: tools.map_or_else(Json::default, |tools| Json::of(&json!({"allowedTools": tools}))),
                ..AgentCard::default()
            };
            let command = Command::RegisterAgent(RegisterAgent { agent: agent.clone(), card });
            self.ask(command, (Call::NONE, Then::Step), out);
        }
    }

    /// The key's channel, if its agent left it or was taken out: the key does not undo that (MXF notes §3).
    fn left_channel(&self, scene: Scene<'_>) -> Option<RoomId> {
        let (who, room) = (self.principal(), self.key_room()?);
        let gone = who.agent().is_some_and(|id| scene.state.room(&room).is_some_and(|r| r.bars_keys_of(id)));
        gone.then_some(room)
    }

    /// Presence, then the key's channel: who is there hears of an agent that is here.
    fn ask_last_step(&mut self, scene: Scene<'_>, out: &mut Outputs) {
        let Some(room) = self.key_room().filter(|_| self.left_channel(scene).is_none()) else {
            self.ask(Command::ConnectForDirect, (Call::NONE, Then::Login), out);
            return;
        };
        self.ask(Command::ConnectForDirect, (Call::NONE, Then::Step), out);
        let join = JoinRoom { room, member: self.principal(), create: None, by_key: true };
        self.ask(Command::JoinRoom(join), (Call::NONE, Then::Login), out);
    }

    /// The channel that the key names.
    pub(super) fn key_room(&self) -> Option<RoomId> {
        match self.who.as_ref().map(|who| &who.credential) {
            Some(Credential::ChannelKey(_, room)) => Some(room.clone()),
            _ => None,
        }
    }

    /// Everything is prepared, or could not be. Where only the key's channel cannot be entered, its agent is no member and
    /// hears why.
    pub(super) fn entered(
        &mut self,
        (result, outside): (Result<(), Error>, Option<Error>),
        scene: Scene<'_>,
        out: &mut Outputs,
    ) {
        let Stage::Entering(attempt) = std::mem::replace(&mut self.stage, Stage::Outside) else { return };
        if let Err(error) = result {
            self.ask(Command::Disconnect, (Call::NONE, Then::Nothing), out);
            self.who = None;
            let refusal = if error.kind == ErrorKind::Suspended { Refusal::Suspended } else { Refusal::Gone };
            self.failed(*attempt, refusal, scene, out);
            return;
        }
        self.stage = Stage::Inside;
        self.mark.clone_from(&attempt.mark);
        self.since = attempt.since.as_deref().and_then(|since| cursor::read(since, scene.epoch));
        self.accept(out);
        let answer = self.greeting(scene);
        send("auth:success", &answer, out);
        acknowledge(attempt.ack, answer, out);
        let who = self.principal();
        if let Some(agent) = who.agent() {
            self.announce(agent, scene, out);
        }
        if attempt.since.is_some() && self.since.is_none() {
            let error = Error::invalid("since", "must be the cursor of a message");
            self.refuse(Call { event: "auth", ack: None }, &error, scene, out);
        }
        self.listen(&who, scene, out);
        let left = |room| Error::forbidden(format!("{} is not in channel {room} any more", who.id()));
        if let Some(error) = outside.or_else(|| self.left_channel(scene).map(left)) {
            self.refuse(Call { event: "channel:join", ack: None }, &error, scene, out);
        }
    }

    fn accept(&mut self, out: &mut Outputs) {
        if !std::mem::replace(&mut self.accepted, true) {
            out.push(Output::Accept);
        }
    }

    /// The fields of `auth:success`.
    fn greeting(&self, scene: Scene<'_>) -> Map<String, Value> {
        let who = self.principal();
        let kind = match self.who.as_ref().map(|who| &who.credential) {
            Some(Credential::Token { .. }) => "jwt",
            Some(Credential::ApiKey(_)) => "pat",
            Some(Credential::ChannelKey(..)) => "key",
            _ => "password",
        };
        if who.agent().is_none() {
            return members(json!({"userId": who.id(), "username": who.id(), "authType": kind}));
        }
        let room = self.key_room();
        let room = room.as_ref().and_then(|id| scene.state.room(id));
        members(json!({
            "agentId": who.id(),
            "channelId": room.map(|room| room.id.as_str()),
            "authType": kind,
            "channelConfig": room.map(shapes::channel_config),
            "activeAgents": room.map_or_else(Vec::new, |room| shapes::active_agents(scene.state, room)),
        }))
    }

    /// `agent:registered` and `agent:connected` right after a key's login.
    fn announce(&mut self, agent: &AgentId, scene: Scene<'_>, out: &mut Outputs) {
        let room = self.key_room();
        let channel = room.as_ref().map_or(shapes::NOWHERE, RoomId::as_str);
        self.registered(agent, channel, scene, out);
        let data = json!({"agentId": agent.as_str(), "socketId": self.socket_id(), "timestamp": scene.at.0});
        let event = self.superset("agent:connected", Some((agent.as_str(), channel)), scene.at);
        out.push(Output::Send(event.message(&Map::new(), &members(data))));
    }

    /// `agent:registered`, with everything both sub-dialects look for.
    pub(super) fn registered(&mut self, agent: &AgentId, channel: &str, scene: Scene<'_>, out: &mut Outputs) {
        let mut fields = scene.state.agent(agent).map(shapes::agent).unwrap_or_default();
        fields.insert("status".into(), "registered".into());
        let mut data = fields.clone();
        data.insert("channelId".into(), channel.into());
        data.insert("socketId".into(), self.socket_id().into());
        data.insert("timestamp".into(), scene.at.0.into());
        let event = self.superset("agent:registered", Some((agent.as_str(), channel)), scene.at);
        out.push(Output::Send(event.message(&fields, &data)));
    }

    /// A login failed. The socket stays open for another try.
    fn failed(&mut self, attempt: Attempt, refusal: Refusal, scene: Scene<'_>, out: &mut Outputs) {
        let first = !self.accepted;
        self.accept(out);
        let error = errors::of_refusal(refusal, attempt.with_key);
        let mut told = json!({"error": error.message, "timestamp": scene.at.0});
        if let (Some(wait), Some(fields)) = (error.retry_after_ms, told.as_object_mut()) {
            fields.insert("retryAfterMs".into(), wait.into());
        }
        send("auth:error", &told, out);
        self.refuse(Call { event: "auth", ack: attempt.ack }, &error, scene, out);
        if first {
            out.push(Output::WakeAt(scene.now.plus(self.settings.login_ms)));
        }
    }

    /// The time for a login is over.
    pub(super) fn kick_idler(&self, out: &mut Outputs) {
        if !matches!(self.stage, Stage::Inside | Stage::Entering(_)) {
            out.push(Output::End(Ending::Close(1008, "no login in time".into())));
        }
    }
}

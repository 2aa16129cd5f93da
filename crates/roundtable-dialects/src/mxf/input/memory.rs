//! Memory and tool lists: what can be asked for is answered, in both sub-dialects. Nothing is kept and no tool is registered,
//! so the answers are empty (MXF notes §5, §9).

use roundtable_core::access::{is_inside, may_act_as};
use roundtable_core::command::Command;
use roundtable_core::error::{Error, ErrorKind};
use roundtable_core::ids::{AgentId, Principal, RoomId};
use roundtable_core::rooms::visible;
use roundtable_core::state::State;
use roundtable_core::time::Time;
use serde_json::{Map, Value, json};

use super::super::encode::shapes::{self, iso};
use super::super::wire::envelope::Envelope;
use super::super::wire::fields::{Fields, string};
use super::super::{errors, members};
use super::{Call, MxfSession, Output, Outputs, Scene, Then, acknowledge, send};

/// Whose memory is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// An agent.
    Agent,
    /// A channel.
    Channel,
    /// Two agents.
    Relationship,
}

/// The owners by their names.
const OWNERS: [(&str, Owner); 3] =
    [("agent", Owner::Agent), ("channel", Owner::Channel), ("relationship", Owner::Relationship)];

/// What is asked for: the memory, or one entry of it.
#[derive(Debug)]
pub struct Recall {
    owner: Owner,
    /// Whose, as the client wrote it.
    target: Value,
    /// One id, or the two of a relationship.
    ids: Vec<String>,
    key: Option<String>,
    /// The SDK's request, if it is one.
    sdk: Option<Request>,
}

/// What the SDK calls a request, and whom its answer is about.
#[derive(Debug)]
struct Request {
    operation: Value,
    agent: String,
    channel: String,
}

impl Recall {
    fn read(fields: &Fields<'_>, target: &'static str) -> Result<Self, Error> {
        let owner = fields.one_of("scope", &OWNERS)?.ok_or_else(|| fields.wrong("scope", "is required"))?;
        let raw = fields.required(target)?;
        let ids: Vec<String> = match string(raw) {
            Some(text) if owner == Owner::Relationship => text.split([':', ',']).map(str::to_owned).collect(),
            Some(text) => vec![text.into_owned()],
            None => serde_json::from_str(raw.get()).unwrap_or_default(),
        };
        let rule = if owner == Owner::Relationship { "must name two agents" } else { "must be an id" };
        let found = Self::whole(owner, shapes::value(&raw), ids).ok_or_else(|| fields.wrong(target, rule))?;
        Ok(Self { key: fields.words("key")?, ..found })
    }

    /// The whole memory of an owner, or of the two agents of a relationship.
    pub fn of(owner: Owner, ids: &[&str]) -> Result<Self, Error> {
        let target = if let [id] = ids { Value::from(*id) } else { json!(ids) };
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        Self::whole(owner, target, ids).ok_or_else(|| Error::invalid("id", "must be an id"))
    }

    fn whole(owner: Owner, target: Value, ids: Vec<String>) -> Option<Self> {
        let many = if owner == Owner::Relationship { 2 } else { 1 };
        let fits = ids.len() == many && ids.iter().all(|id| RoomId::new(id).is_ok());
        fits.then_some(Self { owner, target, ids, key: None, sdk: None })
    }

    /// The memory, if `who` may read it.
    pub fn memory(&self, who: &Principal, state: &State) -> Result<Value, Error> {
        self.since(who, state).map(|since| self.empty(since))
    }

    /// Since when there is such a memory. Fails unless `who` may read it: an agent's own, its channels', and what it has
    /// with another agent; a user those of its agents.
    fn since(&self, who: &Principal, state: &State) -> Result<Time, Error> {
        let forbidden = || Error::forbidden("this memory may not be read here");
        if self.owner == Owner::Channel {
            let id = self.ids.first().map(String::as_str).unwrap_or_default();
            let room = visible(state, &RoomId::new(id)?, who)?;
            return if is_inside(state, room, who) { Ok(room.created_at) } else { Err(forbidden()) };
        }
        let mut since = Time(0);
        let mut own = false;
        for id in &self.ids {
            let id = AgentId::new(id)?;
            let unknown = || Error::new(ErrorKind::AgentNotFound, format!("there is no agent {id}"));
            since = since.max(state.agent(&id).ok_or_else(unknown)?.created_at);
            own |= may_act_as(state, who, &Principal::Agent(id.clone())).is_ok();
        }
        if own { Ok(since) } else { Err(forbidden()) }
    }

    /// The memory in the SDK's shape, with nothing in it.
    fn empty(&self, since: Time) -> Value {
        let mut memory = Map::new();
        memory.insert("id".into(), self.target.clone());
        let names: &[&str] = match self.owner {
            Owner::Agent => &["agentId"],
            Owner::Channel => &["channelId"],
            Owner::Relationship => &["agentId1", "agentId2"],
        };
        memory.extend(names.iter().zip(&self.ids).map(|(name, id)| ((*name).to_owned(), id.as_str().into())));
        let rest = json!({
            "persistenceLevel": "temporary", "notes": {}, "conversationHistory": [], "customData": {},
            "createdAt": iso(since), "updatedAt": iso(since),
        });
        memory.extend(members(rest));
        Value::Object(memory)
    }

    fn scope(&self) -> &'static str {
        OWNERS.iter().find(|(_, owner)| *owner == self.owner).map_or("", |(name, _)| name)
    }
}

impl MxfSession {
    /// `memory:get` of the document.
    pub(super) fn recall(&mut self, call: Call, fields: &Fields<'_>, out: &mut Outputs) -> Result<(), Error> {
        let wish = Recall::read(fields, "targetId")?;
        self.look_up(call, wish, out);
        Ok(())
    }

    /// Asked after everything that came before, and counted.
    fn look_up(&mut self, call: Call, wish: Recall, out: &mut Outputs) {
        let mut ask = self.question(None, Command::Look, (call, Then::Recalled { wish: Box::new(wish) }));
        ask.budget = self.memory_budget();
        out.push(Output::Ask(ask));
    }

    /// The answer to `memory:get`: `memory:data`, or `memory:get:result` to the SDK.
    pub(in super::super) fn has_recalled(
        &mut self,
        call: Call,
        wish: &Recall,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) {
        let since = match wish.since(&self.principal(), scene.state) {
            Ok(since) => since,
            Err(error) => {
                self.cannot_recall(wish, &error, (scene, out));
                return self.refuse(call, &error, scene, out);
            }
        };
        let Some(request) = &wish.sdk else {
            let scope = wish.scope();
            let data = json!({"scope": scope, "targetId": wish.target, "key": wish.key, "entries": []});
            send("memory:data", &data, out);
            return acknowledge(call.ack, members(json!({"entries": []})), out);
        };
        let data = json!({
            "operationId": request.operation, "scope": wish.scope(), "id": wish.target, "memory": wish.empty(since),
        });
        let about = (request.agent.as_str(), request.channel.as_str());
        out.push(self.envelope("memory:get:result", about, data.clone(), scene));
        acknowledge(call.ack, members(data), out);
    }

    /// The SDK waits for an event of its own when a request fails.
    pub(in super::super) fn cannot_recall(
        &mut self,
        wish: &Recall,
        error: &Error,
        (scene, out): (Scene<'_>, &mut Outputs),
    ) {
        let Some(request) = &wish.sdk else { return };
        let data = json!({
            "operationId": request.operation, "scope": wish.scope(), "id": wish.target,
            "error": errors::message(error),
        });
        let about = (request.agent.as_str(), request.channel.as_str());
        out.push(self.envelope("memory:get:error", about, data, scene));
    }

    /// `memory:get`, `memory:update` and `memory:delete` of the SDK. Nothing is taken into a memory.
    pub(super) fn memory(
        &mut self,
        call: Call,
        envelope: &Envelope<'_>,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) -> Result<(), Error> {
        let fields = envelope.fields()?;
        let raw = |name| fields.raw(name).map_or(Value::Null, |raw| shapes::value(&raw));
        let (operation, (agent, channel)) = (raw("operationId"), known(envelope));
        let (name, error) = match call.event {
            "memory:get" => match (Recall::read(&fields, "id"), self.claimed(envelope, scene)) {
                (Ok(wish), Some(_)) => {
                    let sdk = Some(Request { operation, agent, channel });
                    self.look_up(call, Recall { sdk, ..wish }, out);
                    return Ok(());
                }
                (Err(error), _) => ("memory:get:error", error),
                (Ok(_), None) => ("memory:get:error", Error::forbidden("this memory may not be read here")),
            },
            "memory:update" => ("memory:update:error", not_kept()),
            _ => ("memory:delete:error", not_kept()),
        };
        let message = errors::message(&error);
        let data =
            json!({"operationId": operation, "scope": raw("scope"), "id": raw("id"), "error": message});
        out.push(self.envelope(name, (&agent, &channel), data, scene));
        Err(error)
    }

    /// `mcp:tool:list` of the document.
    pub(super) fn list_no_tools(call: Call, fields: &Fields<'_>, out: &mut Outputs) -> Result<(), Error> {
        fields.words("category")?;
        fields.words("provider")?;
        let none: [Value; 0] = [];
        send("mcp:tool:list:response", &none, out);
        acknowledge(call.ack, members(json!({"tools": none})), out);
        Ok(())
    }

    /// `mxf:tool:list` and `mcp:tool:list` of the SDK.
    pub(super) fn list_tools(
        &mut self,
        call: Call,
        envelope: &Envelope<'_>,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) -> Result<(), Error> {
        let request = envelope.fields()?.loose("requestId");
        let own = call.event == "mxf:tool:list";
        let name = if own { "mxf:tool:list:result" } else { "mcp:tool:list:result" };
        let data = json!({"requestId": request, "tools": [], "count": 0});
        let (agent, channel) = known(envelope);
        out.push(self.envelope(name, (&agent, &channel), data.clone(), scene));
        acknowledge(call.ack, members(data), out);
        Ok(())
    }
}

fn not_kept() -> Error {
    Error::new(ErrorKind::InvalidField, "Memory is not kept here")
}

/// Agent and channel of an envelope, never empty.
fn known(envelope: &Envelope<'_>) -> (String, String) {
    let text = |text: &str| if text.is_empty() { shapes::NOWHERE.to_owned() } else { text.to_owned() };
    (text(&envelope.agent), text(&envelope.channel))
}

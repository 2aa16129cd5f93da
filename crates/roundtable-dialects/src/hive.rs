//! Hive: dashboards watch agents, figures and alerts, and steer agents.
//!
//! Follows `protocols/hive.md`. Every connection gets every event, numbered by its place in the log, so that a number never
//! falls, not over reconnects and not over restarts. The first frame is the state of the whole; at an interval it comes
//! again, for all from one record. Who shows no credential on a loopback listener may do everything.

use std::collections::BTreeMap;
use std::sync::Arc;

use roundtable_core::access;
use roundtable_core::agents::RegisterAgent;
use roundtable_core::command::Command;
use roundtable_core::delivery::{Delivery, Item, Topic};
use roundtable_core::engine::Outcome;
use roundtable_core::error::Error;
use roundtable_core::event::Event;
use roundtable_core::feeds::Feed;
use roundtable_core::ids::{AgentId, ConnectionId, Principal};
use roundtable_core::time::{Cursor, Time};
use serde_json::{Map, Value, json};

pub use encode::encode;
use encode::{FORM, lists, status};
use errors::Fault;
use input::{ClientFrame, Wish};
use reply::{Draft, Numbers, Turn};
use wire::number_of;

use crate::cursor::{self, NUMBERS_PER_RECORD};
use crate::iso::iso;
use crate::session::{
    Ask, Budget, Credentials, Ending, Family, Identity, Input, Opening, Output, Outputs, Proof, Refusal,
    Route, Scene, Session, Sign, Token, bearer, query_value,
};

pub mod encode;
pub mod errors;
pub mod input;
pub mod reply;
pub mod rest;
pub mod wire;

/// What an operator may set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How often the status goes to every dashboard, in milliseconds. The server marks the activity feed that often while
    /// there are dashboards (Hive notes §4).
    pub status_interval_ms: i64,
    /// How often the lists go to connections of the older front-end, in milliseconds (Hive notes §5).
    pub lists_interval_ms: i64,
    /// After a change the lists go at most this often, in milliseconds (Hive notes §5).
    pub lists_pause_ms: i64,
    /// Agents that one principal may make in a minute; nobody counts on loopback listeners (Hive notes §9).
    pub agents_per_minute: Option<u32>,
    /// Requests for the status of one principal in a minute; nobody counts on loopback listeners (Hive notes §9).
    pub status_per_minute: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            status_interval_ms: 10_000,
            lists_interval_ms: 5_000,
            lists_pause_ms: 1_000,
            agents_per_minute: Some(10),
            status_per_minute: Some(60),
        }
    }
}

/// The close code for a refused credential.
const POLICY: u16 = 1008;
/// The close code for a client that asks more than can be answered.
const TRY_AGAIN_LATER: u16 = 1013;
const MINUTE_MS: u32 = 60_000;

/// Presence: nobody waits for the answer.
const SILENT: Token = Token(0);
/// The first position in the log.
const FIRST: Token = Token(1);
/// Another one, when the numbers of the last are used up.
const MORE: Token = Token(2);
/// Where the tokens of requests begin.
const REQUESTS: u32 = 16;

/// What the client asked of the engine.
enum Asked {
    Agent(AgentId),
    Status,
    Alert,
}

/// The lists of the older front-end.
struct Lists {
    sent_at: Time,
    changed: bool,
}

/// One connection.
pub struct HiveSession {
    settings: Arc<Settings>,
    connection: ConnectionId,
    random: u128,
    /// Nobody counts what this connection asks for.
    at_home: bool,
    who: Option<Principal>,
    over: bool,
    since: Option<String>,
    numbers: Numbers,
    /// The events it wants; all with `None`.
    filter: Option<Vec<String>>,
    requests: u32,
    asked: BTreeMap<Token, (Asked, Option<String>)>,
    /// Agents that it is making, with what it calls its request.
    making: BTreeMap<AgentId, Option<String>>,
    lists: Option<Lists>,
}

impl HiveSession {
    /// A connection that has not been opened.
    pub fn new(settings: Arc<Settings>) -> Self {
        Self {
            settings,
            connection: ConnectionId(0),
            random: 0,
            at_home: false,
            who: None,
            over: false,
            since: None,
            numbers: Numbers::default(),
            filter: None,
            requests: 0,
            asked: BTreeMap::new(),
            making: BTreeMap::new(),
            lists: None,
        }
    }

    fn is_somebody(&self) -> bool {
        self.who.as_ref().is_some_and(|who| !matches!(who, Principal::Guest(_)))
    }

    fn wants(&self, name: &str) -> bool {
        self.filter.as_ref().is_none_or(|names| names.iter().any(|wanted| wanted == name))
    }

    /// Sends an answer, or lets it wait for a number.
    fn answer(&mut self, draft: &Draft, scene: Scene<'_>, out: &mut Outputs) {
        if self.over {
            return;
        }
        match self.numbers.turn(draft) {
            Turn::Send(number) => out.push(Output::Send(draft.message(self.connection, number, scene))),
            Turn::Wait(true) => out.push(Output::Ask(Ask::new(MORE, Command::Mark(Feed::Activity, false)))),
            Turn::Wait(false) => {}
            Turn::Refuse => self.cut("Too many requests wait for an answer", out),
        }
    }

    fn cut(&mut self, reason: &str, out: &mut Outputs) {
        self.over = true;
        out.push(Output::End(Ending::Close(TRY_AGAIN_LATER, reason.into())));
    }

    fn answer_held(&mut self, scene: Scene<'_>, out: &mut Outputs) {
        for draft in self.numbers.take_held() {
            self.answer(&draft, scene, out);
        }
    }

    /// The first frame, and everything from there on.
    fn begin(&mut self, first: u64, from: Option<Cursor>, scene: Scene<'_>, out: &mut Outputs) {
        self.numbers.begin(first);
        let draft = Draft::new("hive_status_update", status::data(scene, scene.at));
        out.push(Output::Send(draft.message(self.connection, first, scene)));
        out.push(Output::Subscribe(Topic::Feed(Feed::Activity), from));
        self.answer_held(scene, out);
    }

    /// Goes on after the last number of an earlier connection; at the present, with an error, if that is no place or one the
    /// log has not come to: a client that is ahead has watched a log that was put back since.
    fn resume(&mut self, since: &str, scene: Scene<'_>, out: &mut Outputs) {
        let Some(from) = cursor::read(since, scene.epoch) else {
            return self.begin_now(Some(&Draft::error(&Fault::since(since))), scene, out);
        };
        let number = since.parse::<u64>();
        if from.epoch > scene.epoch || from.offset > scene.state.head {
            let since = number.map_or_else(|_| from.to_string().into(), Value::from);
            let error = Draft::ahead(&since, number_of(scene.state.head));
            return self.begin_now(Some(&error), scene, out);
        }
        // A cursor stands for all that was told before the next record.
        let since = number.unwrap_or_else(|_| number_of(from.offset.next()).saturating_sub(1));
        // The number after `since`, unless that already belongs to the next event.
        let next = since.saturating_add(1);
        let first = if next.is_multiple_of(NUMBERS_PER_RECORD) { since } else { next };
        self.begin(first, Some(from), scene, out);
    }

    /// Begins at the present: the log is asked for the first number, and `error` is told after the first frame.
    fn begin_now(&mut self, error: Option<&Draft>, scene: Scene<'_>, out: &mut Outputs) {
        self.numbers.expect();
        if let Some(error) = error {
            self.answer(error, scene, out);
        }
        out.push(Output::Ask(Ask::new(FIRST, Command::Mark(Feed::Activity, false))));
    }

    fn refuse(&mut self, refusal: Refusal, scene: Scene<'_>, out: &mut Outputs) {
        let fault = Fault::from(refusal);
        // No position in the log is taken for somebody unknown: the highest number that needs none.
        let number = number_of(scene.state.head) + NUMBERS_PER_RECORD - 1;
        out.push(Output::Send(Draft::error(&fault).message(self.connection, number, scene)));
        out.push(Output::End(Ending::Close(POLICY, fault.message)));
        self.over = true;
    }

    /// Asks the engine on behalf of the client.
    fn request(&mut self, what: Asked, correlation: Option<String>, ask: Ask, out: &mut Outputs) {
        let token = Token(REQUESTS + self.requests % (u32::MAX - REQUESTS));
        self.requests = self.requests.wrapping_add(1);
        self.asked.insert(token, (what, correlation));
        out.push(Output::Ask(Ask { token, ..ask }));
    }

    fn budget(&self, class: &'static str, most: Option<u32>) -> Option<Budget> {
        most.filter(|_| !self.at_home).map(|most| Budget { class, most, window_ms: MINUTE_MS })
    }

    fn obey(&mut self, frame: ClientFrame, scene: Scene<'_>, out: &mut Outputs) {
        let correlation = frame.correlation;
        match frame.wish {
            Wish::Ping(None) | Wish::Test => {}
            Wish::Ping(Some(number)) => {
                let pong = Draft::pong(number, json!({"timestamp": iso(scene.at)}));
                self.answer(&pong.to(correlation), scene, out);
            }
            Wish::Status => {
                let budget = self.budget("hive.status", self.settings.status_per_minute);
                let ask = Ask { budget, ..Ask::new(SILENT, Command::Look) };
                self.request(Asked::Status, correlation, ask, out);
            }
            Wish::CreateAgent(posted) => self.create_agent(&posted, correlation, scene, out),
            Wish::Acknowledge(alert) => {
                let ask = Ask::new(SILENT, Command::AcknowledgeAlert(alert));
                self.request(Asked::Alert, correlation, ask, out);
            }
            Wish::Filter(names) => {
                let shown = names.clone().unwrap_or_else(|| vec!["*".into()]);
                self.filter = names;
                let draft = Draft::new("subscribed", json!({"events": shown}));
                self.answer(&draft.to(correlation), scene, out);
            }
        }
    }

    fn create_agent(
        &mut self,
        posted: &Map<String, Value>,
        correlation: Option<String>,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) {
        let may = self.who.as_ref().is_some_and(|who| access::may_run_agents(scene.state, who));
        let unnamed = |kind: &str| format!("{kind}-{}", scene.state.agents().len() + 1);
        let read = if may {
            wire::agent_card(posted, Some(&unnamed)).map_err(Fault::fields)
        } else {
            Err(Fault::read_only())
        };
        let number = self.requests.to_be_bytes();
        let id = wire::uuid("agent", &[&self.random.to_be_bytes(), &number]);
        match (read, AgentId::new(&id)) {
            (Ok(card), Ok(agent)) => {
                self.making.insert(agent.clone(), correlation.clone());
                let command = Command::HostAgent(RegisterAgent { agent: agent.clone(), card });
                let budget = self.budget("hive.agents", self.settings.agents_per_minute);
                let ask = Ask { budget, ..Ask::new(SILENT, command) };
                self.request(Asked::Agent(agent), correlation, ask, out);
            }
            (Err(fault), _) => self.answer(&Draft::error(&fault).to(correlation), scene, out),
            (Ok(_), Err(error)) => {
                self.answer(&Draft::error(&Fault::from(&error)).to(correlation), scene, out);
            }
        }
    }

    /// The lists go to this connection from now on.
    fn begin_lists(&mut self, scene: Scene<'_>, out: &mut Outputs) {
        if self.lists.is_none() {
            self.send_lists(scene, out);
        }
    }

    fn send_lists(&mut self, scene: Scene<'_>, out: &mut Outputs) {
        for (name, data) in
            [("agents_update", lists::agents(scene.state)), ("metrics_update", lists::figures(scene.state))]
        {
            if self.wants(name) {
                self.answer(&Draft::new(name, data), scene, out);
            }
        }
        self.lists = Some(Lists { sent_at: scene.now, changed: false });
        out.push(Output::WakeAt(scene.now.plus(self.settings.lists_pause_ms)));
    }

    /// The request that was asked under a token has its answer.
    fn settled(
        &mut self,
        token: Token,
        reply: Result<&Outcome, &Error>,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) {
        let Some((asked, correlation)) = self.asked.remove(&token) else { return };
        if let Asked::Agent(agent) = &asked {
            self.making.remove(agent);
        }
        match (reply, asked) {
            (Err(error), _) => {
                self.answer(&Draft::error(&Fault::from(error)).to(correlation), scene, out);
            }
            (Ok(_), Asked::Status) => {
                let draft = Draft::new("hive_status_update", status::data(scene, scene.at));
                self.answer(&draft.to(correlation), scene, out);
            }
            // The new agent was told to all, with the requester's own copy among them.
            (Ok(_), Asked::Agent(_) | Asked::Alert) => {}
        }
    }
}

impl Session for HiveSession {
    fn open(&mut self, opening: &Opening<'_>, scene: Scene<'_>, out: &mut Outputs) {
        (self.connection, self.random, self.at_home) =
            (opening.connection, opening.random, opening.anonymous);
        let value = |name| query_value(opening.query, name).filter(|text| !text.is_empty());
        self.filter = value("events").as_deref().and_then(input::filter_in_query);
        self.since = value("since");
        let login = Family::Login;
        let bearer = opening.authorization.and_then(bearer).map(str::to_owned);
        let proof = value("token")
            .map(|text| Proof::Bearer(login, text))
            .or_else(|| value("api_key").map(Proof::ApiKey))
            .or_else(|| bearer.map(|text| Proof::Bearer(login, text)))
            .or_else(|| opening.api_key.map(|key| Proof::ApiKey(key.to_owned())))
            .or_else(|| opening.anonymous.then_some(Proof::Guest(None)));
        match proof {
            Some(proof) => out.push(Output::Authenticate(Credentials { domain_key: None, proof })),
            None => self.refuse(Refusal::Missing, scene, out),
        }
    }

    fn identified(&mut self, who: Result<&Identity, Refusal>, scene: Scene<'_>, out: &mut Outputs) {
        let identity = match who {
            Ok(identity) => identity,
            Err(refusal) => return self.refuse(refusal, scene, out),
        };
        self.who = Some(identity.principal.clone());
        // A guest that only looks is nobody's presence, and its coming and going shall cost the log nothing.
        if self.is_somebody() {
            out.push(Output::Ask(Ask::new(SILENT, Command::Connect(None))));
        }
        match self.since.take() {
            Some(since) => self.resume(&since, scene, out),
            None => self.begin_now(None, scene, out),
        }
    }

    fn input(&mut self, input: Input<'_>, scene: Scene<'_>, out: &mut Outputs) {
        if self.over || self.who.is_none() {
            return;
        }
        let frame = match input {
            Input::Text(text) => input::decode(text),
            Input::Binary(_) | Input::Event { .. } | Input::Answer { .. } => {
                Err((Fault::format(), None, false))
            }
        };
        let wants_lists = match frame {
            Ok(frame) => {
                let wants = frame.wants_lists;
                self.obey(frame, scene, out);
                wants
            }
            Err((fault, correlation, wants)) => {
                if fault == Fault::format() {
                    out.push(Output::Notice(Sign::Malformed));
                }
                self.answer(&Draft::error(&fault).to(correlation), scene, out);
                wants
            }
        };
        if wants_lists && !self.over {
            self.begin_lists(scene, out);
        }
    }

    fn replied(
        &mut self,
        token: Token,
        reply: Result<&Outcome, &Error>,
        scene: Scene<'_>,
        out: &mut Outputs,
    ) {
        if self.over {
            return;
        }
        let head = scene.state.head;
        match (token, reply) {
            (SILENT, _) => {}
            (FIRST, Ok(_)) => self.begin(number_of(head), None, scene, out),
            // The log takes no writes. A dashboard is needed most then: half of the head's numbers are left to answers
            // on connections that came before.
            (FIRST, Err(_)) => self.begin(number_of(head) + NUMBERS_PER_RECORD / 2, None, scene, out),
            (MORE, Ok(_)) => {
                self.numbers.renew();
                self.answer_held(scene, out);
            }
            (MORE, Err(_)) => self.cut("No number for an answer: the log takes no writes", out),
            _ => self.settled(token, reply, scene, out),
        }
    }

    fn route(&mut self, delivery: &Delivery<'_>, scene: Scene<'_>) -> Route {
        let Item::Record(record) = delivery.item else { return Route::Skip };
        if let (
            Some(lists),
            Event::AgentRegistered(_)
            | Event::AgentUpdated(_)
            | Event::AgentStatusChanged(_)
            | Event::AgentRemoved(_),
        ) = (&mut self.lists, &record.event)
        {
            lists.changed = true;
        }
        let Some(name) = encode::name_of(record).filter(|_| !self.over) else { return Route::Skip };
        if let Event::AgentRegistered(e) = &record.event
            && delivery.origin == Some(self.connection)
            && self.making.contains_key(&e.agent)
        {
            return Route::Own;
        }
        // A report says how things are, not how they were: one that is read back from the log is of no use.
        let stale = name == "hive_status_update"
            && scene.now.since(record.t) > self.settings.status_interval_ms.saturating_mul(2);
        // What was in the log before the first frame is in that frame.
        if stale || !self.wants(name) || !self.numbers.follows(record.offset) {
            return Route::Skip;
        }
        self.numbers.sent(record.offset);
        Route::Shared(FORM)
    }

    fn deliver(&mut self, delivery: &Delivery<'_>, scene: Scene<'_>, out: &mut Outputs) {
        let Item::Record(record) = delivery.item else { return };
        let Event::AgentRegistered(e) = &record.event else { return };
        let correlation = self.making.get(&e.agent).cloned().flatten();
        let Some(mut frame) = encode::frame(record, scene) else { return };
        frame.correlation_id = correlation.as_deref();
        out.push(Output::Send(frame.message()));
        self.numbers.sent(record.offset);
    }

    fn expelled(&mut self, refusal: Refusal, scene: Scene<'_>, out: &mut Outputs) {
        let fault = Fault::from(refusal);
        self.answer(&Draft::error(&fault), scene, out);
        self.over = true;
        out.push(Output::End(Ending::Close(POLICY, fault.message)));
    }

    fn oversized(&mut self, scene: Scene<'_>, out: &mut Outputs) {
        self.answer(&Draft::error(&Fault::new("VALIDATION_ERROR", 413, "Message too large")), scene, out);
        self.over = true;
    }

    fn woken(&mut self, scene: Scene<'_>, out: &mut Outputs) {
        let Some(lists) = self.lists.as_ref().filter(|_| !self.over) else { return };
        if lists.changed || scene.now.since(lists.sent_at) >= self.settings.lists_interval_ms {
            self.send_lists(scene, out);
        } else {
            out.push(Output::WakeAt(scene.now.plus(self.settings.lists_pause_ms)));
        }
    }

    fn cannot_resume(&mut self, _topic: &Topic, first: Cursor, scene: Scene<'_>, out: &mut Outputs) {
        let message = format!("The log goes back to {} only", number_of(first.offset));
        let fault = Fault::new("CANNOT_RESUME", 410, message);
        self.begin_now(Some(&Draft::error(&fault)), scene, out);
    }

    fn closed(&mut self, _scene: Scene<'_>, out: &mut Outputs) {
        self.over = true;
        if self.is_somebody() {
            out.push(Output::Ask(Ask::new(SILENT, Command::Disconnect)));
        }
    }
}

#[cfg(test)]
mod tests;

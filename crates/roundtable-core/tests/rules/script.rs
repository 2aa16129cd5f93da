//! A play in lines: who asks what, and what follows. `actor verb arguments -> events`.
//!
//! An actor is a principal; `user:ann>agent:a` is a user who acts as an agent; `#c1` behind it is the client id of the write,
//! `/7` its connection. An argument `x*300` is 300 times `x`. What follows is a list of events (`kind room details`),
//! of signals (`~typing …`), `! error field`, `repeated` or `nothing`.

use std::collections::BTreeMap;

use roundtable_core::actions::Act;
use roundtable_core::agents::{AgentCard, AgentChanges, Capability, RegisterAgent};
use roundtable_core::alerts::{AlertRaised, Level, SecurityNoticed};
use roundtable_core::cluster::{NodeJoined, NodeKeySet, NodeLeft, ServerStarted};
use roundtable_core::command::Command;
use roundtable_core::components::{FaultNoticed, Health, SetHealth, Severity};
use roundtable_core::engine::{Context, Decision, Outcome, decide};
use roundtable_core::error::Error;
use roundtable_core::event::{Event, Record};
use roundtable_core::holdings::{Ceilings, Counts, Thing};
use roundtable_core::ids::{
    AgentId, AlertId, ClientId, ConnectionId, KeyId, MessageId, NodeId, Principal, RoomId, UserId,
};
use roundtable_core::json::Json;
use roundtable_core::messages::{Content, Delete, Direct, Post};
use roundtable_core::pairs::OpenPair;
use roundtable_core::repeats::{self, Claim, Firsts};
use roundtable_core::rooms::{CreateRoom, EnterOwnRoom, JoinRoom, RoomCard, RoomUpdated};
use roundtable_core::seats::KeepSeat;
use roundtable_core::signal::SignalBody;
use roundtable_core::state::State;
use roundtable_core::thresholds::{Side, Threshold};
use roundtable_core::time::{Offset, Time};
use roundtable_core::users::{
    KeyAdded, KeyFor, TokenNoted, TokenRevoked, UserAdded, UserChanged, WorkspaceCreated,
};
use serde::de::DeserializeOwned;

/// A workspace and its clock.
#[derive(Default)]
pub struct Play {
    pub state: State,
    pub now: i64,
    /// What each client id gave the first time, ever.
    pub firsts: Firsts,
    /// How much there may be of what stays.
    pub ceilings: Ceilings,
    asked: u64,
}

/// Plays the lines in a new workspace, in which `ann` is the owner, `ed` an editor and `vic` a viewer; `a` and `b` are
/// agents of nobody, `c` is one of vic's. Panics at the first line that goes otherwise.
pub fn play(lines: &str) -> Play {
    let mut play = Play { now: 1_000_000, ..Play::default() };
    play.lines(
        "
        system create-workspace home -> workspace.created
        system add-user ann owner -> user.added ann
        system add-user ed editor -> user.added ed
        system add-user vic viewer -> user.added vic
        agent:a register a -> agent.registered a
        agent:b register b -> agent.registered b
        user:vic register c -> agent.registered c
        ",
    );
    play.lines(lines);
    play
}

impl Play {
    /// Plays on from a state at a time.
    pub fn from(state: State, now: i64) -> Self {
        Self { state, now, ..Self::default() }
    }

    /// Plays more lines. `wait MS` moves the clock.
    pub fn lines(&mut self, lines: &str) {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")) {
            if let Some(ms) = line.strip_prefix("wait ") {
                self.now += ms.parse::<i64>().expect("milliseconds");
                continue;
            }
            let (asked, expected) = line.split_once(" -> ").unwrap_or_else(|| panic!("no arrow: {line}"));
            let follows = self.ask(asked);
            assert_eq!(follows, expected.trim(), "{line}");
            assert_holdings(&self.state);
        }
    }

    /// Plays one line and says what followed.
    pub fn ask(&mut self, line: &str) -> String {
        let (ctx, _, decided) = self.decide(line);
        match decided {
            Err(error) => text_of_error(&error),
            Ok(decision) => self.apply(&ctx, decision),
        }
    }

    /// Decides one line and leaves the state as it is.
    pub fn decide(&mut self, line: &str) -> (Context, Command, Result<Decision, Error>) {
        let mut words = line.split_whitespace();
        let (who, verb) = (words.next().expect("an actor"), words.next().expect("a verb"));
        let words: Vec<String> = words.map(expand).collect();
        let (mut ctx, client) = self.context(who);
        let command = command(verb, &Args(&words), &ctx);
        let command = command.unwrap_or_else(|| panic!("cannot be read: {line}"));
        ctx.client = client.map(|id| Claim::of((&ctx.actor, id), &command, &self.firsts));
        let admitted = |decision: Decision| {
            self.ceilings.admit((&self.state, ctx.now), &ctx.actor, &decision).map(|()| decision)
        };
        let decided = decide(&self.state, &command, &ctx).and_then(admitted);
        (ctx, command, decided)
    }

    fn context(&mut self, who: &str) -> (Context, Option<ClientId>) {
        self.asked += 1;
        let (who, client) = split(who, '#');
        let (who, connection) = split(who, '/');
        let (by, actor) = who.split_once('>').unwrap_or((who, who));
        let principal = |text| Principal::parse(text).expect("a principal");
        let context = Context {
            now: Time(self.now),
            at: Time(self.now),
            actor: principal(actor),
            by: principal(by),
            connection: connection.map(|n| ConnectionId(n.parse().expect("a number"))),
            random: self.asked,
            client: None,
        };
        (context, client.map(|text| ClientId::new(text).expect("a client id")))
    }

    fn apply(&mut self, ctx: &Context, decision: Decision) -> String {
        if let Outcome::Repeated(_) = decision.result() {
            assert!(decision.events.is_empty() && decision.signals.is_empty(), "a repeat has no effect");
            return "repeated".into();
        }
        let mut client = repeats::note(&mut self.firsts, &self.state, ctx, &decision);
        let mut follows = Vec::new();
        for (room, event) in decision.events {
            follows.push(text_of_event(room.as_ref(), &event));
            let record = Record {
                offset: self.state.head.next(),
                room_seq: room.as_ref().map(|room| self.state.next_in_room(room)),
                at: ctx.now,
                t: ctx.now,
                actor: ctx.actor.clone(),
                client: client.take(),
                room,
                event,
            };
            let body = record.event.body().expect("a body");
            assert_eq!(Event::read(record.event.kind(), &body).expect("an event"), record.event);
            self.state.apply(&record);
        }
        follows.extend(decision.signals.iter().map(|(room, body)| text_of_signal(room.as_ref(), body)));
        if follows.is_empty() { "nothing".into() } else { follows.join(", ") }
    }
}

/// What is said to be there is there, and nothing else.
pub fn assert_holdings(state: &State) {
    let mut counts = Counts::default();
    for (thing, _) in state.holdings().things() {
        let (there, count) = match thing {
            Thing::Room(id) => (state.room(id).is_some(), &mut counts.rooms),
            Thing::Agent(id) => (state.agent(id).is_some(), &mut counts.agents),
            Thing::Key(id) => (state.key(id).is_some_and(|key| !key.revoked), &mut counts.keys),
            Thing::Token(jti) => (state.noted_token(jti).is_some(), &mut counts.tokens),
            Thing::Revocation(jti) => (state.token_revoked(jti), &mut counts.tokens),
            Thing::Threshold(id) => (state.threshold(id).is_some(), &mut counts.thresholds),
            Thing::Member(room, who) => {
                (state.room(room).is_some_and(|room| room.members.contains_key(who)), &mut counts.members)
            }
        };
        assert!(there, "{thing:?}");
        *count += 1;
    }
    assert_eq!(state.holdings().all(), counts);
    assert_eq!(counts.rooms as usize, state.rooms().len());
    assert_eq!(counts.agents as usize, state.agents().len());
    assert_eq!(counts.keys as usize, state.keys().filter(|key| !key.revoked).count());
    assert_eq!(counts.thresholds as usize, state.thresholds().len());
}

fn split(text: &str, at: char) -> (&str, Option<&str>) {
    // A visitor has a slash in its own name, but no number behind it.
    let number = |back: &str| at == '#' || back.bytes().all(|b| b.is_ascii_digit());
    match text.rsplit_once(at).filter(|(_, back)| number(back)) {
        Some((front, back)) => (front, Some(back)),
        None => (text, None),
    }
}

fn expand(word: &str) -> String {
    match word.rsplit_once('*').map(|(text, n)| (text, n.parse::<usize>())) {
        Some((text, Ok(n))) => match text.split_once('=') {
            Some((key, text)) => format!("{key}={}", text.repeat(n)),
            None => text.repeat(n),
        },
        _ => word.to_owned(),
    }
}

fn text_of_error(error: &Error) -> String {
    let kind = format!("{:?}", error.kind);
    let field = error.field.as_deref().map(|field| format!(" {field}")).unwrap_or_default();
    assert!(!error.message.is_empty());
    format!("! {kind}{field}")
}

fn text_of_event(room: Option<&RoomId>, event: &Event) -> String {
    let details = match event {
        Event::UserAdded(e) => e.user.to_string(),
        Event::UserRemoved(e) => e.user.to_string(),
        Event::AgentRegistered(e) => e.agent.to_string(),
        Event::AgentRemoved(e) => e.agent.to_string(),
        Event::AgentStatusChanged(e) => {
            format!("{} {}>{} {}", e.agent, word_of(&e.old), word_of(&e.new), e.reason)
        }
        Event::RoomJoined(e) => e.member.to_string(),
        Event::RoomLeft(e) => e.member.to_string(),
        Event::RoomRead(e) => format!("{} {}", e.member, e.offset.0),
        Event::MessageDeleted(e) => e.offset.0.to_string(),
        Event::RoomActed(e) => format!("{} {}", e.who, e.action),
        Event::MessagePosted(e) => format!("{} {}", e.from, e.content.as_text()),
        Event::MessageDirect(e) => format!("{}>{} {}", e.from, e.to, e.content.as_text()),
        Event::MessageDelivered(e) => e.upto.0.to_string(),
        Event::MessageExpired(e) => e.to.to_string(),
        Event::PresenceConnected(e) => format!("{}{}", e.principal, if e.first { " first" } else { "" }),
        Event::PresenceDisconnected(e) => format!("{}{}", e.principal, if e.last { " last" } else { "" }),
        Event::NodeLeft(e) => format!("{} {}", e.node, e.reason),
        Event::NodeKeySet(e) => format!("{} {}", e.node, e.key.as_deref().unwrap_or("-")),
        Event::AlertRaised(e) => format!("{} {}", e.source, word_of(&e.level)),
        Event::AlertCleared(e) => format!("{} {}", e.source, e.alert),
        _ => String::new(),
    };
    let room = room.map(ToString::to_string).unwrap_or_default();
    let parts = [event.kind(), &room, &details];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

fn text_of_signal(room: Option<&RoomId>, body: &SignalBody) -> String {
    let room = room.map(ToString::to_string).unwrap_or_default();
    match body {
        SignalBody::Typing { who, typing } => format!("~typing {room} {who} {typing}"),
        SignalBody::Message(message) => {
            format!("~message {room} {} {}", message.from, message.content.as_text())
        }
        SignalBody::Action { who, action, .. } => format!("~action {room} {who} {action}"),
        other => format!("~{other:?}"),
    }
}

fn word_of(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("a word").trim_matches('"').to_owned()
}

fn read<T: DeserializeOwned>(word: &str) -> Option<T> {
    serde_json::from_str(&format!("\"{word}\"")).ok()
}

/// Words by position, and `key=value` by name.
struct Args<'a>(&'a [String]);

impl Args<'_> {
    fn at(&self, n: usize) -> Option<&str> {
        self.0.iter().filter(|word| !word.contains('=')).nth(n).map(String::as_str)
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().filter_map(|word| word.split_once('=')).find(|(k, _)| *k == key).map(|(_, v)| v)
    }

    fn text(&self, key: &str) -> Option<String> {
        self.get(key).map(str::to_owned)
    }

    fn json(&self, key: &str) -> Option<Json> {
        self.get(key).map(|text| Json::parse(text).expect("JSON"))
    }

    fn has(&self, word: &str) -> bool {
        self.0.iter().any(|w| w == word)
    }

    fn agent(&self, n: usize) -> Option<AgentId> {
        AgentId::new(self.at(n)?).ok()
    }

    fn room(&self, n: usize) -> Option<RoomId> {
        RoomId::new(self.at(n)?).ok()
    }

    fn number<T: std::str::FromStr>(&self, n: usize) -> Option<T> {
        self.at(n)?.parse().ok()
    }

    fn agent_card(&self) -> Option<AgentCard> {
        let proficiency = self.get("proficiency").map_or(Some(1.0), |text| text.parse().ok())?;
        let capability = |name: &str| Capability { proficiency, ..Capability::named(name) };
        Some(AgentCard {
            name: self.text("name").or_else(|| self.at(0).map(str::to_owned))?,
            capabilities: self.get("can").map(capability).into_iter().collect(),
            metadata: self.json("metadata").unwrap_or_default(),
            role: self.text("role"),
            ..AgentCard::default()
        })
    }

    fn room_card(&self) -> Option<RoomCard> {
        Some(RoomCard {
            name: self.text("name").unwrap_or_default(),
            description: self.text("description").unwrap_or_default(),
            metadata: self.json("metadata").unwrap_or_default(),
            entry: self.get("entry").map_or(Some(Default::default()), read)?,
            durability: self.get("durability").map_or(Some(Default::default()), read)?,
            max_members: self.get("max").map(|n| n.parse().expect("a number")),
            ..RoomCard::default()
        })
    }
}

fn command(verb: &str, args: &Args<'_>, ctx: &Context) -> Option<Command> {
    let identity = || identity_command(verb, args);
    let agents = || agent_command(verb, args);
    let rooms = || room_command(verb, args, ctx);
    identity().or_else(agents).or_else(rooms).or_else(|| other_command(verb, args, ctx))
}

fn identity_command(verb: &str, args: &Args<'_>) -> Option<Command> {
    let user = |n| UserId::new(args.at(n)?).ok();
    let key = || KeyId::new(args.at(0)?).ok();
    Some(match verb {
        "create-workspace" => Command::CreateWorkspace(WorkspaceCreated {
            name: args.at(0)?.into(),
            domain_key_hash: "00".repeat(32),
        }),
        "add-user" => {
            Command::AddUser(UserAdded { user: user(0)?, role: read(args.at(1)?)?, password: None })
        }
        "change-user" => Command::ChangeUser(UserChanged {
            user: user(0)?,
            role: args.get("role").and_then(read),
            password: args.text("password"),
            disabled: args.get("disabled").map(|text| text == "true"),
        }),
        "remove-user" => Command::RemoveUser(user(0)?),
        "set-domain-key" => Command::SetDomainKey(args.at(0)?.into()),
        "add-key" => {
            let opens = match args.at(1)? {
                "user" => KeyFor::User(user(2)?),
                _ => KeyFor::Room { agent: args.agent(2)?, room: args.room(3)? },
            };
            Command::AddKey(KeyAdded {
                key: key()?,
                hash: String::new(),
                opens,
                expires_at: None,
                name: String::new(),
            })
        }
        "revoke-key" => Command::RevokeKey(key()?),
        "revoke-token" => {
            let (jti, expires_at) = (args.at(0)?.into(), Time(args.number(1)?));
            let bearer = args.get("bearer").map(|text| Principal::parse(text).unwrap());
            Command::RevokeToken(TokenRevoked { jti, expires_at, bearer })
        }
        _ => return None,
    })
}

fn agent_command(verb: &str, args: &Args<'_>) -> Option<Command> {
    let agent = || args.agent(0);
    Some(match verb {
        "register" => Command::RegisterAgent(RegisterAgent { agent: agent()?, card: args.agent_card()? }),
        "host" => Command::HostAgent(RegisterAgent { agent: agent()?, card: args.agent_card()? }),
        "update-agent" => {
            let changes = AgentChanges {
                name: args.text("name"),
                role: args.text("role"),
                metadata: args.json("metadata"),
                config: args.json("config"),
                suspended: args.get("suspended").map(|text| text == "true"),
                status: args.get("status").and_then(read),
                ..AgentChanges::default()
            };
            Command::UpdateAgent(agent()?, changes)
        }
        "set-status" => Command::SetAgentStatus(agent()?, read(args.at(1)?)?, "set".into()),
        "pause-agent" => Command::PauseAgent(agent()?, args.number(1).map(Time)),
        "resume-agent" => Command::ResumeAgent(agent()?),
        "set-secret" => Command::SetAgentSecret(agent()?, "hash".into()),
        "remove-agent" => Command::RemoveAgent(agent()?, "done".into()),
        _ => return None,
    })
}

fn room_command(verb: &str, args: &Args<'_>, ctx: &Context) -> Option<Command> {
    let room = || args.room(0);
    let member = |n| args.at(n).map_or(Some(ctx.actor.clone()), |text| Principal::parse(text).ok());
    Some(match verb {
        "create-room" => Command::CreateRoom(CreateRoom { room: args.room(0), card: args.room_card()? }),
        "join" => Command::JoinRoom(JoinRoom {
            room: room()?,
            member: args.get("member").map_or(Some(ctx.actor.clone()), |text| Principal::parse(text).ok())?,
            create: args.has("create").then(|| args.room_card()).flatten(),
            by_key: args.has("by-key"),
        }),
        "pair" => Command::OpenPair(OpenPair {
            agent: args.agent(0)?,
            card: RoomCard { name: "P".into(), ..RoomCard::default() },
        }),
        "invite" => Command::Invite(room()?, Principal::parse(args.at(1)?).ok()?),
        "enter-own" => Command::EnterOwnRoom(EnterOwnRoom { agent: args.agent(0)?, card: args.room_card()? }),
        "leave" => Command::LeaveRoom(room()?, member(1)?),
        "update-room" => Command::UpdateRoom(
            room()?,
            RoomUpdated {
                name: args.text("name"),
                description: args.text("description"),
                metadata: args.json("metadata"),
                status: args.get("status").and_then(read),
            },
        ),
        "remove-room" => Command::RemoveRoom(room()?),
        "read" => Command::MarkRead(room()?, MessageId::new("m").ok()?, Offset(args.number(1)?)),
        "post" => {
            let from =
                args.get("from").map_or(Some(ctx.actor.clone()), |text| Principal::parse(text).ok())?;
            Command::Post(Box::new(Post::text(room()?, from, args.at(1).unwrap_or_default())))
        }
        "summarise" => Command::Summarise(room()?, args.at(1)?.into()),
        "delete" => Command::DeleteMessage(Delete {
            room: room()?,
            message: MessageId::new("m").ok()?,
            offset: Offset(args.number(1)?),
            author: Principal::parse(args.at(2)?).ok()?,
        }),
        "direct" => Command::Direct(Box::new(Direct {
            to: args.agent(0)?,
            from: args.get("from").map_or(Some(ctx.actor.clone()), |text| Principal::parse(text).ok())?,
            content: Content::Text(args.at(1).unwrap_or_default().into()),
            metadata: None,
        })),
        "type" => Command::Type(room()?, args.at(1)? == "on"),
        "act" => Command::Act(Act {
            room: room()?,
            action: args.at(1)?.into(),
            data: None,
            keep: args.has("keep"),
        }),
        _ => return None,
    })
}

fn other_command(verb: &str, args: &Args<'_>, ctx: &Context) -> Option<Command> {
    let node = || NodeId::new(args.at(0)?).ok();
    Some(match verb {
        "look" => Command::Look,
        "note-token" => Command::NoteToken(TokenNoted {
            jti: args.at(0)?.into(),
            bearer: Principal::parse(args.at(1)?).ok()?,
            agent: args.agent(2)?,
            expires_at: Time(9_000_000),
        }),
        "tick" => Command::Tick,
        "start-server" => Command::StartServer(ServerStarted { node: node()?, version: "1".into() }),
        "join-network" => Command::JoinNetwork(NodeJoined {
            node: node()?,
            address: "here".into(),
            kind: "client".into(),
            capabilities: Vec::new(),
        }),
        "set-node-key" => {
            let from = args.get("from").map(str::to_owned);
            Command::SetNodeKey(NodeKeySet { node: node()?, key: args.at(1).map(str::to_owned), from })
        }
        "leave-network" => Command::LeaveNetwork(NodeLeft::new(node()?, "leave")),
        "delivered" => Command::MarkDelivered(Offset(args.number(0)?)),
        "keep-seat" => Command::KeepSeat(KeepSeat {
            seat: args.room(0)?,
            secret: None,
            epoch: 1,
            seen: Offset(0),
            rooms: BTreeMap::new(),
        }),
        "connect-for-direct" => Command::ConnectForDirect,
        "reached" => Command::MarkReached(Offset(args.number(0)?)),
        "connect" => Command::Connect(args.at(0).map(str::to_owned)),
        "disconnect" => Command::Disconnect,
        _ => return watching_command(verb, args, ctx),
    })
}

fn watching_command(verb: &str, args: &Args<'_>, ctx: &Context) -> Option<Command> {
    let alert = || AlertId::new(&format!("alert-{}", ctx.random)).ok();
    Some(match verb {
        "acknowledge" => Command::AcknowledgeAlert(AlertId::new(args.at(0)?).ok()?),
        "set-health" => Command::SetHealth(SetHealth {
            component: args.at(0)?.into(),
            health: Health::Degraded,
            reason: String::new(),
            affects: Vec::new(),
        }),
        "note-fault" => Command::NoteFault(FaultNoticed {
            fault: alert()?,
            component: args.at(0)?.into(),
            code: "X".into(),
            message: String::new(),
            details: Json::empty_object(),
            severity: Severity::Warning,
        }),
        "measure" => Command::Measure(Vec::new()),
        "raise" => Command::RaiseAlert(AlertRaised {
            alert: alert()?,
            source: args.at(0)?.into(),
            level: read(args.at(1)?)?,
            title: String::new(),
            message: String::new(),
            value: Some(0.9),
            threshold: Some(0.8),
            details: Json::empty_object(),
            feed: args.get("feed").and_then(read),
        }),
        "set-threshold" => Command::SetThreshold(Threshold {
            id: AlertId::new(args.at(0)?).ok()?,
            name: args.text("name").unwrap_or_default(),
            metric: "cpu_usage".into(),
            side: Side::Above,
            limit: args.get("limit").map_or(80.0, |text| text.parse().expect("a number")),
            lasting_ms: 0,
            level: Level::Warning,
            channels: Vec::new(),
        }),
        "remove-threshold" => Command::RemoveThreshold(AlertId::new(args.at(0)?).ok()?),
        "unblock" => Command::LiftBlocks(args.at(0)?.into()),
        "clear" => Command::ClearAlert(args.at(0)?.into()),
        "notice" => Command::Notice(SecurityNoticed {
            alert: alert()?,
            finding: read(args.at(0)?)?,
            rule: "brute_force".into(),
            source: args.at(1)?.into(),
            severity: "high".into(),
            message: String::new(),
            evidence: Json::empty_object(),
            place: args.get("place").map(str::to_owned),
            until: args.get("until").map(|text| Time(text.parse().expect("a time"))),
        }),
        "mark" => Command::Mark(read(args.at(0)?)?, args.has("report")),
        _ => return None,
    })
}

//! Who may ask for what over REST: every path and method of every dialect, of every kind of principal, with own and foreign
//! things. The table is the data below; each cell is played, and `docs/rights.md` shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use roundtable_core::command::Command;
use roundtable_core::engine::Outcome;
use roundtable_core::ids::{Principal, RoomId};
use roundtable_core::messages::Post;
use roundtable_core::pairs::OpenPair;
use roundtable_core::rooms::{CreateRoom, Entry, JoinRoom, RoomCard};
use roundtable_core::time::Offset;
use roundtable_core::users::{Incarnation, TokenNoted};
use roundtable_dialects::rest::{Request, Served, TokenOrder};
use roundtable_dialects::session::{Ask, Dialect, Family, Token};
use roundtable_dialects::transcript::{Names, SetUp, Theatre as _};
use roundtable_dialects::{aiwm, hive, megabot, mxf, open_agi};

use super::cast::Cast;
use super::desk;
use super::identity::workspace;
use super::rights_page::show;

/// The kinds of those who ask: the columns.
const WHO: [(&str, &str); 9] = [
    ("nobody", ""),
    ("guest", ""),
    ("visitor", "visitor:a/v"),
    ("agent", "agent:a"),
    ("viewer", "user:vic"),
    ("editor", "user:ed"),
    ("owner", "user:ann"),
    ("node", "node:w"),
    ("approved node", "node:w"),
];

/// What is asked of which thing, of whom it is answered (`+`, `-`, and `.` where somebody of this kind has no credential of
/// this dialect, or no such thing), and the request. `nobody` comes from another machine, a `guest` from this one.
const TABLE: &str = r#"
# AIWM, under /dev/aiwm/
GET chat |  | - - + + + + + . . | GET /dev/aiwm/chat
GET ws |  | + + + + + + + . . | GET /dev/aiwm/ws
GET ws/health |  | + + + + + + + . . | GET /dev/aiwm/ws/health
POST auth/login | with a right password | + + + + + + + . . | POST /dev/aiwm/auth/login {"username":"zoe","password":"pw"}
GET agents |  | - - - + + + + . . | GET /dev/aiwm/agents
POST agents |  | - - - - + + + . . | POST /dev/aiwm/agents {"name":"New","description":"x","status":"active"}
POST agents/:/connect | with the right secret | + + + + + + + . . | POST /dev/aiwm/agents/b/connect {"secret":"s"}
POST agents/:/connect | with a wrong one | - - - - - - - . . | POST /dev/aiwm/agents/b/connect {"secret":"x"}
POST agents/:/heartbeat | its own | - - - + - - - . . | POST /dev/aiwm/agents/a/heartbeat {"status":"busy"}
POST agents/:/heartbeat | a foreign one | - - - - - - - . . | POST /dev/aiwm/agents/b/heartbeat {"status":"busy"}
POST agents/:/disconnect | its own | - - - + - - - . . | POST /dev/aiwm/agents/a/disconnect
POST agents/:/disconnect | a foreign one | - - - - - - - . . | POST /dev/aiwm/agents/b/disconnect
POST agents/:/credentials/regenerate |  | - - - - - + + . . | POST /dev/aiwm/agents/b/credentials/regenerate
GET agents/:/config |  | - - - - + + + . . | GET /dev/aiwm/agents/b/config
POST agents/:/anonymous-token |  | - - - - - + + . . | POST /dev/aiwm/agents/b/anonymous-token {}
GET agents/:/anonymous-tokens |  | - - - - - + + . . | GET /dev/aiwm/agents/a/anonymous-tokens
DELETE agents/:/anonymous-tokens/: |  | - - - - - + + . . | DELETE /dev/aiwm/agents/a/anonymous-tokens/noted
GET agents/: | a foreign one | - - - + + + + . . | GET /dev/aiwm/agents/b
PUT agents/: | a foreign one | - - - - - + + . . | PUT /dev/aiwm/agents/b {"role":"lead"}
PUT agents/: | its own | . . . + + + + . . | PUT /dev/aiwm/agents/{agent} {"role":"lead"}
DELETE agents/: | a foreign one | - - - - - + + . . | DELETE /dev/aiwm/agents/b
DELETE agents/: | its own | . . . + + + + . . | DELETE /dev/aiwm/agents/{agent}
GET conversations | those that it may read | - - + + + + + . . | GET /dev/aiwm/conversations
POST conversations |  | - - - + + + + . . | POST /dev/aiwm/conversations {"title":"x","agentId":"b"}
GET conversations/my-conversations |  | - - + + + + + . . | GET /dev/aiwm/conversations/my-conversations
GET conversations/agent/: | those that it may read | - - + + + + + . . | GET /dev/aiwm/conversations/agent/b
POST conversations/:/archive | its own | . . - + + + + . . | POST /dev/aiwm/conversations/{own}/archive
POST conversations/:/archive | one that it is in | - - - - - + + . . | POST /dev/aiwm/conversations/hall/archive
POST conversations/:/close | its own | . . - + + + + . . | POST /dev/aiwm/conversations/{own}/close
POST conversations/:/close | one that it is in | - - - - - + + . . | POST /dev/aiwm/conversations/hall/close
POST conversations/:/summary | one that it is in | . . + + + + + . . | POST /dev/aiwm/conversations/{own}/summary
POST conversations/:/summary | one that it is not in | - - - - - + + . . | POST /dev/aiwm/conversations/vault/summary
POST conversations/:/participants | its own | . . - + + + + . . | POST /dev/aiwm/conversations/{own}/participants {"type":"agent","participantId":"b"}
POST conversations/:/participants | one that it is not in | - - - - - + + . . | POST /dev/aiwm/conversations/vault/participants {"type":"agent","participantId":"a"}
DELETE conversations/:/participants/:/: | its own | . . - + + + + . . | DELETE /dev/aiwm/conversations/{own}/participants/agent/c
DELETE conversations/:/participants/:/: | one that it is in | - - - - - + + . . | DELETE /dev/aiwm/conversations/hall/participants/user/zoe
GET conversations/: | its own | . . + + + + + . . | GET /dev/aiwm/conversations/{own}
GET conversations/: | an open one | - - - + + + + . . | GET /dev/aiwm/conversations/plaza
GET conversations/: | a closed one | - - - - - + + . . | GET /dev/aiwm/conversations/vault
PUT conversations/: | its own | . . - + + + + . . | PUT /dev/aiwm/conversations/{own} {"title":"x"}
PUT conversations/: | an open one | - - - - - + + . . | PUT /dev/aiwm/conversations/plaza {"title":"x"}
DELETE conversations/: | its own | . . - + + + + . . | DELETE /dev/aiwm/conversations/{own}
DELETE conversations/: | an open one | - - - - - + + . . | DELETE /dev/aiwm/conversations/plaza
POST messages | in its own conversation | . . + + + + + . . | POST /dev/aiwm/messages {"role":"user","content":"x","conversationId":"{own}"}
POST messages | in an open one | - - - - - - - . . | POST /dev/aiwm/messages {"role":"user","content":"x","conversationId":"plaza"}
GET messages/thread/: | one that it may read | . . + + + + + . . | GET /dev/aiwm/messages/thread/{mine}
GET messages/thread/: | of an open conversation | - - - + + + + . . | GET /dev/aiwm/messages/thread/{open}
GET messages/thread/: | of a closed one | - - - - - + + . . | GET /dev/aiwm/messages/thread/{secret}
GET messages/conversation/:/* | its own | . . + + + + + . . | GET /dev/aiwm/messages/conversation/{own}
GET messages/conversation/:/* | an open one | - - - + + + + . . | GET /dev/aiwm/messages/conversation/plaza/search?q=x
GET messages/conversation/:/* | a closed one | - - - - - + + . . | GET /dev/aiwm/messages/conversation/vault
GET messages/: | its own | . . + + + + + . . | GET /dev/aiwm/messages/{mine}
GET messages/: | of an open conversation | - - - + + + + . . | GET /dev/aiwm/messages/{open}
GET messages/: | of a closed one | - - - - - + + . . | GET /dev/aiwm/messages/{secret}
DELETE messages/: | its own | . . + + + + + . . | DELETE /dev/aiwm/messages/{mine}
DELETE messages/: | somebody else's | - - - - - + + . . | DELETE /dev/aiwm/messages/{open}
# MXF, under /api/
POST users/register |  | - + . - - + + . . | POST /api/users/register {"username":"new","email":"n@x","password":"password"}
POST users/login | with a right password | + + . + + + + . . | POST /api/users/login {"username":"zoe","password":"pw"}
GET agents/context/: | its own key | - - . + + + + . . | GET /api/agents/context/key_mine
GET agents/context/: | a foreign one | - - . - - + + . . | GET /api/agents/context/key_theirs
GET agents/memory/: | its own key | - - . + + + + . . | GET /api/agents/memory/key_mine
GET agents/memory/: | a foreign one | - - . - - + + . . | GET /api/agents/memory/key_theirs
GET channels/memory/: | a channel that it is in | . . . + + + + . . | GET /api/channels/memory/{own}
GET channels/memory/: | a closed one | - - . - - - - . . | GET /api/channels/memory/vault
GET memory/relationships/:/:/: | of its own agent | . . . + + + + . . | GET /api/memory/relationships/hall/{agent}/b
GET memory/relationships/:/:/: | of two others | - - . - - + + . . | GET /api/memory/relationships/hall/b/c
GET channels/:/context | its own | . . . + + + + . . | GET /api/channels/{own}/context
GET channels/:/context | an open one that it is not in | - - . - - + + . . | GET /api/channels/plaza/context
GET channels/:/context | a closed one | - - . - - + + . . | GET /api/channels/vault/context
POST channels/:/context | a new one | - - . + + + + . . | POST /api/channels/new/context {"name":"New"}
PATCH channels/:/context | its own | . . . + + + + . . | PATCH /api/channels/{own}/context {"name":"x"}
PATCH channels/:/context | one that it is in | - - . - - + + . . | PATCH /api/channels/hall/context {"name":"x"}
POST channels/:/agents/: | its own agent, an open one | . . . + + + + . . | POST /api/channels/plaza/agents/{agent}
POST channels/:/agents/: | another agent, its own one | . . . + + + + . . | POST /api/channels/{own}/agents/b
POST channels/:/agents/: | another agent, one that it is not in | - - . - - + + . . | POST /api/channels/vault/agents/c
DELETE channels/:/agents/: | another agent, its own one | . . . + + + + . . | DELETE /api/channels/{own}/agents/c
DELETE channels/:/agents/: | another agent, one that it is in | - - . - - + + . . | DELETE /api/channels/hall/agents/b
GET channels/:/metadata | its own | . . . + + + + . . | GET /api/channels/{own}/metadata
GET channels/:/metadata | a closed one | - - . - - + + . . | GET /api/channels/vault/metadata
POST channels/:/metadata | its own | . . . + + + + . . | POST /api/channels/{own}/metadata {"x":1}
POST channels/:/metadata | one that it is in | - - . - - + + . . | POST /api/channels/hall/metadata {"x":1}
GET channels/:/metadata/: | its own | . . . + + + + . . | GET /api/channels/{own}/metadata/k
GET channels/:/metadata/: | a closed one | - - . - - + + . . | GET /api/channels/vault/metadata/k
POST channels/:/metadata/: | its own | . . . + + + + . . | POST /api/channels/{own}/metadata/k {"value":1}
POST channels/:/metadata/: | one that it is in | - - . - - + + . . | POST /api/channels/hall/metadata/k {"value":1}
GET channels/:/history | its own | . . . + + + + . . | GET /api/channels/{own}/history
GET channels/:/history | a closed one | - - . - - + + . . | GET /api/channels/vault/history
GET channels/:/mcp-servers | its own | . . . + + + + . . | GET /api/channels/{own}/mcp-servers
GET channels/:/mcp-servers | a closed one | - - . - - + + . . | GET /api/channels/vault/mcp-servers
GET channels/:/messages | its own | . . . + + + + . . | GET /api/channels/{own}/messages
GET channels/:/messages | an open one that it is not in | - - . - - + + . . | GET /api/channels/plaza/messages
POST channels/:/messages | its own | . . . + + + + . . | POST /api/channels/{own}/messages {"content":"x"}
POST channels/:/messages | an open one that it is not in | - - . - - - - . . | POST /api/channels/plaza/messages {"content":"x"}
POST channels/:/topics | its own | . . . + + + + . . | POST /api/channels/{own}/topics {}
POST channels/:/topics | a closed one | - - . - - + + . . | POST /api/channels/vault/topics {}
POST channels/:/summary | its own | . . . + + + + . . | POST /api/channels/{own}/summary {}
POST channels/:/summary | a closed one | - - . - - + + . . | POST /api/channels/vault/summary {}
# Hive
GET health |  | + + . + + + + . . | GET /health
GET api/health |  | + + . + + + + . . | GET /api/health
GET api/monitoring/health |  | + + . + + + + . . | GET /api/monitoring/health
GET api/hive/status |  | - + . + + + + . . | GET /api/hive/status
GET api/agents |  | - + . + + + + . . | GET /api/agents
POST api/agents |  | - + . - - + + . . | POST /api/agents {"name":"N","type":"worker","capabilities":[]}
POST api/agents/bulk/create |  | - + . - - + + . . | POST /api/agents/bulk/create {"agents":[]}
POST api/agents/bulk/delete |  | - + . - - + + . . | POST /api/agents/bulk/delete {"agent_ids":[]}
GET api/agents/: |  | - + . + + + + . . | GET /api/agents/b
PUT api/agents/: |  | - + . - - + + . . | PUT /api/agents/b {"name":"x"}
DELETE api/agents/: |  | - + . - - + + . . | DELETE /api/agents/b
POST api/agents/:/pause |  | - + . - - + + . . | POST /api/agents/b/pause {}
POST api/agents/:/resume |  | - + . - - + + . . | POST /api/agents/b/resume {}
GET api/agents/:/tasks |  | - + . + + + + . . | GET /api/agents/b/tasks
GET api/agents/:/performance |  | - + . + + + + . . | GET /api/agents/b/performance
GET api/resources |  | - + . + + + + . . | GET /api/resources
GET api/modules/status |  | - + . + + + + . . | GET /api/modules/status
GET api/modules/:/: |  | - + . + + + + . . | GET /api/modules/coordinator/health
GET api/monitoring/metrics |  | - + . + + + + . . | GET /api/monitoring/metrics
GET api/monitoring/alerts |  | - + . + + + + . . | GET /api/monitoring/alerts
POST api/monitoring/alerts |  | - + . - - + + . . | POST /api/monitoring/alerts {"alerts":[]}
GET metrics |  | - + . + + + + . . | GET /metrics
GET metrics/export/: |  | - + . + + + + . . | GET /metrics/export/json
GET metrics/history |  | - + . + + + + . . | GET /metrics/history
GET metrics/alerts |  | - + . + + + + . . | GET /metrics/alerts
POST metrics/alerts |  | - + . - - + + . . | POST /metrics/alerts {"alerts":[]}
DELETE metrics/alerts/: |  | - + . - - + + . . | DELETE /metrics/alerts/t1
GET api/metrics |  | - + . + + + + . . | GET /api/metrics
GET api/metrics/export/: |  | - + . + + + + . . | GET /api/metrics/export/json
GET api/metrics/history |  | - + . + + + + . . | GET /api/metrics/history
GET api/metrics/alerts |  | - + . + + + + . . | GET /api/metrics/alerts
POST api/metrics/alerts |  | - + . - - + + . . | POST /api/metrics/alerts {"alerts":[]}
DELETE api/metrics/alerts/: |  | - + . - - + + . . | DELETE /api/metrics/alerts/t1
# Open-A.G.I, under /api/v1/
POST auth/token | for a node | + + . . + + + + + | POST /api/v1/auth/token {"node_id":"w1","public_key":"a2V5"}
POST auth/token | in a user's name | - - . . - - - - - | POST /api/v1/auth/token {"node_id":"vic","public_key":"a2V5"}
POST security/incident |  | - - . . + + + + + | POST /api/v1/security/incident {"incident_type":"x","description":"y"}
GET status |  | - + . . + + + + + | GET /api/v1/status
GET network/stats |  | - + . . + + + + + | GET /api/v1/network/stats
GET network/peers |  | - - . . + + + + + | GET /api/v1/network/peers
GET security/status |  | - - . . + + + - + | GET /api/v1/security/status
GET monitoring/metrics |  | - - . . + + + + + | GET /api/v1/monitoring/metrics
GET monitoring/logs |  | - - . . + + + - + | GET /api/v1/monitoring/logs
GET node/: |  | - - . . + + + + + | GET /api/v1/node/n1
# MegaBot, under /api/
POST auth/login | with a right password | + + . + + + + . . | POST /api/auth/login {"username":"zoe","password":"pw"}
POST auth/refresh | with nothing good | - - . - - - - . . | POST /api/auth/refresh {"refresh_token":"x.e30.y"}
POST auth/logout |  | - - . + + + + . . | POST /api/auth/logout {}
GET auth/me |  | - - . + + + + . . | GET /api/auth/me
GET messages/: | its own | . . . + + + + . . | GET /api/messages/{mine}
GET messages/: | of an open room | - - . + + + + . . | GET /api/messages/{open}
GET messages/: | of a closed one | - - . - - + + . . | GET /api/messages/{secret}
"#;

/// The dialects, as the titles of the table name them, each with what it serves.
const DIALECTS: [(&str, Dialect, Family, &[Served]); 5] = [
    ("AIWM", Dialect::Aiwm, Family::Aiwm, aiwm::rest::SERVED),
    ("MXF", Dialect::Mxf, Family::Mxf, mxf::rest::SERVED),
    ("Hive", Dialect::Hive, Family::Login, hive::rest::SERVED),
    ("Open-A.G.I", Dialect::OpenAgi, Family::OpenAgi, open_agi::rest::SERVED),
    ("MegaBot", Dialect::MegaBot, Family::Login, megabot::rest::SERVED),
];

/// A workspace in which everybody has something of their own; `zoe` is a viewer whose things are foreign.
struct Place {
    cast: Cast,
    names: Names,
    things: BTreeMap<&'static str, String>,
}

fn principal(text: &str) -> Principal {
    Principal::parse(text).unwrap()
}

impl Place {
    fn ask(&mut self, who: &str, command: Command) -> Outcome {
        let asked = self.cast.world.ask(&principal(who), &Ask::new(Token(0), command));
        asked.unwrap_or_else(|error| panic!("{who}: {error}")).first().clone()
    }

    fn room(&mut self, who: &str, id: &str, entry: Entry) {
        let room = Some(RoomId::new(id).unwrap());
        let metadata = roundtable_core::json::Json::of(&serde_json::json!({"k": 1}));
        let card = RoomCard { name: id.into(), entry, metadata, ..RoomCard::default() };
        self.ask(who, Command::CreateRoom(CreateRoom { room, card }));
    }

    fn join(&mut self, who: &str, id: &str, member: &str) {
        let (room, member) = (RoomId::new(id).unwrap(), principal(member));
        self.ask(who, Command::JoinRoom(JoinRoom { room, member, create: None, by_key: false }));
    }

    fn say(&mut self, who: &str, room: &str) -> String {
        let post = Post::text(RoomId::new(room).unwrap(), principal(who), "x y z");
        let Outcome::Message(id) = self.ask(who, Command::Post(Box::new(post))) else { panic!("a message") };
        id.to_string()
    }

    /// The place, with the own things of one kind.
    fn of(who: &str) -> Self {
        let mut place = Self { cast: Cast::new(), names: Names::default(), things: BTreeMap::new() };
        for line in [
            "user ann role=owner password=pw",
            "user ed role=editor password=pw",
            "user vic password=pw",
            "user zoe password=pw",
            "agent a secret=s",
            "agent b secret=s",
            "agent c",
        ] {
            place.cast.set_up(&SetUp::parse(line).unwrap(), &mut place.names).unwrap();
        }
        for (id, entry) in [("hall", Entry::Open), ("plaza", Entry::Open), ("vault", Entry::Private)] {
            place.room("user:zoe", id, entry);
        }
        place.join("agent:b", "hall", "agent:b");
        let me = who.rsplit([':', '/']).next().unwrap_or_default();
        let known = who.starts_with("user:") || who.starts_with("agent:");
        let mut own = format!("own-{me}");
        if known {
            place.room(who, &own, Entry::Open);
            place.join(who, "hall", who);
            place.ask(who, Command::Invite(RoomId::new(&own).unwrap(), principal("agent:c")));
        }
        if let Principal::Visitor(visitor) = Principal::parse(who).unwrap_or(Principal::System) {
            let open = OpenPair { agent: visitor.agent(), card: RoomCard::default() };
            let Outcome::Room(room) = place.ask(who, Command::OpenPair(open)) else { panic!("a room") };
            own = room.to_string();
        }
        let agent = if who.starts_with("user:") { format!("of-{me}") } else { "a".to_owned() };
        if who.starts_with("user:") {
            let card = roundtable_core::agents::AgentCard { name: agent.clone(), ..Default::default() };
            let id = roundtable_core::ids::AgentId::new(&agent).unwrap();
            let register = roundtable_core::agents::RegisterAgent { agent: id, card };
            place.ask(who, Command::RegisterAgent(register));
        }
        for (key, bearer, room) in [("mine", agent.as_str(), own.as_str()), ("theirs", "b", "hall")] {
            if key == "theirs" || known {
                let line = format!("key ${key} agent={bearer} room={room}");
                place.cast.set_up(&SetUp::parse(&line).unwrap(), &mut place.names).unwrap();
            }
        }
        let spoken = known || who.starts_with("visitor:");
        let mine = if spoken { place.say(who, &own) } else { "0".repeat(24) };
        let (open, secret) = (place.say("user:zoe", "plaza"), place.say("user:zoe", "vault"));
        let noted = TokenNoted {
            jti: "noted".into(),
            bearer: principal("visitor:a/w"),
            agent: roundtable_core::ids::AgentId::new("a").unwrap(),
            expires_at: place.cast.world.now.plus(60_000),
        };
        place.ask("system", Command::NoteToken(noted));
        let threshold = serde_json::json!({"id": "t1", "name": "old", "metric": "cpu_usage", "side": "above",
            "limit": 80.0, "lasting_ms": 0, "level": "warning"});
        place.ask("system", Command::SetThreshold(serde_json::from_value(threshold).unwrap()));
        place.things.extend([
            ("own", own),
            ("agent", agent),
            ("mine", mine),
            ("open", open),
            ("secret", secret),
        ]);
        place
    }

    /// The credential of a kind for a dialect: an `Authorization` header; `None`: there is none.
    fn credential(&mut self, kind: &str, who: &str, (dialect, family): (Dialect, Family)) -> Option<String> {
        let fits = match kind {
            "visitor" => dialect == Dialect::Aiwm,
            "agent" => dialect != Dialect::OpenAgi,
            "node" | "approved node" => dialect == Dialect::OpenAgi,
            _ => true,
        };
        if !fits {
            return None;
        }
        if kind == "agent" && dialect == Dialect::Mxf {
            return Some(format!("Bearer {}", self.names.get("mine")?));
        }
        let subject = principal(who);
        let mut incarnation = self.cast.world.state.incarnation(&subject).unwrap_or_default();
        if kind == "approved node" {
            incarnation = Incarnation { born: Offset(1), ..incarnation };
        }
        let claims = serde_json::json!({"login": "l", "username": subject.id()});
        let order = TokenOrder { family, subject, incarnation, workspace: workspace(), ttl_s: 600, claims };
        Some(format!("Bearer {}", self.cast.world.desk.issue(&order, self.cast.world.now, 7).token))
    }
}

/// Whether somebody of a kind is answered; `None` if there is nobody of it here, or it has no such thing.
fn answered((kind, who): (&str, &str), dialect: (Dialect, Family), line: &str) -> Option<bool> {
    let strangers = ["nobody", "guest"].contains(&kind);
    let lacks = |thing: &str| line.contains(&format!("{{{thing}}}"));
    if (strangers || who.starts_with("node:")) && ["own", "agent", "mine"].into_iter().any(lacks) {
        return None;
    }
    if kind == "visitor" && lacks("agent") {
        return None;
    }
    let mut place = Place::of(who);
    let authorization = if strangers { None } else { Some(place.credential(kind, who, dialect)?) };
    let mut line = line.to_owned();
    for (name, value) in &place.things {
        line = line.replace(&format!("{{{name}}}"), value);
    }
    let mut words = line.splitn(3, ' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let body = words.next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let request = Request {
        method,
        path,
        query,
        body: body.as_bytes(),
        authorization: authorization.as_deref(),
        api_key: None,
        channel_key: None,
        request_id: "r",
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        anonymous: kind == "guest",
    };
    let answer = desk::answer(&mut place.cast.world, dialect.0, &request);
    let answer = answer.unwrap_or_else(|| panic!("{line}: no path of this dialect"));
    assert_ne!(answer.status, 405, "{line}");
    Some(![401, 403, 404].contains(&answer.status))
}

#[test]
fn every_path_is_for_whom_the_table_says() {
    let (mut wrong, mut shown, mut missing) = (String::new(), String::new(), BTreeSet::new());
    for (title, _, _, served) in DIALECTS {
        for (pattern, methods) in served {
            missing.extend(methods.iter().map(|method| format!("{title} {method} {pattern}")));
        }
    }
    let mut dialect = DIALECTS[0];
    for row in TABLE.lines().filter(|row| !row.is_empty()) {
        if let Some(title) = row.strip_prefix("# ") {
            dialect = *DIALECTS.iter().find(|(name, ..)| title.starts_with(name)).expect("a dialect");
            let kinds = WHO.map(|(kind, _)| kind).join(" | ");
            let lines = " --- |".repeat(WHO.len() + 2);
            let _ = write!(shown, "\n### {title}\n\n| path | of what | {kinds} |\n|{lines}\n");
            continue;
        }
        let mut parts = row.splitn(4, '|').map(str::trim);
        let [path, thing, cells, line] = [(); 4].map(|()| parts.next().unwrap_or_else(|| panic!("{row}")));
        missing.remove(&format!("{} {path}", dialect.0));
        let cells: Vec<&str> = cells.split_whitespace().collect();
        assert_eq!(cells.len(), WHO.len(), "{row}");
        let played = WHO.map(|who| match answered(who, (dialect.1, dialect.2), line) {
            None => ".",
            Some(true) => "+",
            Some(false) => "-",
        });
        if played != *cells {
            let _ = writeln!(wrong, "{path} | {thing} | {} | {line}", played.join(" "));
        }
        let words = played.map(|cell| match cell {
            "+" => "yes",
            "-" => "no",
            _ => "",
        });
        let _ = writeln!(shown, "| `{path}` | {thing} | {} |", words.join(" | "));
    }
    assert!(missing.is_empty(), "paths without a row: {missing:#?}");
    assert!(wrong.is_empty(), "these rows are played otherwise:\n{wrong}");
    show("paths", &shown);
}

//! The hash of a command: the same for the same wish, whenever and however it is asked; another one for any other.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::collections::BTreeMap;

use roundtable_core::actions::Act;
use roundtable_core::agents::{AgentCard, AgentChanges, AgentStatus, RegisterAgent};
use roundtable_core::alerts::{AlertRaised, Finding, Level, SecurityNoticed};
use roundtable_core::cluster::{NodeJoined, NodeKeySet, NodeLeft, ServerStarted};
use roundtable_core::command::Command;
use roundtable_core::components::{FaultNoticed, Health, SetHealth, Severity};
use roundtable_core::feeds::Feed;
use roundtable_core::ids::{AgentId, AlertId, KeyId, MessageId, NodeId, Principal, RoomId, UserId};
use roundtable_core::json::Json;
use roundtable_core::messages::{Content, Delete, Direct, Post};
use roundtable_core::repeats::CommandHash;
use roundtable_core::rooms::{CreateRoom, EnterOwnRoom, JoinRoom, RoomCard, RoomUpdated};
use roundtable_core::seats::KeepSeat;
use roundtable_core::signal::Metric;
use roundtable_core::thresholds::{Side, Threshold};
use roundtable_core::time::{Offset, Time};
use roundtable_core::users::{
    KeyAdded, KeyFor, TokenNoted, TokenRevoked, UserAdded, UserChanged, UserRole, WorkspaceCreated,
};

/// `n` is what is asked for, `anew` what changes whenever it is asked.
#[derive(Clone, Copy)]
struct Ask {
    n: u64,
    anew: u64,
}

impl Ask {
    fn word(self) -> String {
        format!("w{}", self.n)
    }

    /// An object of the client's own; its members come in another order each time.
    fn object(self) -> Json {
        let n = self.n;
        let text = match self.anew % 2 {
            0 => format!(r#"{{"a":{n},"b":{{"c":[1,{{"d":1,"e":2}}],"f":null}}}}"#),
            _ => format!(r#"{{ "b":{{"f":null,"c":[1,{{"e":2,"d":1}}]}}, "a":{n} }}"#),
        };
        Json::parse(&text).unwrap()
    }

    fn time(self) -> Time {
        Time(1_000 + i64::try_from(self.anew).unwrap())
    }

    fn fresh(self) -> String {
        format!("fresh{}", self.anew)
    }

    fn room(self) -> RoomId {
        RoomId::new(&self.word()).unwrap()
    }

    fn agent(self) -> AgentId {
        AgentId::new(&self.word()).unwrap()
    }

    fn user(self) -> UserId {
        UserId::new(&self.word()).unwrap()
    }

    fn node(self) -> NodeId {
        NodeId::new(&self.word()).unwrap()
    }

    fn who(self) -> Principal {
        Principal::Agent(self.agent())
    }

    fn alert(self) -> AlertId {
        AlertId::new(&self.fresh()).unwrap()
    }

    fn card(self) -> RoomCard {
        RoomCard { name: self.word(), metadata: self.object(), ..RoomCard::default() }
    }

    fn agent_card(self) -> AgentCard {
        AgentCard { name: self.word(), metadata: self.object(), ..AgentCard::default() }
    }

    fn message(self) -> MessageId {
        MessageId::new(&self.word()).unwrap()
    }

    fn talk(self) -> Vec<Command> {
        let (room, who) = (self.room(), self.who());
        let post = Post {
            parts: Some(self.object()),
            metadata: Some(self.object()),
            platform: Some(self.fresh()),
            ..Post::text(room.clone(), who.clone(), self.word())
        };
        let content = Content::Json(self.object());
        vec![
            Command::Post(Box::new(post)),
            Command::Direct(Box::new(Direct {
                to: self.agent(),
                from: who.clone(),
                content,
                metadata: Some(self.object()),
            })),
            Command::DeleteMessage(Delete {
                room: room.clone(),
                message: self.message(),
                offset: Offset(self.n),
                author: who.clone(),
            }),
            Command::Act(Act {
                room: room.clone(),
                action: self.word(),
                data: Some(self.object()),
                keep: true,
            }),
            Command::Type(room.clone(), self.n == 1),
            Command::MarkRead(room.clone(), self.message(), Offset(self.n)),
            Command::MarkDelivered(Offset(self.n)),
            Command::MarkReached(Offset(self.n)),
            Command::CreateRoom(CreateRoom { room: None, card: self.card() }),
            Command::JoinRoom(JoinRoom {
                room: room.clone(),
                member: who.clone(),
                create: Some(self.card()),
                by_key: false,
            }),
            Command::Invite(room.clone(), who.clone()),
            Command::EnterOwnRoom(EnterOwnRoom { agent: self.agent(), card: self.card() }),
            Command::LeaveRoom(room.clone(), who),
            Command::UpdateRoom(
                room.clone(),
                RoomUpdated { metadata: Some(self.object()), ..RoomUpdated::default() },
            ),
            Command::Summarise(room.clone(), self.word()),
            Command::RemoveRoom(room.clone()),
            Command::Connect(Some(self.word())),
            Command::KeepSeat(KeepSeat {
                secret: None,
                seat: room.clone(),
                epoch: 1,
                seen: Offset(self.n),
                rooms: BTreeMap::from([(room, Offset(1))]),
            }),
        ]
    }

    fn people(self) -> Vec<Command> {
        let (agent, user, fresh) = (self.agent(), self.user(), self.fresh());
        let opens = KeyFor::Room { agent: agent.clone(), room: self.room() };
        let register = RegisterAgent { agent: agent.clone(), card: self.agent_card() };
        let key = KeyId::new(&fresh).unwrap();
        vec![
            Command::CreateWorkspace(WorkspaceCreated { name: self.word(), domain_key_hash: self.word() }),
            Command::AddUser(UserAdded {
                user: user.clone(),
                role: UserRole::Viewer,
                password: Some(fresh.clone()),
            }),
            Command::RemoveUser(user.clone()),
            Command::ChangeUser(UserChanged {
                user,
                role: None,
                password: Some(fresh.clone()),
                disabled: Some(true),
            }),
            Command::AddKey(KeyAdded {
                key,
                hash: fresh.clone(),
                opens,
                expires_at: Some(self.time()),
                name: self.word(),
            }),
            Command::RevokeKey(KeyId::new(&self.word()).unwrap()),
            Command::RevokeToken(TokenRevoked {
                jti: self.word(),
                expires_at: self.time(),
                bearer: Some(self.who()),
            }),
            Command::NoteToken(TokenNoted {
                jti: fresh.clone(),
                bearer: self.who(),
                agent: agent.clone(),
                expires_at: self.time(),
            }),
            Command::RegisterAgent(register.clone()),
            Command::HostAgent(register),
            Command::UpdateAgent(
                agent.clone(),
                AgentChanges { metadata: Some(self.object()), ..AgentChanges::default() },
            ),
            Command::SetAgentStatus(agent.clone(), AgentStatus::Busy, self.word()),
            Command::PauseAgent(agent.clone(), Some(self.time())),
            Command::ResumeAgent(agent.clone()),
            Command::SetAgentSecret(agent.clone(), fresh),
            Command::RemoveAgent(agent, self.word()),
        ]
    }

    fn server(self) -> Vec<Command> {
        let node = self.node();
        let id = self.alert();
        vec![
            Command::StartServer(ServerStarted { node: node.clone(), version: self.word() }),
            Command::JoinNetwork(NodeJoined {
                node: node.clone(),
                address: self.word(),
                kind: "server".into(),
                capabilities: Vec::new(),
            }),
            Command::LeaveNetwork(NodeLeft::new(node.clone(), "leave")),
            Command::SetNodeKey(NodeKeySet { node, key: Some(self.word()), from: None }),
            Command::RaiseAlert(AlertRaised {
                alert: id.clone(),
                source: self.word(),
                level: Level::Info,
                title: self.word(),
                message: self.word(),
                value: Some(1.5),
                threshold: None,
                details: self.object(),
                feed: None,
            }),
            Command::AcknowledgeAlert(AlertId::new(&self.word()).unwrap()),
            Command::ClearAlert(self.word()),
            Command::SetThreshold(Threshold {
                id: id.clone(),
                name: self.word(),
                metric: "cpu".into(),
                side: Side::Above,
                limit: 0.1,
                lasting_ms: 5,
                level: Level::Info,
                channels: Vec::new(),
            }),
            Command::RemoveThreshold(AlertId::new(&self.word()).unwrap()),
            Command::SetHealth(SetHealth {
                component: self.word(),
                health: Health::default(),
                reason: String::new(),
                affects: Vec::new(),
            }),
            Command::NoteFault(FaultNoticed {
                fault: id.clone(),
                component: self.word(),
                code: self.word(),
                message: String::new(),
                details: self.object(),
                severity: Severity::Warning,
            }),
            Command::Measure(vec![Metric {
                name: "cpu",
                value: self.n as f64,
                warning: None,
                critical: None,
                unit: "percent",
            }]),
            Command::Notice(SecurityNoticed {
                alert: id,
                finding: Finding::Blocked,
                rule: self.word(),
                source: self.word(),
                place: None,
                severity: "low".into(),
                message: String::new(),
                evidence: self.object(),
                until: Some(self.time()),
            }),
        ]
    }

    fn all(self) -> Vec<Command> {
        let rest = vec![Command::LiftBlocks(self.word()), Command::Mark(Feed::Activity, self.n == 1)];
        [self.talk(), self.people(), self.server(), rest].concat()
    }
}

#[test]
fn every_kind_of_command_has_a_hash_of_what_is_asked_for_and_of_nothing_else() {
    let first = Ask { n: 1, anew: 1 }.all();
    let again = Ask { n: 1, anew: 2 }.all();
    let other = Ask { n: 2, anew: 1 }.all();
    let mut seen: BTreeMap<String, &Command> = BTreeMap::new();
    for ((first, again), other) in first.iter().zip(&again).zip(&other) {
        let hash = CommandHash::of(first);
        assert_eq!(hash, CommandHash::of(again), "asked again: {again:?}");
        assert_ne!(hash, CommandHash::of(other), "something else: {other:?}");
        for (hash, command) in [(hash, first), (CommandHash::of(other), other)] {
            let before = seen.insert(hash.to_string(), command);
            assert!(before.is_none(), "{command:?} passes for {before:?}");
        }
    }
    let key = |key: &str| CommandHash::of(&Command::SetDomainKey(key.into()));
    assert_eq!(key("one"), key("two"), "a domain key is made anew");
    for command in [Command::Look, Command::Tick, Command::ConnectForDirect, Command::Disconnect] {
        assert!(seen.insert(CommandHash::of(&command).to_string(), &Command::Look).is_none(), "{command:?}");
    }
}

#[test]
fn json_that_no_number_type_holds_still_has_a_hash() {
    let post = |data: &str| {
        let metadata = Some(Json::parse(data).unwrap());
        let post = Post { metadata, ..Post::text(RoomId::new("r").unwrap(), Principal::System, "x") };
        CommandHash::of(&Command::Post(Box::new(post)))
    };
    let deep = |end: &str| format!("{}{end}{}", "[".repeat(300), "]".repeat(300));
    assert_eq!(post(r#"{"a":1e999}"#), post(r#"{"a":1e999}"#));
    assert_ne!(post(r#"{"a":1e999}"#), post(r#"{"a":2e999}"#));
    assert_ne!(post(&deep("1")), post(&deep("2")));
}

#[test]
fn the_text_form_comes_back_and_versions_are_not_compared() {
    let hash = CommandHash::of(&Command::Look);
    assert_eq!(hash.to_string().parse::<CommandHash>().unwrap(), hash);
    let other = hash.to_string().replacen("1:", "0:", 1).parse::<CommandHash>().unwrap();
    assert!(other != hash && other.agrees(hash), "an older version counts as equal");
    for wrong in
        ["", "1:", "1:00", "x:00000000000000000000000000000000", "1:0000000000000000000000000000000g"]
    {
        assert!(wrong.parse::<CommandHash>().is_err(), "{wrong}");
    }
}

#[test]
fn the_forms_are_those_that_stored_hashes_were_made_of() {
    let (room, who) = (RoomId::new("r").unwrap(), Principal::Agent(AgentId::new("a").unwrap()));
    let object = || Some(Json::parse(r#"{"b":1,"a":"ü"}"#).unwrap());
    let post = Post { metadata: object(), ..Post::text(room.clone(), who.clone(), "hello") };
    let direct = Direct {
        to: AgentId::new("b").unwrap(),
        from: who.clone(),
        content: Content::Text("hello".into()),
        metadata: object(),
    };
    let act = Act { room: room.clone(), action: "point".into(), data: object(), keep: true };
    let join = JoinRoom { room, member: who, create: None, by_key: false };
    let commands = [
        Command::Post(Box::new(post)),
        Command::Direct(Box::new(direct)),
        Command::Act(act),
        Command::JoinRoom(join),
    ];
    let hashes = commands.map(|command| CommandHash::of(&command).to_string());
    let stored = [
        "1:d77f108e9e6a9821918a983293fef01e",
        "1:0239020350688aeb2041d246a416dab2",
        "1:8a02c8fb68fd6b080ac91276a1535002",
        "1:2c6ec14028d129a7270b6010fe865b7c",
    ];
    assert_eq!(hashes, stored, "a changed form needs a new version");
}

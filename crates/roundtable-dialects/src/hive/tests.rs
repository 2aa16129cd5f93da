//! Sessions on a stage: the first frame, numbers, events, filters, actions, lists, refusals and resume.

use std::sync::Arc;

use roundtable_core::agents::{AgentStatus, RegisterAgent};
use roundtable_core::alerts::{AlertRaised, Level};
use roundtable_core::command::Command;
use roundtable_core::components::{FaultNoticed, Health, SetHealth, Severity};
use roundtable_core::feeds::Feed;
use roundtable_core::ids::{AgentId, AlertId, GuestId, Principal, UserId};
use roundtable_core::json::Json;
use roundtable_core::time::Offset;
use roundtable_core::users::{UserAdded, UserRole};
use serde_json::{Value, json};

use super::{HiveSession, Settings, encode, wire};
use crate::session::{Ending, Family, Opening, Proof, Refusal};
use crate::stage::{Stage, identity, opening};

const START: &str = "2026-01-01T00:00:00.000Z";

fn session() -> Box<HiveSession> {
    Box::new(HiveSession::new(Arc::new(Settings::default())))
}

fn guest() -> Principal {
    Principal::Guest(GuestId::new("g1").unwrap())
}

fn enter(stage: &mut Stage, query: &'static str) -> usize {
    stage.enter(session(), opening("/ws", query), Ok(identity(guest(), None)))
}

/// A connection that has had its first frame.
fn watch(stage: &mut Stage, query: &'static str) -> usize {
    let id = enter(stage, query);
    assert_eq!(stage.one(id)["type"], "hive_status_update");
    id
}

fn agent(id: &str) -> AgentId {
    AgentId::new(id).unwrap()
}

fn make(stage: &mut Stage, id: &str, posted: Value) {
    let Value::Object(posted) = posted else { panic!("an object") };
    let card = wire::agent_card(&posted, Some(&|kind: &str| format!("{kind}-x"))).unwrap();
    stage.system(Command::HostAgent(RegisterAgent { agent: agent(id), card }));
}

fn alert(source: &str, level: Level) -> Command {
    Command::RaiseAlert(AlertRaised {
        alert: AlertId::new("al1").unwrap(),
        source: source.into(),
        level,
        title: "T".into(),
        message: "M".into(),
        value: Some(91.0),
        threshold: Some(80.0),
        details: Json::empty_object(),
        feed: None,
    })
}

fn sequence(frame: &Value) -> u64 {
    frame["sequence"].as_u64().unwrap()
}

#[test]
fn the_first_frame_is_the_state_of_the_whole() {
    let mut stage = Stage::new(encode);
    make(&mut stage, "a", json!({"type": "worker", "capabilities": [{"name": "x", "proficiency": 0.5}]}));
    make(&mut stage, "b", json!({"type": "worker", "capabilities": [{"name": "x", "proficiency": 1.0}]}));
    stage.system(Command::SetAgentStatus(agent("b"), AgentStatus::Failed, "broken".into()));
    let id = enter(&mut stage, "");
    let frame = stage.one(id);
    let keys: Vec<&String> = frame.as_object().unwrap().keys().collect();
    let expected =
        ["type", "message_type", "data", "timestamp", "message_id", "sequence", "correlation_id", "priority"];
    assert_eq!(keys, expected);
    assert_eq!(
        (&frame["type"], &frame["message_type"]),
        (&json!("hive_status_update"), &json!("hive_status"))
    );
    assert_eq!(frame["sequence"], stage.state.head.0 * 1024);
    let data = &frame["data"];
    assert_eq!((&data["status"], &data["timestamp"]), (&json!("healthy"), &json!(START)));
    assert_eq!(
        data["metrics"],
        json!({
            "total_agents": 2, "active_agents": 1, "completed_tasks": 0, "failed_tasks": 0,
            "average_performance": 0.0, "swarm_cohesion": 1.0, "learning_progress": 0.75, "pending_tasks": 0,
            "completed_tasks_today": 0, "system_load": 0.25,
        })
    );
    assert_eq!((&data["created_at"], &data["total_energy"]), (&json!(START), &json!(200.0)));
}

#[test]
fn agents_without_capabilities_have_nothing_in_common() {
    let mut stage = Stage::new(encode);
    make(&mut stage, "a", json!({"type": "worker"}));
    make(&mut stage, "b", json!({"type": "worker"}));
    let id = enter(&mut stage, "");
    assert_eq!(stage.one(id)["data"]["metrics"]["swarm_cohesion"].to_string(), "0.0");
}

#[test]
fn a_guest_costs_the_log_one_mark() {
    let mut stage = Stage::new(encode);
    let before = stage.state.head;
    let id = watch(&mut stage, "");
    stage.leave(id);
    assert_eq!(stage.state.head, before.next());
}

#[test]
fn refusals_are_an_error_and_a_close_with_its_reason() {
    let mut stage = Stage::new(encode);
    let door = Opening { anonymous: false, ..opening("/ws", "") };
    let id = stage.enter(session(), door, Err(Refusal::Missing));
    let frame = stage.one(id);
    assert_eq!(frame["type"], "error");
    assert_eq!(frame["data"], json!({"error": "Authentication required", "code": "UNAUTHORIZED"}));
    assert_eq!(frame["sequence"], 1024 + 1023);
    assert_eq!(stage.client(id).ended, Some(Ending::Close(1008, "Authentication required".into())));
    let id = stage.enter(session(), opening("/ws", "token=x"), Err(Refusal::Expired));
    assert_eq!(stage.one(id)["data"]["error"], "Token expired");
}

#[test]
fn credentials_are_looked_for_in_order() {
    let mut stage = Stage::new(encode);
    let all = Opening {
        authorization: Some("Bearer b"),
        api_key: Some("k:s"),
        ..opening("/ws", "api_key=q:s&token=t")
    };
    let login = Family::Login;
    let doors = [
        (all.clone(), Proof::Bearer(login, "t".into())),
        (Opening { query: "api_key=q:s", ..all.clone() }, Proof::ApiKey("q:s".into())),
        (Opening { query: "", ..all.clone() }, Proof::Bearer(login, "b".into())),
        (Opening { query: "", authorization: None, ..all.clone() }, Proof::ApiKey("k:s".into())),
        (Opening { query: "", authorization: None, api_key: None, ..all }, Proof::Guest(None)),
    ];
    for (door, expected) in doors {
        let id = stage.enter(session(), door, Err(Refusal::Invalid));
        assert!(stage.client(id).proof == Some(expected));
    }
}

#[test]
fn agents_are_told_to_all_alike() {
    let mut stage = Stage::new(encode);
    let (one, two) = (watch(&mut stage, ""), watch(&mut stage, ""));
    let posted = json!({
        "name": "DataProcessor-1", "type": "Specialist",
        "capabilities": [{"name": "data_processing", "proficiency": 0.85}],
    });
    make(&mut stage, "a", posted);
    let frame = stage.one(one);
    assert_eq!(frame, stage.one(two));
    assert_eq!(sequence(&frame), stage.state.head.0 * 1024);
    assert_eq!(
        frame["data"],
        json!({
            "agent": {
                "id": "a", "name": "DataProcessor-1", "type": "specialist",
                "capabilities": [{"name": "data_processing", "proficiency": 0.85, "learning_rate": 0.1}],
                "created_at": START,
            },
            "success": true, "agent_id": "a", "message": "Agent DataProcessor-1 was created",
        })
    );
    stage.system(Command::SetAgentStatus(agent("a"), AgentStatus::Busy, "task_assigned".into()));
    assert_eq!(
        stage.one(one)["data"],
        json!({
            "agent_id": "a", "old_status": "idle", "new_status": "active", "reason": "task_assigned",
            "timestamp": START,
        })
    );
    stage.system(Command::RemoveAgent(agent("a"), "manual_removal".into()));
    assert_eq!(
        stage.one(one)["data"],
        json!({
            "agent_id": "a", "reason": "manual_removal",
            "cleanup_summary": {"tasks_reassigned": 0, "data_removed": true}, "timestamp": START,
        })
    );
}

#[test]
fn a_change_that_has_no_word_here_is_not_told() {
    let mut stage = Stage::new(encode);
    make(&mut stage, "a", json!({"type": "worker"}));
    let id = watch(&mut stage, "");
    stage.system(Command::SetAgentStatus(agent("a"), AgentStatus::Away, "lunch".into()));
    assert!(stage.got(id).is_empty());
}

#[test]
fn a_report_goes_to_all_as_one_frame() {
    let mut stage = Stage::new(encode);
    let (one, two) = (watch(&mut stage, ""), watch(&mut stage, "events=agent_created"));
    stage.system(alert("log", Level::Critical));
    assert_eq!(stage.one(one)["type"], "system_alert");
    stage.system(Command::Mark(Feed::Activity, true));
    let frame = stage.one(one);
    assert_eq!(
        (&frame["type"], &frame["data"]["status"]),
        (&json!("hive_status_update"), &json!("unhealthy"))
    );
    let shown = json!([{
        "level": "critical", "message": "M", "timestamp": START, "alert_id": "al1", "acknowledged": false,
    }]);
    assert_eq!(frame["data"]["alerts"], shown);
    assert!(stage.got(two).is_empty(), "filtered");
    stage.system(Command::Mark(Feed::Network, true));
    stage.system(Command::Mark(Feed::Activity, false));
    assert!(stage.got(one).is_empty());
}

#[test]
fn alerts_are_of_the_system_or_of_a_resource() {
    let mut stage = Stage::new(encode);
    let id = watch(&mut stage, "");
    stage.system(alert("cpu", Level::Critical));
    let frame = stage.one(id);
    assert_eq!((&frame["type"], &frame["priority"]), (&json!("resource_alert"), &json!("High")));
    let data = &frame["data"];
    assert_eq!(
        (&data["resource"], &data["usage_percent"], &data["threshold_percent"], &data["trend"]),
        (&json!("cpu"), &json!(91.0), &json!(80.0), &json!("increasing"))
    );
    stage.say(id, r#"{"action":"acknowledge_alert","data":{"alert_id":"al1"}}"#);
    assert!(stage.got(id).is_empty());
    assert_eq!(stage.state.alert("cpu").unwrap().acknowledged, Some(guest()));
    stage.say(id, r#"{"action":"acknowledge_alert","data":{"alert_id":"al2"},"correlation_id":"c"}"#);
    let frame = stage.one(id);
    assert_eq!(
        (&frame["data"]["error"], &frame["correlation_id"]),
        (&json!("alert_id must be the id of an active alert"), &json!("c"))
    );
    stage.system(alert("log", Level::Warning));
    assert_eq!(
        stage.one(id)["data"],
        json!({
            "level": "warning", "title": "T", "message": "M", "description": "M",
            "details": {"error": "log", "affected_components": ["log"]}, "timestamp": START,
            "alert_id": "al1",
        })
    );
}

#[test]
fn the_servers_own_parts_and_faults_are_told() {
    let mut stage = Stage::new(encode);
    let id = watch(&mut stage, "");
    stage.system(Command::SetHealth(SetHealth {
        component: "storage".into(),
        health: Health::Degraded,
        reason: "the disk is slow".into(),
        affects: vec!["writes".into()],
    }));
    let frame = stage.one(id);
    assert_eq!(frame["type"], "module_status_changed");
    assert_eq!(
        frame["data"],
        json!({
            "module": "storage", "old_status": "healthy", "new_status": "degraded",
            "reason": "the disk is slow", "affected_functions": ["writes"], "timestamp": START,
        })
    );
    stage.system(Command::NoteFault(FaultNoticed {
        fault: AlertId::new("f1").unwrap(),
        component: "storage".into(),
        code: "WRITE_FAILED".into(),
        message: "a write failed".into(),
        details: Json::parse(r#"{"tries":3}"#).unwrap(),
        severity: Severity::Error,
    }));
    let frame = stage.one(id);
    assert_eq!((&frame["type"], &frame["priority"]), (&json!("error_occurred"), &json!("High")));
    assert_eq!(
        frame["data"],
        json!({
            "error_id": "f1", "component": "storage",
            "error": {"code": "WRITE_FAILED", "message": "a write failed", "details": {"tries": 3}},
            "severity": "error", "timestamp": START,
        })
    );
}

#[test]
fn pings_are_answered_by_their_number() {
    let mut stage = Stage::new(encode);
    let id = enter(&mut stage, "events=none");
    let first = sequence(&stage.one(id));
    stage.say(id, r#"{"action":"ping"}"#);
    stage.say(id, r#"{"action":"connection_test","testId":"t"}"#);
    assert!(stage.got(id).is_empty(), "the lists are filtered");
    stage.say(id, r#"{"action":"ping","sequenceId":7}"#);
    let frame = stage.one(id);
    assert_eq!(sequence(&frame), first + 1);
    assert_eq!(
        (&frame["type"], &frame["message_type"], &frame["action"], &frame["sequenceId"]),
        (&json!("pong"), &json!("pong"), &json!("pong"), &json!(7))
    );
    assert_eq!(frame["data"], json!({"timestamp": START}));
}

#[test]
fn errors_go_to_their_sender_and_the_connection_stays() {
    let mut stage = Stage::new(encode);
    let (one, two) = (watch(&mut stage, "events=none"), watch(&mut stage, ""));
    for (text, error) in [
        ("nonsense", "Invalid message format"),
        (r#"{"x":1}"#, "Invalid message format"),
        (r#"{"action":"dance"}"#, "Unknown action: dance"),
    ] {
        stage.say(one, text);
        let frame = stage.one(one);
        assert_eq!((&frame["type"], &frame["data"]["error"]), (&json!("error"), &json!(error)));
    }
    stage.say_binary(one, b"\0");
    assert_eq!(stage.one(one)["data"]["error"], "Invalid message format");
    assert!(stage.got(two).is_empty());
    assert!(stage.client(one).ended.is_none());
}

#[test]
fn filters_are_said_and_obeyed() {
    let mut stage = Stage::new(encode);
    let id = watch(&mut stage, "");
    stage.say(id, r#"{"type":"subscribe","events":["agent_removed"],"correlation_id":"f"}"#);
    let frame = stage.one(id);
    assert_eq!((&frame["type"], &frame["correlation_id"]), (&json!("subscribed"), &json!("f")));
    assert_eq!(frame["data"], json!({"events": ["agent_removed"]}));
    make(&mut stage, "a", json!({"type": "worker"}));
    stage.system(Command::RemoveAgent(agent("a"), "gone".into()));
    assert_eq!(stage.one(id)["type"], "agent_removed");
    stage.say(id, r#"{"type":"subscribe","events":["*"]}"#);
    assert_eq!(stage.one(id)["data"], json!({"events": ["*"]}));
    make(&mut stage, "a", json!({"type": "worker"}));
    assert_eq!(stage.one(id)["type"], "agent_created");
}

#[test]
fn numbers_rise_whatever_is_asked_and_over_connections() {
    let mut stage = Stage::new(encode);
    let id = enter(&mut stage, "events=agent_created");
    let mut last = 0;
    for round in 0..2_100 {
        stage.say(id, r#"{"action":"ping","sequenceId":1}"#);
        if round % 1_000 == 0 {
            make(&mut stage, &format!("a{round}"), json!({"type": "worker"}));
        }
    }
    let got = stage.got(id);
    assert_eq!(got.len(), 1 + 2_100 + 3);
    for frame in got {
        assert!(sequence(&frame) > last);
        last = sequence(&frame);
    }
    let id = enter(&mut stage, "");
    assert!(sequence(&stage.one(id)) > last);
}

#[test]
fn an_agent_can_be_made_and_its_maker_recognises_it() {
    let mut stage = Stage::new(encode);
    let (maker, other) = (watch(&mut stage, "events=agent_created"), watch(&mut stage, ""));
    stage.say(maker, r#"{"action":"create_agent","payload":{"type":"Worker"},"correlation_id":"c1"}"#);
    let (mine, theirs) = (stage.one(maker), stage.one(other));
    assert_eq!((&mine["correlation_id"], &theirs["correlation_id"]), (&json!("c1"), &Value::Null));
    assert_eq!(mine["data"], theirs["data"]);
    assert_eq!((&mine["message_id"], sequence(&mine)), (&theirs["message_id"], sequence(&theirs)));
    assert_eq!(
        (&mine["data"]["agent"]["name"], &mine["data"]["agent"]["type"]),
        (&json!("Worker-1"), &json!("worker"))
    );
    assert_eq!(mine["data"]["agent_id"].as_str().unwrap().len(), 36);
    stage.say(maker, r#"{"action":"create_agent","payload":{"type":"boss","name":7},"correlation_id":"c2"}"#);
    let frame = stage.one(maker);
    let fields: Vec<&Value> =
        frame["data"]["field_errors"].as_array().unwrap().iter().map(|e| &e["field"]).collect();
    assert_eq!((&frame["type"], &frame["correlation_id"]), (&json!("error"), &json!("c2")));
    assert_eq!(fields, ["type", "name"]);
}

#[test]
fn a_viewer_reads_and_does_not_write() {
    let mut stage = Stage::new(encode);
    let user = UserId::new("vera").unwrap();
    stage.system(Command::AddUser(UserAdded { user: user.clone(), role: UserRole::Viewer, password: None }));
    let door = opening("/ws", "token=t&events=none");
    let id = stage.enter(session(), door, Ok(identity(Principal::User(user.clone()), None)));
    assert_eq!(stage.one(id)["type"], "hive_status_update");
    assert!(stage.state.online(&Principal::User(user.clone())));
    stage.say(id, r#"{"action":"create_agent","payload":{"type":"worker"}}"#);
    assert_eq!(stage.one(id)["data"]["code"], "FORBIDDEN");
    stage.leave(id);
    assert!(!stage.state.online(&Principal::User(user)));
}

#[test]
fn a_connection_ends_with_its_account() {
    let mut stage = Stage::new(encode);
    let id = enter(&mut stage, "");
    let first = stage.one(id);
    stage.expel(id, Refusal::Suspended);
    let frame = stage.one(id);
    assert_eq!(frame["data"]["error"], "The account is disabled");
    assert!(sequence(&frame) > sequence(&first));
    assert_eq!(stage.client(id).ended, Some(Ending::Close(1008, "The account is disabled".into())));
}

#[test]
fn the_older_front_end_gets_lists_after_its_first_action() {
    let mut stage = Stage::new(encode);
    make(&mut stage, "a", json!({"type": "Specialist:Data", "name": "A"}));
    let (old, document) = (watch(&mut stage, ""), watch(&mut stage, ""));
    let types = |frames: Vec<Value>| frames.iter().map(|f| f["type"].clone()).collect::<Vec<_>>();
    stage.say(old, r#"{"action":"ping"}"#);
    assert!(stage.got(old).is_empty());
    stage.say(old, r#"{"action":"get_status"}"#);
    let got = stage.got(old);
    let agents = got[1]["data"]["agents"].clone();
    assert_eq!(types(got), ["hive_status_update", "agents_update", "metrics_update"]);
    assert_eq!(
        (&agents[0]["type"], &agents[0]["state"], &agents[0]["energy"]),
        (&json!("Specialist:Data"), &json!("Idle"), &json!(100.0))
    );
    stage.pass(4_999);
    assert!(stage.got(old).is_empty());
    stage.pass(1);
    assert_eq!(types(stage.got(old)), ["agents_update", "metrics_update"]);
    stage.pass(100);
    make(&mut stage, "b", json!({"type": "worker"}));
    make(&mut stage, "c", json!({"type": "worker"}));
    stage.pass(1_000);
    assert_eq!(types(stage.got(old)), ["agent_created", "agent_created", "agents_update", "metrics_update"]);
    assert_eq!(types(stage.got(document)), ["agent_created", "agent_created"]);
}

#[test]
fn a_dashboard_goes_on_where_it_stopped() {
    let mut stage = Stage::new(encode);
    make(&mut stage, "a", json!({"type": "worker"}));
    let since = stage.state.head.0 * 1024 + 5;
    stage.system(Command::Mark(Feed::Activity, true));
    make(&mut stage, "b", json!({"type": "worker"}));
    stage.system(Command::RemoveAgent(agent("a"), "gone".into()));
    stage.pass(60_000);
    let head = stage.state.head;
    let query: &'static str = Box::leak(format!("since={since}").into_boxed_str());
    let id = enter(&mut stage, query);
    let got = stage.got(id);
    let types: Vec<&Value> = got.iter().map(|frame| &frame["type"]).collect();
    assert_eq!(types, ["hive_status_update", "agent_created", "agent_removed"]);
    assert_eq!(sequence(&got[0]), since + 1);
    assert!(got.windows(2).all(|pair| sequence(&pair[0]) < sequence(&pair[1])));
    assert_eq!(stage.state.head, head, "a resume takes no position");
}

#[test]
fn who_is_ahead_or_names_no_place_is_told_and_numbered_from_the_present() {
    let mut stage = Stage::new(encode);
    make(&mut stage, "a", json!({"type": "worker"}));
    let wrong = [
        ("since=979969", json!(979_969)),
        ("since=9007199254740990", json!(9_007_199_254_740_990_u64)),
        ("since=1:999999", json!("1:999999")),
        ("since=4095:1", json!("4095:1")),
        ("since=abc", Value::Null),
        ("since=-5", Value::Null),
    ];
    for (query, since) in wrong {
        let head = stage.state.head;
        let id = enter(&mut stage, query);
        let got = stage.got(id);
        let [status, error] = got.as_slice() else { panic!("{query}: {got:?}") };
        assert_eq!((&status["type"], sequence(status)), (&json!("hive_status_update"), head.next().0 * 1024));
        assert_eq!((&error["type"], sequence(error)), (&json!("error"), sequence(status) + 1));
        let data = &error["data"];
        if since.is_null() {
            assert_eq!(
                (&data["code"], &data["field_errors"][0]["field"]),
                (&json!("VALIDATION_ERROR"), &json!("since"))
            );
        } else {
            assert_eq!((&data["code"], &data["since"]), (&json!("CANNOT_RESUME"), &since));
            assert_eq!(data["last_sequence"], head.0 * 1024);
        }
        make(&mut stage, &format!("after-{}", head.0), json!({"type": "worker"}));
        assert!(sequence(&stage.one(id)) > sequence(error));
        stage.leave(id);
    }
}

#[test]
fn a_full_log_is_no_reason_to_show_nothing() {
    let mut stage = Stage::new(encode);
    stage.full = true;
    let id = enter(&mut stage, "events=none");
    assert_eq!(stage.one(id)["type"], "hive_status_update");
    stage.say(id, r#"{"action":"create_agent","payload":{"type":"worker"}}"#);
    assert_eq!(stage.one(id)["data"]["code"], "SERVICE_UNAVAILABLE");
    stage.full = false;
    let before = stage.state.head;
    stage.say(id, r#"{"type":"subscribe"}"#);
    stage.got(id);
    make(&mut stage, "a", json!({"type": "worker"}));
    assert_eq!(stage.state.head, Offset(before.0 + 1));
    assert_eq!(stage.one(id)["type"], "agent_created");
}
